// A model in the other kind of file: a Hugging Face folder as GGUF, a GGUF file as a folder. Names, rows and words come
// from the tables that read both (a family's weights, formats/hf_words.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fovea/base/file_writer.h"
#include "fovea/engine/convert/pieces.h"
#include "fovea/formats/gguf_file_writer.h"
#include "fovea/formats/key_source.h"

namespace fovea::engine {

struct ConvertOptions {
  std::function<void(uint64_t done)> progress;  // bytes of tensors written
  const std::atomic<bool>* cancel = nullptr;    // kCancelled
};

class Conversion {
 public:
  // kUnsupported names the key, the tensor or the part of the tokenizer that the other form cannot say; nothing is
  // written then. Where the folder has no tokenizer, neither has what is made of it.
  static Result<std::unique_ptr<Conversion>> plan(std::shared_ptr<const formats::ModelSource> source);

  bool to_folder() const { return form_ == Form::kFolder; }
  const std::vector<Piece>& pieces() const { return pieces_->list; }
  uint64_t bytes() const;                                           // of all tensors
  const std::vector<std::string>& notes() const { return notes_; }  // what other readers of the result may not know

  // The bytes of the whole.
  Result<uint64_t> write_gguf(FileWriter file, const ConvertOptions& options) const;
  // As replace_folder puts it there; kUsage if the model that is read lies in it.
  Result<uint64_t> write_folder(const std::string& path, const ConvertOptions& options) const;

 private:
  Conversion() = default;
  Status plan_gguf();
  Status plan_folder();
  Status put_keys(const formats::KeySource& source);
  Status write_pieces(const ConvertOptions& options,
                      const std::function<Status(std::span<const std::byte>)>& write) const;

  std::shared_ptr<const formats::ModelSource> source_;
  std::unique_ptr<models::Family> family_;
  std::string architecture_;  // of what is written
  Form form_ = Form::kGguf;
  std::unique_ptr<Pieces> pieces_;
  formats::GgufKeys keys_;                  // of a GGUF file
  std::vector<formats::FolderFile> files_;  // of a folder, besides the tensors
  std::vector<std::string> notes_;
};

}  // namespace fovea::engine

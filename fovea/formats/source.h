// A model as its files give it, whatever their format: metadata by key, tensors by name, the
// vocabulary. Keys are GGUF's ("llama.block_count", "tokenizer.chat_template"); a format with other
// words translates them in one table of its own, so that nobody else asks which format it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/mapped_file.h"
#include "fovea/base/result.h"
#include "fovea/kernels/dtype.h"
#include "fovea/tensor/ops/attention/rope.h"  // RopePairing
#include "fovea/tensor/parameter.h"
#include "fovea/tokenizers/vocabulary.h"

namespace fovea::formats {

struct TensorInfo {
  std::string name;
  kernels::DType dtype = kernels::DType::kF32;
  std::vector<int64_t> dims;  // dims[0] varies fastest
  uint64_t offset = 0;        // from the start of the data section of its file
  uint64_t bytes = 0;
  std::span<const std::byte> data;  // valid while the source (or the span it was parsed from) lives
};

struct SourceOptions {
  bool strict = false;      // what is otherwise a warning (odd bools, trailing bytes) is an error
  std::string called = {};  // of one file: its name in messages, where a user knows it by another
};

// A tensor that is no view of a file.
struct Made {
  kernels::DType dtype = kernels::DType::kF32;
  std::vector<std::byte> bytes;
};

class ModelSource {
 public:
  virtual ~ModelSource() = default;

  // kData if the key is missing or of another kind; the message names file and key.
  virtual bool has(std::string_view key) const = 0;
  virtual std::vector<std::string> keys_under(std::string_view prefix) const = 0;  // by name
  virtual Result<uint64_t> get_u64(std::string_view key) const = 0;                // any integer type, not negative
  virtual Result<int64_t> get_i64(std::string_view key) const = 0;
  virtual Result<double> get_f64(std::string_view key) const = 0;  // any number
  virtual Result<bool> get_bool(std::string_view key) const = 0;
  virtual Result<std::string> get_string(std::string_view key) const = 0;
  virtual Result<std::vector<std::string_view>> get_strings(std::string_view key) const = 0;
  virtual Result<std::vector<double>> get_f64s(std::string_view key) const = 0;   // any number type
  virtual Result<std::vector<int64_t>> get_i64s(std::string_view key) const = 0;  // any integer type or bool
  // A number, a bool ("true") or a string as one would write it; "an array" of an array. Empty if the key is missing.
  virtual std::string text_of(std::string_view key) const = 0;

  virtual bool has_vocabulary() const = 0;  // whole or broken; without one a model runs on ids alone
  // What these files call the key, for messages: its words and its name.
  virtual std::string called(std::string_view key) const;

  // Views into the source. kData names the key that is missing or wrong.
  virtual Result<tokenizers::Vocabulary> vocabulary() const = 0;
  // Which elements of a head turn together, as the rows of q and k lie in these files of the family.
  virtual tensor::RopePairing rope_pairing(const tensor::StoredPairing& of_family) const = 0;

  // Tensors under the files' own names.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  virtual const TensorInfo* find_tensor(std::string_view name) const;
  virtual int64_t block_of(std::string_view tensor) const = 0;  // 7 of "blk.7.attn_q.weight"; -1: of no block
  virtual uint64_t count_bad_scales(const TensorInfo&) const { return 0; }  // NaN, Inf; those outside the tensor's data
  // What these files call it, and how they hold it.
  virtual const std::string& name_of(const tensor::Parameter& p) const = 0;
  virtual const tensor::Stored& stored(const tensor::Parameter& p) const = 0;
  // The tensor as the parameter wants it: a view of the file if it lies there so, else a copy that the source
  // keeps, float32 if it is rearranged. Empty if it is not there; kData if it has too few rows; of its shape nothing is
  // checked.
  Result<std::optional<TensorInfo>> find(const tensor::Parameter& p) const;

  const std::vector<std::string>& warnings() const { return warnings_; }
  const std::string& name() const { return name_; }                                       // quoted, for messages
  const std::vector<std::shared_ptr<const MappedFile>>& files() const { return files_; }  // none if it was parsed
  // Gives the resident pages of a tensor's bytes back; they can be read again.
  void release(std::span<const std::byte> bytes) const;
  Status check_intact() const;  // kIo if a file changed underneath; see MappedFile

 protected:
  ModelSource();
  ModelSource(ModelSource&&) = default;
  ModelSource& operator=(ModelSource&&) = default;

  // A tensor whose bytes are not yet what kernels read (at an odd address, of a type that no kernel has, in parts):
  // made once, and kept. Nothing: it can be read as it lies.
  virtual Result<std::optional<Made>> make(const TensorInfo&) const { return std::optional<Made>(); }

  std::string name_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string, size_t, std::less<>> tensor_index_;
  std::vector<std::string> warnings_;
  std::vector<std::shared_ptr<const MappedFile>> files_;

 private:
  struct Copies;  // of tensors that are stored otherwise
  Result<TensorInfo> readable(const TensorInfo& tensor) const;
  std::shared_ptr<Copies> copies_;
};

// By what lies at `path`: a GGUF file or the first of its shards, a Hugging Face folder or a file in it.
Result<std::shared_ptr<const ModelSource>> open_model(const std::string& path, const SourceOptions& options = {});

}  // namespace fovea::formats

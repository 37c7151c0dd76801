// LoRA adapters as other programs keep them: PEFT's folder (adapter_config.json and adapter_model.safetensors) and GGUF
// files of the type adapter. What is read here knows no model: names of weights are the files', and which model they
// fit is found out by who binds them (engine/lora.h). docs/lora.md says what is read and what is refused.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fovea/base/mapped_file.h"
#include "fovea/base/result.h"
#include "fovea/tensor/tensor.h"

namespace fovea::formats {

// What is added to a weight w [rows, cols]: scale b a.
struct LoraPair {
  std::string weight;                    // "model.layers.0.self_attn.q_proj" of PEFT, "blk.0.attn_q.weight" of GGUF
  std::string a_name = {}, b_name = {};  // in the file, for messages
  tensor::Tensor a = {};                 // [rank, cols]
  tensor::Tensor b = {};                 // [rows, rank]
  double scale = 1;                      // alpha / rank, or alpha / sqrt(rank)
  bool embedding = false;                // changes what is looked up, not what the logits use
};

// A whole weight beside the pairs: PEFT saves an embedding that it changes.
struct LoraBase {
  std::string weight, name;
  tensor::Tensor values;  // [rows, cols]
};

struct LoraFile {
  static constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20, kMaxRank = 65'536;
  enum class Kind { kPeft, kGguf } kind = Kind::kPeft;

  std::string name = {};          // quoted, for messages
  std::string architecture = {};  // of the model that it is for; empty: PEFT's files do not say
  std::string base_model = {};    // that it was made with, as PEFT's files say it: a name or a path; empty: they do not
  std::vector<LoraPair> pairs = {};
  std::vector<LoraBase> bases = {};
  std::vector<std::shared_ptr<const MappedFile>> files = {};

  // `path`: a folder, a file in it, or a .gguf file. Everything is checked: kData for files that are broken, halves
  // that are missing or do not fit each other, numbers that are none; kUnsupported for what would change the maths
  // (DoRA, weights saved whole, biases), by name; kNotFound.
  static Result<LoraFile> open(const std::string& path);
};

// For open() and its tests: what the bytes of PEFT's two files, or of a GGUF file, hold.
Result<LoraFile> parse_peft(std::span<const std::byte> config, std::span<const std::byte> weights,
                            const std::string& config_name, const std::string& weights_name);
Result<LoraFile> parse_gguf_lora(std::span<const std::byte> bytes, const std::string& name);

}  // namespace fovea::formats

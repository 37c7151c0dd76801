#include "fovea/train/save_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/json.h"
#include "fovea/base/replace_folder.h"
#include "fovea/engine/lora.h"
#include "fovea/engine/soft_prompt.h"
#include "fovea/formats/gguf.h"
#include "fovea/formats/gguf_file_writer.h"
#include "fovea/formats/hf_folder.h"
#include "fovea/formats/safetensors_writer.h"
#include "fovea/formats/stored_rows.h"
#include "fovea/kernels/matmul.h"

namespace fovea::train {
namespace {

namespace fs = std::filesystem;
using formats::SafeDtype;
using formats::SafeTensor;
using formats::TensorInfo;
using kernels::DType;
using tensor::Parameter;
using tensor::Stored;
using Json = nlohmann::ordered_json;

// One tensor of the files, and the parameters that it holds.
struct Piece {
  std::string name;
  std::vector<int64_t> dims;            // dims[0] varies fastest
  const TensorInfo* in_file = nullptr;  // null: of a net
  std::vector<const Parameter*> parameters;

  bool trained() const {
    return std::any_of(parameters.begin(), parameters.end(),
                       [](const Parameter* p) { return p->target->value.defined(); });
  }
  int64_t elements() const {
    int64_t n = 1;
    for (const int64_t dim : dims) n *= dim;
    return n;
  }
};

// The values of a parameter to where the file's tensor has them.
void put(const Piece& piece, const Parameter& p, const Stored& how, std::vector<float>& all) {
  const tensor::Tensor value = tensor::weight_values(*p.target);
  std::vector<float> values(value.data(), value.data() + value.elements());
  for (float& x : values) x -= how.plus;
  formats::place_rows(DType::kF32, std::as_bytes(std::span(values)), p.shape, how, piece.dims, nullptr,
                      std::as_writable_bytes(std::span(all)));
}

class Saver {
 public:
  Saver(const TrainedModel& model, const std::string& out, const Json& training)
      : model_(model), out_(out), training_(training), table_(model.table()) {}

  Result<std::string> run() {
    if (model_.soft_prompt().defined()) return write_soft_prompt();
    if (!model_.masks().empty()) return write_masks();
    if (!model_.loras().empty()) return folder([this](const std::string& to) { return write_loras(to); });
    const auto* gguf = dynamic_cast<const formats::Gguf*>(&model_.source());
    collect();
    if (gguf) return write_gguf(*gguf);
    return folder([this](const std::string& to) { return write_folder(to); });
  }

 private:
  template <typename Write>
  Result<std::string> folder(const Write& write) const {
    const std::string to = out_ + "/model";
    FOVEA_RETURN_IF_ERROR(replace_folder(to, OldFiles::kLost, write));
    return to;
  }

  void collect() {
    const formats::ModelSource& source = model_.source();
    std::map<std::string, size_t> at;
    for (const TensorInfo& tensor : source.tensors()) {
      at.emplace(tensor.name, pieces_.size());
      pieces_.push_back({tensor.name, tensor.dims, &tensor, {}});
    }
    for (const Parameter& p : table_) {
      const std::string& name = source.name_of(p);
      const auto [it, is_new] = at.emplace(name, pieces_.size());
      if (is_new) pieces_.push_back({name, formats::stored_dims(p.shape, source.stored(p)), nullptr, {}});
      pieces_[it->second].parameters.push_back(&p);
    }
  }

  // What stays as it lies, in the type that it has; nothing: float32 is made of it.
  std::optional<std::pair<DType, std::span<const std::byte>>> as_it_lies(const Piece& piece) const {
    if (piece.trained() || !piece.in_file) return std::nullopt;
    if (piece.parameters.size() == 1 && formats::is_plain(model_.source().stored(*piece.parameters[0]))) {
      const kernels::WeightView& view = piece.parameters[0]->target->view;
      return std::pair(view.dtype,
                       std::span(static_cast<const std::byte*>(view.data),
                                 kernels::row_bytes(view.dtype, view.cols) * static_cast<uint64_t>(view.rows)));
    }
    return std::pair(piece.in_file->dtype, piece.in_file->data);
  }
  Result<std::vector<float>> values(const Piece& piece) const {
    std::vector<float> all(static_cast<size_t>(piece.elements()));
    if (const auto lies = as_it_lies(piece)) {
      if (!kernels::dtype_info(lies->first).native) return cannot(piece);
      kernels::dequantize(lies->first, lies->second.data(), piece.elements(), all.data());
      return all;
    }
    if (piece.in_file && kernels::dtype_info(piece.in_file->dtype).native)
      kernels::dequantize(piece.in_file->dtype, piece.in_file->data.data(), piece.elements(), all.data());
    for (const Parameter* p : piece.parameters) put(piece, *p, model_.source().stored(*p), all);
    return all;
  }
  static Error cannot(const Piece& piece) {
    return make_error(ErrorCode::kUnsupported, "tensor {} is {}, which cannot be written to this kind of file",
                      piece.name, kernels::dtype_info(piece.in_file->dtype).name);
  }

  static std::optional<SafeDtype> safe(DType type) {
    switch (type) {
      case DType::kF32: return SafeDtype::kF32;
      case DType::kF16: return SafeDtype::kF16;
      case DType::kBF16: return SafeDtype::kBF16;
      default: return std::nullopt;
    }
  }

  Status write_folder(const std::string& to) {
    std::vector<SafeTensor> header;
    bool wide = false;
    for (const Piece& piece : pieces_) {
      const auto lies = as_it_lies(piece);
      const SafeDtype type = (lies ? safe(lies->first) : std::nullopt).value_or(SafeDtype::kF32);
      wide = wide || type == SafeDtype::kF32;
      header.push_back({piece.name, type, {piece.dims.rbegin(), piece.dims.rend()}});
    }
    FOVEA_ASSIGN_OR_RETURN(auto file,
                           formats::SafetensorsWriter::create(to + "/model.safetensors", header, {{"format", "pt"}}));
    for (const Piece& piece : pieces_) {
      const auto lies = as_it_lies(piece);
      if (lies && safe(lies->first)) {
        FOVEA_RETURN_IF_ERROR(file.write(lies->second));
        continue;
      }
      FOVEA_ASSIGN_OR_RETURN(const std::vector<float> all, values(piece));
      FOVEA_RETURN_IF_ERROR(file.write(std::span<const float>(all)));
    }
    FOVEA_RETURN_IF_ERROR(file.commit());

    Json config = model_.net_config();
    if (!model_.path().empty()) {
      const std::string from = formats::HfFolder::folder_of(model_.path()).value_or(model_.path());
      FOVEA_ASSIGN_OR_RETURN(config, read_json(from + "/config.json", formats::HfFolder::kMaxConfigBytes));
      FOVEA_RETURN_IF_ERROR(copy_others(from, to));
    }
    config.erase("quantization_config");
    // Two tensors that were trained apart are two from here on.
    if (std::any_of(table_.begin(), table_.end(), [](const Parameter& p) { return p.name == "output.weight"; }))
      config["tie_word_embeddings"] = false;
    for (const char* key : {"torch_dtype", "dtype"}) {
      if (config.contains(key) && wide) config[key] = "float32";
    }
    config["fovea"] = training_;
    FOVEA_RETURN_IF_ERROR(write_file_atomic(to + "/config.json", config.dump(2) + "\n"));
    for (const FolderFile& one : model_.net_files())
      FOVEA_RETURN_IF_ERROR(write_file_atomic(to + "/" + one.name, one.content));
    return {};
  }

  // The files of the folder that say something besides the weights.
  static Status copy_others(const std::string& from, const std::string& to) {
    std::vector<const char*> names = {"generation_config.json", "chat_template.jinja", "chat_template.json"};
    for (const auto& file : formats::kTokenizerFiles) names.push_back(file.first);
    for (const char* name : names) {
      const std::string path = from + "/" + name;
      std::error_code ignored;
      if (!fs::exists(path, ignored)) continue;
      FOVEA_ASSIGN_OR_RETURN(const std::string content, read_file(path));
      FOVEA_RETURN_IF_ERROR(write_file_atomic(to + "/" + name, content));
    }
    return {};
  }

  Result<std::string> write_gguf(const formats::Gguf& in) {
    const std::string to = out_ + "/model.gguf";
    formats::GgufKeys keys;
    for (const auto& key : in.raw_keys()) keys.put(key);
    for (const char* key : {"split.no", "split.count", "split.tensors.count"}) keys.erase(key);
    keys.put("fovea.training", std::string_view(training_.dump()));
    uint64_t alignment = 32;
    if (in.has("general.alignment")) {
      FOVEA_ASSIGN_OR_RETURN(alignment, in.get_u64("general.alignment"));
    }
    std::vector<formats::GgufTensor> header;
    for (const Piece& piece : pieces_) {
      const auto lies = as_it_lies(piece);
      header.push_back({piece.name, lies ? lies->first : DType::kF32, piece.dims});
    }
    FOVEA_ASSIGN_OR_RETURN(FileWriter file, FileWriter::create(to, WriteTo::kFile));
    FOVEA_ASSIGN_OR_RETURN(auto writer, formats::GgufFileWriter::create(std::move(file), keys, header, alignment));
    for (const Piece& piece : pieces_) {
      if (const auto lies = as_it_lies(piece)) {
        FOVEA_RETURN_IF_ERROR(writer.write(lies->second));
        continue;
      }
      FOVEA_ASSIGN_OR_RETURN(const std::vector<float> all, values(piece));
      FOVEA_RETURN_IF_ERROR(writer.write(std::as_bytes(std::span(all))));
    }
    FOVEA_RETURN_IF_ERROR(writer.commit());
    return to;
  }

  Result<std::string> write_soft_prompt() const {
    const std::string to = out_ + "/soft_prompt.safetensors";
    FOVEA_RETURN_IF_ERROR(engine::write_soft_prompt(to, model_.soft_prompt(), origin()));
    return to;
  }

  // What is masked is 0, the rest 1.
  Result<std::string> write_masks() const {
    const std::string to = out_ + "/masks.safetensors";
    std::vector<SafeTensor> header;
    for (const TrainedMask& one : model_.masks())
      header.push_back({one.of.hf_name.empty() ? one.of.name : one.of.hf_name, SafeDtype::kF32, dims_of(one.scores)});
    FOVEA_ASSIGN_OR_RETURN(auto file, formats::SafetensorsWriter::create(to, header, origin()));
    for (const TrainedMask& one : model_.masks()) {
      const int64_t rows = one.scores.dim(0), cols = one.scores.dim(1);
      std::vector<float> factors(static_cast<size_t>(one.scores.elements()));
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t at =
            rows == 1 ? 0 : engine::row_in_adapter(r, one.of, model_.source(), model_.config(), /*peft=*/true);
        for (int64_t c = 0; c < cols; ++c)
          factors[static_cast<size_t>(at * cols + c)] = one.scores.data()[r * cols + c] > 0 ? 1.0f : 0.0f;
      }
      FOVEA_RETURN_IF_ERROR(file.write(std::span<const float>(factors)));
    }
    FOVEA_RETURN_IF_ERROR(file.commit());
    return to;
  }
  std::map<std::string, std::string> origin() const {
    return {{"format", "pt"}, {"base_model_name_or_path", model_.path()}, {"fovea.training", training_.dump()}};
  }

  Status write_loras(const std::string& to) {
    std::vector<SafeTensor> header;
    Json modules = Json::array();
    for (const TrainedLora& one : model_.loras()) {
      const std::string name = "base_model.model." + one.module;
      header.push_back({name + ".lora_A.weight", SafeDtype::kF32, {one.a.dim(0), one.a.dim(1)}});
      header.push_back({name + ".lora_B.weight", SafeDtype::kF32, {one.b.dim(0), one.b.dim(1)}});
      modules.push_back(one.module);
    }
    FOVEA_ASSIGN_OR_RETURN(
        auto file, formats::SafetensorsWriter::create(to + "/adapter_model.safetensors", header, {{"format", "pt"}}));
    for (const TrainedLora& one : model_.loras()) {
      FOVEA_RETURN_IF_ERROR(file.write(one.a.values()));
      const int64_t rows = one.b.dim(0), rank = one.b.dim(1);
      std::vector<float> b(static_cast<size_t>(rows * rank));
      for (int64_t r = 0; r < rows; ++r)
        std::copy_n(one.b.data() + r * rank, rank,
                    b.data() + engine::row_in_adapter(r, one.of, model_.source(), model_.config(), true) * rank);
      FOVEA_RETURN_IF_ERROR(file.write(std::span<const float>(b)));
    }
    FOVEA_RETURN_IF_ERROR(file.commit());
    const int64_t rank = model_.loras()[0].a.dim(0);
    const Json config = {{"peft_type", "LORA"},
                         {"task_type", "CAUSAL_LM"},
                         {"base_model_name_or_path", model_.path()},
                         {"r", rank},
                         {"lora_alpha", model_.lora_scale() * static_cast<double>(rank)},
                         {"lora_dropout", 0.0},
                         {"target_modules", modules},
                         {"bias", "none"},
                         {"fan_in_fan_out", false},
                         {"init_lora_weights", true},
                         {"inference_mode", true}};
    FOVEA_RETURN_IF_ERROR(write_file_atomic(to + "/adapter_config.json", config.dump(2) + "\n"));
    return write_file_atomic(to + "/fovea.json", training_.dump(2) + "\n");
  }

  const TrainedModel& model_;
  std::string out_;
  const Json& training_;
  std::vector<Parameter> table_;
  std::vector<Piece> pieces_;
};

}  // namespace

Result<std::string> save_model(const TrainedModel& model, const std::string& out, const Json& training) {
  return Saver(model, out, training).run();
}

}  // namespace fovea::train

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/replace_folder.h"
#include "fovea/engine/convert/convert.h"
#include "fovea/engine/convert/vocabulary.h"
#include "fovea/formats/hf_config.h"
#include "fovea/formats/hf_words.h"
#include "fovea/formats/safetensors_writer.h"
#include "fovea/models/support/rope.h"

namespace fovea::engine {
namespace {

namespace fs = std::filesystem;
using formats::KeyMap;
using formats::ModelSource;
using formats::SafeDtype;
using Json = nlohmann::ordered_json;

// The shortest decimal that is this float32: 1e-05, not 9.999999747378752e-06.
double shortest(double value) { return std::stod(fmt::format("{}", static_cast<float>(value))); }

// As JSON: null where it is none of the values that keys have.
Json value_of(const ModelSource& source, const std::string& key) {
  if (const auto flag = source.get_bool(key)) return *flag;
  if (const auto n = source.get_u64(key)) return *n;
  if (const auto n = source.get_i64(key)) return *n;
  if (const auto x = source.get_f64(key)) return shortest(*x);
  if (const auto text = source.get_string(key)) return *text;
  if (const auto all = source.get_i64s(key)) return *all;
  if (const auto all = source.get_strings(key)) return Json(*all);
  if (const auto all = source.get_f64s(key)) {
    Json out = Json::array();
    for (const double x : *all) out.push_back(shortest(x));
    return out;
  }
  return nullptr;
}

// The words of transformers for what a family does where no key says it.
const char* name_of(tensor::Activation activation) {
  switch (activation) {
    case tensor::Activation::kGelu: return "gelu";
    case tensor::Activation::kGeluTanh: return "gelu_pytorch_tanh";
    case tensor::Activation::kRelu: return "relu";
    default: return "silu";
  }
}

SafeDtype safe(kernels::DType type) {
  return type == kernels::DType::kF16    ? SafeDtype::kF16
         : type == kernels::DType::kBF16 ? SafeDtype::kBF16
                                         : SafeDtype::kF32;
}

// What a folder says in fields and a GGUF file by its tensors.
constexpr std::pair<std::string_view, std::string_view> kBiases[] = {
    {"attention_bias", "attn_"}, {"qkv_bias", "attn_"}, {"use_qkv_bias", "attn_"},
    {"use_bias", "attn_q."},     {"mlp_bias", "ffn_"},  {"norm_bias", "output_norm."}};

class Facts {
 public:
  Facts(const ModelSource& source, const models::Family& family, const std::vector<Piece>& pieces)
      : source_(source), config_(family.config()), pieces_(pieces), read_(source, config_.architecture) {}

  Result<KeyMap> run(const std::string& architecture) {
    keys_ = KeyMap(source_.name());
    put("general.architecture", architecture);
    const std::string prefix = config_.architecture + ".";
    for (const std::string& name : source_.keys_under(prefix)) {
      const std::string key = name.substr(prefix.size());
      if (key == "attention.sliding_window_pattern" || key == "rope.scaling.attn_factor") continue;  // put below
      const Json value = value_of(source_, name);
      if (value.is_null())
        return Error{ErrorCode::kUnsupported,
                     fmt::format("{}: key {} is a value that config.json has no word for", source_.name(), quote(name)),
                     name};
      put(key, value);
    }
    put_shape();
    FOVEA_RETURN_IF_ERROR(put_rope());
    return std::move(keys_);
  }

 private:
  void put(std::string_view key, Json value) { keys_.put(std::string(key), std::move(value), "the GGUF file"); }
  void replace(std::string_view key, Json value) {
    keys_.erase(key);
    put(key, std::move(value));
  }
  bool family_lists(std::string_view key) const {
    const auto& keys = models::family_registry().at(config_.architecture).keys;
    return std::any_of(keys.begin(), keys.end(), [key](const models::FamilyKey& k) { return k.name == key; });
  }

  void put_shape() {
    const attention::ModelShape& s = config_.shape;
    put("vocab_size", s.vocab_size);
    put("attention.key_length", s.head_dim);
    if (s.site(0).causal) put("attention.head_count_kv", s.n_kv_heads);
    put("hidden_act", name_of(config_.decoder.activation));
    for (const auto& [field, begin] : kBiases) {
      if (!family_lists(field)) continue;
      bool found = false;
      for (const Piece& piece : pieces_) {
        const size_t at = piece.parameters.empty() ? std::string::npos : piece.parameters[0].name.find(begin);
        found = found || (at != std::string::npos && piece.parameters[0].name.ends_with(".bias") &&
                          piece.parameters[0].name.find("norm.", at + begin.size()) == std::string::npos);
      }
      replace(field, found);
    }
    if (family_lists("use_parallel_residual")) put("use_parallel_residual", config_.decoder.parallel);
    // What a class takes for a key that is not there is not what GGUF's readers take.
    const double scale = static_cast<double>(s.site(0).scale), scalar = 1 / (scale * scale), whole = std::round(scalar);
    if (family_lists("attention.scale")) put("attention.scale", shortest(scale));
    if (family_lists("query_pre_attn_scalar"))
      put("query_pre_attn_scalar", std::abs(scalar - whole) < 1e-4 * whole ? whole : shortest(scalar));
    if (config_.n_token_types > 0) put("type_vocab_size", config_.n_token_types);
    if (config_.experts.n > 0 && family_lists("expert_weights_norm"))
      put("expert_weights_norm", config_.experts.normalized);
    if (config_.architecture == "t5encoder") {
      put("feed_forward_proj", config_.decoder.gated ? "gated-gelu" : "relu");
      put("attention.layer_norm_epsilon", shortest(config_.norm_eps));
      keys_.erase("attention.layer_norm_rms_epsilon");
      keys_.erase("hidden_act");
      keys_.erase("attention.head_count_kv");
    }
    Json types = Json::array();
    bool sliding = false;
    int window = INT_MAX;
    for (int l = 0; l < s.n_layers; ++l) {
      window = std::min(window, s.site(l).window);
      const bool windowed = s.site(l).window != INT_MAX;
      sliding = sliding || windowed;
      types.push_back(windowed ? "sliding_attention" : "full_attention");
    }
    if (!sliding) keys_.erase("attention.sliding_window");
    if (sliding && s.site(0).causal) put("attention.sliding_window", window);
    if (sliding && family_lists("attention.layer_types") &&
        !formats::word_of("attention.layer_types", config_.architecture).empty())
      put("attention.layer_types", types);
  }

  Status put_rope() {
    if (!read_.lists("rope.freq_base") || config_.ropes.empty()) return {};
    const tensor::RopeTable& table = config_.ropes[0];
    put("rope.freq_base", 10000.0);
    put("rope.dimension_count", table.inv_freq.size() * 2);
    const auto type = keys_.get_string("rope.scaling.type");
    if (const auto* tensor = source_.find_tensor(models::kRopeFactors)) return put_llama3(*tensor);
    if (source_.find_tensor(models::kLongFactors)) {
      replace("rope.scaling.type", "longrope");
      FOVEA_RETURN_IF_ERROR(put_factors("rope.scaling.long_factors", models::kLongFactors));
      FOVEA_RETURN_IF_ERROR(put_factors("rope.scaling.short_factors", models::kShortFactors));
      put("rope.scaling.attention_factor", shortest(table.attn_factor));
      return {};
    }
    if (!type) {
      const char* factor = keys_.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
      const auto by = keys_.get_f64(factor);
      if (by && *by != 1) put("rope.scaling.type", "linear"), put("rope.scaling.factor", *by);
      keys_.erase("rope.scale_linear");
    } else if (*type == "yarn") {
      const auto original = keys_.get_f64("rope.scaling.original_context_length");
      if (original && *original > 0) put("rope.scaling.factor", config_.shape.n_ctx / *original);
      if (read_.has("rope.scaling.attn_factor")) put("rope.scaling.attention_factor", shortest(table.attn_factor));
      put("rope.scaling.truncate", models::family_registry().at(config_.architecture).traits.yarn_truncates);
    }
    return {};
  }

  static std::vector<float> floats_of(const formats::TensorInfo& tensor) {
    std::vector<float> out(tensor.data.size() / sizeof(float));
    if (!out.empty()) std::memcpy(out.data(), tensor.data.data(), out.size() * sizeof(float));
    return out;
  }

  Status put_factors(std::string_view key, std::string_view name) {
    const auto* tensor = source_.find_tensor(name);
    if (!tensor) return {};
    Json factors = Json::array();
    for (const float factor : floats_of(*tensor)) factors.push_back(shortest(factor));
    put(key, factors);
    return {};
  }

  // The four numbers that the divisors were made of: those of a file of ours, else the published ones, if they give the
  // same divisors.
  Status put_llama3(const formats::TensorInfo& tensor) {
    const std::vector<float> divisors = floats_of(tensor);
    KeyMap numbers(source_.name());
    const std::string prefix = config_.architecture + ".rope.scaling.";
    const auto give = [&](const std::string& key, double otherwise) {
      const auto own = keys_.get_f64("rope.scaling." + key);
      const double value = own ? *own : otherwise;
      replace("rope.scaling." + key, value);
      return value;
    };
    const double factor = static_cast<double>(*std::max_element(divisors.begin(), divisors.end()));
    replace("rope.scaling.type", "llama3");
    replace("rope.scaling.factor", shortest(factor));
    const double original = give("original_context_length", 8192), low = give("low_freq_factor", 1),
                 high = give("high_freq_factor", 4), base = *keys_.get_f64("rope.freq_base");
    for (size_t i = 0; i < divisors.size(); ++i) {
      const double theta = std::pow(base, -static_cast<double>(i) / static_cast<double>(divisors.size()));
      const double mix = std::clamp((original * theta / 6.283185307179586 - low) / (high - low), 0.0, 1.0);
      const double want = 1 / ((1 - mix) / factor + mix);
      if (std::abs(want - static_cast<double>(divisors[i])) > 1e-4 * want)
        return Error{ErrorCode::kUnsupported,
                     fmt::format("{}: tensor {} holds {} at {}, which no rope_scaling of config.json gives",
                                 source_.name(), tensor.name, divisors[i], i),
                     "tensor " + tensor.name};
    }
    replace("rope.scaling.original_context_length", static_cast<int64_t>(original));
    return {};
  }

  const ModelSource& source_;
  const models::Config& config_;
  const std::vector<Piece>& pieces_;
  models::Keys read_;
  KeyMap keys_;
};

}  // namespace

Status Conversion::plan_folder() {
  const models::Config& config = family_->config();
  architecture_ = config.architecture;
  if (architecture_ == "llama" && config.experts.n > 0) architecture_ = "mixtral";  // GGUF's name for both
  FOVEA_ASSIGN_OR_RETURN(Pieces pieces, Pieces::plan(*source_, *family_, form_, architecture_));
  pieces_ = std::make_unique<Pieces>(std::move(pieces));
  FOVEA_ASSIGN_OR_RETURN(const KeyMap keys, Facts(*source_, *family_, pieces_->list).run(architecture_));
  FOVEA_ASSIGN_OR_RETURN(Json words, formats::config_of(keys, source_->name()));
  const auto is = [&](std::string_view name) {
    return std::any_of(pieces_->list.begin(), pieces_->list.end(), [&](const Piece& piece) {
      return !piece.parameters.empty() && piece.parameters[0].name == name;
    });
  };
  if (family_->makes_text()) {
    words["tie_word_embeddings"] = !is("output.weight");
  } else {
    // Encoders are saved without a head, whose files have no prefix.
    const std::string_view prefix = formats::type_of(architecture_)->prefix;
    for (Piece& piece : pieces_->list) {
      if (!prefix.empty() && piece.name.starts_with(prefix)) piece.name.erase(0, prefix.size());
    }
  }
  const kernels::DType type = pieces_->list[0].dtype;
  words["torch_dtype"] = type == kernels::DType::kF16    ? "float16"
                         : type == kernels::DType::kBF16 ? "bfloat16"
                                                         : "float32";
  if (const auto training = source_->get_string("fovea.training")) {
    Json parsed = Json::parse(*training, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_discarded()) words["fovea"] = std::move(parsed);
  }
  FOVEA_RETURN_IF_ERROR(put_tokenizer_files(*source_, config, words, files_, notes_));
  files_.push_back({"config.json", words.dump(2) + "\n"});
  return {};
}

Result<uint64_t> Conversion::write_folder(const std::string& path, const ConvertOptions& options) const {
  uint64_t bytes = 0;
  std::error_code ignored;
  const fs::path place = fs::weakly_canonical(path, ignored);
  for (const auto& file : source_->files()) {
    if (fs::weakly_canonical(file->path(), ignored).parent_path() == place)
      return make_error(ErrorCode::kUsage, "{}: is being read; name another folder to write", quote(path, 4096));
  }
  const auto write = [&](const std::string& folder) -> Status {
    std::vector<formats::SafeTensor> header;
    for (const Piece& piece : pieces())
      header.push_back({piece.name, safe(piece.dtype), {piece.dims.rbegin(), piece.dims.rend()}});
    const std::string weights = folder + "/model.safetensors";
    FOVEA_ASSIGN_OR_RETURN(auto file, formats::SafetensorsWriter::create(weights, header, {{"format", "pt"}}));
    FOVEA_RETURN_IF_ERROR(write_pieces(options, [&](std::span<const std::byte> part) { return file.write(part); }));
    FOVEA_RETURN_IF_ERROR(file.commit());
    for (const formats::FolderFile& one : files_)
      FOVEA_RETURN_IF_ERROR(write_file_atomic(folder + "/" + one.name, one.content));
    for (const auto& entry : fs::directory_iterator(folder, ignored)) bytes += fs::file_size(entry.path(), ignored);
    return {};
  };
  FOVEA_RETURN_IF_ERROR(replace_folder(path, OldFiles::kKept, write));
  return bytes;
}

}  // namespace fovea::engine

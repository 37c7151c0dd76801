#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/engine/convert/convert.h"
#include "fovea/engine/convert/vocabulary.h"
#include "fovea/formats/hf_folder.h"
#include "fovea/formats/hf_words.h"
#include "fovea/formats/requantize.h"
#include "fovea/models/support/rope.h"

namespace fovea::engine {
namespace {

using formats::GgufKeys;
using formats::KeySource;
using Json = nlohmann::ordered_json;

// Words of our own where GGUF has none: files with one of these say to us what others do not read.
constexpr std::string_view kOurs[] = {"max_window_layers", "no_rope_layers", "no_rope_layer_interval",
                                      "mlp_only_layers", "decoder_sparse_step"};

bool is_real(std::string_view key) {
  return std::any_of(std::begin(formats::kRealKeys), std::end(formats::kRealKeys),
                     [key](std::string_view pattern) { return formats::matches(key, pattern); });
}

std::vector<float> floats(const std::vector<double>& values) { return {values.begin(), values.end()}; }

// One key as JSON says it. False: GGUF has no such value.
bool put_value(GgufKeys& keys, const std::string& name, std::string_view key, const Json& value) {
  if (value.is_boolean()) {
    keys.put(name, value.get<bool>());
  } else if (value.is_string()) {
    keys.put(name, std::string_view(value.get_ref<const std::string&>()));
  } else if (value.is_number() && (is_real(key) || value.is_number_float())) {
    keys.put(name, value.get<float>());
  } else if (value.is_number_integer()) {
    if (value.is_number_unsigned() && value.get<uint64_t>() > UINT32_MAX) return false;
    const auto n = value.get<int64_t>();
    if (n < INT32_MIN || n > UINT32_MAX) return false;
    if (n < 0) keys.put(name, static_cast<int32_t>(n));
    if (n >= 0) keys.put(name, static_cast<uint32_t>(n));
  } else if (value.is_array()) {
    std::vector<int32_t> all;
    for (const Json& one : value) {
      if (!one.is_number_integer() && !one.is_boolean()) return false;
      all.push_back(one.is_boolean() ? int32_t{one.get<bool>()} : one.get<int32_t>());
    }
    keys.put(name, std::span<const int32_t>(all));
  } else {
    return false;
  }
  return true;
}

}  // namespace

Status Conversion::put_keys(const KeySource& source) {
  const models::Config& config = family_->config();
  const models::Keys read(source, config.architecture);
  const std::string from = config.architecture + ".", to = architecture_ + ".";
  const auto has = [&](std::string_view key) { return source.has(from + std::string(key)); };
  keys_.put("general.architecture", std::string_view(architecture_));
  keys_.put("general.type", "model");
  if (const auto name = source.get_string("general.name")) keys_.put("general.name", std::string_view(*name));
  if (const auto training = source.get_string("fovea.training"))
    keys_.put("fovea.training", std::string_view(*training));

  const std::string scaling = source.text_of(from + "rope.scaling.type");
  for (const std::string& name : source.keys_under(from)) {
    const std::string key = name.substr(from.size());
    const Json& value = *source.keys().find(name);
    if (key == "attention.layer_types" || (value.is_array() && value.empty())) continue;  // the pattern is below
    if (key == "rope.scaling.long_factors" || key == "rope.scaling.short_factors") {
      FOVEA_ASSIGN_OR_RETURN(const auto factors, source.get_f64s(name));
      const auto n = static_cast<int64_t>(factors.size());
      const bool is_long = key == "rope.scaling.long_factors";
      pieces_->list.push_back({.name = std::string(is_long ? models::kLongFactors : models::kShortFactors),
                               .dims = {n},
                               .made = floats(factors)});
      continue;
    }
    // Said by a tensor of divisors: the type is none that others know.
    if (scaling == "llama3" && (key == "rope.scaling.type" || key == "rope.scaling.factor")) continue;
    std::string as = key;
    if (architecture_ == "t5encoder" && key == "attention.layer_norm_epsilon") as = "attention.layer_norm_rms_epsilon";
    if (!put_value(keys_, to + as, key, value))
      return Error{ErrorCode::kUnsupported,
                   fmt::format("{}: key {} is a value that GGUF files do not have", source.name(), quote(name)), name};
    const bool no_cap = key.ends_with("softcapping") && value == false;
    if (no_cap || std::find(std::begin(kOurs), std::end(kOurs), key) != std::end(kOurs))
      notes_.push_back(fmt::format("key {}{} is known to Fovea alone: other programs take their own value", to, key));
  }

  const attention::ModelShape& s = config.shape;
  const auto number = [&](std::string_view key, int64_t n) {
    keys_.put(to + std::string(key), static_cast<uint32_t>(n));
  };
  number("attention.head_count_kv", s.n_kv_heads);
  number("attention.key_length", s.head_dim);
  number("attention.value_length", s.head_dim);
  number("vocab_size", s.vocab_size);
  if (!s.site(0).causal) keys_.put(to + "attention.causal", false);
  if (config.n_token_types > 0)
    keys_.put("tokenizer.ggml.token_type_count", static_cast<uint32_t>(config.n_token_types));
  if (config.experts.n > 0) {
    number("expert_feed_forward_length", config.experts.d_ff);
    keys_.put(to + "expert_weights_norm", config.experts.normalized);
  }
  if (read.lists("rope.freq_base") && !config.ropes.empty()) {
    const tensor::RopeTable& table = config.ropes[0];
    number("rope.dimension_count", static_cast<int64_t>(table.inv_freq.size()) * 2);
    if (!has("rope.freq_base")) keys_.put(to + "rope.freq_base", 10000.0f);
    if (scaling == "llama3") {
      FOVEA_ASSIGN_OR_RETURN(const auto divisors,
                             models::llama3_divisors(read, static_cast<int64_t>(table.inv_freq.size()) * 2));
      pieces_->list.insert(pieces_->list.begin(), {.name = std::string(models::kRopeFactors),
                                                   .dims = {static_cast<int64_t>(divisors.size())},
                                                   .made = divisors});
    }
    // What others multiply their own factor with, and with longrope the whole.
    if (scaling == "longrope") keys_.put(to + "rope.scaling.attn_factor", table.attn_factor);
  }
  std::vector<char> sliding;
  for (int l = 0; l < s.n_layers; ++l) sliding.push_back(s.site(l).window != INT_MAX);
  const auto n_sliding = std::count(sliding.begin(), sliding.end(), 1);
  if (n_sliding > 0 && n_sliding < s.n_layers) {
    const auto flags = std::make_unique<bool[]>(sliding.size());
    std::copy(sliding.begin(), sliding.end(), flags.get());
    keys_.put(to + "attention.sliding_window_pattern", std::span<const bool>(flags.get(), sliding.size()));
  }
  return {};
}

Status Conversion::plan_gguf() {
  const auto* source = dynamic_cast<const KeySource*>(source_.get());
  const models::Config& config = family_->config();
  bool windows = false;
  for (int l = 0; l < config.shape.n_layers; ++l) windows = windows || config.shape.site(l).window != INT_MAX;
  architecture_ = config.architecture;
  // GGUF's name for both, which has no windows.
  const bool llama = architecture_ == "mistral" || architecture_ == "mixtral";
  if (llama && !windows) architecture_ = "llama";
  if (llama && windows)
    notes_.push_back(
        fmt::format("GGUF has no architecture {} with windows: Fovea alone reads this file", architecture_));
  FOVEA_ASSIGN_OR_RETURN(Pieces pieces, Pieces::plan(*source_, *family_, form_, architecture_));
  pieces_ = std::make_unique<Pieces>(std::move(pieces));
  FOVEA_RETURN_IF_ERROR(put_keys(*source));
  if (const auto* folder = dynamic_cast<const formats::HfFolder*>(source); folder && !folder->left_out().empty())
    notes_.push_back(fmt::format("{} tensors that do not run here are left out, {} the first",
                                 folder->left_out().size(), escaped_line(folder->left_out()[0])));
  const Piece* largest = &pieces_->list[0];
  for (const Piece& piece : pieces_->list) {
    if (piece.bytes() > largest->bytes()) largest = &piece;
  }
  keys_.put("general.file_type", formats::file_type_of(largest->dtype));
  keys_.put("general.quantization_version", uint32_t{2});
  return put_vocabulary(*source_, config, keys_, notes_);
}

Result<uint64_t> Conversion::write_gguf(FileWriter file, const ConvertOptions& options) const {
  std::vector<formats::GgufTensor> header;
  for (const Piece& piece : pieces()) header.push_back({piece.name, piece.dtype, piece.dims});
  FOVEA_ASSIGN_OR_RETURN(auto writer, formats::GgufFileWriter::create(std::move(file), keys_, header));
  FOVEA_RETURN_IF_ERROR(write_pieces(options, [&](std::span<const std::byte> bytes) { return writer.write(bytes); }));
  const uint64_t bytes = writer.bytes();
  FOVEA_RETURN_IF_ERROR(writer.commit());
  return bytes;
}

}  // namespace fovea::engine

#include "fovea/formats/hf_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/formats/hf_words.h"

namespace fovea::formats {

bool matches(std::string_view text, std::string_view pattern) {
  const size_t star = pattern.find('*');
  if (star == pattern.npos) return text == pattern;
  if (!text.starts_with(pattern.substr(0, star))) return false;
  text.remove_prefix(star);
  pattern.remove_prefix(star + 1);
  for (size_t at = 0; at <= text.size(); ++at) {
    if (matches(text.substr(at), pattern)) return true;
  }
  return false;
}

namespace {

using Json = nlohmann::ordered_json;

// Fields that change nothing of what is computed here. A star stands for any characters.
constexpr std::string_view kNotes[] = {
    "_*",
    "*_token_id",
    "*_token_index",
    "*dropout*",
    "*pdrop*",
    "*initializer*",
    "*_loss_coef",
    "sparse_*",
    "scale_decoder_outputs",
    "summary_*",
    "architectures",
    "auto_map",  // names of Python classes: no code of a folder is ever run
    "attn_implementation",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_*",
    "custom_pipelines",
    "decoder_bias",
    "dense_seq_output",
    "deterministic_flash_attn",
    "dtype",
    "finetuning_task",
    "fovea",  // how a model was trained here
    "fused_*",
    "id2label",
    "is_encoder_decoder",
    "label2id",
    "max_length",
    "max_trained_positions",
    "model_type",
    "name_or_path",
    "num_decoder_layers",
    "num_labels",
    "output_attentions",
    "pad_vocab_size_multiple",
    "output_hidden_states",
    "output_past",
    "output_router_logits",
    "pretraining_tp",
    "problem_type",
    "prune*",
    "reference_compile",
    "reorder_and_upcast_attn",
    "return_dict",
    "router_jitter_noise",
    "task_specific_params",
    "tie_word_embeddings",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers*",
    "unsloth*",
    "use_cache",
    "use_flash_attn",
    "use_xentropy",
    "use_mambapy",
    "vision_config",
    "quantization_config",
    "rope_scaling",
    "rope_parameters",
    "text_config",
    "partial_rotary_factor",
    "rotary_pct",
    "rotary_emb_fraction",
    "use_sliding_window",
};

// Stored tensors that are no weights of the language model, and prefixes that folders with a vision tower have.
struct TensorRule {
  std::string_view architecture, begin, end, instead = {};  // empty `instead`: left out
};
constexpr TensorRule kTensorRules[] = {
    {"", "", ".rotary_emb.inv_freq"},
    {"gpt2", "", ".attn.bias"},
    {"gpt2", "", ".attn.masked_bias"},
    {"gptneox", "", ".attention.bias"},
    {"gptneox", "", ".attention.masked_bias"},
    {"bert", "", "embeddings.position_ids"},
    {"bert", "", "pooler.dense.weight"},  // of heads: vectors are made of what the last block gives
    {"bert", "", "pooler.dense.bias"},
    {"bert", "cls.", ""},
    {"modern-bert", "head.", ""},
    {"modern-bert", "decoder.", ""},
    {"t5encoder", "encoder.embed_tokens.", "", "shared."},
    {"t5encoder", "decoder.embed_tokens.", "", "shared."},
    {"t5encoder", "decoder.", ""},
    {"t5encoder", "lm_head.", ""},
    {"gemma3", "vision_tower.", ""},
    {"gemma3", "multi_modal_projector.", ""},
    {"gemma3", "model.vision_tower.", ""},
    {"gemma3", "model.multi_modal_projector.", ""},
    {"gemma3", "language_model.model.", "", "model."},
    {"gemma3", "model.language_model.", "", "model."},
    {"gemma3", "language_model.lm_head.", "", "lm_head."},
};

// Families that may turn a part of each head; classes of the others pass over what says so, or fail.
constexpr std::string_view kTurnPart[] = {"phi2", "phi3", "gptneox", "stablelm", "nomic-bert"};

bool asks_for_nothing(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         (value.is_number() && value.get<double>() == 0) ||
         ((value.is_structured() || value.is_string()) && value.empty()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty());
}

// What a message says of a value, in one line.
std::string shown(const Json& value) {
  if (value.is_array()) return "a list";
  if (value.is_object()) return "an object";
  return quote(value.is_string() ? value.get_ref<const std::string&>() : value.dump(), 60);
}

class Translator {
 public:
  Translator(const Json& config, const std::string& name) : whole_(config), name_(name) {}

  Result<HfConfig> run() {
    out_.keys = KeyMap(name_);
    if (!whole_.is_object()) return bad(ErrorCode::kData, "", "it is no object");
    FOVEA_RETURN_IF_ERROR(find_text());
    for (const Json* object : {&whole_, &std::as_const(text_)}) FOVEA_RETURN_IF_ERROR(check_bools(*object));
    FOVEA_RETURN_IF_ERROR(find_type());
    for (const HfRow& row : kHfRows) put_row(text_, row, architecture_ + ".");
    put_defaults();
    FOVEA_RETURN_IF_ERROR(put_rope());
    FOVEA_RETURN_IF_ERROR(put_windows());
    put_sizes();
    put_unknown();
    if (const Json* training = field(whole_, "fovea"))
      out_.keys.put("fovea.training", training->dump(), origin("fovea"));
    const Json* tied = field(whole_, "tie_word_embeddings");
    if (!tied) tied = field(text_, "tie_word_embeddings");
    out_.untied = tied && !tied->get<bool>() && decodes_;
    return std::move(out_);
  }

 private:
  Error bad(ErrorCode code, std::string_view where, const std::string& what) const {
    return Error{code, fmt::format("{}: {}{}", name_, where.empty() ? "" : fmt::format("{}: ", quote(where)), what),
                 std::string(where)};
  }
  // Null for what is not there, and for null, which says the same.
  static const Json* field(const Json& object, std::string_view name) {
    const auto it = object.find(name);
    return it == object.end() || it->is_null() ? nullptr : &*it;
  }
  static std::string origin(std::string_view name) { return fmt::format("{} of config.json", escaped_line(name)); }
  bool is_idle(const Json& value, std::string_view idle) const {
    if (idle.empty()) return false;
    KeyMap one;
    one.put("x", value, "");
    return one.text_of("x") == idle;
  }
  void put_row(const Json& object, const HfRow& row, const std::string& prefix) {
    const Json* value = field(object, row.field);
    if (value && !is_idle(*value, row.idle)) out_.keys.put(prefix + std::string(row.key), *value, origin(row.field));
  }
  std::string key(std::string_view name) const { return architecture_ + "." + std::string(name); }

  Status find_text() {
    const Json* text = field(whole_, "text_config");
    text_ = text ? *text : whole_;
    if (!text_.is_object()) return bad(ErrorCode::kData, "text_config", "it is no object");
    if (text) out_.warnings.push_back(fmt::format("{}: of this model only the part that reads text runs", name_));
    return {};
  }

  Status check_bools(const Json& object) const {
    for (const std::string_view name : kHfBools) {
      if (const Json* value = field(object, name); value && !value->is_boolean())
        return bad(ErrorCode::kData, name, fmt::format("it is {}; true or false is needed", shown(*value)));
    }
    return {};
  }

  Status find_type() {
    const Json* type = field(text_, "model_type");
    if (!type) type = field(whole_, "model_type");
    if (!type || !type->is_string() || type->get_ref<const std::string&>().empty())
      return bad(ErrorCode::kData, "model_type", "a name is needed");
    architecture_ = type->get<std::string>();  // of one that is not known no family has it: refused by that name
    const auto* known = std::find_if(std::begin(kHfTypes), std::end(kHfTypes),
                                     [&](const HfType& t) { return t.model_type == architecture_; });
    if (known != std::end(kHfTypes)) {
      architecture_ = known->architecture;
      out_.tensor_prefix = known->prefix;
      out_.copied = known->copied;
      decodes_ = known->decodes;
    }
    out_.architecture = architecture_;
    out_.keys.put("general.architecture", architecture_, origin("model_type"));
    return {};
  }

  void put_defaults() {
    for (const HfDefault& d : kHfDefaults) {
      if (d.architecture != architecture_) continue;
      const bool there = text_.contains(d.field);
      if (there && (d.null.empty() || field(text_, d.field))) continue;
      text_[std::string(d.field)] = Json::parse(there ? d.null : d.value);
      for (const HfRow& row : kHfRows) {
        if (row.field == d.field) put_row(text_, row, architecture_ + ".");
      }
    }
  }

  // One dictionary of rope's: `base` is its rope_theta, `scaling` the key that the rest goes under.
  Status put_rope_of(const Json& rope, const std::string& base, const std::string& scaling) {
    if (const Json* theta = field(rope, "rope_theta")) {
      out_.keys.erase(base);  // the newer place counts
      out_.keys.put(base, *theta, origin("rope_theta"));
    }
    const Json* type = field(rope, "rope_type");
    if (!type) type = field(rope, "type");
    if (!type) return rope.contains("factor") ? bad(ErrorCode::kData, "rope_scaling", "it has no rope_type") : Status();
    if (!type->is_string()) return bad(ErrorCode::kData, "rope_type", "it is no string");
    std::string name = type->get<std::string>();
    for (const auto& [theirs, ours] : kHfRopeTypes) {
      if (name == theirs) name = ours;
    }
    if (name == "none") return {};
    out_.keys.put(scaling + "type", name, origin("rope_type"));
    for (const HfRow& row : kHfRopeRows) {
      if (const Json* value = field(rope, row.field); value && !is_idle(*value, row.idle)) {
        out_.keys.erase(scaling + std::string(row.key));
        out_.keys.put(scaling + std::string(row.key), *value, origin(row.field));
      }
    }
    // transformers' own for what is not there; of gpt-oss GGUF's readers take the other.
    if (name == "yarn" && architecture_ == "gpt-oss" && !field(rope, "truncate"))
      out_.keys.put(scaling + "truncate", true, origin("rope_type"));
    if (const Json* length = field(text_, "max_position_embeddings"); length && (name == "yarn" || name == "llama3"))
      out_.keys.put(scaling + "original_context_length", *length, origin("max_position_embeddings"));
    for (const auto& [name_of, value] : rope.items()) {
      const bool known = name_of == "rope_theta" || name_of == "rope_type" || name_of == "type" ||
                         name_of == "partial_rotary_factor" ||
                         std::any_of(std::begin(kHfRopeRows), std::end(kHfRopeRows),
                                     [&n = name_of](const HfRow& row) { return row.field == n; });
      if (!known && !asks_for_nothing(value)) out_.keys.put(scaling + name_of, value, origin(name_of));
    }
    return {};
  }

  Status put_rope() {
    const Json* rope = field(text_, "rope_parameters");
    if (!rope) rope = field(text_, "rope_scaling");
    partial_ = field(text_, "partial_rotary_factor");
    if (!partial_) partial_ = field(text_, "rotary_pct");
    if (!partial_) partial_ = field(text_, "rotary_emb_fraction");
    if (!rope) return {};
    if (!rope->is_object()) return bad(ErrorCode::kData, "rope_parameters", "it is no object");
    const Json* full = field(*rope, "full_attention");
    const Json* sliding = field(*rope, "sliding_attention");
    for (const Json* one : {full, sliding}) {
      if (one && !one->is_object()) return bad(ErrorCode::kData, "rope_parameters", "what it holds is no object");
    }
    const Json& main = full ? *full : *rope;
    if (full || sliding) {
      for (const auto& [name, value] : rope->items()) {
        if (name != "full_attention" && name != "sliding_attention" && !asks_for_nothing(value))
          out_.keys.put(key("rope.scaling." + name), value, origin("rope_parameters"));
      }
    }
    if (const Json* partial = field(main, "partial_rotary_factor")) partial_ = partial;
    FOVEA_RETURN_IF_ERROR(put_rope_of(main, key("rope.freq_base"), key("rope.scaling.")));
    if (!sliding) return {};
    if (const Json* partial = field(*sliding, "partial_rotary_factor"); partial && (!partial_ || *partial != *partial_))
      out_.keys.put(key("rope.scaling_swa.partial_rotary_factor"), *partial, origin("rope_parameters"));
    return put_rope_of(*sliding, key("rope.freq_base_swa"), key("rope.scaling_swa."));
  }

  // Where no layer slides there is no window, whatever its size.
  Status put_windows() {
    const Json* use = field(text_, "use_sliding_window");
    const bool off = use && !use->get<bool>();
    const Json* types = out_.keys.find(key("attention.layer_types"));
    const bool all_full = types && types->is_array() && std::all_of(types->begin(), types->end(), [](const Json& type) {
                            return type == "full_attention";
                          });
    const bool none = !out_.keys.has(key("attention.sliding_window"));
    if (all_full || (off && !types)) out_.keys.erase(key("attention.layer_types"));
    if (!all_full && !(off && !types) && !none) return {};
    for (const char* name : {"attention.sliding_window", "attention.sliding_window_pattern", "max_window_layers"})
      out_.keys.erase(key(name));
    return {};
  }

  // Sizes that follow from others.
  void put_sizes() {
    const auto number = [&](std::string_view name) {
      const auto n = out_.keys.get_i64(key(name));
      return n && n.value() > 0 && n.value() < (int64_t{1} << 32) ? n.value() : 0;
    };
    const int64_t width = number("embedding_length"), heads = number("attention.head_count");
    if (architecture_ == "gpt2" && width > 0)
      out_.keys.put(key("feed_forward_length"), 4 * width, "4 times n_embd of config.json");
    // Its MLP is that of Llama under another name.
    if (architecture_ == "nomic-bert" && out_.keys.text_of(key("hidden_act")) == "swiglu")
      out_.keys.erase(key("hidden_act"));
    int64_t head_dim = number("attention.key_length");
    if (head_dim == 0 && heads > 0) head_dim = width / heads;
    if (!partial_) return;
    const bool turns_part = std::find(std::begin(kTurnPart), std::end(kTurnPart), architecture_) != std::end(kTurnPart);
    const bool good =
        turns_part && partial_->is_number() && partial_->get<double>() > 0 && partial_->get<double>() <= 1;
    if (good && head_dim > 0 && partial_->get<double>() < 1) {
      const auto turned = static_cast<int64_t>(static_cast<double>(head_dim) * partial_->get<double>());
      out_.keys.put(key("rope.dimension_count"), turned, origin("partial_rotary_factor"));
    } else if (!good && *partial_ != 1) {
      out_.keys.put(key("partial_rotary_factor"), *partial_, origin("partial_rotary_factor"));
    }
  }

  void put_unknown() {
    for (const auto& [name, value] : text_.items()) {
      const bool row =
          std::any_of(std::begin(kHfRows), std::end(kHfRows), [&n = name](const HfRow& r) { return r.field == n; });
      const bool note =
          std::any_of(std::begin(kNotes), std::end(kNotes), [&n = name](std::string_view p) { return matches(n, p); });
      if (!row && !note && !asks_for_nothing(value)) out_.keys.put(key(name), value, origin(name));
    }
  }

  const Json& whole_;
  Json text_;
  const Json* partial_ = nullptr;
  const std::string& name_;
  std::string architecture_;
  bool decodes_ = true;
  HfConfig out_;
};

}  // namespace

Result<HfConfig> translate_config(const Json& config, const std::string& name) {
  return Translator(config, name).run();
}

std::string weight_name(std::string_view stored, const HfConfig& config) {
  for (const TensorRule& rule : kTensorRules) {
    if (!rule.architecture.empty() && rule.architecture != config.architecture) continue;
    if (!stored.starts_with(rule.begin) || !stored.ends_with(rule.end)) continue;
    if (rule.instead.empty()) return {};
    return std::string(rule.instead) + std::string(stored.substr(rule.begin.size()));
  }
  return std::string(stored);
}

}  // namespace fovea::formats

// The tables between the words of Hugging Face's config.json and GGUF's keys, read in both directions: hf_keys.cc makes
// keys of a config.json, hf_config.cc a config.json of keys.
#pragma once

#include <string_view>
#include <utility>

namespace fovea::formats {

struct HfType {
  std::string_view model_type, architecture;  // as config.json and general.architecture say it
  std::string_view class_name;                // of transformers
  std::string_view prefix = "model.";
  bool decodes = true;  // into words of the vocabulary
  std::string_view copied = {};
};
inline constexpr HfType kHfTypes[] = {
    {"llama", "llama", "LlamaForCausalLM"},
    {"mistral", "mistral", "MistralForCausalLM"},
    {"mixtral", "mixtral", "MixtralForCausalLM"},
    {"qwen2", "qwen2", "Qwen2ForCausalLM"},
    {"qwen2_moe", "qwen2moe", "Qwen2MoeForCausalLM"},
    {"qwen3", "qwen3", "Qwen3ForCausalLM"},
    {"qwen3_moe", "qwen3moe", "Qwen3MoeForCausalLM"},
    {"gemma", "gemma", "GemmaForCausalLM"},
    {"gemma2", "gemma2", "Gemma2ForCausalLM"},
    {"gemma3_text", "gemma3", "Gemma3ForCausalLM"},
    {"gemma3", "gemma3", "Gemma3ForConditionalGeneration"},
    {"phi", "phi2", "PhiForCausalLM"},
    {"phi3", "phi3", "Phi3ForCausalLM"},
    {"gpt2", "gpt2", "GPT2LMHeadModel", "transformer."},
    {"gpt_neox", "gptneox", "GPTNeoXForCausalLM", "gpt_neox."},
    {"smollm3", "smollm3", "SmolLM3ForCausalLM"},
    {"olmo2", "olmo2", "Olmo2ForCausalLM"},
    {"granite", "granite", "GraniteForCausalLM"},
    {"starcoder2", "starcoder2", "Starcoder2ForCausalLM"},
    {"stablelm", "stablelm", "StableLmForCausalLM"},
    {"gpt_oss", "gpt-oss", "GptOssForCausalLM"},
    {"bert", "bert", "BertModel", "bert.", false},
    {"nomic_bert", "nomic-bert", "NomicBertModel", "", false},
    {"modernbert", "modern-bert", "ModernBertModel", "model.", false},
    {"t5", "t5encoder", "T5EncoderModel", "", false, "shared.weight"},
    {"mt5", "t5encoder", "MT5EncoderModel", "", false, "shared.weight"},
};

// The first of an architecture; null: there is none.
const HfType* type_of(std::string_view architecture);

// `idle`, as KeyMap::text_of writes it, asks for nothing: no key is made of it. The first field of a key counts.
struct HfRow {
  std::string_view field, key, idle = {};
  // architectures whose files are written with this word, between spaces, "-": none. Empty: those without such a row.
  std::string_view of = {};
};
inline constexpr HfRow kHfRows[] = {
    {"num_hidden_layers", "block_count"},
    {"n_layer", "block_count", "", "gpt2"},
    {"num_layers", "block_count", "", "t5encoder"},
    {"max_position_embeddings", "context_length"},
    {"n_positions", "context_length", "", "gpt2 t5encoder"},
    {"n_ctx", "context_length", "", "-"},
    {"hidden_size", "embedding_length"},
    {"n_embd", "embedding_length", "", "gpt2"},
    {"d_model", "embedding_length", "", "t5encoder"},
    {"intermediate_size", "feed_forward_length"},
    {"n_inner", "feed_forward_length", "", "gpt2"},
    {"d_ff", "feed_forward_length", "", "t5encoder"},
    {"num_attention_heads", "attention.head_count"},
    {"n_head", "attention.head_count", "", "gpt2"},
    {"num_heads", "attention.head_count", "", "t5encoder"},
    {"num_key_value_heads", "attention.head_count_kv"},
    {"head_dim", "attention.key_length"},
    {"d_kv", "attention.key_length", "", "t5encoder"},
    {"vocab_size", "vocab_size"},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon"},
    {"layer_norm_eps", "attention.layer_norm_epsilon"},
    {"layer_norm_epsilon", "attention.layer_norm_epsilon", "", "gpt2 t5encoder"},
    {"norm_epsilon", "attention.layer_norm_epsilon", "", "starcoder2"},
    {"norm_eps", "attention.layer_norm_epsilon", "", "modern-bert"},
    // Activations and biases.
    {"hidden_activation", "hidden_act", "", "gemma gemma2 gemma3 modern-bert"},
    {"hidden_act", "hidden_act"},
    {"activation_function", "hidden_act", "", "gpt2"},
    {"dense_act_fn", "hidden_act", "", "t5encoder"},
    {"attention_bias", "attention_bias", "false"},
    {"mlp_bias", "mlp_bias", "false"},
    {"norm_bias", "norm_bias", "false"},
    {"use_bias", "use_bias"},
    {"use_qkv_bias", "use_qkv_bias", "false"},
    {"qkv_bias", "qkv_bias"},
    // Attention.
    {"sliding_window", "attention.sliding_window"},
    {"local_attention", "attention.sliding_window", "", "modern-bert"},
    {"sliding_window_pattern", "attention.sliding_window_pattern", "", "-"},
    {"_sliding_window_pattern", "attention.sliding_window_pattern", "", "-"},
    {"global_attn_every_n_layers", "attention.sliding_window_pattern", "", "-"},
    {"layer_types", "attention.layer_types", "", "qwen2 qwen2moe qwen3 gemma2 gemma3 gpt-oss smollm3 modern-bert"},
    {"max_window_layers", "max_window_layers"},
    {"no_rope_layers", "no_rope_layers"},
    {"no_rope_layer_interval", "no_rope_layer_interval"},
    {"attn_logit_softcapping", "attn_logit_softcapping"},
    {"final_logit_softcapping", "final_logit_softcapping"},
    {"query_pre_attn_scalar", "query_pre_attn_scalar"},
    {"qk_layernorm", "qk_layernorm", "false"},
    {"use_qk_norm", "use_qk_norm", "", "-"},
    {"clip_qkv", "attention.clamp_kqv"},
    {"scale_attn_weights", "scale_attn_weights", "true"},
    {"scale_attn_by_inverse_layer_idx", "scale_attn_by_inverse_layer_idx", "false"},
    {"use_bidirectional_attention", "use_bidirectional_attention", "false"},
    // Positions; rope_scaling and rope_parameters have a table of their own below.
    {"rope_theta", "rope.freq_base"},
    {"rotary_emb_base", "rope.freq_base", "", "gptneox"},
    {"global_rope_theta", "rope.freq_base", "", "modern-bert"},
    {"rope_local_base_freq", "rope.freq_base_swa", "", "gemma3"},
    {"local_rope_theta", "rope.freq_base_swa", "", "modern-bert"},
    {"original_max_position_embeddings", "rope.scaling.original_context_length", "", "phi3"},
    {"initial_context_length", "rope.scaling.original_context_length", "", "-"},
    {"rotary_dim", "rope.dimension_count", "", "-"},
    {"position_embedding_type", "position_embedding_type", "absolute"},
    // The residual stream.
    {"use_parallel_residual", "use_parallel_residual"},
    {"embedding_multiplier", "embedding_scale"},
    {"attention_multiplier", "attention.scale"},
    {"residual_multiplier", "residual_scale"},
    {"logits_scaling", "logit_scale"},
    // Experts.
    {"num_local_experts", "expert_count", "", "mixtral gpt-oss"},
    {"num_experts", "expert_count"},
    {"num_experts_per_tok", "expert_used_count"},
    {"experts_per_token", "expert_used_count", "", "-"},
    {"moe_intermediate_size", "expert_feed_forward_length", "", "qwen2moe qwen3moe"},
    {"shared_expert_intermediate_size", "expert_shared_feed_forward_length"},
    {"norm_topk_prob", "expert_weights_norm"},
    {"decoder_sparse_step", "decoder_sparse_step", "1"},
    {"mlp_only_layers", "mlp_only_layers"},
    {"swiglu_limit", "swiglu_limit", "7"},  // with this gain and limit there is one activation
    {"swiglu_alpha", "swiglu_alpha", "1.702"},
    // Encoders.
    {"is_decoder", "is_decoder", "false"},
    {"type_vocab_size", "type_vocab_size"},
    {"relative_attention_num_buckets", "attention.relative_buckets_count"},
    {"relative_attention_max_distance", "attention.relative_max_distance"},
    {"feed_forward_proj", "feed_forward_proj"},
    {"is_gated_act", "is_gated_act"},
};

// Fields that hold true or false wherever they stand, also those that ask for nothing here.
inline constexpr std::string_view kHfBools[] = {"attention_bias",
                                                "mlp_bias",
                                                "norm_bias",
                                                "use_bias",
                                                "use_qkv_bias",
                                                "qkv_bias",
                                                "qk_layernorm",
                                                "use_qk_norm",
                                                "scale_attn_weights",
                                                "scale_attn_by_inverse_layer_idx",
                                                "use_bidirectional_attention",
                                                "use_parallel_residual",
                                                "norm_topk_prob",
                                                "is_decoder",
                                                "is_gated_act",
                                                "use_sliding_window",
                                                "tie_word_embeddings"};

// What a class of transformers takes for a field that the file does not have, where that is not what GGUF's readers
// take for a missing key. JSON.
struct HfDefault {
  std::string_view architecture, field, value;
  std::string_view null = {};  // what null asks for, where that is something else
};
inline constexpr HfDefault kHfDefaults[] = {
    {"gptneox", "use_parallel_residual", "true"},  // GGUF's readers need the key
    {"mistral", "sliding_window", "4096"},
    {"mixtral", "rope_theta", "1000000.0"},
    {"qwen2", "use_sliding_window", "false"},
    {"qwen2moe", "use_sliding_window", "false"},
    {"qwen3", "use_sliding_window", "false"},
    {"qwen3moe", "use_sliding_window", "false"},
    {"smollm3", "use_sliding_window", "false"},
    {"qwen3moe", "norm_topk_prob", "false"},  // GGUF's readers take it for true
    {"smollm3", "rope_theta", "2000000.0"},
    {"gemma", "head_dim", "256"},
    {"gemma2", "head_dim", "256"},
    {"gemma2", "sliding_window", "4096"},
    {"gemma2", "query_pre_attn_scalar", "256"},
    {"gemma2", "attn_logit_softcapping", "50.0", "false"},
    {"gemma2", "final_logit_softcapping", "30.0", "false"},
    {"granite", "attention_multiplier", "1.0"},
    {"gpt-oss", "rope_theta", "150000.0"},
    {"gpt-oss", "sliding_window", "128"},
    {"gpt-oss", "rope_scaling",
     R"({"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
         "original_max_position_embeddings": 4096})"},
    {"phi2", "partial_rotary_factor", "0.5"},
    {"gptneox", "rotary_pct", "0.25"},
    {"bert", "layer_norm_eps", "1e-12"},
    {"nomic-bert", "rope_theta", "1000.0"},
    {"modern-bert", "global_rope_theta", "160000.0"},
    {"modern-bert", "norm_eps", "1e-05"},
    {"modern-bert", "local_attention", "128"},
    {"stablelm", "partial_rotary_factor", "0.25"},
    {"t5encoder", "n_positions", "512"},
    {"t5encoder", "layer_norm_epsilon", "1e-06"},
    {"t5encoder", "feed_forward_proj", "\"relu\""},
    // Files of models that also see images say of their language model only what differs from these.
    {"gemma3", "vocab_size", "262208"},
    {"gemma3", "max_position_embeddings", "131072"},
    {"gemma3", "num_attention_heads", "8"},
    {"gemma3", "num_key_value_heads", "4"},
    {"gemma3", "head_dim", "256"},
    {"gemma3", "rms_norm_eps", "1e-06"},
    {"gemma3", "hidden_activation", "\"gelu_pytorch_tanh\""},
    {"gemma3", "query_pre_attn_scalar", "256"},
    {"gemma3", "sliding_window", "4096"},
    {"gemma3", "sliding_window_pattern", "6"},
    {"gemma3", "rope_theta", "1000000.0"},
    {"gemma3", "rope_local_base_freq", "10000.0"},
};

// The keys that GGUF files hold as float32; other numbers are uint32. A star stands for any characters.
inline constexpr std::string_view kRealKeys[] = {
    "*_epsilon",         "*softcapping",      "*clamp_kqv",           "rope.freq_base*",       "rope.scaling*factor",
    "rope.scaling*slow", "rope.scaling*fast", "rope.scaling*mscale*", "query_pre_attn_scalar", "embedding_scale",
    "attention.scale",   "residual_scale",    "logit_scale",          "rope.scale_linear"};
// Whether `pattern` with its stars is the whole of `text`.
bool matches(std::string_view text, std::string_view pattern);

// Fields of rope_scaling (transformers 4) and rope_parameters (5); others become rope.scaling.FIELD.
inline constexpr HfRow kHfRopeRows[] = {
    {"factor", "factor"},
    {"original_max_position_embeddings", "original_context_length"},
    {"attention_factor", "attention_factor"},  // attn_factor multiplies what yarn has of its own
    {"beta_fast", "yarn_beta_fast"},
    {"beta_slow", "yarn_beta_slow"},
    {"long_factor", "long_factors"},
    {"short_factor", "short_factors"},
    {"low_freq_factor", "low_freq_factor"},
    {"high_freq_factor", "high_freq_factor"},
    {"mscale", "mscale"},
    {"mscale_all_dim", "mscale_all_dim"},
    {"truncate", "truncate"},
};
inline constexpr std::pair<std::string_view, std::string_view> kHfRopeTypes[] = {
    {"default", "none"}, {"mrope", "none"}, {"su", "longrope"}};

}  // namespace fovea::formats

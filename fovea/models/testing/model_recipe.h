// For tests: the smallest sound model file, of which a test changes or drops some keys or tensors.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "fovea/formats/testing/gguf_writer.h"
#include "fovea/models/family.h"

namespace fovea::models {

// A one-layer llama (or what else has its tensors) of width 8 with 2 query heads, 1 KV head and 4 tokens; all weights
// are zero.
struct ModelRecipe {
  std::map<std::string, std::function<void(formats::GgufWriter&)>> keys;
  std::map<std::string, std::vector<uint64_t>> tensors;  // float32

  explicit ModelRecipe(const std::string& architecture = "llama") {
    set("general.architecture", architecture);
    for (const auto& [key, value] : std::map<std::string, uint32_t>{{"block_count", 1},
                                                                    {"context_length", 16},
                                                                    {"embedding_length", 8},
                                                                    {"feed_forward_length", 4},
                                                                    {"attention.head_count", 2},
                                                                    {"attention.head_count_kv", 1}}) {
      set(architecture + "." + key, value);
    }
    for (const auto& [key, value] : std::map<std::string, float>{{"attention.layer_norm_rms_epsilon", 1e-5f},
                                                                 {"attention.layer_norm_epsilon", 1e-5f},
                                                                 {"rope.freq_base", 1e4f}}) {
      if (lists(architecture, key)) set(architecture + "." + key, value);
    }
    set("tokenizer.ggml.model", "gpt2")
        .set("tokenizer.ggml.pre", "gpt-2")
        .set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab", "<e>"});
    set("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 1, 3});
    set("tokenizer.ggml.merges", std::vector<std::string>{"a b"}).set("tokenizer.ggml.eos_token_id", uint32_t{3});
    tensors = {
        {"token_embd.weight", {8, 4}},        {"output_norm.weight", {8}},      {"blk.0.attn_norm.weight", {8}},
        {"blk.0.attn_q.weight", {8, 8}},      {"blk.0.attn_k.weight", {8, 4}},  {"blk.0.attn_v.weight", {8, 4}},
        {"blk.0.attn_output.weight", {8, 8}}, {"blk.0.ffn_norm.weight", {8}},   {"blk.0.ffn_gate.weight", {8, 4}},
        {"blk.0.ffn_up.weight", {8, 4}},      {"blk.0.ffn_down.weight", {4, 8}}};
  }

  static bool lists(const std::string& architecture, const std::string& key) {
    const auto family = family_registry().find(architecture);
    if (family == family_registry().end()) return key != "attention.layer_norm_epsilon";
    return std::any_of(family->second.keys.begin(), family->second.keys.end(),
                       [&](const FamilyKey& known) { return known.name == key; });
  }

  template <typename T>
  ModelRecipe& set(const std::string& key, const T& value) {
    keys[key] = [key, value](formats::GgufWriter& w) { w.key(key, value); };
    return *this;
  }
  ModelRecipe& drop(const std::string& key) {
    keys.erase(key);
    return *this;
  }
  // `finish` may add what the recipe cannot say, or spoil the data.
  std::string build(const std::function<void(formats::GgufWriter&)>& finish = {}) const {
    formats::GgufWriter w;
    for (const auto& [key, write] : keys) write(w);
    for (const auto& [name, dims] : tensors) w.tensor(name, dims);
    if (finish) finish(w);
    return w.build();
  }
};

}  // namespace fovea::models

#include "fovea/formats/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "fovea/formats/hf_keys.h"

namespace fovea::formats {
namespace hf_config_test {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

// The keys of a config.json, as config_of takes them.
KeyMap bare_keys(const Json& config) {
  auto read = translate_config(config, "a test");
  EXPECT_TRUE(read.has_value()) << read.error().message;
  KeyMap out("a test");
  const std::string prefix = read->architecture + ".";
  for (const std::string& key : read->keys.keys_under(prefix))
    out.put(key.substr(prefix.size()), *read->keys.find(key), "a test");
  out.put("general.architecture", read->architecture, "a test");
  return out;
}

TEST(HfConfig, WordsComeBackFromKeys) {
  const Json configs[] = {
      {{"model_type", "llama"},
       {"num_hidden_layers", 2},
       {"hidden_size", 32},
       {"rms_norm_eps", 1e-5},
       {"rope_theta", 5e5},
       {"rope_scaling", {{"rope_type", "linear"}, {"factor", 4.0}}}},
      {{"model_type", "gpt2"},
       {"n_layer", 2},
       {"n_embd", 32},
       {"n_head", 4},
       {"layer_norm_epsilon", 1e-5},
       {"activation_function", "gelu_new"}},
      {{"model_type", "gpt_neox"},
       {"num_hidden_layers", 2},
       {"rotary_emb_base", 5e3}},  // its class knows no rope_theta
      {{"model_type", "mixtral"}, {"num_local_experts", 4}, {"num_experts_per_tok", 2}, {"sliding_window", 16}},
      {{"model_type", "starcoder2"}, {"norm_epsilon", 1e-5}, {"sliding_window", 16}}};
  for (const Json& config : configs) {
    const auto words = config_of(bare_keys(config), "a test");
    ASSERT_TRUE(words.has_value()) << words.error().message;
    for (const auto& [field, value] : config.items())
      EXPECT_EQ((*words)[field], value) << config["model_type"] << field;
  }
}

TEST(HfConfig, AWholeScalarOfQueriesIsAnInteger) {
  for (const char* type : {"gemma2", "gemma3_text"}) {
    for (const auto& [held, written] : {std::pair{20.0, "20"}, {20.5, "20.5"}}) {
      KeyMap keys = bare_keys({{"model_type", type}, {"num_hidden_layers", 2}});
      for (const char* default_of_the_class : {"query_pre_attn_scalar", "attention.sliding_window_pattern"})
        keys.erase(default_of_the_class);
      keys.put("query_pre_attn_scalar", held, "a test");  // a GGUF file has a float
      const auto words = config_of(keys, "a test");
      ASSERT_TRUE(words.has_value()) << words.error().message;
      EXPECT_EQ((*words)["query_pre_attn_scalar"].dump(), written) << type;
    }
  }
}

TEST(HfConfig, PartOfAHeadIsAFactor) {
  for (const auto& [type, field] : {std::pair{"phi", "partial_rotary_factor"}, {"gpt_neox", "rotary_pct"}}) {
    const Json config = {{"model_type", type}, {"hidden_size", 96}, {"num_attention_heads", 4}, {field, 0.25}};
    KeyMap keys = bare_keys(config);
    keys.put("attention.key_length", 24, "a test");
    const auto words = config_of(keys, "a test");
    ASSERT_TRUE(words.has_value()) << words.error().message;
    EXPECT_EQ((*words)[field], 0.25) << type;
  }
}

TEST(HfConfig, AKeyWithoutAWordAndAnUnknownArchitectureAreRefusedByName) {
  KeyMap keys = bare_keys({{"model_type", "llama"}});
  keys.put("attention.odd", 3, "a test");
  const auto odd = config_of(keys, "a test");
  ASSERT_FALSE(odd.has_value());
  EXPECT_EQ(odd.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(odd.error().message, HasSubstr("\"llama.attention.odd\""));
  KeyMap other("a test");
  other.put("general.architecture", "lumma", "a test");
  const auto unknown = config_of(other, "a test");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_THAT(unknown.error().message, HasSubstr("\"lumma\""));
}

TEST(HfConfig, AWindowThatIsNotThereIsNone) {
  const auto words = config_of(bare_keys({{"model_type", "mistral"}, {"sliding_window", nullptr}}), "a test");
  ASSERT_TRUE(words.has_value()) << words.error().message;
  EXPECT_TRUE((*words)["sliding_window"].is_null());
}

TEST(HfConfig, WhatAClassWouldTakeForAnAbsentFieldIsSaid) {
  const auto words = [](const Json& config, const char* without) {
    KeyMap keys = bare_keys(config);
    for (const std::string& key : keys.keys_under("")) {
      if (key.starts_with(without)) keys.erase(key);
    }
    keys.put("attention.key_length", 24, "a test");
    keys.put("rope.dimension_count", 24, "a test");
    auto out = config_of(keys, "a test");
    EXPECT_TRUE(out.has_value()) << out.error().message;
    return out ? *out : Json();
  };
  EXPECT_EQ(words({{"model_type", "gpt_neox"}}, "rope.")["rotary_pct"], 1.0);
  EXPECT_EQ(words({{"model_type", "stablelm"}}, "rope.")["partial_rotary_factor"], 1.0);
  EXPECT_FALSE(words({{"model_type", "llama"}}, "rope.").contains("partial_rotary_factor"));
  EXPECT_EQ(words({{"model_type", "gpt_oss"}}, "rope.")["rope_scaling"]["rope_type"], "default");
  const Json gemma = words({{"model_type", "gemma2"}, {"attn_logit_softcapping", nullptr}}, "rope.");
  EXPECT_TRUE(gemma["attn_logit_softcapping"].is_null());
  EXPECT_EQ(gemma["final_logit_softcapping"], 30.0);
}

}  // namespace hf_config_test
}  // namespace fovea::formats

#include "fovea/formats/hf_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "fovea/formats/hf_words.h"

namespace fovea::formats {
namespace hf_keys_test {

using Json = nlohmann::ordered_json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const Json kLlama = Json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
  "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 1, "hidden_act": "silu", "hidden_size": 64,
  "initializer_range": 0.02, "intermediate_size": 128, "max_position_embeddings": 2048, "num_attention_heads": 4,
  "num_hidden_layers": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "rope_scaling": null,
  "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.40",
  "use_cache": true, "vocab_size": 300})");

HfConfig translate(const Json& changes) {
  Json config = kLlama;
  if (changes.is_object()) config.merge_patch(changes);  // null removes
  auto out = translate_config(config, "\"config.json\"");
  EXPECT_TRUE(out.has_value()) << out.error().message;
  return std::move(out).value();
}
Error refused(const Json& changes) {
  Json config = kLlama;
  config.update(changes);
  const auto out = translate_config(config, "\"config.json\"");
  EXPECT_FALSE(out.has_value());
  return out ? Error() : out.error();
}

TEST(HfKeys, APlainConfigBecomesGgufsKeys) {
  const HfConfig config = translate({});
  EXPECT_THAT(config.keys.keys_under("llama."),
              ElementsAre("llama.attention.head_count", "llama.attention.head_count_kv",
                          "llama.attention.layer_norm_rms_epsilon", "llama.block_count", "llama.context_length",
                          "llama.embedding_length", "llama.feed_forward_length", "llama.hidden_act",
                          "llama.rope.freq_base", "llama.vocab_size"));
  EXPECT_EQ(config.keys.get_u64("llama.block_count").value(), 2u);
  EXPECT_EQ(config.keys.get_f64("llama.rope.freq_base").value(), 500000.0);
  EXPECT_EQ(config.keys.get_string("general.architecture").value(), "llama");
  EXPECT_TRUE(config.untied);
}

TEST(HfKeys, AFieldThatNoRowKnowsIsAKeyUnderItsOwnName) {
  const HfConfig config =
      translate({{"secret_multiplier", 2}, {"another", false}, {"third", 0}, {"list", Json::array()}});
  EXPECT_EQ(config.keys.get_i64("llama.secret_multiplier").value(), 2);
  for (const char* idle : {"llama.another", "llama.third", "llama.list"}) EXPECT_FALSE(config.keys.has(idle)) << idle;
  EXPECT_TRUE(translate({{"attention_bias", true}}).keys.get_bool("llama.attention_bias").value());
}

TEST(HfKeys, AnUnknownModelTypeKeepsItsName) {
  EXPECT_EQ(translate({{"model_type", "wonder"}}).keys.get_string("general.architecture").value(), "wonder");
  EXPECT_THAT(refused({{"model_type", 3}}).message, HasSubstr("model_type"));
  EXPECT_FALSE(translate_config(Json::array(), "c").has_value());
}

TEST(HfKeys, RopeScalingInBothForms) {
  const Json llama3 = {{"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 8192},
                       {"rope_type", "llama3"}};
  Json newer = llama3;
  newer["rope_theta"] = 10000.0;
  const HfConfig old_form = translate({{"rope_scaling", llama3}});
  const HfConfig new_form = translate({{"rope_parameters", newer}, {"rope_theta", nullptr}});
  for (const HfConfig* config : {&old_form, &new_form}) {
    const KeyMap& keys = config->keys;
    EXPECT_EQ(keys.get_string("llama.rope.scaling.type").value(), "llama3");
    EXPECT_EQ(keys.get_f64("llama.rope.scaling.factor").value(), 8);
    EXPECT_EQ(keys.get_f64("llama.rope.scaling.low_freq_factor").value(), 1);
    EXPECT_EQ(keys.get_f64("llama.rope.scaling.high_freq_factor").value(), 4);
    EXPECT_EQ(keys.get_u64("llama.rope.scaling.original_context_length").value(), 8192u);
  }
  EXPECT_EQ(old_form.keys.get_f64("llama.rope.freq_base").value(), 500000);
  EXPECT_EQ(new_form.keys.get_f64("llama.rope.freq_base").value(), 10000);
  EXPECT_FALSE(translate({{"rope_parameters", {{"rope_type", "default"}, {"factor", 2.0}}}})
                   .keys.has("llama.rope.scaling.factor"));
  const HfConfig odd =
      translate({{"rope_scaling", {{"type", "yarn"}, {"factor", 2.0}, {"beta_fast", 16}, {"new", 1}}}});
  EXPECT_TRUE(odd.keys.has("llama.rope.scaling.yarn_beta_fast"));
  EXPECT_TRUE(odd.keys.has("llama.rope.scaling.new"));
  EXPECT_THAT(refused({{"rope_scaling", {{"factor", 2.0}}}}).message, HasSubstr("rope_type"));
  EXPECT_THAT(refused({{"rope_scaling", 2}}).message, HasSubstr("no object"));
}

TEST(HfKeys, RopeOfEachTypeOfLayer) {
  const HfConfig config =
      translate({{"rope_parameters",
                  {{"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1e6}}},
                   {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 1e4}}}}}});
  EXPECT_EQ(config.keys.get_f64("llama.rope.freq_base").value(), 1e6);
  EXPECT_EQ(config.keys.get_f64("llama.rope.freq_base_swa").value(), 1e4);
  EXPECT_EQ(config.keys.get_string("llama.rope.scaling.type").value(), "linear");
  EXPECT_FALSE(config.keys.has("llama.rope.scaling_swa.type"));
}

TEST(HfKeys, APartOfEachHeadIsTurnedWhereTheFamilyDoesThat) {
  const auto phi = [](Json more) {
    more["model_type"] = "phi3";
    return translate(more).keys;
  };
  EXPECT_EQ(phi({{"partial_rotary_factor", 0.5}}).get_u64("phi3.rope.dimension_count").value(), 8u);
  EXPECT_FALSE(phi({{"partial_rotary_factor", 1.0}}).has("phi3.rope.dimension_count"));
  EXPECT_EQ(phi({{"rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.25}}}})
                .get_u64("phi3.rope.dimension_count")
                .value(),
            4u);
  const HfConfig other = translate({{"partial_rotary_factor", 0.5}});  // whose class passes over it
  EXPECT_TRUE(other.keys.has("llama.partial_rotary_factor"));          // refused by that name
  EXPECT_FALSE(other.keys.has("llama.rope.dimension_count"));
  EXPECT_FALSE(translate({{"partial_rotary_factor", 1.0}}).keys.has("llama.partial_rotary_factor"));
}

TEST(HfKeys, WhatIsNotThereIsAsTheClassHasIt) {
  const auto keys = [](const char* type, Json more) {
    more["model_type"] = type;
    return translate(more).keys;
  };
  const Json window = {{"sliding_window", 32}, {"max_window_layers", 1}};
  for (const auto& [type, name] : {std::pair{"qwen2", "qwen2"}, {"qwen3_moe", "qwen3moe"}, {"smollm3", "smollm3"}})
    EXPECT_FALSE(keys(type, window).has(std::string(name) + ".attention.sliding_window")) << type;
  EXPECT_EQ(keys("granite", {}).get_f64("granite.attention.scale").value(), 1);
  const KeyMap bare = keys("gpt_oss", {{"rope_scaling", nullptr}});  // not there
  EXPECT_EQ(bare.get_u64("gpt-oss.attention.sliding_window").value(), 128u);
  EXPECT_EQ(bare.get_f64("gpt-oss.rope.scaling.factor").value(), 32);
  const KeyMap yarn = keys("gpt_oss", {{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 2.0}}}});
  EXPECT_TRUE(yarn.get_bool("gpt-oss.rope.scaling.truncate").value());
  EXPECT_EQ(yarn.get_u64("gpt-oss.rope.scaling.original_context_length").value(), 2048u);
  EXPECT_FALSE(keys("gpt_oss", {{"rope_parameters", {{"rope_type", "default"}}}}).has("gpt-oss.rope.scaling.type"));
  EXPECT_EQ(keys("gemma2", {}).get_f64("gemma2.attn_logit_softcapping").value(), 50);
}

TEST(HfKeys, ACapOfGemma2ThatIsNullIsNone) {
  const auto config = translate_config(Json::parse(R"({"model_type": "gemma2", "attn_logit_softcapping": null})"), "c");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_FALSE(config->keys.get_bool("gemma2.attn_logit_softcapping").value());
  EXPECT_EQ(config->keys.get_f64("gemma2.final_logit_softcapping").value(), 30);
}

TEST(HfKeys, AWindowThatNoLayerHasIsNone) {
  const Json sliding = {{"sliding_window", 32}, {"max_window_layers", 1}};
  const auto has_window = [&](const Json& more) {
    Json changes = sliding;
    if (more.is_object()) changes.update(more);
    return translate(changes).keys.has("llama.attention.sliding_window");
  };
  EXPECT_TRUE(has_window({}));
  EXPECT_FALSE(has_window({{"use_sliding_window", false}}));
  EXPECT_FALSE(has_window({{"layer_types", {"full_attention", "full_attention"}}}));
  EXPECT_TRUE(has_window({{"layer_types", {"full_attention", "sliding_attention"}}}));
  EXPECT_FALSE(translate({{"max_window_layers", 1}}).keys.has("llama.max_window_layers"));
}

TEST(HfKeys, AModelThatSeesImagesGivesItsLanguageModel) {
  const auto config = translate_config(
      Json::parse(R"({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "hidden_size": 2560,
        "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024},
        "vision_config": {"hidden_size": 1152}})"),
      "c");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->keys.get_u64("gemma3.embedding_length").value(), 2560u);
  EXPECT_EQ(config->keys.get_u64("gemma3.attention.head_count").value(), 8u);  // what the class takes for granted
  EXPECT_EQ(config->keys.get_u64("gemma3.attention.sliding_window").value(), 1024u);
  EXPECT_THAT(config->warnings, ElementsAre(HasSubstr("text")));
  EXPECT_EQ(weight_name("vision_tower.x.weight", *config), "");
  EXPECT_EQ(weight_name("language_model.model.norm.weight", *config), "model.norm.weight");
}

TEST(HfKeys, TablesThatOldVersionsStoredAreNoWeights) {
  EXPECT_EQ(weight_name("model.layers.0.self_attn.rotary_emb.inv_freq", translate({})), "");
  EXPECT_EQ(weight_name("transformer.h.0.attn.bias", translate({{"model_type", "gpt2"}})), "");
  EXPECT_EQ(weight_name("model.layers.0.attn.bias", translate({})), "model.layers.0.attn.bias");
}

TEST(HfKeys, EveryFlagIsTrueOrFalse) {
  for (const std::string_view name : kHfBools) {
    for (const Json& value : {Json("x"), Json(1), Json::array()}) {
      const Error error = refused({{std::string(name), value}});
      EXPECT_EQ(error.where, name);
      EXPECT_THAT(error.message, HasSubstr("true or false is needed"));
    }
    EXPECT_THAT(refused({{"text_config", {{std::string(name), "x"}}}}).message, HasSubstr(std::string(name)));
  }
  for (const HfRow& row : kHfRows) {  // none is forgotten
    const bool is_flag = row.idle == "true" || row.idle == "false";
    const bool listed = std::find(std::begin(kHfBools), std::end(kHfBools), row.field) != std::end(kHfBools);
    EXPECT_TRUE(listed || !is_flag) << row.field;
  }
}

}  // namespace hf_keys_test
}  // namespace fovea::formats

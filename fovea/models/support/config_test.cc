// Rows C1, C2, C4 and C5 of the catalogue of bad inputs, G12 and G24, and what the families here do
// not do: each is refused with the key and what is allowed. (C3 is in weights_test.cc.)
#include "fovea/models/support/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>

#include "fovea/formats/gguf.h"
#include "fovea/models/family.h"
#include "fovea/models/support/decoder.h"
#include "fovea/models/testing/model_recipe.h"

namespace fovea::models {
namespace config_test {

using formats::Gguf;
using formats::GgufWriter;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Result<Config> config_of(const ModelRecipe& recipe, const std::function<void(GgufWriter&)>& finish = {}) {
  const std::string file = recipe.build(finish);
  const auto gguf = Gguf::parse({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "m.gguf");
  if (!gguf) return gguf.error();
  return read_config(gguf.value());
}

// The message names the file and every one of `parts`; `where` is the key.
void expect_refused(const Result<Config>& config, ErrorCode code, const std::string& key,
                    const std::vector<std::string>& parts) {
  ASSERT_FALSE(config.has_value()) << key << " was accepted";
  EXPECT_STREQ(name_of(config.error().code), name_of(code)) << config.error().message;
  EXPECT_EQ(config.error().where, key);
  EXPECT_THAT(config.error().message, HasSubstr("m.gguf"));
  for (const std::string& part : parts) EXPECT_THAT(config.error().message, HasSubstr(part));
}

const std::string kHeads = "llama.attention.head_count", kKvHeads = "llama.attention.head_count_kv";
const std::string kEps = "llama.attention.layer_norm_rms_epsilon";

TEST(ReadConfig, TakesEverySizeFromItsKey) {
  const auto config = config_of(ModelRecipe());
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->architecture, "llama");
  const attention::ModelShape& s = config->shape;
  EXPECT_THAT(
      (std::vector<int>{s.n_layers, s.n_heads, s.n_kv_heads, s.head_dim, s.d_model, s.d_ff, s.vocab_size, s.n_ctx}),
      ElementsAre(1, 2, 1, 4, 8, 4, 4, 16));
  EXPECT_EQ(config->norm_eps, 1e-5f);
  EXPECT_THAT(config->ropes[0].inv_freq, ElementsAre(1.0f, 0.01f));  // base 10000, 2 pairs
}

TEST(ReadConfig, WithoutAKeyForKvHeadsEveryQueryHeadHasItsOwn) {
  const auto config = config_of(ModelRecipe().drop(kKvHeads));
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->shape.n_kv_heads, 2);
}

TEST(ReadConfig, LinearScalingAndFactorsPerPairDivideTheAngles) {
  ModelRecipe scaled;
  scaled.set("llama.rope.scaling.type", "linear").set("llama.rope.scaling.factor", 4.0f);
  EXPECT_THAT(config_of(scaled)->ropes[0].inv_freq, ElementsAre(0.25f, 0.0025f));
  EXPECT_THAT(config_of(ModelRecipe().set("llama.rope.scaling.factor", 4.0f))->ropes[0].inv_freq,
              ElementsAre(0.25f, 0.0025f));  // linear where no type is said
  ModelRecipe llama3;
  llama3.tensors = {{"rope_freqs.weight", {2}}};
  const auto config = config_of(
      llama3, [](GgufWriter& w) { w.data().replace(0, 8, GgufWriter::number(1.0f) + GgufWriter::number(8.0f)); });
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_THAT(config->ropes[0].inv_freq, ElementsAre(1.0f, 0.00125f));
}

TEST(ReadConfig, G12_AnUnknownArchitectureIsToldWhichAreKnown) {
  expect_refused(config_of(ModelRecipe().set("general.architecture", "rwkv")), ErrorCode::kUnsupported,
                 "general.architecture", {"rwkv", "llama", "qwen2"});
  EXPECT_FALSE(config_of(ModelRecipe().drop("general.architecture")).has_value());
}

TEST(ReadConfig, G24_OtherKindsOfFileAreNamed) {
  const std::string key = "general.architecture";
  expect_refused(config_of(ModelRecipe().set(key, "clip")), ErrorCode::kUnsupported, key, {"a projector file"});
  expect_refused(config_of(ModelRecipe().set("general.type", "adapter")), ErrorCode::kUnsupported, key, {"LoRA"});
  ModelRecipe bare;
  bare.tensors.clear();
  expect_refused(config_of(bare), ErrorCode::kUnsupported, key, {"vocabulary"});
}

TEST(ReadConfig, C1_NoHeads) {
  expect_refused(config_of(ModelRecipe().set(kHeads, uint32_t{0})), ErrorCode::kData, kHeads, {"is 0", "1 to 1024"});
}

TEST(ReadConfig, C1_HeadsThatDoNotDivideTheWidth) {
  expect_refused(config_of(ModelRecipe().set(kHeads, uint32_t{3}).set(kKvHeads, uint32_t{1})), ErrorCode::kData, kHeads,
                 {"3 heads", "width 8"});
}

TEST(ReadConfig, C1_KvHeadsZeroMoreThanHeadsOrNotDividing) {
  expect_refused(config_of(ModelRecipe().set(kKvHeads, uint32_t{0})), ErrorCode::kData, kKvHeads, {"is 0", "1 to 2"});
  expect_refused(config_of(ModelRecipe().set(kKvHeads, uint32_t{3})), ErrorCode::kLimit, kKvHeads, {"is 3", "1 to 2"});
  expect_refused(config_of(ModelRecipe().set(kHeads, uint32_t{4}).set(kKvHeads, uint32_t{3})), ErrorCode::kData,
                 kKvHeads, {"4 query heads", "3 KV heads"});
}

TEST(ReadConfig, C2_LayersOverTheCapOrMoreThanTensors) {
  expect_refused(config_of(ModelRecipe().set("llama.block_count", uint32_t{1} << 31)), ErrorCode::kLimit,
                 "llama.block_count", {"1 to 1024"});
  expect_refused(config_of(ModelRecipe().set("llama.block_count", uint32_t{500})), ErrorCode::kData,
                 "llama.block_count", {"500 layers", "11 tensors"});
}

TEST(ReadConfig, C2_ContextAndWidthsOverTheirCaps) {
  for (const char* key : {"llama.context_length", "llama.embedding_length", "llama.feed_forward_length"}) {
    expect_refused(config_of(ModelRecipe().set(key, uint64_t{1} << 40)), ErrorCode::kLimit, key, {"1099511627776"});
    EXPECT_FALSE(config_of(ModelRecipe().set(key, uint32_t{0})).has_value()) << key;
    EXPECT_FALSE(config_of(ModelRecipe().set(key, int32_t{-8})).has_value()) << key;
  }
}

TEST(ReadConfig, C2_AnEmptyVocabulary) {
  expect_refused(config_of(ModelRecipe().set("tokenizer.ggml.tokens", std::vector<std::string>{})), ErrorCode::kData,
                 "tokenizer.ggml.tokens", {"0 tokens"});
}

TEST(ReadConfig, C2_OddHeadsCannotTurnInPairs) {
  const std::string key = "llama.attention.key_length", turned = "llama.rope.dimension_count";
  expect_refused(config_of(ModelRecipe().set(key, uint32_t{3})), ErrorCode::kData, key, {"3 wide", "even"});
  expect_refused(config_of(ModelRecipe().set(turned, uint32_t{3})), ErrorCode::kData, turned, {"3 turned", "even"});
  expect_refused(config_of(ModelRecipe().set(turned, uint32_t{6})), ErrorCode::kLimit, turned, {"is 6", "2 to 4"});
}

TEST(ReadConfig, C4_RopeBasesThatAreNoBase) {
  const std::string key = "llama.rope.freq_base";
  for (const float base : {0.0f, -1.0f, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    expect_refused(config_of(ModelRecipe().set(key, base)), ErrorCode::kData, key, {"are allowed"});
  }
}

TEST(ReadConfig, C4_ScalingThatIsUnknownOrDividesByZero) {
  const std::string type = "llama.rope.scaling.type", factor = "llama.rope.scaling.factor";
  expect_refused(config_of(ModelRecipe().set(type, "spiral")), ErrorCode::kUnsupported, type,
                 {"spiral", "yarn and longrope"});
  expect_refused(config_of(ModelRecipe().set(type, "yarn").set(factor, 2.0f)), ErrorCode::kData,
                 "llama.rope.scaling.original_context_length", {"missing"});
  expect_refused(config_of(ModelRecipe().set(type, "linear").set(factor, 0.0f)), ErrorCode::kData, factor, {"is 0"});
}

TEST(ReadConfig, C4_FactorsPerPairThatAreNoFactors) {
  ModelRecipe recipe;
  recipe.tensors = {{"rope_freqs.weight", {2}}};
  for (const float bad : {0.0f, -1.0f, std::nanf("")}) {
    const auto config = config_of(
        recipe, [bad](GgufWriter& w) { w.data().replace(0, 8, GgufWriter::number(bad) + GgufWriter::number(1.0f)); });
    expect_refused(config, ErrorCode::kData, "tensor rope_freqs.weight", {"holds"});
  }
  recipe.tensors = {{"rope_freqs.weight", {3}}};
  expect_refused(config_of(recipe), ErrorCode::kData, "tensor rope_freqs.weight", {"F32 [2]"});
}

TEST(ReadConfig, C5_AnEpsilonOfZeroNaNOrNone) {
  for (const float value : {0.0f, -1e-5f, std::nanf("")}) {
    expect_refused(config_of(ModelRecipe().set(kEps, value)), ErrorCode::kData, kEps, {"are allowed"});
  }
  expect_refused(config_of(ModelRecipe().drop(kEps)), ErrorCode::kData, kEps, {"missing"});
}

TEST(ReadConfig, C5_SoftcapsOfZeroAndInfiniteLogitScales) {
  for (const char* key : {"llama.attn_logit_softcapping", "llama.final_logit_softcapping"}) {
    expect_refused(config_of(ModelRecipe().set(key, 0.0f)), ErrorCode::kData, key, {"is 0"});
  }
  expect_refused(config_of(ModelRecipe().set("llama.logit_scale", std::numeric_limits<float>::infinity())),
                 ErrorCode::kData, "llama.logit_scale", {"inf"});
}

// What a family lists as read, is read: a value that is no number or name is refused.
TEST(ReadConfig, EveryFamilyReadsTheKeysItLists) {
  for (const auto& [architecture, family] : family_registry()) {
    for (const FamilyKey& key : family.keys) {
      if (key.use != FamilyKey::Use::kRead) continue;
      const std::string name = architecture + "." + std::string(key.name);
      ModelRecipe recipe = ModelRecipe(architecture);
      recipe.set(name, std::vector<std::string>{"?", "?"});
      expect_refused(config_of(recipe), ErrorCode::kData, name, {name});
    }
  }
}

TEST(ReadConfig, KeysOfTheArchitectureThatNoFamilyListsAreRefused) {
  for (const auto& entry : family_registry()) {
    const std::string a = entry.first + ".";
    for (const char* key : {"rope.scaling.yarn_log_multiplier", "attention.max_alibi_bias", "use_parallel_residual",
                            "attention.clamp_kqv", "rope.dimension_sections", "nobody.knows"}) {
      if (ModelRecipe::lists(entry.first, key)) continue;
      expect_refused(config_of(ModelRecipe(entry.first).set(a + key, 1.0f)), ErrorCode::kUnsupported, a + key,
                     {a + key, "the " + entry.first + " family"});
    }
    const auto& keys = entry.second.keys;
    const auto causal =
        std::find_if(keys.begin(), keys.end(), [](const auto& k) { return k.name == "attention.causal"; });
    ASSERT_NE(causal, keys.end()) << entry.first;
    const bool other = causal->only != "true";
    expect_refused(config_of(ModelRecipe(entry.first).set(a + "attention.causal", other)), ErrorCode::kUnsupported,
                   a + "attention.causal", {fmt::format("is \"{}\"", other), fmt::format("only \"{}\"", causal->only)});
  }
}

TEST(ReadConfig, KeysThatAskForNothingOrBelongToOthersAreTaken) {
  ModelRecipe recipe;
  recipe.set("llama.attention.causal", true)
      .set("llama.expert_count", uint32_t{0})
      .set("llama.vocab_size", uint32_t{4});
  recipe.set("llama.rope.scaling.finetuned", false).set("llama.tensor_data_layout", "Meta AI original pth");
  recipe.set("qwen2.attention.causal", false).set("general.file_type", uint32_t{7}).set("llamas.x", uint32_t{1});
  const auto config = config_of(recipe);
  EXPECT_TRUE(config.has_value()) << config.error().message;
  expect_refused(config_of(recipe.set("llama.vocab_size", uint32_t{5})), ErrorCode::kData, "llama.vocab_size",
                 {"is 5", "4 tokens"});
}

TEST(ReadConfig, RefusesWhatTheFamilyDoesNotDoInsteadOfIgnoringIt) {
  for (const char* key : {"llama.attention.sliding_window", "llama.final_logit_softcapping", "llama.attention.scale"}) {
    expect_refused(config_of(ModelRecipe().set(key, uint32_t{2})), ErrorCode::kUnsupported, key, {key});
  }
  expect_refused(config_of(ModelRecipe().set("llama.attention.value_length", uint32_t{2})), ErrorCode::kUnsupported,
                 "llama.attention.value_length", {"values are 2 wide and keys 4"});
}

// A llama whose odd layers see a window.
class Windowed final : public Decoder {
 public:
  explicit Windowed(const Config& config) : Decoder(config) {}
  static Status configure(const Keys& keys, Config& config) {
    FOVEA_ASSIGN_OR_RETURN(const int64_t window, keys.size("attention.sliding_window", 1, 100));
    std::vector<attention::AttentionShape> layers;
    for (int l = 0; l < config.shape.n_layers; ++l) {
      layers.push_back(config.shape.site(l));
      if (l % 2 == 1) layers.back().window = static_cast<int>(window);
    }
    config.shape.attention = std::move(layers);
    return {};
  }
};
FOVEA_REGISTER_FAMILY(Windowed, "test-windowed", decoder_keys({{"attention.sliding_window"}}));

TEST(ReadConfig, AFamilyReadsWhatAPlainDecoderDoesNotHave) {
  const auto config_of = [](const ModelRecipe& recipe) {
    const std::string file = recipe.build();
    const auto gguf = formats::Gguf::parse({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "m.gguf");
    return read_config(*gguf);
  };
  ModelRecipe recipe("test-windowed");
  recipe.set("test-windowed.block_count", uint32_t{3});
  const auto windowed = config_of(recipe.set("test-windowed.attention.sliding_window", uint32_t{7}));
  ASSERT_TRUE(windowed.has_value()) << windowed.error().message;
  EXPECT_EQ(windowed->shape.site(1).window, 7);
  EXPECT_EQ(windowed->shape.site(2).window, INT_MAX);
  const auto none = config_of(recipe.set("test-windowed.attention.sliding_window", int32_t{0}));
  ASSERT_FALSE(none.has_value());
  EXPECT_THAT(none.error().message, HasSubstr("is 0; 1 to 100 are allowed"));
}

}  // namespace config_test
}  // namespace fovea::models

// Rows C1-C5, G12, G23, G24, T6 and T7 of the catalogue of bad inputs: files that are right as GGUF
// and wrong as models.
#include "fovea/engine/model_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <stdexcept>

#include "fovea/formats/gguf.h"
#include "fovea/models/testing/model_recipe.h"

namespace fovea::engine {
namespace model_check_test {

using formats::Gguf;
using formats::GgufWriter;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Twice as wide, so that its heads have a width that runs.
struct Recipe : models::ModelRecipe {
  Recipe() {
    set("llama.embedding_length", uint32_t{16});
    for (auto& [name, dims] : tensors) {
      for (uint64_t& n : dims) n = n == 8 ? 16 : n;
    }
    for (const char* name : {"blk.0.attn_k.weight", "blk.0.attn_v.weight"}) tensors[name] = {16, 8};
  }
  template <typename T>
  Recipe& set(const std::string& key, const T& value) {
    ModelRecipe::set(key, value);
    return *this;
  }
  Recipe& drop(const std::string& key) {
    ModelRecipe::drop(key);
    return *this;
  }
  std::vector<Error> check(bool strict = false, const std::function<void(std::string&)>& spoil = {}) const {
    const std::string file = build([&](GgufWriter& w) {
      if (spoil) spoil(w.data());
    });
    const auto gguf =
        Gguf::parse({reinterpret_cast<const std::byte*>(file.data()), file.size()}, "m.gguf", {.strict = strict});
    if (!gguf) throw std::runtime_error(gguf.error().message);
    return check_model(gguf.value(), {.strict = strict}).problems;
  }
  // The only problem, whose message holds every one of `parts`.
  void expect(ErrorCode code, const std::vector<std::string>& parts, const std::string& where = "") const {
    const std::vector<Error> problems = check();
    ASSERT_EQ(problems.size(), 1u) << (problems.empty() ? "none" : problems[1].message);
    EXPECT_EQ(std::string(name_of(problems[0].code)), name_of(code)) << problems[0].message;
    for (const std::string& part : parts) EXPECT_THAT(problems[0].message, HasSubstr(part));
    EXPECT_THAT(problems[0].message, HasSubstr("m.gguf"));
    EXPECT_FALSE(problems[0].where.empty());
    if (!where.empty()) {
      EXPECT_EQ(problems[0].where, where);
    }
  }
};

TEST(CheckModel, ASoundModelHasNoProblems) { EXPECT_THAT(Recipe().check(true), IsEmpty()); }

TEST(CheckModel, G12_AnUnknownArchitectureIsToldWhichAreKnown) {
  Recipe().set("general.architecture", "rwkv").expect(ErrorCode::kUnsupported, {"rwkv", "llama", "qwen2"});
  Recipe().drop("general.architecture").expect(ErrorCode::kData, {"general.architecture"});
}

TEST(CheckModel, G23_WeightsThatAreNotNumbersAreCounted) {
  const auto problems =
      Recipe().check(false, [](std::string& data) { data.replace(4, 4, GgufWriter::number(std::nanf(""))); });
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_THAT(problems[0].message, AllOf(HasSubstr("1 values"), HasSubstr("NaN"), HasSubstr("tensor")));
}

TEST(CheckModel, G24_OtherKindsOfFileAreNamed) {
  Recipe().set("general.architecture", "clip").expect(ErrorCode::kUnsupported, {"a projector file"});
  Recipe().set("general.type", "adapter").expect(ErrorCode::kUnsupported, {"LoRA"});
  Recipe empty;
  empty.tensors.clear();
  empty.expect(ErrorCode::kUnsupported, {"vocabulary"});
}

TEST(CheckModel, C1_HeadsDivideTheWidthAndEachOther) {
  const std::string heads = "llama.attention.head_count", kv = "llama.attention.head_count_kv";
  Recipe().set(heads, uint32_t{0}).expect(ErrorCode::kData, {heads, "is 0"});
  Recipe().set(heads, uint32_t{3}).set(kv, uint32_t{1}).expect(ErrorCode::kData, {"3 heads", "width 16"});
  Recipe().set(kv, uint32_t{0}).expect(ErrorCode::kData, {kv});
  Recipe().set(kv, uint32_t{3}).expect(ErrorCode::kLimit, {kv, "1 to 2"});
  Recipe().set(heads, uint32_t{4}).set(kv, uint32_t{3}).expect(ErrorCode::kData, {"4 query heads", "3 KV heads"});
}

TEST(CheckModel, C2_SizesMeetTheirCapsBeforeAnythingIsAllocated) {
  Recipe().set("llama.block_count", uint32_t{1} << 31).expect(ErrorCode::kLimit, {"llama.block_count", "1024"});
  Recipe().set("llama.block_count", uint32_t{500}).expect(ErrorCode::kData, {"500 layers", "11 tensors"});
  Recipe().set("llama.context_length", uint64_t{1} << 40).expect(ErrorCode::kLimit, {"llama.context_length"});
  Recipe().set("llama.attention.key_length", uint32_t{3}).expect(ErrorCode::kData, {"3 wide", "even"});
  Recipe().set("tokenizer.ggml.tokens", std::vector<std::string>{}).expect(ErrorCode::kData, {"0 tokens"});
  Recipe().set("llama.embedding_length", int32_t{-8}).expect(ErrorCode::kData, {"llama.embedding_length", "negative"});
}

TEST(CheckModel, C3_TensorsAreThereInTheRightShape) {
  Recipe missing;
  missing.tensors.erase("blk.0.ffn_up.weight");
  missing.expect(ErrorCode::kData, {"blk.0.ffn_up.weight", "missing", "[16, 4]"});
  Recipe turned;
  turned.tensors["blk.0.ffn_down.weight"] = {16, 4};
  turned.expect(ErrorCode::kData, {"blk.0.ffn_down.weight", "[16, 4]", "[4, 16]"});
}

TEST(CheckModel, C4_RopeBaseAndScaling) {
  for (const float base : {0.0f, -1.0f, std::nanf(""), std::numeric_limits<float>::infinity()}) {
    Recipe().set("llama.rope.freq_base", base).expect(ErrorCode::kData, {"llama.rope.freq_base"});
  }
  Recipe().set("llama.rope.scaling.type", "spiral").expect(ErrorCode::kUnsupported, {"spiral", "linear"});
  Recipe().set("llama.rope.scaling.factor", 0.0f).expect(ErrorCode::kData, {"llama.rope.scaling.factor"});
}

TEST(CheckModel, C5_EpsilonSoftcapAndLogitScale) {
  const std::string eps = "llama.attention.layer_norm_rms_epsilon";
  for (const float value : {0.0f, std::nanf(""), -1e-5f}) Recipe().set(eps, value).expect(ErrorCode::kData, {eps});
  Recipe().drop(eps).expect(ErrorCode::kData, {eps, "missing"});
  Recipe().set("llama.final_logit_softcapping", 0.0f).expect(ErrorCode::kData, {"softcapping"});
  Recipe().set("llama.logit_scale", std::numeric_limits<float>::infinity()).expect(ErrorCode::kData, {"logit_scale"});
}

TEST(CheckModel, T6_TheVocabularyIsSound) {
  const std::string merges = "tokenizer.ggml.merges", types = "tokenizer.ggml.token_type";
  Recipe().set(merges, std::vector<std::string>{"a c"}).expect(ErrorCode::kData, {"merge 0", "not in the vocabulary"});
  Recipe().set(merges, std::vector<std::string>{"a b", "a b"}).expect(ErrorCode::kData, {"merge 1", "twice"});
  Recipe().set(merges, std::vector<std::string>{"ab"}).expect(ErrorCode::kData, {"merge 0"});
  Recipe().set(types, std::vector<int32_t>{1, 1, 1, 9}).expect(ErrorCode::kData, {"token 3", "type 9"});
  Recipe().set(types, std::vector<int32_t>{1}).expect(ErrorCode::kData, {"1 token types for 4 tokens"});
  Recipe().set("tokenizer.ggml.scores", std::vector<float>{1}).expect(ErrorCode::kData, {"1 scores for 4 tokens"});
  Recipe()
      .set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab", std::string(70'000, 'x')})
      .expect(ErrorCode::kData, {"token 3", "70000"});
}

TEST(CheckModel, SaysWhatARunSaysOfTheTokenizer) {
  const std::string kind = "tokenizer.ggml.model", pre = "tokenizer.ggml.pre";
  Recipe().set(pre, "no-such-rule").expect(ErrorCode::kUnsupported, {"no-such-rule", "qwen2"}, pre);
  Recipe().drop(pre).expect(ErrorCode::kData, {pre, "missing"}, pre);
  Recipe().set(kind, "rwkv").expect(ErrorCode::kUnsupported, {"\"rwkv\"", "gpt2"}, kind);
  Recipe()
      .set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab", "a"})
      .expect(ErrorCode::kData, {"tokens 0 and 3"}, "tokenizer.ggml.tokens");
}

TEST(CheckModel, SaysWhatARunSaysOfTheTemplate) {
  const std::string key = "tokenizer.chat_template";
  Recipe().set(key, "{% if %}").expect(ErrorCode::kData, {"chat template"}, key);
  Recipe().set(key, "{{ raise_exception('no users') }}").expect(ErrorCode::kData, {"no users"}, key);
  EXPECT_THAT(Recipe().set(key, "{{ messages[0].content }}").check(), IsEmpty());
}

TEST(CheckModel, SaysWhatARunSaysOfTheConfigurationAndTheWeights) {
  Recipe()
      .set("llama.attention.key_length", uint32_t{4})
      .expect(ErrorCode::kUnsupported, {"4 wide"}, "llama.attention.key_length");
  Recipe().set("llama.attention.causal", false).expect(ErrorCode::kUnsupported, {"causal"}, "llama.attention.causal");
  Recipe stray;
  stray.tensors["blk.0.attn_q_norm.weight"] = {8};
  stray.expect(ErrorCode::kUnsupported, {"attn_q_norm"}, "tensor blk.0.attn_q_norm.weight");
  Recipe uncounted;
  uncounted.tensors["blk.1.attn_norm.weight"] = {16};
  uncounted.expect(ErrorCode::kData, {"counts 1 blocks", "blk.1"}, "llama.block_count");
  EXPECT_EQ(uncounted.check(true).size(), 1u);
}

TEST(CheckModel, T7_SpecialTokensAreInTheVocabulary) {
  Recipe().set("tokenizer.ggml.eos_token_id", uint32_t{4}).expect(ErrorCode::kData, {"eos_token_id", "4 tokens"});
  Recipe().set("tokenizer.ggml.bos_token_id", int32_t{-1}).expect(ErrorCode::kData, {"bos_token_id"});
  Recipe endless;
  endless.drop("tokenizer.ggml.eos_token_id");
  EXPECT_THAT(endless.check(), IsEmpty());
  EXPECT_EQ(endless.check(true).size(), 1u);
}

}  // namespace model_check_test
}  // namespace fovea::engine

#include "fovea/formats/lora_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // mkdtemp

#include <cmath>
#include <cstring>
#include <filesystem>

#include "fovea/base/file.h"
#include "fovea/formats/testing/gguf_writer.h"
#include "fovea/formats/testing/safetensors_bytes.h"

namespace fovea::formats {
namespace lora_file_test {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kConfig = R"({"peft_type": "LORA", "r": 2, "lora_alpha": 6})";
const std::string kQ = "base_model.model.model.layers.0.self_attn.q_proj.";

std::span<const std::byte> bytes(const std::string& text) { return std::as_bytes(std::span(text)); }
std::string floats(std::initializer_list<float> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(float)};
}
std::vector<float> values(const tensor::Tensor& t) { return {t.values().begin(), t.values().end()}; }

Result<LoraFile> peft(const SafetensorsFile& weights, const std::string& config = kConfig) {
  return parse_peft(bytes(config), bytes(weights.build()), "config", "weights");
}
void refuses(const Result<LoraFile>& read, ErrorCode code, std::initializer_list<const char*> words) {
  ASSERT_FALSE(read.has_value());
  EXPECT_EQ(read.error().code, code) << read.error().message;
  for (const char* word : words) EXPECT_THAT(read.error().message, HasSubstr(word));
}

// q of 3 rows and 4 columns.
SafetensorsFile pair_file() {
  SafetensorsFile file;
  file.add(kQ + "lora_A.weight", {2, 4}, "F32", floats({1, 2, 3, 4, 5, 6, 7, 8}));
  file.add(kQ + "lora_B.weight", {3, 2}, "F32", floats({1, 0, 0, 1, 2, 2}));
  return file;
}

TEST(LoraFile, PeftsPairsAreReadWithTheirScale) {
  const auto read = peft(pair_file());
  ASSERT_TRUE(read.has_value()) << read.error().message;
  ASSERT_EQ(read->pairs.size(), 1u);
  const LoraPair& pair = read->pairs[0];
  EXPECT_EQ(pair.weight, "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(pair.a.shape(), tensor::Shape({2, 4}));
  EXPECT_EQ(pair.b.shape(), tensor::Shape({3, 2}));
  EXPECT_THAT(values(pair.b), ElementsAre(1, 0, 0, 1, 2, 2));
  EXPECT_EQ(pair.scale, 3);
  EXPECT_FALSE(pair.embedding);
}

TEST(LoraFile, AlphasAndRanksAreThoseOfTheFirstPatternThatFits) {
  const auto scale = [](const std::string& more) {
    const auto read = peft(pair_file(), R"({"peft_type": "LORA", "r": 2, "lora_alpha": 6)" + more + "}");
    EXPECT_TRUE(read.has_value()) << read.error().message;
    return read ? read->pairs[0].scale : NAN;
  };
  EXPECT_EQ(scale(""), 3);
  EXPECT_FLOAT_EQ(static_cast<float>(scale(R"(, "use_rslora": true)")), 6 / std::sqrt(2.0f));
  EXPECT_EQ(scale(R"(, "alpha_pattern": {"q_proj": 10, "self_attn.q_proj": 20})"), 5);
  EXPECT_EQ(scale(R"(, "alpha_pattern": {"_proj": 10, "layers.0.self_attn.q_proj": 20})"), 10);  // whole words only
  EXPECT_EQ(scale(R"(, "alpha_pattern": {"^self_attn.q_proj": 10})"), 3);
  EXPECT_EQ(scale(R"(, "alpha_pattern": {"^model.layers.0.self_attn.q_proj": 10})"), 5);
  EXPECT_EQ(scale(R"(, "rank_pattern": {"q_proj": 2, "k_proj": 7})"), 3);
  EXPECT_EQ(scale(R"(, "something_new": null, "another": false, "third": [])"), 3);
}

TEST(LoraFile, APairOfAnEmbeddingIsTurnedToTheRowsOfTheTable) {
  const std::string name = "base_model.model.model.embed_tokens.lora_embedding_";
  const auto read = peft(SafetensorsFile()
                             .add(name + "A", {2, 3}, "F32", floats({1, 2, 3, 4, 5, 6}))          // [rank, tokens]
                             .add(name + "B", {4, 2}, "F32", floats({1, 2, 3, 4, 5, 6, 7, 8})));  // [d_model, rank]
  ASSERT_TRUE(read.has_value()) << read.error().message;
  const LoraPair& pair = read->pairs[0];
  EXPECT_TRUE(pair.embedding);
  EXPECT_EQ(pair.b.shape(), tensor::Shape({3, 2}));
  EXPECT_THAT(values(pair.b), ElementsAre(1, 4, 2, 5, 3, 6));
  EXPECT_THAT(values(pair.a), ElementsAre(1, 3, 5, 7, 2, 4, 6, 8));
}

TEST(LoraFile, WhatIsNoPlainLoraIsRefusedByTheNameOfItsField) {
  const auto with = [](const std::string& more) {
    return peft(pair_file(), R"({"peft_type": "LORA", "r": 2, "lora_alpha": 6, )" + more + "}");
  };
  for (const auto& [more, field] :
       {std::pair{R"("use_dora": true)", "use_dora"}, std::pair{R"("modules_to_save": ["lm_head"])", "lm_head"},
        std::pair{R"("bias": "lora_only")", "lora_only"}, std::pair{R"("lora_bias": true)", "lora_bias"},
        std::pair{R"("layer_replication": [[0, 4]])", "layer_replication"},
        std::pair{R"("target_parameters": ["experts.up"])", "target_parameters"},
        std::pair{R"("trainable_token_indices": [3])", "trainable_token_indices"},
        std::pair{R"("alora_invocation_tokens": [3])", "alora_invocation_tokens"},
        std::pair{R"("init_lora_weights": "pissa_niter_4")", "pissa_niter_4"},
        std::pair{R"("alpha_pattern": {".*q_proj": 3})", "regular expression"},
        std::pair{R"("of_next_year": {"x": 1})", "of_next_year"}}) {
    refuses(with(more), ErrorCode::kUnsupported, {"config", field});
  }
  refuses(peft(pair_file(), R"({"peft_type": "IA3"})"), ErrorCode::kUnsupported, {"peft_type", "IA3"});
  refuses(peft(pair_file(), "{}"), ErrorCode::kUnsupported, {"peft_type", "missing"});
  refuses(peft(pair_file(), R"({"peft_type": "LORA", "r": 0})"), ErrorCode::kData, {"\"r\"", "0"});
  refuses(peft(pair_file(), R"({"peft_type": "LORA", "r": "2"})"), ErrorCode::kData, {"\"r\""});
  refuses(peft(pair_file(), R"({"peft_type": "LORA", "r": 2, "lora_alpha": 1e30})"), ErrorCode::kData, {"lora_alpha"});
  refuses(peft(pair_file(), R"({"peft_type": "LORA", "r": 4})"), ErrorCode::kData, {"q_proj", "rank 4", "2"});
  refuses(peft(pair_file(), R"({"peft_type": "LORA", "r": 2, "rank_pattern": {"q_proj": 3}})"), ErrorCode::kData,
          {"rank_pattern"});
  refuses(peft(pair_file(), "[1]"), ErrorCode::kData, {"no JSON object"});
  refuses(peft(pair_file(), ""), ErrorCode::kData, {"config"});
}

TEST(LoraFile, TensorsThatAreNoPairAreRefusedByName) {
  const auto one = [](const std::string& name) { return peft(pair_file().add(name, {2, 2})); };
  refuses(one(kQ + "lora_magnitude_vector"), ErrorCode::kUnsupported, {"weights", "lora_magnitude_vector", "DoRA"});
  refuses(one(kQ + "lora_B.bias"), ErrorCode::kUnsupported, {"lora_B.bias"});
  refuses(one("base_model.model.lm_head.modules_to_save.weight"), ErrorCode::kUnsupported,
          {"lm_head", "modules_to_save"});
  refuses(one("base_model.model.lm_head.weight"), ErrorCode::kUnsupported, {"lm_head.weight", "saved whole"});
  refuses(one("base_model.model.x.lora_A.weight"), ErrorCode::kData, {"x.lora_A", "missing"});
  refuses(one("base_model.model.x.lora_B.weight"), ErrorCode::kData, {"x.lora_B", "missing"});
  const std::string a = kQ + "lora_A.weight", b = kQ + "lora_B.weight";
  refuses(peft(SafetensorsFile().add(a, {2, 4}).add(b, {3, 1})), ErrorCode::kData,
          {"[2, 4]", "[3, 1]", "ranks differ"});
  refuses(peft(SafetensorsFile().add(a, {2, 4, 1}).add(b, {3, 2})), ErrorCode::kUnsupported, {"[2, 4, 1]"});
  refuses(peft(SafetensorsFile().add(a, {2, 4}, "U8", std::string(8, 1)).add(b, {3, 2})), ErrorCode::kUnsupported,
          {"U8"});
  refuses(peft(SafetensorsFile().add(a, {1, 2}, "F32", floats({1, INFINITY})).add(b, {3, 1})), ErrorCode::kData,
          {"lora_A", "NaN or Inf", "at 1"});
  refuses(peft(SafetensorsFile().add(a, {1, 2}, "F32", floats({1, 1})).add(b, {1, 1}, "F32", floats({NAN}))),
          ErrorCode::kData, {"lora_B", "NaN or Inf"});
  refuses(peft(SafetensorsFile()), ErrorCode::kData, {"no pair"});
  refuses(parse_peft(bytes(kConfig), {}, "config", "weights"), ErrorCode::kData, {"weights"});
}

GgufWriter gguf() {
  GgufWriter file;
  file.key("general.type", "adapter").key("general.architecture", "llama").key("adapter.type", "lora");
  return file;
}
Result<LoraFile> read(const GgufWriter& file) { return parse_gguf_lora(bytes(file.build()), "adapter.gguf"); }

TEST(LoraFile, GgufsPairsAreReadWithTheirScale) {
  const auto file = read(gguf()
                             .key("adapter.lora.alpha", 8.0f)
                             .tensor("blk.0.attn_q.weight.lora_a", {4, 2})
                             .tensor("blk.0.attn_q.weight.lora_b", {2, 3})
                             .tensor("token_embd.weight.lora_a", {2, 7})  // of tokens
                             .tensor("token_embd.weight.lora_b", {2, 4}));
  ASSERT_TRUE(file.has_value()) << file.error().message;
  EXPECT_EQ(file->architecture, "llama");
  ASSERT_EQ(file->pairs.size(), 2u);
  EXPECT_EQ(file->pairs[0].weight, "blk.0.attn_q.weight");
  EXPECT_EQ(file->pairs[0].scale, 4);
  EXPECT_EQ(file->pairs[0].a.shape(), tensor::Shape({2, 4}));
  EXPECT_EQ(file->pairs[0].b.shape(), tensor::Shape({3, 2}));
  EXPECT_TRUE(file->pairs[1].embedding);
  EXPECT_EQ(file->pairs[1].a.shape(), tensor::Shape({2, 4}));
  EXPECT_EQ(file->pairs[1].b.shape(), tensor::Shape({7, 2}));
}

TEST(LoraFile, GgufFilesThatAreNoLoraAreRefusedByName) {
  const auto pair = [](GgufWriter file) {
    return file.tensor("x.weight.lora_a", {4, 2}).tensor("x.weight.lora_b", {2, 3});
  };
  refuses(read(pair(gguf())), ErrorCode::kData, {"adapter.lora.alpha"});
  refuses(read(pair(gguf().key("adapter.lora.alpha", std::nanf("")))), ErrorCode::kData, {"adapter.lora.alpha"});
  refuses(read(pair(GgufWriter().key("general.type", "model"))), ErrorCode::kUnsupported, {"general.type", "model"});
  refuses(read(pair(GgufWriter().key("general.type", "adapter"))), ErrorCode::kData, {"adapter.type", "missing"});
  refuses(read(pair(GgufWriter().key("general.type", "adapter").key("adapter.type", "control"))),
          ErrorCode::kUnsupported, {"adapter.type", "control"});
  const auto whole = [] { return gguf().key("adapter.lora.alpha", 8.0f); };
  refuses(read(pair(whole().key("adapter.alora.invocation_tokens", std::vector<uint32_t>{1}))), ErrorCode::kUnsupported,
          {"adapter.alora.invocation_tokens"});
  refuses(read(pair(whole()).tensor("output_norm.weight", {4})), ErrorCode::kUnsupported, {"output_norm.weight"});
  refuses(read(pair(whole()).tensor("y.weight.lora_a", {4, 2})), ErrorCode::kData, {"y.weight.lora_a", "missing"});
  refuses(read(whole().tensor("y.weight.lora_a", {4, 2}).tensor("y.weight.lora_b", {3, 3})), ErrorCode::kData,
          {"ranks differ"});
  refuses(read(whole()), ErrorCode::kData, {"no pair"});
}

TEST(LoraFile, FoldersAndFilesThatAreNoAdapterAreRefused) {
  std::string name = ::testing::TempDir() + "/lora-file-XXXXXX";
  ASSERT_NE(mkdtemp(name.data()), nullptr);
  const std::filesystem::path root = name;
  const auto put = [&](const char* file, const std::string& content) {
    ASSERT_TRUE(write_file_atomic((root / file).string(), content).has_value());
  };
  refuses(LoraFile::open((root / "none").string()), ErrorCode::kNotFound, {"none"});
  refuses(LoraFile::open(name), ErrorCode::kData, {"no adapter_config.json"});
  put("adapter_config.json", kConfig);
  refuses(LoraFile::open(name), ErrorCode::kNotFound, {"no adapter_model.safetensors"});
  put("adapter_model.bin", "PK");
  refuses(LoraFile::open(name), ErrorCode::kUnsupported, {"adapter_model.bin", "pickle"});
  refuses(LoraFile::open((root / "adapter_model.bin").string()), ErrorCode::kUnsupported, {"pickle"});
  put("other.safetensors", pair_file().build());
  refuses(LoraFile::open((root / "other.safetensors").string()), ErrorCode::kUnsupported, {"adapter_config.json"});
  put("empty.gguf", "");
  refuses(LoraFile::open((root / "empty.gguf").string()), ErrorCode::kData, {"empty.gguf"});
  put("adapter_model.safetensors", "");
  refuses(LoraFile::open(name), ErrorCode::kData, {"adapter_model.safetensors"});
  put("adapter_model.safetensors", pair_file().build());
  for (const std::string file : {"", "/adapter_config.json", "/adapter_model.safetensors"})
    EXPECT_TRUE(LoraFile::open(name + file).has_value());
  std::filesystem::remove_all(root);
}

}  // namespace lora_file_test
}  // namespace fovea::formats

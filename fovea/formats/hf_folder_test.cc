#include "fovea/formats/hf_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // mkdtemp

#include <cstring>
#include <filesystem>

#include "fovea/base/file.h"
#include "fovea/formats/testing/safetensors_bytes.h"

namespace fovea::formats {
namespace hf_folder_test {

namespace fs = std::filesystem;
using tensor::Parameter;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kConfig = R"({"model_type": "llama", "hidden_size": 4, "num_hidden_layers": 1,
  "vocab_size": 10, "eos_token_id": [2, 3], "bos_token_id": 1})";

class Folder : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/folder-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    fs::create_directory(root_ / "model");
    put("config.json", kConfig);
  }
  void TearDown() override { fs::remove_all(root_); }

  std::string folder() const { return (root_ / "model").string(); }
  std::string path(const std::string& name) const { return folder() + "/" + name; }
  void put(const std::string& name, const std::string& content) const {
    ASSERT_TRUE(write_file_atomic(path(name), content).has_value());
  }
  void put_weights(const std::string& name = "model.safetensors") const {
    put(name, SafetensorsFile().add("model.norm.weight", {4}).add("model.embed_tokens.weight", {10, 4}).build());
  }
  // An index of two shards; the first has the norm.
  void put_shards() const {
    put("a.safetensors", SafetensorsFile().add("model.norm.weight", {4}).build());
    put("b.safetensors", SafetensorsFile().add("model.embed_tokens.weight", {10, 4}).build());
    put_index(R"({"model.norm.weight": "a.safetensors", "model.embed_tokens.weight": "b.safetensors"})");
  }
  void put_index(const std::string& map) const {
    put("model.safetensors.index.json", R"({"metadata": {"total_size": 1}, "weight_map": )" + map + "}");
  }
  std::shared_ptr<const HfFolder> open() const {
    auto out = HfFolder::open(folder());
    EXPECT_TRUE(out.has_value()) << out.error().message;
    return out ? out.value() : nullptr;
  }
  void refuses(ErrorCode code, const ::testing::Matcher<std::string>& message) const {
    const auto out = HfFolder::open(folder());
    ASSERT_FALSE(out.has_value());
    EXPECT_EQ(out.error().code, code) << out.error().message;
    EXPECT_THAT(out.error().message, message);
  }
  static Parameter named(const std::string& hf_name) {
    return {.name = "", .hf_name = hf_name, .shape = {}, .target = nullptr};
  }

  fs::path root_;
};

// Experts as MXFP4: rows of gate and up in turn, of each expert, as they are stored.
TEST_F(Folder, APackedTensorIsFoundUnderItsOtherName) {
  constexpr int kExperts = 2, kRows = 4;
  std::string scales;
  for (char i = 0; i < kExperts * kRows; ++i) scales.push_back(i);
  put("model.safetensors", SafetensorsFile()
                               .add("model.x_blocks", {kExperts, kRows, 1, 16}, "U8", std::string(16 * 8, '\x21'))
                               .add("model.x_scales", {kExperts, kRows, 1}, "U8", scales)
                               .build());
  const auto model = open();
  Parameter odd = named("model.x");
  odd.hf = {.transposed = true};
  odd.hf_packed_name = "model.x_blocks";
  odd.hf_packed = {.slice = 1, .n_slices = kExperts, .row_begin = 1, .row_end = 2, .row_period = 2};
  const auto found = model->find(odd);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  ASSERT_TRUE(found.value().has_value());
  const TensorInfo& rows = **found;
  EXPECT_EQ(rows.dtype, kernels::DType::kMXFP4);
  EXPECT_THAT(rows.dims, ElementsAre(32, 2));
  ASSERT_EQ(rows.data.size(), 2u * 17);
  EXPECT_EQ(rows.data[0], std::byte{5});
  EXPECT_EQ(rows.data[17], std::byte{7});
  odd.hf_packed.n_slices = 3;
  EXPECT_THAT(model->find(odd).error().message, HasSubstr("3 slices"));
}

TEST_F(Folder, OneFileOrShardsGiveTheSameTensors) {
  put_weights();
  const auto one = open();
  EXPECT_EQ(one->tensors().size(), 2u);
  EXPECT_THAT(one->find(named("model.embed_tokens.weight")).value()->dims, ElementsAre(4, 10));
  EXPECT_EQ(one->rope_pairing({.gguf = tensor::RopePairing::kAdjacent}), tensor::RopePairing::kHalves);
  EXPECT_EQ(one->files().size(), 2u);
  fs::remove(path("model.safetensors"));
  put_shards();
  const auto shards = open();
  EXPECT_EQ(shards->tensors().size(), 2u);
  EXPECT_NE(shards->find_tensor("model.norm.weight"), nullptr);
}

TEST_F(Folder, AFileInItNamesTheFolder) {
  put_weights();
  for (const char* name : {"config.json", "model.safetensors", "model.safetensors.index.json"})
    EXPECT_EQ(HfFolder::folder_of(path(name)).value(), folder());
  EXPECT_EQ(HfFolder::folder_of(folder()).value(), folder());
  EXPECT_EQ(HfFolder::folder_of("config.json").value(), ".");
  EXPECT_FALSE(HfFolder::folder_of(folder() + ".gguf").has_value());
  EXPECT_TRUE(open_model(path("config.json")).has_value());
}

TEST_F(Folder, ATensorAtAnOddAddressIsCopied) {
  int copies = 0;
  for (const char* odd : {"o", "od", "odd", "odd1"}) {  // headers of four lengths: three of them leave it unaligned
    put("model.safetensors", SafetensorsFile().add(odd, {1}, "U8", "x").add("model.norm.weight", {4}).build());
    const auto source = open();
    const auto found = source->find(named("model.norm.weight")).value().value();
    copies += found.data.data() != source->find_tensor("model.norm.weight")->data.data() ? 1 : 0;
    ASSERT_EQ(reinterpret_cast<uintptr_t>(found.data.data()) % alignof(float), 0u);
    float value = 0;
    std::memcpy(&value, found.data.data() + 12, 4);
    EXPECT_EQ(value, 1);
  }
  EXPECT_EQ(copies, 3);
}

TEST_F(Folder, NamesAreThoseOfAModelWithAHead) {
  put("model.safetensors", SafetensorsFile().add("norm.weight", {4}).add("layers.0.x.weight", {4}).build());
  const auto source = open();
  EXPECT_NE(source->find_tensor("model.norm.weight"), nullptr);
  EXPECT_EQ(source->block_of("model.layers.0.x.weight"), 0);
  EXPECT_EQ(source->block_of("transformer.h.17.attn.weight"), 17);
  EXPECT_EQ(source->block_of("encoder.layer.3.x"), 3);
  EXPECT_EQ(source->block_of("model.norm.weight"), -1);
  EXPECT_EQ(source->block_of("model.layers.99999999999999999999.x"), -1);
}

// T5's files hold its embedding as they like: once, or again for encoder and decoder.
TEST_F(Folder, CopiesOfAnEmbeddingAreOneTensorAndADecoderBesideTheEncoderIsLeftOut) {
  put("config.json", R"({"model_type": "t5", "d_model": 4, "num_layers": 1, "vocab_size": 10})");
  for (const char* copy : {"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}) {
    put("model.safetensors", SafetensorsFile()
                                 .add(copy, {10, 4})
                                 .add("encoder.final_layer_norm.weight", {4})
                                 .add("decoder.final_layer_norm.weight", {4})
                                 .build());
    const auto one = open();
    EXPECT_NE(one->find_tensor("shared.weight"), nullptr) << copy;
    EXPECT_EQ(one->tensors().size(), 2u);
  }
  put("model.safetensors", SafetensorsFile()
                               .add("decoder.embed_tokens.weight", {10, 4})
                               .add("encoder.embed_tokens.weight", {10, 4})
                               .add("shared.weight", {10, 4})
                               .build());
  EXPECT_EQ(open()->tensors().size(), 1u);
}

TEST_F(Folder, TheUnembeddingIsThereOrTied) {
  const auto config = [&](const char* tied) {
    put("config.json", fmt::format(R"({{"model_type": "llama", "tie_word_embeddings": {}}})", tied));
  };
  put_weights();
  config("false");
  refuses(ErrorCode::kData, HasSubstr("lm_head.weight"));
  put("model.safetensors", SafetensorsFile().add("model.norm.weight", {4}).add("lm_head.weight", {10, 4}).build());
  EXPECT_NE(open()->find_tensor("lm_head.weight"), nullptr);
  config("true");  // as transformers does it: one that is stored counts
  EXPECT_NE(open()->find_tensor("lm_head.weight"), nullptr);
  put_weights();
  EXPECT_EQ(open()->find_tensor("lm_head.weight"), nullptr);
  config("1");
  refuses(ErrorCode::kData, HasSubstr("tie_word_embeddings"));
}

TEST_F(Folder, RefusesAnIndexThatLeadsOutOrLies) {
  for (const char* name : {"../../etc/passwd", "/etc/passwd", "../model.safetensors", "sub/x.safetensors",
                           ".hidden.safetensors", "pytorch_model.bin", "", "a\\n.safetensors"}) {
    put_index(fmt::format(R"({{"x": "{}"}})", name));
    refuses(ErrorCode::kData, HasSubstr("in this folder"));
  }
  put_index(R"({"x": 1})");
  refuses(ErrorCode::kData, HasSubstr("has no file"));
  put_index("{}");
  refuses(ErrorCode::kData, HasSubstr("no weight_map"));
  put_index(R"({"x": "a.safetensors", "x": "b.safetensors"})");
  refuses(ErrorCode::kData, HasSubstr("twice"));
  put_shards();
  fs::remove(path("b.safetensors"));
  refuses(ErrorCode::kNotFound, AllOf(HasSubstr("b.safetensors"), HasSubstr("missing")));
}

TEST_F(Folder, RefusesShardsThatTheIndexDoesNotDescribe) {
  put_shards();
  put("b.safetensors", SafetensorsFile().add("other", {4}).build());
  refuses(ErrorCode::kData, AllOf(HasSubstr("model.embed_tokens.weight"), HasSubstr("is not in it")));
  put("b.safetensors",
      SafetensorsFile().add("model.embed_tokens.weight", {10, 4}).add("model.norm.weight", {4}).build());
  refuses(ErrorCode::kData, AllOf(HasSubstr("model.norm.weight"), HasSubstr("another shard")));
  put("b.safetensors", SafetensorsFile().add("model.embed_tokens.weight", {10, 4}).add("more", {4}).build());
  EXPECT_THAT(open()->warnings(), ElementsAre(HasSubstr("1 tensors that the index does not list")));
  EXPECT_FALSE(HfFolder::open(folder(), {.strict = true}).has_value());
}

TEST_F(Folder, LinksMayLeadOnlyToTheHubsBlobs) {
  put_weights("../outside.safetensors");
  fs::create_symlink("../outside.safetensors", path("model.safetensors"));
  refuses(ErrorCode::kData, HasSubstr("leads out of the folder"));
  fs::remove(path("model.safetensors"));
  fs::create_symlink("model.safetensors", path("model.safetensors"));
  refuses(ErrorCode::kNotFound, HasSubstr("model.safetensors"));
  fs::remove(path("model.safetensors"));

  const fs::path snapshot = root_ / "models--a--b/snapshots/123", blobs = root_ / "models--a--b/blobs";
  fs::create_directories(snapshot);
  fs::create_directories(blobs);
  fs::rename(path("config.json"), blobs / "c");
  fs::rename(root_ / "outside.safetensors", blobs / "w");
  fs::create_symlink("../../blobs/c", snapshot / "config.json");
  fs::create_symlink("../../blobs/w", snapshot / "model.safetensors");
  const auto hub = HfFolder::open(snapshot.string());
  ASSERT_TRUE(hub.has_value()) << hub.error().message;
  EXPECT_EQ(hub.value()->tensors().size(), 2u);
  fs::create_symlink("../../../outside", snapshot / "tokenizer.json");
  put("../outside", "{}");
  EXPECT_FALSE(HfFolder::open(snapshot.string()).has_value());
}

TEST_F(Folder, SaysWhatIsThereInsteadOfAModel) {
  put("pytorch_model.bin", "\x80\x02");
  refuses(ErrorCode::kUnsupported, AllOf(HasSubstr("pytorch_model.bin"), HasSubstr("pickle")));
  fs::remove(path("pytorch_model.bin"));
  refuses(ErrorCode::kNotFound, HasSubstr("neither model.safetensors nor"));
  fs::remove(path("config.json"));
  refuses(ErrorCode::kData, HasSubstr("no config.json"));
  fs::create_directories(path("model"));
  put("model/config.json", "{}");
  refuses(ErrorCode::kData, HasSubstr("what was trained is in \"" + path("model") + "\""));
  fs::remove_all(path("model"));
  put("x.gguf", "GGUF");
  refuses(ErrorCode::kData, HasSubstr("x.gguf"));
  put("adapter_config.json", "{}");
  refuses(ErrorCode::kUnsupported, HasSubstr("adapter"));
}

TEST_F(Folder, RefusesAConfigThatIsNone) {
  put_weights();
  for (const char* config : {"", "[]", "null", "{", "{\"model_type\": \"llama\"} x", "\x80\x02"}) {
    put("config.json", config);
    refuses(ErrorCode::kData, HasSubstr("config.json"));
  }
  put("config.json", std::string(HfFolder::kMaxConfigBytes + 1, ' '));
  refuses(ErrorCode::kLimit, HasSubstr("config.json"));
  put("config.json", std::string("\xFF\xFE{\0}\0", 6));  // UTF-16 is read as such
  refuses(ErrorCode::kData, HasSubstr("model_type"));
  fs::remove(path("config.json"));
  fs::create_directory(path("config.json"));
  refuses(ErrorCode::kData, HasSubstr("regular file"));
}

TEST_F(Folder, TheTokenizersFilesAreHandedOnWhole) {
  put_weights();
  put("tokenizer.json", "{\"a\":1}");
  put("merges.txt", "a b\n");
  put("generation_config.json", R"({"eos_token_id": [5, 6, 7], "pad_token_id": -1})");
  const auto source = open();
  const auto v = source->vocabulary();
  ASSERT_TRUE(v.has_value()) << v.error().message;
  EXPECT_EQ(v->kind, "files");
  EXPECT_EQ(v->files.tokenizer_json, "{\"a\":1}");
  EXPECT_EQ(v->files.merges_txt, "a b\n");
  EXPECT_EQ(v->files.vocab_txt, "");
  EXPECT_EQ(v->bos, 1);
  EXPECT_EQ(v->eos, 5);
  EXPECT_THAT(v->more_ends, ElementsAre(6, 7));
  EXPECT_EQ(v->padding, -1);
  put("generation_config.json", R"({"eos_token_id": 10})");
  const auto high = open()->vocabulary();
  ASSERT_FALSE(high.has_value());
  EXPECT_THAT(high.error().message, HasSubstr("10 tokens"));
  put("generation_config.json", R"({"eos_token_id": "x"})");
  EXPECT_FALSE(open()->vocabulary().has_value());
}

TEST_F(Folder, TheChatTemplateOfAnyPlace) {
  put_weights();
  const auto text = [&](const char* key) {
    const auto found = open()->get_string(key);
    return found ? found.value() : "none";
  };
  EXPECT_EQ(text("tokenizer.chat_template"), "none");
  put("tokenizer_config.json", R"({"chat_template": "one"})");
  EXPECT_EQ(text("tokenizer.chat_template"), "one");
  put("tokenizer_config.json",
      R"({"chat_template": [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]})");
  EXPECT_EQ(text("tokenizer.chat_template"), "d");
  EXPECT_EQ(text("tokenizer.chat_template.tool_use"), "t");
  put("chat_template.json", R"({"chat_template": "two"})");
  EXPECT_EQ(text("tokenizer.chat_template"), "two");
  put("chat_template.jinja", "three");
  EXPECT_EQ(text("tokenizer.chat_template"), "three");
  put("chat_template.jinja", "\xFF");
  refuses(ErrorCode::kData, HasSubstr("UTF-8"));
  fs::remove(path("chat_template.jinja"));
  put("chat_template.json", R"({"chat_template": [1]})");
  refuses(ErrorCode::kData, HasSubstr("chat_template"));
}

}  // namespace hf_folder_test
}  // namespace fovea::formats

// A model of a run: what of it is trained, and that what is saved is what was trained.
#include "fovea/train/model.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "fovea/base/testing/paths.h"
#include "fovea/engine/lora.h"
#include "fovea/engine/session.h"
#include "fovea/engine/soft_prompt.h"
#include "fovea/formats/gguf.h"
#include "fovea/formats/requantize.h"
#include "fovea/tensor/ops/ops.h"
#include "fovea/tensor/testing/gradient_check.h"
#include "fovea/train/save_model.h"

namespace fovea::train {
namespace model_test {

namespace fs = std::filesystem;
using tensor::Tensor;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

const std::string kData = source_dir() + "/tests/data/";

class TrainedModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/model-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    out_ = name;
  }
  void TearDown() override { fs::remove_all(out_); }

  std::unique_ptr<TrainedModel> open(const Json& config) {
    Settings settings(config, "f.json");
    auto opened = TrainedModel::open(settings, 8);
    error_ = opened ? settings.finish() ? "" : settings.finish().error().message : opened.error().message;
    return opened ? std::move(*opened) : nullptr;
  }
  // The tiny GGUF file as float32: what is trained must be.
  std::string float_gguf() const {
    const auto in = formats::Gguf::open(kData + "tiny-llama.gguf").value();
    const std::string path = out_ + "/float.gguf";
    auto file = FileWriter::create(path);
    const auto plan = formats::plan_types(*in, kernels::DType::kF32);
    EXPECT_TRUE(formats::requantize(*in, kernels::DType::kF32, plan, std::move(file).value(), {}).has_value());
    return path;
  }
  // Every trained value moves a little, another way each.
  static void move(TrainedModel& model) {
    int k = 0;
    for (const Param& param : model.params()) {
      Tensor value = param.value;
      for (int64_t i = 0; i < value.elements(); ++i) value.data()[i] += 0.01f * static_cast<float>((i + ++k) % 7 - 3);
    }
  }
  // Logits of the run's own pass.
  static std::vector<float> logits(const TrainedModel& model) {
    const MicroBatch batch({{kIds, std::vector<int32_t>(kIds.size(), 0)}});
    attention::Hooks hooks(model.hooks());
    tensor::Exec exec{.numerics = tensor::Numerics::kExact, .adapters = model.adapters()};
    const tensor::ExecScope scope(exec);
    const Tensor y = model.forward(batch, hooks, {});
    return {y.values().begin(), y.values().end()};
  }
  // The same of a model's files, through a session.
  static std::vector<float> logits_of_files(const std::string& path, const std::string& lora = "",
                                            const std::string& masks = "") {
    const auto model = engine::Model::load(path);
    EXPECT_TRUE(model.has_value()) << model.error().message;
    engine::SessionOptions options{.numerics = kernels::Numerics::kExact};
    if (!lora.empty() || !masks.empty()) {
      const engine::LoraRequest request{.path = lora};
      auto adapters = engine::load_adapters(**model, {&request, lora.empty() ? 0u : 1u}, masks);
      EXPECT_TRUE(adapters.has_value()) << adapters.error().message;
      options.adapters = *adapters;
    }
    const auto session = engine::Session::create(*model, options);
    EXPECT_TRUE(session.has_value()) << session.error().message;
    const engine::Session::Feed feed{
        .sequence = (*session)->begin(), .tokens = kIds, .logits = engine::Session::Logits::kAll};
    const auto y = (*session)->step({&feed, 1});
    EXPECT_TRUE(y.has_value()) << y.error().message;
    return {y->values().begin(), y->values().end()};
  }
  static void expect_near(const std::vector<float>& a, const std::vector<float>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-4) << i;
  }

  static inline const std::vector<int32_t> kIds = {3, 1, 4, 1, 5, 9};
  std::string out_, error_;
};

TEST_F(TrainedModelTest, OfAGgufFileIsSavedAsOne) {
  EXPECT_EQ(open({{"model", kData + "tiny-llama.gguf"}}), nullptr);
  EXPECT_THAT(error_, HasSubstr("is Q8_0, and what is trained must be float"));
  const auto model = open({{"model", float_gguf()}});
  ASSERT_NE(model, nullptr) << error_;
  const auto before = logits(*model);
  move(*model);
  const auto path = save_model(*model, out_, {{"seed", 5}});
  ASSERT_TRUE(path.has_value()) << path.error().message;
  EXPECT_EQ(*path, out_ + "/model.gguf");
  EXPECT_NE(before, logits(*model));
  expect_near(logits_of_files(*path), logits(*model));
  EXPECT_EQ(formats::open_model(*path).value()->get_string("fovea.training").value(), "{\"seed\":5}");
}

// Folders of families whose files hold what the model reads otherwise: fused, turned, with a 1 taken off.
TEST_F(TrainedModelTest, OfAFolderOfAnyFamilyIsSavedAsOne) {
  int n = 0;
  for (const auto& entry : fs::directory_iterator(kData + "families")) {
    const std::string family = entry.path().filename().string();
    if (family.find("oss") != family.npos) continue;  // MXFP4 alone is not trained
    const auto model = open({{"model", entry.path().string()}});
    ASSERT_NE(model, nullptr) << family << ": " << error_;
    move(*model);
    const auto path = save_model(*model, out_, {{"seed", 5}});
    ASSERT_TRUE(path.has_value()) << family << ": " << path.error().message;
    SCOPED_TRACE(family);
    expect_near(logits_of_files(*path), logits(*model));
    ++n;
  }
  EXPECT_GE(n, 10);
}

TEST_F(TrainedModelTest, OfANetIsAFolderWithItsTokenizer) {
  const Json net = {{"net", "llama"}, {"d_model", 32}, {"n_layers", 2}, {"n_heads", 4},        {"n_kv_heads", 2},
                    {"head_dim", 8},  {"d_ff", 48},    {"n_ctx", 64},   {"tokenizer", "bytes"}};
  const auto model = open({{"model", net}, {"init_seed", 3}});
  ASSERT_NE(model, nullptr) << error_;
  EXPECT_EQ(model->config().shape.vocab_size, 256);
  EXPECT_EQ(model->params().size(), 3 + 2 * 9u);  // untied
  const auto ids = model->tokenizer()->encode("Aé\n");
  ASSERT_TRUE(ids.has_value()) << ids.error().message;
  EXPECT_EQ(*ids, (std::vector<int32_t>{65, 0xc3, 0xa9, 10}));
  move(*model);
  const auto path = save_model(*model, out_, {{"seed", 5}});
  ASSERT_TRUE(path.has_value()) << path.error().message;
  expect_near(logits_of_files(*path), logits(*model));
  const auto again = open({{"model", *path}});
  ASSERT_NE(again, nullptr) << error_;
  EXPECT_EQ(logits(*again), logits(*model));
  EXPECT_EQ(*again->tokenizer()->encode("Aé\n"), *ids);
  EXPECT_FALSE(fs::exists(out_ + "/model.part"));
}

TEST_F(TrainedModelTest, OfANetWithSinksIsAFolderWithThem) {
  const Json net = {{"net", "gpt-oss"}, {"d_model", 32}, {"n_layers", 1}, {"n_heads", 4}, {"vocab_size", 20}};
  const auto model = open({{"model", net}, {"init_seed", 3}});
  ASSERT_NE(model, nullptr) << error_;
  EXPECT_TRUE(std::any_of(model->params().begin(), model->params().end(),
                          [](const Param& p) { return p.hf_name == "model.layers.0.self_attn.sinks"; }));
  move(*model);
  const auto path = save_model(*model, out_, {{"seed", 5}});
  ASSERT_TRUE(path.has_value()) << path.error().message;
  expect_near(logits_of_files(*path), logits(*model));
}

TEST_F(TrainedModelTest, ANetIsDrawnFromItsSeedAlone) {
  const Json net = {{"net", "llama"}, {"d_model", 32}, {"n_layers", 1}, {"n_heads", 4}, {"vocab_size", 20}};
  const auto one = open({{"model", net}, {"init_seed", 3}}), two = open({{"model", net}, {"init_seed", 3}}),
             other = open({{"model", net}, {"init_seed", 4}});
  EXPECT_EQ(logits(*one), logits(*two));
  EXPECT_NE(logits(*one), logits(*other));
}

TEST_F(TrainedModelTest, OnlyWhatTheGlobsNameIsTrained) {
  const std::string file = float_gguf();
  const auto some = open({{"model", file}, {"trainable", {"blk.*", "!*norm*"}}});
  ASSERT_NE(some, nullptr) << error_;
  for (const Param& p : some->params()) {
    EXPECT_TRUE(p.name.starts_with("blk.") && p.name.find("norm") == p.name.npos) << p.name;
  }
  EXPECT_EQ(open({{"model", file}, {"trainable", "blk.9.*"}}), nullptr);
  EXPECT_THAT(error_, HasSubstr("trainable: \"blk.9.*\" fits no parameter; the nearest is"));
}

// Through a PEFT folder, of a GGUF file too, whose rows of q and k lie in another order.
TEST_F(TrainedModelTest, ALoraIsSavedAsPeftHasItAndReadBack) {
  for (const std::string& file : {kData + "tiny-llama.gguf", kData + "tiny-qwen2.gguf"}) {
    SCOPED_TRACE(file);
    const Json lora = {{"rank", 2}, {"alpha", 6}, {"targets", {"q_proj", "k_proj", "down_proj"}}};
    const auto model = open({{"model", file}, {"trainable", {{"lora", lora}}}});
    ASSERT_NE(model, nullptr) << error_;
    const auto before = logits(*model);
    expect_near(logits_of_files(file), before);  // b is zero at first
    move(*model);
    EXPECT_NE(before, logits(*model));
    const auto path = save_model(*model, out_, {{"seed", 5}});
    ASSERT_TRUE(path.has_value()) << path.error().message;
    expect_near(logits_of_files(file, *path), logits(*model));
    Json more = lora;
    more["init"] = *path;
    const auto again = open({{"model", file}, {"trainable", {{"lora", more}}}});
    ASSERT_NE(again, nullptr) << error_;
    EXPECT_EQ(logits(*again), logits(*model));
    more["rank"] = 4, more["alpha"] = 12;
    EXPECT_EQ(open({{"model", file}, {"trainable", {{"lora", more}}}}), nullptr);
    EXPECT_THAT(error_, HasSubstr("and the config asks for [4, "));
  }
  EXPECT_EQ(open({{"model", kData + "tiny-llama.gguf"}, {"trainable", {{"lora", {{"targets", {"q_porj"}}}}}}}),
            nullptr);
  EXPECT_THAT(error_, HasSubstr("did you mean q_proj?"));
}

// Files of both kinds, whose rows of q and k lie in another order, and quantised ones.
TEST_F(TrainedModelTest, MasksAreSavedAsAdaptersTakeThem) {
  for (const char* file : {"tiny-llama.gguf", "tiny-qwen2.gguf", "families/llama", "families/gpt2"}) {
    for (const bool heads : {false, true}) {
      SCOPED_TRACE(fmt::format("{} {}", file, heads));
      Json masks = {{"heads", heads}, {"temperature", 0.5}};
      if (!heads) masks["targets"] = {"blk.*.attn_*", "blk.1.ffn_down.weight", "!blk.0.attn_v.weight"};
      if (!heads && std::string(file) == "families/gpt2") masks["targets"] = {"blk.*.ffn_*"};  // q, k, v are one there
      const auto model = open({{"model", kData + file}, {"trainable", {{"masks", masks}}}});
      ASSERT_NE(model, nullptr) << error_;
      expect_near(logits_of_files(kData + file), logits(*model));  // nothing is masked at first
      int k = 0;
      for (const Param& param : model->params()) {
        EXPECT_TRUE(param.name.ends_with(".mask") && param.name != "blk.0.attn_v.weight.mask") << param.name;
        EXPECT_NEAR(param.value.data()[0], 0.5 * std::log(9.0), 1e-6);
        if (heads) {
          EXPECT_EQ(param.value.shape(), tensor::Shape({1, model->config().shape.n_heads}));
        }
        Tensor scores = param.value;
        for (int64_t i = 0; i < scores.elements(); ++i)
          scores.data()[i] = static_cast<float>((i * 5 + i / 7 + ++k) % 11 - 3);
      }
      const auto trained = logits(*model);
      EXPECT_NE(trained, logits_of_files(kData + file));
      const auto path = save_model(*model, out_, {{"seed", 5}});
      ASSERT_TRUE(path.has_value()) << path.error().message;
      EXPECT_EQ(*path, out_ + "/masks.safetensors");
      expect_near(logits_of_files(kData + file, "", *path), trained);
    }
  }
}

// Of one head: as if what it gives were 0.
TEST_F(TrainedModelTest, AMaskedHeadGivesNothing) {
  const auto model = open({{"model", kData + "families/llama"}, {"trainable", {{"masks", {{"heads", true}}}}}});
  ASSERT_NE(model, nullptr) << error_;
  ASSERT_EQ(model->params()[1].name, "blk.1.attn_output.weight.mask");
  Tensor(model->params()[1].value).data()[2] = -1;
  attention::Hooks hooks(model->hooks());
  ASSERT_TRUE(hooks
                  .attach("blocks.1.attn.hook_z",
                          [](const std::string&, Tensor& z) {  // [n, heads, width]
                            Tensor without = Tensor::from(z.shape(), z.values());
                            for (int64_t row = 0; row < z.dim(0); ++row)
                              std::fill_n(without.data() + (row * z.dim(1) + 2) * z.dim(2), z.dim(2), 0.0f);
                            z = without;
                          })
                  .has_value());
  tensor::Exec exec{.numerics = tensor::Numerics::kExact};
  const tensor::ExecScope scope(exec);
  const Tensor y = model->forward(MicroBatch({{kIds, std::vector<int32_t>(kIds.size(), 0)}}), hooks, {});
  expect_near(logits(*model), {y.values().begin(), y.values().end()});
  EXPECT_NE(logits(*model), logits_of_files(kData + "families/llama"));
}

TEST_F(TrainedModelTest, MasksThatCannotBeAreRefusedInASentence) {
  const auto error = [&](const Json& masks) {
    (void)open({{"model", kData + "tiny-llama.gguf"}, {"trainable", {{"masks", masks}}}});
    return error_;
  };
  EXPECT_THAT(error(Json::object()), HasSubstr("trainable.masks.targets is missing"));
  EXPECT_THAT(error({{"targets", "blk.*.attn_w"}}), HasSubstr("trainable.masks.targets: \"blk.*.attn_w\" fits no"));
  EXPECT_THAT(error({{"targets", "token_embd.weight"}}), HasSubstr("fits no parameter"));
  EXPECT_THAT(error({{"targets", {"blk.*", "!*"}}}), HasSubstr("trainable.masks.targets leaves no matrix to mask"));
  EXPECT_THAT(error({{"targets", "blk.*"}, {"heads", true}}), HasSubstr("does not multiply what heads give"));
  EXPECT_THAT(error({{"targets", "blk.*"}, {"init", 1}}), HasSubstr("trainable.masks.init is 1"));
  EXPECT_THAT(error({{"targets", "blk.*"}, {"temperature", 0}}), HasSubstr("trainable.masks.temperature is 0"));
  EXPECT_THAT(error({{"targets", "blk.*"}, {"l0", 0.1}}), HasSubstr("trainable.masks.l0"));
  EXPECT_EQ(open({{"model", kData + "families/phi3"}, {"trainable", {{"masks", {{"targets", "*.attn_qkv.weight"}}}}}}),
            nullptr);
  EXPECT_THAT(error_, HasSubstr("is a part of a larger tensor"));
}

// Logits of files behind a soft prompt.
std::vector<float> logits_behind(const std::string& path, const Tensor& rows, std::span<const int32_t> ids) {
  const auto model = engine::Model::load(path);
  EXPECT_TRUE(model.has_value()) << model.error().message;
  const auto session = engine::Session::create(*model, {.numerics = kernels::Numerics::kExact});
  EXPECT_TRUE(session.has_value()) << session.error().message;
  const engine::SequenceId sequence = (*session)->begin();
  EXPECT_TRUE(engine::feed_soft_prompt(**session, sequence, rows).has_value());
  const engine::Session::Feed feed{.sequence = sequence, .tokens = ids, .logits = engine::Session::Logits::kAll};
  const auto y = (*session)->step({&feed, 1});
  EXPECT_TRUE(y.has_value()) << y.error().message;
  return {y->values().begin(), y->values().end()};
}

// In its pass it is what the text was, before each sample; all else is frozen.
TEST_F(TrainedModelTest, ASoftPromptBeginsAsTheTokensOfItsText) {
  const std::string file = kData + "tiny-qwen2.gguf";
  const auto model = open({{"model", file}, {"trainable", {{"soft_prompt", {{"text", "a cat"}}}}}});
  ASSERT_NE(model, nullptr) << error_;
  ASSERT_EQ(model->params().size(), 1u);
  EXPECT_EQ(model->params()[0].name, "soft_prompt");
  std::vector<int32_t> ids = model->tokenizer()->encode("a cat", {.add_special = false}).value();
  const size_t n = ids.size();
  ASSERT_GE(n, 2u);
  EXPECT_EQ(model->soft_prompt().dim(0), static_cast<int64_t>(n));
  ids.insert(ids.end(), kIds.begin(), kIds.end());
  const auto plain = open({{"model", file}, {"trainable", {{"lora", Json::object()}}}});  // zero at first
  ASSERT_NE(plain, nullptr) << error_;
  attention::Hooks hooks(model->hooks());
  tensor::Exec exec{.numerics = tensor::Numerics::kExact};
  const tensor::ExecScope scope(exec);
  const Sample sample{kIds, std::vector<int32_t>(kIds.size(), 0)};
  std::vector<int32_t> targets(n, kNoTarget);
  targets.insert(targets.end(), kIds.size(), 0);
  const Tensor of_text = plain->forward(MicroBatch({{ids, targets}}), hooks, {});
  const Tensor twice = model->forward(MicroBatch({sample, sample}), hooks, {});
  ASSERT_EQ(twice.elements(), 2 * of_text.elements());
  for (int64_t i = 0; i < twice.elements(); ++i)
    ASSERT_EQ(twice.data()[i], of_text.data()[i % of_text.elements()]) << i;
}

TEST_F(TrainedModelTest, ASoftPromptIsSavedAndReadBack) {
  for (const std::string& file : {kData + "tiny-llama.gguf", kData + "families/gemma", kData + "families/gpt2"}) {
    SCOPED_TRACE(file);
    const auto model = open({{"model", file}, {"trainable", {{"soft_prompt", {{"tokens", 5}}}}}, {"init_seed", 3}});
    ASSERT_NE(model, nullptr) << error_;
    const auto before = logits(*model);
    move(*model);
    EXPECT_NE(logits(*model), before);
    const auto path = save_model(*model, out_, {{"seed", 5}});
    ASSERT_TRUE(path.has_value()) << path.error().message;
    EXPECT_EQ(*path, out_ + "/soft_prompt.safetensors");
    const auto rows = engine::read_soft_prompt(*path, model->config().shape);
    ASSERT_TRUE(rows.has_value()) << rows.error().message;
    expect_near(logits_behind(file, *rows, kIds), logits(*model));
    const auto again = open({{"model", file}, {"trainable", {{"soft_prompt", {{"init", *path}}}}}});
    ASSERT_NE(again, nullptr) << error_;
    EXPECT_EQ(logits(*again), logits(*model));
    EXPECT_EQ(open({{"model", file}, {"trainable", {{"soft_prompt", {{"init", *path}, {"tokens", 4}}}}}}), nullptr);
    EXPECT_THAT(error_, HasSubstr("trainable.soft_prompt.tokens is 4; the soft prompt of init has 5"));
  }
}

TEST_F(TrainedModelTest, ASoftPromptHasTheGradientOfItsRows) {
  for (const bool recompute : {false, true}) {
    const auto model = open({{"model", kData + "tiny-llama.gguf"}, {"trainable", {{"soft_prompt", {{"tokens", 2}}}}}});
    ASSERT_NE(model, nullptr) << error_;
    const MicroBatch batch({{{3, 1, 4}, {1, kNoTarget, 5}}, {{9, 2}, {kNoTarget, 7}}});
    attention::Hooks none(model->hooks());
    tensor::expect_gradients({model->soft_prompt()}, [&] {
      return tensor::cross_entropy(model->forward(batch, none, {.recompute = recompute}), batch.targets).sum;
    });
  }
}

TEST_F(TrainedModelTest, ASoftPromptThatCannotBeIsRefusedInASentence) {
  const auto error = [&](const Json& prompt, const std::string& file = "tiny-qwen2.gguf") {
    EXPECT_EQ(open({{"model", kData + file}, {"trainable", {{"soft_prompt", prompt}}}}), nullptr);
    return error_;
  };
  EXPECT_THAT(error(Json::object()), HasSubstr("trainable.soft_prompt.tokens is missing"));
  EXPECT_THAT(error({{"tokens", 0}}), HasSubstr("trainable.soft_prompt.tokens is 0"));
  EXPECT_THAT(error({{"tokens", 505}}),
              HasSubstr("trainable.soft_prompt.tokens is 505; with a context of 8 the model has room for 504"));
  EXPECT_THAT(error({{"text", "a"}, {"init", "b"}}), HasSubstr("trainable.soft_prompt.init is there beside text"));
  EXPECT_THAT(error({{"text", "a"}}, "families/llama"), HasSubstr("trainable.soft_prompt.text needs a tokenizer"));
  EXPECT_THAT(error({{"init", out_ + "/none"}}), HasSubstr("none"));
  EXPECT_THAT(error(3), HasSubstr("trainable.soft_prompt is 3"));
  EXPECT_EQ(open({{"model", kData + "tiny-qwen2.gguf"},
                  {"trainable", {{"soft_prompt", {{"tokens", 2}}}, {"lora", Json::object()}}}}),
            nullptr);
  EXPECT_THAT(error_, HasSubstr("trainable.soft_prompt is there beside lora"));
}

}  // namespace model_test
}  // namespace fovea::train

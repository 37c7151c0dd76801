// Adapters as PEFT saved them (tests/data/adapters, made by tools/make_lora_goldens.py) against what PEFT answers.
#include "fovea/engine/lora.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // mkdtemp

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "fovea/base/file.h"
#include "fovea/engine/prefix_store.h"
#include "fovea/engine/testing/golden.h"
#include "fovea/formats/lora_file.h"
#include "fovea/formats/testing/gguf_writer.h"
#include "fovea/formats/testing/safetensors_bytes.h"

namespace fovea::engine {
namespace lora_test {

namespace fs = std::filesystem;
using tensor::Adapters;
using ::testing::HasSubstr;
using Shared = std::shared_ptr<const Adapters>;

Shared adapters(const Model& model, const std::vector<LoraRequest>& requests) {
  auto loaded = load_adapters(model, requests);
  EXPECT_TRUE(loaded.has_value()) << loaded.error().message;
  return loaded ? *loaded : nullptr;
}

std::unique_ptr<Session> session(std::shared_ptr<const Model> model, Shared loras = nullptr,
                                 kernels::Numerics numerics = kernels::Numerics::kExact, int chunk = 512) {
  return make_session(std::move(model), {.numerics = numerics, .chunk = chunk, .adapters = std::move(loras)});
}

Rows prefill(Session& session, std::span<const int32_t> ids) { return prefill(session, session.begin(), ids); }

nlohmann::json golden(const std::string& name) {
  return read_json_file(test_data("adapters/" + name + "/golden.json"));
}

class PeftAdapter : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Folders, PeftAdapter,
                         ::testing::Values("llama", "llama-small", "qwen2", "gpt2", "phi3", "gptneox"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(PeftAdapter, AnswersAsPeftDoes) {
  const auto want = golden(GetParam());
  const auto model = load_model(test_data("families/" + want["model"].get<std::string>()));
  const auto loras = adapters(*model, {{test_data("adapters/") + GetParam()}});
  const auto ids = want["ids"].get<std::vector<int32_t>>();
  expect_golden_rows(prefill(*session(model, loras), ids), want["rows"], want["logits"]);
  if (want.contains("mixed")) {
    const auto& mixed = want["mixed"];
    const auto both = adapters(
        *model, {{test_data("adapters/") + GetParam(), mixed["scales"][0].get<double>()},
                 {test_data("adapters/") + mixed["other"].get<std::string>(), mixed["scales"][1].get<double>()}});
    expect_golden_rows(prefill(*session(model, both), ids), want["rows"], mixed["logits"]);
  }
}

TEST_P(PeftAdapter, ChunksChangeNoBitAndTheModelKeepsItsOwn) {
  const auto want = golden(GetParam());
  const auto model = load_model(test_data("families/" + want["model"].get<std::string>()));
  const auto ids = want["ids"].get<std::vector<int32_t>>();
  for (const auto numerics : {kernels::Numerics::kExact, kernels::Numerics::kFast}) {
    const Rows before = prefill(*session(model, nullptr, numerics), ids);
    const auto loras = adapters(*model, {{test_data("adapters/") + GetParam()}});
    const Rows whole = prefill(*session(model, loras, numerics), ids);
    EXPECT_NE(whole, before);
    EXPECT_EQ(prefill(*session(model, loras, numerics, 7), ids), whole);
    EXPECT_EQ(prefill(*session(model, loras, numerics, 1), ids), whole);
    EXPECT_EQ(prefill(*session(model, nullptr, numerics), ids), before);
  }
}

// Prompts together, then tokens together, of sequences with one adapter, another, both and none.
TEST(Lora, EachSequenceOfABatchHasTheBitsThatItHasAlone) {
  const auto want = golden("llama");
  const auto model = load_model(test_data("families/llama"));
  const auto ids = want["ids"].get<std::vector<int32_t>>();
  const LoraRequest one{test_data("adapters/llama")}, other{test_data("adapters/llama-small"), 0.5};
  const Shared sets[] = {adapters(*model, {one}), nullptr, adapters(*model, {other}), adapters(*model, {one, other})};
  for (const auto numerics : {kernels::Numerics::kExact, kernels::Numerics::kFast}) {
    const auto together = session(model, sets[0], numerics);
    std::vector<Session::Feed> feeds;
    std::vector<std::vector<int32_t>> prompts;
    for (size_t i = 0; i < std::size(sets); ++i) {
      const SequenceId sequence = together->begin();
      if (sets[i] != sets[0]) together->set_adapters(sequence, sets[i]);
      prompts.emplace_back(ids.begin() + static_cast<int64_t>(i), ids.begin() + static_cast<int64_t>(20 + 3 * i));
      feeds.push_back({sequence, {}, Session::Logits::kAll, attention::Phase::kPromptEnd});
    }
    for (size_t i = 0; i < feeds.size(); ++i) feeds[i].tokens = prompts[i];
    const auto logits = together->step(feeds);
    ASSERT_TRUE(logits.has_value()) << logits.error().message;
    std::vector<Session::Step> steps;
    for (const auto& feed : feeds) steps.push_back({feed.sequence, 42});
    const auto next = together->decode(steps);
    ASSERT_TRUE(next.has_value()) << next.error().message;

    const float* row = logits->data();
    for (size_t i = 0; i < std::size(sets); ++i) {
      const auto alone = session(model, sets[i], numerics);
      const SequenceId sequence = alone->begin();
      for (const auto& expected : prefill(*alone, sequence, prompts[i])) {
        ASSERT_EQ(std::memcmp(row, expected.data(), expected.size() * sizeof(float)), 0) << "sequence " << i;
        row += expected.size();
      }
      const Session::Step step{sequence, 42};
      const auto last = alone->decode({&step, 1});
      ASSERT_TRUE(last.has_value()) << last.error().message;
      const auto mine = next->values().subspan(i * last->values().size(), last->values().size());
      EXPECT_TRUE(std::ranges::equal(mine, last->values())) << "sequence " << i;
    }
  }
}

TEST(Lora, AForkHasTheAdaptersOfItsSequenceAndAScaleOfZeroIsTheModel) {
  const auto model = load_model(test_data("families/llama"));
  const auto ids = golden("llama")["ids"].get<std::vector<int32_t>>();
  EXPECT_EQ(adapters(*model, {{test_data("adapters/llama"), 0.0}}), nullptr);
  const Shared loras = adapters(*model, {{test_data("adapters/llama")}});
  const auto mixed = session(model), own = session(model, loras);
  const SequenceId sequence = mixed->begin();
  mixed->set_adapters(sequence, loras);
  EXPECT_EQ(prefill(*mixed, mixed->fork(sequence), ids), prefill(*own, ids));
}

class LoraFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/lora-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }
  std::string put(const std::string& name, const std::string& content) const {
    const fs::path path = root_ / name;
    fs::create_directories(path.parent_path());
    EXPECT_TRUE(write_file_atomic(path.string(), content).has_value());
    return path.string();
  }
  // GGUF's name of one of PEFT's, and the rows of b as GGUF's converter orders them.
  static std::string gguf_name(const std::string& module) {
    static const std::map<std::string, std::string> kNames = {
        {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"},
        {"self_attn.o_proj", "attn_output"}, {"mlp.gate_proj", "ffn_gate"},  {"mlp.up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"}};
    const std::string prefix = "model.layers.";
    const size_t dot = module.find('.', prefix.size());
    return "blk." + module.substr(prefix.size(), dot - prefix.size()) + "." + kNames.at(module.substr(dot + 1)) +
           ".weight";
  }
  static std::string bytes_of(const tensor::Tensor& t) {
    return {reinterpret_cast<const char*>(t.data()), static_cast<size_t>(t.elements()) * sizeof(float)};
  }
  // rows.reshape(n_heads, 2, width / 2).swapaxes(1, 2), as the converters of llama do with q and k.
  static tensor::Tensor with_neighbours(const tensor::Tensor& b, int64_t width) {
    tensor::Tensor out = tensor::Tensor::empty(b.shape());
    const int64_t rank = b.dim(1);
    int64_t to = 0;
    for (int64_t head = 0; head < b.dim(0) / width; ++head) {
      for (int64_t pair = 0; pair < width / 2; ++pair) {
        for (int64_t half = 0; half < 2; ++half, ++to)
          std::copy_n(b.data() + (head * width + half * width / 2 + pair) * rank, rank, out.data() + to * rank);
      }
    }
    return out;
  }
  fs::path root_;
};

// What PEFT's file holds, as a GGUF file: on the folder it gives PEFT's logits although its q and k lie otherwise.
TEST_F(LoraFiles, AGgufAdapterFitsTheFolder) {
  const auto want = golden("llama");
  const auto model = load_model(test_data("families/llama"));
  const auto peft = formats::LoraFile::open(test_data("adapters/llama"));
  ASSERT_TRUE(peft.has_value()) << peft.error().message;
  formats::GgufWriter file;
  file.key("general.type", "adapter").key("general.architecture", "llama").key("adapter.type", "lora");
  file.key("adapter.lora.alpha", 2.0f);
  std::string bytes;
  for (const formats::LoraPair& pair : peft->pairs) {
    const std::string name = gguf_name(pair.weight);
    const bool turns = name.find("attn_q") != name.npos || name.find("attn_k") != name.npos;
    tensor::Tensor b = turns ? with_neighbours(pair.b, model->shape().head_dim)
                             : tensor::Tensor::from(pair.b.shape(), pair.b.values());
    const auto rank = static_cast<uint64_t>(pair.a.dim(0));
    // Here one alpha serves all: what another would do is put into b.
    for (int64_t i = 0; i < b.elements(); ++i)
      b.data()[i] *= static_cast<float>(pair.scale * static_cast<double>(rank) / 2);
    file.tensor(name + ".lora_a", {static_cast<uint64_t>(pair.a.dim(1)), rank});
    for (const auto& [part, values] : {std::pair{".lora_a", pair.a}, std::pair{".lora_b", b}}) {
      if (std::string_view(part) == ".lora_b") file.tensor(name + part, {rank, static_cast<uint64_t>(b.dim(0))});
      const std::string raw = bytes_of(values);
      const size_t padded = (raw.size() + 31) / 32 * 32;
      file.data().replace(file.data().size() - padded, raw.size(), raw);
    }
  }
  const auto loras = adapters(*model, {{put("adapter.gguf", file.build())}});
  expect_golden_rows(prefill(*session(model, loras), want["ids"].get<std::vector<int32_t>>()), want["rows"],
                     want["logits"]);
}

// The same in the other direction: q and k of a GGUF model, adapted by PEFT's rows and by GGUF's.
TEST_F(LoraFiles, APeftAdapterFitsTheGgufModel) {
  const auto model = load_model(test_data("tiny-llama.gguf"));
  const auto& shape = model->shape();
  const int64_t rows = int64_t{shape.n_heads} * shape.head_dim, cols = shape.d_model;
  tensor::Tensor a = tensor::Tensor::empty({2, cols}), b = tensor::Tensor::empty({rows, 2});
  for (int64_t i = 0; i < a.elements(); ++i) a.data()[i] = 0.02f * static_cast<float>(i % 17 - 8);
  for (int64_t i = 0; i < b.elements(); ++i) b.data()[i] = 0.05f * static_cast<float>(i % 23 - 11);
  put("peft/adapter_config.json", R"({"peft_type": "LORA", "r": 2, "lora_alpha": 2})");
  put("peft/adapter_model.safetensors",
      formats::SafetensorsFile()
          .add("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight", {2, cols}, "F32", bytes_of(a))
          .add("base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight", {rows, 2}, "F32", bytes_of(b))
          .build());
  formats::GgufWriter file;
  file.key("general.type", "adapter").key("general.architecture", "llama").key("adapter.type", "lora");
  file.key("adapter.lora.alpha", 2.0f);
  file.tensor("blk.1.attn_q.weight.lora_a", {static_cast<uint64_t>(cols), 2});
  file.data().replace(file.data().size() - bytes_of(a).size(), std::string::npos, bytes_of(a));
  file.tensor("blk.1.attn_q.weight.lora_b", {2, static_cast<uint64_t>(rows)});
  const std::string turned = bytes_of(with_neighbours(b, shape.head_dim));
  file.data().replace(file.data().size() - turned.size(), std::string::npos, turned);
  const std::vector<int32_t> ids = {5, 17, 3, 99, 42, 7, 7, 12};
  const Rows by_peft = prefill(*session(model, adapters(*model, {{(root_ / "peft").string()}})), ids);
  const Rows by_gguf = prefill(*session(model, adapters(*model, {{put("adapter.gguf", file.build())}})), ids);
  EXPECT_EQ(by_peft, by_gguf);
  EXPECT_NE(by_peft, prefill(*session(model), ids));
}

TEST_F(LoraFiles, WhatDoesNotFitTheModelIsRefusedByName) {
  const auto refused = [](const Model& model, const std::string& path) {
    const auto loaded = load_adapters(model, std::vector<LoraRequest>{{path}});
    EXPECT_FALSE(loaded.has_value());
    return loaded ? std::string() : loaded.error().message;
  };
  const auto llama = load_model(test_data("families/llama")), qwen2 = load_model(test_data("families/qwen2"));
  EXPECT_THAT(refused(*qwen2, test_data("adapters/llama")), HasSubstr("down_proj"));       // other sizes
  EXPECT_THAT(refused(*llama, test_data("adapters/gpt2")), HasSubstr("h.0.attn.c_attn"));  // other names
  const std::string q = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
  const auto peft = [&](const formats::SafetensorsFile& weights) {
    put("bad/adapter_config.json", R"({"peft_type": "LORA", "r": 2})");
    put("bad/adapter_model.safetensors", weights.build());
    return (root_ / "bad").string();
  };
  using formats::SafetensorsFile;
  EXPECT_THAT(refused(*llama, peft(SafetensorsFile().add(q + "A.weight", {2, 48}).add(q + "B.weight", {95, 2}))),
              HasSubstr("[95, 48]"));
  EXPECT_THAT(refused(*llama, peft(SafetensorsFile()
                                       .add("base_model.model.model.layers.9.mlp.up_proj.lora_A.weight", {2, 48})
                                       .add("base_model.model.model.layers.9.mlp.up_proj.lora_B.weight", {40, 2}))),
              HasSubstr("layers.9.mlp.up_proj"));
  EXPECT_THAT(refused(*llama, peft(SafetensorsFile()
                                       .add("base_model.model.model.norm.lora_A.weight", {2, 48})
                                       .add("base_model.model.model.norm.lora_B.weight", {48, 2}))),
              HasSubstr("model.norm"));
  EXPECT_THAT(refused(*llama, peft(SafetensorsFile()
                                       .add("base_model.model.model.embed_tokens.base_layer.weight", {97, 48})
                                       .add(q + "A.weight", {2, 48})
                                       .add(q + "B.weight", {96, 2}))),
              HasSubstr("its vocabulary is another"));
  formats::GgufWriter other;
  other.key("general.type", "adapter").key("general.architecture", "qwen2").key("adapter.type", "lora");
  other.key("adapter.lora.alpha", 2.0f);
  other.tensor("blk.0.attn_q.weight.lora_a", {48, 2}).tensor("blk.0.attn_q.weight.lora_b", {2, 96});
  EXPECT_THAT(refused(*llama, put("other.gguf", other.build())), HasSubstr("architecture \"qwen2\""));
}

// An embedding saved whole that is not the model's stands in its place, for tokens and logits.
TEST_F(LoraFiles, AnEmbeddingThatWasSavedWholeIsUsed) {
  const auto model = load_model(test_data("families/qwen2"));
  const auto table = model->weight("token_embd.weight");
  ASSERT_TRUE(table.has_value());
  tensor::Tensor values = tensor::Tensor::from({96, 64}, tensor::weight_values(**table).values());
  for (int64_t i = 0; i < 64; ++i) std::swap(values.data()[5 * 64 + i], values.data()[9 * 64 + i]);
  const std::string q = "base_model.model.model.layers.0.self_attn.q_proj.lora_";
  put("whole/adapter_config.json", R"({"peft_type": "LORA", "r": 2})");
  put("whole/adapter_model.safetensors",
      formats::SafetensorsFile()
          .add("base_model.model.model.embed_tokens.base_layer.weight", {96, 64}, "F32", bytes_of(values))
          .add(q + "A.weight", {2, 64})
          .add(q + "B.weight", {64, 2}, "F32", std::string(64 * 2 * 4, '\0'))
          .build());
  const auto loras = adapters(*model, {{(root_ / "whole").string()}});
  const std::vector<int32_t> ids = {5, 17, 9, 12}, swapped = {9, 17, 5, 12};
  Rows found = prefill(*session(model, loras), ids);
  const Rows expected = prefill(*session(model), swapped);
  for (auto& row : found) std::swap(row[5], row[9]);
  for (size_t i = 0; i < found.size(); ++i) {
    for (size_t v = 0; v < found[i].size(); ++v) ASSERT_NEAR(found[i][v], expected[i][v], 1e-4) << i << " " << v;
  }
}

TEST_F(LoraFiles, WhatIsKeptWithAnAdapterIsFoundWithTheSameOneOnly) {
  const auto model = load_model(test_data("families/llama"));
  std::vector<int32_t> ids = golden("llama")["ids"].get<std::vector<int32_t>>();
  const LoraRequest one{test_data("adapters/llama")}, half{test_data("adapters/llama"), 0.5},
      other{test_data("adapters/llama-small")};
  PrefixStore store({.dir = (root_ / "prefix").string()});
  const auto found = [&](Session& session) { return store.find(session, ids, ids.size()).has_value(); };
  const auto with_one = session(model, adapters(*model, {one}));
  const SequenceId sequence = with_one->begin();
  ASSERT_TRUE(with_one->prefill(sequence, ids).has_value());
  store.remember(*with_one, sequence, ids);
  store.flush(*with_one);
  EXPECT_TRUE(found(*session(model, adapters(*model, {one}))));
  for (const auto& loras :
       {adapters(*model, {half}), adapters(*model, {other}), adapters(*model, {one, other}), Shared()})
    EXPECT_FALSE(found(*session(model, loras)));

  // Nor is what a sequence read with adapters of its own taken for what the session's give.
  const auto plain = session(model);
  const SequenceId own = plain->begin();
  plain->set_adapters(own, adapters(*model, {one}));
  ASSERT_TRUE(plain->prefill(own, ids).has_value());
  store.remember(*plain, own, ids);
  store.flush(*plain);
  EXPECT_FALSE(found(*plain));

  const std::string base = weights_sha256(*model, nullptr).value();
  EXPECT_EQ(base, model->sha256().value());
  EXPECT_NE(weights_sha256(*model, adapters(*model, {one}).get()).value(), base);
  EXPECT_NE(weights_sha256(*model, adapters(*model, {one}).get()).value(),
            weights_sha256(*model, adapters(*model, {half}).get()).value());
  EXPECT_FALSE(weights_sha256(*model, std::make_shared<Adapters>().get()).has_value());
}

}  // namespace lora_test
}  // namespace fovea::engine

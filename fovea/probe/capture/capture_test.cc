#include "fovea/probe/capture/capture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "fovea/base/testing/paths.h"

namespace fovea::probe {
namespace capture_test {

using kernels::Numerics;
using tensor::Tensor;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::unique_ptr<engine::Session> session_of(int chunk = 512, const std::string& attention = "dense") {
  auto model = engine::Model::load(source_dir() + "/tests/data/tiny-llama.gguf");
  EXPECT_TRUE(model.has_value()) << model.error().message;
  engine::SessionOptions options;
  options.numerics = Numerics::kExact;
  options.chunk = chunk;
  options.attention = attention;
  auto session = engine::Session::create(*model, options);
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(session).value();
}

std::vector<int32_t> ids_of(int n) {
  std::vector<int32_t> ids(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) ids[static_cast<size_t>(i)] = (3 + 7 * i) % 200;
  return ids;
}

CaptureOptions of(std::vector<std::string> hooks, const char* reduction = "full", const char* heads = "all") {
  CaptureOptions options;
  options.hooks = std::move(hooks);
  options.reduction = Reduction::parse(reduction).value();
  options.heads = attention::HeadSet::parse(heads).value();
  return options;
}

Capture captured(engine::Session& session, int n, const CaptureOptions& options) {
  auto plan = CapturePlan::make(session.shape(), session.hooks().model(), n, options);
  EXPECT_TRUE(plan.has_value()) << plan.error().message;
  Capture capture(std::move(plan).value());
  const Status done = capture.run(session, ids_of(n));
  EXPECT_TRUE(done.has_value()) << done.error().message;
  return capture;
}

// 45 tokens are pages of 32 and 13 keys.
TEST(Capture, ChunksJoinToTheValuesOfOneCall) {
  for (const char* reduction : {"full", "topk:5", "block:8", "entropy", "sink", "local:3", "rowsum", "max"}) {
    auto once = session_of(), chunked = session_of(7);
    const CaptureOptions options = of({"*"}, reduction);
    const Capture a = captured(*once, 45, options), b = captured(*chunked, 45, options);
    for (const formats::SafeTensor& tensor : a.plan().tensors()) {
      if (tensor.dtype == formats::SafeDtype::kI32) {
        const auto x = a.integers(tensor.name), y = b.integers(tensor.name);
        ASSERT_FALSE(x.empty()) << tensor.name;
        EXPECT_TRUE(std::equal(x.begin(), x.end(), y.begin(), y.end())) << tensor.name;
        continue;
      }
      const auto x = a.values(tensor.name), y = b.values(tensor.name);
      ASSERT_FALSE(x.empty()) << tensor.name;
      EXPECT_TRUE(std::equal(x.begin(), x.end(), y.begin(), y.end())) << tensor.name;
    }
  }
}

TEST(Capture, HoldsWhatTheHooksSaw) {
  auto session = session_of();
  std::map<std::string, std::vector<float>> seen;
  {
    auto scope = session->hooks().scoped(
        "*", [&](const std::string& name, Tensor& x) { seen[name].assign(x.values().begin(), x.values().end()); });
    engine::PrefillOptions options;
    options.on_logits = [](int64_t, const Tensor&) -> Status { return {}; };
    ASSERT_TRUE(session->prefill(session->begin(), ids_of(20), options).has_value());
  }
  const Capture capture = captured(*session, 20, of({"*"}));
  EXPECT_EQ(capture.plan().tensors().size(), seen.size());
  for (const auto& [name, want] : seen) {
    const auto mine = capture.values(name);
    EXPECT_TRUE(std::equal(mine.begin(), mine.end(), want.begin(), want.end())) << name;
  }
}

TEST(Capture, ReducedRowsAreThoseOfTheMatrix) {
  auto session = session_of(16);
  const int n = 40;
  const Capture full = captured(*session, n, of({"pattern1"}));
  const Capture top = captured(*session, n, of({"pattern1"}, "topk:2")),
                sums = captured(*session, n, of({"pattern1"}, "block:16"));
  const auto p = full.values("blocks.1.attn.hook_pattern");
  const auto values = top.values("blocks.1.attn.hook_pattern.topk");
  const auto positions = top.integers("blocks.1.attn.hook_pattern.topk_positions");
  for (size_t row = 0; row < p.size() / n; ++row) {
    const auto line = p.subspan(row * n, n);
    EXPECT_EQ(values[row * 2], *std::max_element(line.begin(), line.end()));
    EXPECT_EQ(values[row * 2], line[static_cast<size_t>(positions[row * 2])]);
  }
  double block = 0;  // rows and keys 16 to 31 of head 0
  for (size_t i = 16; i < 32; ++i)
    block = std::accumulate(p.begin() + static_cast<int64_t>(i * n + 16), p.begin() + static_cast<int64_t>(i * n + 32),
                            block);
  EXPECT_NEAR(sums.values("blocks.1.attn.hook_pattern.block")[1 * 3 + 1], block, 1e-5);  // sixteen rows of float sums
}

TEST(Capture, ChosenHeadsOnly) {
  auto session = session_of(16);
  const Capture all = captured(*session, 20, of({"*pattern", "*scores"})),
                some = captured(*session, 20, of({"*pattern", "*scores"}, "full", "0.1+1.0+1.1"));
  EXPECT_EQ(some.values("blocks.0.attn.hook_pattern").size(), 400u);
  for (const char* name : {"blocks.0.attn.hook_pattern", "blocks.0.attn.hook_attn_scores"}) {
    const auto mine = some.values(name), theirs = all.values(name).subspan(400, 400);
    EXPECT_TRUE(std::equal(mine.begin(), mine.end(), theirs.begin())) << name;
    EXPECT_THAT(some.plan().heads().at(name), ElementsAre(1));
  }
  EXPECT_EQ(captured(*session, 20, of({"*pattern"}, "full", "1")).plan().tensors().size(), 1u);
}

TEST(Capture, PutsWeightsAtTheirPositionsWhereAMethodDropsKeys) {
  auto session = session_of(8, "streaming-llm:n_sink=2:window=10");
  const int n = 60;
  const Capture capture = captured(*session, n, of({"pattern0"}));
  const auto p = capture.values("blocks.0.attn.hook_pattern");
  for (int i = 0; i < n; ++i) {
    double sum = 0;
    for (int j = 0; j < n; ++j) {
      const float x = p[static_cast<size_t>(i * n + j)];
      const bool hidden = j > i || (j >= 2 && j <= i - 10);
      EXPECT_TRUE(!hidden || x == 0.0f) << i << ' ' << j;
      sum += x;
    }
    EXPECT_NEAR(sum, 1.0, 1e-5);
  }
  auto plan = CapturePlan::make(session->shape(), session->hooks().model(), n, of({"attn_scores0"}));
  Capture scores(std::move(plan).value());
  const Status status = scores.run(*session, ids_of(n));
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(status.error().message, HasSubstr("hook_pattern"));
}

TEST(Capture, LeavesTheSessionAsItWas) {
  auto session = session_of();
  const auto ids = ids_of(30);
  const auto before = session->prefill(session->begin(), ids);
  captured(*session, 30, of({"*"}, "entropy"));
  EXPECT_FALSE(session->hooks().active());
  EXPECT_EQ(*session->prefill(session->begin(), ids), *before);
  std::atomic<bool> cancel{true};
  engine::PrefillOptions options;
  options.cancel = &cancel;
  Capture capture(CapturePlan::make(session->shape(), session->hooks().model(), 30, of({"*"}, "entropy")).value());
  EXPECT_EQ(capture.run(*session, ids, options).error().code, ErrorCode::kCancelled);
  EXPECT_FALSE(session->hooks().active());
}

TEST(Capture, A3_RefusesWhatDoesNotFitWithTheEstimateAndAdvice) {
  attention::ModelShape big;
  big.n_layers = 30, big.n_heads = 9, big.n_kv_heads = 3, big.head_dim = 64, big.d_model = 576, big.d_ff = 1536,
  big.vocab_size = 49152;
  CaptureOptions options = of({"*.hook_pattern"});
  options.max_bytes = 1'000'000'000;
  const auto plan = CapturePlan::make(big, attention::HookMap::decoder(big), 100'000, options);
  ASSERT_FALSE(plan.has_value());
  EXPECT_EQ(plan.error().code, ErrorCode::kLimit);
  EXPECT_THAT(plan.error().message,
              testing::AllOf(HasSubstr("10800.0 GB"), HasSubstr("1.0 GB"),
                             HasSubstr("--reduce entropy would take 108.0 MB"), HasSubstr("--max-bytes")));
  options.reduction = Reduction::parse("entropy").value();
  EXPECT_TRUE(CapturePlan::make(big, attention::HookMap::decoder(big), 100'000, options).has_value());
  options.max_bytes = 108'000'000;
  EXPECT_TRUE(CapturePlan::make(big, attention::HookMap::decoder(big), 100'000, options).has_value());
  options.max_bytes -= 1;
  EXPECT_FALSE(CapturePlan::make(big, attention::HookMap::decoder(big), 100'000, options).has_value());
}

TEST(Capture, A1_RefusesWhatNamesNothing) {
  const auto shape = session_of()->shape();
  const auto message = [&](const CaptureOptions& options) {
    const auto plan = CapturePlan::make(shape, attention::HookMap::decoder(shape), 10, options);
    EXPECT_FALSE(plan.has_value());
    EXPECT_EQ(plan.error().code, ErrorCode::kUsage);
    return plan.has_value() ? "" : plan.error().message;
  };
  EXPECT_THAT(message(of({"blocks.0.attn.hook_patern"})), HasSubstr("blocks.0.attn.hook_pattern"));
  EXPECT_THAT(message(of({})), HasSubstr("no hook"));
  EXPECT_THAT(message(of({"hook_embed", "blocks.99.*.hook_q"})), HasSubstr("99"));
  EXPECT_THAT(message(of({"pattern0"}, "full", "99")), HasSubstr("99"));
  EXPECT_THAT(message(of({"pattern0"}, "full", "1")), HasSubstr("nothing"));
  EXPECT_THAT(message(of({"hook_embed"}, "topk:4")), HasSubstr("topk:4"));
  EXPECT_THAT(message(of({"hook_embed"}, "full", "1")), HasSubstr("heads"));
}

TEST(Capture, TheFileHoldsEveryTensorUnderItsName) {
  auto session = session_of(8);
  const Capture capture = captured(*session, 12, of({"q0", "*pattern"}, "topk:3", "0.1+1"));
  const std::string path = ::testing::TempDir() + "/capture-" + std::to_string(getpid()) + ".safetensors";
  ASSERT_TRUE(capture.write(path, {{"model", "tiny"}}).has_value());
  const std::string file = read_file(path).value();
  std::filesystem::remove(path);
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  const auto header = nlohmann::json::parse(file.substr(8, length));
  EXPECT_EQ(header["__metadata__"]["model"], "tiny");
  EXPECT_EQ(header["__metadata__"]["blocks.0.attn.hook_pattern.topk.heads"], "1");
  for (const formats::SafeTensor& tensor : capture.plan().tensors()) {
    const auto& entry = header[tensor.name];
    EXPECT_EQ(entry["shape"].get<std::vector<int64_t>>(), tensor.shape);
    const char* at = file.data() + 8 + length + entry["data_offsets"][0].get<size_t>();
    const bool integers = tensor.dtype == formats::SafeDtype::kI32;
    const auto bytes =
        integers ? std::as_bytes(capture.integers(tensor.name)) : std::as_bytes(capture.values(tensor.name));
    EXPECT_EQ(bytes.size(), entry["data_offsets"][1].get<size_t>() - entry["data_offsets"][0].get<size_t>());
    EXPECT_EQ(std::memcmp(at, bytes.data(), bytes.size()), 0) << tensor.name;
  }
  EXPECT_EQ(header.size(), capture.plan().tensors().size() + 1);
}

}  // namespace capture_test
}  // namespace fovea::probe

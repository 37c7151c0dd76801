// Hooks on running models: every value against `transformers` (tests/golden/hooks, made by
// tools/make_hook_goldens.py), and what a replaced value does to the answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "fovea/base/check.h"
#include "fovea/base/testing/paths.h"
#include "fovea/engine/session.h"

namespace fovea::engine {
namespace session_hooks_test {

using attention::Site;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using kernels::Numerics;

std::string find_model(const std::string& name) {
  const std::string tiny = source_dir() + "/tests/data/" + name + ".gguf";
  if (std::filesystem::exists(tiny)) return tiny;
  const char *models = std::getenv("FOVEA_MODELS"), *home = std::getenv("HOME");
  return (models ? std::string(models) : std::string(home ? home : "") + "/.local/share/fovea/models") + "/" + name +
         ".gguf";
}

std::unique_ptr<Session> session_of(const std::string& name, SessionOptions options = {.numerics = Numerics::kExact}) {
  auto model = Model::load(find_model(name), {.repack_bytes = 0, .progress = {}});
  EXPECT_TRUE(model.has_value()) << model.error().message;
  auto session = Session::create(*model, options);
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(session).value();
}

const PrefillOptions kEveryRow = {
    .progress = {}, .cancel = nullptr, .on_logits = [](int64_t, const Tensor&) -> Status { return {}; }};

std::vector<float> answer(Session& session, const std::vector<int32_t>& ids) {
  const SequenceId s = session.begin();
  auto logits = session.prefill(s, ids);
  EXPECT_TRUE(logits.has_value()) << logits.error().message;
  session.remove(s);
  return std::move(logits).value();
}

std::vector<int32_t> ids_of(int n) {
  std::vector<int32_t> ids(static_cast<size_t>(n));
  std::iota(ids.begin(), ids.end(), 3);
  return ids;
}

class HookGolden : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Models, HookGolden, ::testing::Values("tiny-llama", "tiny-qwen2", "smollm2-135m"));

TEST_P(HookGolden, EveryValueEqualsTransformers) {
  if (!std::filesystem::exists(find_model(GetParam()))) GTEST_SKIP() << GetParam() << " is not in the store";
  std::ifstream in(source_dir() + "/tests/golden/hooks/" + GetParam() + ".json");
  const Json want = Json::parse(in);
  auto session = session_of(GetParam());
  struct Seen {
    std::vector<int64_t> shape;
    std::vector<float> values;
  };
  std::map<std::string, Seen> seen;
  ASSERT_TRUE(session->hooks()
                  .attach("*",
                          [&](const std::string& name, Tensor& x) {
                            if (!want["hooks"].contains(name)) return;
                            Seen& entry = seen[name];
                            for (int i = 0; i < x.shape().rank(); ++i) entry.shape.push_back(x.dim(i));
                            entry.values.assign(x.values().begin(), x.values().end());
                          })
                  .has_value());
  const auto ids = want["ids"].get<std::vector<int32_t>>();
  ASSERT_TRUE(session->prefill(session->begin(), ids, kEveryRow).has_value());

  const bool interleaved = session->model().config().architecture == "llama";
  const auto head_dim = static_cast<size_t>(session->shape().head_dim);
  for (const auto& [name, golden] : want["hooks"].items()) {
    ASSERT_TRUE(seen.contains(name)) << name;
    const Seen& mine = seen[name];
    EXPECT_EQ(mine.shape, golden["shape"].get<std::vector<int64_t>>()) << name;
    const bool rotary = name.ends_with("hook_q") || name.ends_with("hook_k") || name.ends_with("hook_rot_q") ||
                        name.ends_with("hook_rot_k");
    const auto column = [&](size_t i) {  // of the oracle's order -> ours
      if (!rotary || !interleaved) return i;
      const size_t c = i % head_dim, half = head_dim / 2;
      return i - c + (c < half ? 2 * c : 2 * (c - half) + 1);
    };
    const auto points = golden["values"].get<std::vector<Json>>();
    const double size = golden["max_abs"].get<double>();
    double worst = 0, squares = 0;
    for (size_t i = 0; i < points.size(); ++i) {
      const float x = mine.values[column(i * (mine.values.size() - 1) / (points.size() - 1))];
      if (points[i].is_null()) {
        EXPECT_EQ(x, -INFINITY) << name;
      } else {
        worst = std::max(worst, std::abs(x - points[i].get<double>()));
      }
    }
    for (const float x : mine.values) squares += std::isfinite(x) ? double{x} * x : 0.0;
    // Thirty layers of float32 sums in another order; seen: 3.3e-5 of the largest value.
    EXPECT_LT(worst, 1e-4 * size) << name;
    EXPECT_NEAR(std::sqrt(squares), golden["norm"].get<double>(), 1e-4 * golden["norm"].get<double>()) << name;
  }
  EXPECT_EQ(seen.size(), want["hooks"].size());
}

class OnBothFamilies : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Families, OnBothFamilies, ::testing::Values("tiny-llama", "tiny-qwen2"));

TEST_P(OnBothFamilies, AValueReplacedAtAnySiteReachesTheAnswer) {
  auto session = session_of(GetParam());
  const auto ids = ids_of(12);
  const auto plain = answer(*session, ids);
  for (const std::string& name : session->hooks().model().names()) {
    {
      auto scope = session->hooks().scoped(name, [](const std::string&, Tensor& x) {
        // Every third value, the last token's too, so that a norm after it does not undo the change.
        for (int64_t i = x.elements() - 1; i >= 0; i -= 3) x.data()[i] = x.data()[i] * 0.5f + 0.1f;
      });
      ASSERT_TRUE(scope.has_value()) << scope.error().message;
      EXPECT_NE(answer(*session, ids), plain) << name;
      EXPECT_TRUE(session->hooks().check_fired().has_value()) << name;
    }
    ASSERT_FALSE(session->hooks().active()) << name;
  }
  EXPECT_EQ(answer(*session, ids), plain);
}

TEST_P(OnBothFamilies, ACopyPutInPlaceChangesNoBit) {
  auto session = session_of(GetParam(), {});
  const auto ids = ids_of(40);
  const auto plain = answer(*session, ids);
  auto scope =
      session->hooks().scoped("*", [](const std::string&, Tensor& x) { x = Tensor::from(x.shape(), x.values()); });
  ASSERT_TRUE(scope.has_value());
  EXPECT_EQ(answer(*session, ids), plain);
}

TEST_P(OnBothFamilies, APatternOnOneKeyGivesThatKeysValue) {
  auto session = session_of(GetParam());
  const int n = 9, key = 2, n_heads = session->shape().n_heads, dim = session->shape().head_dim;
  std::vector<float> v, z;
  auto a = session->hooks().scoped("pattern1", [&](const std::string&, Tensor& p) {
    for (int64_t row = 0; row < p.dim(0) * p.dim(1); ++row) {
      for (int64_t j = 0; j < p.dim(2); ++j) p.data()[row * p.dim(2) + j] = j == key ? 1.0f : 0.0f;
    }
  });
  auto b = session->hooks().scoped(
      "v1", [&](const std::string&, Tensor& x) { v.assign(x.values().begin(), x.values().end()); });
  auto c = session->hooks().scoped(
      "z1", [&](const std::string&, Tensor& x) { z.assign(x.values().begin(), x.values().end()); });
  answer(*session, ids_of(n));
  const int n_kv = session->shape().n_kv_heads;
  for (int head = 0; head < n_heads; ++head) {
    for (int i = 0; i < dim; ++i) {
      EXPECT_EQ(z[static_cast<size_t>(((n - 1) * n_heads + head) * dim + i)],
                v[static_cast<size_t>((key * n_kv + head / session->shape().group()) * dim + i)]);
    }
  }
}

TEST_P(OnBothFamilies, ScoresReplacedInOneHeadMoveOnlyThatHeadsPattern) {
  auto session = session_of(GetParam());
  std::vector<float> before, after;
  const auto see = [](std::vector<float>& to) {
    return [&to](const std::string&, Tensor& p) { to.assign(p.values().begin(), p.values().end()); };
  };
  {
    auto scope = session->hooks().scoped("blocks.0.attn.hook_pattern", see(before));
    answer(*session, ids_of(7));
  }
  auto a = session->hooks().scoped("blocks.0.attn.hook_attn_scores", [](const std::string&, Tensor& s) {
    const int64_t n_keys = s.dim(2), row = (1 * s.dim(1) + s.dim(1) - 1) * n_keys;  // head 1, last row
    for (int64_t j = 0; j < n_keys; ++j) s.data()[row + j] = 0.0f;
  });
  auto b = session->hooks().scoped("blocks.0.attn.hook_pattern", see(after));
  answer(*session, ids_of(7));
  const size_t head = before.size() / static_cast<size_t>(session->shape().n_heads);
  EXPECT_TRUE(std::equal(before.begin(), before.begin() + static_cast<int64_t>(head), after.begin()));
  for (size_t j = 0; j < 7; ++j) EXPECT_FLOAT_EQ(after[2 * head - 7 + j], 1.0f / 7);
  EXPECT_TRUE(std::equal(before.begin() + static_cast<int64_t>(2 * head), before.end(),
                         after.begin() + static_cast<int64_t>(2 * head)));
}

TEST_P(OnBothFamilies, ChangingTheInputOfOneHeadsQueriesLeavesTheOthers) {
  auto session = session_of(GetParam());
  std::vector<float> before, after;
  {
    auto scope = session->hooks().scoped(
        "q0", [&](const std::string&, Tensor& x) { before.assign(x.values().begin(), x.values().end()); });
    answer(*session, ids_of(5));
  }
  auto a = session->hooks().scoped("blocks.0.hook_q_input", [](const std::string&, Tensor& x) {
    for (int64_t c = 0; c < x.dim(2); c += 2) x.data()[1 * x.dim(2) + c] += 1.0f;  // token 0, head 1
  });
  auto b = session->hooks().scoped(
      "q0", [&](const std::string&, Tensor& x) { after.assign(x.values().begin(), x.values().end()); });
  answer(*session, ids_of(5));
  const auto dim = static_cast<size_t>(session->shape().head_dim);
  for (size_t i = 0; i < before.size(); ++i) {
    if (i / dim == 1) continue;
    EXPECT_EQ(after[i], before[i]) << i;
  }
  EXPECT_FALSE(std::equal(before.begin() + static_cast<int64_t>(dim), before.begin() + static_cast<int64_t>(2 * dim),
                          after.begin() + static_cast<int64_t>(dim)));
}

TEST(SessionHooks, EditsOfTheAttentionInputLeaveTheResidualStream) {
  auto session = session_of("tiny-llama");
  std::vector<float> pre, mid, out;
  const auto see = [](std::vector<float>& to) {
    return [&to](const std::string&, Tensor& p) { to.assign(p.values().begin(), p.values().end()); };
  };
  auto a = session->hooks().scoped("blocks.0.hook_attn_in",
                                   [](const std::string&, Tensor& x) { x = Tensor::zeros(x.shape()); });
  auto edit =
      session->hooks().scoped("blocks.0.hook_attn_in", [](const std::string&, Tensor& x) { x.data()[0] = 5.0f; });
  auto b = session->hooks().scoped("resid_pre0", see(pre));
  auto c = session->hooks().scoped("resid_mid0", see(mid));
  auto d = session->hooks().scoped("attn_out0", see(out));
  answer(*session, ids_of(4));
  for (size_t i = 0; i < mid.size(); ++i) EXPECT_EQ(mid[i], pre[i] + out[i]);
}

// A method that edits rows: what hooks show is what the layer used.
TEST(SessionHooks, ThePatternIsTheOneAfterTheMethods) {
  auto session =
      session_of("tiny-llama", {.numerics = Numerics::kExact, .attention = "streaming-llm:n_sink=1:window=3"});
  std::vector<float> p;
  auto scope = session->hooks().scoped(
      "pattern0", [&](const std::string&, Tensor& x) { p.assign(x.values().begin(), x.values().end()); });
  answer(*session, ids_of(8));
  for (int j = 1; j < 5; ++j) EXPECT_EQ(p[static_cast<size_t>(7 * 8 + j)], 0.0f);  // head 0, last row
  EXPECT_GT(p[7 * 8], 0.0f);
}

}  // namespace session_hooks_test
}  // namespace fovea::engine

// Against plain loops in double, which also give the log-sum-exp and z.
#include "fovea/kernels/attention_backward.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/base/random.h"

namespace fovea::kernels {
namespace attention_backward_test {

struct Task {
  int k_dim = 64, v_dim = 64, group = 1;
  int64_t n_queries = 10, n_keys = 10;
  KeyRule rule = {};
  float softcap = 0;
  bool by_pages = false, masked = false, with_dlse = false, backwards = false;  // keys in falling order of position
};

std::vector<float> random_floats(int64_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = static_cast<float>(rng.normal());
  return x;
}

struct Freed {
  void operator()(std::byte* p) const { ::operator delete (p, std::align_val_t{64}); }
};

// One KV head between two others in memory, so that rows are strided.
struct Problem {
  Task s;
  AttentionBackwardArgs args;
  std::vector<float> q, k, v, z, dz, lse, dlse, dq, dk, dv;
  std::vector<double> want_dq, want_dk, want_dv;
  std::vector<int32_t> q_pos, k_pos, pages;
  std::vector<uint32_t> mask;
  std::unique_ptr<std::byte, Freed> scratch;

  explicit Problem(const Task& setup) : s(setup) {
    const int64_t ld_q = s.group * s.k_dim + 3, ld_z = s.group * s.v_dim + 1, ld_k = s.k_dim + 5, ld_v = s.v_dim + 7;
    q = random_floats(s.n_queries * ld_q, 1), k = random_floats(s.n_keys * ld_k, 2),
    v = random_floats(s.n_keys * ld_v, 3);
    dz = random_floats(s.n_queries * ld_z, 4), dlse = random_floats(s.n_queries * s.group, 5);
    z.assign(dz.size(), 0), lse.assign(dlse.size(), -INFINITY);
    dq.assign(q.size(), 1), dk.assign(k.size(), 1), dv.assign(v.size(), 1);  // added to
    for (int64_t i = 0; i < s.n_queries; ++i) q_pos.push_back(static_cast<int32_t>(s.n_keys - s.n_queries + i));
    for (int64_t i = 0; i < s.n_keys; ++i) k_pos.push_back(static_cast<int32_t>(s.backwards ? s.n_keys - 1 - i : i));
    const int64_t all = (s.n_keys + kPageKeys - 1) / kPageKeys;
    for (int64_t i = 0; i < all; ++i) {
      if (!s.by_pages || i % 3 != 1) pages.push_back(static_cast<int32_t>(i));
    }
    Rng rng(6);
    for (size_t i = 0; i < lse.size() * pages.size(); ++i) mask.push_back(static_cast<uint32_t>(rng.next()));
    args = {.k_dim = s.k_dim,
            .v_dim = s.v_dim,
            .group = s.group,
            .scale = 0.2f,
            .softcap = s.softcap,
            .n_queries = s.n_queries,
            .q = q.data(),
            .ld_q = ld_q,
            .q_pos = q_pos.data(),
            .n_keys = s.n_keys,
            .k = k.data(),
            .v = v.data(),
            .ld_k = ld_k,
            .ld_v = ld_v,
            .k_pos = k_pos.data(),
            .pages = s.by_pages ? pages.data() : nullptr,
            .n_pages = s.by_pages ? static_cast<int64_t>(pages.size()) : 0,
            .rule = s.rule,
            .mask = s.masked ? mask.data() : nullptr,
            .z = z.data(),
            .dz = dz.data(),
            .ld_z = ld_z,
            .ld_dz = ld_z,
            .lse = lse.data(),
            .dlse = s.with_dlse ? dlse.data() : nullptr,
            .dq = dq.data(),
            .dk = dk.data(),
            .dv = dv.data()};
    scratch.reset(static_cast<std::byte*>(
        ::operator new (attention_backward_scratch_bytes(s.k_dim, s.v_dim), std::align_val_t{64})));
    args.scratch = scratch.get();
    slow_twin();
  }

  bool sees(int64_t i, int h, int64_t j) const {
    const auto page = std::find(pages.begin(), pages.end(), static_cast<int32_t>(j / kPageKeys));
    if (page == pages.end()) return false;
    const int64_t at = page - pages.begin(), n = static_cast<int64_t>(pages.size());
    if (s.masked && !(mask[static_cast<size_t>((i * s.group + h) * n + at)] >> j % kPageKeys & 1)) return false;
    const int64_t p = q_pos[static_cast<size_t>(i)], key = k_pos[static_cast<size_t>(j)];
    return key <= p + s.rule.ahead && (key > p - s.rule.window || key < s.rule.n_sink);
  }
  void slow_twin() {
    want_dq.assign(q.size(), 1), want_dk.assign(k.size(), 1), want_dv.assign(v.size(), 1);
    for (int64_t i = 0; i < s.n_queries; ++i) {
      for (int h = 0; h < s.group; ++h) {
        const auto q_at = static_cast<size_t>(i * args.ld_q + h * s.k_dim),
                   z_at = static_cast<size_t>(i * args.ld_z + h * s.v_dim);
        const auto row = static_cast<size_t>(i * s.group + h);
        std::vector<double> p(static_cast<size_t>(s.n_keys)), slope(p.size(), 1.0);
        double sum = 0;
        for (int64_t j = 0; j < s.n_keys; ++j) {
          double dot = 0;
          for (int c = 0; c < s.k_dim; ++c) dot += double{q[q_at + c]} * k[static_cast<size_t>(j * args.ld_k + c)];
          double score = double{args.scale} * dot;
          if (s.softcap > 0) {
            const double tanh = std::tanh(score / s.softcap);
            score = s.softcap * tanh, slope[static_cast<size_t>(j)] = 1 - tanh * tanh;
          }
          p[static_cast<size_t>(j)] = sees(i, h, j) ? std::exp(score) : 0.0;
          sum += p[static_cast<size_t>(j)];
        }
        if (sum == 0) continue;
        lse[row] = static_cast<float>(std::log(sum));
        std::vector<double> dp(p.size());
        double mean = 0;
        for (size_t j = 0; j < p.size(); ++j) {
          p[j] /= sum;
          for (int c = 0; c < s.v_dim; ++c) {
            const double value = v[j * static_cast<size_t>(args.ld_v) + static_cast<size_t>(c)];
            z[z_at + c] += static_cast<float>(p[j] * value);
            dp[j] += dz[z_at + c] * value;
            want_dv[j * static_cast<size_t>(args.ld_v) + static_cast<size_t>(c)] += p[j] * dz[z_at + c];
          }
          mean += p[j] * dp[j];
        }
        if (s.with_dlse) mean -= dlse[row];
        for (size_t j = 0; j < p.size(); ++j) {
          const double ds = double{args.scale} * p[j] * (dp[j] - mean) * slope[j];
          for (int c = 0; c < s.k_dim; ++c) {
            const size_t k_at = j * static_cast<size_t>(args.ld_k) + static_cast<size_t>(c);
            want_dq[q_at + c] += ds * k[k_at], want_dk[k_at] += ds * q[q_at + c];
          }
        }
      }
    }
  }
  // Sums of up to some hundred terms of size 1 to 10.
  static void expect_near(const std::vector<float>& got, const std::vector<double>& want, const char* what) {
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 2e-5 * (1 + std::abs(want[i]))) << what << i;
  }
  void expect_right() const {
    attention_backward(args);
    expect_near(dq, want_dq, "dq ");
    expect_near(dk, want_dk, "dk ");
    expect_near(dv, want_dv, "dv ");
  }
};

class AttentionBackward : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!machine_has(GetParam())) GTEST_SKIP() << "this machine lacks " << name_of(GetParam());
    before_ = active_isa();
    set_isa(GetParam());
    ASSERT_EQ(attention_backward.used(), GetParam());
  }
  void TearDown() override { set_isa(before_); }

 private:
  Isa before_ = active_isa();
};

TEST_P(AttentionBackward, MeetsPlainLoopsAtEverySize) {
  for (const int64_t n : {1, 31, 33, 97, 130, 260}) {
    SCOPED_TRACE(n);
    Problem({.k_dim = 32, .v_dim = 32, .n_queries = n, .n_keys = n}).expect_right();
  }
  Problem({.n_queries = 5, .n_keys = 150}).expect_right();
}

TEST_P(AttentionBackward, WidthsMayDifferAndGroupsShareKeys) {
  for (const int k_dim : {32, 40, 100, 256}) {
    for (const int v_dim : {32, 72, 256}) {
      SCOPED_TRACE(std::to_string(k_dim) + " " + std::to_string(v_dim));
      Problem({.k_dim = k_dim, .v_dim = v_dim, .group = 3, .n_queries = 20, .n_keys = 40}).expect_right();
    }
  }
}

TEST_P(AttentionBackward, KeepsToWindowsPagesAndMasks) {
  const Task base{.k_dim = 32, .v_dim = 32, .group = 2, .n_queries = 200, .n_keys = 300};
  Task s = base;
  s.rule = {.n_sink = 3, .window = 40};
  Problem(s).expect_right();
  s = base, s.by_pages = true;
  Problem(s).expect_right();
  s.masked = true;
  Problem(s).expect_right();
  s.rule = {.n_sink = 0, .window = 7};
  Problem(s).expect_right();  // some rows see nothing
  s = base, s.backwards = true, s.with_dlse = true;
  Problem(s).expect_right();
}

TEST_P(AttentionBackward, KnowsSoftCapsAndWhatStandsAhead) {
  const Task base{.k_dim = 32, .v_dim = 40, .group = 2, .n_queries = 120, .n_keys = 140};
  for (const int32_t ahead : {0, 5, INT32_MAX}) {
    for (const float softcap : {0.0f, 1.5f}) {
      SCOPED_TRACE(std::to_string(ahead) + " " + std::to_string(softcap));
      Task s = base;
      s.rule.ahead = ahead, s.softcap = softcap;
      Problem(s).expect_right();
      s.rule.window = 30, s.masked = true;
      Problem(s).expect_right();
    }
  }
}

TEST_P(AttentionBackward, LeavesOutWhatIsNotWanted) {
  for (const int left_out : {0, 1, 2}) {
    Problem p({.k_dim = 32, .v_dim = 32, .n_queries = 40, .n_keys = 40});
    (left_out == 0 ? p.args.dq : left_out == 1 ? p.args.dk : p.args.dv) = nullptr;
    attention_backward(p.args);
    if (left_out != 0) Problem::expect_near(p.dq, p.want_dq, "dq ");
    if (left_out != 1) Problem::expect_near(p.dk, p.want_dk, "dk ");
    if (left_out != 2) Problem::expect_near(p.dv, p.want_dv, "dv ");
  }
}

TEST_P(AttentionBackward, AKeyThatNobodySeesMayHoldAnything) {
  Problem p({.k_dim = 32, .v_dim = 32, .n_queries = 4, .n_keys = 40});
  p.q_pos = {10, 11, 12, 13};
  p.z.assign(p.z.size(), 0), p.lse.assign(p.lse.size(), -INFINITY), p.slow_twin();
  for (int c = 0; c < 32; ++c) p.v[static_cast<size_t>(30 * p.args.ld_v + c)] = INFINITY;
  p.expect_right();
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, AttentionBackward, ::testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace attention_backward_test
}  // namespace fovea::kernels

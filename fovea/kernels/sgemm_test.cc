#include "fovea/kernels/sgemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/base/random.h"
#include "fovea/base/threads.h"

namespace fovea::kernels {
namespace sgemm_test {

std::vector<float> random_floats(int64_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = static_cast<float>(rng.normal());
  return x;
}

// A product with rows a little farther apart than they are long, at odd addresses.
struct Case {
  int64_t m, n, k;
  bool a_transposed = false, b_transposed = false, accumulate = false, with_bias = false;
  std::vector<float> a, b, c, bias;
  SgemmArgs args;

  Case(int64_t m_, int64_t n_, int64_t k_, int form) : m(m_), n(n_), k(k_) {
    a_transposed = form & 1, b_transposed = form & 2, accumulate = form & 4, with_bias = form & 8;
    args = {
        .m = m, .n = n, .k = k, .a_transposed = a_transposed, .b_transposed = b_transposed, .accumulate = accumulate};
    args.ld_a = (a_transposed ? m : k) + 3, args.ld_b = (b_transposed ? k : n) + 1, args.ld_c = n + 5;
    a = random_floats((a_transposed ? k : m) * args.ld_a + 1, 1);
    b = random_floats((b_transposed ? n : k) * args.ld_b + 1, 2);
    c = random_floats(m * args.ld_c + 1, 3);
    bias = random_floats(n + 1, 4);
  }
  std::vector<float> run() {
    std::vector<float> out = c;
    args.a = a.data() + 1, args.b = b.data() + 1, args.c = out.data() + 1;
    args.bias = with_bias ? bias.data() + 1 : nullptr;
    sgemm(args);
    return out;
  }
  // The slow twin, and the sum of magnitudes that its errors are measured by.
  void element(int64_t i, int64_t j, double& sum, double& size) const {
    sum = accumulate ? c[static_cast<size_t>(1 + i * args.ld_c + j)] : 0.0, size = std::abs(sum) + 1e-9;
    for (int64_t p = 0; p < k; ++p) {
      const float u = a[static_cast<size_t>(1 + (a_transposed ? p * args.ld_a + i : i * args.ld_a + p))];
      const float v = b[static_cast<size_t>(1 + (b_transposed ? j * args.ld_b + p : p * args.ld_b + j))];
      sum += double{u} * v, size += std::abs(double{u} * v);
    }
    if (!with_bias) return;
    const double add = bias[static_cast<size_t>(1 + j)];
    sum += add, size += std::abs(add);
  }
};

class Sgemm : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!machine_has(GetParam())) GTEST_SKIP() << "this machine lacks " << name_of(GetParam());
    before_ = active_isa();
    set_isa(GetParam());
    ASSERT_EQ(sgemm_block.used(), GetParam());
  }
  void TearDown() override { set_isa(before_); }

 private:
  Isa before_ = active_isa();
};

TEST_P(Sgemm, IsTheProductInEveryFormAndAtEverySize) {
  for (const int64_t m : {1, 5, 6, 12, 13, 31}) {
    for (const int64_t n : {1, 15, 16, 32, 33, 70}) {
      for (const int64_t k : {0, 1, 7, 8, 40}) {
        for (int form = 0; form < 16; ++form) {
          Case product(m, n, k, form);
          const std::vector<float> c = product.run();
          for (int64_t i = 0; i < m; ++i) {
            for (int64_t j = 0; j < n; ++j) {
              double want, size;
              product.element(i, j, want, size);
              // A running sum of at most 42 terms.
              ASSERT_NEAR(c[static_cast<size_t>(1 + i * product.args.ld_c + j)], want, 3e-6 * size)
                  << m << " " << n << " " << k << ", form " << form << " at " << i << " " << j;
            }
            for (int64_t j = n; j < product.args.ld_c && i + 1 < m; ++j) {
              const auto at = static_cast<size_t>(1 + i * product.args.ld_c + j);
              ASSERT_EQ(c[at], product.c[at]) << "beside the matrix";
            }
          }
        }
      }
    }
  }
}

// c = fma(a, b, c), steps rising: what packing, blocks of steps and of rows must not show.
TEST_P(Sgemm, SumsEveryElementInOneOrder) {
  if (GetParam() == Isa::kPortable) GTEST_SKIP() << "it multiplies and adds in two roundings";
  for (const int64_t k : {300, 5000}) {  // past a block of steps, and past what is packed at once
    for (const int form : {0, 1, 2, 7}) {
      Case product(14, 35, k, form);
      const std::vector<float> c = product.run();
      for (int64_t i = 0; i < 14; ++i) {
        for (int64_t j = 0; j < 35; ++j) {
          const auto at = static_cast<size_t>(1 + i * product.args.ld_c + j);
          float want = product.accumulate ? product.c[at] : 0.0f;
          for (int64_t p = 0; p < k; ++p) {
            const int64_t u = product.a_transposed ? p * product.args.ld_a + i : i * product.args.ld_a + p;
            const int64_t v = product.b_transposed ? j * product.args.ld_b + p : p * product.args.ld_b + j;
            want = std::fma(product.a[static_cast<size_t>(1 + u)], product.b[static_cast<size_t>(1 + v)], want);
          }
          ASSERT_EQ(c[at], want) << "k " << k << ", form " << form << " at " << i << " " << j;
        }
      }
    }
  }
}

TEST_P(Sgemm, GivesTheSameBitsWithAnyNumberOfThreadsAndAnySplitOfRows) {
  const int before = pool().size();
  for (const int form : {0, 3, 12}) {
    set_threads(1);
    Case product(131, 200, 700, form);
    const std::vector<float> want = product.run();
    set_threads(3);
    EXPECT_EQ(product.run(), want) << "form " << form;
    std::vector<float> parts = product.c;
    for (int64_t i = 0; i < 131; i += 50) {
      SgemmArgs part = product.args;
      part.m = std::min<int64_t>(50, 131 - i);
      part.a += product.a_transposed ? i : i * part.ld_a;
      part.c = parts.data() + 1 + i * part.ld_c;
      sgemm(part);
    }
    EXPECT_EQ(parts, want) << "form " << form;
  }
  set_threads(before);
}

TEST_P(Sgemm, WhatIsNoNumberStaysInItsRowAndColumn) {
  Case product(13, 33, 9, 0);
  product.a[static_cast<size_t>(1 + 12 * product.args.ld_a + 4)] = std::numeric_limits<float>::infinity();
  product.b[static_cast<size_t>(1 + 2 * product.args.ld_b + 32)] = std::nanf("");
  const std::vector<float> c = product.run();
  for (int64_t i = 0; i < 13; ++i) {
    for (int64_t j = 0; j < 33; ++j)
      EXPECT_EQ(std::isfinite(c[static_cast<size_t>(1 + i * product.args.ld_c + j)]), i != 12 && j != 32);
  }
}

TEST_P(Sgemm, RefusesRowsThatOverlap) {
  Case product(4, 4, 4, 0);
  product.args.ld_c = 3;
  EXPECT_THROW(product.run(), CheckFailed);
}

INSTANTIATE_TEST_SUITE_P(EveryIsa, Sgemm, ::testing::Values(Isa::kPortable, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& test) { return std::string(name_of(test.param)); });

}  // namespace sgemm_test
}  // namespace fovea::kernels

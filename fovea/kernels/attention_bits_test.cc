// Attention where numbers are extreme, and the bits that chunks, later keys and parts of a list must leave alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/kernels/testing/attention_problem.h"

namespace fovea::kernels {
namespace attention_bits_test {

TEST(AttentionBits, ARowThatSeesNothingIsZero) {
  on_every_isa([] {
    Problem p(KvType::kI16, 64, 2, 3, 70, 3);
    p.q_pos = {0, 0, 50};
    const Answer got = run(p, 3);
    for (size_t i = 0; i < 2 * 2 * 64; ++i) EXPECT_EQ(got.z[i], 0.0f);
    EXPECT_THAT(std::vector<float>(got.lse.begin(), got.lse.begin() + 4), testing::Each(-kInf));
    EXPECT_GT(got.lse[4], -kInf);
    p.blocks.clear();
    EXPECT_THAT(run(p, 3).z, testing::Each(0.0f));
  });
}

TEST(AttentionBits, ChunksOfQueriesChangeNoBit) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      for (int dim : {8, 64, 80}) {
        for (int group : {1, 3, 7}) {
          Problem p(type, dim, group, 75, 300, 11, 0.1);
          if (group == 3) p.head_rules = {{}, {.n_sink = 3, .window = 9}, {.n_sink = 0, .window = 65}};
          if (group == 7) p.random_mask(4);
          const Answer whole = run(p, p.n_queries);
          for (int64_t chunk : {1, 2, 5, 32}) {
            EXPECT_TRUE(run(p, chunk) == whole) << dim << " " << group << " " << chunk;
          }
        }
      }
    }
  });
}

TEST(AttentionBits, LaterKeysChangeNoBitEvenIfTheyAreNotFinite) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      Problem p(type, 64, 3, 20, 100, 12);
      for (size_t i = 0; i < 20; ++i) p.q_pos[i] = p.positions[2][i];
      const Answer before = run(p, 20);
      const std::vector<float> k(64, kNan), v(64, -kInf);
      for (int key = 2 * kPageKeys + 20; key < 100; ++key) p.put(key, 10000 + key, k, v);
      EXPECT_TRUE(run(p, 20) == before);
      EXPECT_TRUE(run(p, 1) == before);
    }
  });
}

TEST(AttentionBits, ANanThatIsSeenShows) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      Problem p(type, 64, 2, 2, 90, 12);
      p.q_pos = {1, 1000};
      std::vector<float> k(64, 1.0f);
      k[40] = kNan;
      p.put(70, 500, k, std::vector<float>(64, 1.0f));
      const Answer got = run(p, 2);
      EXPECT_FALSE(std::isnan(got.z[0]));
      EXPECT_TRUE(std::isnan(got.z[2 * 64]));
    }
  });
}

TEST(AttentionBits, ANanInAValueShowsWhereItIsSeen) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      Problem p(type, 64, 2, 2, 90, 12);
      p.q_pos = {1, 1000};
      p.put(70, 500, std::vector<float>(64, 1.0f), std::vector<float>(64, kNan));
      const Answer got = run(p, 2);
      for (size_t i = 0; i < 128; ++i) EXPECT_FALSE(std::isnan(got.z[i]));
      for (size_t i = 128; i < 256; ++i) EXPECT_TRUE(std::isnan(got.z[i]));
    }
  });
}

TEST(AttentionBits, CodesAtTheirLargestDoNotOverflow) {
  on_every_isa([] {
    for (KvType type : kCodeTypes) {
      for (int dim : kDims) {
        Problem p(type, dim, 1, 1, 128, 15);
        p.q_pos[0] = 10000;
        p.scale = 1.0f / static_cast<float>(dim);
        std::fill(p.q.begin(), p.q.end(), 1.0f);
        const std::vector<float> one(static_cast<size_t>(dim), 1.0f);
        for (int key = 0; key < 128; ++key) p.put(key, key, one, one);
        const Answer got = run(p, 1);
        for (float x : got.z) EXPECT_NEAR(x, 1.0f, 1e-2);  // scales are bfloat16
        EXPECT_NEAR(got.lse[0], 1.0f + std::log(128.0f), 1e-2);
      }
    }
  });
}

TEST(AttentionBits, AnExtremeKeyLeavesTheOthersTheirWeight) {
  on_every_isa([] {
    // A sink with nearly all the weight and a value near zero: what is left comes from the others.
    for (KvType type : kCodeTypes) {
      Problem p(type, 64, 1, 1, 120, 16);
      p.q_pos[0] = 10000;
      std::fill(p.q.begin(), p.q.end(), 1.0f);
      for (int key = 0; key < 120; ++key) {
        const bool sink = key == 0;
        p.put(key, key, std::vector<float>(64, sink ? 1.0f : 0.0f), std::vector<float>(64, sink ? 1e-6f : 1.0f));
      }
      const Twin want = twin_of(p);
      const Answer got = run(p, 1);
      for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(got.z[i] / want.z[i], 1.0, 2e-3);
    }
  });
}

TEST(AttentionBits, ScoresFarApartDoNotOverflow) {
  on_every_isa([] {
    Problem p(KvType::kF32, 64, 1, 1, 100, 13);
    p.q_pos[0] = 1000;
    p.scale = 400.0f;
    const Twin want = twin_of(p);
    const Answer got = run(p, 1);
    for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(got.z[i], want.z[i], 1e-2);  // scores of 1e4 hold 1e-3
    for (float x : got.z) EXPECT_TRUE(std::isfinite(x));
  });
}

TEST(AttentionBits, ACapLeavesARowOfTinyNumbersItsMean) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      Problem p(type, 64, 1, 1, 100, 13);
      p.q_pos[0] = 1000;
      p.softcap = 30;
      for (float& x : p.q) x *= 1e-33f;
      const Twin want = twin_of(p);
      const Answer got = run(p, 1);
      for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(got.z[i], want.z[i], 2e-3);
    }
  });
}

TEST(AttentionBits, MergesPartsOfTheKeyList) {
  on_every_isa([] {
    Problem p(KvType::kI16, 80, 2, 1, 330, 14);
    p.q_pos[0] = 1000;
    const Answer whole = run(p, 1);
    const std::vector<KeyBlock> all = p.blocks;
    std::vector<Answer> parts;
    for (size_t begin = 0; begin < all.size(); begin += 4) {
      p.blocks.assign(all.begin() + static_cast<std::ptrdiff_t>(begin),
                      all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), begin + 4)));
      parts.push_back(run(p, 1));
    }
    p.blocks.clear();
    parts.push_back(run(p, 1));  // sees nothing
    std::vector<const float*> z, lse;
    for (const Answer& part : parts) z.push_back(part.z.data()), lse.push_back(part.lse.data());
    std::vector<float> merged(160, 5.0f), all_lse(2, 5.0f), shares(2 * parts.size(), 5.0f), biases(parts.size());
    float* const out[] = {merged.data(), merged.data() + 80};
    MergeArgs args{.n_parts = static_cast<int>(parts.size()), .v_dim = 80, .n_rows = 2};
    args.z = z.data(), args.lse = lse.data(), args.biases = biases.data(), args.out = out;
    args.out_lse = all_lse.data(), args.shares = shares.data();
    attention_merge(args);
    for (size_t head = 0; head < 2; ++head) {
      double sum = 0;
      for (size_t i = 0; i < parts.size(); ++i) {
        const float share = shares[2 * i + head];
        EXPECT_NEAR(share, std::exp(parts[i].lse[head] - all_lse[head]), 1e-6);
        sum += static_cast<double>(share);
      }
      EXPECT_NEAR(sum, 1, 1e-6);
      EXPECT_NEAR(all_lse[head], whole.lse[head], 1e-5);
    }
    for (size_t d = 0; d < 160; ++d)
      EXPECT_NEAR(merged[d], whole.z[d], 1e-5);  // powers of two are 3e-6 off, in each part
    const float* unread[] = {nullptr};
    args.n_parts = 1, args.z = unread, args.lse = &lse.back(), args.out_lse = nullptr;
    attention_merge(args);
    EXPECT_THAT(merged, testing::Each(0.0f));
    EXPECT_THAT(std::span(shares).first(2), testing::Each(0.0f));
  });
}

// Rows past a register, parts past those that are added up together, biases, and rows that some parts do not see.
TEST(AttentionBits, MergesEachRowAsAlone) {
  on_every_isa([] {
    constexpr int kParts = 37, kDim = 24;
    for (const int64_t n_rows : {1, 5, 16, 35}) {
      Rng random(static_cast<uint64_t>(n_rows));
      const auto n = static_cast<size_t>(n_rows);
      std::vector<std::vector<float>> z(kParts, std::vector<float>(n * kDim)), lse(kParts, std::vector<float>(n));
      std::vector<float> biases(kParts), merged(n * kDim), all_lse(n), shares(kParts * n);
      std::vector<const float*> of_z, of_lse;
      std::vector<float*> out;
      for (size_t i = 0; i < kParts; ++i) {
        for (float& x : z[i]) x = static_cast<float>(random.normal());
        for (float& x : lse[i])
          x = random.below(4) == 0 ? -std::numeric_limits<float>::infinity() : static_cast<float>(3 * random.normal());
        biases[i] = static_cast<float>(random.normal());
        of_z.push_back(z[i].data()), of_lse.push_back(lse[i].data());
      }
      for (size_t row = 0; row < n; ++row) out.push_back(merged.data() + row * kDim);
      attention_merge(
          {kParts, kDim, n_rows, of_z.data(), of_lse.data(), biases.data(), out.data(), all_lse.data(), shares.data()});
      for (size_t row = 0; row < n; ++row) {
        std::vector<const float*> z_of_row, lse_of_row;
        for (size_t i = 0; i < kParts; ++i)
          z_of_row.push_back(z[i].data() + row * kDim), lse_of_row.push_back(lse[i].data() + row);
        std::vector<float> alone(kDim), its_shares(kParts);
        float its_lse = 0, *to = alone.data();
        attention_merge(
            {kParts, kDim, 1, z_of_row.data(), lse_of_row.data(), biases.data(), &to, &its_lse, its_shares.data()});
        double total = 0;
        std::vector<double> want(kDim);
        for (size_t i = 0; i < kParts; ++i) {
          const double power = std::exp(static_cast<double>(lse[i][row]) + static_cast<double>(biases[i]));
          total += power;
          for (size_t d = 0; d < kDim; ++d) want[d] += power * static_cast<double>(z[i][row * kDim + d]);
          ASSERT_EQ(shares[i * n + row], its_shares[i]);
        }
        ASSERT_EQ(all_lse[row], its_lse);
        ASSERT_NEAR(all_lse[row], std::log(total), 1e-5);
        for (size_t d = 0; d < kDim; ++d) {
          ASSERT_EQ(merged[row * kDim + d], alone[d]);
          ASSERT_NEAR(alone[d], want[d] / total, 1e-5);
        }
      }
    }
  });
}

TEST(AttentionBits, TheSameRowsOverOtherKeysGiveTheBitsOfACallOfTheirOwn) {
  on_every_isa([] {
    for (const KvType type : kTypes) {
      for (const int64_t n_queries : {1, 50, 100}) {  // with 3 heads: one block, one strip, two strips
        Problem p(type, 64, 3, n_queries, 300, 21);
        p.head_rules = {{}, {.n_sink = 3, .window = 90}, {.window = 200}};
        const std::vector<KeyBlock> all = p.blocks;
        const size_t bytes = attention_scratch_bytes(p.args());
        const std::unique_ptr<float, Freed> scratch(static_cast<float*>(::operator new (bytes, std::align_val_t{64})));
        for (size_t begin = 0; begin < all.size(); begin += 4) {
          p.blocks.assign(all.begin() + static_cast<std::ptrdiff_t>(begin),
                          all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), begin + 4)));
          p.head_rules[1].n_sink = static_cast<int32_t>(begin);  // rules may differ from call to call
          const Answer alone = run(p, p.n_queries);
          Answer again;
          again.z.assign(alone.z.size(), 77.0f), again.lse.assign(alone.lse.size(), 77.0f);
          AttentionArgs args = p.args();
          args.z = again.z.data(), args.lse = again.lse.data();
          args.scratch = scratch.get(), args.same_rows = begin > 0;
          attention(args);
          EXPECT_TRUE(again == alone) << name_of(type) << " " << n_queries << " queries, pages from " << begin;
        }
      }
    }
  });
}

}  // namespace attention_bits_test
}  // namespace fovea::kernels

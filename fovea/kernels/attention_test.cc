// Attention against doubles: every shape, type, rule and mask.
#include "fovea/kernels/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/kernels/testing/attention_problem.h"

namespace fovea::kernels {
namespace attention_test {

TEST(Attention, UsesTheInstructionSetThatWasChosen) {
  on_every_isa([] { EXPECT_EQ(attention.used(), active_isa()); });
}

TEST(Attention, AgreesWithDoublesForEveryShape) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      for (int dim : kDims) {
        for (int group : {1, 2, 3, 7}) {
          SCOPED_TRACE("head_dim " + std::to_string(dim) + " group " + std::to_string(group));
          expect_agrees(Problem(type, dim, group, 9, 110, 5));
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  });
}

TEST(Attention, AgreesWithDoublesForEveryNumberOfKeysAtOddAddresses) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      for (int n_keys : {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 257}) {
        SCOPED_TRACE(n_keys);
        Problem p(type, 64, 3, 2, n_keys, 7);
        p.q_pos = {0, 1000};
        expect_agrees(p);
        const Answer want = run(p, 2);
        AttentionArgs a = p.args();
        std::vector<float> q(p.q.size() + 1), z(p.q.size() + 1), scratch(attention_scratch_bytes(a) / 4 + 32);
        std::copy(p.q.begin(), p.q.end(), q.begin() + 1);
        a.q = q.data() + 1;
        a.z = z.data() + 1;
        void* aligned = scratch.data();
        size_t room = scratch.size() * 4;
        a.scratch = std::align(64, attention_scratch_bytes(a), aligned, room);
        attention(a);
        EXPECT_EQ(std::vector<float>(z.begin() + 1, z.end()), want.z);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  });
}

TEST(Attention, KeysAndValuesHaveTypesAndWidthsOfTheirOwn) {
  on_every_isa([] {
    for (KvType k : kCodeTypes) {
      for (KvType v : kCodeTypes) {
        for (const auto& [k_dim, v_dim] : {std::pair(32, 256), std::pair(256, 24), std::pair(80, 64)})
          expect_agrees(Problem(k, v, k_dim, v_dim, 2, 7, 150, 8, 0.1));
      }
    }
    expect_agrees(Problem(KvType::kF32, KvType::kF32, 40, 104, 3, 7, 150, 8, 0.1));
    expect_agrees(Problem(KvType::kF32, KvType::kF32, 128, 24, 3, 7, 150, 8));
  });
}

TEST(Attention, ARowMaySeeAhead) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      Problem p(type, 64, 2, 9, 170, 19);
      for (int32_t ahead : {1, 7, 40, INT32_MAX}) {
        p.rule = {.ahead = ahead};
        expect_agrees(p);
        p.rule = {.n_sink = 3, .window = 20, .ahead = ahead};
        expect_agrees(p);
      }
      p.rule = {.n_sink = 5, .window = 0};  // the sinks only
      expect_agrees(p);
    }
  });
}

TEST(Attention, CapsItsScores) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      for (float cap : {0.5f, 5.0f, 50.0f, 1e5f}) {
        Problem p(type, 64, 2, 9, 170, 20);
        p.softcap = cap;
        expect_agrees(p);
        p.random_mask(3);
        expect_agrees(p);
      }
    }
  });
}

TEST(Attention, WeighsValuesByWeightsGiven) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      Problem p(type, type, 64, 40, 3, 5, 90, 21);
      p.q_pos = {3, 40, 60, 1000, 1001};
      const Twin want = twin_of(p);
      const auto n_slots = static_cast<int64_t>(p.blocks.size()) * kPageKeys;
      std::vector<float> weights(static_cast<size_t>(5 * n_slots)), z(static_cast<size_t>(5 * 3 * 40), 77.0f);
      AttentionArgs a = p.args();
      a.z = z.data();
      a.scratch = z.data();  // not used
      for (int head = 0; head < 3; ++head) {
        for (int64_t i = 0; i < 5; ++i) {
          const auto row = static_cast<size_t>(i * 3 + head);
          for (int64_t j = 0; j < n_slots; ++j) {
            weights[static_cast<size_t>(i * n_slots + j)] = static_cast<float>(
                std::exp(want.scores[row * static_cast<size_t>(n_slots) + static_cast<size_t>(j)] - want.lse[row]));
          }
        }
        attention_values(a, head, weights.data(), n_slots);
      }
      for (size_t i = 0; i < z.size(); ++i) ASSERT_NEAR(z[i], want.z[i], 1e-5);
    }
  });
}

TEST(Attention, SumsWhatRowsGiveEachKey) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      Problem p(type, 64, 3, 40, 170, 22, 0.1);
      p.random_mask(5);
      const Twin want = twin_of(p);
      const Answer got = run(p, p.n_queries);
      const size_t n_slots = p.blocks.size() * kPageKeys;
      AttentionArgs a = p.args();
      std::unique_ptr<float, Freed> scratch(
          static_cast<float*>(::operator new (attention_scratch_bytes(a), std::align_val_t{64})));
      a.scratch = scratch.get();
      for (int head = 0; head < 3; ++head) {
        std::vector<float> sums(n_slots, 1.0f);
        attention_columns(a, head, got.lse.data(), sums.data());
        for (size_t j = 0; j < n_slots; ++j) {
          double sum = 1.0;
          for (size_t i = 0; i < 40; ++i) {
            const size_t row = i * 3 + static_cast<size_t>(head);
            if (want.lse[row] != -kInf) sum += std::exp(want.scores[row * n_slots + j] - want.lse[row]);
          }
          ASSERT_NEAR(sums[j], sum, 40 * (type == KvType::kF32 ? 1e-6 : score_tolerance(p)));
        }
      }
    }
  });
}

TEST(Attention, DecodesOneQuery) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      for (int group = 1; group <= 26; ++group) {
        Problem p(type, 64, group, 1, 150, 6);
        p.q_pos[0] = 1000;
        expect_agrees(p);
      }
    }
  });
}

TEST(Attention, KeepsRulesOfHeadsMasksAndDeadSlots) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      for (uint64_t seed = 1; seed <= 6; ++seed) {
        SCOPED_TRACE(seed);
        Problem p(type, 64, 3, 40, 170 + static_cast<int>(seed), seed, 0.3);
        expect_agrees(p);
        p.rule = {.n_sink = 4, .window = 30};
        expect_agrees(p);
        p.head_rules = {{}, {.n_sink = 0, .window = 1}, {.n_sink = 70, .window = 12}};
        expect_agrees(p);
        p.random_mask(seed);
        expect_agrees(p);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  });
}

TEST(Attention, RefusesShapesItHasNoKernelFor) {
  Problem p(KvType::kI16, 64, 1, 1, 10, 1);
  float scratch = 0, z[64];
  AttentionArgs a = p.args();
  a.scratch = &scratch;
  a.z = z;
  a.k_dim = 60;
  EXPECT_THROW(attention(a), CheckFailed);
  a.k_dim = 264;
  EXPECT_THROW(attention(a), CheckFailed);
  a.k_dim = 64;
  a.v_type = KvType::kF32;
  EXPECT_THROW(attention(a), CheckFailed);
  a.v_type = KvType::kI16;
  EXPECT_THROW(attention_scores(a, 1, z, 64), CheckFailed);
}

}  // namespace attention_test
}  // namespace fovea::kernels

#include "fovea/kernels/seen_keys.h"

#include <gtest/gtest.h>

#include <vector>

#include "fovea/base/random.h"
#include "fovea/kernels/testing/attention_problem.h"

namespace fovea::kernels {
namespace seen_keys_test {

// By the rule's words (KeyRule).
bool sees(const KeyRule& rule, int64_t row, int64_t key) {
  return key != kNoPosition && key <= row + rule.ahead && (key < rule.n_sink || key > row - rule.window);
}

TEST(SeenKeys, AreThoseOfTheRule) {
  on_every_isa([] {
    Rng rng(5);
    const KeyRule rules[] = {{},
                             {.window = 0},
                             {.n_sink = 4, .window = 1},
                             {.n_sink = 40, .window = 17},
                             {.window = 30, .ahead = 9},
                             {.ahead = INT32_MAX}};
    for (int round = 0; round < 300; ++round) {
      const int32_t first = static_cast<int32_t>(rng.below(100));
      std::vector<int32_t> positions(kPageKeys), rows(1 + rng.below(70));
      for (int slot = 0; slot < kPageKeys; ++slot) positions[static_cast<size_t>(slot)] = first + slot;
      if (round % 3 == 0) positions[rng.below(kPageKeys)] = kNoPosition;
      if (round % 3 == 1) positions[rng.below(kPageKeys)] += 50;
      const int32_t row = static_cast<int32_t>(rng.below(200));
      for (size_t i = 0; i < rows.size(); ++i) rows[i] = row + static_cast<int32_t>(i);
      std::vector<uint32_t> bits(rows.size());
      for (uint32_t& word : bits) word = static_cast<uint32_t>(rng.below(uint64_t{1} << 32));
      const KeyBlock page{.positions = positions.data()};
      const auto n = static_cast<int64_t>(rows.size());
      for (const KeyRule& rule : rules) {
        uint64_t all = 0, let_through = 0;
        for (size_t i = 0; i < rows.size(); ++i) {
          for (size_t slot = 0; slot < kPageKeys; ++slot) {
            const bool seen = sees(rule, rows[i], positions[slot]);
            all += seen, let_through += seen && (bits[i] >> slot & 1);
          }
        }
        ASSERT_EQ(count_seen(rule, page, rows.data(), nullptr, n), all) << round;
        ASSERT_EQ(count_seen(rule, page, rows.data(), bits.data(), n), let_through) << round;
      }
    }
  });
}

TEST(SeenKeys, OfNoRowsAreNone) {
  const std::vector<int32_t> positions(kPageKeys, 0);
  EXPECT_EQ(count_seen({}, {.positions = positions.data()}, nullptr, nullptr, 0), 0u);
}

}  // namespace seen_keys_test
}  // namespace fovea::kernels

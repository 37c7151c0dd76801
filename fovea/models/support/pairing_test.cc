#include "fovea/models/support/pairing.h"

#include <gtest/gtest.h>

namespace fovea::models {
namespace pairing_test {

using tensor::RopePairing;

TEST(Pairing, RowsOfQAndKGoThereAndBack) {
  Config config;
  config.shape.head_dim = 4;
  tensor::Weight target;
  const tensor::Parameter q{"blk.0.attn_q.weight", "q", {8, 8}, &target},
      v{"blk.0.attn_v.weight", "v", {8, 8}, &target};
  const int64_t halves[] = {0, 2, 1, 3, 4, 6, 5, 7};  // of the rows of two heads whose neighbours turn together
  for (int64_t row = 0; row < 8; ++row) {
    EXPECT_EQ(paired_row(row, q, RopePairing::kAdjacent, RopePairing::kHalves, config), halves[row]);
    EXPECT_EQ(paired_row(halves[row], q, RopePairing::kHalves, RopePairing::kAdjacent, config), row);
    EXPECT_EQ(paired_row(row, q, RopePairing::kHalves, RopePairing::kHalves, config), row);
    EXPECT_EQ(paired_row(row, v, RopePairing::kAdjacent, RopePairing::kHalves, config), row);
  }
}

}  // namespace pairing_test
}  // namespace fovea::models

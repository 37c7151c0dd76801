#include "fovea/models/support/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace fovea::models {
namespace decoder_test {

using ::testing::ElementsAre;

TEST(Decoder, ItsTableHasTheShapesOfEachLayer) {
  Config config{.architecture = "llama",
                .shape = {.n_layers = 2,
                          .n_heads = 4,
                          .n_kv_heads = 2,
                          .head_dim = 8,
                          .d_model = 24,
                          .d_ff = 40,
                          .vocab_size = 9,
                          .n_ctx = 16}};
  const attention::AttentionShape narrow{
      .n_heads = 3, .n_k_heads = 1, .n_v_heads = 1, .k_dim = 16, .v_dim = 8, .scale = 1};
  config.shape.attention = {config.shape.site(0), narrow};
  Decoder decoder(config);
  const auto table = decoder.weights();
  const auto shape_of = [&](const std::string& name) {
    const auto it = std::find_if(table.begin(), table.end(), [&](const auto& p) { return p.name == name; });
    return it == table.end() ? std::vector<int64_t>() : it->shape;
  };
  EXPECT_THAT(shape_of("blk.0.attn_q.weight"), ElementsAre(24, 32));
  EXPECT_THAT(shape_of("blk.1.attn_q.weight"), ElementsAre(24, 48));
  EXPECT_THAT(shape_of("blk.1.attn_k.weight"), ElementsAre(24, 16));
  EXPECT_THAT(shape_of("blk.1.attn_v.weight"), ElementsAre(24, 8));
  EXPECT_THAT(shape_of("blk.1.attn_output.weight"), ElementsAre(24, 24));
  EXPECT_THAT(shape_of("blk.1.ffn_down.weight"), ElementsAre(40, 24));
  EXPECT_EQ(table.size(), 3 + 2 * decoder_rows().size());
}

}  // namespace decoder_test
}  // namespace fovea::models

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "fovea/base/check.h"
#include "fovea/models/support/decoder.h"

namespace fovea::models {
namespace decoder_rows_test {

using ::testing::ElementsAre;

TEST(DecoderRows, OneWithTheTargetOfAnotherTakesItsPlace) {
  using enum Width;
  const auto plain = decoder_rows();
  const auto rows = decoder_rows({{"other_norm.weight", "other.weight", {kModel}, &DecoderBlock::mlp_norm},
                                  {"attn_q.bias", "q.bias", {kQ}, &DecoderBlock::b_q}});
  ASSERT_EQ(rows.size(), plain.size() + 1);
  const auto has = [&](std::string_view name) {
    return std::any_of(rows.begin(), rows.end(), [&](const DecoderRow& row) { return row.name == name; });
  };
  EXPECT_TRUE(has("other_norm.weight"));
  EXPECT_TRUE(has("attn_q.bias"));
  EXPECT_FALSE(has("ffn_norm.weight"));
}

TEST(DecoderRows, OneWithoutANameTakesAnotherAway) {
  const auto rows = decoder_rows({{"", "", {}, &DecoderBlock::w_gate}});
  EXPECT_EQ(rows.size(), decoder_rows().size() - 1);
}

TEST(DecoderRows, ABiasStandsBesideItsWeightAndIsAsLongAsItsRows) {
  using B = DecoderBlock;
  const auto rows = with_biases(decoder_rows(), {{&B::w_up, &B::b_up}, {&B::attn_norm, &B::b_attn_norm}}, true);
  const auto find = [&](std::string_view name) {
    return *std::find_if(rows.begin(), rows.end(), [&](const DecoderRow& row) { return row.name == name; });
  };
  EXPECT_EQ(find("ffn_up.bias").hf_name, "mlp.up_proj.bias");
  EXPECT_THAT(find("ffn_up.bias").shape, ElementsAre(Width::kMlp, Width::kNone));
  EXPECT_THAT(find("attn_norm.bias").shape, ElementsAre(Width::kModel, Width::kNone));
  EXPECT_TRUE(find("attn_norm.bias").optional);
  EXPECT_THROW(with_biases({}, {{&B::w_up, &B::b_up}}), CheckFailed);
}

TEST(DecoderRows, AllBiasesAreThoseOfTheWeightsThatAreThere) {
  using B = DecoderBlock;
  const auto rows = with_all_biases(decoder_rows({{"", "", {}, &B::mlp_norm}, {"", "", {}, &B::w_gate}}));
  EXPECT_EQ(rows.size(), 14u);
  for (const auto target : {&B::b_attn_norm, &B::b_q, &B::b_k, &B::b_v, &B::b_o, &B::b_up, &B::b_down})
    EXPECT_EQ(std::count_if(rows.begin(), rows.end(), [&](const DecoderRow& r) { return r.target == target; }), 1);
}

// Two heads of width 8, one of keys: 16 + 8 + 8 rows as one.
TEST(DecoderRows, PartsOfAFusedTensorAreRangesOfItsRows) {
  const Config config{
      .architecture = "llama",
      .shape = {.n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 8, .d_model = 16, .d_ff = 20}};
  const auto stored = [&](Width width, Held::Part part) {
    DecoderRow row{"attn_qkv.weight", "qkv.weight", {Width::kModel, width}, &DecoderBlock::w_q};
    row.gguf = {part};
    DecoderStyle style;
    style.rows = {row};
    style.ends = {};
    return Decoder(config, style).weights().at(0).gguf;
  };
  const auto keys = stored(Width::kK, Held::Part::kK);
  EXPECT_EQ(keys.row_begin, 16);
  EXPECT_EQ(keys.row_end, 24);
  EXPECT_EQ(keys.fused_rows, 32);
  const auto values = stored(Width::kV, Held::Part::kHeadV);
  EXPECT_EQ(values.row_begin, 16);
  EXPECT_EQ(values.row_end, 24);
  EXPECT_EQ(values.row_period, 24);
  const auto up = stored(Width::kMlp, Held::Part::kUp);
  EXPECT_EQ(up.row_begin, 20);
  EXPECT_EQ(up.fused_rows, 40);
}

}  // namespace decoder_rows_test
}  // namespace fovea::models

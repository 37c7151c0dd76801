#include "fovea/attention/shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fovea::attention {
namespace shape_test {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelShape shape_of(int n_layers, int n_heads) {
  ModelShape shape;
  shape.n_layers = n_layers, shape.n_heads = n_heads, shape.n_kv_heads = 1, shape.head_dim = 8;
  return shape;
}

TEST(HeadSet, NamesLayersRangesAndSingleHeads) {
  const auto set = HeadSet::parse("1+3-5+7.2");
  ASSERT_TRUE(set.has_value()) << set.error().message;
  for (int layer = 0; layer < 9; ++layer) {
    for (int head = 0; head < 4; ++head) {
      const bool named = layer == 1 || (layer >= 3 && layer <= 5) || (layer == 7 && head == 2);
      EXPECT_EQ(set->contains(layer, head), named) << layer << "." << head;
    }
  }
}

TEST(HeadSet, AllAndNone) {
  EXPECT_TRUE(HeadSet::parse("all")->contains(999, 999));
  EXPECT_FALSE(HeadSet::parse("none")->contains(0, 0));
  EXPECT_TRUE(HeadSet::none().empty());
  EXPECT_FALSE(HeadSet::all().empty());
}

TEST(HeadSet, PrintsAsItIsRead) {
  for (const char* text : {"all", "none", "5", "3-9", "4.11", "0.0+2-3+5"})
    EXPECT_EQ(HeadSet::parse(text)->to_string(), text);
  HeadSet built;
  built.add(2, 7);
  EXPECT_EQ(built.to_string(), "2.7");
}

TEST(HeadSet, RefusesWhatNamesNoHeadsAndQuotesIt) {
  for (const char* text : {"", "x", "1+", "+1", "3-", "5-3", "1.", ".1", "-1", "1.2.3", "99999999999", "1 ", "all+1"}) {
    const auto set = HeadSet::parse(text);
    ASSERT_FALSE(set.has_value()) << text;
    EXPECT_EQ(set.error().code, ErrorCode::kUsage);
    EXPECT_THAT(set.error().message, HasSubstr("names no heads"));
  }
}

TEST(HeadSet, A1_LayersAndHeadsThatAreNotThereAreNamedWithTheRange) {
  const ModelShape shape = shape_of(4, 8);
  EXPECT_TRUE(HeadSet::parse("3.7+0-3")->check(shape).has_value());
  EXPECT_TRUE(HeadSet::all().check(shape).has_value());
  for (const char* text : {"4", "2-4", "4.0"}) {
    const Status status = HeadSet::parse(text)->check(shape);
    ASSERT_FALSE(status.has_value()) << text;
    EXPECT_THAT(status.error().message, AllOf(HasSubstr("layer 4"), HasSubstr("0 to 3")));
  }
  const Status head = HeadSet::parse("0.8")->check(shape);
  ASSERT_FALSE(head.has_value());
  EXPECT_THAT(head.error().message, AllOf(HasSubstr("head 8"), HasSubstr("0 to 7")));
}

TEST(TopHeads, AreTheHighestWithTiesInRisingOrder) {
  HeadProfile profile;
  profile.columns["retrieval"].values = {0.1, 0.5, 0.5, 0.9, 0.0, 0.5};
  ModelShape shape = shape_of(2, 3);
  shape.profile = &profile;
  EXPECT_THAT(*top_heads(shape, "retrieval", 3), ElementsAre(3, 1, 2));
  EXPECT_THAT(*top_heads(shape, "retrieval", 99), ElementsAre(3, 1, 2, 5, 0, 4));
  EXPECT_THAT(*top_heads(shape, "retrieval", 0), ElementsAre());
}

TEST(TopHeads, AreKvHeadsOrLayersWhereAskedFor) {
  HeadProfile profile;
  profile.columns["group"] = {Granularity::kKvHead, {0.1, 0.9}};
  profile.columns["entropy"] = {Granularity::kLayer, {0.2, 0.1}};
  ModelShape shape = shape_of(2, 3);
  shape.n_kv_heads = 1;
  shape.profile = &profile;
  EXPECT_THAT(*top_heads(shape, "group", 9, Granularity::kKvHead), ElementsAre(1, 0));
  EXPECT_THAT(*top_heads(shape, "entropy", 1, Granularity::kLayer), ElementsAre(0));
  EXPECT_THAT(top_heads(shape, "group", 1).error().message, HasSubstr("no group values for the 6 heads"));
  EXPECT_THAT(top_heads(shape, "entropy", 1, Granularity::kKvHead).error().message, HasSubstr("2 KV heads"));
}

TEST(TopHeads, NeedAProfileThatHoldsTheValuesForThisModel) {
  ModelShape shape = shape_of(2, 3);
  EXPECT_THAT(top_heads(shape, "retrieval", 1).error().message, HasSubstr("fovea profile"));
  HeadProfile profile;
  profile.columns["retrieval"].values = {0.1};
  shape.profile = &profile;
  EXPECT_THAT(top_heads(shape, "retrieval", 1).error().message, AllOf(HasSubstr("retrieval"), HasSubstr("6 heads")));
  EXPECT_THAT(top_heads(shape, "sink", 1).error().message, HasSubstr("sink"));
}

}  // namespace shape_test
}  // namespace fovea::attention

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace item_vectors_test {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

std::unique_ptr<Data> make(Json settings, std::string* error = nullptr, int64_t n_labels = 0) {
  settings["generator"] = "item-vectors";
  Settings s(settings, "data");
  auto data = make_data(s, {.context = 12, .seed = 1, .n_labels = n_labels});
  const Status end = s.finish();
  if (error)
    *error = end ? "" : end.error().message;
  else
    EXPECT_TRUE(end.has_value()) << end.error().message;
  return data;
}

std::vector<float> row_of(const Picture& p, int64_t row) {
  const auto begin = p.pixels.begin() + row * p.width;
  return {begin, begin + p.width};
}
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::pow(double{a[i]} - double{b[i]}, 2);
  return std::sqrt(sum);
}
// The pair whose item is nearest to the last one.
int64_t nearest(const Picture& p) {
  const std::vector<float> last = row_of(p, p.height - 1);
  int64_t best = 0;
  for (int64_t pair = 1; pair < p.height / 2; ++pair) {
    if (distance(row_of(p, 2 * pair), last) < distance(row_of(p, 2 * best), last)) best = pair;
  }
  return best;
}
// Vectors of labels, as samples show them next to an item like the last.
std::map<int32_t, std::vector<float>> label_vectors(const Data& data) {
  std::map<int32_t, std::vector<float>> out;
  for (uint64_t i = 0; i < 300; ++i) {
    const auto p = data.sample(i).picture;
    out[p->label] = row_of(*p, 2 * nearest(*p) + 1);
  }
  return out;
}

TEST(ItemVectors, TheNearestItemHasTheLabelThatIsWanted) {
  for (const double novel : {0.0, 1.0}) {
    const auto data = make({{"labels", 8}, {"pairs", 4}, {"novel", novel}});
    const auto vectors = label_vectors(*data);
    ASSERT_EQ(vectors.size(), 8u);
    double squares = 0;
    for (uint64_t i = 0; i < 300; ++i) {
      const auto p = data->sample(i).picture;
      ASSERT_EQ(p->height, 9);
      ASSERT_EQ(p->width, 63);
      const int64_t pair = nearest(*p);
      EXPECT_EQ(row_of(*p, 2 * pair + 1), vectors.at(p->label)) << i;
      // Two of one class: apart by two draws of what is their own.
      EXPECT_NEAR(distance(row_of(*p, 2 * pair), row_of(*p, 8)), 0.1 * std::sqrt(2), 0.06);
      EXPECT_NE(row_of(*p, 2 * pair), row_of(*p, 8));
      std::set<std::vector<float>> labels;
      for (int64_t row = 1; row < 9; row += 2) labels.insert(row_of(*p, row));
      EXPECT_EQ(labels.size(), 4u) << "a label comes twice";
      for (const float x : row_of(*p, 0)) squares += double{x} * double{x} / 300;
    }
    EXPECT_NEAR(squares, 1, 0.05);
  }
}

TEST(ItemVectors, KnownClassesKeepTheirLabelAndNewOnesDoNot) {
  for (const double novel : {0.0, 1.0}) {
    const auto data = make({{"labels", 3}, {"pairs", 3}, {"classes", 6}, {"within", 0}, {"novel", novel}});
    std::map<std::vector<float>, std::set<int32_t>> of;
    for (uint64_t i = 0; i < 100; ++i) {
      const auto p = data->sample(i).picture;
      of[row_of(*p, 6)].insert(p->label);
    }
    EXPECT_EQ(of.size(), novel == 0 ? 6u : 100u);
    for (const auto& one : of) EXPECT_EQ(one.second.size(), 1u);
  }
  // Shifted, the sample says the same wrong label as the one that is wanted.
  const Json settings = {{"labels", 5}, {"pairs", 3}, {"novel", 0}, {"seed", 4}};
  Json shifted = settings;
  shifted["shift"] = 2;
  const auto plain = make(settings), other = make(shifted);
  EXPECT_EQ(label_vectors(*plain), label_vectors(*other));
  for (uint64_t i = 0; i < 20; ++i) {
    const auto p = plain->sample(i).picture, q = other->sample(i).picture;
    EXPECT_EQ((p->label + 2) % 5, q->label);
    EXPECT_EQ(row_of(*p, 6), row_of(*q, 6));
  }
}

TEST(ItemVectors, ABurstRepeatsClassesAndWithoutOneTheContextRarelyTells) {
  const auto count = [](const Picture& p) {  // items of the class of the last
    int n = 0;
    for (int64_t row = 0; row + 1 < p.height; row += 2) n += distance(row_of(p, row), row_of(p, p.height - 1)) < 0.5;
    return n;
  };
  const auto bursts = make({{"burst", 4}}), none = make({{"bursty", 0}, {"novel", 0}, {"classes", 64}});
  int found = 0;
  for (uint64_t i = 0; i < 400; ++i) {
    EXPECT_EQ(count(*bursts->sample(i).picture), 4);
    found += count(*none->sample(i).picture) > 0;
  }
  EXPECT_NEAR(found / 400.0, 1 - std::pow(63.0 / 64, 8), 0.05);
  const auto often = make({{"bursty", 0}, {"novel", 0}, {"zipf", 8}});
  EXPECT_EQ(count(*often->sample(0).picture), 8) << "nearly all are of the first class";
}

TEST(ItemVectors, RowsBeginAnywhereInTheWindow) {
  const auto data = make({{"pairs", 2}, {"window", 4}, {"width", 5}});
  std::set<size_t> begins;
  for (uint64_t i = 0; i < 100; ++i) {
    const auto p = data->sample(i).picture;
    ASSERT_EQ(p->width, 9 + 5);
    for (int64_t row = 0; row < 5; ++row) {
      const std::vector<float> here = row_of(*p, row);
      EXPECT_EQ(std::count(here.begin(), here.begin() + 9, 0.0f), 8);
      const auto at = static_cast<size_t>(std::find(here.begin(), here.end(), 1.0f) - here.begin());
      if (row == 0) begins.insert(at);
      EXPECT_EQ(row_of(*p, 0)[at - static_cast<size_t>(row)], 1);
    }
  }
  EXPECT_EQ(begins, std::set<size_t>({0, 1, 2, 3, 4}));
}

TEST(ItemVectors, WhatDoesNotFitIsRefusedByName) {
  const auto error = [](const Json& settings, int64_t n_labels = 0) {
    std::string out;
    make(settings, &out, n_labels);
    return out;
  };
  EXPECT_THAT(error({{"burst", 3}}), HasSubstr("burst does not divide pairs"));
  EXPECT_THAT(error({{"labels", 7}}), HasSubstr("labels is less than there are classes in a sample"));
  EXPECT_THAT(error({{"window", 7}}), HasSubstr("window is less than pairs"));
  EXPECT_THAT(error({{"classes", 31}}), HasSubstr("classes is 31; it may be 32 to"));
  EXPECT_THAT(error({}, 31), HasSubstr("labels is 32, and the net has 31 classes"));
  EXPECT_EQ(error({}, 32), "");
}

}  // namespace item_vectors_test
}  // namespace fovea::train

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace points_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

std::unique_ptr<Data> make(const Json& settings, std::string* error = nullptr, int64_t context = 40) {
  Settings s(settings, "data");
  auto data = make_data(s, {.vocab_size = 64, .context = context, .seed = 1});
  const Status end = s.finish();
  if (error)
    *error = end ? "" : end.error().message;
  else
    EXPECT_TRUE(end.has_value()) << end.error().message;
  return data;
}

// Both ends of a sample are as they must be, and this is between them.
std::vector<int32_t> answer_of(const Sample& sample) {
  const auto end = static_cast<int32_t>(sample.picture->height);
  EXPECT_EQ(sample.tokens.front(), end);
  EXPECT_EQ(sample.targets.back(), end);
  const std::vector<int32_t> read(sample.tokens.begin() + 1, sample.tokens.end());
  EXPECT_EQ(read, std::vector<int32_t>(sample.targets.begin(), sample.targets.end() - 1));
  return read;
}
int32_t points_of(const Picture& picture) {
  return static_cast<int32_t>(std::count(picture.mask.begin(), picture.mask.end(), 1) / picture.width);
}
double turn(const Picture& p, int32_t a, int32_t b, int32_t c) {
  const auto x = [&](int32_t i) { return double{p.pixels[static_cast<size_t>(2 * i)]}; };
  const auto y = [&](int32_t i) { return double{p.pixels[static_cast<size_t>(2 * i + 1)]}; };
  return (x(b) - x(a)) * (y(c) - y(a)) - (y(b) - y(a)) * (x(c) - x(a));
}

TEST(Hull, GoesRoundOverEdgesWithAllPointsOnTheirLeft) {
  const auto data = make({{"generator", "hull"}, {"points", 14}, {"least", 3}});
  std::set<int32_t> sizes;
  for (uint64_t i = 0; i < 300; ++i) {
    const Sample sample = data->sample(i);
    const Picture& p = *sample.picture;
    const int32_t n = points_of(p);
    sizes.insert(n);
    std::vector<int32_t> next(static_cast<size_t>(n), -1), expected;
    for (int32_t a = 0; a < n; ++a) {
      for (int32_t b = 0; b < n; ++b) {
        bool all_left = a != b;
        for (int32_t c = 0; c < n; ++c) {
          all_left = all_left && (c == a || c == b || turn(p, a, b, c) > 0);
          if (a != b && b != c && c != a) {
            EXPECT_GE(std::abs(turn(p, a, b, c)), 1.9e-6);
          }
        }
        if (all_left) next[static_cast<size_t>(a)] = b;
      }
    }
    int32_t first = 0;
    while (next[static_cast<size_t>(first)] < 0) ++first;
    for (int32_t at = first; expected.empty() || at != first; at = next[static_cast<size_t>(at)])
      expected.push_back(at);
    EXPECT_EQ(answer_of(sample), expected);
    for (size_t k = static_cast<size_t>(2 * n); k < p.pixels.size(); ++k) EXPECT_EQ(p.pixels[k], 0);
  }
  EXPECT_EQ(sizes.size(), 12u);
}

double length_of(const Picture& p, const std::vector<int32_t>& tour) {
  double length = 0;
  for (size_t i = 0; i < tour.size(); ++i) {
    const auto a = static_cast<size_t>(2 * tour[i]), b = static_cast<size_t>(2 * tour[(i + 1) % tour.size()]);
    length += std::hypot(double{p.pixels[a]} - double{p.pixels[b]}, double{p.pixels[a + 1]} - double{p.pixels[b + 1]});
  }
  return length;
}

TEST(Tsp, NoOtherTourIsShorter) {
  const auto data = make({{"generator", "tsp"}, {"points", 8}, {"least", 3}});
  for (uint64_t i = 0; i < 60; ++i) {
    const Sample sample = data->sample(i);
    const std::vector<int32_t> tour = answer_of(sample);
    std::vector<int32_t> other(static_cast<size_t>(points_of(*sample.picture)));
    std::iota(other.begin(), other.end(), 0);
    ASSERT_TRUE(std::is_permutation(tour.begin(), tour.end(), other.begin(), other.end()));
    EXPECT_EQ(tour[0], 0);
    EXPECT_LT(tour[1], tour.back());
    double shortest = 1e9;
    do {
      shortest = std::min(shortest, length_of(*sample.picture, other));
    } while (std::next_permutation(other.begin() + 1, other.end()));
    EXPECT_NEAR(length_of(*sample.picture, tour), shortest, 1e-9);
  }
}

TEST(Tsp, IsAsLongAsThePaperSays) {
  for (const auto& [points, expected] : {std::pair{5, 2.12}, std::pair{10, 2.87}}) {
    const auto data = make({{"generator", "tsp"}, {"points", points}});
    double mean = 0;
    for (uint64_t i = 0; i < 1000; ++i) {
      const Sample sample = data->sample(i);
      mean += length_of(*sample.picture, answer_of(sample)) / 1000;
    }
    EXPECT_NEAR(mean, expected, 0.04) << points;  // three deviations of the mean
  }
}

TEST(Ranking, PointsFromTheLeastToTheGreatest) {
  const auto data = make({{"generator", "ranking"}, {"points", 12}});
  for (uint64_t i = 0; i < 50; ++i) {
    const Sample sample = data->sample(i);
    ASSERT_EQ(sample.picture->width, 1);
    const std::vector<int32_t> order = answer_of(sample);
    ASSERT_EQ(order.size(), 12u);
    for (size_t k = 1; k < 12; ++k)
      EXPECT_LT(sample.picture->pixels[static_cast<size_t>(order[k - 1])],
                sample.picture->pixels[static_cast<size_t>(order[k])]);
  }
}

TEST(Points, InRandomOrderTheAnswerIsTheSameAnswer) {
  for (const char* name : {"hull", "tsp", "ranking"}) {
    const auto fixed = make({{"generator", name}}), mixed = make({{"generator", name}, {"order", "random"}});
    int changed = 0;
    for (uint64_t i = 0; i < 50; ++i) {
      const Sample a = fixed->sample(i), b = mixed->sample(i);
      EXPECT_EQ(a.picture->pixels, b.picture->pixels);
      const std::vector<int32_t> places = answer_of(a), others = answer_of(b);
      EXPECT_TRUE(std::is_permutation(places.begin(), places.end(), others.begin(), others.end()));
      changed += places != others;
      if (name == std::string("tsp")) {
        EXPECT_NEAR(length_of(*a.picture, places), length_of(*b.picture, others), 1e-12);
      }
    }
    EXPECT_GT(changed, 30) << name;
  }
}

TEST(Points, WhatDoesNotFitIsRefusedByName) {
  std::string error;
  make({{"generator", "tsp"}, {"points", 13}}, &error);
  EXPECT_THAT(error, HasSubstr("points is 13; it may be 3 to 12"));
  make({{"generator", "hull"}, {"least", 11}}, &error);
  EXPECT_THAT(error, HasSubstr("least"));
  make({{"generator", "hull"}}, &error, 3);
  EXPECT_THAT(error, HasSubstr("needs a context of 4"));
  make({{"generator", "hull"}, {"order", "any"}}, &error);
  EXPECT_THAT(error, HasSubstr("order"));
}

TEST(Points, AreTheSameEverywhere) {
  EXPECT_THAT(make({{"generator", "hull"}})->sample(0).targets, ElementsAre(1, 5, 3, 9, 7, 4, 10));
  EXPECT_THAT(make({{"generator", "tsp"}})->sample(0).targets, ElementsAre(0, 2, 8, 7, 9, 3, 5, 1, 4, 6, 10));
  EXPECT_THAT(make({{"generator", "ranking"}})->sample(0).targets, ElementsAre(8, 2, 3, 0, 1, 9, 5, 7, 4, 6, 10));
}

}  // namespace points_test
}  // namespace fovea::train

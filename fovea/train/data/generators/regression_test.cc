#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "fovea/train/data/data.h"
#include "fovea/train/solve/linear.h"

namespace fovea::train {
namespace regression_test {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

std::unique_ptr<Data> make(Json settings, std::string* error = nullptr) {
  settings["generator"] = "regression";
  Settings s(settings, "data");
  auto data = make_data(s, {.context = 12, .seed = 1});
  const Status end = s.finish();
  if (error)
    *error = end ? "" : end.error().message;
  else
    EXPECT_TRUE(end.has_value()) << end.error().message;
  return data;
}

TEST(Regression, TheLastRowFollowsTheFunctionOfTheOthers) {
  const auto data = make({{"inputs", 3}, {"outputs", 2}, {"examples", 6}, {"range", 2}, {"scale", 1.5}});
  for (uint64_t i = 0; i < 50; ++i) {
    const auto picture = data->sample(i).picture;
    ASSERT_EQ(picture->channels, 1);
    ASSERT_EQ(picture->height, 7);
    ASSERT_EQ(picture->width, 5);
    Matrix x(6, 3), y(6, 2);
    for (size_t row = 0; row < 6; ++row) {
      for (size_t k = 0; k < 5; ++k) {
        const double value = picture->pixels[row * 5 + k];
        k < 3 ? x(static_cast<int64_t>(row), static_cast<int64_t>(k)) = value
              : y(static_cast<int64_t>(row), static_cast<int64_t>(k - 3)) = value;
      }
    }
    const auto w = ridge(x, y, 0);
    ASSERT_TRUE(w.has_value()) << w.error().message;
    for (size_t o = 0; o < 2; ++o) {
      const size_t at = 6 * 5 + 3 + o;
      double expected = 0;
      for (size_t k = 0; k < 3; ++k)
        expected += picture->pixels[30 + k] * (*w)(static_cast<int64_t>(k), static_cast<int64_t>(o));
      EXPECT_NEAR(picture->noise[at], expected, 1e-4);
      EXPECT_EQ(picture->pixels[at], 0);
      EXPECT_EQ(picture->mask[at], 1);
    }
    EXPECT_EQ(std::count(picture->mask.begin(), picture->mask.end(), 1), 2);
    EXPECT_EQ(std::count(picture->noise.begin(), picture->noise.end(), 0.0f), 33);
  }
}

// Means over tasks of the loss (y' - y)^2 / 2 of the best step of gradient descent from 0, and of no step.
std::pair<double, double> losses_of(const Data& data) {
  constexpr double kStep = 1.0 / 12 / 0.01375;  // s2 / m2 for 10 inputs within 0.5 and 10 examples
  constexpr int kTasks = 20000;
  double step = 0, none = 0;
  for (int i = 0; i < kTasks; ++i) {
    const auto picture = data.sample(static_cast<uint64_t>(i)).picture;
    const float* query = &picture->pixels[110];
    double found = 0;
    for (size_t row = 0; row < 10; ++row) {
      const float* x = &picture->pixels[row * 11];
      for (size_t k = 0; k < 10; ++k) found += kStep / 10 * x[10] * x[k] * query[k];
    }
    const double wanted = picture->noise[120];
    step += (found - wanted) * (found - wanted) / 2 / kTasks, none += wanted * wanted / 2 / kTasks;
  }
  return {step, none};
}

TEST(Regression, OneStepOfGradientDescentLosesWhatTheFormulaSays) {
  const auto [step, none] = losses_of(*make({}));
  EXPECT_NEAR(none, 10.0 / 12 / 2, 0.01);
  EXPECT_NEAR(step, 10.0 / 12 / 2 * (1 - 1.0 / 144 / 0.01375), 0.005);  // deviation of both means 0.003
}

TEST(Regression, ShuffledExamplesTellNothing) {
  const auto [step, none] = losses_of(*make({{"shuffled", true}}));
  EXPECT_GT(step, none);
  const auto plain = make({{"seed", 7}})->sample(3).picture,
             mixed = make({{"seed", 7}, {"shuffled", true}})->sample(3).picture;
  std::vector<float> ys[2];
  for (size_t row = 0; row < 10; ++row) {
    EXPECT_TRUE(std::equal(&plain->pixels[row * 11], &plain->pixels[row * 11 + 10], &mixed->pixels[row * 11]));
    EXPECT_NE(plain->pixels[row * 11 + 10], mixed->pixels[row * 11 + 10]);
    ys[0].push_back(plain->pixels[row * 11 + 10]), ys[1].push_back(mixed->pixels[row * 11 + 10]);
  }
  EXPECT_TRUE(std::is_permutation(ys[0].begin(), ys[0].end(), ys[1].begin()));
  EXPECT_EQ(plain->noise, mixed->noise);
}

TEST(Regression, NoiseIsInTheExamplesAlone) {
  // Without a function there is nothing else.
  const auto data = make({{"inputs", 1}, {"examples", 1000}, {"scale", 0}, {"noise", 0.3}});
  const auto picture = data->sample(0).picture;
  double squares = 0;
  for (size_t row = 0; row < 1000; ++row) squares += std::pow(picture->pixels[2 * row + 1], 2) / 1000;
  EXPECT_NEAR(std::sqrt(squares), 0.3, 0.02);
  EXPECT_EQ(picture->noise[2001], 0);
}

TEST(Regression, IsTheSameEverywhere) {
  const auto picture = make({{"inputs", 2}, {"examples", 1}})->sample(0).picture;
  EXPECT_EQ(picture->pixels, std::vector<float>({-0x1.d13adcp-5f, -0x1.63d95cp-2f, -0x1.23f2e2p-4f, -0x1.5bc526p-4f,
                                                 0x1.f14258p-2f, 0}));
}

TEST(Regression, WrongSettingsAreNamed) {
  std::string error;
  make({{"inputs", 0}}, &error);
  EXPECT_THAT(error, HasSubstr("inputs"));
  make({{"range", 0}}, &error);
  EXPECT_THAT(error, HasSubstr("range"));
  make({{"exampels", 3}}, &error);
  EXPECT_THAT(error, HasSubstr("exampels"));
}

}  // namespace regression_test
}  // namespace fovea::train

// Pictures: drawn, and read from files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "fovea/base/file.h"
#include "fovea/base/npy.h"
#include "fovea/train/data/data.h"

namespace fovea::train {
namespace images_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

struct Made {
  std::unique_ptr<Data> data;
  std::string error;
};
Made make(const Json& settings, int64_t n_labels = 6, int64_t vocab_size = 17) {
  Settings s(settings, "data");
  Made made{make_data(s, {.vocab_size = vocab_size, .context = 16, .seed = 1, .n_labels = n_labels}), ""};
  if (const Status end = s.finish(); !end) made.error = end.error().message;
  return made;
}

TEST(Scenes, ShowWhatTheirCaptionsAndLabelsSay) {
  const Made made = make({{"generator", "scenes"}, {"size", 32}, {"noise", 0}, {"objects", 2}});
  ASSERT_EQ(made.error, "");
  std::set<int32_t> labels;
  for (uint64_t i = 0; i < 200; ++i) {
    const Sample sample = made.data->sample(i);
    const Picture& p = *sample.picture;
    ASSERT_EQ(p.pixels.size(), 3u * 32 * 32);
    ASSERT_EQ(sample.tokens.size(), 7u);  // colour texture shape and colour texture shape
    EXPECT_EQ(sample.tokens[3], 1);
    EXPECT_EQ(sample.tokens[2] - 11, p.label);
    labels.insert(p.label);
    // Colour 0 is red: where the first object is, red is the strongest.
    size_t seen = 0;
    for (size_t at = 0; at < p.mask.size(); ++at) {
      if (p.mask[at] != 1) continue;
      ++seen;
      if (sample.tokens[0] == 2) {
        EXPECT_GT(p.pixels[at], p.pixels[1024 + at]);
      }
    }
    EXPECT_GT(seen, 10u);
  }
  EXPECT_EQ(labels.size(), 6u);
}

TEST(Scenes, AreAFunctionOfSeedAndNumber) {
  const Made a = make({{"generator", "scenes"}, {"seed", 4}}), b = make({{"generator", "scenes"}, {"seed", 4}});
  const Made other = make({{"generator", "scenes"}, {"seed", 5}});
  EXPECT_EQ(a.data->sample(9).picture->pixels, b.data->sample(9).picture->pixels);
  EXPECT_NE(a.data->sample(9).picture->pixels, other.data->sample(9).picture->pixels);
  // The same on every machine: nothing in it goes through the mathematics of a library.
  EXPECT_THAT(a.data->sample(0).tokens, ElementsAre(7, 8, 15));
}

TEST(Scenes, RefuseANetThatIsTooSmall) {
  EXPECT_THAT(make({{"generator", "scenes"}, {"label", "shape-colour"}}).error, HasSubstr("36 classes"));
  EXPECT_THAT(make({{"generator", "scenes"}}, 6, 10).error, HasSubstr("17 words"));
  EXPECT_THAT(make({{"generator", "scenes"}, {"size", 8}}).error, HasSubstr("size"));
  const Json four = {{"generator", "scenes"}, {"objects", 4}};
  EXPECT_EQ(make(four).error, "");
  Settings s(four, "data");
  (void)make_data(s, {.vocab_size = 17, .context = 14});
  EXPECT_THAT(s.finish().error().message, HasSubstr("captions of 15 tokens; the context is 14"));
}

// A .npy file of whole numbers or floats.
template <typename T>
std::string npy(const std::string& name, const std::string& type, const std::string& shape, const std::vector<T>& x) {
  std::string dict = "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }\n";
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(dict.size());
  bytes += '\0';
  bytes += dict;
  bytes.append(reinterpret_cast<const char*>(x.data()), x.size() * sizeof(T));
  const std::string path = ::testing::TempDir() + name;
  EXPECT_TRUE(write_file_atomic(path, bytes).has_value());
  return path;
}

TEST(Images, AreReadWithAllThatBelongsToThem) {
  const std::string images = npy<float>("i.npy", "<f4", "(2, 1, 1, 2)", {1, 2, 3, 4});
  const Json all = {{"images", images},
                    {"labels", npy<int32_t>("l.npy", "<i4", "(2,)", {0, 5})},
                    {"captions", npy<int32_t>("c.npy", "<i4", "(2, 2)", {3, 4, 5, 16})},
                    {"noise", npy<float>("n.npy", "<f4", "(2, 1, 1, 2)", {0, 1, 0, -1})},
                    {"times", npy<int32_t>("t.npy", "<i4", "(2,)", {0, 999})}};
  const Made made = make(all);
  ASSERT_EQ(made.error, "");
  ASSERT_EQ(made.data->size(), 2u);
  const Sample second = made.data->sample(1);
  EXPECT_THAT(second.picture->pixels, ElementsAre(3, 4));
  EXPECT_THAT(second.picture->noise, ElementsAre(0, -1));
  EXPECT_THAT(second.tokens, ElementsAre(5, 16));
  EXPECT_EQ(second.picture->label, 5);
  EXPECT_EQ(second.picture->time, 999);
  const Made plain = make({{"images", images}});
  EXPECT_EQ(plain.data->sample(0).picture->label, -1);
  EXPECT_NE(plain.data->fingerprint(), made.data->fingerprint());
  const std::pair<const char*, std::pair<std::string, const char*>> wrong[] = {
      {"labels", {npy<int32_t>("w1.npy", "<i4", "(2,)", {0, 6}), "has 6 at 1; labels are below 6"}},
      {"labels", {npy<int32_t>("w2.npy", "<i4", "(1,)", {0}), "1 numbers for 2 images"}},
      {"captions", {npy<int32_t>("w3.npy", "<i4", "(2, 1)", {0, 17}), "has the id 17"}},
      {"noise", {npy<float>("w4.npy", "<f4", "(2, 2)", {0, 0, 0, 0}), "has not the shape"}},
      {"times", {npy<int32_t>("w5.npy", "<i4", "(2,)", {0, 1000}), "below 1000"}},
      {"images", {npy<float>("w6.npy", "<f4", "(2,)", {0, 1}), "no array [n, channels, height, width]"}},
      {"images", {npy<float>("w7.npy", "<f4", "(2, 1, 1, 2)", {0, 1, 2, NAN}), "w7.npy\": nan stands at [1, 0, 0, 1]"}},
      {"noise",
       {npy<double>("w8.npy", "<f8", "(2, 1, 1, 2)", {0, 1e300, 2, 3}), "w8.npy\": inf stands at [0, 0, 0, 1]"}},
      {"captions", {npy<float>("w9.npy", "<f4", "(2, 1)", {0, NAN}), "w9.npy\": nan stands at [1, 0]"}},
      {"images", {npy<float>("w10.npy", "<f4", "(2, 1, 1, 3)", {0, 1, 2}), "w10.npy\": 12 bytes follow"}},
      {"labels", {npy<float>("w11.npy", "<f4", "(2,)", {0, 1}), "w11.npy\": it holds"}}};
  for (const auto& [key, file] : wrong) {
    Json bad = all;
    bad[key] = file.first;
    EXPECT_THAT(make(bad).error, HasSubstr(file.second));
  }
}

}  // namespace images_test
}  // namespace fovea::train

// Pictures: drawn, and read from files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
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

// A scene without noise, read back from its pixels and its mask alone; objects lie apart and are 8 or more to the side.
struct Seen {
  int colour = -1, texture = -1, shape = -1;
  int64_t x = 0, y = 0;
};
std::vector<Seen> look_at(const Picture& p) {
  constexpr float kRgb[6][3] = {{0.9f, -0.8f, -0.8f}, {-0.8f, 0.7f, -0.8f}, {-0.8f, -0.6f, 0.9f},
                                {0.9f, 0.8f, -0.8f},  {0.6f, -0.7f, 0.8f},  {0.9f, 0.9f, 0.9f}};
  std::vector<Seen> out(*std::max_element(p.mask.begin(), p.mask.end()));
  const int64_t side = p.width;
  for (size_t k = 0; k < out.size(); ++k) {
    int64_t box[4] = {side, -1, side, -1};
    bool dark = false, by_column = true;
    const auto there = [&](int64_t x, int64_t y) { return p.mask[static_cast<size_t>(y * side + x)] == k + 1; };
    for (int64_t at = 0; at < side * side; ++at) {
      const int64_t x = at % side, y = at / side;
      if (!there(x, y)) continue;
      box[0] = std::min(box[0], x), box[1] = std::max(box[1], x), box[2] = std::min(box[2], y);
      box[3] = std::max(box[3], y);
      int colour = -1;
      for (int i = 0; i < 6; ++i) {
        bool same = true;
        for (int64_t c = 0; c < 3; ++c)
          same = same && p.pixels[static_cast<size_t>(c * side * side + at)] == kRgb[i][c];
        if (same) colour = i;
      }
      dark = dark || colour < 0;
      by_column = by_column && (colour < 0) == (x / 2 % 2 == 1);
      if (colour >= 0) out[k].colour = colour;
    }
    const int64_t x = out[k].x = (box[0] + box[1]) / 2, y = out[k].y = (box[2] + box[3]) / 2, r = box[1] - x;
    const int64_t reach = std::max(box[1] - x, box[3] - y), far = (reach * 3 + 3) / 5;
    EXPECT_GE(r, 5);
    const bool low = there(x + far, y + far), high = there(x - far, y - far);
    out[k].texture = !dark ? 0 : by_column ? 1 : 2;
    out[k].shape = !there(x, y)   ? 4
                   : low && !high ? 2
                   : low          ? (there(box[0], box[2]) ? 1 : 0)
                                  : (there(x + 2, y + reach) ? 3 : 5);
  }
  return out;
}
// Whether it is what the words say, from `at` on, which goes behind them.
bool fits(const Seen& o, const std::vector<int32_t>& words, size_t& at) {
  bool good = true;
  for (; at < words.size() && words[at] >= 2 && words[at] < 17; ++at)
    good = good && (words[at] == 2 + o.colour || words[at] == 8 + o.texture || words[at] == 11 + o.shape);
  return good;
}
std::vector<size_t> fitting(const std::vector<Seen>& all, const std::vector<int32_t>& words, size_t& at) {
  std::vector<size_t> out;
  size_t end = at;
  for (size_t i = 0; i < all.size(); ++i) {
    if (fits(all[i], words, end = at)) out.push_back(i);
  }
  at = end;
  return out;
}
int relation(const Seen& a, const Seen& b) {
  const double dx = static_cast<double>(a.x - b.x), dy = static_cast<double>(a.y - b.y);
  if (std::abs(dx) > 2 * std::abs(dy)) return dx < 0 ? 17 : 18;
  return std::abs(dy) > 2 * std::abs(dx) ? (dy < 0 ? 19 : 20) : -1;
}

TEST(Scenes, WithoutOtherSettingsAreWhatTheyWere) {
  // Of the captions and masks of 50 scenes of 4 objects.
  const Made made = make({{"generator", "scenes"}, {"objects", 4}, {"size", 24}});
  uint64_t sum = 0;
  for (uint64_t i = 0; i < 50; ++i) {
    const Sample sample = made.data->sample(i);
    for (const int32_t id : sample.tokens) sum = sum * 31 + static_cast<uint64_t>(id);
    for (const uint8_t number : sample.picture->mask) sum = sum * 31 + number;
  }
  EXPECT_EQ(sum, 8956523816497622080u);
}

TEST(Scenes, RelationsAreTrue) {
  for (const int objects : {2, 3, 6}) {
    const Made made =
        make({{"generator", "scenes"}, {"words", "relation"}, {"size", 64}, {"noise", 0}, {"objects", objects}}, 6, 45);
    ASSERT_EQ(made.error, "");
    std::set<int32_t> used;
    for (uint64_t i = 0; i < 100; ++i) {
      const Sample sample = made.data->sample(i);
      const std::vector<Seen> seen = look_at(*sample.picture);
      ASSERT_EQ(seen.size(), static_cast<size_t>(objects));
      ASSERT_EQ(sample.tokens.size(), 7u);
      size_t at = 0;
      const auto a = fitting(seen, sample.tokens, at), b = fitting(seen, sample.tokens, ++at);
      ASSERT_EQ(a.size(), 1u) << i;
      ASSERT_EQ(b.size(), 1u) << i;
      EXPECT_EQ(sample.tokens[3], relation(seen[a[0]], seen[b[0]])) << i;
      EXPECT_EQ(seen[0].shape, sample.picture->label);
      used.insert(sample.tokens[3]);
      EXPECT_EQ(sample.n_targets(), 6);
    }
    EXPECT_THAT(used, ElementsAre(17, 18, 19, 20));
  }
}

TEST(Scenes, AnswersAreWhatThePictureShows) {
  const Made made =
      make({{"generator", "scenes"}, {"words", "question"}, {"size", 64}, {"noise", 0}, {"objects", 6}, {"least", 1}},
           6, 45);
  ASSERT_EQ(made.error, "");
  std::map<int32_t, std::map<int32_t, int>> answers;  // of each question, how often
  for (uint64_t i = 0; i < 4000; ++i) {
    const Sample sample = made.data->sample(i);
    const std::vector<int32_t>& words = sample.tokens;
    const std::vector<Seen> seen = look_at(*sample.picture);
    ASSERT_EQ(words.back(), 26);
    EXPECT_EQ(sample.n_targets(), 1);
    size_t at = 1;
    const auto meant = fitting(seen, words, at);
    int32_t expected = -1;
    if (words[0] != 22 && words[0] != 23) {
      ASSERT_EQ(meant.size(), 1u) << i;
    }
    switch (words[0]) {
      case 21: expected = 2 + seen[meant[0]].colour; break;
      case 22: expected = 29 + static_cast<int32_t>(meant.size()); break;
      case 23: expected = meant.empty() ? 28 : 27; break;
      case 24: {
        const auto third = [](int64_t x) { return x < 22 ? 0 : x < 43 ? 1 : 2; };  // of 64
        expected = 36 + 3 * third(seen[meant[0]].y) + third(seen[meant[0]].x);
        break;
      }
      default: {
        ASSERT_EQ(words[0], 25);
        const int32_t said = words[at++];
        const auto other = fitting(seen, words, at);
        ASSERT_EQ(other.size(), 1u);
        EXPECT_NE(relation(seen[meant[0]], seen[other[0]]), -1);
        expected = relation(seen[meant[0]], seen[other[0]]) == said ? 27 : 28;
      }
    }
    EXPECT_EQ(sample.targets.back(), expected) << i << ": question " << words[0];
    EXPECT_EQ(at + 1, words.size());
    ++answers[words[0]][expected];
  }
  ASSERT_EQ(answers.size(), 5u);
  EXPECT_EQ(answers[21].size(), 6u);
  EXPECT_GE(answers[22].size(), 5u);
  EXPECT_EQ(answers[24].size(), 9u);
  for (const int32_t question : {23, 25}) {
    const double yes = answers[question][27], no = answers[question][28];
    EXPECT_NEAR(yes / (yes + no), 0.5, 0.06) << question;  // three deviations
  }
}

TEST(Scenes, APhraseMeansTheObjectThatTheMaskNumbersFirst) {
  for (const bool apart : {true, false}) {
    const Made made = make({{"generator", "scenes"},
                            {"words", "phrase"},
                            {"size", 64},
                            {"noise", 0},
                            {"objects", 5},
                            {"least", 3},
                            {"apart", apart}});
    ASSERT_EQ(made.error, "");
    std::set<size_t> lengths;
    for (uint64_t i = 0; i < 200; ++i) {
      const Sample sample = made.data->sample(i);
      lengths.insert(sample.tokens.size());
      std::set<int> numbers(sample.picture->mask.begin(), sample.picture->mask.end());
      EXPECT_EQ(numbers.size(), static_cast<size_t>(*numbers.rbegin()) + 1) << "an object is hidden";
      if (!apart) continue;
      const std::vector<Seen> seen = look_at(*sample.picture);
      size_t at = 0;
      EXPECT_THAT(fitting(seen, sample.tokens, at), ElementsAre(0u)) << i;
      EXPECT_EQ(seen[0].shape, sample.picture->label);
    }
    EXPECT_THAT(lengths, ElementsAre(1u, 2u, 3u));
  }
}

TEST(Scenes, PartsShareNoPairOfColourAndShape) {
  std::set<std::pair<int32_t, int32_t>> pairs[2];
  for (const char* text : {"caption", "relation"}) {
    for (const char* part : {"train", "test"}) {
      const Made made =
          make({{"generator", "scenes"}, {"objects", 2}, {"size", 16}, {"words", text}, {"part", part}}, 6, 45);
      ASSERT_EQ(made.error, "");
      for (uint64_t i = 0; i < 300; ++i) {
        const auto words = made.data->sample(i).tokens;
        for (const size_t at : {0, 4}) pairs[part[1] == 'e'].emplace(words[at], words[at + 2]);
      }
    }
  }
  EXPECT_EQ(pairs[0].size(), 24u);
  EXPECT_EQ(pairs[1].size(), 12u);
  for (const auto& pair : pairs[0]) EXPECT_EQ(pairs[1].count(pair), 0u);
}

TEST(Scenes, RefuseWhatTheirTextsCannotBe) {
  const auto error = [](Json settings, int64_t vocab_size = 45) {
    settings["generator"] = "scenes";
    return make(settings, 6, vocab_size).error;
  };
  EXPECT_THAT(error({{"words", "story"}}), HasSubstr("words"));
  EXPECT_THAT(error({{"words", "relation"}}), HasSubstr("least is below 2, which a relation needs"));
  EXPECT_THAT(error({{"words", "question"}, {"questions", "relation"}}), HasSubstr("least is below 2"));
  EXPECT_THAT(error({{"words", "question"}, {"questions", "colours"}}), HasSubstr("did you mean colour?"));
  EXPECT_THAT(error({{"questions", "colour"}}), HasSubstr("questions is for words of the kind question"));
  EXPECT_THAT(error({{"words", "question"}, {"apart", false}}),
              HasSubstr("apart is needed for words of the kind question"));
  EXPECT_THAT(error({{"words", "question"}}, 44), HasSubstr("45 words"));
  EXPECT_THAT(error({{"words", "phrase"}, {"size", 16}, {"objects", 5}}), HasSubstr("a size of 32"));
  EXPECT_THAT(error({{"least", 2}}), HasSubstr("least is 2; it may be 1 to 1"));
  EXPECT_EQ(error({{"words", "phrase"}}, 17), "");
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

TEST(Images, OfBytesGoFromMinusOneToOne) {
  const Made made = make({{"images", npy<uint8_t>("u.npy", "|u1", "(1, 1, 1, 3)", {0, 51, 255})}});
  ASSERT_EQ(made.error, "");
  EXPECT_THAT(made.data->sample(0).picture->pixels, ElementsAre(-1, 51 / 127.5f - 1, 1));
  EXPECT_THAT(make({{"images", ::testing::TempDir()}}).error, HasSubstr("\"image_folder\" is the key"));
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
      {"captions",
       {npy<float>("w13.npy", "<f4", "(2, 17)", std::vector<float>(34)), "are of 17 words; the context is 16"}},
      {"captions", {npy<float>("w12.npy", "<f4", "(2, 1)", {0, 2.5F}), "has 2.5; ids are whole numbers"}},
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

// scenes: one or more coloured and textured shapes on a grey ground: pixels, a mask that numbers the objects, a label
// of the first one, and the caption "red striped circle and ..." as tokens. 16 to 64 pixels a side. Instead of
// captions, "words":
//   relation  "red striped circle, left-of, blue plain square": how two of the objects lie
//   question  one of "questions", a mark "?", and there the answer, one token, which alone is wanted:
//             colour-of (texture) shape | how-many, a word | is-there colour shape | where phrase |
//             is phrase relation phrase
//   phrase    words of one object that fit no other; it has the number 1 in the mask, and the label is its own
// In these no two objects share shape and colour or shape and texture. A relation is left-of, right-of, above or below
// where objects lie more than twice as far apart that way as the other way. How often yes is right: half of the time.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

constexpr std::array<const char*, 6> kShapes = {"circle", "square", "triangle", "cross", "ring", "diamond"};
constexpr std::array<const char*, 6> kColours = {"red", "green", "blue", "yellow", "purple", "white"};
constexpr std::array<const char*, 3> kTextures = {"plain", "striped", "checkered"};
constexpr float kRgb[6][3] = {{0.9f, -0.8f, -0.8f}, {-0.8f, 0.7f, -0.8f}, {-0.8f, -0.6f, 0.9f},
                              {0.9f, 0.8f, -0.8f},  {0.6f, -0.7f, 0.8f},  {0.9f, 0.9f, 0.9f}};

// Ids of the caption: 0 is left for padding, 1 is "and", then colours, textures and shapes. Behind them left-of,
// right-of, above, below; colour-of, how-many, is-there, where, is; "?"; yes, no; the numbers 0 to 6; the places
// top-left, top, top-right, left, middle, ..., bottom-right: the ninth of the picture with the centre.
constexpr int32_t kAnd = 1, kFirstColour = 2, kFirstTexture = kFirstColour + 6, kFirstShape = kFirstTexture + 3,
                  kWords = kFirstShape + 6, kLeftOf = kWords, kFirstQuestion = kLeftOf + 4, kAsks = kFirstQuestion + 5,
                  kYes = kAsks + 1, kNo = kYes + 1, kZero = kNo + 1, kFirstPlace = kZero + 7,
                  kAllWords = kFirstPlace + 9;
const std::vector<std::string> kQuestions = {"colour", "count", "exists", "where", "relation"};
enum Part { kColour = 1, kTexture = 2, kShape = 4 };  // of a description

struct Object {
  int shape, colour, texture;
  int64_t x, y, r;  // centre and reach

  bool covers(int64_t px, int64_t py) const {
    const int64_t dx = px - x, dy = py - y, ax = dx < 0 ? -dx : dx, ay = dy < 0 ? -dy : dy;
    switch (shape) {
      case 0: return dx * dx + dy * dy <= r * r;
      case 1: return ax < r && ay < r;
      case 2: return ay <= r && 2 * ax <= dy + r;  // the point is above
      case 3: return (ax <= r / 3 && ay <= r) || (ay <= r / 3 && ax <= r);
      case 4: return dx * dx + dy * dy <= r * r && 4 * (dx * dx + dy * dy) >= r * r;
      default: return ax + ay <= r;
    }
  }
  float shade(int64_t px, int64_t py) const {
    const bool dark = texture == 1 ? px / 2 % 2 == 1 : texture == 2 && (px / 2 + py / 2) % 2 == 1;
    return dark ? 0.3f : 1.0f;
  }
};

using Objects = std::vector<Object>;

bool alike(const Object& a, const Object& b, int parts) {
  return (!(parts & kColour) || a.colour == b.colour) && (!(parts & kTexture) || a.texture == b.texture) &&
         (!(parts & kShape) || a.shape == b.shape);
}
void say(const Object& o, int parts, std::vector<int32_t>& ids) {
  if (parts & kColour) ids.push_back(kFirstColour + o.colour);
  if (parts & kTexture) ids.push_back(kFirstTexture + o.texture);
  if (parts & kShape) ids.push_back(kFirstShape + o.shape);
}
// How a lies to b: 0 left-of, 1 right-of, 2 above, 3 below; -1 if that is not clear.
int relation_of(const Object& a, const Object& b) {
  const int64_t dx = a.x - b.x, dy = a.y - b.y, ax = dx < 0 ? -dx : dx, ay = dy < 0 ? -dy : dy;
  if (ax > 2 * ay) return dx < 0 ? 0 : 1;
  if (ay > 2 * ax) return dy < 0 ? 2 : 3;
  return -1;
}
// The first of the objects at a place, which lies on top; their number if none is there.
size_t top_at(const Objects& objects, int64_t px, int64_t py) {
  size_t i = 0;
  while (i < objects.size() && !objects[i].covers(px, py)) ++i;
  return i;
}

class Scenes final : public Generator {
 public:
  Scenes(Settings& s, const Context& context) : Generator(s, context) {
    size_ = s.integer("size", 32, 16, 64);
    objects_ = s.integer("objects", 1, 1, 6);
    least_ = s.integer("least", objects_, 1, objects_);
    noise_ = static_cast<float>(s.number("noise", 0.1, 0, 2));
    const std::string label = s.one_of("label", "shape", {"shape", "colour", "texture", "shape-colour"});
    by_shape_ = label.starts_with("shape"), by_colour_ = label.ends_with("colour"), by_texture_ = label == "texture";
    words_ = s.one_of("words", "caption", {"caption", "relation", "question", "phrase"});
    part_ = s.one_of("part", "all", {"all", "train", "test"});
    const bool needs_room = words_ == "relation" || words_ == "question";
    apart_ = s.flag("apart", needs_room);
    if (needs_room && !apart_) s.wrong("apart", fmt::format("is needed for words of the kind {}", words_));
    for (const std::string& name : s.texts("questions", kQuestions)) {
      const auto at = std::find(kQuestions.begin(), kQuestions.end(), name);
      if (at == kQuestions.end()) {
        s.unknown_name("questions", name, kQuestions);
      } else {
        questions_.push_back(static_cast<int32_t>(at - kQuestions.begin()));
      }
    }
    if (s.has("questions") && words_ != "question") s.wrong("questions", "is for words of the kind question");
    check(s, context);
  }

 private:
  void check(Settings& s, const Context& context) const {
    const int64_t n = (by_shape_ ? 6 : 1) * (by_colour_ ? 6 : 1) * (by_texture_ ? 3 : 1);
    if (context.n_labels > 0 && n > context.n_labels)
      s.wrong("label", fmt::format("gives {} classes, and the net has {}", n, context.n_labels));
    const bool captions = words_ == "caption", needs_two = std::all_of(questions_.begin(), questions_.end(),
                                                                       [](int32_t question) { return question == 4; });
    if (captions && 4 * objects_ - 1 > context.context)
      s.wrong("objects",
              fmt::format("gives captions of {} tokens; the context is {}", 4 * objects_ - 1, context.context));
    const int64_t longest = words_ == "question" ? 9 : words_ == "relation" ? 7 : 3;
    if (!captions && longest > context.context)
      s.wrong("words", fmt::format("gives up to {} tokens; the context is {}", longest, context.context));
    const int32_t words = captions || words_ == "phrase" ? kWords : kAllWords;
    if (context.vocab_size > 0 && context.vocab_size < words)
      s.wrong("generator", fmt::format("scenes has {} words, and the vocabulary {}", words, context.vocab_size));
    if (least_ < 2 && (words_ == "relation" || (words_ == "question" && needs_two)))
      s.wrong("least", "is below 2, which a relation needs");
    if (objects_ > 4 && size_ < 32 && (apart_ || !captions))
      s.wrong("objects", fmt::format("is {}; beside each other they need a size of 32 or more", objects_));
  }

  // "train" and "test" share no pair of colour and shape; a third of them is for the test.
  bool in_part(int colour, int shape) const {
    return part_ == "all" || ((colour + shape) % 3 == 0) == (part_ == "test");
  }
  bool may_join(const Object& o, const Objects& others) const {
    if (!in_part(o.colour, o.shape)) return false;
    return words_ == "caption" || std::none_of(others.begin(), others.end(), [&](const Object& other) {
             return alike(o, other, kColour | kShape) || alike(o, other, kTexture | kShape);
           });
  }

  void place(Object& o, Rng& rng) const {
    o.r = size_ / 8 + static_cast<int64_t>(rng.below(static_cast<uint64_t>(size_ / 8 + 1)));
    const auto room = static_cast<uint64_t>(size_ - 2 * o.r);
    o.x = o.r + static_cast<int64_t>(rng.below(room));
    o.y = o.r + static_cast<int64_t>(rng.below(room));
  }
  // Each in a cell of its own, of 4 or 9; two in cells that share a side.
  void place_apart(Objects& objects, Rng& rng) const {
    const int64_t side = objects.size() <= 4 ? 2 : 3, half = size_ / (2 * side);
    const int64_t least = side == 2 ? size_ / 8 : size_ / 10, most = side == 2 ? size_ * 3 / 16 : size_ / 8;
    std::vector<int64_t> cells(static_cast<size_t>(side * side));
    std::iota(cells.begin(), cells.end(), 0);
    for (size_t i = cells.size(); i > 1; --i) std::swap(cells[i - 1], cells[rng.below(i)]);
    if (objects.size() == 2) cells[1] = cells[0] ^ (rng.next() >> 63 ? 1 : 2);
    for (size_t i = 0; i < objects.size(); ++i) {
      Object& o = objects[i];
      o.r = least + static_cast<int64_t>(rng.below(static_cast<uint64_t>(most - least) + 1));
      const int64_t shift = std::clamp<int64_t>(half - o.r - 1, 0, size_ / 16);
      const auto centre = [&](int64_t cell) {
        return (2 * cell + 1) * size_ / (2 * side) - shift +
               static_cast<int64_t>(rng.below(static_cast<uint64_t>(2 * shift) + 1));
      };
      o.x = centre(cells[i] % side);
      o.y = centre(cells[i] / side);
    }
  }
  // Whether half or more of each object can be seen.
  bool all_seen(const Objects& objects) const {
    std::vector<int64_t> there(objects.size()), seen(objects.size() + 1);
    for (int64_t at = 0; at < size_ * size_; ++at) {
      ++seen[top_at(objects, at % size_, at / size_)];
      for (size_t i = 0; i < objects.size(); ++i) there[i] += objects[i].covers(at % size_, at / size_);
    }
    for (size_t i = 0; i < objects.size(); ++i) {
      if (2 * seen[i] < there[i]) return false;
    }
    return true;
  }
  Objects draw_objects(Rng& rng) const {
    Objects objects;
    const auto n = static_cast<size_t>(
        least_ == objects_ ? objects_
                           : least_ + static_cast<int64_t>(rng.below(static_cast<uint64_t>(objects_ - least_) + 1)));
    while (objects.size() < n) {
      const auto pick = [&rng](uint64_t of) { return static_cast<int>(rng.below(of)); };
      Object o{pick(kShapes.size()), pick(kColours.size()), pick(kTextures.size()), 0, 0, 0};
      if (!may_join(o, objects)) continue;
      if (!apart_) place(o, rng);
      objects.push_back(o);
    }
    if (words_ != "caption" && !apart_) {
      constexpr int kTries = 100;
      for (int tries = 0; tries < kTries && !all_seen(objects); ++tries) {
        for (Object& o : objects) place(o, rng);
      }
    }
    if (apart_ || (words_ != "caption" && !all_seen(objects))) place_apart(objects, rng);
    return objects;
  }

  // Parts of object i that, together, no other has. Of several any.
  static int name_of(const Objects& objects, size_t i, Rng& rng) {
    std::vector<int> good;
    for (int parts = 1; parts <= (kColour | kTexture | kShape); ++parts) {
      if (std::count_if(objects.begin(), objects.end(), [&](const Object& o) { return alike(o, objects[i], parts); }) ==
          1)
        good.push_back(parts);
    }
    return good[rng.below(good.size())];
  }
  static std::pair<size_t, size_t> related(const Objects& objects, Rng& rng) {
    std::vector<std::pair<size_t, size_t>> pairs;
    for (size_t a = 0; a < objects.size(); ++a) {
      for (size_t b = 0; b < objects.size(); ++b) {
        if (a != b && relation_of(objects[a], objects[b]) >= 0) pairs.emplace_back(a, b);
      }
    }
    return pairs[rng.below(pairs.size())];
  }

  // The tokens of a question, and its answer.
  int32_t ask(const Objects& objects, Rng& rng, std::vector<int32_t>& ids) const {
    std::vector<int32_t> some;
    std::copy_if(questions_.begin(), questions_.end(), std::back_inserter(some),
                 [&](int32_t question) { return question != 4 || objects.size() > 1; });
    const int32_t question = some[rng.below(some.size())];
    const size_t i = rng.below(objects.size());
    const Object& o = objects[i];
    const bool truth = rng.next() >> 63;
    ids.push_back(kFirstQuestion + question);
    const auto of_shape = [&](const Object& other) { return other.shape == o.shape; };
    switch (question) {
      case 0:
        say(o, std::count_if(objects.begin(), objects.end(), of_shape) == 1 ? kShape : kTexture | kShape, ids);
        return kFirstColour + o.colour;
      case 1: {
        const int part = 1 << rng.below(3);
        Object any{
            static_cast<int>(rng.below(6)), static_cast<int>(rng.below(6)), static_cast<int>(rng.below(3)), 0, 0, 0};
        if (truth) any = o;  // else there is often none
        say(any, part, ids);
        return kZero + static_cast<int32_t>(std::count_if(objects.begin(), objects.end(), [&](const Object& other) {
                 return alike(other, any, part);
               }));
      }
      case 2: {
        Object asked = o;
        const auto is_there = [&] {
          return std::any_of(objects.begin(), objects.end(),
                             [&](const Object& other) { return alike(other, asked, kColour | kShape); });
        };
        // The colour of one and the shape of another, where that is not there either, else any.
        if (!truth) asked.colour = objects[rng.below(objects.size())].colour;
        while (!truth && (is_there() || !in_part(asked.colour, asked.shape)))
          asked.colour = static_cast<int>(rng.below(6)), asked.shape = static_cast<int>(rng.below(6));
        say(asked, kColour | kShape, ids);
        return truth ? kYes : kNo;
      }
      case 3:
        say(o, name_of(objects, i, rng), ids);
        return kFirstPlace + static_cast<int32_t>(3 * o.y / size_ * 3 + 3 * o.x / size_);
      default: {
        const auto [a, b] = related(objects, rng);
        const int right = relation_of(objects[a], objects[b]);
        const int other = (right + 1 + static_cast<int>(rng.below(3))) % 4;
        say(objects[a], name_of(objects, a, rng), ids);
        ids.push_back(kLeftOf + (truth ? right : other));
        say(objects[b], name_of(objects, b, rng), ids);
        return truth ? kYes : kNo;
      }
    }
  }

  // `first`: the object whose label is the picture's and that the mask numbers 1.
  std::shared_ptr<const Picture> paint(const Objects& objects, float ground, size_t first, Rng& rng) const {
    auto picture = std::make_shared<Picture>();
    picture->channels = 3, picture->height = picture->width = size_;
    const int64_t pixels = size_ * size_;
    picture->pixels.resize(static_cast<size_t>(3 * pixels));
    picture->mask.resize(static_cast<size_t>(pixels));
    const Object& named = objects[first];
    picture->label = by_texture_ ? named.texture
                     : by_shape_ ? named.shape * (by_colour_ ? 6 : 1) + (by_colour_ ? named.colour : 0)
                                 : named.colour;
    for (int64_t at = 0; at < pixels; ++at) {
      const int64_t px = at % size_, py = at / size_;
      float rgb[3] = {ground, ground, ground};
      if (const size_t i = top_at(objects, px, py); i < objects.size()) {
        for (int c = 0; c < 3; ++c) rgb[c] = kRgb[objects[i].colour][c] * objects[i].shade(px, py);
        picture->mask[static_cast<size_t>(at)] = static_cast<uint8_t>(i == first ? 1 : i < first ? i + 2 : i + 1);
      }
      for (int64_t c = 0; c < 3; ++c)
        picture->pixels[static_cast<size_t>(c * pixels + at)] =
            rgb[c] + noise_ * static_cast<float>(rng.uniform() * 2 - 1);
    }
    return picture;
  }

  Sample draw(Rng& rng) const override {
    const auto ground = static_cast<float>(rng.uniform() * 0.6 - 0.3);
    const Objects objects = draw_objects(rng);
    constexpr int kAll = kColour | kTexture | kShape;
    Sample sample;
    size_t first = 0;
    int32_t answer = kNoTarget;
    if (words_ == "caption") {
      for (size_t i = 0; i < objects.size(); ++i) {
        if (i > 0) sample.tokens.push_back(kAnd);
        say(objects[i], kAll, sample.tokens);
      }
    } else if (words_ == "relation") {
      const auto [a, b] = related(objects, rng);
      say(objects[a], kAll, sample.tokens);
      sample.tokens.push_back(kLeftOf + relation_of(objects[a], objects[b]));
      say(objects[b], kAll, sample.tokens);
    } else if (words_ == "question") {
      answer = ask(objects, rng, sample.tokens);
      sample.tokens.push_back(kAsks);
    } else {
      first = rng.below(objects.size());
      say(objects[first], name_of(objects, first, rng), sample.tokens);
    }
    if (answer == kNoTarget) {
      sample.targets.assign(sample.tokens.begin() + 1, sample.tokens.end());
    } else {
      sample.targets.assign(sample.tokens.size() - 1, kNoTarget);
    }
    sample.targets.push_back(answer);
    sample.picture = paint(objects, ground, first, rng);
    return sample;
  }

  int64_t size_ = 32, objects_ = 1, least_ = 1;
  float noise_ = 0;
  bool by_shape_ = true, by_colour_ = false, by_texture_ = false, apart_ = false;
  std::string words_, part_;
  std::vector<int32_t> questions_;
};
FOVEA_TRAIN_PART(Generator, "scenes", Scenes);

}  // namespace
}  // namespace fovea::train

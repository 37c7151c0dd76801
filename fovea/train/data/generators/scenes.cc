// scenes: one or more coloured and textured shapes on a grey ground: pixels, a mask that numbers the objects, a label
// of the first one, and the caption "red striped circle and ..." as tokens. 16 to 64 pixels a side.
#include <fmt/format.h>

#include <array>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

constexpr std::array<const char*, 6> kShapes = {"circle", "square", "triangle", "cross", "ring", "diamond"};
constexpr std::array<const char*, 6> kColours = {"red", "green", "blue", "yellow", "purple", "white"};
constexpr std::array<const char*, 3> kTextures = {"plain", "striped", "checkered"};
constexpr float kRgb[6][3] = {{0.9f, -0.8f, -0.8f}, {-0.8f, 0.7f, -0.8f}, {-0.8f, -0.6f, 0.9f},
                              {0.9f, 0.8f, -0.8f},  {0.6f, -0.7f, 0.8f},  {0.9f, 0.9f, 0.9f}};

// Ids of the caption: 0 is left for padding, 1 is "and", then colours, textures and shapes.
constexpr int32_t kAnd = 1, kFirstColour = 2, kFirstTexture = kFirstColour + 6, kFirstShape = kFirstTexture + 3,
                  kWords = kFirstShape + 6;

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

class Scenes final : public Generator {
 public:
  Scenes(Settings& s, const Context& context) : Generator(s, context) {
    size_ = s.integer("size", 32, 16, 64);
    objects_ = s.integer("objects", 1, 1, 4);
    noise_ = static_cast<float>(s.number("noise", 0.1, 0, 2));
    const std::string label = s.one_of("label", "shape", {"shape", "colour", "texture", "shape-colour"});
    by_shape_ = label.starts_with("shape"), by_colour_ = label.ends_with("colour"), by_texture_ = label == "texture";
    const int64_t n = (by_shape_ ? 6 : 1) * (by_colour_ ? 6 : 1) * (by_texture_ ? 3 : 1);
    if (context.n_labels > 0 && n > context.n_labels)
      s.wrong("label", fmt::format("gives {} classes, and the net has {}", n, context.n_labels));
    if (4 * objects_ - 1 > context.context)
      s.wrong("objects",
              fmt::format("gives captions of {} tokens; the context is {}", 4 * objects_ - 1, context.context));
    if (context.vocab_size > 0 && context.vocab_size < kWords)
      s.wrong("generator", fmt::format("scenes has {} words, and the vocabulary {}", +kWords, context.vocab_size));
  }

 private:
  Sample draw(Rng& rng) const override {
    auto picture = std::make_shared<Picture>();
    picture->channels = 3, picture->height = picture->width = size_;
    const int64_t pixels = size_ * size_;
    picture->pixels.resize(static_cast<size_t>(3 * pixels));
    picture->mask.resize(static_cast<size_t>(pixels));
    const auto ground = static_cast<float>(rng.uniform() * 0.6 - 0.3);
    Sample sample;
    std::vector<Object> objects;
    for (int64_t i = 0; i < objects_; ++i) {
      const auto pick = [&rng](uint64_t n) { return static_cast<int>(rng.below(n)); };
      Object o{pick(kShapes.size()), pick(kColours.size()), pick(kTextures.size()), 0, 0, 0};
      o.r = size_ / 8 + static_cast<int64_t>(rng.below(static_cast<uint64_t>(size_ / 8 + 1)));
      const auto room = static_cast<uint64_t>(size_ - 2 * o.r);
      o.x = o.r + static_cast<int64_t>(rng.below(room));
      o.y = o.r + static_cast<int64_t>(rng.below(room));
      if (i > 0) sample.tokens.push_back(kAnd);
      for (const int32_t word : {kFirstColour + o.colour, kFirstTexture + o.texture, kFirstShape + o.shape})
        sample.tokens.push_back(word);
      objects.push_back(o);
    }
    const Object& first = objects[0];
    picture->label = by_texture_ ? first.texture
                     : by_shape_ ? first.shape * (by_colour_ ? 6 : 1) + (by_colour_ ? first.colour : 0)
                                 : first.colour;
    for (int64_t at = 0; at < pixels; ++at) {
      const int64_t px = at % size_, py = at / size_;
      float rgb[3] = {ground, ground, ground};
      for (size_t i = objects.size(); i-- > 0;) {  // the first lies on top
        if (!objects[i].covers(px, py)) continue;
        for (int c = 0; c < 3; ++c) rgb[c] = kRgb[objects[i].colour][c] * objects[i].shade(px, py);
        picture->mask[static_cast<size_t>(at)] = static_cast<uint8_t>(i + 1);
      }
      for (int64_t c = 0; c < 3; ++c)
        picture->pixels[static_cast<size_t>(c * pixels + at)] =
            rgb[c] + noise_ * static_cast<float>(rng.uniform() * 2 - 1);
    }
    sample.targets.assign(sample.tokens.begin() + 1, sample.tokens.end());
    sample.targets.push_back(kNoTarget);
    sample.picture = std::move(picture);
    return sample;
  }

  int64_t size_ = 32, objects_ = 1;
  float noise_ = 0;
  bool by_shape_ = true, by_colour_ = false, by_texture_ = false;
};
FOVEA_TRAIN_PART(Generator, "scenes", Scenes);

}  // namespace
}  // namespace fovea::train

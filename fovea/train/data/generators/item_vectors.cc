// item-vectors: in-context classification of vectors (Reddy, arXiv:2312.03002). Pixels [1, 2 "pairs" + 1, width]: an
// item and the vector of its label, as often as "pairs" (8) says, and one more item, whose label is wanted: the
// picture's. An item is the centre of its class and some of its own, in the ratio 1 to "within" (0.1); centres and the
// vectors of "labels" (32) have "width" (63) numbers of deviation 1 / sqrt(width), and class k of "classes" (512),
// drawn as often as (k + 1)^-"zipf" (0), has label k mod labels. They depend on "world" (0) alone, not on the seed.
//   "bursty" (1)  the share of samples with pairs / "burst" (1) classes of different labels, each "burst" times, of
//                 which the last item is one more; in the others all classes are drawn, and few samples tell the label
//   "novel" (1)   the share of samples whose classes are new, with any labels: only the sample tells which
//   "shift" (0)   is added to all labels: what is learned for good is wrong then
//   "window" (0)  2 window + 1 columns come first, which have a 1 for the row's place; the first is at any that has
//   room
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "fovea/train/data/data.h"
#include "fovea/train/data/generators/bell.h"

namespace fovea::train {
namespace {

class ItemVectors final : public Generator {
 public:
  ItemVectors(Settings& s, const Context& context)
      : Generator(s, context),
        pairs_(s.integer("pairs", 8, 1, 512)),
        labels_(s.integer("labels", 32, 1, 1 << 16)),
        width_(s.integer("width", 63, 1, 1 << 12)),
        classes_(s.integer("classes", std::max<int64_t>(512, labels_), labels_, 1 << 20)),
        burst_(s.integer("burst", 1, 1, pairs_)),
        shift_(s.integer("shift", 0, 0, labels_ - 1)),
        window_(s.integer("window", 0, 0, 1024)),
        bursty_(s.number("bursty", 1, 0, 1)),
        novel_(s.number("novel", 1, 0, 1)) {
    const double within = s.number("within", 0.1, 0, 100), zipf = s.number("zipf", 0, 0, 8);
    Rng world(static_cast<uint64_t>(s.integer("world", 0, 0, INT64_MAX)));
    if (pairs_ % burst_ != 0) s.wrong("burst", "does not divide pairs");
    if (pairs_ / burst_ > labels_) s.wrong("labels", "is less than there are classes in a sample");
    if (window_ > 0 && window_ < pairs_) s.wrong("window", "is less than pairs");
    if (classes_ * width_ > 1 << 24) s.wrong("classes", "times width is more than 16777216");
    if (context.n_labels > 0 && labels_ > context.n_labels)
      s.wrong("labels", fmt::format("is {}, and the net has {} classes", labels_, context.n_labels));
    if (!s.good()) return;
    const double scale = 1 / std::sqrt(static_cast<double>(width_));
    of_class_ = static_cast<float>(1 / std::sqrt(1 + within * within));
    of_item_ = static_cast<float>(scale * within / std::sqrt(1 + within * within));
    scale_ = static_cast<float>(scale);
    label_vectors_ = draw_vectors(world, labels_);
    centres_ = draw_vectors(world, classes_);
    double sum = 0;
    for (int64_t k = 0; k < classes_; ++k) up_to_.push_back(sum += std::pow(static_cast<double>(k + 1), -zipf));
  }

 private:
  struct Class {
    const float* centre;
    int64_t label;
  };

  std::vector<float> draw_vectors(Rng& rng, int64_t n) const {
    std::vector<float> out(static_cast<size_t>(n * width_));
    for (float& one : out) one = static_cast<float>(double{scale_} * bell(rng));
    return out;
  }
  Class known(int64_t k) const { return {&centres_[static_cast<size_t>(k * width_)], k % labels_}; }
  int64_t any_class(Rng& rng) const {
    return std::upper_bound(up_to_.begin(), up_to_.end() - 1, rng.uniform() * up_to_.back()) - up_to_.begin();
  }
  // `n` of them; `fresh` holds new centres. With `different` no label comes twice.
  std::vector<Class> draw_classes(Rng& rng, int64_t n, bool novel, bool different, std::vector<float>& fresh) const {
    std::vector<Class> out;
    if (novel) fresh = draw_vectors(rng, n);
    const auto taken = [&](int64_t label) {
      return different && std::any_of(out.begin(), out.end(), [&](const Class& c) { return c.label == label; });
    };
    const auto any = [&] {
      return novel ? static_cast<int64_t>(rng.below(static_cast<uint64_t>(labels_))) : any_class(rng);
    };
    for (int64_t i = 0; i < n; ++i) {
      int64_t k = any();
      for (int tries = 0; tries < 64 && taken(k % labels_); ++tries) k = any();
      while (taken(k % labels_)) k = (k + 1) % classes_;
      out.push_back(novel ? Class{&fresh[static_cast<size_t>(i * width_)], k % labels_} : known(k));
    }
    return out;
  }

  Sample draw(Rng& rng) const override {
    const bool bursty = rng.uniform() < bursty_, novel = rng.uniform() < novel_;
    std::vector<float> fresh;
    std::vector<Class> row;  // of each item, the last one's at the end
    if (bursty) {
      const std::vector<Class> some = draw_classes(rng, pairs_ / burst_, novel, true, fresh);
      for (int64_t i = 0; i < pairs_; ++i) row.push_back(some[static_cast<size_t>(i) % some.size()]);
      for (size_t i = row.size(); i > 1; --i) std::swap(row[i - 1], row[rng.below(i)]);
      row.push_back(some[rng.below(some.size())]);
    } else {
      row = draw_classes(rng, pairs_ + 1, novel, false, fresh);
    }
    auto picture = std::make_shared<Picture>();
    const int64_t places = window_ > 0 ? 2 * window_ + 1 : 0, rows = 2 * pairs_ + 1;
    picture->channels = 1, picture->height = rows, picture->width = places + width_;
    picture->pixels.resize(static_cast<size_t>(rows * picture->width));
    const int64_t first = places > 0 ? static_cast<int64_t>(rng.below(static_cast<uint64_t>(places - rows) + 1)) : 0;
    for (int64_t r = 0; r < rows; ++r) {
      float* out = &picture->pixels[static_cast<size_t>(r * picture->width)];
      if (places > 0) out[first + r] = 1;
      const Class& c = row[static_cast<size_t>(r / 2)];
      const float* of_label = &label_vectors_[static_cast<size_t>((c.label + shift_) % labels_ * width_)];
      for (int64_t i = 0; i < width_; ++i) {
        out[places + i] = of_label[i];
        if (r % 2 == 0)
          out[places + i] = static_cast<float>(double{of_class_} * double{c.centre[i]} + double{of_item_} * bell(rng));
      }
    }
    picture->label = static_cast<int32_t>((row.back().label + shift_) % labels_);
    Sample sample;
    sample.picture = std::move(picture);
    return sample;
  }

  int64_t pairs_, labels_, width_, classes_, burst_, shift_, window_;
  double bursty_, novel_;
  float of_class_ = 1, of_item_ = 0, scale_ = 1;
  std::vector<float> label_vectors_, centres_;  // rows of width
  std::vector<double> up_to_;                   // of classes, the sum of the weights so far
};
FOVEA_TRAIN_PART(Generator, "item-vectors", ItemVectors);

}  // namespace
}  // namespace fovea::train

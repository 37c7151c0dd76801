// {"mix": [{"text": ..., "weight": 0.7}, {"generator": ..., "weight": 0.3}]}: data of several kinds. Each sample is one
// of a part that is drawn as often as its weight says, any of them; so there are no rounds, and no order but this.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

std::array<int64_t, 3> picture_size(const Data& data) {  // zeros: there are none
  const auto picture = data.sample(0).picture;
  return picture ? std::array{picture->channels, picture->height, picture->width} : std::array<int64_t, 3>{};
}

class Mix final : public Generator {
 public:
  Mix(Settings& settings, const Context& context) : Generator(settings, context) {
    std::vector<Settings> wanted = settings.objects("mix");
    if (settings.good() && wanted.size() < 2) settings.wrong("mix", "is a list of data, of two kinds or more");
    double sum = 0;
    for (size_t i = 0; i < wanted.size(); ++i) {
      sum += wanted[i].number("weight", 1, 1e-6, 1e6);
      ends_.push_back(sum);
      parts_.push_back(make_data(wanted[i], context));
      if (!settings.good()) break;
      if (picture_size(*parts_[i]) != picture_size(*parts_[0]))
        settings.wrong(fmt::format("mix[{}]", i),
                       "gives other pictures than the first part, or one of them gives none");
    }
  }
  std::string fingerprint() const override {
    std::string out = fmt::format("a mix, seed {}", seed());
    for (size_t i = 0; i < parts_.size(); ++i)
      out += fmt::format("; up to {} of {}: {}", ends_[i], ends_.back(), parts_[i]->fingerprint());
    return out;
  }
  std::vector<const Data*> parts() const override {
    std::vector<const Data*> out;
    for (const auto& part : parts_) {
      for (const Data* one : part->parts()) out.push_back(one);
    }
    return out;
  }
  std::string summary() const override {
    std::string out;
    for (size_t i = 0; i < parts_.size(); ++i)
      out += fmt::format("{}{:.3g} % {}", i == 0 ? "a mix: " : "; ",
                         100 * (ends_[i] - (i == 0 ? 0 : ends_[i - 1])) / ends_.back(), parts_[i]->summary());
    return out;
  }

 private:
  Sample draw(Rng& rng) const override {
    const double at = rng.uniform() * ends_.back();
    const auto end = std::upper_bound(ends_.begin(), ends_.end() - 1, at);
    const Data& part = *parts_[static_cast<size_t>(end - ends_.begin())];
    return part.sample(rng.below(part.size()));
  }
  std::vector<std::unique_ptr<Data>> parts_;
  std::vector<double> ends_;  // sums of the weights up to each part
};
FOVEA_TRAIN_PART(Data, "mix", Mix);

}  // namespace
}  // namespace fovea::train

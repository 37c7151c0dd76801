// Answers that are places of what is read (Vinyals et al., arXiv:1506.03134).
//   hull     the corners of the convex hull of points: counter-clockwise (y goes up), from that with the lowest index
//   tsp      the shortest round trip through all points: from point 0, the way round on which the lower of its two
//            neighbours comes first; exact, for 12 points at most
//   ranking  numbers, and their places from the least to the greatest
// Pixels [1, "points", 2 (ranking 1)], from 0 to 1, and a mask of 1 where there is a point. Tokens are `points` (it
// begins), then C1, ..., Cm; targets C1, ..., Cm, then `points` (it ends): what is pointed at, step by step. "least":
// samples have that many points or more, and rows behind them are 0. "order": "random": the answer begins anywhere and
// goes either way, where that is the same answer (ranking: anyhow), so that there is no one thing to learn.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

constexpr int kBits = 20;  // of a coordinate: all that decides about a hull is done in whole numbers

struct GridPoint {
  int64_t x, y;
};
// Twice the area of a, b, c; more than 0 if they go counter-clockwise.
int64_t turn_of(const GridPoint& a, const GridPoint& b, const GridPoint& c) {
  return (b.x - a.x) * (c.y - a.y) - (b.y - a.y) * (c.x - a.x);
}
using Places = std::vector<int32_t>;

class Pointing : public Generator {
 public:
  Pointing(Settings& s, const Context& context, int64_t fewest, int64_t most, int64_t usual, bool flat)
      : Generator(s, context), flat_(flat) {
    // One token more than points, and one id.
    most = std::min(most, context.context - 1);
    if (context.vocab_size > 0) most = std::min(most, context.vocab_size - 1);
    if (most < fewest) {
      s.wrong("generator", fmt::format("needs a context of {0} and a vocabulary of {0} or more", fewest + 1));
      return;
    }
    points_ = s.integer("points", std::min(most, usual), fewest, most);
    least_ = s.integer("least", points_, fewest, points_);
    random_ = s.one_of("order", "fixed", {"fixed", "random"}) == "random";
  }

 protected:
  // In the order that is wanted.
  virtual Places answer(const std::vector<GridPoint>& points) const = 0;
  virtual bool fits(const std::vector<GridPoint>& /*points*/, const GridPoint& /*next*/) const { return true; }
  virtual void mix(Places& places, Rng& rng) const {
    std::rotate(places.begin(), places.begin() + static_cast<int64_t>(rng.below(places.size())), places.end());
    if (rng.next() >> 63) std::reverse(places.begin(), places.end());
  }

 private:
  Sample draw(Rng& rng) const override {
    const auto n =
        static_cast<size_t>(least_ + static_cast<int64_t>(rng.below(static_cast<uint64_t>(points_ - least_) + 1)));
    const size_t width = flat_ ? 1 : 2;
    std::vector<GridPoint> points;
    while (points.size() < n) {
      const auto at = [&] { return static_cast<int64_t>(rng.next() >> (64 - kBits)); };
      GridPoint next{at(), 0};
      if (!flat_) next.y = at();
      if (fits(points, next)) points.push_back(next);
    }
    auto picture = std::make_shared<Picture>();
    picture->channels = 1, picture->height = points_, picture->width = static_cast<int64_t>(width);
    picture->pixels.resize(static_cast<size_t>(points_) * width);
    picture->mask.resize(static_cast<size_t>(points_) * width);
    std::fill_n(picture->mask.begin(), n * width, uint8_t{1});
    for (size_t i = 0; i < n; ++i) {
      picture->pixels[i * width] = static_cast<float>(points[i].x) * 0x1p-20f;
      if (!flat_) picture->pixels[i * width + 1] = static_cast<float>(points[i].y) * 0x1p-20f;
    }
    Places places = answer(points);
    if (random_) mix(places, rng);
    Sample sample;
    sample.targets = places;
    sample.targets.push_back(static_cast<int32_t>(points_));
    sample.tokens = std::move(places);
    sample.tokens.insert(sample.tokens.begin(), static_cast<int32_t>(points_));
    sample.picture = std::move(picture);
    return sample;
  }
  bool flat_, random_ = false;
  int64_t points_ = 1, least_ = 1;
};

class Hull final : public Pointing {
 public:
  Hull(Settings& s, const Context& context) : Pointing(s, context, 3, 128, 10, false) {}

 private:
  // No three nearly in a line: an area of 1e-6 of the square or more.
  bool fits(const std::vector<GridPoint>& points, const GridPoint& next) const override {
    constexpr int64_t kFlat = (int64_t{1} << 2 * kBits) / 500'000;
    for (size_t a = 0; a < points.size(); ++a) {
      for (size_t b = 0; b < a; ++b) {
        if (std::abs(turn_of(points[a], points[b], next)) < kFlat) return false;
      }
    }
    return true;
  }
  Places answer(const std::vector<GridPoint>& points) const override {  // Andrew's chains
    Places sorted(points.size()), hull;
    std::iota(sorted.begin(), sorted.end(), 0);
    const auto at = [&](int32_t i) -> const GridPoint& { return points[static_cast<size_t>(i)]; };
    std::sort(sorted.begin(), sorted.end(),
              [&](int32_t a, int32_t b) { return at(a).x != at(b).x ? at(a).x < at(b).x : at(a).y < at(b).y; });
    for (int chain = 0; chain < 2; ++chain) {
      const size_t base = hull.size();
      for (const int32_t next : sorted) {
        while (hull.size() >= base + 2 && turn_of(at(hull[hull.size() - 2]), at(hull.back()), at(next)) <= 0)
          hull.pop_back();
        hull.push_back(next);
      }
      hull.pop_back();  // the other chain begins with it
      std::reverse(sorted.begin(), sorted.end());
    }
    std::rotate(hull.begin(), std::min_element(hull.begin(), hull.end()), hull.end());
    return hull;
  }
};
FOVEA_TRAIN_PART(Generator, "hull", Hull);

class Tsp final : public Pointing {
 public:
  Tsp(Settings& s, const Context& context) : Pointing(s, context, 3, 12, 10, false) {}

 private:
  // Held and Karp: shortest[set][last] from the highest point, through a set of the others, to the last of it.
  Places answer(const std::vector<GridPoint>& points) const override {
    const size_t n = points.size(), others = n - 1, sets = size_t{1} << others;
    std::vector<double> apart(n * n), shortest(sets * others, std::numeric_limits<double>::infinity());
    for (size_t a = 0; a < n; ++a) {
      for (size_t b = 0; b < n; ++b) {
        const int64_t dx = points[a].x - points[b].x, dy = points[a].y - points[b].y;
        apart[a * n + b] = std::sqrt(static_cast<double>(dx * dx + dy * dy));
      }
    }
    for (size_t last = 0; last < others; ++last)
      shortest[(size_t{1} << last) * others + last] = apart[others * n + last];
    for (size_t set = 1; set < sets; ++set) {
      for (size_t last = 0; last < others; ++last) {
        const double here = shortest[set * others + last];
        if (!(set >> last & 1) || std::isinf(here)) continue;
        for (size_t next = 0; next < others; ++next) {
          if (set >> next & 1) continue;
          double& there = shortest[(set | size_t{1} << next) * others + next];
          there = std::min(there, here + apart[last * n + next]);
        }
      }
    }
    Places tour = {static_cast<int32_t>(others)};
    for (size_t set = sets - 1, after = others; set > 0;) {
      size_t best = others;
      double least = std::numeric_limits<double>::infinity();
      for (size_t last = 0; last < others; ++last) {
        if (!(set >> last & 1)) continue;
        const double length = shortest[set * others + last] + apart[last * n + after];
        if (length < least) least = length, best = last;
      }
      tour.push_back(static_cast<int32_t>(best));
      set &= ~(size_t{1} << best), after = best;
    }
    std::rotate(tour.begin(), std::find(tour.begin(), tour.end(), 0), tour.end());
    if (tour[1] > tour.back()) std::reverse(tour.begin() + 1, tour.end());
    return tour;
  }
};
FOVEA_TRAIN_PART(Generator, "tsp", Tsp);

class Ranking final : public Pointing {
 public:
  Ranking(Settings& s, const Context& context) : Pointing(s, context, 2, 1024, 10, true) {}

 private:
  bool fits(const std::vector<GridPoint>& points, const GridPoint& next) const override {
    return std::none_of(points.begin(), points.end(), [&](const GridPoint& one) { return one.x == next.x; });
  }
  Places answer(const std::vector<GridPoint>& points) const override {
    Places sorted(points.size());
    std::iota(sorted.begin(), sorted.end(), 0);
    std::sort(sorted.begin(), sorted.end(), [&](int32_t a, int32_t b) {
      return points[static_cast<size_t>(a)].x < points[static_cast<size_t>(b)].x;
    });
    return sorted;
  }
  void mix(Places& places, Rng& rng) const override {
    for (size_t i = places.size(); i > 1; --i) std::swap(places[i - 1], places[rng.below(i)]);
  }
};
FOVEA_TRAIN_PART(Generator, "ranking", Ranking);

}  // namespace
}  // namespace fovea::train

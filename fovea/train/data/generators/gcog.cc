// gcog: questions about coloured letters on a grid, each the tree of a few operators (Ito et al., arXiv:2401.15030).
//   exist | sum-even sum-odd product-even product-odd    true or false: the object of a colour and a shape is there |
//                                                        its x + y, x y (both from 0; y goes down) is even or odd
//   go | get-color | get-shape                           its place | the colour of a shape, the shape of a colour
// "depth" 1 is one operator; 3: an operator, "if-else", and two of which its answer chooses one; 5 and 7: trees of 7
// and 15 operators. All but the last are true or false. A list of depths: one is drawn.
//
// Ids: 0 true, 1 false, the places row by row, "colours", "shapes" (together the answers); then the operators in the
// order above, if-else, any, end, empty. Tokens: operator, colour, shape of the first; if-else and the two trees; end.
// What a get asks for is `any`. Wanted at the end is the answer, which is the picture's label too. "form": "picture":
// pixels [colours + shapes, "grid", "grid"] of 0 and 1, and a mask that numbers what the operators ask for in their
// order, and all distractors as one more. "tokens": the grid is read first, colour and shape of each cell, or empty
// twice. What an operator reads is there but for `exist`, whose answer, like that of the parities, is drawn;
// distractors make no question ambiguous.
//
// Splits. More "distractors" [least, most], another depth: other settings for testing. "split": "systematic" with
// "part": "train" or "test", at depth 1: the operators exist, sum-even, product-even, get-shape with half of the
// objects, and the others with the other half; in the test exchanged. The halves share no object, and every colour and
// shape is in both (colour + shape is even, or odd), so that every answer occurs in training. "systematic-released"
// takes the paper's halves, the first colours and the last shapes: they share a quarter of the objects, and half of the
// test's pairs of operator and object are in training too. At depth 3 both are the paper's: which operators come first
// with which last.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

enum Operator : uint8_t { kExist, kSumEven, kSumOdd, kProductEven, kProductOdd, kGo, kGetColor, kGetShape, kOperators };
const std::vector<std::string> kOperatorNames = {"exist",       "sum-even", "sum-odd",   "product-even",
                                                 "product-odd", "go",       "get-color", "get-shape"};
using Operators = std::vector<Operator>;

bool is_parity(Operator op) { return op >= kSumEven && op <= kProductOdd; }
bool is_get(Operator op) { return op == kGetColor || op == kGetShape; }
bool parity_holds(Operator op, int64_t x, int64_t y) {
  const bool odd = (op == kSumEven || op == kSumOdd ? x + y : x * y) % 2 != 0;
  return odd == (op == kSumOdd || op == kProductOdd);
}

struct Asked {  // one operator of a tree; those that may follow node i are 2 i + 1 and 2 i + 2
  Operator op;
  int64_t colour = 0, shape = 0;
};
struct Thing {
  int64_t colour, shape, cell;
  size_t node;  // that asks for it; behind all nodes: a distractor
};

class Gcog final : public Generator {
 public:
  Gcog(Settings& s, const Context& context)
      : Generator(s, context),
        grid_(s.integer("grid", 5, 2, 10)),
        colours_(s.integer("colours", 5, 4, 10)),
        shapes_(s.integer("shapes", 5, 4, 26)),
        depths_(s.integers("depth", {1}, 1, 7)) {
    for (const std::string& name : s.texts("operators", kOperatorNames)) {
      const auto at = std::find(kOperatorNames.begin(), kOperatorNames.end(), name);
      if (at == kOperatorNames.end()) {
        s.unknown_name("operators", name, kOperatorNames);
      } else {
        operators_.push_back(static_cast<Operator>(at - kOperatorNames.begin()));
      }
    }
    const std::vector<int64_t> range = s.integers("distractors", {0, 5}, 0, 99);
    least_ = range[0], most_ = range.back();
    as_tokens_ = s.one_of("form", "picture", {"picture", "tokens"}) == "tokens";
    const std::string split = s.one_of("split", "none", {"none", "systematic", "systematic-released"});
    released_ = split.ends_with("released");
    const bool test = s.one_of("part", "train", {"train", "test"}) == "test";
    if (range.size() > 2 || least_ > most_) s.wrong("distractors", "is no list of the least and the most");
    if (s.good()) check(s, context);
    if (s.good()) choose(s, split != "none", test);
  }

 private:
  // What may be asked: the operators before the last, the last ones, and which half of the objects (2: any).
  struct Family {
    Operators first, last;
    int half = 2;
  };

  int64_t first_colour() const { return 2 + grid_ * grid_; }
  int64_t first_shape() const { return first_colour() + colours_; }
  int64_t n_answers() const { return first_shape() + shapes_; }
  int64_t if_else() const { return n_answers() + kOperators; }
  int64_t any() const { return if_else() + 1; }
  int64_t end() const { return if_else() + 2; }
  int64_t empty() const { return if_else() + 3; }
  static size_t nodes_of(int64_t depth) { return (size_t{2} << depth / 2) - 1; }

  void check(Settings& s, const Context& context) const {
    for (const int64_t depth : depths_) {
      if (depth % 2 == 0) return s.wrong("depth", fmt::format("has {}; depths are 1, 3, 5 and 7", depth));
    }
    const int64_t deepest = *std::max_element(depths_.begin(), depths_.end()), cells = grid_ * grid_;
    const auto nodes = static_cast<int64_t>(nodes_of(deepest));
    if (nodes + most_ > cells)
      return s.wrong("distractors", fmt::format("makes up to {} objects on {} cells", nodes + most_, cells));
    // For every parity that is drawn a cell must be free.
    const bool products = std::count(operators_.begin(), operators_.end(), kProductEven) +
                              std::count(operators_.begin(), operators_.end(), kProductOdd) >
                          0;
    const int64_t fewest = products ? grid_ / 2 * (grid_ / 2) : cells / 2;
    if (std::any_of(operators_.begin(), operators_.end(), is_parity) && fewest < nodes)
      return s.wrong("grid", fmt::format("is {}: {} operators may need as many cells of one parity, of which it has {}",
                                         grid_, nodes, fewest));
    if (colours_ * shapes_ <= nodes)
      return s.wrong("depth",
                     fmt::format("has trees of {} operators, and there are {} objects", nodes, colours_ * shapes_));
    const int64_t tokens = 4 * nodes - (nodes + 1) / 2 + 1 + (as_tokens_ ? 2 * cells : 0);
    if (tokens > context.context)
      return s.wrong("depth", fmt::format("gives {} tokens; the context is {}", tokens, context.context));
    if (context.vocab_size > 0 && context.vocab_size <= empty())
      return s.wrong("generator",
                     fmt::format("gcog has {} words, and the vocabulary {}", empty() + 1, context.vocab_size));
    if (context.n_labels > 0 && !as_tokens_ && context.n_labels < n_answers())
      return s.wrong("generator",
                     fmt::format("gcog has {} answers, and the net {} classes", n_answers(), context.n_labels));
  }

  void choose(Settings& s, bool systematic, bool test) {
    const auto of = [&](const Operators& some) {
      Operators out;
      std::copy_if(some.begin(), some.end(), std::back_inserter(out), [&](Operator op) {
        return std::find(operators_.begin(), operators_.end(), op) != operators_.end();
      });
      return out;
    };
    const bool deep = depths_ != std::vector<int64_t>{1};
    const auto add = [&](const Operators& first, const Operators& last, int half) {
      if ((deep && first.empty()) || last.empty()) return;
      families_.push_back({first, last, half});
    };
    if (!systematic) {
      add(of({kExist, kSumEven, kSumOdd, kProductEven, kProductOdd}), operators_, 2);
    } else if (!deep) {
      add({}, of({kExist, kSumEven, kProductEven, kGetShape}), test ? 1 : 0);
      add({}, of({kSumOdd, kProductOdd, kGo, kGetColor}), test ? 0 : 1);
    } else if (depths_ == std::vector<int64_t>{3}) {
      const Operators first[2] = {of({kExist, kSumEven, kProductEven}), of({kSumOdd, kProductOdd})},
                      last[2] = {of({kSumEven, kProductEven, kGetColor, kGetShape}),
                                 of({kExist, kSumOdd, kProductOdd, kGo})};
      add(first[0], last[test ? 1 : 0], 2);
      add(first[1], last[test ? 0 : 1], 2);
    } else {
      return s.wrong("split", "is for one depth, 1 or 3");
    }
    if (families_.empty()) s.wrong("operators", "leaves nothing to ask");
  }

  // Whether an object is in a half of all.
  bool in_half(int half, int64_t colour, int64_t shape) const {
    if (half == 2) return true;
    if (released_) return half == 0 ? colour < colours_ / 2 : shape >= shapes_ / 2;
    return (colour + shape) % 2 == half;
  }

  // Each get needs a colour or a shape of its own, and the rest, with a distractor, others.
  std::vector<Asked> draw_tree(Rng& rng, const Family& family, size_t nodes) const {
    std::vector<Asked> tree;
    int64_t shapes = shapes_, colours = colours_;  // that no get asks about
    auto rest = static_cast<int64_t>(nodes);
    for (size_t i = 0; i < nodes; ++i) {
      Operators some;
      for (const Operator op : i < nodes / 2 ? family.first : family.last) {
        const int64_t free = (shapes - (op == kGetColor)) * (colours - (op == kGetShape));
        if (!is_get(op) || free > rest - 1) some.push_back(op);
      }
      tree.push_back({some[rng.below(some.size())]});
      shapes -= tree[i].op == kGetColor, colours -= tree[i].op == kGetShape, rest -= is_get(tree[i].op);
    }
    std::vector<int64_t> colour(static_cast<size_t>(colours_)), shape(static_cast<size_t>(shapes_));
    std::iota(colour.begin(), colour.end(), 0), std::iota(shape.begin(), shape.end(), 0);
    for (bool again = true; again;) {  // one tree in two or better is in its half
      for (size_t i = colour.size(); i > 1; --i) std::swap(colour[i - 1], colour[rng.below(i)]);
      for (size_t i = shape.size(); i > 1; --i) std::swap(shape[i - 1], shape[rng.below(i)]);
      // Those at the end belong to the gets.
      auto next_colour = static_cast<size_t>(colours), next_shape = static_cast<size_t>(shapes);
      for (Asked& one : tree) {
        const auto any_colour = [&] { return colour[rng.below(static_cast<uint64_t>(colours))]; };
        const auto any_shape = [&] { return shape[rng.below(static_cast<uint64_t>(shapes))]; };
        const auto asked_before = [&](const Asked& other) {
          return &other < &one && other.colour == one.colour && other.shape == one.shape;
        };
        do {
          one.colour = one.op == kGetShape ? colour[next_colour] : any_colour();
          one.shape = one.op == kGetColor ? shape[next_shape] : any_shape();
        } while (std::any_of(tree.begin(), tree.end(), asked_before));
        next_colour += one.op == kGetShape, next_shape += one.op == kGetColor;
      }
      again = !in_half(family.half, tree[0].colour, tree[0].shape);
    }
    return tree;
  }

  std::vector<Thing> draw_things(Rng& rng, const std::vector<Asked>& tree) const {
    std::vector<Thing> things;
    std::vector<int64_t> free(static_cast<size_t>(grid_ * grid_));
    std::iota(free.begin(), free.end(), 0);
    const auto put = [&](int64_t colour, int64_t shape, size_t node, const auto& fits) {
      std::vector<size_t> places;
      for (size_t i = 0; i < free.size(); ++i) {
        if (fits(free[i])) places.push_back(i);
      }
      const size_t at = places[rng.below(places.size())];
      things.push_back({colour, shape, free[at], node});
      free.erase(free.begin() + static_cast<int64_t>(at));
    };
    const auto anywhere = [](int64_t) { return true; };
    for (size_t i = 0; i < tree.size(); ++i) {  // first what must lie on a cell of one parity
      if (!is_parity(tree[i].op)) continue;
      const bool truth = rng.next() >> 63;
      put(tree[i].colour, tree[i].shape, i,
          [&](int64_t cell) { return parity_holds(tree[i].op, cell % grid_, cell / grid_) == truth; });
    }
    for (size_t i = 0; i < tree.size(); ++i) {
      if (is_parity(tree[i].op) || (tree[i].op == kExist && rng.next() >> 63)) continue;
      put(tree[i].colour, tree[i].shape, i, anywhere);
    }
    const int64_t distractors = least_ + static_cast<int64_t>(rng.below(static_cast<uint64_t>(most_ - least_) + 1));
    for (int64_t i = 0; i < distractors; ++i) {
      int64_t colour = 0, shape = 0;
      const auto disturbs = [&](const Asked& one) {
        return (one.op == kGetShape || one.shape == shape) && (one.op == kGetColor || one.colour == colour);
      };
      do {
        colour = static_cast<int64_t>(rng.below(static_cast<uint64_t>(colours_)));
        shape = static_cast<int64_t>(rng.below(static_cast<uint64_t>(shapes_)));
      } while (std::any_of(tree.begin(), tree.end(), disturbs));
      put(colour, shape, tree.size(), anywhere);
    }
    return things;
  }

  // What an operator says about what is there.
  int64_t answer(const Asked& one, const std::vector<Thing>& things) const {
    const auto found = std::find_if(things.begin(), things.end(), [&](const Thing& thing) {
      return (one.op == kGetColor || thing.colour == one.colour) && (one.op == kGetShape || thing.shape == one.shape);
    });
    if (one.op == kExist) return found != things.end() ? 0 : 1;
    switch (one.op) {
      case kGo: return 2 + found->cell;
      case kGetColor: return first_colour() + found->colour;
      case kGetShape: return first_shape() + found->shape;
      default: return parity_holds(one.op, found->cell % grid_, found->cell / grid_) ? 0 : 1;
    }
  }

  // Node i and those below it; `order` gets the nodes as they are asked.
  void ask(const std::vector<Asked>& tree, size_t i, std::vector<int32_t>& ids, std::vector<size_t>& order) const {
    const Asked& one = tree[i];
    order.push_back(i);
    for (const int64_t id : {n_answers() + one.op, one.op == kGetColor ? any() : first_colour() + one.colour,
                             one.op == kGetShape ? any() : first_shape() + one.shape})
      ids.push_back(static_cast<int32_t>(id));
    if (2 * i + 1 >= tree.size()) return;
    ids.push_back(static_cast<int32_t>(if_else()));
    ask(tree, 2 * i + 1, ids, order);
    ask(tree, 2 * i + 2, ids, order);
  }

  std::shared_ptr<const Picture> show(const std::vector<Thing>& things, const std::vector<size_t>& order,
                                      int32_t label) const {
    auto picture = std::make_shared<Picture>();
    const auto cells = static_cast<size_t>(grid_ * grid_);
    picture->channels = colours_ + shapes_, picture->height = picture->width = grid_;
    picture->label = label;
    picture->pixels.resize(static_cast<size_t>(picture->channels) * cells);
    picture->mask.resize(cells);
    for (const Thing& thing : things) {
      const auto at = static_cast<size_t>(thing.cell);
      picture->pixels[static_cast<size_t>(thing.colour) * cells + at] = 1;
      picture->pixels[static_cast<size_t>(colours_ + thing.shape) * cells + at] = 1;
      const auto number = std::find(order.begin(), order.end(), thing.node) - order.begin();
      picture->mask[at] = static_cast<uint8_t>(number + 1);
    }
    return picture;
  }

  Sample draw(Rng& rng) const override {
    const Family& family = families_[rng.below(families_.size())];
    const std::vector<Asked> tree = draw_tree(rng, family, nodes_of(depths_[rng.below(depths_.size())]));
    const std::vector<Thing> things = draw_things(rng, tree);
    size_t node = 0;
    while (2 * node + 1 < tree.size()) node = 2 * node + 1 + static_cast<size_t>(answer(tree[node], things));
    const auto wanted = static_cast<int32_t>(answer(tree[node], things));
    Sample sample;
    if (as_tokens_) {
      sample.tokens.assign(static_cast<size_t>(2 * grid_ * grid_), static_cast<int32_t>(empty()));
      for (const Thing& thing : things) {
        const auto at = static_cast<size_t>(2 * thing.cell);
        sample.tokens[at] = static_cast<int32_t>(first_colour() + thing.colour);
        sample.tokens[at + 1] = static_cast<int32_t>(first_shape() + thing.shape);
      }
    }
    std::vector<size_t> order;
    ask(tree, 0, sample.tokens, order);
    sample.tokens.push_back(static_cast<int32_t>(end()));
    sample.targets.assign(sample.tokens.size(), kNoTarget);
    sample.targets.back() = wanted;
    if (!as_tokens_) sample.picture = show(things, order, wanted);
    return sample;
  }

  int64_t grid_, colours_, shapes_;
  std::vector<int64_t> depths_;
  Operators operators_;
  int64_t least_ = 0, most_ = 0;
  bool as_tokens_ = false, released_ = false;
  std::vector<Family> families_;
};
FOVEA_TRAIN_PART(Generator, "gcog", Gcog);

}  // namespace
}  // namespace fovea::train

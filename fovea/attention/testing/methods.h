// For tests: methods that each act on one stage in the plainest way. A test that includes this has
// them in its registry.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "fovea/attention/method.h"
#include "fovea/tensor/ops/ops.h"

namespace fovea::attention {

// Only every `stride`-th key, and the row's own.
class StridedKeys final : public Method {
 public:
  static constexpr MethodInfo kInfo{.name = "test-strided",
                                    .title = "Strided",
                                    .paper = "none",
                                    .stages = kChoose,
                                    .summary = "for tests",
                                    .excludes = "test-positions"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override { knobs.add("stride", stride_, {.min = 1, .help = "keys"}); }
  bool chooses(int) const override { return true; }
  void choose(const Call& call, const Queries&, KeyPlan& plan) const override {
    plan.edit_tiles([&](int kv, KeyPlan::Tile& tile) {
      for (KeyPlan::Page& page : tile.parts[0].pages) {
        const std::span<uint32_t> bits = plan.mask(tile, page);
        const int32_t* keys = plan.pages(kv)[static_cast<size_t>(page.index)].positions;
        for (size_t row = 0; row < bits.size(); ++row) {
          const int32_t q_pos = call.q_pos[static_cast<size_t>(tile.first) + row % static_cast<size_t>(tile.n)];
          for (int slot = 0; slot < kernels::kPageKeys; ++slot) {
            if (keys[slot] % stride_ != 0 && keys[slot] != q_pos) bits[row] &= ~(uint32_t{1} << slot);
          }
        }
      }
    });
  }

 private:
  int stride_ = 2;
};

// Only keys of at least this length, by what is cached of them, and the row's own.
class LongKeys final : public Method {
 public:
  static constexpr MethodInfo kInfo{.name = "test-long-keys",
                                    .title = "Long keys",
                                    .paper = "none",
                                    .stages = kChoose,
                                    .summary = "for tests",
                                    .excludes = "test-positions"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override { knobs.add("least", least_, {.min = 0, .help = "length"}); }
  bool chooses(int) const override { return true; }
  void choose(const Call& call, const Queries&, KeyPlan& plan) const override {
    std::vector<float> key(static_cast<size_t>(call.model.site(call.layer).k_dim));
    for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
      for (int t = 0; t < plan.n_tiles(); ++t) {
        KeyPlan::Tile& tile = plan.tile(kv, t);
        for (KeyPlan::Page& page : tile.parts[0].pages) {
          const KeyBlock& cached = plan.pages(kv)[static_cast<size_t>(page.index)];
          uint32_t short_keys = 0;
          for (int slot = 0; slot < kernels::kPageKeys; ++slot) {
            if (cached.positions[slot] == kernels::kNoPosition) continue;
            plan.read_key(cached, slot, key);
            double square = 0;
            for (const float x : key) square += static_cast<double>(x) * x;
            if (square < least_ * least_) short_keys |= uint32_t{1} << slot;
          }
          const std::span<uint32_t> bits = plan.mask(tile, page);
          for (size_t row = 0; row < bits.size(); ++row) {
            const int32_t q_pos = call.q_pos[static_cast<size_t>(tile.first) + row % static_cast<size_t>(tile.n)];
            for (int slot = 0; slot < kernels::kPageKeys; ++slot) {
              if (cached.positions[slot] != q_pos) bits[row] &= ~(short_keys & uint32_t{1} << slot);
            }
          }
        }
      }
    }
  }

 private:
  double least_ = 1;
};

// A fixed rule, without dropping anything.
class FixedRule : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-rule", .title = "Rule", .paper = "none", .stages = kChoose, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("n_sink", n_sink_, {.min = 0, .help = "keys"});
    knobs.add("window", window_, {.min = 1, .help = "keys"});
  }
  KeyRule rule(int, int) const override { return {n_sink_, window_}; }

 private:
  int n_sink_ = 0, window_ = 1;
};

// Rows of one head: scores of odd keys to -inf, pattern times `factor`.
class RowEdits final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-rows", .title = "Rows", .paper = "none", .stages = kScore | kReweight, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("head", head_, {.min = 0, .help = "head"});
    knobs.add("odd", odd_, {.help = "whether odd keys stay"});
    knobs.add("factor", factor_, {.help = "on the pattern"});
  }
  bool edits_rows(int, int head, bool) const override { return head == head_; }
  void edit_scores(const RowView& row, std::span<float> scores) const override {
    if (odd_) return;
    for (size_t i = 0; i < scores.size(); ++i) {
      if (row.key_positions[i] % 2 == 1) scores[i] = -std::numeric_limits<float>::infinity();
    }
  }
  void edit_pattern(const RowView&, std::span<float> pattern) const override {
    for (float& p : pattern) p *= static_cast<float>(factor_);
  }

 private:
  int head_ = 0;
  bool odd_ = true;
  double factor_ = 1;
};

// Every token is rotated as if it stood `shift` places later, and its values are negated.
class MovedPositions : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-positions", .title = "Positions", .paper = "none", .stages = kInputs, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override { knobs.add("shift", shift_, {.min = 0, .help = "places"}); }
  bool edits_inputs(int) const override { return true; }
  void edit_inputs(const Call&, Inputs& in) const override {
    for (int32_t& position : in.positions) position += shift_;
    in.v = tensor::affine(in.v, -1.0f);
  }

 private:
  int shift_ = 0;
};

// Every `every`-th page and the two at the row's own: of all heads, or of one. A list changes from tile to tile, a mask
// from row to row.
class ListedPages final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-pages", .title = "Pages", .paper = "none", .stages = kChoose, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("every", every_, {.min = 1, .help = "runs of pages"});
    knobs.add("run", run_, {.min = 1, .help = "pages in a row"});
    knobs.add("head", head_, {.min = -1, .help = "query head; -1: all"});
  }
  bool chooses(int) const override { return true; }
  void choose(const Call& call, const Queries&, KeyPlan& plan) const override {
    for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
      for (int t = 0; t < plan.n_tiles(); ++t) {
        KeyPlan::Tile& tile = plan.tile(kv, t);
        if (head_ < 0) {
          choose_pages(call, plan, tile, tile.parts[0]);
        } else if (head_ / plan.group() == kv) {
          const KeyPlan::Part whole = tile.parts[0];
          tile.parts.clear();
          for (int g = 0; g < plan.group(); ++g) {
            tile.parts.push_back(whole);
            tile.parts.back().head = g;
            if (g == head_ % plan.group()) choose_pages(call, plan, tile, tile.parts.back());
          }
        }
      }
    }
  }

 private:
  bool listed(const KeyPlan::Page& page) const { return page.index / run_ % every_ == 0; }
  void choose_pages(const Call& call, KeyPlan& plan, KeyPlan::Tile& tile, KeyPlan::Part& part) const {
    const auto own = [&](int64_t row) {
      return call.q_pos[static_cast<size_t>(tile.first + row)] / kernels::kPageKeys;
    };
    std::erase_if(part.pages, [&](const KeyPlan::Page& page) { return !listed(page) && page.index < own(0) - 1; });
    for (KeyPlan::Page& page : part.pages) {
      if (listed(page) || page.index >= own(tile.n - 1) - 1) continue;
      const std::span<uint32_t> bits = plan.mask(tile, page);
      for (size_t row = 0; row < bits.size(); ++row) {
        if (page.index < own(static_cast<int64_t>(row) % tile.n) - 1) bits[row] = 0;
      }
    }
  }
  int every_ = 2, run_ = 1, head_ = -1;
};

// Four sinks, the row's neighbourhood and the rest are parts of their own; the sinks keep a share of their weight, and
// the others have what they lose.
class KeyClasses final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-classes", .title = "Classes", .paper = "none", .stages = kChoose | kJoin, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override { knobs.add("sinks", sinks_, {.min = 0, .max = 1, .help = "share"}); }
  bool chooses(int) const override { return true; }
  bool joins(int) const override { return sinks_ != 1; }
  void choose(const Call&, const Queries&, KeyPlan& plan) const override {
    plan.edit_tiles([&](int, KeyPlan::Tile& tile) {
      std::vector<KeyPlan::Page> pages = std::move(tile.parts[0].pages);
      tile.parts.assign(3, KeyPlan::Part(tile.parts[0]));
      // The last pages, from where pages are summed together: a group that is cut is read twice.
      const auto before = static_cast<int64_t>(pages.size()) - 4;
      const auto local = pages.begin() + std::max<int64_t>(0, before / kernels::kTilePages * kernels::kTilePages);
      tile.parts[0].pages.assign(1, pages[0]);
      for (KeyRule& rule : tile.parts[0].rules) rule = {.n_sink = 4, .window = 0, .ahead = rule.ahead};
      tile.parts[1].pages.assign(local, pages.end());
      pages.erase(local, pages.end());
      tile.parts[2].pages = std::move(pages);
      for (KeyPlan::Part* part : {&tile.parts[1], &tile.parts[2]}) {
        if (part->pages.empty() || part->pages[0].index != 0) continue;
        for (uint32_t& bits : plan.own_mask(tile, part->pages[0])) bits &= ~uint32_t{15};
      }
    });
  }
  void join(const Call&, const tensor::Tensor&, tensor::Tensor& weights) const override {
    const tensor::Tensor sinks = tensor::slice(weights, 2, 0, 1), rest = tensor::slice(weights, 2, 1, 3);
    const tensor::Tensor others = tensor::reshape(tensor::sum(rest, 2), sinks.shape());
    // The share that the sinks keep: all where a row has nothing else.
    tensor::Tensor share = tensor::Tensor::empty(sinks.shape()), hole = tensor::Tensor::empty(sinks.shape());
    for (int64_t i = 0; i < share.elements(); ++i) {
      const bool alone = others.data()[i] == 0;
      share.data()[i] = alone ? 1.0f : static_cast<float>(sinks_), hole.data()[i] = alone ? 1.0f : 0.0f;
    }
    const tensor::Tensor kept = tensor::mul(sinks, share);
    const tensor::Tensor factor = tensor::div(tensor::affine(kept, -1, 1), tensor::add(others, hole));
    weights = tensor::concat({kept, tensor::mul_spread(rest, factor)}, 2);
  }

 private:
  double sinks_ = 1;
};

// What lies more than a page back is read as if the row stood at `limit` at most, with a bias.
class NearerPositions final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-nearer", .title = "Nearer", .paper = "none", .stages = kChoose, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("limit", limit_, {.min = 0, .help = "positions"});
    knobs.add("bias", bias_, {.help = "on the scores"});
  }
  bool chooses(int) const override { return true; }
  void choose(const Call& call, const Queries&, KeyPlan& plan) const override {
    std::vector<int32_t> positions(call.q_pos.begin(), call.q_pos.end());
    for (int32_t& position : positions) position = std::min(position, limit_);
    const int turn = plan.turn(positions);
    for (size_t row = 1; row < positions.size(); ++row) {  // so that the rows of a tile have the same pages behind them
      if (call.q_pos[row] % kernels::kPageKeys == 0) plan.cut(static_cast<int64_t>(row));
    }
    for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
      for (int t = 0; t < plan.n_tiles(); ++t) {
        KeyPlan::Tile& tile = plan.tile(kv, t);
        const int32_t near = call.q_pos[static_cast<size_t>(tile.first)] / kernels::kPageKeys - 1;
        KeyPlan::Part far = tile.parts[0];
        std::erase_if(tile.parts[0].pages, [near](const KeyPlan::Page& page) { return page.index < near; });
        std::erase_if(far.pages, [near](const KeyPlan::Page& page) { return page.index >= near; });
        far.turn = turn;
        far.bias = static_cast<float>(bias_);
        tile.parts.push_back(std::move(far));
      }
    }
  }

 private:
  int limit_ = 0;
  double bias_ = 0;
};

// A temperature for every token and head, learned: q times the softplus of what the token's normed stream says.
class Temperature final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-temperature", .title = "Temperature", .paper = "none", .stages = kInputs, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  Status bind(const ModelShape& model) override {
    n_heads_ = model.n_heads, d_model_ = model.d_model;
    weight_.resize(static_cast<size_t>(model.n_layers)), bias_.resize(weight_.size());
    return {};
  }
  std::vector<tensor::Parameter> parameters() override {
    std::vector<tensor::Parameter> table;
    for (size_t layer = 0; layer < weight_.size(); ++layer) {
      const std::string at = "layer." + std::to_string(layer);
      table.push_back({at + ".weight", "", {d_model_, n_heads_}, &weight_[layer], tensor::Init::zeros()});
      table.push_back({at + ".bias", "", {n_heads_}, &bias_[layer], tensor::Init::constant(0.54132485f)});
    }
    return table;
  }
  bool edits_inputs(int) const override { return true; }
  void edit_inputs(const Call& call, Inputs& in) const override {
    const auto layer = static_cast<size_t>(call.layer);
    const tensor::Tensor t = tensor::softplus(tensor::matmul(call.h, weight_[layer], bias_[layer]));
    in.q = tensor::mul_spread(in.q, tensor::reshape(t, {t.dim(0), t.dim(1), 1}));
  }

 private:
  int64_t n_heads_ = 0, d_model_ = 0;
  std::vector<tensor::Weight> weight_, bias_;  // softplus of the first bias is 1
};

// The same under other names: a method is named once in a pipeline.
class FixedRuleToo final : public FixedRule {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-rule-too", .title = "Rule", .paper = "none", .stages = kChoose, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
};
class MovedPositionsToo final : public MovedPositions {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-positions-too", .title = "Positions", .paper = "none", .stages = kInputs, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
};

FOVEA_REGISTER_METHOD(Temperature);
FOVEA_REGISTER_METHOD(ListedPages);
FOVEA_REGISTER_METHOD(KeyClasses);
FOVEA_REGISTER_METHOD(NearerPositions);
FOVEA_REGISTER_METHOD(StridedKeys);
FOVEA_REGISTER_METHOD(LongKeys);
FOVEA_REGISTER_METHOD(FixedRule);
FOVEA_REGISTER_METHOD(FixedRuleToo);
FOVEA_REGISTER_METHOD(RowEdits);
FOVEA_REGISTER_METHOD(MovedPositions);
FOVEA_REGISTER_METHOD(MovedPositionsToo);

}  // namespace fovea::attention

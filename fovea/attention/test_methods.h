// For tests: methods that each act on one stage in the plainest way. A test that includes this has
// them in its registry.
#pragma once

#include <limits>

#include "fovea/attention/method.h"

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
    for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
      for (int t = 0; t < plan.n_tiles(); ++t) {
        KeyPlan::Tile& tile = plan.tile(kv, t);
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
      }
    }
  }

 private:
  int stride_ = 2;
};

// A fixed rule, without dropping anything.
class FixedRule final : public Method {
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
class MovedPositions final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-positions", .title = "Positions", .paper = "none", .stages = kShape, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
  void visit_knobs(KnobVisitor& knobs) override { knobs.add("shift", shift_, {.min = 0, .help = "places"}); }
  bool edits_inputs(int) const override { return true; }
  void edit_inputs(const Call& view, InputTile& tile) const override {
    for (size_t i = 0; i < view.q_pos.size(); ++i) tile.positions[i] += shift_;
    for (int64_t i = 0; i < tile.v.elements(); ++i) tile.v.data()[i] *= -1.0f;
  }

 private:
  int shift_ = 0;
};

FOVEA_REGISTER_METHOD(StridedKeys);
FOVEA_REGISTER_METHOD(FixedRule);
FOVEA_REGISTER_METHOD(RowEdits);
FOVEA_REGISTER_METHOD(MovedPositions);

}  // namespace fovea::attention

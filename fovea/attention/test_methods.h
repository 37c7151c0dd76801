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
  bool chooses_keys(int, int) const override { return true; }
  void choose_keys(const LayerView& view, int, KeyMask& mask) const override {
    const size_t n_blocks = mask.blocks.size();
    for (size_t row = 0; row < mask.bits.size() / n_blocks; ++row) {
      const int32_t q_pos = view.q_pos[row / static_cast<size_t>(mask.group)];
      for (size_t b = 0; b < n_blocks; ++b) {
        for (int slot = 0; slot < kernels::kPageKeys; ++slot) {
          const int32_t key = mask.blocks[b].positions[slot];
          if (key % stride_ != 0 && key != q_pos) mask.bits[row * n_blocks + b] &= ~(uint32_t{1} << slot);
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
  void edit_inputs(const LayerView& view, InputTile& tile) const override {
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

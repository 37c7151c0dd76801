// The rows of the pattern, made only for the heads that a method edits, an observer reduces or a
// hook reads; everything else stays fused.
#include "fovea/attention/attend_rows.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "fovea/attention/plan_scores.h"
#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/vector.h"

namespace fovea::attention {
namespace {

using kernels::AttentionArgs;
using kernels::KeyBlock;
using kernels::kNoPosition;
using kernels::kPageKeys;
using tensor::Tensor;

constexpr int64_t kRowTile = 16;
constexpr float kUnseen = -std::numeric_limits<float>::infinity();

// Calls work(first, n) for blocks of rows, each within one tile of the plan.
template <typename Work>
void each_block(const KeyPlan& plan, const Work& work) {
  for (int t = 0; t < plan.n_tiles(); ++t) {
    const int64_t end = plan.first_row(t) + plan.n_rows(t);
    for (int64_t first = plan.first_row(t); first < end; first += kRowTile)
      work(t, first, std::min(kRowTile, end - first));
  }
}

}  // namespace

// Those of the cache, then those that methods have added, by their index in the plan.
std::vector<KeyBlock> Attend::Rows::pages_of(const RowTask& task) const {
  const KeyPlan& plan = attend.memory_.plans[static_cast<size_t>(task.run)];
  const int kv = task.head / layer.shape.group();
  const std::span<const KeyBlock> cached = plan.pages(kv), added = plan.added(kv);
  std::vector<KeyBlock> pages(cached.begin(), cached.end());
  if (added.empty()) return pages;
  KeyBlock none = added[0];
  none.positions = no_positions();
  pages.resize(static_cast<size_t>(plan.first_added(kv)), none);
  pages.insert(pages.end(), added.begin(), added.end());
  return pages;
}

std::vector<int32_t> Attend::Rows::slot_positions(const RowTask& task) const {
  std::vector<int32_t> positions;
  for (const KeyBlock& page : pages_of(task))
    positions.insert(positions.end(), page.positions, page.positions + kPageKeys);
  return positions;
}

void Attend::Rows::scores(const RowTask& task, int64_t first, int64_t n, float* to, std::span<const int32_t> positions,
                          tensor::Scratch& scratch) const {
  const auto slots = static_cast<int64_t>(positions.size());
  products(task, first, n, to, slots, scratch);
  if (!layer.by_distance.defined()) return;
  const std::span<const int32_t> at = attend.memory_.runs[static_cast<size_t>(task.run)].positions;
  for (int64_t i = 0; i < n; ++i)
    layer.add_bias(task.head, at[static_cast<size_t>(first + i)], positions, to + i * slots);
}

void Attend::Rows::products(const RowTask& task, int64_t first, int64_t n, float* to, int64_t slots,
                            tensor::Scratch& scratch) const {
  const auto run_index = static_cast<size_t>(task.run);
  const int group = layer.shape.group(), kv = task.head / group, g = task.head % group;
  plan_scores(
      attend.memory_.plans[run_index], kv, g, first, n,
      [&](int turn) {
        AttentionArgs args = layer.rows(attend, run_index, kv, g, 1, first, n, turn);
        args.scratch = scratch.at_least(kernels::attention_scratch_bytes(args));
        return args;
      },
      to, slots);
}

void Attend::Rows::softmax(int head, std::span<float> row) const {
  const auto n = static_cast<int64_t>(row.size());
  const float share = layer.sinks.defined() ? layer.share_of_keys(head, kernels::log_sum_exp(row.data(), n)) : 1;
  kernels::softmax(row.data(), n, row.data());
  if (layer.sinks.defined()) kernels::scale(n, share, row.data(), row.data());
}

void Attend::Rows::weigh(const RowTask& task, int64_t first, int64_t n, const float* pattern, int64_t slots) const {
  const auto run_index = static_cast<size_t>(task.run);
  const Run& run = attend.memory_.runs[run_index];
  const int group = layer.shape.group(), kv = task.head / group;
  const std::vector<KeyBlock> pages = pages_of(task);
  AttentionArgs args = layer.rows(attend, run_index, kv, task.head % group, 1, first, n, 0);
  args.blocks = pages.data();
  args.n_blocks = static_cast<int64_t>(pages.size());
  args.z = layer.z_of(run.begin + first, task.head);
  args.ld_z = layer.ld_z();
  args.scratch = args.z;  // none is used
  kernels::attention_values(args, 0, pattern, slots);
}

void Attend::Rows::run(const RowTask& task) const {
  tensor::Exec here = exec;
  const tensor::ExecScope scope(here);
  const auto run_index = static_cast<size_t>(task.run);
  const Run& run = attend.memory_.runs[run_index];
  const auto methods = attend.methods(run);
  const std::vector<int32_t> positions = slot_positions(task);
  const auto slots = static_cast<int64_t>(positions.size());
  std::vector<size_t> editors;
  for (size_t m = 0; m < methods.size(); ++m) {
    if (methods[m]->edits_rows(layer.index, task.head, run.decoding())) editors.push_back(m);
  }
  std::vector<RowObserver*> observers;
  for (const auto& all : {attend.c_.observers, run.observers}) {
    for (RowObserver* observer : all) {
      if (observer->wants(layer.index, task.head, run.decoding())) observers.push_back(observer);
    }
  }
  const Call plain = attend.call(run, layer.index);
  std::vector<Call> calls;
  for (const size_t m : editors) calls.push_back(attend.call(run, layer.index, m));
  std::vector<float> rows(static_cast<size_t>(std::min(run.n(), kRowTile) * slots));
  tensor::Scratch scratch;
  each_block(attend.memory_.plans[run_index], [&](int, int64_t first, int64_t n) {
    scores(task, first, n, rows.data(), positions, scratch);
    for (int64_t i = 0; i < n; ++i) {
      const std::span<float> row(rows.data() + i * slots, static_cast<size_t>(slots));
      const int32_t q_pos = run.positions[static_cast<size_t>(first + i)];
      for (size_t e = 0; e < editors.size(); ++e)
        methods[editors[e]]->edit_scores({calls[e], task.head, q_pos, positions}, row);
      softmax(task.head, row);
      for (size_t e = 0; e < editors.size(); ++e)
        methods[editors[e]]->edit_pattern({calls[e], task.head, q_pos, positions}, row);
      for (RowObserver* observer : observers) observer->see({plain, task.head, q_pos, positions}, row);
    }
    if (attend.edits_rows(run, layer, task.head)) weigh(task, first, n, rows.data(), slots);
  });
}

// Whole matrices kept for the hooks, of every head: scores after the score stage, the pattern after the reweight stage,
// over the live keys in order of position. z is computed again only from a pattern that a method or a hook changed:
// looking never alters an answer.
void Attend::hooked_rows(Layer& layer, size_t index) {
  const Run& run = memory_.runs[index];
  const int n_heads = layer.shape.n_heads;
  const int64_t n = run.n();
  const Rows row_path(*this, layer);
  struct Head {
    std::vector<int32_t> positions;  // by slot of the head's pages
    std::vector<int64_t> live;       // the slots that hold a key
    std::vector<size_t> editors;
    std::vector<float> rows;  // [n, slots]: scores, then the pattern
    bool edited = false;
    int64_t slots() const { return static_cast<int64_t>(positions.size()); }
    std::span<float> row(int64_t i) { return {rows.data() + i * slots(), positions.size()}; }
  };
  std::vector<Head> heads(static_cast<size_t>(n_heads));
  size_t most = 0;
  for (int h = 0; h < n_heads; ++h) {
    Head& head = heads[static_cast<size_t>(h)];
    head.positions = row_path.slot_positions({static_cast<int>(index), h});
    for (size_t j = 0; j < head.positions.size(); ++j) {
      if (head.positions[j] != kNoPosition) head.live.push_back(static_cast<int64_t>(j));
    }
    most = std::max(most, head.live.size());
    for (size_t m = 0; m < methods(run).size(); ++m) {
      if (methods(run)[m]->edits_rows(layer.index, h, run.decoding())) head.editors.push_back(m);
    }
  }
  const auto each_head = [&](auto work) {
    pool().for_each(n_heads, [&](int64_t h, int) {
      tensor::Exec here = row_path.exec;
      const tensor::ExecScope scope(here);
      work(static_cast<int>(h), heads[static_cast<size_t>(h)]);
    });
  };
  const auto q_pos = [&](int64_t i) { return run.positions[static_cast<size_t>(i)]; };
  each_head([&](int h, Head& head) {
    head.rows.resize(static_cast<size_t>(n * head.slots()));
    tensor::Scratch scratch;
    each_block(memory_.plans[index], [&](int, int64_t first, int64_t block) {
      row_path.scores({static_cast<int>(index), h}, first, block, head.row(first).data(), head.positions, scratch);
    });
    for (int64_t i = 0; i < n; ++i) {
      for (const size_t m : head.editors)
        methods(run)[m]->edit_scores({call(run, layer.index, m), h, q_pos(i), head.positions}, head.row(i));
    }
  });
  // Shows the rows to the hooks of a site, and takes back what they changed.
  const auto show = [&](Site site, float padding) {
    if (!c_.hooks->wants(site, layer.index)) return;
    const auto n_keys = static_cast<int64_t>(most);  // heads with fewer keys are padded at the end
    Tensor matrix = Tensor::empty({n_heads, n, n_keys});
    std::fill_n(matrix.data(), matrix.elements(), padding);
    each_head([&](int h, Head& head) {
      for (int64_t i = 0; i < n; ++i) {
        float* to = matrix.data() + (h * n + i) * n_keys;
        for (const int64_t slot : head.live) *to++ = head.row(i)[static_cast<size_t>(slot)];
      }
    });
    HookBatch::set_alone(*c_.hooks, run.sequence);
    matrix = hook(site, layer.index, std::move(matrix));
    HookBatch::set_together(*c_.hooks);
    each_head([&](int h, Head& head) {
      for (int64_t i = 0; i < n; ++i) {
        const float* from = matrix.data() + (h * n + i) * n_keys;
        for (const int64_t slot : head.live) {
          float& mine = head.row(i)[static_cast<size_t>(slot)];
          head.edited |= std::bit_cast<uint32_t>(mine) != std::bit_cast<uint32_t>(*from);
          mine = *from++;
        }
      }
    });
  };
  show(Site::kScores, kUnseen);
  each_head([&](int h, Head& head) {
    for (int64_t i = 0; i < n; ++i) {
      row_path.softmax(h, head.row(i));
      for (const size_t m : head.editors)
        methods(run)[m]->edit_pattern({call(run, layer.index, m), h, q_pos(i), head.positions}, head.row(i));
    }
  });
  show(Site::kPattern, 0.0f);
  each_head([&](int h, Head& head) {
    const Call plain = call(run, layer.index);
    for (const auto& all : {c_.observers, run.observers}) {
      for (RowObserver* observer : all) {
        if (!observer->wants(layer.index, h, run.decoding())) continue;
        for (int64_t i = 0; i < n; ++i) observer->see({plain, h, q_pos(i), head.positions}, head.row(i));
      }
    }
    if (!edits_rows(run, layer, h) && !head.edited) return;
    row_path.weigh({static_cast<int>(index), h}, 0, n, head.row(0).data(), head.slots());
  });
}

}  // namespace fovea::attention

// The fused path: every row of the batch over its pages, nothing of the pattern stored. One job over (sequence, KV
// head, tile of queries) and the rows that are made beside it, cut at the segments of the keys too where tiles are few,
// so that the number of barriers does not grow with the number of sequences.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "fovea/attention/attend_layer.h"
#include "fovea/attention/attend_rows.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/ops/reduce/softmax.h"

namespace fovea::attention {
namespace {

using kernels::AttentionArgs;
using kernels::KeyBlock;
using kernels::kPageKeys;
using kernels::kTilePages;
using tensor::Tensor;

constexpr float kSeesNone = -std::numeric_limits<float>::infinity();

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

// How many segments hold a key that a row may see: none past `last`, unless rows look ahead.
int64_t segments_seen(std::span<const KeyBlock> blocks, int64_t last) {
  int64_t n = (static_cast<int64_t>(blocks.size()) + kSegmentPages - 1) / kSegmentPages;
  for (; n > 1; --n) {
    const int32_t* positions = blocks[static_cast<size_t>((n - 1) * kSegmentPages)].positions;
    if (*std::min_element(positions, positions + kPageKeys) <= last) break;
  }
  return std::max<int64_t>(1, n);
}

// Stands where a list has left a page out, so that the others stay in their places.
const KeyBlock& no_page(const KeyBlock& beside, KeyBlock& room) {
  room = {beside.k, beside.v, no_positions()};
  return room;
}

}  // namespace

// One layer of the batch.
struct Attend::Fused {
  Attend& attend;
  Layer& layer;
  // Bytes that a task works in.
  size_t kernel, piece_z, piece_bytes,
      joining;  // scratch of the kernel; of a piece: its z, and its log-sum-exp too; of a join

  Fused(Attend& a, Layer& l) : attend(a), layer(l) {
    AttentionArgs largest = layer.rows(a, 0, 0, 0, layer.shape.group(), 0, 0, 0);
    int64_t most_pieces = 1;
    for (const Task& task : a.memory_.tasks) {
      largest.n_queries = std::max(largest.n_queries, task.n);
      most_pieces = std::max(most_pieces, static_cast<int64_t>(task.n_pieces));
    }
    const auto rows = static_cast<size_t>(largest.n_queries * largest.group);
    const auto dim = static_cast<size_t>(layer.shape.v_dim);
    kernel = aligned(kernels::attention_scratch_bytes(largest));
    piece_z = aligned(rows * dim * sizeof(float));
    piece_bytes = piece_z + aligned(rows * sizeof(float));
    const auto most = static_cast<size_t>(most_pieces);
    joining = aligned((2 * most + rows) * sizeof(float*) + (most + rows + most * rows) * sizeof(float));
  }

  // The rows of one task over one piece of their keys -> z with ld_to floats from row to row, lse [n, n_heads].
  // `again`: scratch was used last for a piece of the same task that has the same queries.
  void piece(const Task& task, const Piece& piece, bool again, std::byte* scratch, float* to, int64_t ld_to,
             float* lse) const {
    const auto run_index = static_cast<size_t>(task.run);
    const KeyPlan& plan = attend.memory_.plans[run_index];
    const std::span<const KeyBlock> pages = plan.pages(task.kv_head);
    const auto call = [&](int head, int n_heads, int turn, const KeyRule* rules, const KeyBlock* blocks,
                          int64_t n_blocks, const uint32_t* const* masks, float* z, float* sums) {
      AttentionArgs args = layer.rows(attend, run_index, task.kv_head, head, n_heads, task.first, task.n, turn);
      args.blocks = blocks;
      args.n_blocks = n_blocks;
      args.head_rules = rules + head;
      args.masks = masks;
      args.z = z;
      args.ld_z = ld_to;
      args.lse = sums;
      args.scratch = scratch;
      args.same_rows = again;
      kernels::attention(args);
    };
    if (!plan.touched(task.kv_head)) {
      return call(task.head, task.n_heads, 0, plan.rules(task.kv_head).data(), pages.data() + piece.begin,
                  piece.end - piece.begin, nullptr, to, lse);
    }
    if (piece.is_empty())  // of no part
      return call(task.head, task.n_heads, 0, plan.rules(task.kv_head).data(), nullptr, 0, nullptr, to, lse);
    const KeyPlan::Part& part = plan.tile(task.kv_head, task.tile).parts[static_cast<size_t>(piece.part)];
    const bool own = part.head != KeyPlan::kAllHeads;  // of one query head
    const int head = own ? part.head : task.head;
    KeyBlock list[kSegmentPages];
    const uint32_t* masks[kSegmentPages] = {};
    int64_t n = 0;
    bool masked = false;
    for (int64_t at = piece.begin; at < piece.end;) {
      const int32_t group = part.pages[static_cast<size_t>(at)].index / kTilePages * kTilePages;
      const KeyBlock& any = plan.page(task.kv_head, part.pages[static_cast<size_t>(at)].index);
      for (int32_t index = group; index < group + kTilePages; ++index, ++n) {
        if (at == piece.end || part.pages[static_cast<size_t>(at)].index != index) {
          no_page(any, list[n]);
          continue;
        }
        const KeyPlan::Page& page = part.pages[static_cast<size_t>(at++)];
        list[n] = plan.page(task.kv_head, index);
        if (page.bits) masks[n] = page.bits + head * task.n, masked = true;
      }
    }
    const uint32_t* const* bits = masked ? masks : nullptr;
    if (!own) return call(head, task.n_heads, part.turn, part.rules.data(), list, n, bits, to, lse);
    float sums[KeyPlan::kTileQueries];
    const int column = head - task.head;
    call(head, 1, part.turn, part.rules.data(), list, n, bits, to + int64_t{column} * layer.shape.v_dim, sums);
    for (int64_t i = 0; i < task.n; ++i) {
      for (int h = 0; h < task.n_heads; ++h) lse[i * task.n_heads + h] = h == column ? sums[i] : kSeesNone;
    }
  }

  bool have_same_queries(const Task& task, const Piece& a, const Piece& b) const {
    if (a.part == b.part) return true;
    const auto& parts = attend.memory_.plans[static_cast<size_t>(task.run)].tile(task.kv_head, task.tile).parts;
    const KeyPlan::Part &one = parts[static_cast<size_t>(a.part)], &other = parts[static_cast<size_t>(b.part)];
    return one.turn == other.turn && one.head == other.head;
  }
  bool is_whole(const Task& task) const {  // its one piece is its z
    if (task.n_pieces != 1 || !layer.parts.empty() || layer.sinks.defined()) return false;
    const KeyPlan& plan = attend.memory_.plans[static_cast<size_t>(task.run)];
    const Piece& only = pieces(task)[0];
    return !plan.touched(task.kv_head) || only.is_empty() ||
           plan.tile(task.kv_head, task.tile).parts[static_cast<size_t>(only.part)].head == KeyPlan::kAllHeads;
  }
  std::span<const Piece> pieces(const Task& task) const {
    return std::span(attend.memory_.pieces).subspan(task.first_piece, task.n_pieces);
  }
  int first_head(const Task& task) const { return task.kv_head * layer.shape.group() + task.head; }
  float* out(const Task& task, int64_t row, int head) const {
    return layer.z_of(attend.memory_.runs[static_cast<size_t>(task.run)].begin + task.first + row,
                      first_head(task) + head);
  }
  // Straight into z if there is no other piece to join.
  void partial(const Task& task, size_t i, bool again, std::byte* scratch, std::byte* to) const {
    if (is_whole(task)) return piece(task, pieces(task)[i], again, scratch, out(task, 0, 0), layer.ld_z(), nullptr);
    piece(task, pieces(task)[i], again, scratch, reinterpret_cast<float*>(to),
          int64_t{task.n_heads} * layer.shape.v_dim, reinterpret_cast<float*>(to + piece_z));
  }
  // Joins the pieces of a task, which lie one after the other, as one softmax; where a method weighs the parts, those
  // of each part.
  void join(const Task& task, const std::byte* done, std::byte* scratch) const {
    if (is_whole(task)) return;
    const std::span<const Piece> all = pieces(task);
    const KeyPlan& plan = attend.memory_.plans[static_cast<size_t>(task.run)];
    Layer::Parts* kept = layer.parts.empty() ? nullptr : &layer.parts[static_cast<size_t>(task.run)];
    if (kept && kept->n == 0) kept = nullptr;
    const auto n_rows = static_cast<size_t>(task.n * task.n_heads);
    auto** z = reinterpret_cast<const float**>(scratch);  // of each piece
    const float** lse = z + all.size();
    auto** to = const_cast<float**>(lse + all.size());  // of each row
    auto* biases = reinterpret_cast<float*>(to + n_rows);
    float *wholes = biases + all.size(), *shares = wholes + n_rows;
    for (size_t p = 0; p < all.size(); ++p) {
      const std::byte* from = done + p * piece_bytes;
      z[p] = reinterpret_cast<const float*>(from);
      lse[p] = reinterpret_cast<const float*>(from + piece_z);
      biases[p] = plan.touched(task.kv_head) && !all[p].is_empty()
                      ? plan.tile(task.kv_head, task.tile).parts[static_cast<size_t>(all[p].part)].bias
                      : 0.0f;
    }
    const auto merge = [&](size_t begin, size_t end, bool with_lse) {
      kernels::attention_merge({.n_parts = static_cast<int>(end - begin),
                                .v_dim = layer.shape.v_dim,
                                .n_rows = static_cast<int64_t>(n_rows),
                                .z = z + begin,
                                .lse = lse + begin,
                                .biases = biases + begin,
                                .out = to,
                                .out_lse = with_lse ? wholes : nullptr,
                                .shares = shares});
    };
    // fn(its number among those of the task, its number in z [n, n_heads]) for each row.
    const auto each_row = [&](const auto& fn) {
      for (int64_t i = 0, row = 0; i < task.n; ++i) {
        const int64_t in_z = (task.first + i) * layer.shape.n_heads + first_head(task);
        for (int h = 0; h < task.n_heads; ++h, ++row) fn(row, in_z + h);
      }
    };
    if (kept && kept->z.defined()) {
      each_part(all, [&](size_t begin, size_t end) {
        const int part = all[begin].part;
        float* of_part = kept->z.data() + part * kept->lse.dim(0) * layer.ld_z();
        each_row([&](int64_t row, int64_t in_z) { to[row] = of_part + in_z * layer.shape.v_dim; });
        merge(begin, end, true);
        each_row([&](int64_t row, int64_t in_z) { kept->lse.data()[in_z * kept->n + part] = wholes[row]; });
      });
      return;
    }
    const int64_t begin = attend.memory_.runs[static_cast<size_t>(task.run)].begin;
    each_row([&](int64_t row, int64_t in_z) { to[row] = layer.z_of(begin, 0) + in_z * layer.shape.v_dim; });
    merge(0, all.size(), kept || layer.sinks.defined());
    if (layer.sinks.defined()) {
      each_row([&](int64_t row, int64_t in_z) {
        const auto head = static_cast<int>(in_z % layer.shape.n_heads);
        kernels::scale(layer.shape.v_dim, layer.share_of_keys(head, wholes[row]), to[row], to[row]);
      });
    }
    if (!kept) return;
    // Row by row: neighbours of other heads lie in the same lines of memory, and another thread writes them.
    float *of_weights = kept->weights.data(), *of_lse = kept->lse.data();
    each_row([&](int64_t row, int64_t in_z) {
      each_part(all, [&](size_t first, size_t end) {
        float share = 0;
        for (size_t p = first; p < end; ++p) share += shares[p * n_rows + static_cast<size_t>(row)];
        const int64_t at = in_z * kept->n + all[first].part;
        of_weights[at] = share;
        of_lse[at] = end == first + 1 ? lse[first][row] + biases[first]
                     : share > 0      ? wholes[row] + std::log(share)
                                      : kSeesNone;
      });
    });
  }
  // fn(first piece, end) for the pieces of each part.
  template <typename F>
  static void each_part(std::span<const Piece> all, const F& fn) {
    for (size_t begin = 0, end; begin < all.size(); begin = end) {
      for (end = begin + 1; end < all.size() && all[end].part == all[begin].part;) ++end;
      fn(begin, end);
    }
  }
  void whole_tasks(Rows& row_path) const {
    thread_local tensor::Scratch bytes;
    const std::vector<Task>& tasks = attend.memory_.tasks;
    size_t most_pieces = 1;
    for (const Task& task : tasks) most_pieces = std::max(most_pieces, task.n_pieces);
    const size_t slice = kernel + most_pieces * piece_bytes + joining;
    std::byte* all = bytes.at_least(slice * static_cast<size_t>(pool().size()));
    const auto n_rows = static_cast<int64_t>(attend.memory_.row_tasks.size());
    pool().for_each(n_rows + static_cast<int64_t>(tasks.size()), [&](int64_t index, int thread) {
      if (index < n_rows) return row_path.run(attend.memory_.row_tasks[static_cast<size_t>(index)]);
      const Task& task = tasks[static_cast<size_t>(index - n_rows)];
      std::byte* mine = all + slice * static_cast<size_t>(thread);
      for (size_t p = 0; p < task.n_pieces; ++p) {
        const bool again = p > 0 && have_same_queries(task, pieces(task)[p], pieces(task)[p - 1]);
        partial(task, p, again, mine, mine + kernel + p * piece_bytes);
      }
      join(task, mine + kernel, mine + kernel + most_pieces * piece_bytes);
    });
  }

  // Each piece on its own; joined on the calling thread, in order.
  void single_pieces(Rows& row_path) const {
    thread_local tensor::Scratch bytes;
    const std::vector<Task>& tasks = attend.memory_.tasks;
    const size_t parts_at = kernel * static_cast<size_t>(pool().size()), n_pieces = attend.memory_.pieces.size();
    std::byte* all = bytes.at_least(parts_at + n_pieces * piece_bytes + joining);
    const auto done = [&](size_t i) { return all + parts_at + i * piece_bytes; };
    const auto n_rows = static_cast<int64_t>(attend.memory_.row_tasks.size());
    pool().for_each(n_rows + static_cast<int64_t>(n_pieces), [&](int64_t index, int thread) {
      if (index < n_rows) return row_path.run(attend.memory_.row_tasks[static_cast<size_t>(index)]);
      const auto i = static_cast<size_t>(index - n_rows);
      const auto after = std::upper_bound(tasks.begin(), tasks.end(), i,
                                          [](size_t at, const Task& task) { return at < task.first_piece; });
      const Task& task = *(after - 1);
      partial(task, i - task.first_piece, false, all + kernel * static_cast<size_t>(thread), done(i));
    });
    for (const Task& task : tasks) join(task, done(task.first_piece), done(n_pieces));
  }
};

namespace {

// Whether every row has a z of each of n parts, so that none has to be zeros.
bool every_part_is_made(const KeyPlan& plan, int64_t n) {
  const auto reads = [](const KeyPlan::Part& part) { return part.head == KeyPlan::kAllHeads && !part.pages.empty(); };
  for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
    if (!plan.touched(kv)) return false;
    for (int t = 0; t < plan.n_tiles(); ++t) {
      const std::vector<KeyPlan::Part>& parts = plan.tile(kv, t).parts;
      if (static_cast<int64_t>(parts.size()) != n || !std::all_of(parts.begin(), parts.end(), reads)) return false;
    }
  }
  return true;
}

}  // namespace

void Attend::cut_tasks(Layer& layer) {
  std::vector<Task>& tasks = memory_.tasks;
  std::vector<Piece>& pieces = memory_.pieces;
  tasks.clear(), pieces.clear(), memory_.row_tasks.clear();
  const int l = layer.index, group = layer.shape.group();
  bool joined = false;
  for (size_t r = 0; r < memory_.runs.size(); ++r) {
    const Run& run = memory_.runs[r];
    const KeyPlan& plan = memory_.plans[r];
    const bool hooked = shows_rows(l);  // makes the rows of all heads itself
    for (const auto& method : methods(run)) joined = joined || method->joins(l);
    for (int head = 0; head < layer.shape.n_heads && !hooked; ++head) {
      if (edits_rows(run, layer, head) || observes(run, l, head))
        memory_.row_tasks.push_back({static_cast<int>(r), head});
    }
    const auto task_of = [&](int kv_head, int t, int head, int n_heads) {
      Task task{static_cast<int>(r), kv_head, t, head, n_heads, plan.first_row(t), plan.n_rows(t), pieces.size(), 0};
      if (!plan.touched(kv_head)) {
        const std::span<const KeyBlock> pages = plan.pages(kv_head);
        int64_t last = run.positions[static_cast<size_t>(task.first + task.n - 1)];
        last += plan.rules(kv_head)[0].ahead;
        const auto n = static_cast<int64_t>(pages.size()), n_segments = segments_seen(pages, last);
        for (int64_t s = 0; s < n_segments; ++s)
          pieces.push_back({0, s * kSegmentPages, std::min(n, (s + 1) * kSegmentPages)});
      } else {
        const KeyPlan::Tile& tile = plan.tile(kv_head, t);
        for (size_t p = 0; p < tile.parts.size(); ++p) {
          const KeyPlan::Part& part = tile.parts[p];
          if (part.head != KeyPlan::kAllHeads && (part.head < head || part.head >= head + n_heads)) continue;
          const auto n = static_cast<int64_t>(part.pages.size());
          for (int64_t begin = 0, end; begin < n; begin = end) {
            const auto segment = [&](int64_t at) { return part.pages[static_cast<size_t>(at)].index / kSegmentPages; };
            for (end = begin + 1; end < n && segment(end) == segment(begin);) ++end;
            pieces.push_back({static_cast<int>(p), begin, end});
          }
        }
        if (pieces.size() == task.first_piece) pieces.push_back({0, 0, 0});  // no page at all: zeros
      }
      task.n_pieces = pieces.size() - task.first_piece;
      tasks.push_back(task);
    };
    for (int t = 0; t < plan.n_tiles(); ++t) {
      for (int kv_head = 0; kv_head < layer.shape.n_kv_heads(); ++kv_head) {
        // Neighbouring heads whose z is not made of rows.
        for (int g = 0; g < group;) {
          int end = g;
          while (end < group && !edits_rows(run, layer, kv_head * group + end)) ++end;
          if (end > g) task_of(kv_head, t, g, end - g);
          g = end + 1;
        }
      }
    }
  }
  // The longest first, so that threads end together.
  std::sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) {
    return a.n * static_cast<int64_t>(a.n_pieces) > b.n * static_cast<int64_t>(b.n_pieces);
  });
  if (!joined) return;
  layer.parts.resize(memory_.runs.size());
  for (size_t r = 0; r < memory_.runs.size(); ++r) {
    const Run& run = memory_.runs[r];
    const auto joins = [l](const auto& method) { return method->joins(l); };
    if (std::none_of(methods(run).begin(), methods(run).end(), joins)) continue;
    Layer::Parts& parts = layer.parts[r];
    const KeyPlan& plan = memory_.plans[r];
    parts.n = 1;
    for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
      for (int t = 0; plan.touched(kv) && t < plan.n_tiles(); ++t)
        parts.n = std::max(parts.n, static_cast<int64_t>(plan.tile(kv, t).parts.size()));
    }
    const auto weighs = [l](const auto& method) { return method->joins(l) && method->weighs_parts(l); };
    if (std::any_of(methods(run).begin(), methods(run).end(), weighs)) {
      const tensor::Shape shape{parts.n, run.n(), layer.shape.n_heads, layer.shape.v_dim};
      parts.z = every_part_is_made(plan, parts.n) ? Tensor::empty(shape) : Tensor::zeros(shape);
    }
    parts.lse = Tensor::empty({run.n(), layer.shape.n_heads, parts.n});
    std::fill_n(parts.lse.data(), parts.lse.elements(), kSeesNone);
    if (!parts.z.defined()) parts.weights = Tensor::zeros(parts.lse.shape());
  }
}

void Attend::run_tasks(Layer& layer) {
  std::vector<Task>& tasks = memory_.tasks;
  Rows row_path(*this, layer);
  if (tasks.empty() && memory_.row_tasks.empty()) return;
  const Fused job(*this, layer);
  int64_t work = 0, longest = 0;
  bool single = true;
  for (const Task& task : tasks) {
    const int64_t mine = task.n * static_cast<int64_t>(task.n_pieces);
    work += mine;
    longest = std::max(longest, mine);
    single = single && task.n_pieces == 1;
  }
  if (single || work >= 2 * pool().size() * longest) return job.whole_tasks(row_path);
  // Pieces are looked up by their number, so tasks go back to that order.
  std::sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) { return a.first_piece < b.first_piece; });
  job.single_pieces(row_path);
}

Tensor Attend::weights_of_parts(Layer& layer, size_t index, const Tensor& lse) {
  const Run& run = memory_.runs[index];
  Tensor weights;
  if (!layer.parts.empty()) weights = layer.parts[index].weights;  // not on the tape
  if (!weights.defined()) weights = tensor::softmax(lse);
  for (size_t m = 0; m < methods(run).size(); ++m) {
    const Method& method = *methods(run)[m];
    if (!method.joins(layer.index)) continue;
    const tensor::EditGuard guard(weights);
    std::vector<float> before;
    if (!method.weighs_parts(layer.index)) before.assign(weights.values().begin(), weights.values().end());
    Call of_method = call(run, layer.index, m, layer.x, layer.h);
    of_method.plan = &memory_.plans[index];
    method.join(of_method, lse, weights);
    check_not_edited(guard, method);
    FOVEA_CHECK(before.empty() || std::ranges::equal(before, weights.values()),
                "attend: {} changed weights of parts, and says that it only looks at them", method.info().name);
    FOVEA_CHECK(weights.defined() && weights.shape() == lse.shape(), "attend: {} left weights {} of parts, wanted {}",
                method.info().name, weights.shape().to_string(), lse.shape().to_string());
  }
  return weights;
}

void Attend::join_parts(Layer& layer, size_t index) {
  const Run& run = memory_.runs[index];
  const Layer::Parts& parts = layer.parts[index];
  const int n_heads = layer.shape.n_heads, v_dim = layer.shape.v_dim;
  const Tensor weights = weights_of_parts(layer, index, parts.lse);
  if (!parts.z.defined()) return;
  const int64_t n_rows = run.n() * n_heads;
  const auto join_row = [&](int64_t row) {
    const auto head = static_cast<int>(row % n_heads);
    if (edits_rows(run, layer, head)) return;
    float* z = layer.z_of(run.begin + row / n_heads, head);
    std::fill_n(z, v_dim, 0.0f);
    float share = 1;
    if (layer.sinks.defined())
      share = layer.share_of_keys(head, kernels::log_sum_exp(parts.lse.data() + row * parts.n, parts.n));
    for (int64_t p = 0; p < parts.n; ++p) {
      const float weight = weights.data()[row * parts.n + p] * share;
      if (weight != 0.0f) kernels::axpy(v_dim, weight, parts.z.data() + (p * n_rows + row) * v_dim, z);
    }
  };
  constexpr int64_t kRows = 256;  // of a task; fewer, as in decoding, are not worth a job
  const int64_t n_tasks = (n_rows + kRows - 1) / kRows;
  const auto join_some = [&](int64_t task, int) {
    for (int64_t row = task * kRows; row < std::min(n_rows, (task + 1) * kRows); ++row) join_row(row);
  };
  if (n_tasks == 1) return join_some(0, 0);
  pool().for_each(n_tasks, join_some);
}

}  // namespace fovea::attention

// ACT: in chosen heads, keys behind the first that all rows look at (hidden sinks) keep the share `beta` of their
// weight, and the other keys of the row have the rest, each in proportion to its own.
// Yu et al., "Unveiling and Harnessing Hidden Attention Sinks: Enhancing Large Language Models without Training through
// Attention Calibration", arXiv:2406.15765, sec. 4.
//   a[t] = mean over the rows i that see key t of A[i][t];  S = { t >= 1 : a[t] > threshold }
//   A'[i][t] = beta A[i][t] for t in S, else A[i][t] (1 + (1 - beta) s_i / (1 - s_i)), s_i = sum over S of A[i][t]
// A row that sees sinks only stays as it is. Sinks and other keys are two parts of the plan, which `join` weighs, so
// that z stays on the fused path; only the means need scores of the chosen heads, once more, and a float32 and an int32
// for each key and head.
// Rows of a prompt know all rows of their pass (means=call, as in the paper): one chunk of a prompt knows the rows
// before it and its own, not those that follow, and what was read stays. A generated token, and each row with
// means=row, knows the rows up to its own; so the released code's mistake with one row, whose weights it takes for
// means, is not repeated. The paper's code compares with 0.1, its text with alpha / N: `compare`.
// Which heads gain is found offline (column act_heads of a head profile), one at a time; act_sinks counts sinks.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "fovea/attention/method.h"
#include "fovea/attention/plan_scores.h"
#include "fovea/base/random.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/ops/math/add.h"
#include "fovea/tensor/ops/math/binary.h"
#include "fovea/tensor/ops/math/mul.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/ops/reduce/reduce.h"
#include "fovea/tensor/ops/shape/copy.h"
#include "fovea/tensor/ops/shape/view.h"
#include "fovea/tensor/scratch.h"

namespace fovea::attention {
namespace {

using kernels::kPageKeys;
using tensor::Tensor;

class AttentionCalibration final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "act-attention-calibration",
      .title = "ACT",
      .paper = "arXiv:2406.15765, sec. 4",
      .stages = kChoose | kJoin,
      .summary = "takes weight from hidden attention sinks of chosen heads and gives it to the other keys",
      .neutral = "beta=1:skip=0",
      // By rows alone: which means are over a threshold is a step, and roundings decide where one is near it.
      .example = "skip=0:threshold=0:min_rows=8",
      .more_examples =
          "skip=0:compare=length:alpha=0:min_rows=8:recipients=later:means=row:heads=0.1+1 "
          "skip=0:threshold=0:min_rows=10:control=sinks:exclude_first=off",
      .exceptions =
          "causal: means are over the rows of the whole prompt, sec. 4; "
          "chunks: a chunk knows no rows behind its own, and means are over all, sec. 4"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("beta", beta_, {.min = 0, .max = 1, .help = "share of its weight that a hidden sink keeps; 1: all"});
    knobs.add("compare", compare_, {"value", "length"},
              {.help = "a key is a sink if its mean weight is over `threshold`, or over `alpha` / tokens so far"});
    knobs.add("threshold", threshold_, {.min = 0, .max = 1, .help = "mean weight over which a key is a sink"});
    knobs.add("alpha", alpha_, {.min = 0, .max = 1e6, .help = "for compare=length: times the weight of an even row"});
    knobs.add("min_rows", min_rows_, {.min = 1, .max = 1 << 24, .help = "rows that a mean is taken over at least"});
    knobs.add("exclude_first", exclude_first_, {.help = "whether the first key never counts as a sink"});
    knobs.add("recipients", recipients_, {"all", "later"},
              {.help = "who has what sinks lose: all other keys, or all but the first"});
    knobs.add("means", means_, {"call", "row"},
              {.help = "rows of a prompt know all rows of their pass, or those up to their own"});
    knobs.add("skip", skip_, {.min = 0, .max = 1 << 16, .help = "first, and last, layers that stay as they are"});
    knobs.add("heads", heads_, {.help = "query heads in the layers between: all, 3-9 (layers), 4.11, joined by +"});
    knobs.add(
        "top", top_,
        {.min = 0, .max = 1 << 24, .help = "of those, so many with the highest `by` of the head profile; 0: all"});
    knobs.add("by", by_, {"act_heads", "act_sinks"}, {.help = "accuracy gained where a head is calibrated, or sinks"});
    knobs.add("control", control_, {"none", "heads", "sinks"},
              {.help = "negative control: as many other heads of the layers, or as many other keys, at random"});
    knobs.add("seed", seed_, {.min = 0, .help = "of the control"});
  }

  Status bind(const ModelShape& model) override {
    FOVEA_RETURN_IF_ERROR(heads_.check(model));
    calibrated_.assign(static_cast<size_t>(model.n_layers), {});
    std::vector<int> named, others;  // layer * n_heads + head, in the layers between
    for (int layer = skip_; layer < model.n_layers - skip_; ++layer) {
      for (int head = 0; head < model.site(layer).n_heads; ++head)
        (heads_.contains(layer, head) ? named : others).push_back(layer * model.n_heads + head);
    }
    if (named.empty() && !heads_.empty()) {
      return make_error(ErrorCode::kUsage, "skip is {}, and heads={} leaves none of {} layers", skip_,
                        heads_.to_string(), model.n_layers);
    }
    if (top_ > 0) {
      const char* column = by_ == kByGain ? "act_heads" : "act_sinks";
      FOVEA_ASSIGN_OR_RETURN(std::vector<int> ranked, top_heads(model, column, model.n_layers * model.n_heads));
      std::erase_if(ranked, [&](int id) { return std::find(named.begin(), named.end(), id) == named.end(); });
      const size_t n = std::min(ranked.size(), static_cast<size_t>(top_));
      others.insert(others.end(), ranked.begin() + static_cast<ptrdiff_t>(n), ranked.end());
      ranked.resize(n);
      named = std::move(ranked);
    }
    if (control_ == kOtherHeads) {
      if (others.size() < named.size()) {
        return make_error(ErrorCode::kUsage, "control=heads wants {} other heads, there are {}", named.size(),
                          others.size());
      }
      std::sort(others.begin(), others.end());
      named = drawn(std::move(others), named.size(), 0);
    }
    std::sort(named.begin(), named.end());
    for (const int id : named) calibrated_[static_cast<size_t>(id / model.n_heads)].push_back(id % model.n_heads);
    return {};
  }
  std::unique_ptr<SequenceState> begin_sequence() const override { return std::make_unique<State>(calibrated_.size()); }

  bool chooses(int layer) const override { return beta_ < 1 && !calibrated_[static_cast<size_t>(layer)].empty(); }
  bool joins(int layer) const override { return chooses(layer); }

  void choose(const Call& call, const Queries& queries, KeyPlan& plan) const override {
    const std::vector<int>& heads = calibrated_[static_cast<size_t>(call.layer)];
    std::vector<State::Head>& columns = static_cast<State*>(call.state)->layers[static_cast<size_t>(call.layer)];
    columns.resize(heads.size());
    const std::vector<Tensor> q = all_turns(call, queries, plan);
    std::vector<Sinks> sinks(heads.size());
    pool().for_each(static_cast<int64_t>(heads.size()), [&](int64_t i, int) {
      const auto at = static_cast<size_t>(i);
      sinks[at] = find_sinks(call, plan, q, heads[at], columns[at]);
    });
    const int group = plan.group();
    for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
      std::vector<const Sinks*> of_group(static_cast<size_t>(group), nullptr);
      bool any = false;
      for (size_t i = 0; i < heads.size(); ++i) {
        if (heads[i] / group != kv || sinks[i].all.empty()) continue;
        of_group[static_cast<size_t>(heads[i] % group)] = &sinks[i];
        any = true;
      }
      if (any) split(plan, kv, of_group);
    }
  }

  void join(const Call& call, const Tensor& /*lse*/, Tensor& weights) const override {
    const KeyPlan& plan = *call.plan;
    const int64_t n_heads = weights.dim(1), n_parts = weights.dim(2);
    // Of each weight: the factor that it has in any case, and 1 where it has its share of what the sinks lose.
    Tensor fixed = Tensor::empty(weights.shape()), receives = Tensor::zeros(weights.shape());
    Tensor is_sink = Tensor::zeros(weights.shape());
    std::fill_n(fixed.data(), fixed.elements(), 1.0f);
    bool any = false;
    for (int kv = 0; kv < plan.n_kv_heads(); ++kv) {
      for (int t = 0; plan.touched(kv) && t < plan.n_tiles(); ++t) {
        const std::vector<KeyPlan::Part>& parts = plan.tile(kv, t).parts;
        if (std::none_of(parts.begin(), parts.end(), [&](const KeyPlan::Part& part) { return part.has(&kSink); }))
          continue;
        any = true;
        for (int64_t i = plan.first_row(t); i < plan.first_row(t) + plan.n_rows(t); ++i) {
          for (int g = 0; g < plan.group(); ++g) {
            const int64_t row = i * n_heads + int64_t{kv} * plan.group() + g;
            const float* w = weights.data() + row * n_parts;
            float lost = 0, others = 0;
            for (size_t p = 0; p < parts.size(); ++p) {
              if (parts[p].has(&kSink)) lost += w[p];
              if (parts[p].has(&kOthers)) others += w[p];
            }
            if (lost == 0 || others < kLeast) continue;
            for (size_t p = 0; p < parts.size(); ++p) {
              const int64_t at = row * n_parts + static_cast<int64_t>(p);
              if (parts[p].has(&kSink)) fixed.data()[at] = static_cast<float>(beta_), is_sink.data()[at] = 1;
              if (parts[p].has(&kOthers)) fixed.data()[at] = 0, receives.data()[at] = 1;
            }
          }
        }
      }
    }
    if (!any) return;
    Tensor hole = Tensor::zeros({weights.dim(0), n_heads, 1});  // 1 where nobody receives: no division by 0
    for (int64_t row = 0; row < hole.elements(); ++row) {
      const float* mine = receives.data() + row * n_parts;
      if (std::none_of(mine, mine + n_parts, [](float x) { return x != 0; })) hole.data()[row] = 1;
    }
    const auto sum_where = [&](const Tensor& which) {
      return tensor::reshape(tensor::sum(tensor::mul(weights, which), 2), hole.shape());
    };
    const Tensor lost = sum_where(is_sink), others = tensor::add(sum_where(receives), hole);
    const Tensor gain = tensor::affine(tensor::div(lost, others), static_cast<float>(1 - beta_), 1.0f);
    weights = tensor::mul(weights, tensor::add(fixed, tensor::mul_spread(receives, gain)));
  }

 private:
  enum Compare { kByValue, kByLength };
  enum Recipients { kAllOthers, kLater };
  enum Means { kOfCall, kOfRow };
  enum By { kByGain, kBySinks };
  enum Control { kNone, kOtherHeads, kOtherSinks };
  static constexpr float kLeast = 1e-6f;            // a row whose other keys have less weight stays as it is
  static constexpr int64_t kRows = 32;              // whose scores are held at once
  inline static const char kSink = 0, kOthers = 0;  // marks of parts

  // What the rows so far gave to each key of one head, by position.
  struct Columns {
    std::vector<float> sums;
    std::vector<int32_t> rows;  // that saw it
  };
  struct State final : SequenceState {
    // As they were after the rows of the last pass, where these were generated and so may be taken back: before the
    // first, and after each. The last one is what counts. Shared by clones, of which one is made in each step.
    using Head = std::vector<std::shared_ptr<const Columns>>;
    std::vector<std::vector<Head>> layers;  // [n_layers][calibrated heads]
    explicit State(size_t n_layers) : layers(n_layers) {}
    std::unique_ptr<SequenceState> clone() const override { return std::make_unique<State>(*this); }
    uint64_t bytes() const override {  // of the last ones, which grow
      uint64_t sum = 0;
      for (const std::vector<Head>& heads : layers) {
        for (const Head& head : heads) {
          if (!head.empty() && head.back())
            sum += head.back()->sums.size() * sizeof(float) + head.back()->rows.size() * sizeof(int32_t);
        }
      }
      return sum;
    }
    static auto find(const Head& head, int32_t n_tokens) {
      return std::find_if(head.begin(), head.end(), [n_tokens](const std::shared_ptr<const Columns>& columns) {
        return columns->sums.size() == static_cast<size_t>(n_tokens);
      });
    }
    bool can_truncate(int32_t n_tokens) const override {
      return std::all_of(layers.begin(), layers.end(), [&](const std::vector<Head>& heads) {
        return std::all_of(heads.begin(), heads.end(),
                           [&](const Head& head) { return find(head, n_tokens) != head.end(); });
      });
    }
    void truncate(int32_t n_tokens) override {
      for (std::vector<Head>& heads : layers) {
        for (Head& head : heads) head.erase(find(head, n_tokens) + 1, head.end());
      }
    }
  };
  // The sinks of one head: those of each row, or one list for all rows, positions rising; `all` of them together.
  struct Sinks {
    std::vector<std::vector<int32_t>> of_row;
    std::vector<int32_t> all;
    const std::vector<int32_t>& row(int64_t i) const { return of_row[of_row.size() == 1 ? 0 : static_cast<size_t>(i)]; }
  };

  std::vector<int> drawn(std::vector<int> from, size_t n, int salt) const {
    Rng random(static_cast<uint64_t>(seed_) * 1000003 + static_cast<uint64_t>(salt));
    n = std::min(n, from.size());
    for (size_t i = 0; i < n; ++i) std::swap(from[i], from[i + random.below(from.size() - i)]);
    from.resize(n);
    return from;
  }

  // q of the rows, turned by their positions and then as each turn of the plan says; as wide as the cached keys.
  static std::vector<Tensor> all_turns(const Call& call, const Queries& queries, const KeyPlan& plan) {
    std::vector<Tensor> out = {queries.turned};
    for (const std::vector<int32_t>& positions : plan.turns())
      out.push_back(call.rope ? tensor::rope(queries.plain, positions, *call.rope) : queries.plain);
    for (Tensor& q : out) {
      if (const int64_t more = plan.layout().k_dim - q.dim(2); more > 0) q = tensor::pad(q, 2, 0, more);
    }
    return out;
  }

  // Adds what the rows give to the head's columns, and says which keys are sinks for them.
  Sinks find_sinks(const Call& call, const KeyPlan& plan, std::span<const Tensor> q, int head,
                   State::Head& history) const {
    const int group = plan.group(), kv = head / group;
    const bool by_row = call.decoding() || means_ == kOfRow;
    Columns now = history.empty() ? Columns() : *history.back();
    const State::Head last = history.empty() ? State::Head() : State::Head{history.back()};
    history = call.decoding() ? last : State::Head();
    const std::span<const KeyBlock> pages = plan.pages(kv);
    const auto slots = static_cast<int64_t>(pages.size()) * kPageKeys;
    std::vector<float> scores(static_cast<size_t>(slots * std::min(kRows, static_cast<int64_t>(call.q_pos.size()))));
    Sinks out;
    const auto n_rows = static_cast<int64_t>(call.q_pos.size());
    if (!by_row) grow(now, call.q_pos.back() + 1);
    for (int t = 0; t < plan.n_tiles(); ++t) {
      const int64_t end = plan.first_row(t) + plan.n_rows(t);
      for (int64_t first = plan.first_row(t); first < end; first += kRows) {
        const int64_t n = std::min(kRows, end - first);
        thread_local tensor::Scratch scratch;
        plan_scores(
            plan, kv, head % group, first, n,
            [&](int turn) {
              kernels::AttentionArgs args = rows_of(call, plan, q[static_cast<size_t>(turn)], head, first, n);
              args.scratch = scratch.at_least(kernels::attention_scratch_bytes(args));
              return args;
            },
            scores.data(), slots);
        for (int64_t i = 0; i < n; ++i) {
          const int32_t q_pos = call.q_pos[static_cast<size_t>(first + i)];
          if (by_row) grow(now, q_pos + 1);
          add_row(pages, {scores.data() + i * slots, static_cast<size_t>(slots)}, now);
          if (by_row) out.of_row.push_back(sinks_of(now, call.layer * call.model.n_heads + head));
          if (call.decoding() && first + i + 1 < n_rows) history.push_back(std::make_shared<const Columns>(now));
        }
      }
    }
    if (!by_row) out.of_row.push_back(sinks_of(now, call.layer * call.model.n_heads + head));
    history.push_back(std::make_shared<const Columns>(std::move(now)));
    for (const std::vector<int32_t>& row : out.of_row) out.all.insert(out.all.end(), row.begin(), row.end());
    std::sort(out.all.begin(), out.all.end());
    out.all.erase(std::unique(out.all.begin(), out.all.end()), out.all.end());
    return out;
  }
  static void grow(Columns& columns, int32_t n_tokens) {
    columns.sums.resize(static_cast<size_t>(n_tokens)), columns.rows.resize(static_cast<size_t>(n_tokens));
  }
  static kernels::AttentionArgs rows_of(const Call& call, const KeyPlan& plan, const Tensor& q, int head, int64_t first,
                                        int64_t n) {
    const AttentionShape shape = call.model.site(call.layer);
    kernels::AttentionArgs args;
    args.k_type = plan.layout().k_type, args.v_type = plan.layout().v_type;
    args.k_dim = plan.layout().k_dim, args.v_dim = plan.layout().v_dim;
    args.scale = shape.scale, args.softcap = shape.softcap;
    args.n_queries = n;
    args.q = q.data() + (first * shape.n_heads + head) * args.k_dim;
    args.ld_q = int64_t{shape.n_heads} * args.k_dim;
    args.q_pos = call.q_pos.data() + first;
    return args;
  }
  static void add_row(std::span<const KeyBlock> pages, std::span<float> row, Columns& columns) {
    for (size_t page = 0; page < pages.size(); ++page) {
      for (int slot = 0; slot < kPageKeys; ++slot) {
        if (row[page * kPageKeys + static_cast<size_t>(slot)] != -std::numeric_limits<float>::infinity())
          ++columns.rows[static_cast<size_t>(pages[page].positions[slot])];
      }
    }
    kernels::softmax(row.data(), static_cast<int64_t>(row.size()), row.data());
    for (size_t page = 0; page < pages.size(); ++page) {
      for (int slot = 0; slot < kPageKeys; ++slot) {
        const float weight = row[page * kPageKeys + static_cast<size_t>(slot)];
        if (weight != 0) columns.sums[static_cast<size_t>(pages[page].positions[slot])] += weight;
      }
    }
  }
  // The positions whose mean is over the threshold, rising.
  std::vector<int32_t> sinks_of(const Columns& columns, int id) const {
    const auto n = static_cast<int32_t>(columns.sums.size());
    const auto least = static_cast<float>(compare_ == kByValue ? threshold_ : alpha_ / n);
    std::vector<int32_t> sinks, others;
    for (int32_t t = exclude_first_ ? 1 : 0; t < n; ++t) {
      const auto at = static_cast<size_t>(t);
      const bool sink =
          columns.rows[at] >= min_rows_ && columns.sums[at] > least * static_cast<float>(columns.rows[at]);
      if (sink) sinks.push_back(t);
      if (!sink && control_ == kOtherSinks) others.push_back(t);
    }
    if (control_ != kOtherSinks) return sinks;
    std::vector<int> instead = drawn(std::move(others), sinks.size(), id);
    std::sort(instead.begin(), instead.end());
    return instead;
  }

  // Moves what of the part's keys the rows of a head have in `bits_of(g, row, page)` into another part.
  template <typename Bits>
  static KeyPlan::Part take_out(const KeyPlan& plan, int kv, KeyPlan::Tile& tile, KeyPlan::Part& part,
                                const Bits& bits_of) {
    KeyPlan::Part taken = part;
    taken.pages.clear();
    for (KeyPlan::Page& page : part.pages) {
      if (page.index >= plan.first_added(kv)) continue;  // of another method's own
      std::vector<uint32_t> bits(static_cast<size_t>(plan.group() * tile.n));
      bool any = false;
      for (int g = 0; g < plan.group(); ++g) {
        for (int64_t i = 0; i < tile.n; ++i) {
          const uint32_t mine = bits_of(g, tile.first + i, page.index);
          bits[static_cast<size_t>(g * tile.n + i)] = mine;
          any = any || mine;
        }
      }
      if (!any) continue;
      KeyPlan::Page copy = page;
      const std::span<uint32_t> out = plan.own_mask(tile, copy), left = plan.own_mask(tile, page);
      for (size_t i = 0; i < bits.size(); ++i) out[i] &= bits[i], left[i] &= ~bits[i];
      taken.pages.push_back(copy);
    }
    return taken;
  }

  // In every tile of a KV head, sinks become parts of their own, and the first key if it is to have nothing of theirs.
  void split(KeyPlan& plan, int kv, std::span<const Sinks* const> of_group) const {
    const std::span<const KeyBlock> pages = plan.pages(kv);
    // The slots of each page that are a sink of some row, for each head; the page of the first key, and its slot.
    std::vector<uint32_t> candidates(of_group.size() * pages.size());
    std::vector<uint32_t> first_slot(pages.size());
    for (size_t page = 0; page < pages.size(); ++page) {
      for (int slot = 0; slot < kPageKeys; ++slot) {
        const int32_t key = pages[page].positions[slot];
        if (key == 0) first_slot[page] |= uint32_t{1} << slot;
        for (size_t g = 0; g < of_group.size(); ++g) {
          if (of_group[g] && std::binary_search(of_group[g]->all.begin(), of_group[g]->all.end(), key))
            candidates[g * pages.size() + page] |= uint32_t{1} << slot;
        }
      }
    }
    const auto sink_bits = [&](int g, int64_t row, int32_t page) {
      uint32_t bits = candidates[static_cast<size_t>(g) * pages.size() + static_cast<size_t>(page)];
      if (!bits || of_group[static_cast<size_t>(g)]->of_row.size() == 1) return bits;
      const std::vector<int32_t>& mine = of_group[static_cast<size_t>(g)]->row(row);
      for (int slot = 0; slot < kPageKeys; ++slot) {
        const int32_t key = pages[static_cast<size_t>(page)].positions[slot];
        if ((bits >> slot & 1) && !std::binary_search(mine.begin(), mine.end(), key)) bits &= ~(uint32_t{1} << slot);
      }
      return bits;
    };
    const auto first_bits = [&](int g, int64_t, int32_t page) {
      return of_group[static_cast<size_t>(g)] ? first_slot[static_cast<size_t>(page)] : 0;
    };
    for (int t = 0; t < plan.n_tiles(); ++t) {
      KeyPlan::Tile& tile = plan.tile(kv, t);
      std::vector<KeyPlan::Part> parts;
      for (KeyPlan::Part& part : tile.parts) {
        KeyPlan::Part sinks = take_out(plan, kv, tile, part, sink_bits), first;
        sinks.marks.push_back(&kSink);
        if (recipients_ == kLater) first = take_out(plan, kv, tile, part, first_bits);
        part.marks.push_back(&kOthers);
        for (KeyPlan::Part* made : {&part, &first, &sinks}) {
          if (!made->pages.empty()) parts.push_back(std::move(*made));
        }
      }
      tile.parts = std::move(parts);
    }
  }

  double beta_ = 0.4, threshold_ = 0.1, alpha_ = 5;
  int compare_ = kByValue, min_rows_ = 1, recipients_ = kAllOthers, means_ = kOfCall, skip_ = 2;
  bool exclude_first_ = true;
  HeadSet heads_ = HeadSet::all();
  int top_ = 0, by_ = kByGain, control_ = kNone, seed_ = 0;
  std::vector<std::vector<int>> calibrated_;  // query heads of each layer
};
FOVEA_REGISTER_METHOD(AttentionCalibration);

}  // namespace
}  // namespace fovea::attention

// PINE: the answer does not depend on the order of the documents in the prompt. Segments of it see one another both
// ways, and each query puts them in the order of its own attention to them, the most important nearest.
// Wang et al., "Eliminating Position Bias of Language Models: A Mechanistic Approach", arXiv:2407.01100, sec. 3.
// Keys of a segment are turned as if it ended where all of them end (its base); what stands s places further away is
// read by a query that is turned s places further instead, so that no key is turned again: score = q(p + s) k(base).
// Importance of a segment: the mean over its keys of softmax(q k / sqrt(d)) over all segments, before q and k are
// turned, whose float32 copies stay beside the cache. Rows of a segment order the others together, by the sum over the
// rows of their softmax without their own; a row behind the segments orders them for itself.
// Sums run over the segments in the order of their tokens, never of the prompt, and that order decides between equals.
// Segments of the same tokens stand at the same place, so that neither is preferred (the paper has no rule for them).
#include <algorithm>
#include <climits>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "fovea/attention/method.h"
#include "fovea/base/random.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/vector.h"

namespace fovea::attention {
namespace {

class Pine final : public Method {
 public:
  static constexpr MethodInfo kInfo{
      .name = "pine",
      .title = "PINE",
      .paper = "arXiv:2407.01100, sec. 3",
      .stages = kInputs | kChoose,
      .summary =
          "documents see one another and every query orders them by its own attention: their order in the "
          "prompt changes no answer",
      .neutral = "heads=none",
      .example = "begin=1:length=3:count=3",
      .more_examples =
          "begin=1:length=3:count=3:order=reverse:heads=0.1+1 begin=2:length=2:count=4:order=none:between=off",
      .excludes =
          "quest streaming-llm duo-attention razor-attention moa snapkv h2o expected-attention token-select "
          "longheads hip-attention minference xattention act-attention-calibration",
      .exceptions =
          "gradient: the order of the segments is constant there, and may change with a weight, sec. 3;"
          "windows: layers with a window of their own stay as they are, sec. 3"};
  const MethodInfo& info() const override { return kInfo; }

  void visit_knobs(KnobVisitor& knobs) override {
    knobs.add("order", order_, {"importance", "reverse", "none", "prompt", "random"},
              {.help = "what is nearest: the most important, the least (control), all alike, the last in the prompt or "
                       "any (controls that depend on the prompt's order)"});
    knobs.add("between", between_, {.help = "off: segments do not see one another"});
    knobs.add("normalise", normalise_, {.help = "off: a segment's importance is the sum over its keys, not the mean"});
    knobs.add("heads", heads_, {.help = "query heads: all, none, 3-9 (layers), 4.11 (one head), joined by +"});
    knobs.add("length", length_, {.min = 0, .max = 1 << 20, .help = "tokens of a segment; 0: segments are named"});
    knobs.add("count", count_, {.min = 1, .max = 256, .help = "with length: how many segments"});
    knobs.add("begin", begin_, {.min = 0, .max = 1 << 24, .help = "with length: where the first begins"});
    knobs.add("seed", seed_, {.min = 0, .help = "of a random order"});
  }
  Status bind(const ModelShape& model) override {
    FOVEA_RETURN_IF_ERROR(heads_.check(model));
    active_.assign(static_cast<size_t>(model.n_layers), {});
    for (int layer = 0; layer < model.n_layers; ++layer) {
      const AttentionShape site = model.site(layer);
      std::vector<bool>& heads = active_[static_cast<size_t>(layer)];
      if (site.window != INT_MAX || !site.causal) continue;
      for (int head = 0; head < site.n_heads; ++head) heads.push_back(heads_.contains(layer, head));
      if (std::find(heads.begin(), heads.end(), true) == heads.end()) heads.clear();
    }
    return {};
  }
  std::unique_ptr<SequenceState> begin_sequence() const override { return std::make_unique<Read>(active_.size()); }

  Result<Together> read_together(std::span<const Span> spans) const override {
    if (std::all_of(active_.begin(), active_.end(), [](const auto& heads) { return heads.empty(); })) return Together();
    FOVEA_ASSIGN_OR_RETURN(const std::vector<Together> found, segments_in(spans));
    if (found.size() < 2) return Together();
    return Together{found.front().begin, found.back().end};
  }

  bool edits_inputs(int layer) const override { return !active_[static_cast<size_t>(layer)].empty(); }
  void edit_inputs(const Call& call, Inputs& in) const override {
    Read& read = *static_cast<Read*>(call.state);
    if (!read.begin_segments(call, *this) || call.q_pos.front() >= read.end) return;
    const AttentionShape shape = call.model.site(call.layer);
    const int64_t row_size = int64_t{shape.n_k_heads} * shape.k_dim;
    auto keys = std::make_shared<std::vector<float>>(static_cast<size_t>((read.end - read.begin) * row_size));
    for (size_t row = 0; row < call.q_pos.size(); ++row) {
      const int32_t position = call.q_pos[row];
      const std::optional<size_t> own = read.segment_at(position);
      if (!own) continue;
      const Segment& segment = read.segments[*own];
      in.positions[row] = read.base(position);
      const int64_t at = segment.offset + position - segment.begin;
      for (int head = 0; head < shape.n_k_heads; ++head)
        std::copy_n(in.k.data() + static_cast<int64_t>(row) * row_size + head * shape.k_dim, shape.k_dim,
                    keys->data() + (head * int64_t{read.end - read.begin} + at) * shape.k_dim);
    }
    read.keys[static_cast<size_t>(call.layer)] = std::move(keys);
  }

  bool chooses(int layer) const override { return !active_[static_cast<size_t>(layer)].empty(); }
  void choose(const Call& call, const Queries& queries, KeyPlan& plan) const override {
    const Read& read = *static_cast<Read*>(call.state);
    if (read.segments.empty() || call.q_pos.back() < read.begin) return;
    for (const Segment& segment : read.segments) {
      plan.cut(segment.begin - call.q_pos.front());
      plan.cut(segment.end - call.q_pos.front());
    }
    const Places places = place(call, queries, read);
    std::vector<int> turns;
    for (size_t k = 0; k < places.most; ++k) {
      std::vector<int32_t> at;
      for (size_t row = 0; row < call.q_pos.size(); ++row) {
        const std::vector<int32_t>* shifts = places.distinct_of(row);
        at.push_back(read.base(call.q_pos[row]) + (shifts && k < shifts->size() ? (*shifts)[k] : 0));
      }
      turns.push_back(plan.turn(std::move(at)));
    }
    plan.edit_tiles([&](int kv, KeyPlan::Tile& tile) { make_parts(call, plan, read, places, turns, kv, tile); });
  }

 private:
  enum Order { kImportance, kReverse, kNone, kPrompt, kRandom };
  static constexpr int32_t kHidden = INT32_MIN;

  struct Segment {
    int32_t begin, end;
    int32_t offset = 0;  // of its keys, where segments stand in the order of their tokens
    int content = 0;     // segments of the same tokens have the same; it rises with the tokens
    int32_t size() const { return end - begin; }
  };
  struct Read final : SequenceState {
    explicit Read(size_t n_layers) : keys(n_layers) {}
    int32_t begin = 0, end = 0;
    std::vector<Segment> segments;  // in the order of the prompt; none: not yet read, or fewer than two
    std::vector<std::shared_ptr<const std::vector<float>>> keys;  // of each layer, [n_k_heads, end - begin, k_dim]

    std::unique_ptr<SequenceState> clone() const override { return std::make_unique<Read>(*this); }
    uint64_t bytes() const override {
      uint64_t sum = 0;
      for (const auto& layer : keys) sum += layer ? layer->size() * sizeof(float) : 0;
      return sum;
    }
    bool can_truncate(int32_t n_tokens) const override {
      return segments.empty() || n_tokens <= begin || n_tokens >= end;
    }
    void truncate(int32_t n_tokens) override {
      if (!segments.empty() && n_tokens <= begin) *this = Read(keys.size());
    }
    std::optional<size_t> segment_at(int32_t position) const {
      for (size_t s = 0; s < segments.size(); ++s) {
        if (position >= segments[s].begin && position < segments[s].end) return s;
      }
      return std::nullopt;
    }
    // Where a token seems to stand: a segment's as if it were the last of them.
    int32_t base(int32_t position) const {
      const std::optional<size_t> own = segment_at(position);
      return own ? position + end - segments[*own].end : position;
    }
    // Takes the segments up from the call that reads them -> whether there are any.
    bool begin_segments(const Call& call, const Pine& method) {
      if (!segments.empty()) return true;
      const auto found = method.segments_in(call.spans);
      if (!found || found->size() < 2 || call.q_pos.back() < found->front().begin) return false;
      const int32_t first = call.q_pos.front();
      FOVEA_CHECK(first <= found->front().begin && call.q_pos.back() + 1 >= found->back().end,
                  "pine: a pass over tokens {} to {} cuts the segments at {} to {}", first, call.q_pos.back(),
                  found->front().begin, found->back().end - 1);
      begin = found->front().begin, end = found->back().end;
      for (const Together& s : *found) segments.push_back({s.begin, s.end});
      const auto text = [&](const Segment& s) {
        return call.tokens.subspan(static_cast<size_t>(s.begin - first), static_cast<size_t>(s.size()));
      };
      std::vector<size_t> order(segments.size());
      std::iota(order.begin(), order.end(), size_t{0});
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return std::ranges::lexicographical_compare(text(segments[a]), text(segments[b]));
      });
      for (size_t i = 1; i < order.size(); ++i) {
        const Segment& before = segments[order[i - 1]];
        Segment& s = segments[order[i]];
        s.offset = before.offset + before.size();
        s.content = before.content + (std::ranges::equal(text(before), text(s)) ? 0 : 1);
      }
      return true;
    }
  };

  // Where the rows of a call read segments: a row's group is its segment, or the row alone behind them.
  struct Places {
    size_t first = 0;                            // row with a group; those before it read as ever
    std::vector<size_t> group;                   // of the rows from `first` on
    std::vector<std::vector<int32_t>> shifts;    // of a group, [n_heads, segments + 1]: how much further away than by
                                                 // their bases its rows read a segment, and what is before them all
    std::vector<std::vector<int32_t>> distinct;  // of a group, those that are not 0, rising
    size_t most = 0;                             // of them
    const std::vector<int32_t>* distinct_of(size_t row) const {
      return row < first ? nullptr : &distinct[group[row - first]];
    }
  };

  // Those of the knobs, else the spans "segment N", in order.
  Result<std::vector<Together>> segments_in(std::span<const Span> spans) const {
    std::vector<Together> out;
    for (int32_t i = 0; length_ > 0 && i < count_; ++i)
      out.push_back({begin_ + i * length_, begin_ + (i + 1) * length_});
    for (const Span& span : spans) {
      if (length_ == 0 && span.name.starts_with("segment ")) out.push_back({span.begin, span.end});
    }
    if (out.empty()) {
      return make_error(ErrorCode::kUsage,
                        "pine: the text has no segments; ask about several files, or give the knobs length and count");
    }
    std::sort(out.begin(), out.end(), [](const Together& a, const Together& b) { return a.begin < b.begin; });
    for (size_t i = 0; i < out.size(); ++i) {
      if (out[i].empty() || (i > 0 && out[i].begin != out[i - 1].end)) {
        return make_error(ErrorCode::kUsage,
                          "pine: segment {} has tokens {} to {}; each has one or more, and begins where the last ends",
                          i, out[i].begin, out[i].end);
      }
    }
    return out;
  }

  Places place(const Call& call, const Queries& queries, const Read& read) const {
    Places out;
    struct Rows {
      size_t begin, end;
      std::optional<size_t> segment;
    };
    std::vector<Rows> groups;
    for (size_t row = 0; row < call.q_pos.size(); ++row) {
      const int32_t position = call.q_pos[row];
      if (position < read.begin) continue;
      if (groups.empty()) out.first = row;
      const std::optional<size_t> own = read.segment_at(position);
      if (groups.empty() || !own || groups.back().segment != own) groups.push_back({row, row, own});
      groups.back().end = row + 1;
      out.group.push_back(groups.size() - 1);
    }
    const auto n_heads = static_cast<size_t>(call.model.site(call.layer).n_heads), width = read.segments.size() + 1;
    out.shifts.assign(groups.size(), std::vector<int32_t>(n_heads * width, 0));
    pool().for_each(static_cast<int64_t>(groups.size() * n_heads), [&](int64_t index, int) {
      const size_t g = static_cast<size_t>(index) / n_heads, head = static_cast<size_t>(index) % n_heads;
      const std::span<int32_t> to = std::span(out.shifts[g]).subspan(head * width, width);
      const Rows& rows = groups[g];
      if (!active_[static_cast<size_t>(call.layer)][head]) return stay(read, rows.segment, to);
      std::vector<double> key(width - 1, 0.0);
      if (order_ == kImportance || order_ == kReverse) {
        for (size_t row = rows.begin; row < rows.end; ++row)
          add_importance(call, queries, read, row, static_cast<int>(head), rows.segment, key);
      }
      if (order_ == kReverse) std::transform(key.begin(), key.end(), key.begin(), std::negate<>());
      Rng random(static_cast<uint64_t>(seed_) * 7919 + static_cast<uint64_t>(call.layer) * 257 + head);
      for (size_t s = 0; s < key.size(); ++s) {
        if (order_ == kPrompt) key[s] = static_cast<double>(s);
        if (order_ == kRandom) key[s] = random.uniform();
      }
      arrange(read, rows.segment, key, to);
    });
    for (const std::vector<int32_t>& of_group : out.shifts) {
      std::vector<int32_t> distinct = of_group;
      std::sort(distinct.begin(), distinct.end());
      distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
      std::erase_if(distinct, [](int32_t shift) { return shift == 0 || shift == kHidden; });
      out.most = std::max(out.most, distinct.size());
      out.distinct.push_back(std::move(distinct));
    }
    return out;
  }

  // Adds to the importance of each segment what a row of a head finds it.
  void add_importance(const Call& call, const Queries& queries, const Read& read, size_t row, int head,
                      const std::optional<size_t>& own, std::span<double> importance) const {
    const AttentionShape shape = call.model.site(call.layer);
    const int64_t n_all = read.end - read.begin, k_head = int64_t{head} * shape.n_k_heads / shape.n_heads;
    const float* q = queries.plain.data() + (static_cast<int64_t>(row) * shape.n_heads + head) * shape.k_dim;
    const float* keys = read.keys[static_cast<size_t>(call.layer)]->data() + k_head * n_all * shape.k_dim;
    const int64_t out_begin = own ? read.segments[*own].offset : n_all,
                  n_out = own ? int64_t{read.segments[*own].size()} : 0;
    thread_local std::vector<float> weights;
    weights.resize(static_cast<size_t>(n_all - n_out));
    for (int64_t j = 0, to = 0; j < n_all; ++j) {
      if (j >= out_begin && j < out_begin + n_out) continue;
      weights[static_cast<size_t>(to++)] = shape.scale * kernels::dot(q, keys + j * shape.k_dim, shape.k_dim);
    }
    kernels::softmax(weights.data(), n_all - n_out, weights.data());
    for (size_t s = 0; s < importance.size(); ++s) {
      if (s == own) continue;
      const Segment& segment = read.segments[s];
      const int64_t first = segment.offset - (segment.offset > out_begin ? n_out : 0);
      const double sum = std::accumulate(weights.begin() + first, weights.begin() + first + segment.size(), 0.0);
      importance[s] += normalise_ ? sum / segment.size() : sum;
    }
  }

  // By falling keys; of equals, and among copies, the tokens decide, but for orders that are the prompt's.
  void arrange(const Read& read, const std::optional<size_t>& own, std::vector<double> key,
               std::span<int32_t> shifts) const {
    const std::vector<Segment>& all = read.segments;
    const bool by_content = order_ != kPrompt && order_ != kRandom;
    for (size_t a = 0; a < all.size() && by_content; ++a) {  // equal but for rounding
      for (size_t b = 0; b < all.size(); ++b) {
        if (a != own && b != own && all[a].content == all[b].content) key[a] = std::max(key[a], key[b]);
      }
    }
    std::vector<size_t> order;
    for (size_t s = 0; s < all.size(); ++s) {
      if (s == own) continue;
      if (own && !between_) {
        shifts[s] = kHidden;
      } else {
        order.push_back(s);
      }
    }
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return key[a] != key[b] ? key[a] > key[b] : all[a].content < all[b].content;
    });
    int32_t before = own ? all[*own].size() : 0, together = 0;  // of those ranked above, and of copies of the last
    for (size_t i = 0; i < order.size(); ++i) {
      const bool copy = by_content && i > 0 && all[order[i]].content == all[order[i - 1]].content;
      if (!copy) before += std::exchange(together, 0);
      shifts[order[i]] = before;
      if (order_ != kNone) together += all[order[i]].size();
    }
  }

  // A head that is not chosen reads causally, at the positions of the prompt.
  static void stay(const Read& read, const std::optional<size_t>& own, std::span<int32_t> shifts) {
    const std::vector<Segment>& all = read.segments;
    const int32_t end = own ? all[*own].end : read.end;
    for (size_t s = 0; s < all.size(); ++s) shifts[s] = own && s > *own ? kHidden : end - all[s].end;
    shifts[all.size()] = end - read.end;
  }

  // First what every row reads at its own place, then, for each query head, what it reads by each turn.
  void make_parts(const Call& call, const KeyPlan& plan, const Read& read, const Places& places,
                  const std::vector<int>& turns, int kv, KeyPlan::Tile& tile) const {
    FOVEA_CHECK(tile.parts.size() == 1, "pine: no method before it may make parts");
    const KeyPlan::Part whole = std::move(tile.parts[0]);
    tile.parts.clear();
    const auto first = static_cast<size_t>(tile.first), n = static_cast<size_t>(tile.n);
    const int32_t last = call.q_pos[first + n - 1];
    // Slots of a page in each segment, and before them all.
    const auto slots_of = [&](const KeyPlan::Page& page) {
      std::vector<uint32_t> slots(read.segments.size() + 1, 0);
      const int32_t* at = plan.page(kv, page.index).positions;
      for (int slot = 0; slot < kernels::kPageKeys; ++slot) {
        if (at[slot] >= read.end) continue;
        slots[read.segment_at(at[slot]).value_or(read.segments.size())] |= uint32_t{1} << slot;
      }
      return slots;
    };
    // The page with what rows of the heads of `part` read there by this shift; others: what they read besides.
    const auto add = [&](KeyPlan::Part& part, const KeyPlan::Page& from, const std::vector<uint32_t>& slots,
                         uint32_t others, const auto& shift_of_row) {
      std::vector<uint32_t> bits(static_cast<size_t>(plan.group()) * n, ~uint32_t{0});
      bool any = false;
      for (int g = 0; g < plan.group(); ++g) {
        if (part.head != KeyPlan::kAllHeads && part.head != g) continue;
        for (size_t i = 0; i < n; ++i) {
          uint32_t& seen = bits[static_cast<size_t>(g) * n + i];
          const size_t group = places.group[first + i - places.first];
          const std::optional<int32_t> shift = shift_of_row(group);
          seen = others;
          for (size_t s = 0; s < slots.size() && shift; ++s) {
            const size_t head = static_cast<size_t>(kv * plan.group() + g);
            if (places.shifts[group][head * slots.size() + s] == *shift) seen |= slots[s];
          }
          any = any || seen != 0;
        }
      }
      if (!any) return;
      part.pages.push_back(from);
      if (std::all_of(bits.begin(), bits.end(), [](uint32_t b) { return b == ~uint32_t{0}; })) return;
      const std::span<uint32_t> mask = plan.own_mask(tile, part.pages.back());
      for (size_t i = 0; i < bits.size(); ++i) mask[i] &= bits[i];
    };
    KeyPlan::Part near{.pages = {}, .rules = whole.rules};
    for (KeyRule& rule : near.rules) rule.ahead = 0;
    std::vector<std::vector<uint32_t>> slots;
    for (const KeyPlan::Page& page : whole.pages) {
      slots.push_back(slots_of(page));
      const int32_t* at = plan.page(kv, page.index).positions;
      if (*std::min_element(at, at + kernels::kPageKeys) > last) continue;
      if (first < places.first) {
        near.pages.push_back(page);
        continue;
      }
      const uint32_t others = ~std::accumulate(slots.back().begin(), slots.back().end(), uint32_t{0});
      add(near, page, slots.back(), others, [](size_t) { return std::optional<int32_t>(0); });
    }
    tile.parts.push_back(std::move(near));
    if (first < places.first) return;
    for (int g = 0; g < plan.group(); ++g) {
      for (size_t k = 0; k < turns.size(); ++k) {
        KeyPlan::Part part{.pages = {}, .rules = whole.rules};
        part.head = g;
        part.turn = turns[k];
        for (size_t page = 0; page < whole.pages.size(); ++page) {
          add(part, whole.pages[page], slots[page], 0, [&](size_t group) {
            const std::vector<int32_t>& shifts = places.distinct[group];
            return k < shifts.size() ? std::optional(shifts[k]) : std::nullopt;
          });
        }
        if (!part.pages.empty()) tile.parts.push_back(std::move(part));
      }
    }
  }

  int order_ = kImportance, length_ = 0, count_ = 3, begin_ = 0, seed_ = 0;
  bool between_ = true, normalise_ = true;
  HeadSet heads_ = HeadSet::all();
  std::vector<std::vector<bool>> active_;  // of each layer, its heads; none: the layer stays as it is
};
FOVEA_REGISTER_METHOD(Pine);

}  // namespace
}  // namespace fovea::attention

#include "fovea/probe/capture/reducers.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/check.h"
#include "fovea/base/nearest.h"
#include "fovea/base/numbers.h"
#include "fovea/kernels/attention.h"

namespace fovea::probe {
namespace {

using kernels::kNoPosition;
using Kind = Reduction::Kind;

struct KindRow {
  Kind kind;
  std::string_view name, size_name;  // "" where there is no size
  int64_t default_size;
  std::string_view help;
};
constexpr KindRow kKinds[] = {
    {Kind::kFull, "full", "", 0, "whole rows"},
    {Kind::kTopK, "topk", "K", 16, "the K largest weights of each row and their positions"},
    {Kind::kBlock, "block", "B", 64, "sums over blocks of B rows and B keys"},
    {Kind::kEntropy, "entropy", "", 0, "entropy of each row, in nats"},
    {Kind::kSink, "sink", "N", 4, "each row's weight on the first N tokens"},
    {Kind::kLocal, "local", "W", 64, "each row's weight on its last W tokens"},
    {Kind::kRowSum, "rowsum", "", 0, "sum of each row"},
    {Kind::kMax, "max", "", 0, "largest weight of each row"},
};

const KindRow& row_of(Kind kind) { return kKinds[static_cast<size_t>(kind)]; }

// ln x for normal x > 0, within 1e-6 relative; in plain arithmetic, so that the compiler uses lanes.
float fast_ln(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t shifted = bits - 0x3f3504f3u;  // mantissa in [sqrt(1/2), sqrt(2))
  const auto exponent = static_cast<float>(static_cast<int32_t>(shifted) >> 23);
  const float m = std::bit_cast<float>((shifted & 0x007fffffu) + 0x3f3504f3u);
  const float t = (m - 1.0f) / (m + 1.0f), u = t * t;  // ln m = 2 artanh t, |t| < 0.172
  return exponent * 0.693147181f + 2.0f * t * (1.0f + u * (1.0f / 3 + u * (1.0f / 5 + u * (1.0f / 7 + u / 9))));
}

// Lanes of partial sums, joined in a fixed order.
constexpr size_t kLanes = 16;
template <typename Term>
float sum_of(std::span<const float> p, Term term) {
  float lanes[kLanes] = {};
  size_t j = 0;
  for (; j + kLanes <= p.size(); j += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += term(p[j + lane]);
  }
  double sum = 0;
  for (const float lane : lanes) sum += lane;
  for (; j < p.size(); ++j) sum += term(p[j]);
  return static_cast<float>(sum);
}

float entropy(std::span<const float> p) {
  // p ln p at p = 1e-30 is 0 in float; below, fast_ln would leave its range.
  return -sum_of(p, [](float x) { return x * fast_ln(std::max(x, 1e-30f)); });
}

// The sum over keys at positions in [first, last]; positions rise, dead slots stand at the end of pages.
float mass(std::span<const int32_t> positions, std::span<const float> p, int32_t first, int32_t last) {
  double sum = 0;
  for (size_t j = 0; j < p.size(); ++j) {
    if (positions[j] >= first && positions[j] <= last) sum += p[j];
  }
  return static_cast<float>(sum);
}

void top(std::span<const int32_t> positions, std::span<const float> p, std::span<float> values,
         std::span<int32_t> keys) {
  using Entry = std::pair<float, int32_t>;
  // Larger first; of equal ones the earlier key.
  const auto before = [](const Entry& a, const Entry& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
  };
  thread_local std::vector<Entry> heap;  // its front is the last of the kept ones
  heap.clear();
  float least = 0;
  for (size_t j = 0; j < p.size(); ++j) {
    if (!(p[j] > least)) continue;  // a later key never replaces an equal one
    if (heap.size() == values.size()) {
      std::pop_heap(heap.begin(), heap.end(), before);
      heap.pop_back();
    }
    heap.emplace_back(p[j], positions[j]);
    std::push_heap(heap.begin(), heap.end(), before);
    if (heap.size() == values.size()) least = heap.front().first;
  }
  std::sort_heap(heap.begin(), heap.end(), before);
  for (size_t k = 0; k < values.size(); ++k) {
    values[k] = k < heap.size() ? heap[k].first : 0.0f;
    keys[k] = k < heap.size() ? heap[k].second : -1;
  }
}

}  // namespace

Result<Reduction> Reduction::parse(std::string_view text) {
  const size_t colon = std::min(text.find(':'), text.size());
  const std::string_view name = text.substr(0, colon);
  const auto* found =
      std::find_if(std::begin(kKinds), std::end(kKinds), [&](const KindRow& row) { return row.name == name; });
  if (found == std::end(kKinds)) {
    std::vector<std::string> names;
    for (const KindRow& row : kKinds) names.emplace_back(row.name);
    return make_error(ErrorCode::kUsage, "there is no reducer {}; nearest: {}; all: {}", quote(name, 40),
                      fmt::join(nearest_names(name.substr(0, 40), names, 1), ""), fmt::join(names, ", "));
  }
  Reduction reduction{found->kind, found->default_size};
  if (colon == text.size()) return reduction;
  const std::string_view size = text.substr(colon + 1);
  constexpr int64_t kMost = 1 << 24;  // the longest context there can be
  if (found->size_name.empty() || !parse_number(size, reduction.size) || reduction.size < 1 || reduction.size > kMost) {
    return make_error(ErrorCode::kUsage, "reducer {}: {}", quote(text, 40),
                      found->size_name.empty()
                          ? fmt::format("{} takes no size", name)
                          : fmt::format("{} of {} is a whole number in 1 to {}", found->size_name, name, kMost));
  }
  return reduction;
}

std::vector<std::string> Reduction::help() {
  std::vector<std::string> lines;
  for (const KindRow& row : kKinds) {
    lines.push_back(row.size_name.empty()
                        ? fmt::format("{}: {}", row.name, row.help)
                        : fmt::format("{}:{}: {} ({})", row.name, row.size_name, row.help, row.default_size));
  }
  return lines;
}

std::string_view Reduction::name() const { return row_of(kind).name; }

std::string Reduction::to_string() const {
  return row_of(kind).size_name.empty() ? std::string(name()) : fmt::format("{}:{}", name(), size);
}

int64_t Reduction::kept(int64_t n_tokens) const { return std::min(size, n_tokens); }

std::vector<int64_t> Reduction::shape(int64_t n_heads, int64_t n_tokens) const {
  switch (kind) {
    case Kind::kFull: return {n_heads, n_tokens, n_tokens};
    case Kind::kTopK: return {n_heads, n_tokens, kept(n_tokens)};
    case Kind::kBlock: return {n_heads, (n_tokens + size - 1) / size, (n_tokens + size - 1) / size};
    default: return {n_heads, n_tokens};
  }
}

RowReducer::RowReducer(const Reduction& reduction, const attention::ModelShape& model, const attention::HeadSet& heads,
                       attention::SequenceId sequence, int64_t n_tokens)
    : reduction_(reduction),
      n_heads_(model.n_heads),
      sequence_(sequence),
      n_tokens_(n_tokens),
      slots_(static_cast<size_t>(model.n_layers) * static_cast<size_t>(model.n_heads), -1),
      layers_(static_cast<size_t>(model.n_layers)) {
  for (int l = 0; l < model.n_layers; ++l) {
    Layer& layer = layers_[static_cast<size_t>(l)];
    for (int h = 0; h < n_heads_; ++h) {
      if (!heads.contains(l, h)) continue;
      slots_[static_cast<size_t>(l) * static_cast<size_t>(n_heads_) + static_cast<size_t>(h)] =
          static_cast<int>(layer.heads.size());
      layer.heads.push_back(h);
    }
    if (layer.heads.empty()) continue;
    size_t elements = 1;
    for (const int64_t dim : reduction_.shape(static_cast<int64_t>(layer.heads.size()), n_tokens))
      elements *= static_cast<size_t>(dim);
    layer.values.assign(elements, 0.0f);
    if (reduction_.kind == Kind::kTopK) layer.positions.assign(elements, -1);
    layer.rows.assign(layer.heads.size(), 0);
  }
}

int64_t RowReducer::rows_seen(int layer) const {
  int64_t sum = 0;
  for (const int64_t rows : layers_[static_cast<size_t>(layer)].rows) sum += rows;
  return sum;
}

void RowReducer::see(const attention::RowView& row, std::span<const float> pattern) {
  if (row.call.sequence != sequence_) return;
  FOVEA_CHECK(row.q_pos >= 0 && row.q_pos < n_tokens_, "reducer: row {} of {}", row.q_pos, n_tokens_);
  Layer& layer = layers_[static_cast<size_t>(row.call.layer)];
  const auto head = static_cast<size_t>(slot(row.call.layer, row.head)), i = static_cast<size_t>(row.q_pos);
  const auto n = static_cast<size_t>(n_tokens_), size = static_cast<size_t>(reduction_.size);
  const auto kept = static_cast<size_t>(reduction_.kept(n_tokens_));
  const std::span<const int32_t> positions = row.key_positions;
  const auto per_row = [&](float value) { layer.values[head * n + i] = value; };
  ++layer.rows[head];
  switch (reduction_.kind) {
    case Kind::kFull:
      for (size_t j = 0; j < pattern.size(); ++j) {
        if (positions[j] != kNoPosition && positions[j] <= row.q_pos)
          layer.values[(head * n + i) * n + static_cast<size_t>(positions[j])] = pattern[j];
      }
      break;
    case Kind::kTopK:
      top(positions, pattern, std::span(layer.values).subspan((head * n + i) * kept, kept),
          std::span(layer.positions).subspan((head * n + i) * kept, kept));
      break;
    case Kind::kBlock: {
      const size_t blocks = (n + size - 1) / size;
      float* sums = layer.values.data() + (head * blocks + i / size) * blocks;
      for (size_t j = 0; j < pattern.size();) {  // a run of keys of one block
        if (positions[j] > row.q_pos) {
          ++j;
          continue;
        }
        const auto block = static_cast<size_t>(positions[j]) / size;
        double sum = 0;
        for (; j < pattern.size() && positions[j] <= row.q_pos && static_cast<size_t>(positions[j]) / size == block;
             ++j)
          sum += pattern[j];
        sums[block] += static_cast<float>(sum);
      }
      break;
    }
    case Kind::kEntropy: per_row(entropy(pattern)); break;
    case Kind::kSink: per_row(mass(positions, pattern, 0, static_cast<int32_t>(reduction_.size) - 1)); break;
    case Kind::kLocal:
      per_row(mass(positions, pattern, row.q_pos - static_cast<int32_t>(reduction_.size) + 1, row.q_pos));
      break;
    case Kind::kRowSum: per_row(sum_of(pattern, [](float x) { return x; })); break;
    case Kind::kMax: {
      float most = 0;
      for (const float x : pattern) most = std::max(most, x);
      per_row(most);
      break;
    }
  }
}

}  // namespace fovea::probe

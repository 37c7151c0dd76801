#include "papers/hip-attention/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "papers/support/beside_dense.h"
#include "papers/support/made_layer.h"
#include "papers/support/text_loss.h"

namespace fovea::papers::hip_attention {
namespace {

using attention::Representative;

std::string spec_of(const SearchShape& shape, const std::string& knobs) {
  return fmt::format("hip-attention:k={}:window={}:n_sink={}:block_k={}{}", shape.k, shape.window, shape.n_sink,
                     shape.block, knobs);
}
constexpr const char* kExactKnobs = ":block_q=1:dense_layers=0:refresh=1:representative=max";

// The k highest of the searched keys, rising; of equal ones the earlier.
std::vector<int32_t> highest(const SearchShape& shape, const std::vector<float>& weights) {
  const Inner inner = inner_keys(shape, static_cast<int32_t>(weights.size()));
  std::vector<int32_t> keys(static_cast<size_t>(inner.size()));
  std::iota(keys.begin(), keys.end(), inner.begin);
  std::stable_sort(keys.begin(), keys.end(), [&](int32_t a, int32_t b) {
    return weights[static_cast<size_t>(a)] > weights[static_cast<size_t>(b)];
  });
  keys.resize(std::min(keys.size(), static_cast<size_t>(shape.k)));
  std::sort(keys.begin(), keys.end());
  return keys;
}

}  // namespace

Planted planted() {
  const SearchShape shape{.k = 20, .block = 1, .window = 32, .n_sink = 4};
  MadeLayer layer(spec_of(shape, kExactKnobs), {.n_heads = 2, .n_kv_heads = 1});
  layer.read(200, attention::Phase::kPromptEnd);
  Planted out;
  for (int32_t q_pos = 200; q_pos < 230; ++q_pos) {
    layer.decode(1);
    const Inner inner = inner_keys(shape, q_pos + 1);
    for (int head = 0; head < 2; ++head) {
      std::vector<float> products;
      for (int32_t key = 0; key <= q_pos; ++key)
        products.push_back(static_cast<float>(layer.product(q_pos, head, key)));
      std::vector<int32_t> mine = layer.positions(head);
      std::erase_if(mine, [&](int32_t key) { return key < inner.begin || key >= inner.end; });
      ++out.n_rows, out.n_alike += mine == highest(shape, products);
    }
  }
  return out;
}

Result<Compared> compared(Run& run, bool exact) {
  SearchShape shape{.k = 64, .block = exact ? 1 : 8, .window = 32, .n_sink = 4};
  FOVEA_ASSIGN_OR_RETURN(const auto tokens, text_tokens(run, 400));
  BesideOptions options{.n_decoded = 3, .numerics = kernels::Numerics::kExact, .with_values = true};
  options.attention = spec_of(shape, exact ? kExactKnobs : ":block_q=1:dense_layers=0:refresh=1");
  Compared out;
  FOVEA_RETURN_IF_ERROR(beside_dense(run, tokens, options, [&](const RowBeside& row) {
    const Inner inner = inner_keys(shape, row.q_pos + 1);
    std::vector<int32_t> mine;
    for (const ReadKey& key : row.read) {
      if (key.position >= inner.begin && key.position < inner.end) mine.push_back(key.position);
      const double dense = double{row.dense[static_cast<size_t>(key.position)]} / row.mass();
      out.weights = std::max(out.weights, std::abs(double{key.weight} - dense));
    }
    const std::vector<int32_t> wanted =
        exact ? highest(shape, row.dense) : search(shape, row.dense, Representative::kCenter).keys;
    const auto held = [&](const std::vector<int32_t>& keys) {
      return std::accumulate(keys.begin(), keys.end(), 0.0, [&](double before, int32_t key) {
        return before + double{row.dense[static_cast<size_t>(key)]};
      });
    };
    const double all = std::accumulate(row.dense.begin() + inner.begin, row.dense.begin() + inner.end, 1e-30);
    ++out.n_rows, out.n_alike += mine == wanted;
    out.worst = std::max(out.worst, std::abs(held(mine) - held(wanted)) / all);
    double largest = 0;
    for (const float x : row.z) largest = std::max(largest, std::abs(double{x}));
    out.z = std::max(out.z, largest_difference(row.z, row.z_of_read) / std::max(largest, 1e-30));
  }));
  return out;
}

SearchShape shape_of(const Run& run) {
  return {.k = run.number("k"),
          .block = run.number("block"),
          .window = run.number("window"),
          .n_sink = run.number("sinks")};
}
int dense_layers() { return 3; }
std::string with_keys(const Run& run, const std::string& knobs) {
  const int layers = std::min(dense_layers(), run.model()->shape().n_layers - 1);
  return spec_of(shape_of(run), fmt::format(":dense_layers={}{}", layers, knobs));
}
std::string window(const Run& run) {
  return fmt::format("streaming-llm:n_sink={}:window={}", run.number("sinks"), run.number("window") + run.number("k"));
}

namespace {

constexpr std::pair<const char*, double Recall::*> kRecalls[] = {
    {"center", &Recall::center},     {"first", &Recall::first},
    {"blocks", &Recall::blocks},     {"random", &Recall::random},
    {"window", &Recall::window},     {"noise", &Recall::noise},
    {"fine", &Recall::fine},         {"elsewhere", &Recall::elsewhere},
    {"shuffled", &Recall::shuffled}, {"fine, shuffled", &Recall::fine_shuffled},
    {"locality", &Recall::locality}};

// Keys that rows of this length may score: 2 k in each round of halving.
double most_scored(const SearchShape& shape, int32_t n_keys) {
  const double blocks = double(inner_keys(shape, n_keys).size()) / shape.block,
               budget = std::max(1, shape.k / shape.block);
  return blocks <= budget ? 0 : 2 * budget * shape.block * std::ceil(std::log2(blocks / budget));
}

}  // namespace

Result<Found> found(Run& run) {
  constexpr int kRows = 4;
  const int length = run.lengths("length", 0)[0];
  const SearchShape shape = shape_of(run);
  const Json setting = {{"weight that searches find in a text of", length},
                        {"rows", kRows},
                        {"k", shape.k},
                        {"block", shape.block},
                        {"window", shape.window},
                        {"sinks", shape.n_sink}};
  const std::vector<int32_t> lengths = {length / 4, length / 2, length};
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell("dense", setting, [&]() -> Result<Json> {
    FOVEA_ASSIGN_OR_RETURN(const auto tokens, text_tokens(run, length));
    Json out = {{"n_rows", 0}};
    int n_rows = 0;
    std::map<int32_t, double> scored;
    Recall sum;
    const int first_layer = std::min(dense_layers(), run.model()->shape().n_layers - 1);
    FOVEA_RETURN_IF_ERROR(beside_dense(run, tokens, {.n_decoded = kRows}, [&](const RowBeside& row) {
      if (row.layer < first_layer) return;
      Recall of;
      const uint64_t seed = run.seed() + static_cast<uint64_t>(row.layer) * 1000 + static_cast<uint64_t>(row.head) * 7 +
                            static_cast<uint64_t>(row.q_pos) * 100003;
      if (!recall_of(shape, row.dense, seed, of)) return;
      ++n_rows;
      for (const auto& [name, value] : kRecalls) sum.*value += of.*value;
      for (const int32_t n : lengths) {
        const std::vector<float> part(row.dense.begin(),
                                      row.dense.begin() + std::min<ptrdiff_t>(n, std::ssize(row.dense)));
        if (inner_keys(shape, n).size() > 0)
          scored[n] += static_cast<double>(search(shape, part, Representative::kCenter).n_scored);
      }
    }));
    if (n_rows == 0) return out;
    out["n_rows"] = n_rows;
    for (const auto& [name, value] : kRecalls) out[name] = sum.*value / n_rows;
    for (const auto& [n, keys] : scored) out[fmt::format("scored of {}", n)] = keys / n_rows;
    return out;
  }));
  Found out;
  out.n_rows = cell.at("n_rows").get<int>();
  if (out.n_rows == 0) return out;
  for (const auto& [name, value] : kRecalls) out.recall.*value = cell.at(name).get<double>();
  for (const int32_t n : lengths) {
    const double scored = cell.value(fmt::format("scored of {}", n), 0.0);
    if (scored > 0) out.scored[n] = scored, out.bound[n] = most_scored(shape, n);
  }
  return out;
}

}  // namespace fovea::papers::hip_attention

#include "papers/token-select/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "papers/support/beside_dense.h"
#include "papers/support/made_layer.h"
#include "papers/support/text_loss.h"

namespace fovea::papers::token_select {
namespace {

using attention::Phase;

// The places of the n highest, rising; of equal ones the earlier.
std::vector<int32_t> highest(const std::vector<double>& values, int n) {
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(n));
  std::sort(order.begin(), order.end());
  return order;
}

// z of a row whose list lacks the first keys alone, which have no weight: all others keep their distances.
void leave_out_weightless(Planted& out) {
  constexpr int kTokens = 120, kLast = 40;
  out.n_left_out = 20;
  MadeShape shape{.n_heads = 4, .n_kv_heads = 2, .turned = true};
  // The slowest pair hardly turns in a text of this length: keys there stand against every query, or beside it.
  const auto bent = [](MadeUp plain, double of_first, double of_others, int n_first) -> MadeUp {
    return [=](int32_t position, int head, std::span<float> to) {
      plain(position, head, to);
      to[7] = static_cast<float>(position < n_first ? of_first : of_others), to[15] = 0;
    };
  };
  shape.q = bent(noise(0), 12, 12, 0), shape.k = bent(noise(1), -30, 0, out.n_left_out);
  const auto z_of = [&](const std::string& attention) {
    MadeLayer layer(attention, shape);
    layer.read(kTokens - 1, Phase::kPromptEnd);
    layer.decode(1);
    std::vector<float> all;
    for (int head = 0; head < 4; ++head) all.insert(all.end(), layer.z(head).begin(), layer.z(head).end());
    return all;
  };
  out.apart = largest_difference(z_of(fmt::format("token-select:n_init=0:n_local={}:top_k={}:chunk=8:score_rope=true",
                                                  kLast, kTokens - kLast - out.n_left_out)),
                                 z_of("dense"));
}

void compare_one_head(Planted& out) {
  constexpr int kFirst = 3, kLast = 16, kTop = 20;
  MadeLayer layer(
      fmt::format("token-select:n_init={}:n_local={}:top_k={}:chunk=8:score_rope=none:theta=2", kFirst, kLast, kTop),
      {});
  layer.read(100, Phase::kPromptEnd);
  for (int32_t q_pos = 100; q_pos < 180; ++q_pos) {
    layer.decode(1);
    std::vector<double> products;
    for (int32_t key = kFirst; key <= q_pos - kLast; ++key) products.push_back(layer.product(q_pos, 0, key));
    std::vector<int32_t> wanted(kFirst);
    std::iota(wanted.begin(), wanted.end(), 0);
    for (const int32_t at : highest(products, kTop)) wanted.push_back(kFirst + at);
    for (int32_t key = q_pos - kLast + 1; key <= q_pos; ++key) wanted.push_back(key);
    ++out.n_rows, out.n_alike += layer.positions() == wanted;
  }
}

// Only query heads 2 and 3 look where KV head 1 has its spike; KV head 0 has a larger one there, which they do not see.
void plant_spike(Planted& out) {
  constexpr int32_t kRight = 17, kWrong = 23;
  MadeShape shape{.n_heads = 4, .n_kv_heads = 2};
  shape.q = [](int32_t, int head, std::span<float> to) {
    std::fill(to.begin(), to.end(), 0.0f);
    to[5] = head >= 2 ? 4 : 0;
  };
  shape.k = [](int32_t position, int head, std::span<float> to) {
    std::fill(to.begin(), to.end(), 0.0f);
    if (head == 1 && position == kRight) to[5] = 8;
    if (head == 0 && position == kWrong) to[5] = 80;
  };
  MadeLayer layer("token-select:n_init=1:n_local=4:top_k=1:score_rope=none", shape);
  layer.read(39, Phase::kPromptEnd);
  layer.decode(1);
  const std::vector<int32_t> wanted = {0, kRight, 36, 37, 38, 39};
  out.spike = layer.positions(0) == wanted && layer.positions(3) == wanted;
}

}  // namespace

Planted planted() {
  Planted out;
  leave_out_weightless(out);
  compare_one_head(out);
  plant_spike(out);
  return out;
}

Result<Voted> voted(Run& run, const std::string& vote) {
  constexpr int kFirst = 4, kLast = 32, kTop = 40;
  FOVEA_ASSIGN_OR_RETURN(const auto tokens, text_tokens(run, 300));
  const attention::ModelShape& shape = run.model()->shape();
  const int n_voters = vote == "soft" ? shape.n_heads : shape.group();
  BesideOptions options{.n_decoded = 4, .numerics = kernels::Numerics::kExact};
  options.attention = fmt::format("token-select:n_init={}:n_local={}:top_k={}:score_rope=true:theta=2:vote={}", kFirst,
                                  kLast, kTop, vote);
  Voted out;
  std::vector<double> votes;
  FOVEA_RETURN_IF_ERROR(beside_dense(run, tokens, options, [&](const RowBeside& row) {
    const auto n = static_cast<size_t>(row.q_pos + 1 - kLast - kFirst);
    const auto begin = row.dense.begin() + kFirst, end = begin + static_cast<ptrdiff_t>(n);
    const double top = *std::max_element(begin, end), scale = double{shape.site(row.layer).scale};
    std::vector<double> of_head;  // the softmax of the scores as they are before they are scaled
    for (auto it = begin; it != end; ++it) of_head.push_back(std::pow(double{*it} / top, 1 / scale));
    const double sum = std::accumulate(of_head.begin(), of_head.end(), 0.0);
    if (row.head % n_voters == 0) votes.assign(n, 0.0);
    for (size_t j = 0; j < n; ++j) votes[j] += of_head[j] / sum;
    if ((row.head + 1) % n_voters != 0) return;
    std::vector<int32_t> chosen;
    for (const ReadKey& key : row.read) {
      if (key.position >= kFirst && key.position <= row.q_pos - kLast) chosen.push_back(key.position - kFirst);
    }
    const std::vector<int32_t> wanted = highest(votes, kTop);
    const auto held = [&](const std::vector<int32_t>& keys) {
      return std::accumulate(keys.begin(), keys.end(), 0.0,
                             [&](double before, int32_t key) { return before + votes[static_cast<size_t>(key)]; });
    };
    ++out.n_rows, out.n_alike += chosen == wanted;
    out.worst = std::min(out.worst, held(chosen) / held(wanted));
  }));
  return out;
}

std::string with_keys(const Run& run, const std::string& knobs) {
  return fmt::format("token-select:n_init={}:n_local={}:top_k={}:chunk={}{}", run.number("init"), run.number("local"),
                     run.number("top-k"), run.number("chunk"), knobs);
}
std::string best_votes(const Run& run, const std::string& knobs) {
  return with_keys(run, ":score_rope=" + run.word("score-rope") + knobs);
}
std::string window(const Run& run) {
  return fmt::format("streaming-llm:n_sink={}:window={}", run.number("init"),
                     run.number("local") + run.number("top-k"));
}

Result<Mass> mass(Run& run, const std::string& attention) {
  const int n_init = run.number("init"), n_local = run.number("local"), top_k = run.number("top-k");
  const int length = run.lengths("length", 0)[0], n_decoded = 8;
  if (n_init + n_local + top_k + n_decoded > length)
    return make_error(ErrorCode::kUsage, "init, local and top-k are more keys than a text of {} has", length);
  const Json setting = {{"weight on keys of a text", length}, {"rows", n_decoded}};
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell(attention, setting, [&]() -> Result<Json> {
    FOVEA_ASSIGN_OR_RETURN(const auto tokens, text_tokens(run, length));
    Mass sum;
    double n = 0;
    const BesideOptions options{.attention = attention, .n_decoded = n_decoded};
    FOVEA_RETURN_IF_ERROR(beside_dense(run, tokens, options, [&](const RowBeside& row) {
      const auto first = row.dense.begin() + n_init, last = row.dense.end() - n_local;
      const double always =
          std::accumulate(row.dense.begin(), first, 0.0) + std::accumulate(last, row.dense.end(), 0.0);
      sum.always += always, sum.voted += row.mass() - always;
      sum.window += std::accumulate(last - top_k, last, 0.0);
      sum.highest += sum_of_largest({first, last}, static_cast<size_t>(top_k));
      ++n;
    }));
    return Json{
        {"voted", sum.voted / n}, {"window", sum.window / n}, {"highest", sum.highest / n}, {"always", sum.always / n}};
  }));
  return Mass{cell.at("voted").get<double>(), cell.at("window").get<double>(), cell.at("highest").get<double>(),
              cell.at("always").get<double>()};
}

}  // namespace fovea::papers::token_select

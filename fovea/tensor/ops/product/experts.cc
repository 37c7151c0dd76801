#include "fovea/tensor/ops/product/experts.h"

#include <algorithm>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/kernels/vector.h"
#include "fovea/tensor/adapters.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/ops/math/add.h"
#include "fovea/tensor/ops/math/binary.h"
#include "fovea/tensor/ops/product/jobs.h"
#include "fovea/tensor/ops/product/matmul.h"
#include "fovea/tensor/ops/reduce/reduce.h"
#include "fovea/tensor/ops/shape/copy.h"
#include "fovea/tensor/ops/shape/select_rows.h"
#include "fovea/tensor/ops/shape/view.h"
#include "fovea/tensor/product_watch.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

using kernels::MatmulArgs;

// The (token, choice) pairs sorted by expert, in rising order within one.
struct Sorted {
  std::vector<int32_t> begin;   // [n_experts + 1]: where an expert's pairs begin
  std::vector<int32_t> tokens;  // of each pair
  std::vector<int32_t> places;  // [n, used]: where a pair went

  void sort(std::span<const int32_t> experts, int64_t n_experts, int64_t used) {
    begin.assign(static_cast<size_t>(n_experts) + 1, 0);
    for (const int32_t e : experts) {
      FOVEA_CHECK(e >= 0 && e < n_experts, "mix_experts: expert {} of {}", e, n_experts);
      ++begin[static_cast<size_t>(e) + 1];
    }
    for (size_t e = 1; e < begin.size(); ++e) begin[e] += begin[e - 1];
    next.assign(begin.begin(), begin.end() - 1);
    tokens.resize(experts.size()), places.resize(experts.size());
    for (size_t pair = 0; pair < experts.size(); ++pair) {
      const int32_t place = next[static_cast<size_t>(experts[pair])]++;
      tokens[static_cast<size_t>(place)] = static_cast<int32_t>(static_cast<int64_t>(pair) / used);
      places[pair] = place;
    }
  }
  int64_t first(size_t expert) const { return begin[expert]; }
  int64_t end(size_t expert) const { return begin[expert + 1]; }

 private:
  std::vector<int32_t> next;
};

bool any_adapter(std::span<const Expert> experts) {
  return std::any_of(experts.begin(), experts.end(), [](const Expert& e) {
    return is_adapted(e.w_gate) || is_adapted(e.w_up) || is_adapted(e.w_down);
  });
}

// Out of differentiable ops: the slow twin of what follows.
Tensor one_after_the_other(const Tensor& x, std::span<const Expert> experts, const Sorted& sorted,
                           const Tensor& weights, Activation act) {
  std::vector<Tensor> parts;
  for (size_t e = 0; e < experts.size(); ++e) {
    const int64_t first = sorted.first(e), n = sorted.end(e) - first;
    if (n == 0) continue;
    const Expert& w = experts[e];
    const Tensor mine =
        select_rows(x, std::span(sorted.tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(n)));
    parts.push_back(matmul(matmul_gated(mine, {w.w_gate, w.b_gate}, {w.w_up, w.b_up}, act), w.w_down, w.b_down));
  }
  const Tensor all = concat(parts, 0);  // [pairs, d_model]
  const int64_t n = weights.dim(0), used = weights.dim(1);
  Tensor y;
  std::vector<int32_t> rows(static_cast<size_t>(n));
  for (int64_t i = 0; i < used; ++i) {
    for (int64_t t = 0; t < n; ++t) rows[static_cast<size_t>(t)] = sorted.places[static_cast<size_t>(t * used + i)];
    const Tensor part = mul_spread(select_rows(all, rows), slice(weights, 1, i, i + 1));
    y = y.defined() ? add(y, part) : part;
  }
  return y;
}

const float* bias_data(const Weight& bias, std::vector<Tensor>& held) {
  if (!bias.defined() || bias.view.dtype == kernels::DType::kF32) return static_cast<const float*>(bias.view.data);
  return held.emplace_back(weight_values(bias)).data();
}

// What the products of a pass stand in; kept by the thread, so that a step of decoding reaches the heap never.
struct Room {
  Sorted sorted;
  std::vector<Job> jobs;
  std::vector<MatmulArgs> ups;
  std::vector<Tensor> held;
};

// Products of rows of x, of which expert e has [first(e), end(e)): the same row for all if x has one.
struct Input {
  const Tensor& x;
  bool shared;

  MatmulArgs args(const Weight& w, const Weight& bias, int64_t first, int64_t end, Tensor& y,
                  std::vector<Tensor>& held) const {
    FOVEA_CHECK(w.defined() && x.dim(1) == w.cols() && y.dim(1) == w.rows(), "mix_experts: x {} times {} [{}, {}]",
                x.shape().to_string(), w.name, w.rows(), w.cols());
    FOVEA_CHECK(!bias.defined() || (bias.rows() == 1 && bias.cols() == w.rows()),
                "mix_experts: bias {} is [{}, {}] for {} rows", bias.name, bias.rows(), bias.cols(), w.rows());
    const Exec* exec = Exec::current();
    const Numerics numerics = exec ? exec->numerics : Numerics::kExact;
    const int64_t n = x.dim(0);
    const kernels::WeightForm form = kernels::form_of(w.view.dtype, w.cols(), numerics);
    return {.w = w.view,
            .packed = w.packed ? w.packed->data_for(w.view, end - first, numerics) : nullptr,
            .numerics = numerics,
            .x = x.data(),
            .ld_x = w.cols(),
            .quantized = kernels::takes_codes(form)
                             ? QuantizedForm::of(x, n, w.cols(), form, /*with_rest=*/false).codes()
                             : nullptr,
            .n_tokens = n,
            .bias = bias_data(bias, held),
            .y = y.data() + (shared ? first * w.rows() : 0),
            .ld_y = w.rows(),
            .token_begin = shared ? 0 : first,
            .token_end = shared ? end - first : end};
  }
};

// A token that chooses an expert twice is two rows of it, so a shared row serves one choice each.
bool may_share(const Tensor& x, const Sorted& sorted, size_t n_experts) {
  if (x.dim(0) != 1) return false;
  for (size_t e = 0; e < n_experts; ++e) {
    if (sorted.end(e) - sorted.first(e) > 1) return false;
  }
  return true;
}

Tensor together(const Tensor& x, std::span<const Expert> experts, Room& room, const Tensor& weights, Activation act) {
  const Sorted& sorted = room.sorted;
  const auto n_pairs = static_cast<int64_t>(sorted.tokens.size());
  const bool shared = may_share(x, sorted, experts.size());
  const Tensor in = shared ? x : select_rows(x, sorted.tokens);
  const int64_t d_ff = experts[0].w_gate.rows(), d_out = experts[0].w_down.rows();
  Tensor h = Tensor::empty({n_pairs, d_ff}), up = Tensor::empty({n_pairs, d_ff});
  QuantizedForm* form = nullptr;
  room.jobs.clear(), room.ups.clear(), room.ups.reserve(experts.size());  // jobs point into it
  for (size_t e = 0; e < experts.size(); ++e) {
    const int64_t first = sorted.first(e), end = sorted.end(e);
    if (first == end) continue;
    const Expert& w = experts[e];
    const Input rows{in, shared};
    room.jobs.push_back({.product = rows.args(w.w_gate, w.b_gate, first, end, h, room.held)});
    room.ups.push_back(rows.args(w.w_up, w.b_up, first, end, up, room.held));
    room.jobs.back().product.up = &room.ups.back(), room.jobs.back().product.act = act;
  }
  if (!shared && wants_form(Next::kProducts, d_ff)) form = &QuantizedForm::begin(h, n_pairs, d_ff, /*with_rest=*/false);
  for (Job& job : room.jobs) job.form = form;
  run_own_tokens(room.jobs);

  Tensor out = Tensor::empty({n_pairs, d_out});
  room.jobs.clear();
  for (size_t e = 0; e < experts.size(); ++e) {
    const int64_t first = sorted.first(e), end = sorted.end(e);
    if (first == end) continue;
    const Expert& w = experts[e];
    room.jobs.push_back({.product = Input{h, false}.args(w.w_down, w.b_down, first, end, out, room.held)});
  }
  run_own_tokens(room.jobs);
  room.held.clear();

  const int64_t n = weights.dim(0), used = weights.dim(1);
  Tensor y = Tensor::empty({n, d_out});
  for_rows(n, used * d_out, [&](int64_t begin, int64_t last) {
    for (int64_t t = begin; t < last; ++t) {
      for (int64_t i = 0; i < used; ++i) {
        const float* from = out.data() + int64_t{sorted.places[static_cast<size_t>(t * used + i)]} * d_out;
        const float by = weights.data()[t * used + i];
        if (i == 0) {
          kernels::scale(d_out, by, from, y.data() + t * d_out);
        } else {
          kernels::axpy(d_out, by, from, y.data() + t * d_out);
        }
      }
    }
  });
  return y;
}

}  // namespace

Routing route(const Tensor& probabilities, int64_t used, bool normalized) {
  FOVEA_CHECK(probabilities.shape().rank() == 2 && used >= 1 && used <= probabilities.dim(1),
              "route: {} of each row of {}", used, probabilities.shape().to_string());
  const int64_t n = probabilities.dim(0), n_experts = probabilities.dim(1);
  Routing to;
  to.experts.resize(static_cast<size_t>(n * used));
  for (int64_t t = 0; t < n; ++t) {
    const float* row = probabilities.data() + t * n_experts;
    int32_t* best = to.experts.data() + t * used;
    const auto before = [row](int32_t a, int32_t b) {
      return row[a] > row[b] || (row[b] != row[b] && row[a] == row[a]);
    };
    int64_t found = 0;
    for (int32_t e = 0; e < n_experts; ++e) {
      if (found == used && !before(e, best[used - 1])) continue;
      int64_t at = found < used ? found++ : used - 1;
      for (; at > 0 && before(e, best[at - 1]); --at) best[at] = best[at - 1];
      best[at] = e;
    }
  }
  to.weights = gather(probabilities, to.experts, used);
  if (normalized) to.weights = div(to.weights, reshape(sum(to.weights, 1), {n, 1}));
  return to;
}

Tensor mix_experts(const Tensor& x, std::span<const Expert> experts, const Routing& routing, Activation act) {
  const Tensor& weights = routing.weights;
  FOVEA_CHECK(x.shape().rank() == 2 && weights.shape().rank() == 2 && weights.dim(0) == x.dim(0) &&
                  static_cast<int64_t>(routing.experts.size()) == weights.elements(),
              "mix_experts: {} weights {} and {} choices for x {}", experts.size(), weights.shape().to_string(),
              routing.experts.size(), x.shape().to_string());
  FOVEA_CHECK(!experts.empty() && weights.dim(1) >= 1, "mix_experts: there are no experts");
  if (x.dim(0) == 0) return Tensor::empty({0, experts[0].w_down.rows()});
  thread_local Room room;
  room.sorted.sort(routing.experts, static_cast<int64_t>(experts.size()), weights.dim(1));
  // A watch sees each product.
  if (current_tape() || any_adapter(experts) || ProductWatch::current())
    return one_after_the_other(x, experts, room.sorted, weights, act);
  return together(x, experts, room, weights, act);
}

}  // namespace fovea::tensor

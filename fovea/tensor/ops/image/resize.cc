#include "fovea/tensor/ops/image/resize.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// Output i of a side is the sum of weights[j] in[at[j]] for j from begin[i] to begin[i + 1].
struct Taps {
  int64_t from, to;
  std::vector<int32_t> begin, at;
  std::vector<float> weight;
};

double cubic(double x, double a) {
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((x - 5) * x + 8) * x * a - 4 * a : 0;
}

Taps taps_of(int64_t from, int64_t to, const Resize& how) {
  Taps taps{from, to, {0}, {}, {}};
  const bool aligned = how.align_corners && how.filter != Filter::kNearest;
  const double step = aligned ? (to > 1 ? static_cast<double>(from - 1) / static_cast<double>(to - 1) : 0.0)
                              : static_cast<double>(from) / static_cast<double>(to);
  const auto add = [&](int64_t at, double weight) {
    taps.at.push_back(static_cast<int32_t>(std::clamp<int64_t>(at, 0, from - 1)));
    taps.weight.push_back(static_cast<float>(weight));
  };
  for (int64_t i = 0; i < to; ++i) {
    const auto place = static_cast<double>(i);
    const double centre = aligned ? place * step : (place + 0.5) * step - 0.5;  // in pixels of x
    if (how.filter == Filter::kNearest) {
      add(i * from / to, 1);
    } else if (how.antialias) {
      const double wide = std::max(1.0, step), reach = (how.filter == Filter::kLinear ? 1 : 2) * wide;
      const auto first = std::max<int64_t>(0, static_cast<int64_t>(std::floor(centre - reach + 1)));
      const auto last = std::min(from - 1, static_cast<int64_t>(std::ceil(centre + reach - 1)));
      const auto value = [&](int64_t at) {
        const double x = (static_cast<double>(at) - centre) / wide;
        return how.filter == Filter::kLinear ? std::max(0.0, 1 - std::abs(x)) : cubic(x, -0.5);
      };
      double sum = 0;
      for (int64_t at = first; at <= last; ++at) sum += value(at);
      for (int64_t at = first; at <= last; ++at) add(at, value(at) / sum);
    } else if (how.filter == Filter::kLinear) {
      const double inside = std::max(0.0, centre);
      const auto low = std::min(from - 1, static_cast<int64_t>(inside));
      const double part = inside - static_cast<double>(low);
      add(low, 1 - part);
      add(low + 1, part);
    } else {
      const auto low = static_cast<int64_t>(std::floor(centre));
      for (int64_t k = -1; k <= 2; ++k) add(low + k, cubic(centre - static_cast<double>(low + k), -0.75));
    }
    taps.begin.push_back(static_cast<int32_t>(taps.at.size()));
  }
  return taps;
}

struct Plan {
  int64_t planes;
  Taps rows, columns;
};

// Along one side: lines of `n` values that lie side by side move together. `back`: y's gradient to x's.
void lines(const Taps& taps, const float* x, int64_t n, bool back, float* y) {
  for (int64_t i = 0; i < taps.to; ++i) {
    for (int32_t k = taps.begin[static_cast<size_t>(i)]; k < taps.begin[static_cast<size_t>(i) + 1]; ++k) {
      const float weight = taps.weight[static_cast<size_t>(k)];
      const int64_t at = taps.at[static_cast<size_t>(k)];
      const float* from = x + (back ? i : at) * n;
      float* to = y + (back ? at : i) * n;
      for (int64_t c = 0; c < n; ++c) to[c] += weight * from[c];
    }
  }
}
void within_lines(const Taps& taps, const float* x, int64_t n_lines, bool back, float* y) {
  for (int64_t line = 0; line < n_lines; ++line)
    lines(taps, x + line * (back ? taps.to : taps.from), 1, back, y + line * (back ? taps.from : taps.to));
}

void forward(const Plan& plan, const float* x, float* y) {
  const int64_t in = plan.rows.from * plan.columns.from, out = plan.rows.to * plan.columns.to;
  for_rows(plan.planes, in + out, [&](int64_t begin, int64_t end) {
    std::vector<float> tall(static_cast<size_t>(plan.rows.to * plan.columns.from));
    for (int64_t p = begin; p < end; ++p) {
      std::fill(tall.begin(), tall.end(), 0.0f);
      std::fill_n(y + p * out, out, 0.0f);
      lines(plan.rows, x + p * in, plan.columns.from, false, tall.data());
      within_lines(plan.columns, tall.data(), plan.rows.to, false, y + p * out);
    }
  });
}

void backward(const Plan& plan, const float* dy, float* dx) {
  const int64_t in = plan.rows.from * plan.columns.from, out = plan.rows.to * plan.columns.to;
  for_rows(plan.planes, in + out, [&](int64_t begin, int64_t end) {
    std::vector<float> tall(static_cast<size_t>(plan.rows.to * plan.columns.from));
    for (int64_t p = begin; p < end; ++p) {
      std::fill(tall.begin(), tall.end(), 0.0f);
      within_lines(plan.columns, dy + p * out, plan.rows.to, true, tall.data());
      lines(plan.rows, tall.data(), plan.columns.from, true, dx + p * in);
    }
  });
}

}  // namespace

Tensor resize(const Tensor& x, HeightWidth to, const Resize& how) {
  FOVEA_CHECK(x.shape().rank() == 4 && x.dim(2) > 0 && x.dim(3) > 0 && to.h > 0 && to.w > 0, "resize: x {} to {} x {}",
              x.shape().to_string(), to.h, to.w);
  const auto plan = std::make_shared<const Plan>(
      Plan{x.dim(0) * x.dim(1), taps_of(x.dim(2), to.h, how), taps_of(x.dim(3), to.w, how)});
  Tensor y = Tensor::empty({x.dim(0), x.dim(1), to.h, to.w});
  forward(*plan, x.data(), y.data());
  if (Tape* tape = current_tape()) {
    tape->record(y, {x}, [plan, x = ValueId(x), y = ValueId(y)](Tape& t) {
      const float* dy = t.grad(y).data();
      backward(*plan, dy, t.grad(x).data());
    });
  }
  return y;
}

Tensor upsample(const Tensor& x, int64_t factor, Filter filter) {
  FOVEA_CHECK(x.shape().rank() == 4 && factor > 0, "upsample: x {} by {}", x.shape().to_string(), factor);
  return resize(x, {x.dim(2) * factor, x.dim(3) * factor}, {.filter = filter});
}

}  // namespace fovea::tensor

#include "fovea/tensor/ops/math/binary.h"

#include <array>
#include <string_view>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// Where the row r of a (over its last dimension) begins in b, and whether b moves along it.
struct Spread {
  Spread(const Shape& a, const Shape& b, std::string_view op) {
    bool fits = b.rank() <= a.rank() && a.rank() > 0;
    int64_t stride = 1;
    for (int i = 1; i <= b.rank() && fits; ++i) {
      fits = b[-i] == a[-i] || b[-i] == 1;
      const auto at = static_cast<size_t>(kMaxRank - i);
      strides[at] = b[-i] == 1 ? 0 : stride;
      stride *= b[-i];
    }
    FOVEA_CHECK(fits, "{}: {} does not spread over {}", op, b.to_string(), a.to_string());
    for (int i = 0; i < kMaxRank; ++i) dims[static_cast<size_t>(i)] = 1;
    for (int i = 1; i <= a.rank(); ++i) dims[static_cast<size_t>(kMaxRank - i)] = a[-i];
    n = a[-1], n_rows = n > 0 ? a.elements() / n : 0;
    step = strides[kMaxRank - 1];
  }
  int64_t row_at(int64_t row) const {
    int64_t at = 0;
    for (size_t i = kMaxRank - 1; i-- > 0;) {
      at += row % dims[i] * strides[i];
      row /= dims[i];
    }
    return at;
  }
  std::array<int64_t, kMaxRank> dims{}, strides{};
  int64_t n = 0, n_rows = 0, step = 0;
};

// y = f(a, b), da = slope_a(a, b) dy, db = slope_b(a, b) dy summed over what shares an element of b.
template <typename F, typename SlopeA, typename SlopeB>
Tensor map2(std::string_view op, const Tensor& a, const Tensor& b, F f, SlopeA slope_a, SlopeB slope_b) {
  const Spread spread(a.shape(), b.shape(), op);
  Tensor y = Tensor::empty(a.shape());
  const float *pa = a.data(), *pb = b.data();
  float* py = y.data();
  const int64_t n = spread.n;
  for_rows(spread.n_rows, n, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* from = pb + spread.row_at(r);
      for (int64_t c = 0; c < n; ++c) py[r * n + c] = f(pa[r * n + c], from[c * spread.step]);
    }
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, {a, b}, [a, b, spread, n, slope_a, slope_b, y = ValueId(y)](Tape& t) {
      const float *va = a.data(), *vb = b.data(), *dy = t.grad(y).data();
      if (t.needs_grad(a)) {
        float* da = t.grad(a).data();
        for_rows(spread.n_rows, n, [&](int64_t begin, int64_t end) {
          for (int64_t r = begin; r < end; ++r) {
            const float* from = vb + spread.row_at(r);
            for (int64_t i = r * n, c = 0; c < n; ++c, ++i) da[i] += slope_a(va[i], from[c * spread.step]) * dy[i];
          }
        });
      }
      if (!t.needs_grad(b)) return;
      float* db = t.grad(b).data();
      const auto add = [&](int64_t begin, int64_t end) {  // rows in rising order within a column
        for (int64_t r = 0; r < spread.n_rows; ++r) {
          const int64_t at = spread.row_at(r);
          for (int64_t c = begin; c < end; ++c) {
            const int64_t i = r * n + c;
            db[at + c * spread.step] += slope_b(va[i], vb[at + c * spread.step]) * dy[i];
          }
        }
      };
      spread.step == 0 ? add(0, n) : for_columns(n, spread.n_rows, add);
    });
  }
  return y;
}

}  // namespace

Tensor sub(const Tensor& a, const Tensor& b) {
  return map2(
      "sub", a, b, [](float x, float y) { return x - y; }, [](float, float) { return 1.0f; },
      [](float, float) { return -1.0f; });
}
Tensor div(const Tensor& a, const Tensor& b) {
  return map2(
      "div", a, b, [](float x, float y) { return x / y; }, [](float, float y) { return 1 / y; },
      [](float x, float y) { return -x / (y * y); });
}
Tensor add_spread(const Tensor& a, const Tensor& b) {
  return map2(
      "add_spread", a, b, [](float x, float y) { return x + y; }, [](float, float) { return 1.0f; },
      [](float, float) { return 1.0f; });
}
Tensor mul_spread(const Tensor& a, const Tensor& b) {
  return map2(
      "mul_spread", a, b, [](float x, float y) { return x * y; }, [](float, float y) { return y; },
      [](float x, float) { return x; });
}

Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b) {
  FOVEA_CHECK(condition.shape() == a.shape() && a.shape() == b.shape(), "where: shapes {}, {} and {} differ",
              condition.shape().to_string(), a.shape().to_string(), b.shape().to_string());
  Tensor y = Tensor::empty(a.shape());
  const float *c = condition.data(), *pa = a.data(), *pb = b.data();
  float* py = y.data();
  for_elements(y.elements(), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) py[i] = c[i] != 0 ? pa[i] : pb[i];
  });
  if (Tape* tape = current_tape()) {
    tape->record(y, {a, b}, [condition, a = ValueId(a), b = ValueId(b), y = ValueId(y)](Tape& t) {
      const float *at = condition.data(), *dy = t.grad(y).data();
      for (const bool first : {true, false}) {
        const ValueId& side = first ? a : b;
        if (!t.needs_grad(side)) continue;
        float* d = t.grad(side).data();
        for_elements(condition.elements(), [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) d[i] += (at[i] != 0) == first ? dy[i] : 0.0f;
        });
      }
    });
  }
  return y;
}

}  // namespace fovea::tensor

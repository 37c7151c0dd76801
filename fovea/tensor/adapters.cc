#include "fovea/tensor/adapters.h"

#include <algorithm>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/ops/math/unary.h"
#include "fovea/tensor/ops/train/stop_gradient.h"

namespace fovea::tensor {
namespace {

bool is_matrix(const Tensor& t) { return t.shape().rank() == 2; }

Status check_weight(const Weight& w) {
  FOVEA_CHECK(w.defined(), "adapter: weight {} is not defined", w.name);
  if (w.rows() > 1) return {};
  return make_error(ErrorCode::kUsage, "adapter of {}: it is a vector, and only matrices have adapters", w.name);
}

Tensor stacked(const Tensor& a, const Tensor& b) {
  Tensor out = Tensor::empty({a.dim(0) + b.dim(0), a.dim(1)});
  std::copy_n(b.data(), b.elements(), std::copy_n(a.data(), a.elements(), out.data()));
  return out;
}

Tensor beside(const Tensor& a, const Tensor& b) {
  Tensor out = Tensor::empty({a.dim(0), a.dim(1) + b.dim(1)});
  float* to = out.data();
  for (int64_t r = 0; r < a.dim(0); ++r) {
    to = std::copy_n(a.data() + r * a.dim(1), a.dim(1), to);
    to = std::copy_n(b.data() + r * b.dim(1), b.dim(1), to);
  }
  return out;
}

}  // namespace

Status Adapters::add(const Weight& w, Lora lora) {
  FOVEA_RETURN_IF_ERROR(check_weight(w));
  const bool fits = is_matrix(lora.a) && is_matrix(lora.b) && lora.a.dim(1) == w.cols() && lora.b.dim(0) == w.rows() &&
                    lora.a.dim(0) == lora.b.dim(1);
  if (!fits) {
    return make_error(ErrorCode::kUsage,
                      "adapter of {}: a is {} and b is {}; for a weight [{}, {}] they are [rank, {}] and [{}, rank]",
                      w.name, lora.a.shape().to_string(), lora.b.shape().to_string(), w.rows(), w.cols(), w.cols(),
                      w.rows());
  }
  if (lora.a.dim(0) == 0) return {};
  std::vector<Lora>& loras = of_[w.view.data].loras;
  const auto twin = std::find_if(loras.begin(), loras.end(), [&](const Lora& other) {
    return lora.frozen && other.frozen && lora.scale == 1 && other.scale == 1 && lora.use == other.use;
  });
  if (twin != loras.end()) {  // one product of both ranks instead of two
    lora.a = stacked(twin->a, lora.a);
    lora.b = beside(twin->b, lora.b);
    loras.erase(twin);
  }
  lora.of_a = Weight::from("lora_a", lora.a);
  lora.of_b = Weight::from("lora_b", lora.b);
  if (lora.frozen) {
    for (Weight* part : {&lora.of_a, &lora.of_b}) {
      part->value = {};  // no parameter: its values do not change
      pack_weight_later(*part);
    }
  }
  loras.push_back(std::move(lora));
  return {};
}

Status Adapters::add(const Weight& w, Mask mask) {
  FOVEA_RETURN_IF_ERROR(check_weight(w));
  const bool of_runs =
      is_matrix(mask.values) && mask.values.dim(0) == 1 && mask.values.dim(1) > 0 && w.cols() % mask.values.dim(1) == 0;
  if (!of_runs && mask.values.shape() != Shape({w.rows(), w.cols()})) {
    return make_error(ErrorCode::kUsage, "adapter of {}: the mask is {}, the weight [{}, {}]", w.name,
                      mask.values.shape().to_string(), w.rows(), w.cols());
  }
  Mask& present = of_[w.view.data].mask;
  if (present.values.defined()) return make_error(ErrorCode::kUsage, "adapter of {}: it has a mask already", w.name);
  present = std::move(mask);
  return {};
}

Status Adapters::add(const Weight& w, Rows rows) {
  FOVEA_RETURN_IF_ERROR(check_weight(w));
  const bool fits = is_matrix(rows.values) && rows.values.dim(1) == w.cols() && rows.begin >= 0 &&
                    rows.begin <= w.rows() - rows.values.dim(0);
  if (!fits) {
    return make_error(ErrorCode::kUsage, "adapter of {}: rows {} from {} on do not fit the weight [{}, {}]", w.name,
                      rows.values.shape().to_string(), rows.begin, w.rows(), w.cols());
  }
  if (rows.values.dim(0) > 0) of_[w.view.data].rows.push_back(std::move(rows));
  return {};
}

const Adapter* Adapters::find(const Weight& w) const {
  const auto it = of_.find(w.view.data);
  return it == of_.end() ? nullptr : &it->second;
}

namespace {

template <typename Test>
bool any_adapter(const Weight& w, Test test) {
  const Exec* exec = Exec::current();
  if (!exec) return false;
  const auto passes = [&](const Adapters* adapters) {
    const Adapter* found = adapters ? adapters->find(w) : nullptr;
    return found && test(*found);
  };
  if (exec->adapter_rows.empty()) return passes(exec->adapters);
  return std::any_of(exec->adapter_rows.begin(), exec->adapter_rows.end(),
                     [&](const AdapterRows& rows) { return passes(rows.adapters); });
}

}  // namespace

bool is_adapted(const Weight& w) {
  return any_adapter(w, [](const Adapter&) { return true; });
}

bool is_masked(const Weight& w) {
  return any_adapter(w, [](const Adapter& adapter) { return adapter.mask.values.defined(); });
}

Tensor mask_factors(const Mask& mask, const Tensor& values) {
  if (!mask.scores) return values;
  Tensor hard = Tensor::empty(values.shape());
  for_elements(values.elements(), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) hard.data()[i] = values.data()[i] > 0 ? 1.0f : 0.0f;
  });
  return straight_through(hard, mask.temperature > 0 ? sigmoid(affine(values, 1 / mask.temperature)) : values);
}

}  // namespace fovea::tensor

#include "fovea/tensor/ops/math/unary.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fovea/base/check.h"
#include "fovea/tensor/testing/gradient_check.h"

namespace fovea::tensor {
namespace unary_test {

struct Function {
  std::string name;
  std::function<Tensor(const Tensor&)> op;
  std::function<double(double)> twin;
};

double sigmoid_of(double x) { return 1 / (1 + std::exp(-x)); }

const Function kFunctions[] = {
    {"exp", exp, [](double x) { return std::exp(x); }},
    {"log", log, [](double x) { return std::log(x); }},
    {"sqrt", sqrt, [](double x) { return std::sqrt(x); }},
    {"square", square, [](double x) { return x * x; }},
    {"abs", abs, [](double x) { return std::abs(x); }},
    {"tanh", [](const Tensor& x) { return tanh(x); }, [](double x) { return std::tanh(x); }},
    {"sigmoid", sigmoid, sigmoid_of},
    {"relu", relu, [](double x) { return std::max(x, 0.0); }},
    {"softplus", softplus, [](double x) { return std::log(1 + std::exp(x)); }},
    {"gelu", [](const Tensor& x) { return gelu(x); },
     [](double x) { return x / 2 * (1 + std::erf(x / std::sqrt(2.0))); }},
    {"gelu by tanh", [](const Tensor& x) { return gelu(x, Gelu::kTanh); },
     [](double x) { return x / 2 * (1 + std::tanh(0.7978845608 * (x + 0.044715 * x * x * x))); }},
    {"quick gelu", [](const Tensor& x) { return gelu(x, Gelu::kQuick); },
     [](double x) { return x * sigmoid_of(1.702 * x); }},
    {"clamp", [](const Tensor& x) { return clamp(x, -0.7f, 1.3f); },
     [](double x) { return std::min(1.3, std::max(-0.7, x)); }},
    {"affine", [](const Tensor& x) { return affine(x, -3, 0.5f); }, [](double x) { return -3 * x + 0.5; }}};

// Away from the corners at 0, -0.7 and 1.3; positive where the function wants it.
Tensor values_for(const std::string& name) {
  if (name == "log" || name == "sqrt") return Tensor::from({2, 3}, std::vector<float>{0.4f, 1, 2.5f, 0.7f, 3, 1.5f});
  return Tensor::from({2, 3}, std::vector<float>{-2.1f, -0.5f, 0.3f, 0.9f, 1.1f, 2.4f});
}

TEST(Unary, IsTheFunctionAndItsGradientMeetsFiniteDifferences) {
  for (const Function& f : kFunctions) {
    SCOPED_TRACE(f.name);
    const Tensor x = values_for(f.name), y = f.op(x);
    for (int64_t i = 0; i < x.elements(); ++i)
      EXPECT_NEAR(y.data()[i], f.twin(double{x.data()[i]}), 3e-6) << x.data()[i];
    expect_gradients({x}, [&] { return f.op(x); });
  }
}

TEST(Unary, LargeValuesStayFinite) {
  const Tensor x = Tensor::from({2}, std::vector<float>{1e4f, -1e4f});
  EXPECT_EQ(softplus(x).data()[0], 1e4f);
  EXPECT_EQ(softplus(x).data()[1], 0.0f);
  EXPECT_EQ(sigmoid(x).data()[1], 0.0f);
  EXPECT_EQ(gelu(x, Gelu::kTanh).data()[0], 1e4f);
}

TEST(Unary, ClampRefusesAnEmptyRange) { EXPECT_THROW(clamp(Tensor::zeros({1}), 1, 0), CheckFailed); }

}  // namespace unary_test
}  // namespace fovea::tensor

// Test helper: tensors by name out of a golden file of tests/golden (the layout is in tools/make_op_goldens.py), and an
// op against the values and gradients that it holds.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "fovea/base/testing/paths.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/tape.h"
#include "fovea/tensor/tensor.h"

namespace fovea::tensor {

struct GoldenTensors {
  nlohmann::json header;
  std::map<std::string, Tensor> tensors;
};

inline void read_golden_tensors(const std::string& name, GoldenTensors& golden) {
  std::ifstream file(source_dir() + "/tests/golden/" + name, std::ios::binary);
  ASSERT_TRUE(file) << "tests/golden/" << name << " is missing";
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  uint32_t header_bytes = 0;
  ASSERT_GE(bytes.size(), sizeof header_bytes);
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  golden.header = nlohmann::json::parse(bytes.substr(sizeof header_bytes, header_bytes));
  for (const auto& entry : golden.header["tensors"]) {
    Tensor t = Tensor::empty(Shape(std::span<const int64_t>(entry["shape"].get<std::vector<int64_t>>())));
    const size_t at = sizeof header_bytes + header_bytes + entry["at"].get<size_t>() * sizeof(float);
    const size_t n = static_cast<size_t>(t.elements()) * sizeof(float);
    ASSERT_LE(at + n, bytes.size());
    std::memcpy(t.data(), bytes.data() + at, n);
    golden.tensors[entry["name"].get<std::string>()] = t;
  }
}

// float32 against PyTorch in double: an element may be off by a share of itself and of its tensor's typical element.
inline void expect_near_golden(const Tensor& actual, const Tensor& expected, double share, const std::string& what) {
  ASSERT_EQ(actual.shape(), expected.shape()) << what;
  double squares = 0;
  for (const float v : expected.values()) squares += double{v} * v;
  const double typical = std::sqrt(squares / static_cast<double>(expected.elements()));
  for (int64_t i = 0; i < expected.elements(); ++i) {
    const double e = expected.data()[i];
    ASSERT_NEAR(actual.data()[i], e, share * (std::abs(e) + typical)) << what << ", element " << i;
  }
}

// Case `name` of tests/golden/ops.bin: `compute` of its inputs, in the order of the file, gives its y, and with its dy
// as a seed the gradient of every input that has one.
inline void expect_op_golden(const std::string& name,
                             const std::function<Tensor(const std::vector<Tensor>&)>& compute) {
  SCOPED_TRACE(name);
  GoldenTensors golden;
  ASSERT_NO_FATAL_FAILURE(read_golden_tensors("ops.bin", golden));
  std::vector<Tensor> inputs;
  std::vector<std::string> names;
  for (const auto& entry : golden.header["tensors"]) {
    const auto full = entry["name"].get<std::string>();
    const std::string own = full.substr(full.find('/') + 1);
    if (!full.starts_with(name + "/") || own == "y" || own == "dy" || own.ends_with(".grad")) continue;
    inputs.push_back(golden.tensors.at(full));
    names.push_back(full);
  }
  ASSERT_FALSE(inputs.empty()) << "tests/golden/ops.bin has no " << name;
  Tape tape;
  for (const Tensor& input : inputs) tape.watch(input);
  Exec exec{.tape = &tape};
  const ExecScope scope(exec);
  const Tensor y = compute(inputs);
  expect_near_golden(y, golden.tensors.at(name + "/y"), 1e-5, "y");
  tape.backward(y, golden.tensors.at(name + "/dy"));
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto grad = golden.tensors.find(names[i] + ".grad");
    if (grad != golden.tensors.end()) expect_near_golden(tape.grad(inputs[i]), grad->second, 3e-5, names[i]);
  }
}

}  // namespace fovea::tensor

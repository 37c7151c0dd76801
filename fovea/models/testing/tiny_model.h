// For tests: one of the tiny models of tests/data bound to its family, run without a session.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fovea/attention/attend.h"
#include "fovea/attention/hooks.h"
#include "fovea/attention/kv_cache.h"
#include "fovea/base/testing/paths.h"
#include "fovea/models/family.h"
#include "fovea/models/support/forward.h"
#include "fovea/models/support/weights.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/ops.h"
#include "fovea/tensor/tape.h"

namespace fovea::models {

class TinyModel {
 public:
  explicit TinyModel(const std::string& name) {
    const std::string source = source_dir();
    auto opened = formats::open_model(source + "/tests/data/" + name + ".gguf");
    EXPECT_TRUE(opened.has_value()) << opened.error().message;
    source_ = std::move(opened).value();
    const auto config = read_config(*source_);
    EXPECT_TRUE(config.has_value()) << config.error().message;
    family_ = make_family(*config);
    for (const Error& problem : bind_weights(*source_, *family_)) ADD_FAILURE() << problem.message;
    std::ifstream file(source + "/tests/golden/logits/" + name + ".json");
    golden_ = nlohmann::json::parse(file);
    ids_ = golden_["ids"].get<std::vector<int32_t>>();
  }

  const attention::ModelShape& shape() const { return family_->config().shape; }
  Family& family() const { return *family_; }
  const std::vector<int32_t>& ids() const { return ids_; }
  double golden_logit(size_t token, size_t id) const { return golden_["logits"][token][id].get<double>(); }

  // All logits of `ids`, [n, vocab_size]; without a cache, every key comes from this call. With a pipeline the second
  // half are generated tokens of one pass.
  tensor::Tensor logits(std::span<const int32_t> ids, attention::KvCache* cache, attention::Hooks& hooks,
                        attention::Pipeline* pipeline = nullptr) const {
    const size_t n_prompt = pipeline ? ids.size() / 2 : ids.size();
    if (pipeline) pipeline->remove(0);
    attention::Batch batch;
    batch.add(ids.first(n_prompt), 0, 0);
    batch.add(ids.subspan(n_prompt), static_cast<int32_t>(n_prompt), 0, attention::Phase::kDecode);
    for (int32_t i = 0; i < batch.size(); ++i) batch.logit_rows.push_back(i);
    return forward(
        *family_,
        {.model = shape(), .ropes = family_->config().ropes, .batch = batch, .cache = cache, .pipeline = pipeline},
        hooks);
  }
  tensor::Tensor logits(std::span<const int32_t> ids, attention::Pipeline* pipeline = nullptr) const {
    attention::KvCache cache(attention::CacheShape::of(shape(), kernels::KvType::kF32));
    attention::Hooks hooks(shape().n_layers);
    return logits(ids, &cache, hooks, pipeline);
  }

  // The logits of the golden prompt against those of transformers.
  void expect_golden_logits() const {
    tensor::Exec exec{.arena = nullptr, .numerics = tensor::Numerics::kExact};
    tensor::ExecScope scope(exec);
    const tensor::Tensor found = logits(ids_);
    double worst = 0;
    for (int64_t t = 0; t < found.dim(0); ++t) {
      for (int64_t v = 0; v < found.dim(1); ++v) {
        worst = std::max(worst, std::abs(found.data()[t * found.dim(1) + v] -
                                         golden_logit(static_cast<size_t>(t), static_cast<size_t>(v))));
      }
    }
    EXPECT_LT(worst, 1e-4);  // the oracle itself moves by some 6e-6 between float32 and float64
  }

  // Every weight as a float32 parameter: the loss of the prompt's first n tokens, and its slope along each gradient.
  // Those of the pipeline's methods too. The loss without a tape goes through the cache.
  void expect_gradients_meet_finite_differences(size_t n = 12, attention::Pipeline* pipeline = nullptr) {
    std::vector<tensor::Tensor> parameters;  // on the heap: the family keeps them
    std::vector<std::string> names;
    std::vector<tensor::Parameter> table = family_->weights();
    for (size_t m = 0; pipeline && m < pipeline->methods().size(); ++m) {
      const auto own = pipeline->methods()[m]->parameters();
      table.insert(table.end(), own.begin(), own.end());
    }
    for (const tensor::Parameter& spec : table) {
      if (!spec.target->defined()) continue;
      parameters.push_back(tensor::weight_values(*spec.target));
      names.push_back(spec.name);
      *spec.target = tensor::Weight::from(spec.name, parameters.back());
    }
    tensor::Arena arena;  // before the tape, whose gradients live in it
    const std::span<const int32_t> ids(ids_.data(), n);
    std::vector<int32_t> targets(ids.begin() + 1, ids.end());
    targets.push_back(-1);
    attention::Hooks hooks(shape().n_layers);
    tensor::Tape tape;
    for (const tensor::Tensor& p : parameters) tape.watch(p);
    tensor::Exec taped{.arena = &arena, .tape = &tape};
    {
      tensor::ExecScope scope(taped);
      tape.backward(cross_entropy(logits(ids, nullptr, hooks, pipeline), targets).mean());
    }
    const auto loss = [&] {
      tensor::Exec exec{.arena = &arena, .numerics = tensor::Numerics::kExact};
      tensor::ExecScope scope(exec);
      return static_cast<double>(cross_entropy(logits(ids, pipeline), targets).mean().data()[0]);
    };
    for (size_t i = 0; i < parameters.size(); ++i) {
      tensor::Tensor& p = parameters[i];
      const tensor::Tensor& gradient = tape.grad(p);
      double squares = 0, size = 0;
      for (const float g : gradient.values()) squares += static_cast<double>(g) * g;
      for (const float x : p.values()) size += static_cast<double>(x) * x;
      const double norm = std::sqrt(squares);
      ASSERT_GT(norm, 0.0) << names[i] << " has no gradient";
      // A step along the gradient changes the loss by norm * step. The step moves the loss by far
      // more than its rounding (about 1e-6), and keeps the cubic term under a percent.
      const double step = 0.002 * std::max(std::sqrt(size), 1.0);
      const std::vector<float> before(p.values().begin(), p.values().end());
      const auto at = [&](double shift) {
        for (size_t j = 0; j < before.size(); ++j)
          p.data()[j] = static_cast<float>(before[j] + shift * gradient.data()[j] / norm);
        return loss();
      };
      const double slope = (at(step) - at(-step)) / (2 * step);
      std::copy(before.begin(), before.end(), p.data());
      EXPECT_NEAR(slope, norm, 0.02 * norm + 1e-6 / step) << names[i];
    }
  }

 private:
  std::shared_ptr<const formats::ModelSource> source_;
  std::unique_ptr<Family> family_;
  nlohmann::json golden_;
  std::vector<int32_t> ids_;
};

}  // namespace fovea::models

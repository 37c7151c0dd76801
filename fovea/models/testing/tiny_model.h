// For tests: one of the tiny models of tests/data bound to its family, run without a session. The folders of
// tests/data/families have their goldens beside them.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
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
#include "fovea/models/testing/gradients.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/ops/ops.h"
#include "fovea/tensor/tape.h"

namespace fovea::models {

class TinyModel {
 public:
  // `all_experts`: every token goes to all of them, so that no step of a finite difference changes where one goes.
  explicit TinyModel(const std::string& name, bool all_experts = false) {
    const std::string tests = source_dir() + "/tests", folder = tests + "/data/families/" + name;
    const bool in_folder = std::filesystem::is_directory(folder);
    auto opened = formats::open_model(in_folder ? folder : tests + "/data/" + name + ".gguf");
    EXPECT_TRUE(opened.has_value()) << opened.error().message;
    source_ = std::move(opened).value();
    auto config = read_config(*source_);
    EXPECT_TRUE(config.has_value()) << config.error().message;
    if (all_experts) config->experts.used = config->experts.n;
    family_ = make_family(*config);
    for (const Error& problem : bind_weights(*source_, *family_)) ADD_FAILURE() << problem.message;
    std::ifstream file(in_folder ? folder + "/golden.json" : tests + "/golden/logits/" + name + ".json");
    golden_ = nlohmann::json::parse(file);
    ids_ = golden_["ids"].get<std::vector<int32_t>>();
    for (size_t row = 0; row < golden_["logits"].size(); ++row)
      rows_.push_back(golden_.contains("rows") ? golden_["rows"][row].get<int64_t>() : static_cast<int64_t>(row));
  }

  const attention::ModelShape& shape() const { return family_->config().shape; }
  Family& family() const { return *family_; }
  const std::vector<int32_t>& ids() const { return ids_; }
  double golden_logit(size_t row, size_t id) const { return golden_["logits"][row][id].get<double>(); }

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
    attention::Hooks hooks(family_->hooks());
    return logits(ids, &cache, hooks, pipeline);
  }

  // What every hook sees of the first n golden ids, by name.
  std::map<std::string, std::vector<float>> captured(size_t n) const {
    tensor::Exec exec{.arena = nullptr, .numerics = tensor::Numerics::kExact};
    tensor::ExecScope scope(exec);
    attention::KvCache cache(attention::CacheShape::of(shape(), kernels::KvType::kF32));
    attention::Hooks hooks(family_->hooks());
    std::map<std::string, std::vector<float>> seen;
    EXPECT_TRUE(hooks
                    .attach("*", [&](const std::string& name,
                                     tensor::Tensor& x) { seen[name].assign(x.values().begin(), x.values().end()); })
                    .has_value());
    logits(std::span(ids_).first(n), &cache, hooks);
    return seen;
  }

  // The logits of the golden prompt against those of transformers.
  void expect_golden_logits() const {
    tensor::Exec exec{.arena = nullptr, .numerics = tensor::Numerics::kExact};
    tensor::ExecScope scope(exec);
    const tensor::Tensor found = logits(ids_);
    ASSERT_FALSE(rows_.empty());
    double worst = 0;
    for (size_t row = 0; row < rows_.size(); ++row) {
      for (int64_t v = 0; v < found.dim(1); ++v) {
        worst = std::max(
            worst, std::abs(found.data()[rows_[row] * found.dim(1) + v] - golden_logit(row, static_cast<size_t>(v))));
      }
    }
    EXPECT_LT(worst, 1e-4);  // the oracle itself moves by some 6e-6 between float32 and float64
  }

  // Every weight, those of the pipeline's methods too, becomes a float32 parameter, on which the model runs from here
  // on.
  std::vector<std::pair<std::string, tensor::Tensor>> trainable(attention::Pipeline* pipeline = nullptr) {
    std::vector<std::pair<std::string, tensor::Tensor>> parameters;
    std::vector<tensor::Parameter> table = family_->weights();
    for (size_t m = 0; pipeline && m < pipeline->methods().size(); ++m) {
      const auto own = pipeline->methods()[m]->parameters();
      table.insert(table.end(), own.begin(), own.end());
    }
    for (const tensor::Parameter& spec : table) {
      if (!spec.target->defined() || spec.fixed) continue;
      parameters.emplace_back(spec.name, tensor::weight_values(*spec.target));
      *spec.target = tensor::Weight::from(spec.name, parameters.back().second);
    }
    return parameters;
  }
  // The mean of the prompt's first tokens; on the tape without a cache, else through one.
  tensor::Tensor loss(attention::Hooks& hooks, size_t n = 12, attention::Pipeline* pipeline = nullptr) const {
    const std::span<const int32_t> ids(ids_.data(), n);
    std::vector<int32_t> targets(ids.begin() + 1, ids.end());
    targets.push_back(-1);
    attention::KvCache cache(attention::CacheShape::of(shape(), kernels::KvType::kF32));
    return cross_entropy(logits(ids, tensor::current_tape() ? nullptr : &cache, hooks, pipeline), targets).mean();
  }
  void expect_gradients_meet_finite_differences(size_t n = 12, attention::Pipeline* pipeline = nullptr) {
    auto parameters = trainable(pipeline);
    attention::Hooks hooks(family_->hooks());
    // The clamps of gpt-oss have corners, some of them within a step.
    const bool corners = family_->config().decoder.activation == tensor::Activation::kClampedSwiglu;
    expect_gradients(
        parameters, [&] { return loss(hooks, n, pipeline); }, corners ? 0.05 : 0.02);
  }

 private:
  std::shared_ptr<const formats::ModelSource> source_;
  std::unique_ptr<Family> family_;
  nlohmann::json golden_;
  std::vector<int32_t> ids_;
  std::vector<int64_t> rows_;  // whose logits are golden
};

}  // namespace fovea::models

// For tests: one of the tiny encoders of tests/data/encoders, bound to its family and run without a session.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fovea/attention/hooks.h"
#include "fovea/attention/kv_cache.h"
#include "fovea/base/testing/paths.h"
#include "fovea/models/family.h"
#include "fovea/models/support/forward.h"
#include "fovea/models/support/weights.h"
#include "fovea/tensor/exec.h"

namespace fovea::models {

class TinyEncoder {
 public:
  explicit TinyEncoder(const std::string& name) {
    auto opened = formats::open_model(source_dir() + "/tests/data/encoders/" + name);
    EXPECT_TRUE(opened.has_value()) << opened.error().message;
    source_ = std::move(opened).value();
    auto made = make_family(*source_);
    EXPECT_TRUE(made.has_value()) << made.error().message;
    family_ = std::move(made).value();
    for (const Error& problem : bind_weights(*source_, *family_)) ADD_FAILURE() << problem.message;
  }
  Family& family() const { return *family_; }
  const attention::ModelShape& shape() const { return family_->config().shape; }

  // [ids, d_model]; without a cache, every key comes from this call, as on the tape.
  tensor::Tensor hidden(const std::vector<int32_t>& ids, bool with_cache) const {
    attention::KvCache cache(attention::CacheShape::of(shape(), kernels::KvType::kF32));
    attention::Hooks hooks(family_->hooks());
    return run(ids, with_cache ? &cache : nullptr, hooks);
  }
  // What every hook sees, by name.
  std::map<std::string, std::vector<float>> captured(const std::vector<int32_t>& ids) const {
    attention::KvCache cache(attention::CacheShape::of(shape(), kernels::KvType::kF32));
    attention::Hooks hooks(family_->hooks());
    std::map<std::string, std::vector<float>> seen;
    const auto see = [&](const std::string& name, tensor::Tensor& x) {
      seen[name].assign(x.values().begin(), x.values().end());
    };
    EXPECT_TRUE(hooks.attach("*", see).has_value());
    run(ids, &cache, hooks);
    return seen;
  }

 private:
  tensor::Tensor run(const std::vector<int32_t>& ids, attention::KvCache* cache, attention::Hooks& hooks) const {
    tensor::Exec exec{.arena = nullptr, .numerics = tensor::Numerics::kExact};
    tensor::ExecScope scope(exec);
    attention::Batch batch;
    batch.add(ids, 0, 0);
    return forward(*family_, {.model = shape(), .ropes = family_->config().ropes, .batch = batch, .cache = cache},
                   hooks, {.to_hidden = true});
  }

  std::shared_ptr<const formats::ModelSource> source_;
  std::unique_ptr<Family> family_;
};

}  // namespace fovea::models

// The keys of one KV head and the queries of its group, with everything that an attention kernel needs.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/kernels/attention.h"

namespace fovea::bench {

struct PageFreed {
  void operator()(void* p) const { ::operator delete (p, std::align_val_t{64}); }
};
using PageBytes = std::unique_ptr<void, PageFreed>;
inline PageBytes allocate_page(size_t n) { return PageBytes(::operator new (n, std::align_val_t{64})); }

// The queries are at the end of the list.
class Head {
 public:
  Head(kernels::KvType type, int group, int64_t n_queries, int64_t n_keys, int head_dim = 64) {
    Rng rng(1);
    std::vector<float> k(static_cast<size_t>(head_dim)), v(k.size());
    const int64_t n_pages = (n_keys + kernels::kPageKeys - 1) / kernels::kPageKeys;
    positions_.resize(static_cast<size_t>(n_pages * kernels::kPageKeys), kernels::kNoPosition);
    for (int64_t i = 0; i < n_keys; ++i) {
      if (i % kernels::kPageKeys == 0) {
        const size_t k_bytes = kernels::key_bytes(type, head_dim);
        pages_.push_back(allocate_page(k_bytes + kernels::value_bytes(type, head_dim)));
        auto* page = static_cast<std::byte*>(pages_.back().get());
        blocks_.push_back({page, page + k_bytes, positions_.data() + i});
      }
      for (float& x : k) x = static_cast<float>(rng.normal());
      for (float& x : v) x = static_cast<float>(rng.normal());
      const auto slot = static_cast<int>(i % kernels::kPageKeys);
      auto* page = static_cast<std::byte*>(pages_.back().get());
      kernels::key_write(page, type, head_dim, slot, k.data());
      kernels::value_write(page + kernels::key_bytes(type, head_dim), type, head_dim, slot, v.data());
      positions_[static_cast<size_t>(i)] = static_cast<int32_t>(i);
    }
    q_.resize(static_cast<size_t>(n_queries * group * head_dim));
    for (float& x : q_) x = static_cast<float>(rng.normal());
    for (int64_t i = 0; i < n_queries; ++i) q_pos_.push_back(static_cast<int32_t>(n_keys - n_queries + i));
    z_.resize(q_.size());
    args_.k_type = args_.v_type = type;
    args_.k_dim = args_.v_dim = head_dim;
    args_.group = group;
    args_.scale = 1 / std::sqrt(static_cast<float>(head_dim));
    args_.n_queries = n_queries;
    args_.q = q_.data();
    args_.ld_q = group * head_dim;
    args_.q_pos = q_pos_.data();
    args_.blocks = blocks_.data();
    args_.n_blocks = n_pages;
    args_.z = z_.data();
    args_.ld_z = group * head_dim;
    scratch_ = allocate_page(kernels::attention_scratch_bytes(args_));
    args_.scratch = scratch_.get();
  }

  void run() const { kernels::attention(args_); }
  const std::vector<float>& z() const { return z_; }
  double flops() const {
    double keys = 0;
    for (int32_t p : q_pos_) keys += p + 1;
    return 4.0 * keys * args_.k_dim * args_.group;
  }
  double bytes() const {
    return static_cast<double>(blocks_.size() * (kernels::key_bytes(args_.k_type, args_.k_dim) +
                                                 kernels::value_bytes(args_.v_type, args_.v_dim)));
  }

 private:
  std::vector<PageBytes> pages_;
  std::vector<int32_t> positions_;
  std::vector<kernels::KeyBlock> blocks_;
  std::vector<float> q_, z_;
  std::vector<int32_t> q_pos_;
  PageBytes scratch_;
  kernels::AttentionArgs args_;
};

}  // namespace fovea::bench

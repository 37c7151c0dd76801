// For tests of the attention kernels: made-up pages and queries, and their slow twin in plain loops with double sums.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/kernels/attention.h"

namespace fovea::kernels {

inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

inline void on_every_isa(const std::function<void()>& body) {
  const Isa before = active_isa();
  for (int i = 0; i < kIsas; ++i) {
    if (!machine_has(static_cast<Isa>(i))) continue;
    set_isa(static_cast<Isa>(i));
    SCOPED_TRACE(std::string(name_of(static_cast<Isa>(i))));
    body();
  }
  set_isa(before);
}

struct Freed {
  void operator()(float* p) const { ::operator delete (p, std::align_val_t{64}); }
};

// A list of pages with n_keys keys at rising positions, and queries. `dead` slots are left out.
struct Problem {
  KvType type, v_type;
  int head_dim, v_dim, group;
  int64_t n_queries;
  std::vector<std::vector<float>> k_pages, v_pages;
  std::vector<std::vector<int32_t>> positions;
  std::vector<KeyBlock> blocks;
  std::vector<float> q;
  std::vector<int32_t> q_pos;
  std::vector<KeyRule> head_rules;
  std::vector<std::vector<uint32_t>> masks;  // by block, [group, n_queries]; an empty one hides nothing
  mutable std::vector<const uint32_t*> mask_pointers;
  KeyRule rule;
  float scale, softcap = 0;

  Problem(KvType t, int dim, int g, int64_t queries, int n_keys, uint64_t seed, double dead_share = 0)
      : Problem(t, t, dim, dim, g, queries, n_keys, seed, dead_share) {}
  Problem(KvType kt, KvType vt, int dim, int value_dim, int g, int64_t queries, int n_keys, uint64_t seed,
          double dead_share = 0)
      : type(kt),
        v_type(vt),
        head_dim(dim),
        v_dim(value_dim),
        group(g),
        n_queries(queries),
        scale(1.0f / std::sqrt(static_cast<float>(dim))) {
    Rng rng(seed);
    int32_t position = 0;
    std::vector<float> k(static_cast<size_t>(dim)), v(static_cast<size_t>(v_dim));
    for (int i = 0; i < n_keys; ++i) {
      if (i % kPageKeys == 0) {
        k_pages.emplace_back((key_bytes(type, dim) + 3) / 4);
        v_pages.emplace_back((value_bytes(v_type, v_dim) + 3) / 4);
        positions.emplace_back(kPageKeys, kNoPosition);
      }
      position += 1 + static_cast<int32_t>(rng.below(2));
      for (float& x : k) x = static_cast<float>(rng.normal());
      for (float& x : v) x = static_cast<float>(rng.normal());
      put(i, position, k, v);
      if (rng.uniform() < dead_share) positions.back()[static_cast<size_t>(i % kPageKeys)] = kNoPosition;
    }
    for (size_t b = 0; b < k_pages.size(); ++b)
      blocks.push_back({k_pages[b].data(), v_pages[b].data(), positions[b].data()});
    q.resize(static_cast<size_t>(queries * g * dim));
    for (float& x : q) x = static_cast<float>(2 * rng.normal());
    q_pos.resize(static_cast<size_t>(queries));
    for (int32_t& p : q_pos) p = static_cast<int32_t>(rng.below(static_cast<uint64_t>(position) + 3));
    std::sort(q_pos.begin(), q_pos.end());
  }

  void put(int key, int32_t position, const std::vector<float>& k, const std::vector<float>& v) {
    const size_t page = static_cast<size_t>(key / kPageKeys);
    key_write(k_pages[page].data(), type, head_dim, key % kPageKeys, k.data());
    value_write(v_pages[page].data(), v_type, v_dim, key % kPageKeys, v.data());
    positions[page][static_cast<size_t>(key % kPageKeys)] = position;
  }
  void random_mask(uint64_t seed) {
    Rng rng(seed);
    masks.resize(blocks.size());
    for (auto& mask : masks) {
      if (rng.below(3) == 0) continue;
      mask.resize(static_cast<size_t>(n_queries * group));
      for (uint32_t& bits : mask) {
        const uint64_t kind = rng.below(4);
        bits = kind == 0 ? 0u : kind == 1 ? ~0u : static_cast<uint32_t>(rng.next());
      }
    }
  }

  AttentionArgs args() const {
    AttentionArgs a;
    a.k_type = type, a.v_type = v_type;
    a.k_dim = head_dim, a.v_dim = v_dim;
    a.group = group;
    a.softcap = softcap;
    a.scale = scale;
    a.n_queries = n_queries;
    a.q = q.data();
    a.ld_q = group * head_dim;
    a.q_pos = q_pos.data();
    a.blocks = blocks.data();
    a.n_blocks = static_cast<int64_t>(blocks.size());
    a.rule = rule;
    a.head_rules = head_rules.empty() ? nullptr : head_rules.data();
    mask_pointers.clear();
    for (const auto& mask : masks) mask_pointers.push_back(mask.empty() ? nullptr : mask.data());
    a.masks = masks.empty() ? nullptr : mask_pointers.data();
    a.ld_z = group * v_dim;
    return a;
  }

  bool sees(int64_t query, int head, size_t block, int slot) const {
    const KeyRule& r = head_rules.empty() ? rule : head_rules[static_cast<size_t>(head)];
    const int32_t key = positions[block][static_cast<size_t>(slot)];
    const int32_t at = q_pos[static_cast<size_t>(query)];
    if (key == kNoPosition || int64_t{key} > int64_t{at} + r.ahead) return false;
    if (!(key < r.n_sink || int64_t{key} > int64_t{at} - r.window)) return false;
    if (masks.empty() || masks[block].empty()) return true;
    return masks[block][static_cast<size_t>(head * n_queries + query)] >> slot & 1;
  }
};

struct Answer {
  std::vector<float> z, lse;
  bool operator==(const Answer& other) const {  // to the bit
    return z.size() == other.z.size() && std::memcmp(z.data(), other.z.data(), z.size() * 4) == 0 &&
           std::memcmp(lse.data(), other.lse.data(), lse.size() * 4) == 0;
  }
};

// Queries in calls of `chunk` each.
inline Answer run(const Problem& p, int64_t chunk) {
  Answer answer;
  answer.z.assign(static_cast<size_t>(p.n_queries * p.group * p.v_dim), 77.0f);
  answer.lse.assign(static_cast<size_t>(p.n_queries * p.group), 77.0f);
  for (int64_t begin = 0; begin < p.n_queries; begin += chunk) {
    AttentionArgs a = p.args();
    a.n_queries = std::min(chunk, p.n_queries - begin);
    a.q += begin * a.ld_q;
    a.q_pos += begin;
    // The chunk's columns of every mask.
    std::vector<std::vector<uint32_t>> cut(p.masks.size());
    std::vector<const uint32_t*> pointers(p.masks.size());
    for (size_t b = 0; b < cut.size(); ++b) {
      if (p.masks[b].empty()) continue;
      for (int h = 0; h < p.group; ++h) {
        const auto from = p.masks[b].begin() + h * p.n_queries + begin;
        cut[b].insert(cut[b].end(), from, from + a.n_queries);
      }
      pointers[b] = cut[b].data();
    }
    if (a.masks) a.masks = pointers.data();
    a.z = answer.z.data() + begin * a.ld_z;
    a.lse = answer.lse.data() + begin * a.group;
    const size_t bytes = attention_scratch_bytes(a);
    std::unique_ptr<float, Freed> scratch(static_cast<float*>(::operator new (bytes + 64, std::align_val_t{64})));
    std::memset(scratch.get(), 0xff, bytes + 64);  // NaN
    a.scratch = scratch.get();
    attention(a);
    for (size_t i = bytes; i < bytes + 64; ++i) {
      EXPECT_EQ(reinterpret_cast<unsigned char*>(scratch.get())[i], 0xff) << "wrote past its scratch";
    }
  }
  return answer;
}

struct Twin {
  std::vector<double> z, lse, scores;  // scores [query][head][block * kPageKeys + slot]
};

inline Twin twin_of(const Problem& p) {
  const auto dim = static_cast<size_t>(p.head_dim), v_dim = static_cast<size_t>(p.v_dim);
  const size_t n_slots = p.blocks.size() * kPageKeys;
  std::vector<float> k(dim * n_slots), v(v_dim * n_slots);
  for (size_t i = 0; i < n_slots; ++i) {
    const int slot = static_cast<int>(i % kPageKeys);
    key_read(p.blocks[i / kPageKeys].k, p.type, p.head_dim, slot, &k[i * dim]);
    value_read(p.blocks[i / kPageKeys].v, p.v_type, p.v_dim, slot, &v[i * v_dim]);
  }
  Twin twin;
  for (int64_t query = 0; query < p.n_queries; ++query) {
    for (int head = 0; head < p.group; ++head) {
      const float* q = p.q.data() + (query * p.group + head) * p.head_dim;
      std::vector<double> scores(n_slots, -kInf), z(v_dim, 0.0);
      double top = -kInf, total = 0;
      for (size_t i = 0; i < n_slots; ++i) {
        if (!p.sees(query, head, i / kPageKeys, static_cast<int>(i % kPageKeys))) continue;
        double product = 0;
        for (size_t d = 0; d < dim; ++d) product += double{q[d]} * k[i * dim + d];
        scores[i] = product * p.scale;
        if (p.softcap > 0) scores[i] = p.softcap * std::tanh(scores[i] / p.softcap);
        top = std::max(top, scores[i]);
      }
      for (size_t i = 0; i < n_slots; ++i) {
        if (scores[i] == -kInf) continue;
        const double weight = std::exp(scores[i] - top);
        total += weight;
        for (size_t d = 0; d < v_dim; ++d) z[d] += weight * v[i * v_dim + d];
      }
      for (double& x : z) x = total == 0 ? 0 : x / total;
      twin.z.insert(twin.z.end(), z.begin(), z.end());
      twin.lse.push_back(top + std::log(total));
      twin.scores.insert(twin.scores.end(), scores.begin(), scores.end());
    }
  }
  return twin;
}

// The largest code of a query and of a weight; 0: they stay floats.
inline double most_codes(KvType type) { return type == KvType::kI16 ? 8191 : type == KvType::kQ8_0 ? 32767 : 0; }

// How far a score may be off. A query is rounded in steps of its largest element (here up to 8) over its largest code:
// six standard deviations of a uniform error, times the length of a key and the scale, which is 1.
inline double score_tolerance(const Problem& p) {
  return p.type == KvType::kF32 ? 1e-5 : 6.0 * 8.0 / most_codes(p.type) / std::sqrt(12.0);
}

inline void expect_agrees(const Problem& p) {
  const Twin want = twin_of(p);
  const Answer got = run(p, p.n_queries);
  const double near = score_tolerance(p);
  // Weights are rounded too, in steps of the largest / 8191 or 32767: a hundred are off by 4e-4 or 1e-4 together.
  const double near_z = p.type == KvType::kF32 ? 1e-5 : 2 * near + 8.0 / most_codes(p.v_type);
  for (size_t i = 0; i < want.z.size(); ++i) ASSERT_NEAR(got.z[i], want.z[i], near_z) << i;
  for (size_t i = 0; i < want.lse.size(); ++i) {
    if (want.lse[i] == -kInf) {
      ASSERT_EQ(got.lse[i], -kInf);
    } else {
      ASSERT_NEAR(got.lse[i], want.lse[i], near) << i;
    }
  }
  const int64_t n_slots = static_cast<int64_t>(p.blocks.size()) * kPageKeys, ld = n_slots + 3;
  std::vector<float> scores(static_cast<size_t>(p.n_queries * ld));
  AttentionArgs a = p.args();
  std::unique_ptr<float, Freed> scratch(
      static_cast<float*>(::operator new (attention_scratch_bytes(a), std::align_val_t{64})));
  a.scratch = scratch.get();
  for (int head = 0; head < p.group; ++head) {
    attention_scores(a, head, scores.data(), ld);
    for (int64_t query = 0; query < p.n_queries; ++query) {
      for (int64_t i = 0; i < n_slots; ++i) {
        const double s = want.scores[static_cast<size_t>((query * p.group + head) * n_slots + i)];
        const float one = scores[static_cast<size_t>(query * ld + i)];
        if (s == -kInf) {
          ASSERT_EQ(one, -kInf);
        } else {
          ASSERT_NEAR(one, s, near * std::max(1.0, std::abs(s)));
        }
      }
    }
  }
}

inline constexpr KvType kTypes[] = {KvType::kF32, KvType::kI16, KvType::kQ8_0};
inline constexpr KvType kCodeTypes[] = {KvType::kI16, KvType::kQ8_0};
inline constexpr int kDims[] = {8, 24, 64, 80, 128, 256};

}  // namespace fovea::kernels

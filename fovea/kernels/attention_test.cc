#include "fovea/kernels/attention.h"

#include <gmock/gmock.h>
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

#include "fovea/base/check.h"
#include "fovea/base/random.h"

namespace fovea::kernels {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

void on_every_isa(const std::function<void()>& body) {
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
Answer run(const Problem& p, int64_t chunk) {
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

Twin twin_of(const Problem& p) {
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
double most_codes(KvType type) { return type == KvType::kI16 ? 8191 : type == KvType::kQ8_0 ? 32767 : 0; }

// How far a score may be off. A query is rounded in steps of its largest element (here up to 8) over its largest code:
// six standard deviations of a uniform error, times the length of a key and the scale, which is 1.
double score_tolerance(const Problem& p) {
  return p.type == KvType::kF32 ? 1e-5 : 6.0 * 8.0 / most_codes(p.type) / std::sqrt(12.0);
}

void expect_agrees(const Problem& p) {
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

constexpr KvType kTypes[] = {KvType::kF32, KvType::kI16, KvType::kQ8_0};
constexpr KvType kCodeTypes[] = {KvType::kI16, KvType::kQ8_0};
constexpr int kDims[] = {8, 24, 64, 80, 128, 256};

TEST(Attention, UsesTheInstructionSetThatWasChosen) {
  on_every_isa([] { EXPECT_EQ(attention.used(), active_isa()); });
}

TEST(Attention, AgreesWithDoublesForEveryShape) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      for (int dim : kDims) {
        for (int group : {1, 2, 3, 7}) {
          SCOPED_TRACE("head_dim " + std::to_string(dim) + " group " + std::to_string(group));
          expect_agrees(Problem(type, dim, group, 9, 110, 5));
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  });
}

TEST(Attention, AgreesWithDoublesForEveryNumberOfKeysAtOddAddresses) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      for (int n_keys : {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 257}) {
        SCOPED_TRACE(n_keys);
        Problem p(type, 64, 3, 2, n_keys, 7);
        p.q_pos = {0, 1000};
        expect_agrees(p);
        const Answer want = run(p, 2);
        AttentionArgs a = p.args();
        std::vector<float> q(p.q.size() + 1), z(p.q.size() + 1), scratch(attention_scratch_bytes(a) / 4 + 32);
        std::copy(p.q.begin(), p.q.end(), q.begin() + 1);
        a.q = q.data() + 1;
        a.z = z.data() + 1;
        void* aligned = scratch.data();
        size_t room = scratch.size() * 4;
        a.scratch = std::align(64, attention_scratch_bytes(a), aligned, room);
        attention(a);
        EXPECT_EQ(std::vector<float>(z.begin() + 1, z.end()), want.z);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  });
}

TEST(Attention, KeysAndValuesHaveTypesAndWidthsOfTheirOwn) {
  on_every_isa([] {
    for (KvType k : kCodeTypes) {
      for (KvType v : kCodeTypes) {
        for (const auto& [k_dim, v_dim] : {std::pair(32, 256), std::pair(256, 24), std::pair(80, 64)})
          expect_agrees(Problem(k, v, k_dim, v_dim, 2, 7, 150, 8, 0.1));
      }
    }
    expect_agrees(Problem(KvType::kF32, KvType::kF32, 40, 104, 3, 7, 150, 8, 0.1));
    expect_agrees(Problem(KvType::kF32, KvType::kF32, 128, 24, 3, 7, 150, 8));
  });
}

TEST(Attention, ARowMaySeeAhead) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      Problem p(type, 64, 2, 9, 170, 19);
      for (int32_t ahead : {1, 7, 40, INT32_MAX}) {
        p.rule = {.ahead = ahead};
        expect_agrees(p);
        p.rule = {.n_sink = 3, .window = 20, .ahead = ahead};
        expect_agrees(p);
      }
      p.rule = {.n_sink = 5, .window = 0};  // the sinks only
      expect_agrees(p);
    }
  });
}

TEST(Attention, CapsItsScores) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      for (float cap : {0.5f, 5.0f, 50.0f}) {
        Problem p(type, 64, 2, 9, 170, 20);
        p.softcap = cap;
        expect_agrees(p);
        p.random_mask(3);
        expect_agrees(p);
      }
    }
  });
}

TEST(Attention, WeighsValuesByWeightsGiven) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      Problem p(type, type, 64, 40, 3, 5, 90, 21);
      p.q_pos = {3, 40, 60, 1000, 1001};
      const Twin want = twin_of(p);
      const auto n_slots = static_cast<int64_t>(p.blocks.size()) * kPageKeys;
      std::vector<float> weights(static_cast<size_t>(5 * n_slots)), z(static_cast<size_t>(5 * 3 * 40), 77.0f);
      AttentionArgs a = p.args();
      a.z = z.data();
      a.scratch = z.data();  // not used
      for (int head = 0; head < 3; ++head) {
        for (int64_t i = 0; i < 5; ++i) {
          const auto row = static_cast<size_t>(i * 3 + head);
          for (int64_t j = 0; j < n_slots; ++j) {
            weights[static_cast<size_t>(i * n_slots + j)] = static_cast<float>(
                std::exp(want.scores[row * static_cast<size_t>(n_slots) + static_cast<size_t>(j)] - want.lse[row]));
          }
        }
        attention_values(a, head, weights.data(), n_slots);
      }
      for (size_t i = 0; i < z.size(); ++i) ASSERT_NEAR(z[i], want.z[i], 1e-5);
    }
  });
}

TEST(Attention, SumsWhatRowsGiveEachKey) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      Problem p(type, 64, 3, 40, 170, 22, 0.1);
      p.random_mask(5);
      const Twin want = twin_of(p);
      const Answer got = run(p, p.n_queries);
      const size_t n_slots = p.blocks.size() * kPageKeys;
      AttentionArgs a = p.args();
      std::unique_ptr<float, Freed> scratch(
          static_cast<float*>(::operator new (attention_scratch_bytes(a), std::align_val_t{64})));
      a.scratch = scratch.get();
      for (int head = 0; head < 3; ++head) {
        std::vector<float> sums(n_slots, 1.0f);
        attention_columns(a, head, got.lse.data(), sums.data());
        for (size_t j = 0; j < n_slots; ++j) {
          double sum = 1.0;
          for (size_t i = 0; i < 40; ++i) {
            const size_t row = i * 3 + static_cast<size_t>(head);
            if (want.lse[row] != -kInf) sum += std::exp(want.scores[row * n_slots + j] - want.lse[row]);
          }
          ASSERT_NEAR(sums[j], sum, 40 * (type == KvType::kF32 ? 1e-6 : score_tolerance(p)));
        }
      }
    }
  });
}

TEST(Attention, DecodesOneQuery) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      for (int group = 1; group <= 26; ++group) {
        Problem p(type, 64, group, 1, 150, 6);
        p.q_pos[0] = 1000;
        expect_agrees(p);
      }
    }
  });
}

TEST(Attention, KeepsRulesOfHeadsMasksAndDeadSlots) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      for (uint64_t seed = 1; seed <= 6; ++seed) {
        SCOPED_TRACE(seed);
        Problem p(type, 64, 3, 40, 170 + static_cast<int>(seed), seed, 0.3);
        expect_agrees(p);
        p.rule = {.n_sink = 4, .window = 30};
        expect_agrees(p);
        p.head_rules = {{}, {.n_sink = 0, .window = 1}, {.n_sink = 70, .window = 12}};
        expect_agrees(p);
        p.random_mask(seed);
        expect_agrees(p);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  });
}

TEST(Attention, ARowThatSeesNothingIsZero) {
  on_every_isa([] {
    Problem p(KvType::kI16, 64, 2, 3, 70, 3);
    p.q_pos = {0, 0, 50};
    const Answer got = run(p, 3);
    for (size_t i = 0; i < 2 * 2 * 64; ++i) EXPECT_EQ(got.z[i], 0.0f);
    EXPECT_THAT(std::vector<float>(got.lse.begin(), got.lse.begin() + 4), testing::Each(-kInf));
    EXPECT_GT(got.lse[4], -kInf);
    p.blocks.clear();
    EXPECT_THAT(run(p, 3).z, testing::Each(0.0f));
  });
}

TEST(Attention, ChunksOfQueriesChangeNoBit) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      for (int dim : {8, 64, 80}) {
        for (int group : {1, 3, 7}) {
          Problem p(type, dim, group, 75, 300, 11, 0.1);
          if (group == 3) p.head_rules = {{}, {.n_sink = 3, .window = 9}, {.n_sink = 0, .window = 65}};
          if (group == 7) p.random_mask(4);
          const Answer whole = run(p, p.n_queries);
          for (int64_t chunk : {1, 2, 5, 32}) {
            EXPECT_TRUE(run(p, chunk) == whole) << dim << " " << group << " " << chunk;
          }
        }
      }
    }
  });
}

TEST(Attention, LaterKeysChangeNoBitEvenIfTheyAreNotFinite) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      Problem p(type, 64, 3, 20, 100, 12);
      for (size_t i = 0; i < 20; ++i) p.q_pos[i] = p.positions[2][i];
      const Answer before = run(p, 20);
      const std::vector<float> k(64, kNan), v(64, -kInf);
      for (int key = 2 * kPageKeys + 20; key < 100; ++key) p.put(key, 10000 + key, k, v);
      EXPECT_TRUE(run(p, 20) == before);
      EXPECT_TRUE(run(p, 1) == before);
    }
  });
}

TEST(Attention, ANanThatIsSeenShows) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      Problem p(type, 64, 2, 2, 90, 12);
      p.q_pos = {1, 1000};
      std::vector<float> k(64, 1.0f);
      k[40] = kNan;
      p.put(70, 500, k, std::vector<float>(64, 1.0f));
      const Answer got = run(p, 2);
      EXPECT_FALSE(std::isnan(got.z[0]));
      EXPECT_TRUE(std::isnan(got.z[2 * 64]));
    }
  });
}

TEST(Attention, ANanInAValueShowsWhereItIsSeen) {
  on_every_isa([] {
    for (KvType type : kTypes) {
      Problem p(type, 64, 2, 2, 90, 12);
      p.q_pos = {1, 1000};
      p.put(70, 500, std::vector<float>(64, 1.0f), std::vector<float>(64, kNan));
      const Answer got = run(p, 2);
      for (size_t i = 0; i < 128; ++i) EXPECT_FALSE(std::isnan(got.z[i]));
      for (size_t i = 128; i < 256; ++i) EXPECT_TRUE(std::isnan(got.z[i]));
    }
  });
}

TEST(Attention, CodesAtTheirLargestDoNotOverflow) {
  on_every_isa([] {
    for (KvType type : kCodeTypes) {
      for (int dim : kDims) {
        Problem p(type, dim, 1, 1, 128, 15);
        p.q_pos[0] = 10000;
        p.scale = 1.0f / static_cast<float>(dim);
        std::fill(p.q.begin(), p.q.end(), 1.0f);
        const std::vector<float> one(static_cast<size_t>(dim), 1.0f);
        for (int key = 0; key < 128; ++key) p.put(key, key, one, one);
        const Answer got = run(p, 1);
        for (float x : got.z) EXPECT_NEAR(x, 1.0f, 1e-2);  // scales are bfloat16
        EXPECT_NEAR(got.lse[0], 1.0f + std::log(128.0f), 1e-2);
      }
    }
  });
}

TEST(Attention, AnExtremeKeyLeavesTheOthersTheirWeight) {
  on_every_isa([] {
    // A sink with nearly all the weight and a value near zero: what is left comes from the others.
    for (KvType type : kCodeTypes) {
      Problem p(type, 64, 1, 1, 120, 16);
      p.q_pos[0] = 10000;
      std::fill(p.q.begin(), p.q.end(), 1.0f);
      for (int key = 0; key < 120; ++key) {
        const bool sink = key == 0;
        p.put(key, key, std::vector<float>(64, sink ? 1.0f : 0.0f), std::vector<float>(64, sink ? 1e-6f : 1.0f));
      }
      const Twin want = twin_of(p);
      const Answer got = run(p, 1);
      for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(got.z[i] / want.z[i], 1.0, 2e-3);
    }
  });
}

TEST(Attention, ScoresFarApartDoNotOverflow) {
  on_every_isa([] {
    Problem p(KvType::kF32, 64, 1, 1, 100, 13);
    p.q_pos[0] = 1000;
    p.scale = 400.0f;
    const Twin want = twin_of(p);
    const Answer got = run(p, 1);
    for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(got.z[i], want.z[i], 1e-2);  // scores of 1e4 hold 1e-3
    for (float x : got.z) EXPECT_TRUE(std::isfinite(x));
  });
}

TEST(Attention, MergesPartsOfTheKeyList) {
  on_every_isa([] {
    Problem p(KvType::kI16, 80, 2, 1, 330, 14);
    p.q_pos[0] = 1000;
    const Answer whole = run(p, 1);
    const std::vector<KeyBlock> all = p.blocks;
    std::vector<Answer> parts;
    for (size_t begin = 0; begin < all.size(); begin += 4) {
      p.blocks.assign(all.begin() + static_cast<std::ptrdiff_t>(begin),
                      all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), begin + 4)));
      parts.push_back(run(p, 1));
    }
    p.blocks.clear();
    parts.push_back(run(p, 1));  // sees nothing
    for (size_t head = 0; head < 2; ++head) {
      std::vector<float> z, lse, merged(80, 5.0f);
      float all_lse = 0;
      for (const Answer& part : parts) {
        const float* from = part.z.data() + 80 * head;
        z.insert(z.end(), from, from + 80);
        lse.push_back(part.lse[head]);
      }
      attention_merge(z.data(), lse.data(), static_cast<int>(lse.size()), 80, merged.data(), &all_lse);
      EXPECT_NEAR(all_lse, whole.lse[head], 1e-5);
      for (size_t d = 0; d < 80; ++d)
        EXPECT_NEAR(merged[d], whole.z[80 * head + d], 1e-5);  // powers of two are 3e-6 off, in each part
    }
    std::vector<float> nothing(80, 5.0f);
    attention_merge(parts.back().z.data(), parts.back().lse.data(), 1, 80, nothing.data(), nullptr);
    EXPECT_THAT(nothing, testing::Each(0.0f));
  });
}

TEST(Attention, TheSameRowsOverOtherKeysGiveTheBitsOfACallOfTheirOwn) {
  on_every_isa([] {
    for (const KvType type : kTypes) {
      for (const int64_t n_queries : {1, 50, 100}) {  // with 3 heads: one block, one strip, two strips
        Problem p(type, 64, 3, n_queries, 300, 21);
        p.head_rules = {{}, {.n_sink = 3, .window = 90}, {.window = 200}};
        const std::vector<KeyBlock> all = p.blocks;
        const size_t bytes = attention_scratch_bytes(p.args());
        const std::unique_ptr<float, Freed> scratch(static_cast<float*>(::operator new (bytes, std::align_val_t{64})));
        for (size_t begin = 0; begin < all.size(); begin += 4) {
          p.blocks.assign(all.begin() + static_cast<std::ptrdiff_t>(begin),
                          all.begin() + static_cast<std::ptrdiff_t>(std::min(all.size(), begin + 4)));
          const Answer alone = run(p, p.n_queries);
          Answer again;
          again.z.assign(alone.z.size(), 77.0f), again.lse.assign(alone.lse.size(), 77.0f);
          AttentionArgs args = p.args();
          args.z = again.z.data(), args.lse = again.lse.data();
          args.scratch = scratch.get(), args.same_rows = begin > 0;
          attention(args);
          EXPECT_TRUE(again == alone) << name_of(type) << " " << n_queries << " queries, pages from " << begin;
        }
      }
    }
  });
}

TEST(Attention, RefusesShapesItHasNoKernelFor) {
  Problem p(KvType::kI16, 64, 1, 1, 10, 1);
  float scratch = 0, z[64];
  AttentionArgs a = p.args();
  a.scratch = &scratch;
  a.z = z;
  a.k_dim = 60;
  EXPECT_THROW(attention(a), CheckFailed);
  a.k_dim = 264;
  EXPECT_THROW(attention(a), CheckFailed);
  a.k_dim = 64;
  a.v_type = KvType::kF32;
  EXPECT_THROW(attention(a), CheckFailed);
  a.v_type = KvType::kI16;
  EXPECT_THROW(attention_scores(a, 1, z, 64), CheckFailed);
}

}  // namespace
}  // namespace fovea::kernels

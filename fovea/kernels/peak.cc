#include "fovea/kernels/peak.h"

#include "fovea/kernels/f32.h"

namespace fovea::kernels {
namespace FOVEA_ISA_NS {
namespace {

constexpr int kChains = 12;  // latency 4 (5 on some) times two units

int64_t fma_peak(int64_t rounds) {
  F32 sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = F32::all(static_cast<float>(i));
  F32 a = F32::all(0.999f), b = F32::all(0.001f);
  for (int64_t round = 0; round < rounds; ++round) {
    FOVEA_UNROLL
    for (int i = 0; i < kChains; ++i) sums[i] = mul_add(sums[i], a, b);
  }
  F32 all = F32::zero();
  for (int i = 0; i < kChains; ++i) all = all + sums[i];
  // The result must be used, or the loop goes.
  return rounds * kChains * F32::kLanes * 2 + (sum(all) == 12345.0f ? 1 : 0);
}

// Each product takes the sum so far as a factor too, so that no compiler can fold two rounds.
#if FOVEA_ISA_LEVEL == 2
using Ints = __m512i;
FOVEA_INLINE Ints ints(int lane) { return _mm512_set1_epi32(lane); }
FOVEA_INLINE Ints plus(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
FOVEA_INLINE Ints dot8(Ints sum, Ints a) { return _mm512_dpbusd_epi32(sum, sum, a); }
FOVEA_INLINE Ints dot16(Ints sum, Ints a) { return _mm512_dpwssd_epi32(sum, sum, a); }
FOVEA_INLINE int64_t first(Ints a) { return _mm_cvtsi128_si32(_mm512_castsi512_si128(a)); }
FOVEA_INLINE Ints read(const char* p) { return _mm512_load_si512(p); }
#elif FOVEA_ISA_LEVEL == 1
using Ints = __m256i;
FOVEA_INLINE Ints ints(int lane) { return _mm256_set1_epi32(lane); }
FOVEA_INLINE Ints plus(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
// As the products do it: the sums of pairs stay 16 bits wide for a while.
FOVEA_INLINE Ints dot8(Ints sum, Ints a) { return pinned(_mm256_add_epi16(sum, _mm256_maddubs_epi16(sum, a))); }
FOVEA_INLINE Ints dot16(Ints sum, Ints a) { return pinned(_mm256_add_epi32(sum, _mm256_madd_epi16(sum, a))); }
FOVEA_INLINE int64_t first(Ints a) { return _mm_cvtsi128_si32(_mm256_castsi256_si128(a)); }
FOVEA_INLINE Ints read(const char* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
#else
typedef uint32_t Ints __attribute__((vector_size(16)));
FOVEA_INLINE Ints ints(int lane) { return Ints{} + static_cast<uint32_t>(lane); }
FOVEA_INLINE Ints plus(Ints a, Ints b) { return a + b; }
FOVEA_INLINE Ints dot8(Ints sum, Ints a) { return sum * a + a; }
FOVEA_INLINE Ints dot16(Ints sum, Ints a) { return sum * a + a; }
FOVEA_INLINE int64_t first(Ints a) { return a[0]; }
FOVEA_INLINE Ints read(const char* p) {
  Ints a;
  std::memcpy(&a, p, sizeof a);
  return a;
}
#endif

#if FOVEA_ISA_LEVEL > 0
constexpr int64_t kBytes = sizeof(Ints), kShorts = sizeof(Ints) / 2;
#else
constexpr int64_t kBytes = 4, kShorts = 4;  // no dot products: a lane is one product
#endif

template <Ints (*Dot)(Ints, Ints)>
int64_t ints_peak(int64_t rounds, int64_t products) {
  Ints sums[kChains], a = ints(0x01010101);
  FOVEA_UNROLL
  for (int i = 0; i < kChains; ++i) sums[i] = ints(i);
  for (int64_t round = 0; round < rounds; ++round) {
    FOVEA_UNROLL
    for (int i = 0; i < kChains; ++i) sums[i] = Dot(sums[i], a);
  }
  Ints all = sums[0];
  FOVEA_UNROLL
  for (int i = 1; i < kChains; ++i) all = plus(all, sums[i]);
  return rounds * kChains * products * 2 + (first(all) == 12345 ? 1 : 0);
}

int64_t int8_peak(int64_t rounds) { return ints_peak<dot8>(rounds, kBytes); }
int64_t int16_peak(int64_t rounds) { return ints_peak<dot16>(rounds, kShorts); }

int64_t bf16_peak(int64_t rounds) {
#if FOVEA_ISA_LEVEL == 2
  F32 sums[kChains];
  for (int i = 0; i < kChains; ++i) sums[i] = F32::all(static_cast<float>(i));
  const auto a = (__m512bh)_mm512_set1_epi16(0x3f00);
  for (int64_t round = 0; round < rounds; ++round) {
    FOVEA_UNROLL
    for (int i = 0; i < kChains; ++i) sums[i].v = _mm512_dpbf16_ps(sums[i].v, a, a);
  }
  F32 all = F32::zero();
  for (int i = 0; i < kChains; ++i) all = all + sums[i];
  return rounds * kChains * 32 * 2 + (sum(all) == 12345.0f ? 1 : 0);
#else
  return 0;
#endif
}

int64_t read_all(const void* from, int64_t n) {
  const char* p = static_cast<const char*>(from);
  Ints sums[4] = {ints(0), ints(0), ints(0), ints(0)};
  constexpr int64_t kStep = sizeof(Ints);
  for (int64_t at = 0; at < n; at += 4 * kStep) {
    FOVEA_UNROLL
    for (int i = 0; i < 4; ++i) sums[i] = plus(sums[i], read(p + at + i * kStep));
  }
  return first(plus(plus(sums[0], sums[1]), plus(sums[2], sums[3])));
}

}  // namespace
FOVEA_KERNEL(fma_peak)
FOVEA_KERNEL(int8_peak)
FOVEA_KERNEL(int16_peak)
FOVEA_KERNEL(bf16_peak)
FOVEA_KERNEL(read_all)
}  // namespace FOVEA_ISA_NS
}  // namespace fovea::kernels

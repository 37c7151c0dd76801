#include "fovea/kernels/isa.h"

#if FOVEA_ISA_LEVEL == 0  // not a kernel: one copy is enough

#include <atomic>
#include <cstdlib>

#include "fovea/base/bytes.h"

namespace fovea::kernels {
namespace {

constexpr int kNotChosen = -1;
std::atomic<int> g_active{kNotChosen};  // the first calls may come from several threads; all choose the same

bool parse(std::string_view text, Isa& out) {
  for (int i = 0; i < kIsas; ++i) {
    if (text == name_of(static_cast<Isa>(i))) {
      out = static_cast<Isa>(i);
      return true;
    }
  }
  return false;
}

}  // namespace

std::string_view name_of(Isa isa) {
  switch (isa) {
    case Isa::kPortable: return "portable";
    case Isa::kAvx2: return "avx2";
    case Isa::kAvx512: return "avx512";
  }
  return "portable";
}

bool machine_has(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx2) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  }
  if (isa == Isa::kAvx512) {
    return machine_has(Isa::kAvx2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16") &&
           __builtin_cpu_supports("avx512vbmi");
  }
#endif
  return isa == Isa::kPortable;
}

Isa best_isa() {
  if (machine_has(Isa::kAvx512)) return Isa::kAvx512;
  return machine_has(Isa::kAvx2) ? Isa::kAvx2 : Isa::kPortable;
}

Isa active_isa() {
  const int active = g_active.load(std::memory_order_relaxed);
  if (active != kNotChosen) return static_cast<Isa>(active);
  const char* wanted = std::getenv("FOVEA_ISA");
  Isa isa = best_isa();
  if (wanted && *wanted && parse(wanted, isa) && !machine_has(isa)) isa = best_isa();
  set_isa(isa);
  return isa;
}

Status check_isa_variable() {
  const char* wanted = std::getenv("FOVEA_ISA");
  if (!wanted || !*wanted) return {};
  Isa isa;
  if (!parse(wanted, isa)) {
    return make_error(ErrorCode::kUsage, "FOVEA_ISA={} is none of portable, avx2, avx512", quote(wanted));
  }
  if (!machine_has(isa)) {
    return make_error(ErrorCode::kUsage, "FOVEA_ISA={}: this machine lacks it; its best is {}", wanted,
                      name_of(best_isa()));
  }
  return {};
}

void set_isa(Isa isa) { g_active.store(static_cast<int>(isa), std::memory_order_relaxed); }

}  // namespace fovea::kernels

#endif

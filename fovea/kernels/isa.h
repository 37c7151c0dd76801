// Run-time choice of instruction set. Every kernel file is compiled once per set (portable, avx2,
// avx512), each copy in a namespace of its own; a `Dispatched` holds the copies and calls the
// active one. FOVEA_ISA=portable|avx2|avx512 in the environment forces a set.
//
// x.h:   extern Dispatched<void(const float* x, int n, float* y)> silu;
// x.cc:  namespace fovea::kernels { namespace FOVEA_ISA_NS { namespace {
//          void silu(const float* x, int n, float* y) { ... }
//        } FOVEA_KERNEL(silu) } }
//
// No standard-library templates inside kernel files: the linker may keep the AVX2 copy of an
// inline function for every caller.
#pragma once

#include <string_view>

#include "fovea/base/result.h"

namespace fovea::kernels {

enum class Isa : int { kPortable = 0, kAvx2 = 1, kAvx512 = 2 };
inline constexpr int kIsas = 3;

std::string_view name_of(Isa isa);
bool machine_has(Isa isa);  // avx512 = F, BW, DQ, VL, VNNI, BF16, VBMI
Isa best_isa();
Isa active_isa();             // FOVEA_ISA if set and valid, else best_isa()
Status check_isa_variable();  // kUsage if FOVEA_ISA names nothing or something this machine lacks
void set_isa(Isa isa);        // for tests and benchmarks; not while kernels run

template <typename Signature>
class Dispatched;
template <typename R, typename... Args>
class Dispatched<R(Args...)> {
 public:
  using Fn = R (*)(Args...);
  R operator()(Args... args) const { return pick()(args...); }
  Fn for_isa(Isa isa) const { return table_[static_cast<int>(isa)]; }
  Isa used() const {  // the set whose copy a call runs
    int i = static_cast<int>(active_isa());
    while (i > 0 && !table_[i]) --i;
    return static_cast<Isa>(i);
  }
  Fn pick() const { return table_[static_cast<int>(used())]; }
  bool add(int level, Fn fn) {
    table_[level] = fn;
    return true;
  }

 private:
  Fn table_[kIsas] = {};
};

}  // namespace fovea::kernels

// Registers this file's copy of `name`; the portable copy also defines the dispatcher.
#if defined(FOVEA_ISA_LEVEL) && FOVEA_ISA_LEVEL == 0
#define FOVEA_KERNEL(name)                         \
  } /* namespace FOVEA_ISA_NS */                   \
  constinit decltype(::fovea::kernels::name) name; \
  namespace FOVEA_ISA_NS {                         \
  [[maybe_unused]] const bool name##_added = ::fovea::kernels::name.add(FOVEA_ISA_LEVEL, &name);
#else
#define FOVEA_KERNEL(name) \
  [[maybe_unused]] const bool name##_added = ::fovea::kernels::name.add(FOVEA_ISA_LEVEL, &name);
#endif

// Speed of the products of activations with weights that have codes, one thread: integer operations per second by
// dtype and number of tokens, and bytes of packed weights read per second where one token makes reading the limit.
// Every answer is compared first with plain loops over the dequantised weight and the quantised activations.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "bench/measure.h"
#include "bench/product.h"
#include "fovea/kernels/peak.h"

namespace fovea {
namespace {

using namespace kernels;
using namespace bench;

bool report(Isa isa, bool quick) {
  set_isa(isa);
  constexpr int64_t kCols = 1536, kTestRows = 37, kTestCols = 512;
  std::vector<DType> types(std::begin(kDTypes), std::end(kDTypes));
  types.insert(types.end(), {DType::kF16, DType::kBF16});
  for (const DType dtype : types) {
    for (const int64_t n : {1, 5, 13}) {
      if (!Product(dtype, kTestRows, kTestCols, n).is_right()) return false;
    }
  }
  if (quick) return true;
  const double peak = [] {
    double most = 0;
    for (int i = 0; i < 15; ++i) {
      int64_t done = 0;
      const double s = best_of(1, [&] { done = int8_peak(1 << 14); });
      most = std::max(most, static_cast<double>(done) / s * 1e-9);
    }
    return most;
  }();
  fmt::print("{}: int8 peak of one core {:.0f} GOP/s\n", kernels::name_of(isa), peak);
  fmt::print("  {:6}{:>16}{:>10}{:>10}{:>10}{:>10}{:>16}\n", "", "1 token GB/s", "4 GOP/s", "16", "64", "256",
             "share of peak");
  for (const DType dtype : types) {
    const Product one(dtype, 16384, kCols, 1);  // 12 to 25 MB: past the caches near the core
    const double read = static_cast<double>(one.bytes()) / best_of(15, [&] { one.run(); }) * 1e-9;
    std::string line = fmt::format("  {:6}{:16.1f}", dtype_info(dtype).name, read);
    double last = 0, most = one.form() == WeightForm::kInt16 ? peak / 2 : peak;
    for (const int64_t n : {4, 16, 64, 256}) {
      const Product many(dtype, 16 * 48, kCols, n);
      last = many.operations() / best_of(25, [&] { many.run(); }) * 1e-9;
      line += fmt::format("{:10.0f}", last);
    }
    fmt::print("{}{:15.0f}%\n", line, 100 * last / most);
  }
  Product activations(DType::kQ8_0, 16, kCols, 256);
  const double s = best_of(25, [&] { activations.quantize(); });
  fmt::print("  activations to int8: {:.2f} G elements/s\n", 256.0 * kCols / s * 1e-9);
  return true;
}

}  // namespace
}  // namespace fovea

// bench_matmul [check]: `check` compares only.
int main(int argc, char** argv) {
  using fovea::kernels::Isa;
  const bool quick = argc > 1 && std::string(argv[1]) == "check";
  const Isa forced = fovea::kernels::active_isa();
  for (int i = fovea::kernels::kIsas - 1; i >= 0; --i) {
    const Isa isa = static_cast<Isa>(i);
    if (!fovea::kernels::machine_has(isa) || (std::getenv("FOVEA_ISA") && isa != forced)) continue;
    if (isa == Isa::kPortable && !quick && !std::getenv("FOVEA_ISA")) continue;
    if (!fovea::report(isa, quick)) return 1;
  }
  return 0;
}

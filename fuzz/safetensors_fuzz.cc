// libFuzzer target: any bytes through the safetensors reader, then its tensors through what makes weights of them.
// Seeds: tests/fuzz/safetensors.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "fovea/formats/hf_weights.h"
#include "fovea/formats/safetensors.h"
#include "fovea/formats/weight_scan.h"

namespace {

void walk(std::vector<fovea::formats::TensorInfo> tensors) {
  const auto config =
      nlohmann::ordered_json::parse(R"({"quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 2]}})");
  const auto weights = fovea::formats::HfWeights::pair(tensors, config, "fuzz");
  if (!weights) return;
  for (const auto& tensor : tensors) {
    (void)fovea::formats::count_non_finite(tensor);
    (void)weights->count_bad_scales(tensor);
    const auto made = weights->make(tensor);
    if (!made || !made.value()) continue;
    uint64_t n = 1;
    for (const int64_t dim : tensor.dims) n *= static_cast<uint64_t>(dim);
    if (made.value()->bytes.size() != fovea::kernels::row_bytes(made.value()->dtype, static_cast<int64_t>(n)))
      __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > (1 << 20)) return 0;
  auto parsed = fovea::formats::parse_safetensors({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
  if (parsed) walk(std::move(parsed->tensors));
  if (!parsed && parsed.error().message.empty()) __builtin_trap();
  return 0;
}

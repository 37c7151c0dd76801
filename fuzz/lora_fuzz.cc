// libFuzzer target: any bytes as an adapter: a GGUF file, PEFT's configuration (they begin with '{') or PEFT's weights.
// Seeds: tests/fuzz/lora.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "fovea/formats/lora_file.h"
#include "fovea/formats/testing/safetensors_bytes.h"

namespace {

using fovea::formats::LoraFile;

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

void check(const fovea::Result<LoraFile>& read) {
  if (!read) {
    if (read.error().message.empty()) __builtin_trap();
    return;
  }
  if (read->pairs.empty()) __builtin_trap();
  for (const auto& pair : read->pairs) {
    const bool fits = pair.a.dim(0) == pair.b.dim(1) && pair.a.dim(0) > 0 && std::isfinite(pair.scale);
    if (!fits) __builtin_trap();
    for (const auto* half : {&pair.a, &pair.b}) {
      for (const float x : half->values()) {
        if (!std::isfinite(x)) __builtin_trap();
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > (1 << 20)) return 0;
  static const std::string kConfig = R"({"peft_type": "LORA", "r": 2, "rank_pattern": {"embed_tokens": 3}})";
  static const std::string kWeights = fovea::formats::SafetensorsFile()
                                          .add("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", {2, 4})
                                          .add("base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", {3, 2})
                                          .build();
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (text.starts_with("GGUF")) {
    check(fovea::formats::parse_gguf_lora(bytes(text), "fuzz"));
  } else if (text.starts_with('{')) {
    check(fovea::formats::parse_peft(bytes(text), bytes(kWeights), "config", "weights"));
  } else {
    check(fovea::formats::parse_peft(bytes(kConfig), bytes(text), "config", "weights"));
  }
  return 0;
}

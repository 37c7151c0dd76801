// libFuzzer target: any bytes through the GGUF reader, every getter, the size checks and the
// weight scan. Seeds: tests/fuzz/gguf. Nothing may crash, hang, leak or allocate without bound.
#include <cstddef>
#include <cstdint>

#include "fovea/engine/model_check.h"
#include "fovea/formats/gguf.h"

namespace {

// Keys of every kind; a file seldom has others that matter.
constexpr const char* kKeys[] = {"general.architecture",
                                 "general.alignment",
                                 "general.type",
                                 "general.file_type",
                                 "split.count",
                                 "tokenizer.ggml.tokens",
                                 "tokenizer.ggml.merges",
                                 "tokenizer.ggml.scores",
                                 "tokenizer.ggml.token_type",
                                 "tokenizer.ggml.add_bos_token",
                                 "tokenizer.chat_template",
                                 "llama.rope.freq_base",
                                 "llama.block_count",
                                 "a",
                                 "k"};

void walk(const fovea::formats::Gguf& gguf) {
  for (const char* key : kKeys) {
    (void)gguf.get_u64(key);
    (void)gguf.get_i64(key);
    (void)gguf.get_f64(key);
    (void)gguf.get_bool(key);
    (void)gguf.get_string(key);
    (void)gguf.get_strings(key);
    (void)gguf.get_f64s(key);
    (void)gguf.get_i64s(key);
  }
  for (const auto& tensor : gguf.tensors()) (void)gguf.find_tensor(tensor.name);
  (void)fovea::engine::check_model(gguf, {.strict = true});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > (1 << 20)) return 0;
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  for (const bool strict : {false, true}) {
    const auto gguf = fovea::formats::Gguf::parse(bytes, "fuzz.gguf", {.strict = strict});
    if (gguf) walk(gguf.value());
    if (!gguf && gguf.error().message.empty()) __builtin_trap();
  }
  return 0;
}

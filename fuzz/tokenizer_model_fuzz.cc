// libFuzzer target: a tokenizer.model (SentencePiece) of any bytes, and a text. Seeds: tests/fuzz/tokenizer_model.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "fovea/tokenizers/tokenizer.h"
#include "fovea/tokenizers/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fovea::tokenizers;
  if (size < 2 || size > (1 << 14)) return 0;
  const auto require = [](bool fact) {
    if (!fact) std::abort();
  };
  // Two bytes say how long the text at the end is.
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const size_t wanted = size_t{data[0]} | size_t{data[1]} << 8, n = std::min(wanted, size - 2);
  const std::string_view text = all.substr(size - n);
  Vocabulary v;
  v.name = "fuzz";
  v.kind = "files";
  v.files.tokenizer_model = all.substr(2, size - 2 - n);
  const auto t = Tokenizer::create(v);
  if (!t) {
    require(!t.error().message.empty());
    return 0;
  }
  std::vector<uint32_t> offsets;
  const auto ids = (*t)->encode(text, {}, &offsets);
  require(ids.has_value() && offsets.size() == ids->size());
  for (const uint32_t at : offsets) require(at <= text.size());
  const auto back = (*t)->decode(*ids);
  require(back.has_value());
  StreamDecoder stream(**t);
  std::string streamed;
  for (const int32_t id : *ids) streamed += stream.push(id);
  require(streamed + stream.finish() == replace_invalid_utf8(*back));
  return 0;
}

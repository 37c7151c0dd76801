// libFuzzer target: a tokenizer.json of any bytes, or one whose parts are picked by bytes, and a text. It is refused
// with a sentence, or it works: offsets stay within the text, what streams equals what is decoded at once. Seeds:
// tests/fuzz/tokenizer_json.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "fovea/tokenizers/tokenizer.h"
#include "fovea/tokenizers/utf8.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fovea::tokenizers;
  if (size == 0 || size > (1 << 14)) return 0;
  const auto require = [](bool fact) {
    if (!fact) std::abort();
  };
  // The file ends at the first NUL; the rest is the text.
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const size_t end = std::min(all.find('\0'), all.size());
  const std::string_view text = all.substr(std::min(end + 1, size));
  Vocabulary v;
  v.name = "fuzz";
  v.kind = "files";
  v.files.tokenizer_json = all.substr(0, end);
  const auto t = Tokenizer::create(v);
  if (!t) {
    require(!t.error().message.empty() && is_utf8(t.error().message));
    return 0;
  }
  for (const bool special : {false, true}) {
    std::vector<uint32_t> offsets;
    const auto ids = (*t)->encode(text, {.parse_special = special}, &offsets);
    if (!ids) {
      require(ids.error().code == fovea::ErrorCode::kLimit);
      continue;
    }
    require(offsets.size() == ids->size());
    for (const uint32_t at : offsets) require(at <= text.size());
    const auto back = (*t)->decode(*ids);
    require(back.has_value());
    require(*(*t)->encode(text, {.parse_special = special}) == *ids);
    StreamDecoder stream(**t);
    std::string streamed;
    for (const int32_t id : *ids) {
      const std::string part = stream.push(id);
      require(is_utf8(part));
      streamed += part;
    }
    streamed += stream.finish();
    require(is_utf8(streamed));
  }
  return 0;
}

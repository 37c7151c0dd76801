#include "fovea/tokenizers/byte_letters.h"

#include <array>

#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

constexpr uint32_t kEnd = 0x144;  // of the letters
struct Letters {
  std::array<uint16_t, 256> letter = {};
  std::array<int16_t, kEnd> byte = {};
};
constexpr Letters make_letters() {
  Letters l;
  for (auto& byte : l.byte) byte = -1;
  uint16_t spare = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b > 0x20 && b < 0x7F) || (b > 0xA0 && b != 0xAD);
    l.letter[static_cast<size_t>(b)] = printable ? static_cast<uint16_t>(b) : spare++;
    l.byte[l.letter[static_cast<size_t>(b)]] = static_cast<int16_t>(b);
  }
  return l;
}
constexpr Letters kLetters = make_letters();

}  // namespace

size_t append_spelt_bytes(std::string_view spelling, std::string& out) {
  const size_t before = out.size();
  const char *p = spelling.data(), *end = p + spelling.size();
  while (p < end) {
    const CodePoint c = code_point_at(p, end);
    if (c.bytes == 0 || c.value >= kEnd || kLetters.byte[c.value] < 0) {
      out.resize(before);
      return 0;
    }
    out += static_cast<char>(kLetters.byte[c.value]);
    p += c.bytes;
  }
  return out.size() - before;
}

void append_spelling(std::string_view bytes, std::string& out) {
  for (const char byte : bytes) append_utf8(out, kLetters.letter[static_cast<unsigned char>(byte)]);
}

}  // namespace fovea::tokenizers

#include "fovea/tokenizers/pretokenize.h"

#include <utf8proc.h>

#include <array>

#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

// Kinds of characters, as bits, so that a run may be of several.
enum Kind : uint8_t { kLetter = 1, kNumber = 2, kSpace = 4, kNewline = 8, kSymbol = 16 };
constexpr int kWhite = kSpace | kNewline;

bool is_wide_space(uint32_t c) {  // White_Space past ASCII
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

Kind kind_of(uint32_t c) {
  if (c == '\r' || c == '\n') return kNewline;
  if (c == ' ' || (c >= '\t' && c <= '\r') || is_wide_space(c)) return kSpace;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return kNumber;
    default: return kSymbol;
  }
}

using Kinds = std::array<Kind, 0x10000>;
const Kinds& low_kinds() {  // asking the library for each character of a text would take twice the time
  static const Kinds kinds = [] {
    Kinds k;
    for (uint32_t c = 0; c < k.size(); ++c) k[c] = kind_of(c);
    return k;
  }();
  return kinds;
}

struct Char {
  Kind kind;
  uint32_t bytes;
};

class Scanner {
 public:
  Scanner(const char* p, const char* end) : begin_(p), end_(end), kinds_(low_kinds()) {}

  Char at(const char* p) const {
    const auto byte = static_cast<unsigned char>(*p);
    if (byte < 0x80) return {kinds_[byte], 1};
    const CodePoint c = code_point_at(p, end_);
    if (c.bytes == 0) return {kSymbol, 1};
    return {c.value < kinds_.size() ? kinds_[c.value] : kind_of(c.value), c.bytes};
  }
  bool is(const char* p, int kinds) const { return p < end_ && (at(p).kind & kinds); }
  const char* skip(const char* p, int kinds) const {
    while (p < end_) {
      const Char c = at(p);
      if (!(c.kind & kinds)) break;
      p += c.bytes;
    }
    return p;
  }
  // The end of 's 't 're 've 'm 'll 'd at `begin_`, which is an apostrophe; nullptr: none. In any case,
  // U+017F counts as s, being its other lower-case form.
  const char* contraction(bool any_case) const {
    const char* p = begin_ + 1;
    const auto letter = [&](int i) {
      return p + i < end_ ? static_cast<char>(any_case && p[i] >= 'A' && p[i] <= 'Z' ? p[i] | 32 : p[i]) : '\0';
    };
    switch (letter(0)) {
      case 's':
      case 't':
      case 'm':
      case 'd': return p + 1;
      case 'r':
      case 'v': return letter(1) == 'e' ? p + 2 : nullptr;
      case 'l': return letter(1) == 'l' ? p + 2 : nullptr;
      case '\xC5': return any_case && letter(1) == '\xBF' ? p + 2 : nullptr;
      default: return nullptr;
    }
  }
  // `\s+(?!\S)|\s+` for the white space up to `run_end`: all but its last character, which goes with
  // what follows, if anything does.
  const char* white(const char* run_end, bool all) const {
    if (all || run_end == end_) return run_end;
    const char* last = run_end - 1;
    while ((*last & 0xC0) == 0x80) --last;
    return last == begin_ ? run_end : last;
  }

 private:
  const char *begin_, *end_;
  const Kinds& kinds_;
};

// GPT-2's rule. With `single_digits` each number character is cut out first, so that white space
// before it is at the end of its text.
template <bool single_digits>
const char* gpt2_word(const char* p, const char* end) {
  const Scanner text(p, end);
  if (*p == '\'') {
    if (const char* q = text.contraction(false)) return q;
  }
  constexpr int kAfterSpace = kLetter | kSymbol | (single_digits ? 0 : kNumber);
  const char* word = *p == ' ' && text.is(p + 1, kAfterSpace) ? p + 1 : p;
  const Char first = text.at(word);
  if (single_digits && first.kind == kNumber) return word + first.bytes;
  if (!(first.kind & kWhite)) return text.skip(word + first.bytes, first.kind);
  const char* run_end = text.skip(p, kWhite);
  return text.white(run_end, single_digits && text.is(run_end, kNumber));
}

// The rule of cl100k and its children: numbers in groups of at most `digits`, new lines apart.
template <int digits>
const char* cl100k_word(const char* p, const char* end) {
  const Scanner text(p, end);
  if (*p == '\'') {
    if (const char* q = text.contraction(true)) return q;
  }
  const Char first = text.at(p);
  if (first.kind == kLetter) return text.skip(p + first.bytes, kLetter);
  if (first.kind & (kSpace | kSymbol)) {
    const char* next = p + first.bytes;
    if (text.is(next, kLetter)) return text.skip(next, kLetter);
    if (first.kind == kSymbol || (*p == ' ' && text.is(next, kSymbol)))
      return text.skip(text.skip(next, kSymbol), kNewline);
  }
  if (first.kind == kNumber) {
    const char* q = p + first.bytes;
    for (int i = 1; i < digits && text.is(q, kNumber); ++i) q += text.at(q).bytes;
    return q;
  }
  const char* run_end = text.skip(p, kWhite);
  for (const char* q = run_end; q > p; --q) {
    if (q[-1] == '\n' || q[-1] == '\r') return q;
  }
  return text.white(run_end, false);
}

// \s would do but for U+180E, which PCRE2 still counts as white space.
#define FOVEA_WHITE "\\t-\\r\\x{85}\\p{Z}"
#define FOVEA_WHITE_RUNS "[" FOVEA_WHITE "]+(?![^" FOVEA_WHITE "])|[" FOVEA_WHITE "]+"
#define FOVEA_SYMBOLS "[^" FOVEA_WHITE "\\p{L}\\p{N}]+"
#define FOVEA_CL100K(digits)                                                                     \
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits "| ?" FOVEA_SYMBOLS \
  "[\\r\\n]*|[" FOVEA_WHITE "]*[\\r\\n]+|" FOVEA_WHITE_RUNS

constexpr PreTokenizer kAll[] = {
    {"smollm", gpt2_word<true>,
     "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+|\\p{N}| ?" FOVEA_SYMBOLS "|[" FOVEA_WHITE "]+(?![^" FOVEA_WHITE
     "\\p{N}])|[" FOVEA_WHITE "]+",
     false, false, false},
    {"gpt-2", gpt2_word<false>, "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?" FOVEA_SYMBOLS "|" FOVEA_WHITE_RUNS,
     false, false, false},
    {"qwen2", cl100k_word<1>, FOVEA_CL100K(""), false, true, false},
    {"llama-bpe", cl100k_word<3>, FOVEA_CL100K("{1,3}"), true, false, true},
};

}  // namespace

std::span<const PreTokenizer> pre_tokenizers() { return kAll; }

const PreTokenizer* find_pre_tokenizer(std::string_view name) {
  for (const PreTokenizer& pre : kAll) {
    if (pre.name == name) return &pre;
  }
  return nullptr;
}

}  // namespace fovea::tokenizers

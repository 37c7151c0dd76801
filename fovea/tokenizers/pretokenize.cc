#include "fovea/tokenizers/pretokenize.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>

#include "fovea/tokenizers/characters.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

// Kinds of characters, as bits, so that a run may be of several.
enum Kind : uint8_t {
  kUpper = 1,  // and title case
  kLower = 2,
  kOther = 4,  // letters without case, and modifiers
  kMark = 8,
  kNumber = 16,
  kSpace = 32,
  kNewline = 64,
  kPlain = 128  // all else
};
constexpr int kWhite = kSpace | kNewline;
constexpr int kLetter = kUpper | kLower | kOther;
constexpr int kSymbol = kPlain | kMark;

Kind kind_of(uint32_t c) {
  if (c == '\r' || c == '\n') return kNewline;
  if (is_white(c)) return kSpace;
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT: return kUpper;
    case UTF8PROC_CATEGORY_LL: return kLower;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return kOther;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return kMark;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return kNumber;
    default: return kPlain;
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
    if (c.bytes == 0) return {kPlain, 1};
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
  // Number characters from p, at most `most`.
  const char* numbers(const char* p, int most) const {
    const char* q = p + at(p).bytes;
    for (int i = 1; i < most && is(q, kNumber); ++i) q += at(q).bytes;
    return q;
  }
  // `\s*[\r\n]+|\s+(?!\S)|\s+` at `begin_`: up to the last new line of the white space.
  const char* blanks() const {
    const char* run_end = skip(begin_, kWhite);
    for (const char* q = run_end; q > begin_; --q) {
      if (q[-1] == '\n' || q[-1] == '\r') return q;
    }
    return white(run_end, false);
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
  if (single_digits && first.kind & kNumber) return word + first.bytes;
  if (!(first.kind & kWhite)) {
    const int run = first.kind & kLetter ? kLetter : first.kind & kSymbol ? kSymbol : kNumber;
    return text.skip(word + first.bytes, run);
  }
  const char* run_end = text.skip(p, kWhite);
  return text.white(run_end, single_digits && text.is(run_end, kNumber));
}

// The rule of cl100k and its children: numbers in groups of at most `digits`, new lines apart; with `marks`, a mark is
// part of a word.
template <int digits, bool marks>
const char* cl100k_word(const char* p, const char* end) {
  constexpr int kWord = marks ? kLetter | kMark : kLetter, kSign = marks ? +kPlain : kSymbol;
  const Scanner text(p, end);
  if (*p == '\'') {
    if (const char* q = text.contraction(true)) return q;
  }
  const Char first = text.at(p);
  if (first.kind & kWord) return text.skip(p + first.bytes, kWord);
  if (first.kind & (kSpace | kSign)) {
    const char* next = p + first.bytes;
    if (text.is(next, kWord)) return text.skip(next, kWord);
    if ((first.kind & kSign) || (*p == ' ' && text.is(next, kSign))) return text.skip(text.skip(next, kSign), kNewline);
  }
  if (first.kind & kNumber) return text.numbers(p, digits);
  return text.blanks();
}

// The rule of o200k: words begin with a capital or have none; a contraction goes with its word.
template <int digits, bool contractions>
const char* o200k_word(const char* p, const char* end) {
  constexpr int kBoth = kOther | kMark, kHigh = kUpper | kBoth, kLow = kLower | kBoth;
  const Scanner text(p, end);
  // The end of [high]*[low]+ at `from`, or of [high]+[low]*; nullptr: none.
  const auto with_low = [&](const char* from) -> const char* {
    const char *q = from, *after_both = nullptr;
    while (text.is(q, kHigh)) {
      const Char c = text.at(q);
      q += c.bytes;
      if (c.kind & kBoth) after_both = q;  // the last that may count as low, if no other follows
    }
    const char* low = text.skip(q, kLow);
    return low > q ? low : after_both;
  };
  const auto with_high = [&](const char* from) -> const char* {
    const char* q = text.skip(from, kHigh);
    return q > from ? text.skip(q, kLow) : nullptr;
  };
  const Char first = text.at(p);
  const char* behind = first.kind & (kSpace | kPlain | kMark) ? p + first.bytes : nullptr;
  const bool letter = first.kind & (kLetter | kMark);
  const char* word = nullptr;
  if (behind) word = with_low(behind);
  if (!word && letter) word = with_low(p);
  if (!word && behind) word = with_high(behind);
  if (!word && letter) word = with_high(p);
  if (word) {
    if (contractions && word < end && *word == '\'') {
      if (const char* q = Scanner(word, end).contraction(true)) return q;
    }
    return word;
  }
  if (first.kind & kNumber) return text.numbers(p, digits);
  const char* sign = *p == ' ' ? p + 1 : p;
  if (text.is(sign, kSymbol)) {
    const char* q = text.skip(sign, kSymbol);
    while (q < end && (*q == '\r' || *q == '\n' || *q == '/')) ++q;
    return q;
  }
  return text.blanks();
}

#define FOVEA_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define FOVEA_BLANKS "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define FOVEA_CL100K(digits) \
  FOVEA_CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" FOVEA_BLANKS
#define FOVEA_HIGH "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define FOVEA_LOW "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define FOVEA_O200K(contractions, digits)                                                                 \
  "[^\\r\\n\\p{L}\\p{N}]?" FOVEA_HIGH "*" FOVEA_LOW "+" contractions "|[^\\r\\n\\p{L}\\p{N}]?" FOVEA_HIGH \
  "+" FOVEA_LOW "*" contractions "|\\p{N}" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" FOVEA_BLANKS

constexpr std::string_view kGpt2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
constexpr std::string_view kSingleDigits =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+|\\s+(?![^\\s\\p{N}])|\\s+";
constexpr std::string_view kQwen2 = FOVEA_CL100K("");
constexpr std::string_view kLlama3 = FOVEA_CL100K("{1,3}");
constexpr std::string_view kQwen35 = FOVEA_CONTRACTIONS
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" FOVEA_BLANKS;
constexpr std::string_view kO200k = FOVEA_O200K(FOVEA_CONTRACTIONS "?", "{1,3}");
constexpr std::string_view kTekken = FOVEA_O200K("", "");

constexpr SplitRule kScanned[] = {
    {kGpt2, gpt2_word<false>},        {kSingleDigits, gpt2_word<true>}, {kQwen2, cl100k_word<1, false>},
    {kLlama3, cl100k_word<3, false>}, {kQwen35, cl100k_word<1, true>},  {kO200k, o200k_word<3, true>},
    {kTekken, o200k_word<1, false>},
};

// The letters that have a case, as DeepSeek's first models list them.
constexpr std::string_view kCased =
    "\\s?[A-Za-z"
    "\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}"
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}"
    "\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}"
    "\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}"
    "\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}"
    "\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}"
    "\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}"
    "\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}"
    "\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}"
    "\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}"
    "\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}"
    "\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}"
    "\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"
    "]+";
constexpr std::string_view kWords = " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+";
constexpr std::string_view kHan = "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+";

const std::vector<PreTokenizer>& all() {
  static const std::vector<PreTokenizer> rows = {
      {.names = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"},
       .rules = {kSingleDigits}},
      {.names = {"gpt-2", "phi-2", "mpt", "jais", "jina-es", "jina-de", "jina-v1-en", "jina-v2-code", "jina-v2-es",
                 "jina-v2-de", "roberta-bpe", "exaone4", "gigachat", "trillion", "granite-docling"},
       .rules = {kGpt2}},
      {.names = {"olmo"}, .rules = {kGpt2}, .nfc = true},
      {.names = {"qwen2"}, .rules = {kQwen2}, .nfc = true},
      {.names = {"stablelm2", "deepseek-r1-qwen", "megrez", "hunyuan", "solar-open", "grok-2"}, .rules = {kQwen2}},
      {.names = {"qwen35"}, .rules = {kQwen35}, .nfc = true},
      {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"},
       .rules = {kLlama3},
       .whole_words_first = true,
       .adds_bos = true},
      {.names = {"dbrx", "smaug-bpe", "chatglm-bpe", "glm4"}, .rules = {kLlama3}},
      {.names = {"gpt-4o", "llama4", "kanana2", "minimax-m2"}, .rules = {kO200k}},
      {.names = {"tekken"}, .rules = {kTekken}, .whole_words_first = true, .adds_bos = true},
      {.names = {"deepseek-llm"},
       .rules = {"[\\r\\n]", kCased,
                 "\\s?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+", "\\s+$",
                 kHan, "\\p{N}+"}},
      {.names = {"deepseek-coder"}, .rules = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", kHan, "\\p{N}"}},
      {.names = {"deepseek-v3", "hunyuan-dense", "joyai-llm"},
       .rules = {"\\p{N}{1,3}", "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+",
                 "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
                 "?[\\p{P}\\p{S}]+[\\r\\n]*" FOVEA_BLANKS}},
      {.names = {"falcon"}, .rules = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", kGpt2, "[0-9][0-9][0-9]"}},
      {.names = {"default"}, .rules = {"[\\p{P}\\$\\+<=>\\^~\\|]+", kGpt2, "\\p{N}+", "[0-9][0-9][0-9]"}},
      {.names = {"bloom", "poro-chat", "gpt3-finnish"}, .rules = {kWords}},
      {.names = {"viking"}, .rules = {kWords, "\\p{N}"}},
      {.names = {"bailingmoe", "bailingmoe2", "llada-moe"},
       .rules = {"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
                 "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
      {.names = {"seed-coder"},
       .rules = {FOVEA_CONTRACTIONS
                 "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+" FOVEA_BLANKS}},
      {.names = {"superbpe"}, .rules = {"\\p{N}+", "(?=(\\d{3})+(?!\\d))"}},
  };
  return rows;
}

}  // namespace

const std::string_view kGpt2Rule = kGpt2;
const std::string_view kSingleDigitsRule = kSingleDigits;

std::span<const SplitRule> scanned_rules() { return kScanned; }
std::span<const PreTokenizer> pre_tokenizers() { return all(); }

Result<SplitStepPtr> make_rule(std::string_view expression) {
  for (const SplitRule& rule : kScanned) {
    if (rule.expression == expression) return make_scan(rule.word_end);
  }
  FOVEA_ASSIGN_OR_RETURN(Regex regex, Regex::create(expression));
  return make_regex_split(std::move(regex), Behaviour::kIsolated, false);
}

const PreTokenizer* find_pre_tokenizer(std::string_view name) {
  for (const PreTokenizer& pre : all()) {
    if (std::find(pre.names.begin(), pre.names.end(), name) != pre.names.end()) return &pre;
  }
  return nullptr;
}

}  // namespace fovea::tokenizers

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>

#include "fovea/tokenizers/pretokenize.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

std::string pcre2_message(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

}  // namespace

Result<RegexSplitter> RegexSplitter::create(const char* expression) {
  int error = 0;
  PCRE2_SIZE at = 0;
  // Anchored here, not in each match: JIT code has no such option.
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression), PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &at, nullptr);
  if (!code) return make_error(ErrorCode::kInternal, "regular expression, at {}: {}", at, pcre2_message(error));
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without JIT (some kernels forbid it) matching is only slower
  RegexSplitter splitter;
  splitter.code_ = {code, [](void* p) { pcre2_code_free(static_cast<pcre2_code*>(p)); }};
  return splitter;
}

Result<std::vector<size_t>> RegexSplitter::split(std::string_view text) const {
  // PCRE2 wants valid UTF-8: a stray byte is shown to it as a control character, a symbol of the same width.
  std::string shown(text);
  for (size_t i = 0; i < shown.size();) {
    const uint32_t n = code_point_at(shown.data() + i, shown.data() + shown.size()).bytes;
    if (n == 0) shown[i] = '\x01';
    i += n ? n : 1;
  }
  const auto* code = static_cast<const pcre2_code*>(code_.get());
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(pcre2_match_data_create(1, nullptr),
                                                                                  pcre2_match_data_free);
  const std::unique_ptr<pcre2_match_context, decltype(&pcre2_match_context_free)> context(
      pcre2_match_context_create(nullptr), pcre2_match_context_free);
  // These expressions try each character at most a few times.
  pcre2_set_match_limit(context.get(), static_cast<uint32_t>(std::min<size_t>(1000 + 16 * text.size(), UINT32_MAX)));
  pcre2_set_heap_limit(context.get(), 64 << 10);  // KiB
  std::vector<size_t> ends;
  for (size_t begin = 0; begin < shown.size();) {
    const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(shown.data()), shown.size(), begin,
                                  PCRE2_NO_UTF_CHECK, match.get(), context.get());
    if (found < 0)
      return make_error(ErrorCode::kLimit, "cutting text into words at byte {}: {}", begin, pcre2_message(found));
    const size_t end = pcre2_get_ovector_pointer(match.get())[1];
    if (end <= begin)
      return make_error(ErrorCode::kInternal, "cutting text into words at byte {}: an empty word", begin);
    ends.push_back(begin = end);
  }
  return ends;
}

}  // namespace fovea::tokenizers

#define PCRE2_CODE_UNIT_WIDTH 8
#include "fovea/tokenizers/regex.h"

#include <pcre2.h>

#include "fovea/base/bytes.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

// What Oniguruma means by \s, \w and \h; PCRE2 would add U+180E to white space, and has other words.
constexpr std::string_view kRegexWhite =
    "\\t-\\r\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}";
constexpr std::string_view kRegexWord = "\\p{L}\\p{M}\\p{Nd}\\p{Pc}";
constexpr std::string_view kRegexHex = "0-9A-Fa-f";

Error unsupported(std::string_view expression, size_t at, std::string_view what) {
  return Error{ErrorCode::kUnsupported,
               fmt::format("the regular expression {} has, at byte {}, {}", quote(expression), at, what),
               {}};
}

// Copies the expression and changes what the two engines read differently.
class Translator {
 public:
  explicit Translator(std::string_view in) : in_(in) {}

  Result<std::string> run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        atom_ = out_.size();
        FOVEA_RETURN_IF_ERROR(escape(false));
      } else if (c == '[') {
        atom_ = out_.size();
        FOVEA_RETURN_IF_ERROR(set());
      } else if (c == '(') {
        FOVEA_RETURN_IF_ERROR(open());
      } else if (c == ')') {
        if (groups_.empty()) return unsupported(in_, at_, "a ) without a (");
        atom_ = groups_.back();
        groups_.pop_back();
        out_ += in_[at_++];
      } else if (c == '{') {
        FOVEA_RETURN_IF_ERROR(repeat());
      } else {
        if (c != '*' && c != '+' && c != '?') atom_ = out_.size();
        const size_t n = std::max(1u, code_point_at(in_.data() + at_, in_.data() + in_.size()).bytes);
        out_.append(in_, at_, n);
        at_ += n;
      }
    }
    return std::move(out_);
  }

 private:
  Status escape(bool in_set) {
    if (at_ + 1 == in_.size()) return unsupported(in_, at_, "a \\ at its end");
    const char c = in_[at_ + 1];
    const auto put = [&](std::string_view set, bool complement) {
      if (!in_set) out_ += complement ? "[^" : "[";
      out_ += set;
      if (!in_set) out_ += ']';
      at_ += 2;
    };
    switch (c) {
      case 's': put(kRegexWhite, false); return {};
      case 'w': put(kRegexWord, false); return {};
      case 'h': put(kRegexHex, false); return {};
      case 'S':
      case 'W':
      case 'H':
        if (in_set) {
          if (c != 'S') return unsupported(in_, at_, fmt::format("\\{} inside a set", c));
          break;  // PCRE2's own, which differs in U+180E
        }
        put(c == 'S' ? kRegexWhite : c == 'W' ? kRegexWord : kRegexHex, true);
        return {};
      case 'p':
      case 'P': return property();
      default: break;
    }
    const size_t n = 1 + std::max(1u, code_point_at(in_.data() + at_ + 1, in_.data() + in_.size()).bytes);
    out_.append(in_, at_, n);
    at_ += n;
    return {};
  }

  // \p{L}, \p{^L}, \P{L}, \pL; the POSIX names that PCRE2 does not know.
  Status property() {
    const size_t close = in_.find('}', at_);
    if (at_ + 2 >= in_.size() || in_[at_ + 2] != '{' || close == in_.npos) {
      out_.append(in_, at_, 3);
      at_ = std::min(at_ + 3, in_.size());
      return {};
    }
    std::string_view name = in_.substr(at_ + 3, close - at_ - 3);
    bool complement = in_[at_ + 1] == 'P';
    if (name.starts_with('^')) {
      complement = !complement;
      name.remove_prefix(1);
    }
    std::string lower;
    for (const char c : name) lower += static_cast<char>(c >= 'A' && c <= 'Z' ? c | 32 : c);
    if (lower == "alpha") name = "Alphabetic";
    if (lower == "lower") name = "Lowercase";
    if (lower == "upper") name = "Uppercase";
    if (lower == "space") name = "White_Space";
    if (lower == "digit") name = "Nd";
    if (lower == "punct") name = "P";
    out_ += fmt::format("\\{}{{{}}}", complement ? 'P' : 'p', name);
    at_ = close + 1;
    return {};
  }

  Status set() {
    const size_t begin = at_;
    out_ += in_[at_++];
    if (at_ < in_.size() && in_[at_] == '^') out_ += in_[at_++];
    if (at_ < in_.size() && in_[at_] == ']') {
      out_ += "\\]";
      ++at_;
    }
    for (int depth = 0; at_ < in_.size();) {
      const char c = in_[at_];
      if (c == '\\') {
        FOVEA_RETURN_IF_ERROR(escape(true));
      } else if (c == ']') {
        ++at_;
        if (depth-- > 0) continue;  // of an inner set, which is only more of the outer one
        out_ += ']';
        return {};
      } else if (c == '[' && in_.substr(at_, 2) == "[:") {
        const size_t close = in_.find(":]", at_);
        if (close == in_.npos) return unsupported(in_, at_, "a [: without a :]");
        out_.append(in_, at_, close + 2 - at_);
        at_ = close + 2;
      } else if (c == '[') {
        if (in_.substr(at_, 2) == "[^") return unsupported(in_, at_, "a complement inside a set");
        ++depth;
        ++at_;
      } else if (in_.substr(at_, 2) == "&&") {
        return unsupported(in_, at_, "an intersection of sets");
      } else {
        const size_t n = std::max(1u, code_point_at(in_.data() + at_, in_.data() + in_.size()).bytes);
        out_.append(in_, at_, n);
        at_ += n;
      }
    }
    return unsupported(in_, begin, "a [ without a ]");
  }

  // Oniguruma's (?m) is what PCRE2 calls (?s); its (?s) does nothing to "." and its anchors are of lines anyway.
  Status open() {
    groups_.push_back(out_.size());
    atom_ = out_.size();
    out_ += in_[at_++];
    if (in_.substr(at_, 1) != "?") return {};
    size_t end = at_ + 1;
    while (end < in_.size() && ((in_[end] >= 'a' && in_[end] <= 'z') || in_[end] == '-')) ++end;
    const bool flags = end < in_.size() && (in_[end] == ':' || in_[end] == ')') && end > at_ + 1;
    if (!flags) {
      if (in_.substr(at_, 2) == "?~") return unsupported(in_, at_, "an absent operator");
      return {};
    }
    for (; at_ < end; ++at_) {
      const char c = in_[at_];
      if (c != '?' && c != 'i' && c != 'm' && c != 'x' && c != '-')
        return unsupported(in_, at_, fmt::format("the option {}", quote(in_.substr(at_, 1))));
      out_ += c == 'm' ? 's' : c;
    }
    return {};
  }

  // {n,m}; a + behind it repeats that again, where PCRE2 would forbid to give back.
  Status repeat() {
    const size_t close = in_.find('}', at_);
    const std::string_view inside = close == in_.npos ? std::string_view() : in_.substr(at_ + 1, close - at_ - 1);
    const bool counts = !inside.empty() && inside.find_first_not_of("0123456789,") == inside.npos && inside != ",";
    if (!counts) {
      atom_ = out_.size();
      out_ += "\\{";
      ++at_;
      return {};
    }
    out_ += inside.starts_with(',') ? fmt::format("{{0{}}}", inside) : fmt::format("{{{}}}", inside);
    at_ = close + 1;
    if (at_ < in_.size() && in_[at_] == '+') {
      out_.insert(atom_, "(?:");
      out_ += ")";
    }
    return {};
  }

  std::string_view in_;
  size_t at_ = 0, atom_ = 0;  // where in `out_` what a quantifier would repeat begins
  std::string out_;
  std::vector<size_t> groups_;
};

std::string pcre2_message(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

template <auto free>
struct Free {
  template <typename T>
  void operator()(T* p) const {
    free(p);
  }
};

}  // namespace

Result<std::string> to_pcre2(std::string_view oniguruma) { return Translator(oniguruma).run(); }

Result<Regex> Regex::create(std::string_view oniguruma) {
  if (oniguruma.size() > kMaxBytes)
    return make_error(ErrorCode::kLimit, "a regular expression of {} bytes; {} are allowed", oniguruma.size(),
                      kMaxBytes);
  if (!is_utf8(oniguruma) || oniguruma.find('\0') != oniguruma.npos)
    return make_error(ErrorCode::kData, "the regular expression {} is no text", quote(oniguruma));
  FOVEA_ASSIGN_OR_RETURN(const std::string expression, to_pcre2(oniguruma));
  const std::unique_ptr<pcre2_compile_context, Free<pcre2_compile_context_free>> context(
      pcre2_compile_context_create(nullptr));
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_max_pattern_length(context.get(), 4 * kMaxBytes);
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_code* code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &at, context.get());
  if (!code) {
    return Error{ErrorCode::kUnsupported,
                 fmt::format("the regular expression {} cannot be used: {}", quote(oniguruma), pcre2_message(error)),
                 {}};
  }
  Regex regex;
  regex.code_ = {code, [](const void* p) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(p))); }};
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without JIT (some kernels forbid it) matching is only slower
  return regex;
}

struct Regex::Matches::State {
  std::unique_ptr<pcre2_match_data, Free<pcre2_match_data_free>> match{pcre2_match_data_create(1, nullptr)};
  std::unique_ptr<pcre2_match_context, Free<pcre2_match_context_free>> context{pcre2_match_context_create(nullptr)};
  std::unique_ptr<pcre2_jit_stack, Free<pcre2_jit_stack_free>> stack{
      pcre2_jit_stack_create(32 << 10, 1 << 20, nullptr)};
  State() {
    pcre2_set_depth_limit(context.get(), 100'000);
    pcre2_set_heap_limit(context.get(), 64 << 10);  // KiB
    if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }

  // A step looks at each word of a text, which takes less time than making a state: a thread keeps those that it has
  // made. As many are out at once as there are steps one behind the other.
  static std::vector<std::unique_ptr<State>>& kept() {
    thread_local std::vector<std::unique_ptr<State>> all;
    return all;
  }
  static std::unique_ptr<State> take() {
    if (kept().empty()) return std::make_unique<State>();
    std::unique_ptr<State> one = std::move(kept().back());
    kept().pop_back();
    return one;
  }
};

Regex::Matches::Matches(const Regex& regex, std::string_view text) : regex_(regex), text_(text), state_(State::take()) {
  if (!is_utf8(text)) {
    shown_ = text;
    for (size_t i = 0; i < shown_.size();) {
      const uint32_t n = code_point_at(shown_.data() + i, shown_.data() + shown_.size()).bytes;
      if (n == 0) shown_[i] = '\x01';
      i += n ? n : 1;
    }
    text_ = shown_;
  }
  // Expressions in use try each character a few times. What tries them again and again is stopped by the number of
  // steps of one match; what does so in each of many matches, by the clock.
  const size_t steps = 1'000'000 + 32 * text.size();
  pcre2_set_match_limit(state_->context.get(), static_cast<uint32_t>(std::min<size_t>(steps, UINT32_MAX)));
}

Regex::Matches::~Matches() { State::kept().push_back(std::move(state_)); }

// Asked after some matches: of the words that a step looks at, most have fewer.
bool Regex::Matches::is_late() {
  const auto now = std::chrono::steady_clock::now();
  if (n_matches_ == 16) deadline_ = now + std::chrono::seconds(2) + std::chrono::microseconds(2 * text_.size());
  return now > deadline_;
}

bool Regex::Matches::next(size_t& begin, size_t& end) {
  const auto* code = static_cast<const pcre2_code*>(regex_.code_.get());
  const char* text = text_.data() ? text_.data() : "";
  while (from_ <= text_.size()) {
    if (++n_matches_ % 16 == 0 && is_late()) {
      status_ = make_error(ErrorCode::kLimit, "a regular expression takes too long on this text, at byte {}", from_);
      return false;
    }
    const int found = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text), text_.size(), from_, PCRE2_NO_UTF_CHECK,
                                  state_->match.get(), state_->context.get());
    if (found == PCRE2_ERROR_NOMATCH) return false;
    if (found < 0) {
      status_ = make_error(ErrorCode::kLimit, "a regular expression takes too long on this text, at byte {}: {}", from_,
                           pcre2_message(found));
      return false;
    }
    const PCRE2_SIZE* at = pcre2_get_ovector_pointer(state_->match.get());
    begin = at[0];
    end = at[1];
    if (end < begin) end = begin;  // \K in a look-ahead
    const bool empty = begin == end;
    // The next search starts behind an empty match by one character, and none is empty where the last one ended.
    const uint32_t n = code_point_at(text + std::min(end, text_.size()), text + text_.size()).bytes;
    from_ = empty ? end + std::max(1u, n) : end;
    if (empty && end == last_end_) continue;
    last_end_ = end;
    return true;
  }
  return false;
}

}  // namespace fovea::tokenizers

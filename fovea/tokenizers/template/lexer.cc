#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "fovea/tokenizers/template/syntax.h"
#include "fovea/tokenizers/template/text.h"

namespace fovea::tokenizers::jinja {
namespace {

bool space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

class Lexer {
 public:
  explicit Lexer(const std::string& source) {
    for (size_t i = 0; i < source.size(); ++i) {  // \r\n and \r read as \n
      if (source[i] != '\r')
        s_ += source[i];
      else if (i + 1 == source.size() || source[i + 1] != '\n')
        s_ += '\n';
    }
    if (!s_.empty() && s_.back() == '\n') s_.pop_back();
  }
  std::vector<Token> run() {
    bool line_starting = true;
    while (p_ < s_.size()) {
      size_t open = p_;
      while ((open = s_.find('{', open)) != std::string::npos &&
             (open + 1 >= s_.size() || !std::strchr("{%#", s_[open + 1]) || !s_[open + 1]))
        ++open;
      std::string text = s_.substr(p_, open == std::string::npos ? open : open - p_);
      const int text_line = line_;
      count_lines(text);
      if (open == std::string::npos) {
        push(TokenKind::kText, text, text_line);
        break;
      }
      const char kind = s_[open + 1];
      p_ = open + 2;
      const char sign = p_ < s_.size() ? s_[p_] : 0;
      strip_before(text, kind, sign, line_starting);
      if (sign == '-' || sign == '+') ++p_;
      if (!text.empty()) push(TokenKind::kText, text, text_line);
      if (kind == '#') {
        const size_t close = s_.find("#}", p_);
        if (close == std::string::npos) syntax_error(line_, "a comment is never closed");
        const char before = close > p_ ? s_[close - 1] : 0;
        count_lines(s_.substr(p_, close - p_));
        p_ = close + 2;
        trim_after(before, true);
      } else if (kind == '%' && raw_tag("raw", true)) {
        raw();
      } else {
        push(kind == '%' ? TokenKind::kBlockBegin : TokenKind::kVarBegin, "", line_);
        code(kind == '%');
      }
      line_starting = p_ > 0 && s_[p_ - 1] == '\n';
    }
    push(TokenKind::kEnd, "end of template", line_);
    return std::move(out_);
  }

 private:
  void push(TokenKind t, std::string text, int line) { out_.push_back(Token{t, std::move(text), line}); }
  void count_lines(const std::string& text) {
    for (char c : text) line_ += c == '\n';
  }
  static void strip_before(std::string& text, char kind, char sign, bool line_starting) {
    if (sign == '-') {
      while (!text.empty() && space(text.back())) text.pop_back();
    } else if (sign != '+' && kind != '{') {
      size_t keep = text.size();
      while (keep > 0 && space(text[keep - 1]) && text[keep - 1] != '\n') --keep;
      if (keep > 0 ? text[keep - 1] == '\n' : line_starting) text.resize(keep);
    }
  }
  void trim_after(char sign, bool block) {
    if (sign == '-') {
      while (p_ < s_.size() && space(s_[p_])) line_ += s_[p_++] == '\n';
    } else if (block && sign != '+' && p_ < s_.size() && s_[p_] == '\n') {
      ++p_, ++line_;
    }
  }
  // At p_, after "{%" and its sign: reads `word %}` with its trimming, or leaves p_ alone. The newline after
  // {% raw %} belongs to the text, the one after {% endraw %} is trimmed as after any block.
  bool raw_tag(const char* word, bool opens) {
    size_t q = p_;
    while (q < s_.size() && space(s_[q])) ++q;
    if (s_.compare(q, std::strlen(word), word) != 0) return false;
    q += std::strlen(word);
    while (q < s_.size() && space(s_[q])) ++q;
    const char sign = q < s_.size() ? s_[q] : 0;
    if (sign == '-' || (sign == '+' && !opens)) ++q;
    if (s_.compare(q, 2, "%}") != 0) return false;
    p_ = q + 2;
    trim_after(sign, !opens);
    return true;
  }
  void raw() {
    const size_t start = p_;
    const int line = line_;
    for (size_t open = p_; (open = s_.find("{%", open)) != std::string::npos; ++open) {
      const char sign = open + 2 < s_.size() ? s_[open + 2] : 0;
      p_ = open + 2 + (sign == '-' || sign == '+');
      if (!raw_tag("endraw", false)) continue;
      std::string text = s_.substr(start, open - start);
      count_lines(text);
      strip_before(text, '%', sign, start > 0 && s_[start - 1] == '\n');
      push(TokenKind::kText, text, line);
      return;
    }
    syntax_error(line, "a raw block is never closed");
  }
  void code(bool block) {
    const char* end = block ? "%}" : "}}";
    std::string brackets;
    for (;;) {
      while (p_ < s_.size() && space(s_[p_])) line_ += s_[p_++] == '\n';
      if (p_ >= s_.size()) syntax_error(line_, fmt::format("'{}' is missing", end));
      const char c = s_[p_];
      if (brackets.empty()) {
        const bool sign = c == '-' || (c == '+' && block);
        if (s_.compare(p_ + sign, 2, end) == 0) {
          p_ += 2 + sign;
          push(block ? TokenKind::kBlockEnd : TokenKind::kVarEnd, end, line_);
          trim_after(sign ? c : 0, block);
          return;
        }
      }
      if (std::isdigit(static_cast<unsigned char>(c))) {
        number();
        continue;
      }
      if (name_starts()) {
        const size_t b = p_;
        while (p_ < s_.size() && name_goes_on()) p_ += character_bytes(s_, p_);
        push(TokenKind::kName, s_.substr(b, p_ - b), line_);
        continue;
      }
      if (c == '"' || c == '\'') {
        quoted(c);
        continue;
      }
      std::string op(1, c);
      for (const char* two : {"==", "!=", ">=", "<=", "//", "**"})
        if (s_.compare(p_, 2, two) == 0) op = two;
      if (!std::strchr("+-*/%~<>=!.,:|()[]{};", c) || op == "!")
        syntax_error(line_, fmt::format("unexpected character '{}'", s_.substr(p_, character_bytes(s_, p_))));
      if (std::strchr("([{", c)) brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
      if (std::strchr(")]}", c)) {
        if (brackets.empty() || brackets.back() != c) syntax_error(line_, fmt::format("unexpected '{}'", c));
        brackets.pop_back();
      }
      p_ += op.size();
      push(TokenKind::kOp, op, line_);
    }
  }
  uint32_t character() const { return code_point(std::string_view(s_).substr(p_, character_bytes(s_, p_))); }
  // A stray byte of 0x80 and up is no character.
  bool whole() const { return static_cast<unsigned char>(s_[p_]) < 0x80 || character_bytes(s_, p_) > 1; }
  bool name_starts() const { return whole() && starts_identifier(character()); }
  bool name_goes_on() const { return whole() && continues_identifier(character()); }
  void number() {
    const auto digit_at = [&](size_t q, int base) {
      if (q >= s_.size() || !std::isxdigit(static_cast<unsigned char>(s_[q]))) return false;
      const int value = std::isdigit(static_cast<unsigned char>(s_[q])) ? s_[q] - '0' : (s_[q] | 32) - 'a' + 10;
      return value < base;
    };
    std::string digits;
    const auto run = [&](int base) {  // single underscores may stand between digits
      for (; digit_at(p_, base) || (p_ < s_.size() && s_[p_] == '_' && digit_at(p_ + 1, base)); ++p_) {
        if (s_[p_] != '_') digits += s_[p_];
      }
    };
    const char letter = p_ + 1 < s_.size() ? static_cast<char>(s_[p_ + 1] | 32) : 0;
    const int base = s_[p_] != '0' ? 10 : letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
    bool real = false;
    if (base != 10 && (digit_at(p_ + 2, base) || (p_ + 2 < s_.size() && s_[p_ + 2] == '_'))) {
      p_ += 2;
      run(base);
    } else {
      run(10);
      if (p_ < s_.size() && s_[p_] == '.' && digit_at(p_ + 1, 10)) {
        real = true;
        digits += s_[p_++];
        run(10);
      }
      if (p_ < s_.size() && (s_[p_] | 32) == 'e') {
        const size_t sign = p_ + 1 < s_.size() && (s_[p_ + 1] == '+' || s_[p_ + 1] == '-');
        if (digit_at(p_ + 1 + sign, 10)) {
          real = true;
          digits += s_.substr(p_, 1 + sign);
          p_ += 1 + sign;
          run(10);
        }
      }
    }
    if (!real) {
      int64_t value = 0;
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
      if (error != std::errc() || end != digits.data() + digits.size())
        syntax_error(line_, "an integer does not fit 64 bits");
      digits = std::to_string(value);
    }
    push(real ? TokenKind::kFloat : TokenKind::kInt, digits, line_);
  }
  void quoted(char quote) {
    std::string v;
    const int line = line_;
    for (++p_;; ++p_) {
      if (p_ >= s_.size()) syntax_error(line, "a string is never closed");
      char c = s_[p_];
      if (c == quote) break;
      line_ += c == '\n';
      if (c != '\\' || p_ + 1 >= s_.size()) {
        v += c;
        continue;
      }
      c = s_[++p_];
      const char* from = "ntrabfv\\'\"";
      const char* to = "\n\t\r\a\b\f\v\\'\"";
      const char* at = std::strchr(from, c);
      const size_t hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
      if (hex) {
        const std::string h = s_.substr(p_ + 1, hex);
        if (h.size() != hex || h.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos)
          syntax_error(line_, "a bad escape in a string");
        const auto code_point = static_cast<uint32_t>(std::strtoul(h.c_str(), nullptr, 16));
        if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000))
          syntax_error(line_, "a bad escape in a string");
        append_utf8(v, code_point);
        p_ += hex;
      } else if (c >= '0' && c <= '7') {
        uint32_t octal = 0;
        const size_t end = std::min(p_ + 3, s_.size());
        for (; p_ < end && s_[p_] >= '0' && s_[p_] <= '7'; ++p_)
          octal = octal * 8 + static_cast<uint32_t>(s_[p_] - '0');
        append_utf8(v, octal);
        --p_;
      } else if (c == '\n') {
        ++line_;
      } else if (c && at) {
        v += to[at - from];
      } else {
        v += '\\';
        v += c;
      }
    }
    ++p_;
    push(TokenKind::kString, v, line);
  }

  std::string s_;
  size_t p_ = 0;
  int line_ = 1;
  std::vector<Token> out_;
};

}  // namespace

void syntax_error(int line, const std::string& what) { fail(fmt::format("chat template, line {}: {}", line, what)); }

std::vector<Token> lex_template(const std::string& source) { return Lexer(source).run(); }

}  // namespace fovea::tokenizers::jinja

#include <cstdlib>
#include <cstring>

#include "fovea/tokenizers/template_value.h"

namespace fovea::tokenizers::jinja {
namespace {

constexpr int kMaxDepth = 200;
enum class T { kText, kVarBegin, kVarEnd, kBlockBegin, kBlockEnd, kName, kString, kInt, kFloat, kOp, kEnd };
struct Token {
  T type;
  std::string text;
  int line;
};

[[noreturn]] void syntax_error(int line, const std::string& what) {
  fail(fmt::format("chat template, line {}: {}", line, what));
}
bool space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool name_char(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

void append_utf8(std::string& out, uint32_t c) {
  if (c < 0x80) out += static_cast<char>(c);
  else if (c < 0x800) { out += static_cast<char>(0xC0 | c >> 6); out += static_cast<char>(0x80 | (c & 63)); }
  else if (c < 0x10000) { out += static_cast<char>(0xE0 | c >> 12); out += static_cast<char>(0x80 | (c >> 6 & 63)); out += static_cast<char>(0x80 | (c & 63)); }
  else { out += static_cast<char>(0xF0 | c >> 18); out += static_cast<char>(0x80 | (c >> 12 & 63)); out += static_cast<char>(0x80 | (c >> 6 & 63)); out += static_cast<char>(0x80 | (c & 63)); }
}

class Lexer {
 public:
  explicit Lexer(const std::string& source) {
    for (size_t i = 0; i < source.size(); ++i) {  // \r\n and \r read as \n
      if (source[i] != '\r') s_ += source[i];
      else if (i + 1 == source.size() || source[i + 1] != '\n') s_ += '\n';
    }
    if (!s_.empty() && s_.back() == '\n') s_.pop_back();
  }
  std::vector<Token> run() {
    bool line_starting = true;
    while (p_ < s_.size()) {
      size_t open = p_;
      while ((open = s_.find('{', open)) != std::string::npos && (open + 1 >= s_.size() || !std::strchr("{%#", s_[open + 1]) || !s_[open + 1])) ++open;
      std::string text = s_.substr(p_, open == std::string::npos ? open : open - p_);
      const int text_line = line_;
      count_lines(text);
      if (open == std::string::npos) { push(T::kText, text, text_line); break; }
      const char kind = s_[open + 1];
      p_ = open + 2;
      const char sign = p_ < s_.size() ? s_[p_] : 0;
      strip_before(text, kind, sign, line_starting);
      if (sign == '-' || sign == '+') ++p_;
      if (!text.empty()) push(T::kText, text, text_line);
      if (kind == '#') {
        const size_t close = s_.find("#}", p_);
        if (close == std::string::npos) syntax_error(line_, "a comment is never closed");
        const char before = close > p_ ? s_[close - 1] : 0;
        count_lines(s_.substr(p_, close - p_));
        p_ = close + 2;
        trim_after(before, true);
      } else if (kind == '%' && raw_tag("raw")) {
        raw();
      } else {
        push(kind == '%' ? T::kBlockBegin : T::kVarBegin, "", line_);
        code(kind == '%');
      }
      line_starting = p_ > 0 && s_[p_ - 1] == '\n';
    }
    push(T::kEnd, "end of template", line_);
    return std::move(out_);
  }

 private:
  void push(T t, std::string text, int line) { out_.push_back(Token{t, std::move(text), line}); }
  void count_lines(const std::string& text) { for (char c : text) line_ += c == '\n'; }
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
  // At p_, after "{%" and its sign: reads `word %}` with its trimming, or leaves p_ alone.
  bool raw_tag(const char* word) {
    size_t q = p_;
    while (q < s_.size() && space(s_[q])) ++q;
    if (s_.compare(q, std::strlen(word), word) != 0) return false;
    q += std::strlen(word);
    while (q < s_.size() && space(s_[q])) ++q;
    const char sign = q < s_.size() ? s_[q] : 0;
    if (sign == '-' || sign == '+') ++q;
    if (s_.compare(q, 2, "%}") != 0) return false;
    p_ = q + 2;
    trim_after(sign, true);
    return true;
  }
  void raw() {
    const size_t start = p_;
    const int line = line_;
    for (size_t open = p_; (open = s_.find("{%", open)) != std::string::npos; ++open) {
      const char sign = open + 2 < s_.size() ? s_[open + 2] : 0;
      p_ = open + 2 + (sign == '-' || sign == '+');
      std::string text = s_.substr(start, open - start);
      if (!raw_tag("endraw")) continue;
      count_lines(text);
      strip_before(text, '%', sign, start > 0 && s_[start - 1] == '\n');
      push(T::kText, text, line);
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
          push(block ? T::kBlockEnd : T::kVarEnd, end, line_);
          trim_after(sign ? c : 0, block);
          return;
        }
      }
      if (std::isdigit(static_cast<unsigned char>(c))) { number(); continue; }
      if (name_char(c)) {
        const size_t b = p_;
        while (p_ < s_.size() && name_char(s_[p_])) ++p_;
        push(T::kName, s_.substr(b, p_ - b), line_);
        continue;
      }
      if (c == '"' || c == '\'') { quoted(c); continue; }
      std::string op(1, c);
      for (const char* two : {"==", "!=", ">=", "<=", "//", "**"})
        if (s_.compare(p_, 2, two) == 0) op = two;
      if (!std::strchr("+-*/%~<>=!.,:|()[]{};", c) || op == "!") syntax_error(line_, fmt::format("unexpected character '{}'", c));
      if (std::strchr("([{", c)) brackets += c == '(' ? ')' : c == '[' ? ']' : '}';
      if (std::strchr(")]}", c)) {
        if (brackets.empty() || brackets.back() != c) syntax_error(line_, fmt::format("unexpected '{}'", c));
        brackets.pop_back();
      }
      p_ += op.size();
      push(T::kOp, op, line_);
    }
  }
  void number() {
    std::string digits;
    bool real = false;
    auto run = [&] { while (p_ < s_.size() && (std::isdigit(static_cast<unsigned char>(s_[p_])) || s_[p_] == '_')) { if (s_[p_] != '_') digits += s_[p_]; ++p_; } };
    auto digit_at = [&](size_t q) { return q < s_.size() && std::isdigit(static_cast<unsigned char>(s_[q])); };
    run();
    if (p_ < s_.size() && s_[p_] == '.' && digit_at(p_ + 1)) { real = true; digits += '.'; ++p_; run(); }
    if (p_ < s_.size() && (s_[p_] | 32) == 'e') {
      const bool sign = p_ + 1 < s_.size() && (s_[p_ + 1] == '+' || s_[p_ + 1] == '-');
      if (digit_at(p_ + 1 + sign)) { real = true; digits += s_.substr(p_, 1 + sign); p_ += 1 + sign; run(); }
    }
    if (!real && digits.size() > 18) syntax_error(line_, "an integer does not fit 64 bits");
    push(real ? T::kFloat : T::kInt, digits, line_);
  }
  void quoted(char quote) {
    std::string v;
    const int line = line_;
    for (++p_;; ++p_) {
      if (p_ >= s_.size()) syntax_error(line, "a string is never closed");
      char c = s_[p_];
      if (c == quote) break;
      line_ += c == '\n';
      if (c != '\\' || p_ + 1 >= s_.size()) { v += c; continue; }
      c = s_[++p_];
      const char* from = "ntrabfv0\\'\"";
      const char* to = "\n\t\r\a\b\f\v\0\\'\"";
      const char* at = std::strchr(from, c);
      const size_t hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
      if (hex) {
        const std::string h = s_.substr(p_ + 1, hex);
        if (h.size() != hex || h.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) syntax_error(line_, "a bad escape in a string");
        const auto code_point = static_cast<uint32_t>(std::strtoul(h.c_str(), nullptr, 16));
        if (code_point > 0x10FFFF || (code_point >= 0xD800 && code_point < 0xE000)) syntax_error(line_, "a bad escape in a string");
        append_utf8(v, code_point);
        p_ += hex;
      } else if (c == '\n') { ++line_; }
      else if (c && at) { v += to[at - from]; }
      else { v += '\\'; v += c; }
    }
    ++p_;
    push(T::kString, v, line);
  }

  std::string s_;
  size_t p_ = 0;
  int line_ = 1;
  std::vector<Token> out_;
};

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : t_(std::move(tokens)) {}
  Template run() {
    Template t;
    t.body = body({});
    return t;
  }

 private:
  struct Nest {
    Nest(int& d, int line) : depth(d) { if (++depth > kMaxDepth) { --depth; fail_limit(fmt::format("chat template, line {}: nested deeper than {}", line, kMaxDepth)); } }
    ~Nest() { --depth; }
    int& depth;
  };
  const Token& cur() const { return t_[p_]; }
  const Token& peek() const { return t_[p_ + 1 < t_.size() ? p_ + 1 : p_]; }
  bool op(const char* s) const { return cur().type == T::kOp && cur().text == s; }
  bool name(const char* s) const { return cur().type == T::kName && cur().text == s; }
  bool take_op(const char* s) { if (!op(s)) return false; ++p_; return true; }
  bool take_name(const char* s) { if (!name(s)) return false; ++p_; return true; }
  [[noreturn]] void unexpected() const { syntax_error(cur().line, fmt::format("unexpected '{}'", cur().text)); }
  void want_op(const char* s) { if (!take_op(s)) syntax_error(cur().line, fmt::format("expected '{}', got '{}'", s, cur().text)); }
  void want(T type) { if (cur().type != type) unexpected(); ++p_; }
  std::string ident() { if (cur().type != T::kName) unexpected(); return t_[p_++].text; }
  ExprPtr make(Op o, int line, std::string n = {}) {
    auto e = std::make_unique<Expr>();
    e->op = o; e->line = line; e->name = std::move(n);
    return e;
  }
  ExprPtr make2(Op o, std::string n, ExprPtr a, ExprPtr b) {
    auto e = make(o, cur().line, std::move(n));
    e->kids.push_back(std::move(a)); e->kids.push_back(std::move(b));
    return e;
  }
  // Reads statements until one of `ends` (left at its name), or the end of the template.
  Body body(const std::vector<std::string>& ends) {
    Nest nest(depth_, cur().line);
    Body out;
    for (;;) {
      const Token& t = cur();
      if (t.type == T::kEnd) {
        if (!ends.empty()) syntax_error(t.line, fmt::format("'{}' is missing", ends.back()));
        return out;
      }
      auto s = std::make_unique<Stmt>();
      s->line = t.line;
      ++p_;
      if (t.type == T::kText) { s->tag = Tag::kText; s->text = t.text; out.push_back(std::move(s)); continue; }
      if (t.type == T::kVarBegin) { s->tag = Tag::kPrint; s->value = tuple_expr(true); want(T::kVarEnd); out.push_back(std::move(s)); continue; }
      for (const auto& e : ends) if (name(e.c_str())) return out;
      statement(*s);
      out.push_back(std::move(s));
    }
  }
  void close() { ++p_; want(T::kBlockEnd); }
  void statement(Stmt& s) {
    const std::string word = ident();
    if (word == "if") {
      s.tag = Tag::kIf;
      auto cond = tuple_expr(true);
      for (;;) {
        want(T::kBlockEnd);
        auto b = body({"elif", "else", "endif"});
        s.branches.emplace_back(std::move(cond), std::move(b));
        cond = nullptr;
        if (take_name("elif")) { cond = tuple_expr(true); continue; }
        if (take_name("else")) { want(T::kBlockEnd); s.branches.emplace_back(nullptr, body({"endif"})); }
        break;
      }
      close();
    } else if (word == "for") {
      s.tag = Tag::kFor;
      s.target = target();
      if (!take_name("in")) unexpected();
      s.value = tuple_expr(false);
      if (take_name("if")) s.filter = expr();
      if (take_name("recursive")) syntax_error(s.line, "a recursive for is not supported");
      want(T::kBlockEnd);
      ++loops_;
      s.body = body({"else", "endfor"});
      --loops_;
      if (take_name("else")) { want(T::kBlockEnd); s.otherwise = body({"endfor"}); }
      close();
    } else if (word == "set") {
      s.tag = Tag::kSet;
      s.target = target();
      if (take_op("=")) { s.value = tuple_expr(true); want(T::kBlockEnd); return; }
      s.tag = Tag::kSetBlock;
      if (op("|")) { s.filter = make(Op::kName, s.line, "\x01"); s.filter = filters(std::move(s.filter)); }
      want(T::kBlockEnd);
      s.body = body({"endset"});
      close();
    } else if (word == "macro") {
      s.tag = Tag::kMacro;
      s.text = ident();
      want_op("(");
      while (!op(")")) {
        s.params.push_back(ident());
        if (take_op("=")) s.defaults.push_back(expr());
        else if (!s.defaults.empty()) syntax_error(s.line, "a parameter without a default follows one with");
        if (!take_op(",")) break;
      }
      want_op(")");
      want(T::kBlockEnd);
      const int loops = std::exchange(loops_, 0);
      s.body = body({"endmacro"});
      loops_ = loops;
      close();
    } else if (word == "generation") {
      s.tag = Tag::kScope;
      want(T::kBlockEnd);
      s.body = body({"endgeneration"});
      close();
    } else if (word == "filter") {
      s.tag = Tag::kFilterBlock;
      auto in = make(Op::kName, s.line, "\x01");
      --p_;
      t_[p_] = Token{T::kOp, "|", s.line};
      s.filter = filters(std::move(in));
      want(T::kBlockEnd);
      s.body = body({"endfilter"});
      close();
    } else if (word == "break" || word == "continue") {
      if (!loops_) syntax_error(s.line, fmt::format("'{}' outside a loop", word));
      s.tag = word == "break" ? Tag::kBreak : Tag::kContinue;
      want(T::kBlockEnd);
    } else {
      syntax_error(s.line, fmt::format("unknown tag '{}'", word));
    }
  }
  ExprPtr target() {
    auto one = [&]() -> ExprPtr {
      Nest nest(depth_, cur().line);
      if (take_op("(")) { auto t = target(); want_op(")"); return t; }
      auto e = make(Op::kName, cur().line, ident());
      if (take_op(".")) { auto a = make(Op::kAttr, cur().line, ident()); a->kids.push_back(std::move(e)); return a; }
      return e;
    };
    auto first = one();
    if (!op(",")) return first;
    auto t = make(Op::kTuple, cur().line);
    t->kids.push_back(std::move(first));
    while (take_op(",")) { if (name("in") || op("=") || op(")")) break; t->kids.push_back(one()); }
    return t;
  }
  ExprPtr tuple_expr(bool ternary) {
    auto item = [&] { return ternary ? expr() : or_expr(); };
    auto e = item();
    if (!op(",")) return e;
    auto t = make(Op::kTuple, cur().line);
    t->kids.push_back(std::move(e));
    while (take_op(",")) {
      if (cur().type == T::kVarEnd || cur().type == T::kBlockEnd || op(")") || name("if")) break;
      t->kids.push_back(item());
    }
    return t;
  }
  ExprPtr expr() {
    Nest nest(depth_, cur().line);
    auto e = or_expr();
    while (take_name("if")) {
      auto c = make(Op::kIf, cur().line);
      c->kids.push_back(or_expr());
      c->kids.push_back(std::move(e));
      c->kids.push_back(take_name("else") ? expr() : nullptr);
      e = std::move(c);
    }
    return e;
  }
  // A chain a + b + c makes a tree as deep as it is long, so it counts against the depth too.
  struct Chain {
    explicit Chain(const Parser& p) : parser(p) {}
    void link() { if (++n > kMaxDepth) fail_limit(fmt::format("chat template, line {}: more than {} operators in a row", parser.cur().line, kMaxDepth)); }
    const Parser& parser;
    int n = 0;
  };
  ExprPtr or_expr() {
    auto e = and_expr();
    Chain chain(*this);
    while (take_name("or")) { chain.link(); e = make2(Op::kOr, "", std::move(e), and_expr()); }
    return e;
  }
  ExprPtr and_expr() {
    auto e = not_expr();
    Chain chain(*this);
    while (take_name("and")) { chain.link(); e = make2(Op::kAnd, "", std::move(e), not_expr()); }
    return e;
  }
  ExprPtr not_expr() {
    Nest nest(depth_, cur().line);
    if (!name("not")) return comparison();
    auto e = make(Op::kNot, cur().line);
    ++p_;
    e->kids.push_back(not_expr());
    return e;
  }
  ExprPtr comparison() {
    auto e = binary(0);
    ExprPtr c;
    for (;;) {
      std::string o;
      for (const char* s : {"==", "!=", "<", "<=", ">", ">="}) if (op(s)) o = s;
      if (name("in")) o = "in";
      if (name("not") && peek().type == T::kName && peek().text == "in") { o = "not in"; ++p_; }
      if (o.empty()) break;
      ++p_;
      if (!c) { c = make(Op::kCompare, cur().line); c->kids.push_back(std::move(e)); }
      c->ops.push_back(o);
      c->kids.push_back(binary(0));
    }
    return c ? std::move(c) : std::move(e);
  }
  ExprPtr binary(int level) {
    static const std::vector<std::vector<const char*>> kLevels = {{"+", "-"}, {"~"}, {"*", "/", "//", "%"}, {"**"}};
    if (level == 4) return unary(true);
    auto e = binary(level + 1);
    Chain chain(*this);
    for (;;) {
      std::string o;
      for (const char* s : kLevels[static_cast<size_t>(level)]) if (op(s)) o = s;
      if (o.empty()) return e;
      ++p_;
      chain.link();
      e = make2(Op::kBinary, o, std::move(e), binary(level + 1));
    }
  }
  ExprPtr unary(bool with_filters) {
    Nest nest(depth_, cur().line);
    ExprPtr e;
    if (op("-") || op("+")) {
      e = make(op("-") ? Op::kNeg : Op::kPos, cur().line);
      ++p_;
      e->kids.push_back(unary(false));
    } else {
      e = primary();
    }
    e = postfix(std::move(e));
    return with_filters ? filters(std::move(e)) : std::move(e);
  }
  ExprPtr primary() {
    const Token& t = cur();
    auto e = make(Op::kLiteral, t.line);
    if (t.type == T::kName) {
      const std::string& n = t.text;
      ++p_;
      if (n == "true" || n == "True") e->literal = Value::boolean(true);
      else if (n == "false" || n == "False") e->literal = Value::boolean(false);
      else if (n == "none" || n == "None") e->literal = Value::none();
      else { e->op = Op::kName; e->name = n; }
    } else if (t.type == T::kString) {
      std::string v;
      while (cur().type == T::kString) v += t_[p_++].text;
      e->literal = Value::string(v);
    } else if (t.type == T::kInt) {
      e->literal = Value::integer(std::atoll(t.text.c_str())); ++p_;
    } else if (t.type == T::kFloat) {
      e->literal = Value::number(std::strtod(t.text.c_str(), nullptr)); ++p_;
    } else if (take_op("(")) {
      if (take_op(")")) { e->op = Op::kTuple; return e; }
      e = tuple_expr(true);
      want_op(")");
    } else if (take_op("[")) {
      e->op = Op::kList;
      while (!op("]")) { e->kids.push_back(expr()); if (!take_op(",")) break; }
      want_op("]");
    } else if (take_op("{")) {
      e->op = Op::kDict;
      while (!op("}")) { e->kids.push_back(expr()); want_op(":"); e->kids.push_back(expr()); if (!take_op(",")) break; }
      want_op("}");
    } else {
      unexpected();
    }
    return e;
  }
  void arguments(Expr& call) {
    while (!op(")")) {
      if (cur().type == T::kName && peek().type == T::kOp && peek().text == "=") {
        std::string n = ident();
        ++p_;
        call.kwargs.emplace_back(n, expr());
      } else {
        if (!call.kwargs.empty()) syntax_error(cur().line, "a positional argument follows a named one");
        call.kids.push_back(expr());
      }
      if (!take_op(",")) break;
    }
    want_op(")");
  }
  ExprPtr postfix(ExprPtr e) {
    Chain chain(*this);
    for (;;) {
      const int line = cur().line;
      ExprPtr n;
      if (take_op(".")) {
        if (cur().type == T::kInt) { n = make(Op::kIndex, line); n->kids.push_back(std::move(e)); n->kids.push_back(primary()); }
        else { n = make(Op::kAttr, line, ident()); n->kids.push_back(std::move(e)); }
      } else if (take_op("[")) {
        ExprPtr parts[3];
        int colons = 0;
        while (!op("]")) {
          if (take_op(":")) { if (++colons > 2) unexpected(); }
          else { if (parts[colons]) unexpected(); parts[colons] = expr(); }
        }
        ++p_;
        if (!colons && !parts[0]) unexpected();
        n = make(colons ? Op::kSlice : Op::kIndex, line);
        n->kids.push_back(std::move(e));
        n->kids.push_back(std::move(parts[0]));
        if (colons) { n->kids.push_back(std::move(parts[1])); n->kids.push_back(std::move(parts[2])); }
      } else if (take_op("(")) {
        n = make(Op::kCall, line);
        n->kids.push_back(std::move(e));
        arguments(*n);
      } else {
        return e;
      }
      chain.link();
      e = std::move(n);
    }
  }
  ExprPtr filters(ExprPtr e) {
    Chain chain(*this);
    for (;;) {
      const int line = cur().line;
      ExprPtr n;
      if (take_op("|")) {
        n = make(Op::kFilter, line, ident());
        if (!is_filter(n->name)) syntax_error(line, fmt::format("no filter named '{}'", n->name));
        n->kids.push_back(std::move(e));
        if (take_op("(")) arguments(*n);
      } else if (take_name("is")) {
        const bool negated = take_name("not");
        n = make(Op::kTest, line, ident());
        if (!is_test(n->name)) syntax_error(line, fmt::format("no test named '{}'", n->name));
        n->kids.push_back(std::move(e));
        const T t = cur().type;
        if (take_op("(")) arguments(*n);
        else if (t == T::kString || t == T::kInt || t == T::kFloat || op("[") || op("{") ||
                 (t == T::kName && !name("else") && !name("or") && !name("and") && !name("is") && !name("if") && !name("in") && !name("not")))
          n->kids.push_back(postfix(primary()));
        if (negated) { auto inv = make(Op::kNot, line); inv->kids.push_back(std::move(n)); n = std::move(inv); }
      } else if (op("(")) {
        e = postfix(std::move(e));
        continue;
      } else {
        return e;
      }
      chain.link();
      e = std::move(n);
    }
  }

  std::vector<Token> t_;
  size_t p_ = 0;
  int depth_ = 0;
  int loops_ = 0;
};

}  // namespace

Template parse_template(const std::string& source) { return Parser(Lexer(source).run()).run(); }

}  // namespace fovea::tokenizers::jinja

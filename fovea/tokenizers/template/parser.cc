#include <algorithm>
#include <charconv>
#include <utility>

#include "fovea/tokenizers/template/syntax.h"

namespace fovea::tokenizers::jinja {
namespace {

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : t_(std::move(tokens)) {}
  Template run() {
    Template t;
    t.body = body({});
    find_unset(t);
    return t;
  }

 private:
  struct Nest {
    Nest(int& d, int line) : depth(d) {
      if (depth >= kMaxTreeDepth) too_deep(line);
      ++depth;
    }
    ~Nest() { --depth; }
    Nest(const Nest&) = delete;
    Nest& operator=(const Nest&) = delete;
    int& depth;
  };
  [[noreturn]] static void too_deep(int line) {
    fail_limit(fmt::format("chat template, line {}: nested deeper than {}", line, kMaxTreeDepth));
  }

  const Token& cur() const { return t_[p_]; }
  const Token& peek() const { return t_[p_ + 1 < t_.size() ? p_ + 1 : p_]; }
  bool op(const char* s) const { return cur().type == TokenKind::kOp && cur().text == s; }
  bool name(const char* s) const { return cur().type == TokenKind::kName && cur().text == s; }
  bool take_op(const char* s) {
    if (!op(s)) return false;
    ++p_;
    return true;
  }
  bool take_name(const char* s) {
    if (!name(s)) return false;
    ++p_;
    return true;
  }
  [[noreturn]] void unexpected() const { syntax_error(cur().line, fmt::format("unexpected '{}'", cur().text)); }
  void want_op(const char* s) {
    if (!take_op(s)) syntax_error(cur().line, fmt::format("expected '{}', got '{}'", s, cur().text));
  }
  void want(TokenKind type) {
    if (cur().type != type) unexpected();
    ++p_;
  }
  std::string ident() {
    if (cur().type != TokenKind::kName) unexpected();
    return t_[p_++].text;
  }

  ExprPtr make(Op o, int line, std::string n = {}) const {
    auto e = std::make_unique<Expr>();
    e->op = o;
    e->line = line;
    e->name = std::move(n);
    return e;
  }
  // A chain a + b + c makes a tree as deep as it is long, so depth is counted on the tree itself.
  static void grow(Expr& e, const Expr* kid) {
    if (kid) e.height = std::max(e.height, kid->height + 1);
    if (e.height > kMaxTreeDepth) too_deep(e.line);
  }
  static void add(Expr& e, ExprPtr kid) {
    grow(e, kid.get());
    e.kids.push_back(std::move(kid));
  }
  ExprPtr make2(Op o, std::string n, ExprPtr a, ExprPtr b) const {
    auto e = make(o, cur().line, std::move(n));
    add(*e, std::move(a));
    add(*e, std::move(b));
    return e;
  }

  // Reads statements until one of `ends` (left at its name), or the end of the template.
  Body body(const std::vector<std::string>& ends) {
    const Nest nest(depth_, cur().line);
    Body out;
    for (;;) {
      const Token& t = cur();
      if (t.type == TokenKind::kEnd) {
        if (!ends.empty()) syntax_error(t.line, fmt::format("'{}' is missing", ends.back()));
        return out;
      }
      auto s = std::make_unique<Stmt>();
      s->line = t.line;
      ++p_;
      if (t.type == TokenKind::kText) {
        s->tag = Tag::kText;
        s->text = t.text;
      } else if (t.type == TokenKind::kVarBegin) {
        s->tag = Tag::kPrint;
        s->value = tuple_expr(true);
        want(TokenKind::kVarEnd);
      } else {
        for (const auto& e : ends) {
          if (name(e.c_str())) return out;
        }
        statement(*s);
      }
      out.push_back(std::move(s));
    }
  }
  Body body_until(const char* end) {
    want(TokenKind::kBlockEnd);
    Body out = body({end});
    ++p_;
    want(TokenKind::kBlockEnd);
    return out;
  }

  void statement(Stmt& s) {
    const std::string word = ident();
    if (word == "if") return if_statement(s);
    if (word == "for") return for_statement(s);
    if (word == "set") return set_statement(s);
    if (word == "macro") return macro_statement(s);
    if (word == "call") return call_statement(s);
    if (word == "with") return with_statement(s);
    if (word == "filter") {
      s.tag = Tag::kFilterBlock;
      --p_;
      t_[p_] = Token{TokenKind::kOp, "|", s.line};
      s.filter = filters(make(Op::kName, s.line, kCaptured));
      s.body = body_until("endfilter");
    } else if (word == "autoescape") {
      const auto on = expr();
      if (on->op != Op::kLiteral || truthy(on->literal))
        syntax_error(s.line, "autoescape is refused: a prompt is no HTML");
      s.tag = Tag::kScope;
      s.body = body_until("endautoescape");
    } else if (word == "generation") {
      s.tag = Tag::kScope;
      s.body = body_until("endgeneration");
    } else if (word == "block") {
      s.tag = Tag::kBlock;
      const std::string block = ident();
      want(TokenKind::kBlockEnd);
      s.body = body({"endblock"});
      ++p_;
      take_name(block.c_str());
      want(TokenKind::kBlockEnd);
    } else if (word == "break" || word == "continue") {
      if (!loops_) syntax_error(s.line, fmt::format("'{}' outside a loop", word));
      s.tag = word == "break" ? Tag::kBreak : Tag::kContinue;
      want(TokenKind::kBlockEnd);
    } else if (word == "include" || word == "import" || word == "from" || word == "extends") {
      syntax_error(s.line, fmt::format("'{}' is not allowed: a chat template stands alone", word));
    } else {
      syntax_error(s.line, fmt::format("unknown tag '{}'", word));
    }
  }
  void if_statement(Stmt& s) {
    s.tag = Tag::kIf;
    auto condition = tuple_expr(false);
    for (;;) {
      want(TokenKind::kBlockEnd);
      auto b = body({"elif", "else", "endif"});
      s.branches.emplace_back(std::move(condition), std::move(b));
      condition = nullptr;
      if (take_name("elif")) {
        condition = tuple_expr(false);
        continue;
      }
      if (take_name("else")) {
        want(TokenKind::kBlockEnd);
        s.branches.emplace_back(nullptr, body({"endif"}));
      }
      break;
    }
    ++p_;
    want(TokenKind::kBlockEnd);
  }
  void for_statement(Stmt& s) {
    s.tag = Tag::kFor;
    s.target = target(false);
    if (!take_name("in")) unexpected();
    s.value = tuple_expr(false);
    if (take_name("if")) s.filter = expr();
    s.recursive = take_name("recursive");
    want(TokenKind::kBlockEnd);
    ++loops_;
    s.body = body({"else", "endfor"});
    --loops_;
    if (take_name("else")) {
      want(TokenKind::kBlockEnd);
      s.otherwise = body({"endfor"});
    }
    ++p_;
    want(TokenKind::kBlockEnd);
  }
  void set_statement(Stmt& s) {
    s.tag = Tag::kSet;
    s.target = target(true);
    if (take_op("=")) {
      s.value = tuple_expr(true);
      want(TokenKind::kBlockEnd);
      return;
    }
    s.tag = Tag::kSetBlock;
    if (op("|")) s.filter = filters(make(Op::kName, s.line, kCaptured));
    s.body = body_until("endset");
  }
  void parameters(Stmt& s) {
    while (!op(")")) {
      s.params.push_back(ident());
      if (take_op("="))
        s.defaults.push_back(expr());
      else if (!s.defaults.empty())
        syntax_error(s.line, "a parameter without a default follows one with");
      if (!take_op(",")) break;
    }
    want_op(")");
  }
  // A body that is called from elsewhere: loops around it are not its own.
  void called_body(Stmt& s, const char* end) {
    const int loops = std::exchange(loops_, 0);
    macros_.push_back(&s);
    s.body = body_until(end);
    macros_.pop_back();
    loops_ = loops;
  }
  void macro_statement(Stmt& s) {
    s.tag = Tag::kMacro;
    s.text = ident();
    want_op("(");
    parameters(s);
    called_body(s, "endmacro");
  }
  void call_statement(Stmt& s) {
    s.tag = Tag::kCallBlock;
    if (take_op("(")) parameters(s);
    s.value = expr();
    if (s.value->op != Op::kCall) syntax_error(s.line, "a call block wants a call");
    called_body(s, "endcall");
  }
  void with_statement(Stmt& s) {
    s.tag = Tag::kWith;
    while (cur().type != TokenKind::kBlockEnd) {
      if (!s.assigned.empty()) want_op(",");
      auto to = target(false);
      want_op("=");
      s.assigned.emplace_back(std::move(to), expr());
    }
    s.body = body_until("endwith");
  }

  ExprPtr target(bool attributes) {
    const auto one = [&]() -> ExprPtr {
      const Nest nest(depth_, cur().line);
      if (take_op("(")) {
        auto t = target(attributes);
        want_op(")");
        return t;
      }
      const std::string n = ident();
      if (n == "true" || n == "false" || n == "none" || n == "True" || n == "False" || n == "None")
        syntax_error(cur().line, fmt::format("cannot assign to '{}'", n));
      auto e = make(Op::kName, cur().line, n);
      if (!attributes || !take_op(".")) return e;
      auto a = make(Op::kAttr, cur().line, ident());
      add(*a, std::move(e));
      return a;
    };
    auto first = one();
    if (!op(",")) return first;
    auto t = make(Op::kTuple, cur().line);
    add(*t, std::move(first));
    while (take_op(",")) {
      if (name("in") || op("=") || op(")")) break;
      add(*t, one());
    }
    return t;
  }

  ExprPtr tuple_expr(bool ternary) {
    const auto item = [&] { return ternary ? expr() : or_expr(); };
    auto e = item();
    if (!op(",")) return e;
    auto t = make(Op::kTuple, cur().line);
    add(*t, std::move(e));
    while (take_op(",")) {
      if (cur().type == TokenKind::kVarEnd || cur().type == TokenKind::kBlockEnd || op(")") ||
          (!ternary && (name("if") || name("recursive"))))
        break;
      add(*t, item());
    }
    return t;
  }
  ExprPtr expr() {
    const Nest nest(depth_, cur().line);
    auto e = or_expr();
    while (take_name("if")) {
      auto c = make(Op::kIf, cur().line);
      add(*c, or_expr());
      add(*c, std::move(e));
      add(*c, take_name("else") ? expr() : nullptr);
      e = std::move(c);
    }
    return e;
  }
  ExprPtr or_expr() {
    auto e = and_expr();
    while (take_name("or")) e = make2(Op::kOr, "", std::move(e), and_expr());
    return e;
  }
  ExprPtr and_expr() {
    auto e = not_expr();
    while (take_name("and")) e = make2(Op::kAnd, "", std::move(e), not_expr());
    return e;
  }
  ExprPtr not_expr() {
    const Nest nest(depth_, cur().line);
    if (!name("not")) return comparison();
    auto e = make(Op::kNot, cur().line);
    ++p_;
    add(*e, not_expr());
    return e;
  }
  ExprPtr comparison() {
    auto e = binary(0);
    ExprPtr c;
    for (;;) {
      std::string o;
      for (const char* s : {"==", "!=", "<", "<=", ">", ">="}) {
        if (op(s)) o = s;
      }
      if (name("in")) o = "in";
      if (name("not") && peek().type == TokenKind::kName && peek().text == "in") {
        o = "not in";
        ++p_;
      }
      if (o.empty()) break;
      ++p_;
      if (!c) {
        c = make(Op::kCompare, cur().line);
        add(*c, std::move(e));
      }
      c->ops.push_back(o);
      add(*c, binary(0));
    }
    return c ? std::move(c) : std::move(e);
  }
  ExprPtr binary(size_t level) {
    static const std::vector<std::vector<const char*>> kLevels = {{"+", "-"}, {"~"}, {"*", "/", "//", "%"}, {"**"}};
    if (level == kLevels.size()) return unary(true);
    auto e = binary(level + 1);
    for (;;) {
      std::string o;
      for (const char* s : kLevels[level]) {
        if (op(s)) o = s;
      }
      if (o.empty()) return e;
      ++p_;
      e = make2(Op::kBinary, o, std::move(e), binary(level + 1));
    }
  }
  ExprPtr unary(bool with_filters) {
    const Nest nest(depth_, cur().line);
    ExprPtr e;
    if (op("-") || op("+")) {
      e = make(op("-") ? Op::kNeg : Op::kPos, cur().line);
      ++p_;
      add(*e, unary(false));
    } else {
      e = primary();
    }
    e = postfix(std::move(e));
    return with_filters ? filters(std::move(e)) : std::move(e);
  }
  ExprPtr primary() {
    const Token& t = cur();
    auto e = make(Op::kLiteral, t.line);
    if (t.type == TokenKind::kName) {
      ++p_;
      const std::string& n = t.text;
      if (n == "true" || n == "True") {
        e->literal = Value::boolean(true);
      } else if (n == "false" || n == "False") {
        e->literal = Value::boolean(false);
      } else if (n == "none" || n == "None") {
        e->literal = Value::none();
      } else {
        e->op = Op::kName;
        e->name = n;
        for (Stmt* macro : macros_) {
          macro->uses_caller |= n == "caller";
          macro->uses_varargs |= n == "varargs";
          macro->uses_kwargs |= n == "kwargs";
        }
      }
    } else if (t.type == TokenKind::kString) {
      std::string v;
      while (cur().type == TokenKind::kString) v += t_[p_++].text;
      e->literal = Value::own(v);
    } else if (t.type == TokenKind::kInt) {
      int64_t v = 0;
      std::from_chars(t.text.data(), t.text.data() + t.text.size(), v);  // the lexer saw to it that it fits
      e->literal = Value::integer(v);
      ++p_;
    } else if (t.type == TokenKind::kFloat) {
      double v = 0;
      const auto [end, error] = std::from_chars(t.text.data(), t.text.data() + t.text.size(), v);
      if (error == std::errc::result_out_of_range) syntax_error(t.line, "a number is out of range");
      e->literal = Value::number(v);
      ++p_;
    } else if (take_op("(")) {
      if (take_op(")")) {
        e->op = Op::kTuple;
        return e;
      }
      e = tuple_expr(true);
      want_op(")");
    } else if (take_op("[")) {
      e->op = Op::kList;
      while (!op("]")) {
        add(*e, expr());
        if (!take_op(",")) break;
      }
      want_op("]");
    } else if (take_op("{")) {
      e->op = Op::kDict;
      while (!op("}")) {
        add(*e, expr());
        want_op(":");
        add(*e, expr());
        if (!take_op(",")) break;
      }
      want_op("}");
    } else {
      unexpected();
    }
    return e;
  }
  void named_argument(Expr& call, std::string n) {
    auto value = expr();
    grow(call, value.get());
    call.kwargs.emplace_back(std::move(n), std::move(value));
  }
  void arguments(Expr& call) {
    while (!op(")")) {
      const bool named = cur().type == TokenKind::kName && peek().type == TokenKind::kOp && peek().text == "=";
      if (named) {
        std::string n = ident();
        ++p_;
        named_argument(call, std::move(n));
      } else if (take_op("**")) {
        named_argument(call, "**");
      } else {
        if (!call.kwargs.empty()) syntax_error(cur().line, "a positional argument follows a named one");
        if (take_op("*")) {
          auto star = make(Op::kStar, cur().line);
          add(*star, expr());
          add(call, std::move(star));
        } else {
          add(call, expr());
        }
      }
      if (!take_op(",")) break;
    }
    want_op(")");
  }
  ExprPtr postfix(ExprPtr e) {
    for (;;) {
      const int line = cur().line;
      ExprPtr n;
      if (take_op(".")) {
        if (cur().type == TokenKind::kInt) {
          n = make(Op::kIndex, line);
          add(*n, std::move(e));
          add(*n, primary());
        } else {
          n = make(Op::kAttr, line, ident());
          add(*n, std::move(e));
        }
      } else if (take_op("[")) {
        n = subscript(std::move(e), line);
      } else if (take_op("(")) {
        n = make(Op::kCall, line);
        add(*n, std::move(e));
        arguments(*n);
      } else {
        return e;
      }
      e = std::move(n);
    }
  }
  ExprPtr subscript(ExprPtr of, int line) {
    ExprPtr parts[3];
    size_t colons = 0;
    while (!op("]")) {
      if (take_op(":")) {
        if (++colons > 2) unexpected();
      } else {
        if (parts[colons]) unexpected();
        parts[colons] = expr();
        if (op(",") && colons == 0) {  // a tuple as key
          auto t = make(Op::kTuple, line);
          add(*t, std::move(parts[0]));
          while (take_op(",") && !op("]")) add(*t, expr());
          parts[0] = std::move(t);
        }
      }
    }
    ++p_;
    if (!colons && !parts[0]) unexpected();
    auto n = make(colons ? Op::kSlice : Op::kIndex, line);
    add(*n, std::move(of));
    add(*n, std::move(parts[0]));
    if (colons) {
      add(*n, std::move(parts[1]));
      add(*n, std::move(parts[2]));
    }
    return n;
  }
  ExprPtr filters(ExprPtr e) {
    for (;;) {
      const int line = cur().line;
      ExprPtr n;
      if (take_op("|")) {
        n = make(Op::kFilter, line, ident());
        add(*n, std::move(e));
        if (take_op("(")) arguments(*n);
      } else if (take_name("is")) {
        n = test(std::move(e), line);
      } else if (op("(")) {
        n = postfix(std::move(e));
      } else {
        return e;
      }
      e = std::move(n);
    }
  }
  ExprPtr test(ExprPtr of, int line) {
    const bool negated = take_name("not");
    auto n = make(Op::kTest, line, ident());
    add(*n, std::move(of));
    const TokenKind t = cur().type;
    const auto ends = [&] {
      for (const char* word : {"else", "or", "and"}) {
        if (name(word)) return true;
      }
      return false;
    };
    if (take_op("(")) {
      arguments(*n);
    } else if (t == TokenKind::kString || t == TokenKind::kInt || t == TokenKind::kFloat || op("[") || op("{") ||
               (t == TokenKind::kName && !ends())) {
      if (name("is")) syntax_error(line, "tests cannot be chained with 'is'");
      add(*n, postfix(primary()));
    }
    if (!negated) return n;
    auto inverse = make(Op::kNot, line);
    add(*inverse, std::move(n));
    return inverse;
  }

  std::vector<Token> t_;
  size_t p_ = 0;
  int depth_ = 0, loops_ = 0;
  std::vector<Stmt*> macros_;  // around the place being read
};

}  // namespace

Template parse_template(const std::string& source) { return Parser(lex_template(source)).run(); }

}  // namespace fovea::tokenizers::jinja

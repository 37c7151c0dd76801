#include <algorithm>
#include <cmath>
#include <ctime>
#include <map>

#include "fovea/tokenizers/chat_template.h"
#include "fovea/tokenizers/template_value.h"

namespace fovea::tokenizers {
namespace jinja {
namespace {

enum class Flow { kNext, kBreak, kContinue };
struct Frame {
  std::map<std::string, Value> vars;
  Frame* parent = nullptr;
};

class Interpreter final : public Machine {
 public:
  explicit Interpreter(const Budget& b) : left_(b) {}
  ~Interpreter() override { for (auto& d : namespaces_) d->clear(); }  // a namespace may hold itself

  std::string run(const Template& t, const nlohmann::ordered_json& context) {
    for (const char* g : {"range", "namespace", "raise_exception", "strftime_now", "dict"}) { Value v = Value::string(g); v.kind = Kind::kGlobal; root_.vars[g] = v; }
    for (const auto& [k, v] : context.items()) root_.vars[k] = from_json(v, 0);
    exec(t.body, root_, out_);
    return std::move(out_);
  }
  void step(int64_t n) override { if ((left_.steps -= n) < 0) fail_limit("chat template: it runs for too many steps"); }
  void charge(int64_t n) override { if (n < 0 || (left_.memory_bytes -= n) < 0) fail_limit("chat template: it makes too much text"); }

  Value attribute(const Value& v, const std::string& name) override {
    if (v.is(Kind::kUndefined)) fail(*v.s);
    if (name.starts_with("__")) fail(fmt::format("access to attribute '{}' is unsafe", name));
    if (has_method(v, name)) { Value m = Value::string(name); m.kind = Kind::kMethod; m.list = std::make_shared<List>(List{v}); return m; }
    if (v.is(Kind::kDict) || v.is(Kind::kNamespace)) if (const Value* e = find(v, Value::string(name))) return *e;
    return Value::undefined(missing(v, name));
  }
  Value item(const Value& v, const Value& key) override {
    if (v.is(Kind::kUndefined)) fail(*v.s);
    if (v.is(Kind::kDict)) if (const Value* e = find(v, key)) return *e;
    if ((v.is_seq() || v.is(Kind::kString)) && key.is_int()) {
      const List chars = v.is_seq() ? List{} : iterate(v);
      const List& l = v.is_seq() ? *v.list : chars;
      step(1 + static_cast<int64_t>(chars.size() / 16));
      const int64_t n = static_cast<int64_t>(l.size()), i = key.i < 0 ? key.i + n : key.i;
      if (i >= 0 && i < n) return l[static_cast<size_t>(i)];
      return Value::undefined(fmt::format("{} object has no element {}", type_name(v), key.i));
    }
    if (key.is(Kind::kString)) return attribute(v, *key.s);
    return Value::undefined(fmt::format("{} object has no element {}", type_name(v), to_repr(key)));
  }

 private:
  struct Nest {
    explicit Nest(Interpreter& m) : machine(m) { if (--m.left_.depth < 0) { ++m.left_.depth; fail_limit("chat template: it nests too deeply"); } }
    ~Nest() { ++machine.left_.depth; }
    Interpreter& machine;
  };
  static std::string missing(const Value& v, const std::string& name) {
    return fmt::format("'{} object' has no attribute '{}'", v.is(Kind::kNone) ? "None" : type_name(v), name);
  }
  Value from_json(const nlohmann::ordered_json& j, int depth) {
    if (depth > 100) fail_limit("chat template: the context is nested deeper than 100");
    if (j.is_null()) return Value::none();
    if (j.is_boolean()) return Value::boolean(j.get<bool>());
    if (j.is_number_integer()) return Value::integer(j.get<int64_t>());
    if (j.is_number()) return Value::number(j.get<double>());
    if (j.is_string()) return Value::string(j.get<std::string>());
    if (j.is_array()) { List l; for (const auto& e : j) l.push_back(from_json(e, depth + 1)); return Value::make_list(std::move(l)); }
    Dict d;
    for (const auto& [k, e] : j.items()) d.emplace_back(Value::string(k), from_json(e, depth + 1));
    return Value::make_dict(std::move(d));
  }
  void emit(std::string& out, const std::string& text) {
    charge(static_cast<int64_t>(text.size()));
    out += text;
    if (static_cast<int64_t>(out.size()) > left_.output_bytes) fail_limit("chat template: the rendered text is too long");
  }
  Value text(std::string s) { charge(static_cast<int64_t>(s.size())); return Value::string(std::move(s)); }

  Flow exec(const Body& body, Frame& f, std::string& out) {
    Nest nest(*this);
    for (const auto& s : body) {
      const Flow flow = exec_one(*s, f, out);
      if (flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }
  Flow exec_one(const Stmt& s, Frame& f, std::string& out) {
    step(1);
    switch (s.tag) {
      case Tag::kText: emit(out, s.text); break;
      case Tag::kPrint: emit(out, to_str(eval(*s.value, f))); break;
      case Tag::kIf:
        for (const auto& [cond, body] : s.branches) if (!cond || truthy(eval(*cond, f))) return exec(body, f, out);
        break;
      case Tag::kFor: loop(s, f, out); break;
      case Tag::kSet: assign(*s.target, eval(*s.value, f), f); break;
      case Tag::kSetBlock: case Tag::kFilterBlock: {
        Frame inner; inner.parent = &f;
        std::string captured;
        const Flow flow = exec(s.body, inner, captured);
        inner.vars["\x01"] = Value::string(captured);
        Value v = s.filter ? eval(*s.filter, inner) : Value::string(captured);
        if (s.tag == Tag::kFilterBlock) emit(out, to_str(v));
        else assign(*s.target, std::move(v), f);
        return flow;
      }
      case Tag::kMacro: { Value m; m.kind = Kind::kMacro; m.macro = &s; f.vars[s.text] = m; break; }
      case Tag::kScope: { Frame inner; inner.parent = &f; return exec(s.body, inner, out); }
      case Tag::kCallBlock: break;
      case Tag::kBreak: return Flow::kBreak;
      case Tag::kContinue: return Flow::kContinue;
    }
    return Flow::kNext;
  }
  void assign(const Expr& target, Value v, Frame& f) {
    if (target.op == Op::kName) { f.vars[target.name] = std::move(v); return; }
    if (target.op == Op::kAttr) {
      Value ns = eval(*target.kids[0], f);
      if (!ns.is(Kind::kNamespace)) fail("cannot assign attribute on non-namespace object");
      put(*ns.dict, Value::string(target.name), std::move(v));
      return;
    }
    const List items = iterate(v);
    if (items.size() != target.kids.size()) fail(fmt::format("cannot unpack {} values into {} names", items.size(), target.kids.size()));
    for (size_t i = 0; i < items.size(); ++i) assign(*target.kids[i], items[i], f);
  }
  void loop(const Stmt& s, Frame& f, std::string& out) {
    Value source = eval(*s.value, f);
    List items = iterate(source);
    charge(static_cast<int64_t>(items.size() * sizeof(Value)));
    if (s.filter) {
      List kept;
      for (Value& v : items) { Frame inner; inner.parent = &f; step(1); assign(*s.target, v, inner); if (truthy(eval(*s.filter, inner))) kept.push_back(v); }
      items = std::move(kept);
    }
    if (items.empty()) { exec(s.otherwise, f, out); return; }
    const int64_t n = static_cast<int64_t>(items.size());
    for (int64_t i = 0; i < n; ++i) {
      step(1);
      Frame inner; inner.parent = &f;
      Dict d;
      auto add = [&](const char* k, Value v) { d.emplace_back(Value::string(k), std::move(v)); };
      add("index", Value::integer(i + 1)); add("index0", Value::integer(i));
      add("revindex", Value::integer(n - i)); add("revindex0", Value::integer(n - i - 1));
      add("first", Value::boolean(i == 0)); add("last", Value::boolean(i + 1 == n)); add("length", Value::integer(n));
      add("previtem", i ? items[static_cast<size_t>(i - 1)] : Value::undefined("there is no previous item"));
      add("nextitem", i + 1 < n ? items[static_cast<size_t>(i + 1)] : Value::undefined("there is no next item"));
      inner.vars["loop"] = Value::make_dict(std::move(d), Kind::kNamespace);
      assign(*s.target, items[static_cast<size_t>(i)], inner);
      if (exec(s.body, inner, out) == Flow::kBreak) break;
    }
  }
  Args arguments(const Expr& e, size_t from, Frame& f) {
    Args a;
    for (size_t i = from; i < e.kids.size(); ++i) a.pos.push_back(eval(*e.kids[i], f));
    for (const auto& [k, v] : e.kwargs) a.named.emplace_back(k, eval(*v, f));
    return a;
  }
  Value eval(const Expr& e, Frame& f) {
    Nest nest(*this);
    step(1);
    auto kid = [&](size_t i) { return eval(*e.kids[i], f); };
    switch (e.op) {
      case Op::kLiteral: return e.literal;
      case Op::kName:
        for (Frame* s = &f; s; s = s->parent) if (auto it = s->vars.find(e.name); it != s->vars.end()) return it->second;
        return Value::undefined(fmt::format("'{}' is undefined", e.name));
      case Op::kList: case Op::kTuple: {
        List l;
        for (size_t i = 0; i < e.kids.size(); ++i) l.push_back(kid(i));
        return Value::make_list(std::move(l), e.op == Op::kList ? Kind::kList : Kind::kTuple);
      }
      case Op::kDict: { Dict d; for (size_t i = 0; i < e.kids.size(); i += 2) { Value k = kid(i); put(d, std::move(k), kid(i + 1)); } return Value::make_dict(std::move(d)); }
      case Op::kAttr: {
        const Value v = kid(0);
        return attribute(v, e.name);
      }
      case Op::kIndex: { const Value v = kid(0); return item(v, kid(1)); }
      case Op::kSlice: return slice(kid(0), e, f);
      case Op::kCall: return call(e, f);
      case Op::kFilter: {
        const Value v = kid(0);
        Value r = apply_filter(*this, e.name, v, arguments(e, 1, f));
        if (r.is(Kind::kString)) charge(static_cast<int64_t>(r.s->size()));
        return r;
      }
      case Op::kTest: { const Value v = kid(0); return Value::boolean(apply_test(*this, e.name, v, arguments(e, 1, f))); }
      case Op::kNot: return Value::boolean(!truthy(kid(0)));
      case Op::kAnd: { Value v = kid(0); return truthy(v) ? kid(1) : v; }
      case Op::kOr: { Value v = kid(0); return truthy(v) ? v : kid(1); }
      case Op::kIf: if (truthy(kid(0))) return kid(1); return e.kids[2] ? kid(2) : Value::undefined("the inline if-expression evaluated to false and no else section was defined.");
      case Op::kNeg: case Op::kPos: {
        Value v = kid(0);
        if (v.is(Kind::kUndefined)) fail(*v.s);
        if (!v.is_number()) fail(fmt::format("bad operand type for unary {}: '{}'", e.op == Op::kNeg ? "-" : "+", type_name(v)));
        if (v.is(Kind::kFloat)) return Value::number(e.op == Op::kNeg ? -v.f : v.f);
        return binary("-", Value::integer(0), Value::integer(e.op == Op::kNeg ? v.i : -v.i));
      }
      case Op::kBinary: { const Value a = kid(0); return binary(e.name, a, kid(1)); }
      case Op::kCompare: {
        Value a = kid(0);
        for (size_t i = 0; i < e.ops.size(); ++i) {
          Value b = kid(i + 1);
          const std::string& o = e.ops[i];
          if (b.is_seq()) step(static_cast<int64_t>(b.list->size()));
          const bool ok = o == "==" ? equal(a, b) : o == "!=" ? !equal(a, b) : o == "in" ? contains(b, a) : o == "not in" ? !contains(b, a)
                        : o == "<" ? compare(a, b, "<") < 0 : o == "<=" ? compare(a, b, "<=") <= 0 : o == ">" ? compare(a, b, ">") > 0 : compare(a, b, ">=") >= 0;
          if (!ok) return Value::boolean(false);
          a = std::move(b);
        }
        return Value::boolean(true);
      }
    }
    return {};
  }
  Value slice(const Value& v, const Expr& e, Frame& f) {
    auto part = [&](size_t k, int64_t otherwise) {
      if (!e.kids[k]) return otherwise;
      const Value p = eval(*e.kids[k], f);
      if (p.is(Kind::kNone)) return otherwise;
      if (!p.is_int()) fail("slice indices must be integers or None");
      return p.i;
    };
    if (v.is(Kind::kUndefined)) fail(*v.s);
    if (!v.is_seq() && !v.is(Kind::kString)) return Value::undefined(fmt::format("{} cannot be sliced", type_name(v)));
    const List l = iterate(v);
    charge(static_cast<int64_t>(l.size() * sizeof(Value)));
    const int64_t n = static_cast<int64_t>(l.size()), by = part(3, 1);
    if (by == 0) fail("slice step cannot be zero");
    auto clamp = [&](int64_t i) { if (i < 0) i += n; return std::clamp<int64_t>(i, by < 0 ? -1 : 0, by < 0 ? n - 1 : n); };
    const int64_t kMissing = INT64_MIN;
    int64_t b = part(1, kMissing), end = part(2, kMissing);
    b = b == kMissing ? (by < 0 ? n - 1 : 0) : clamp(b);
    end = end == kMissing ? (by < 0 ? -1 : n) : clamp(end);
    List r;
    const int64_t jump = std::clamp<int64_t>(by, -n - 1, n + 1);
    for (int64_t i = b; by > 0 ? i < end : i > end; i += jump) r.push_back(l[static_cast<size_t>(i)]);
    if (v.is_seq()) return Value::make_list(std::move(r), v.kind);
    std::string s;
    for (const Value& c : r) s += *c.s;
    return Value::string(s);
  }
  Value binary(const std::string& o, const Value& a, const Value& b) {
    if (o == "~") return text(to_str(a) + to_str(b));
    if (a.is(Kind::kUndefined)) fail(*a.s);
    if (b.is(Kind::kUndefined)) fail(*b.s);
    if (o == "+" && a.is(Kind::kString) && b.is(Kind::kString)) return text(*a.s + *b.s);
    if (o == "+" && a.is_seq() && a.kind == b.kind) {
      charge(static_cast<int64_t>((a.list->size() + b.list->size()) * sizeof(Value)));
      List l = *a.list;
      l.insert(l.end(), b.list->begin(), b.list->end());
      return Value::make_list(std::move(l), a.kind);
    }
    if (o == "*" && a.is_int() && !b.is_number()) return binary(o, b, a);
    if (o == "*" && b.is_int() && (a.is(Kind::kString) || a.is_seq())) {
      const int64_t n = std::max<int64_t>(b.i, 0);
      const int64_t each = a.is_seq() ? static_cast<int64_t>(a.list->size() * sizeof(Value)) : static_cast<int64_t>(a.s->size());
      int64_t total = 0;
      if (__builtin_mul_overflow(each, n, &total)) total = -1;
      charge(total);
      if (each == 0) return a;
      std::string s; List l;
      for (int64_t i = 0; i < n; ++i) { if (a.is_seq()) l.insert(l.end(), a.list->begin(), a.list->end()); else s += *a.s; }
      return a.is_seq() ? Value::make_list(std::move(l), a.kind) : Value::string(s);
    }
    if (!a.is_number() || !b.is_number()) {
      if (o == "+" && a.is(Kind::kString)) fail(fmt::format("can only concatenate str (not \"{}\") to str", type_name(b)));
      fail(fmt::format("unsupported operand type(s) for {}: '{}' and '{}'", o, type_name(a), type_name(b)));
    }
    const bool ints = a.is_int() && b.is_int();
    const double x = a.as_double(), y = b.as_double();
    if ((o == "/" || o == "//" || o == "%") && y == 0) fail("division by zero");
    if (o == "/") return Value::number(x / y);
    if (!ints) {
      if (o == "+") return Value::number(x + y);
      if (o == "-") return Value::number(x - y);
      if (o == "*") return Value::number(x * y);
      if (o == "//") return Value::number(std::floor(x / y));
      if (o == "**") return Value::number(std::pow(x, y));
      const double r = std::fmod(x, y);
      return Value::number(r != 0 && (r < 0) != (y < 0) ? r + y : r);
    }
    int64_t r = 0;
    bool over = false;
    if (o == "+") over = __builtin_add_overflow(a.i, b.i, &r);
    else if (o == "-") over = __builtin_sub_overflow(a.i, b.i, &r);
    else if (o == "*") over = __builtin_mul_overflow(a.i, b.i, &r);
    else if (o == "**") {
      if (b.i < 0) return Value::number(std::pow(x, y));
      r = 1;
      if (a.i == 0 || a.i == 1) r = b.i == 0 ? 1 : a.i;
      else if (a.i == -1) r = b.i % 2 ? -1 : 1;
      else for (int64_t k = 0; k < b.i && !over; ++k) over = __builtin_mul_overflow(r, a.i, &r);
    } else if (b.i == -1) {
      if (o == "//") over = __builtin_sub_overflow(int64_t{0}, a.i, &r);
    } else {
      const int64_t rem = a.i % b.i;
      const bool shift = rem != 0 && (rem < 0) != (b.i < 0);
      r = o == "%" ? (shift ? rem + b.i : rem) : a.i / b.i - shift;
    }
    if (over) fail_limit("chat template: an integer does not fit 64 bits");
    return Value::integer(r);
  }
  Value call(const Expr& e, Frame& f) {
    const Value fn = eval(*e.kids[0], f);
    if (fn.is(Kind::kUndefined)) fail(*fn.s);
    const Args a = arguments(e, 1, f);
    if (fn.is(Kind::kMethod)) {
      Value r = call_method(*this, (*fn.list)[0], *fn.s, a);
      if (r.is(Kind::kString)) charge(static_cast<int64_t>(r.s->size()));
      return r;
    }
    if (fn.is(Kind::kMacro)) return call_macro(*fn.macro, a);
    if (!fn.is(Kind::kGlobal)) fail(fmt::format("'{}' object is not callable", type_name(fn)));
    if (*fn.s == "raise_exception") fail(a.pos.empty() ? "" : to_str(a.pos[0]));
    if (*fn.s == "namespace" || *fn.s == "dict") {
      Dict d;
      if (!a.pos.empty() && a.pos[0].dict) d = *a.pos[0].dict;
      for (const auto& [k, v] : a.named) put(d, Value::string(k), v);
      Value v = Value::make_dict(std::move(d), *fn.s == "dict" ? Kind::kDict : Kind::kNamespace);
      if (*fn.s == "namespace") namespaces_.push_back(v.dict);
      return v;
    }
    if (*fn.s == "strftime_now") {
      const std::time_t now = std::time(nullptr);
      std::tm tm{};
      localtime_r(&now, &tm);
      char buf[256];
      return text(std::string(buf, std::strftime(buf, sizeof buf, a.pos.empty() ? "" : to_str(a.pos[0]).c_str(), &tm)));
    }
    for (const Value& v : a.pos) if (!v.is_int()) fail("range wants integers");
    if (a.pos.empty() || a.pos.size() > 3) fail("range wants 1 to 3 arguments");
    const int64_t b = a.pos.size() > 1 ? a.pos[0].i : 0, end = a.pos.size() > 1 ? a.pos[1].i : a.pos[0].i, by = a.pos.size() > 2 ? a.pos[2].i : 1;
    if (by == 0) fail("range() arg 3 must not be zero");
    const double n = std::ceil((static_cast<double>(end) - static_cast<double>(b)) / static_cast<double>(by));
    if (n > static_cast<double>(left_.range_length)) fail_limit(fmt::format("chat template: a range is longer than {}", left_.range_length));
    List l;
    for (int64_t i = 0; i < static_cast<int64_t>(n); ++i) l.push_back(Value::integer(b + i * by));
    charge(static_cast<int64_t>(l.size() * sizeof(Value)));
    return Value::make_list(std::move(l));
  }
  Value call_macro(const Stmt& m, const Args& a) {
    Nest nest(*this);
    Frame inner; inner.parent = &root_;
    if (a.pos.size() > m.params.size()) fail(fmt::format("macro '{}' takes not more than {} argument(s)", m.text, m.params.size()));
    for (size_t i = 0; i < m.params.size(); ++i) {
      const size_t first_default = m.params.size() - m.defaults.size();
      if (const Value* v = a.get(i, m.params[i].c_str())) inner.vars[m.params[i]] = *v;
      else if (i >= first_default) inner.vars[m.params[i]] = eval(*m.defaults[i - first_default], inner);
      else inner.vars[m.params[i]] = Value::undefined(fmt::format("parameter '{}' was not provided", m.params[i]));
    }
    std::string out;
    exec(m.body, inner, out);
    return Value::string(out);
  }

  Budget left_;
  Frame root_;
  std::string out_;
  std::vector<std::shared_ptr<Dict>> namespaces_;
};

}  // namespace
}  // namespace jinja

Result<ChatTemplate> ChatTemplate::parse(std::string source) {
  if (source.size() > (1 << 20)) return make_error(ErrorCode::kLimit, "chat template: it has {} bytes, the most is 1 MiB", source.size());
  try {
    ChatTemplate t;
    t.template_ = std::make_shared<const jinja::Template>(jinja::parse_template(source));
    return t;
  } catch (const jinja::Failure& f) {
    return Error{f.code, f.message, {}};
  }
}
Result<std::string> ChatTemplate::render(const nlohmann::ordered_json& context, Budget budget) const {
  try {
    return jinja::Interpreter(budget).run(*template_, context);
  } catch (const jinja::Failure& f) {
    return Error{f.code, f.message, {}};
  }
}

}  // namespace fovea::tokenizers

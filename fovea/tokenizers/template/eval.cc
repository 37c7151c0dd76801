// Expressions: what stands in {{ }}, in conditions and in arguments.
#include <algorithm>
#include <utility>

#include "fovea/tokenizers/template/interpreter.h"

namespace fovea::tokenizers::jinja {
namespace {

constexpr std::string_view kLeftOut[] = {"pprint", "random", "striptags", "urlize", "wordwrap"};  // jinja2 has them

}  // namespace

Args Interpreter::arguments(const Expr& e, size_t from, Frame& f) {
  Args a;
  for (size_t i = from; i < e.kids.size(); ++i) {
    if (e.kids[i]->op != Op::kStar) {
      a.pos.push_back(eval(*e.kids[i], f));
      continue;
    }
    for (Value& v : iterate(meter, eval(*e.kids[i]->kids[0], f))) a.pos.push_back(std::move(v));
  }
  for (const auto& [name, value] : e.kwargs) {
    Value v = eval(*value, f);
    if (name != "**") {
      a.named.emplace_back(Str(name, kTemplate), std::move(v));
      continue;
    }
    if (!v.is(Kind::kDict)) fail(fmt::format("argument after ** must be a mapping, not {}", type_name(v)));
    meter.charge(static_cast<int64_t>(v.entries().size() * 2 * sizeof(Value)));
    for (const auto& [k, x] : v.entries()) {
      if (!k.is(Kind::kString)) fail("keywords must be strings");
      a.named.emplace_back(k.str(), x);
    }
  }
  return a;
}

Value Interpreter::eval(const Expr& e, Frame& f) {
  const Nest nest(meter);
  meter.step();
  const auto kid = [&](size_t i) { return eval(*e.kids[i], f); };
  switch (e.op) {
    case Op::kLiteral: return e.literal;
    case Op::kName:
      for (const Frame* s = &f; s; s = s->parent) {
        if (const auto it = s->vars.find(e.name); it != s->vars.end()) return it->second;
      }
      return Value::undefined(fmt::format("'{}' is undefined", e.name));
    case Op::kList:
    case Op::kTuple: {
      List l;
      meter.charge(static_cast<int64_t>(e.kids.size() * sizeof(Value)));
      for (size_t i = 0; i < e.kids.size(); ++i) l.push_back(kid(i));
      return Value::make_list(std::move(l), e.op == Op::kList ? Kind::kList : Kind::kTuple);
    }
    case Op::kDict: {
      Dict d;
      for (size_t i = 0; i < e.kids.size(); i += 2) {
        Value k = kid(i);
        put(meter, d, std::move(k), kid(i + 1));
      }
      return Value::make_dict(std::move(d));
    }
    case Op::kAttr: return attribute(kid(0), e.name);
    case Op::kIndex: {
      const Value v = kid(0);
      return item(v, kid(1));
    }
    case Op::kSlice: {
      Value part[4];
      for (size_t i = 0; i < 4; ++i) part[i] = e.kids[i] ? kid(i) : Value::none();
      return slice(*this, part[0], part[1], part[2], part[3]);
    }
    case Op::kCall: {
      const Value fn = kid(0);
      return call(fn, arguments(e, 1, f));
    }
    case Op::kFilter: {
      if (!is_filter(e.name)) {
        const bool left_out = std::find(std::begin(kLeftOut), std::end(kLeftOut), e.name) != std::end(kLeftOut);
        syntax_error(
            e.line,
            fmt::format(fmt::runtime(left_out ? "the filter '{}' is not done here" : "No filter named '{}'."), e.name));
      }
      const Value v = kid(0);
      return apply_filter(*this, e.name, v, arguments(e, 1, f));
    }
    case Op::kTest: {
      if (!is_test(e.name)) syntax_error(e.line, fmt::format("No test named '{}'.", e.name));
      const Value v = kid(0);
      return Value::boolean(apply_test(*this, e.name, v, arguments(e, 1, f)));
    }
    case Op::kNot: return Value::boolean(!truthy(kid(0)));
    case Op::kAnd: {
      Value v = kid(0);
      return truthy(v) ? kid(1) : v;
    }
    case Op::kOr: {
      Value v = kid(0);
      return truthy(v) ? v : kid(1);
    }
    case Op::kIf:
      if (truthy(kid(0))) return kid(1);
      if (e.kids[2]) return kid(2);
      return Value::undefined("the inline if-expression on line " + std::to_string(e.line) +
                              " evaluated to false and no else section was defined.");
    case Op::kNeg:
    case Op::kPos: {
      const Value v = kid(0);
      if (v.is(Kind::kUndefined)) fail_undefined(v);
      if (!v.is_number())
        fail(fmt::format("bad operand type for unary {}: '{}'", e.op == Op::kNeg ? "-" : "+", type_name(v)));
      if (v.is(Kind::kFloat)) return Value::number(e.op == Op::kNeg ? -v.f : v.f).owned(v.owner);
      return e.op == Op::kNeg ? binary(*this, "-", Value::integer(0), v) : Value::integer(v.i).owned(v.owner);
    }
    case Op::kBinary: {
      const Value a = kid(0);
      return binary(*this, e.name, a, kid(1));
    }
    case Op::kCompare: {
      Value a = kid(0);
      for (size_t i = 0; i < e.ops.size(); ++i) {
        Value b = kid(i + 1);
        if (!holds(e.ops[i], a, b)) return Value::boolean(false);
        a = std::move(b);
      }
      return Value::boolean(true);
    }
    case Op::kStar: fail("* is for the arguments of a call");
  }
  return {};
}

bool Interpreter::holds(const std::string& op, const Value& a, const Value& b) {
  if (op == "==") return equal(meter, a, b);
  if (op == "!=") return !equal(meter, a, b);
  if (op == "in") return contains(meter, b, a);
  if (op == "not in") return !contains(meter, b, a);
  const int c = compare(meter, a, b, op.c_str());
  if (op == "<") return c == -1;
  if (op == "<=") return c == -1 || c == 0;
  return op == ">" ? c == 1 : c == 1 || c == 0;
}

}  // namespace fovea::tokenizers::jinja

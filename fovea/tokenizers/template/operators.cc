// Arithmetic, concatenation and slices, as Python does them on 64-bit integers.
#include <algorithm>
#include <cmath>

#include "fovea/tokenizers/template/filters.h"
#include "fovea/tokenizers/template/text.h"
#include "fovea/tokenizers/template/value.h"

namespace fovea::tokenizers::jinja {
namespace {

Value repeated(Machine& m, const Value& v, int64_t times) {
  const int64_t n = std::max<int64_t>(times, 0);
  if (v.is(Kind::kString)) {
    Text out(m.meter);
    out.repeat(v.str(), n);
    return Value::string(out.take());
  }
  int64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<int64_t>(v.items().size() * sizeof(Value)), n, &bytes)) bytes = -1;
  m.meter.charge(bytes);
  List out;
  if (!v.items().empty()) {
    for (int64_t i = 0; i < n; ++i) out.insert(out.end(), v.items().begin(), v.items().end());
  }
  return Value::make_list(std::move(out), v.kind);
}

Value real_arithmetic(const std::string& op, double x, double y) {
  if (op == "+") return Value::number(x + y);
  if (op == "-") return Value::number(x - y);
  if (op == "*") return Value::number(x * y);
  if (op == "/") return Value::number(x / y);
  if (op == "**") {
    if (x == 0 && y < 0) fail("0.0 cannot be raised to a negative power");
    const double r = std::pow(x, y);
    if (std::isinf(r) && std::isfinite(x) && std::isfinite(y)) fail("(34, 'Numerical result out of range')");
    return Value::number(r);
  }
  // Python derives the quotient from the remainder, which has the divisor's sign.
  double rest = std::fmod(x, y), quotient = (x - rest) / y;
  if (rest != 0 && (rest < 0) != (y < 0)) {
    rest += y;
    quotient -= 1;
  } else if (rest == 0) {
    rest = std::copysign(0.0, y);
  }
  if (op == "%") return Value::number(rest);
  if (quotient == 0) return Value::number(std::copysign(0.0, x / y));
  const double whole = std::floor(quotient);
  return Value::number(quotient - whole > 0.5 ? whole + 1 : whole);
}

Value int_arithmetic(Machine& m, const std::string& op, int64_t x, int64_t y) {
  int64_t r = 0;
  bool over = false;
  if (op == "/") return Value::number(static_cast<double>(x) / static_cast<double>(y));
  if (op == "+") {
    over = __builtin_add_overflow(x, y, &r);
  } else if (op == "-") {
    over = __builtin_sub_overflow(x, y, &r);
  } else if (op == "*") {
    over = __builtin_mul_overflow(x, y, &r);
  } else if (op == "**") {
    if (y < 0 && x == 0) fail("0.0 cannot be raised to a negative power");
    if (y < 0) return Value::number(std::pow(static_cast<double>(x), static_cast<double>(y)));
    r = 1;
    if (x == 0 || x == 1) {
      r = y == 0 ? 1 : x;
    } else if (x == -1) {
      r = y % 2 ? -1 : 1;
    } else {
      for (int64_t k = 0; k < y && !over; ++k) over = __builtin_mul_overflow(r, x, &r);
    }
  } else if (y == -1) {  // INT64_MIN / -1 traps
    if (op == "//") over = __builtin_sub_overflow(int64_t{0}, x, &r);
  } else {
    const int64_t rest = x % y;
    const bool shift = rest != 0 && (rest < 0) != (y < 0);
    r = op == "%" ? (shift ? rest + y : rest) : x / y - shift;
  }
  m.meter.step();
  if (over) fail_limit("chat template: an integer does not fit 64 bits");
  return Value::integer(r);
}

}  // namespace

Value binary(Machine& m, const std::string& op, const Value& a, const Value& b) {
  if (op == "~") {
    Text out(m.meter);
    print_str(out, m.meter, a);
    print_str(out, m.meter, b);
    return Value::string(out.take());
  }
  if (op == "%" && a.is(Kind::kString)) return percent_format(m, a.str(), b);
  if (a.is(Kind::kUndefined)) fail_undefined(a);
  if (b.is(Kind::kUndefined)) fail_undefined(b);
  if (op == "+" && a.is(Kind::kString) && b.is(Kind::kString)) {
    const bool markup = a.markup || b.markup;
    Text out(m.meter);
    for (const Value* v : {&a, &b}) out += markup && !v->markup ? escaped(m, v->str()) : v->str();
    Value sum = Value::string(out.take());
    sum.markup = markup;
    return sum;
  }
  if (op == "+" && a.is_seq() && a.kind == b.kind) {
    m.meter.charge(static_cast<int64_t>((a.items().size() + b.items().size()) * sizeof(Value)));
    List l = a.items();
    l.insert(l.end(), b.items().begin(), b.items().end());
    return Value::make_list(std::move(l), a.kind);
  }
  const auto repeats = [](const Value& v) { return v.is(Kind::kString) || v.is_seq(); };
  if (op == "*" && b.is_int() && repeats(a)) return repeated(m, a, b.i);
  if (op == "*" && a.is_int() && repeats(b)) return repeated(m, b, a.i);
  if (op == "*" && (repeats(a) || repeats(b)))
    fail(fmt::format("can't multiply sequence by non-int of type '{}'", type_name(repeats(a) ? b : a)));
  if (!a.is_number() || !b.is_number()) {
    if (op == "+" && a.is(Kind::kString))
      fail(fmt::format("can only concatenate str (not \"{}\") to str", type_name(b)));
    if (op == "+" && a.is_seq())
      fail(fmt::format("can only concatenate {0} (not \"{1}\") to {0}", type_name(a), type_name(b)));
    fail(fmt::format("unsupported operand type(s) for {}: '{}' and '{}'", op == "**" ? "** or pow()" : op, type_name(a),
                     type_name(b)));
  }
  const Owner owner = blend(a.owner, b.owner);
  const bool ints = a.is_int() && b.is_int();
  if ((op == "/" || op == "//" || op == "%") && b.as_double() == 0) {
    fail(ints ? (op == "/"   ? "division by zero"
                 : op == "%" ? "integer modulo by zero"
                             : "integer division or modulo by zero")
              : (op == "/"   ? "float division by zero"
                 : op == "%" ? "float modulo"
                             : "float floor division by zero"));
  }
  return (ints ? int_arithmetic(m, op, a.i, b.i) : real_arithmetic(op, a.as_double(), b.as_double())).owned(owner);
}

Value slice(Machine& m, const Value& v, const Value& from, const Value& to, const Value& by) {
  if (v.is(Kind::kUndefined)) fail_undefined(v);
  const bool text = v.is(Kind::kString);
  if (!v.is_seq() && !text && !v.is(Kind::kRange)) {
    fail(v.is(Kind::kDict) ? "unhashable type: 'slice'"
                           : fmt::format("'{}' object is not subscriptable", type_name(v)));
  }
  const auto part = [](const Value& p, int64_t otherwise) {
    if (p.is(Kind::kNone)) return otherwise;
    if (p.is(Kind::kUndefined) || !p.is_int())
      fail("slice indices must be integers or None or have an __index__ method");
    return p.i;
  };
  const int64_t step = part(by, 1), n = length(m.meter, v);
  if (step == 0) fail("slice step cannot be zero");
  const auto clamp = [&](int64_t i) {
    return std::clamp<int64_t>(i < 0 ? i + n : i, step < 0 ? -1 : 0, step < 0 ? n - 1 : n);
  };
  const int64_t begin = from.is(Kind::kNone) ? (step < 0 ? n - 1 : 0) : clamp(part(from, 0));
  const int64_t end = to.is(Kind::kNone) ? (step < 0 ? -1 : n) : clamp(part(to, 0));
  if (text && step == 1) {
    if (begin >= end) return Value::string(v.str().substr(0, 0));
    const std::string_view all = v.bytes();
    const size_t b = byte_of(all, static_cast<size_t>(begin));
    Text out(m.meter);
    out.add(v.str(), b, b + byte_of(all.substr(b), static_cast<size_t>(end - begin)));
    return Value::string(out.take());
  }
  const List all = text ? characters(m.meter, v.str()) : List{};
  const List& l = text ? all : v.items();
  const int64_t jump = std::clamp<int64_t>(step, -n - 1, n + 1);
  List out;
  for (int64_t i = begin; jump > 0 ? i < end : i > end; i += jump) {
    m.meter.charge(sizeof(Value));
    out.push_back(l[static_cast<size_t>(i)]);
  }
  if (!text) return Value::make_list(std::move(out), v.is(Kind::kRange) ? Kind::kList : v.kind);
  Text joined(m.meter);
  for (const Value& c : out) joined += c.str();
  return Value::string(joined.take());
}

}  // namespace fovea::tokenizers::jinja

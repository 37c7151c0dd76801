// What a template may call: its macros, recursive loops, methods and the functions that it is given.
#include <algorithm>
#include <cmath>
#include <utility>

#include "fovea/tokenizers/template/interpreter.h"

namespace fovea::tokenizers::jinja {
namespace {

const std::string kNoCaller;

}  // namespace

void Interpreter::keep(Frame& frame) {
  for (Frame* f = &frame; f && !f->kept; f = f->parent) {
    f->kept = true;
    meter.charge(256);
    frames_.push_back(f->shared_from_this());
  }
}

Value Interpreter::macro_of(const Stmt& s, Frame& f) {
  keep(f);
  Value macro;
  macro.kind = Kind::kMacro;
  macro.ref = std::make_shared<MacroRef>(MacroRef{&s, &f});
  return macro;
}

Value Interpreter::call(const Value& fn, const Args& a) {
  meter.step();
  if (fn.is(Kind::kUndefined)) fail_undefined(fn);
  if (fn.is(Kind::kMethod)) {
    if (fn.method().self.is(Kind::kLoop))
      changed_loops_.push_back(std::static_pointer_cast<LoopState>(fn.method().self.ref));
    return call_method(*this, fn.method().self, fn.method().name, a);
  }
  if (fn.is(Kind::kMacro)) return call_macro(*fn.macro().stmt, *fn.macro().frame, a);
  if (fn.is(Kind::kLoop)) {
    const LoopState& state = fn.loop();
    if (!state.stmt->recursive) fail("The loop must have the 'recursive' marker to be called recursively.");
    const Bound bound("loop", a, {"iterable"}, 1);
    Text out(meter);
    loop(*state.stmt, *bound[0], *state.frame, out, state.depth + 1);
    return Value::string(out.take());
  }
  if (fn.is(Kind::kJoiner)) {  // nothing the first time
    const Bound none("joiner", a, {}, 0);
    return std::exchange(fn.cycler().at, 1) ? fn.cycler().items.items()[0] : Value::own("");
  }
  if (!fn.is(Kind::kGlobal)) fail(fmt::format("'{}' object is not callable", type_name(fn)));
  const std::string& name = fn.bytes();
  if (name == "raise_exception") fail(to_str(meter, *Bound(name, a, {"message"}, 1)[0]).bytes());
  if (name == "strftime_now") {
    const Bound format(name, a, {"format"}, 1);
    return Value::string(Str(local_time(format.text(0).bytes()), format.text(0).blend()));
  }
  if (name == "range") return range(a);
  if (name == "cycler" || name == "joiner") return cycler(name, a);
  return mapping(name, a);
}
Value Interpreter::cycler(const std::string& name, const Args& a) {
  List items = a.pos;
  if (name == "joiner") {
    const Bound bound(name, a, {"sep"}, 0);
    items = {bound[0] ? *bound[0] : Value::own(", ")};
  } else if (!a.named.empty()) {
    fail(fmt::format("{}() takes no keyword arguments", name));
  }
  if (items.empty()) fail("at least one item has to be provided");
  meter.charge(static_cast<int64_t>(items.size() * sizeof(Value) + 128));
  Value v;
  v.kind = name == "joiner" ? Kind::kJoiner : Kind::kCycler;
  v.ref = std::make_shared<Cycler>(Cycler{Value::make_list(std::move(items)), 0});
  return v;
}
Value Interpreter::mapping(const std::string& name, const Args& a) {
  const Args unnamed{a.pos, {}};
  const Bound positional(name, unnamed, {"values"}, 0);
  Value v = Value::make_dict({}, name == "dict" ? Kind::kDict : Kind::kNamespace);
  const auto add = [&](Value key, Value value) {
    if (v.is(Kind::kNamespace) && key.is(Kind::kString))
      set_attribute(v, key.str(), std::move(value));
    else
      put(meter, v, std::move(key), std::move(value));
  };
  if (const Value* from = positional[0]) {
    if (from->is(Kind::kUndefined)) fail_undefined(*from);
    for (const Value& pair : from->is(Kind::kDict) ? make_pairs(meter, *from).items() : iterate(meter, *from)) {
      const List both = iterate(meter, pair);
      if (both.size() != 2)
        fail(fmt::format("dictionary update sequence element has length {}; 2 is required", both.size()));
      add(both[0], both[1]);
    }
  }
  for (const auto& [key, value] : a.named) add(Value::string(key), value);
  if (v.is(Kind::kNamespace)) namespaces_.push_back(std::static_pointer_cast<Mapping>(v.ref));
  return v;
}
Value Interpreter::range(const Args& a) {
  const Bound bound("range", a, {"start", "stop", "step"}, 1);
  const bool one = !bound[1];
  const int64_t begin = one ? 0 : bound.integer(0, 0), end = one ? bound.integer(0, 0) : bound.integer(1, 0),
                by = bound.integer(2, 1);
  if (by == 0) fail("range() arg 3 must not be zero");
  const double n = std::ceil((static_cast<double>(end) - static_cast<double>(begin)) / static_cast<double>(by));
  if (n > static_cast<double>(meter.range_length()))
    fail_limit(fmt::format("chat template: a range is longer than {}", meter.range_length()));
  meter.charge(std::max<int64_t>(static_cast<int64_t>(n), 0) * static_cast<int64_t>(sizeof(Value)));
  List l;
  for (int64_t i = 0; i < static_cast<int64_t>(n); ++i) l.push_back(Value::integer(begin + i * by));
  const std::string step = by == 1 ? "" : fmt::format(", {}", by);
  return Value::make_list(std::move(l), Kind::kRange, fmt::format("range({}, {}{})", begin, end, step))
      .owned(blend(bound.owner(0), blend(bound.owner(1), bound.owner(2))));
}

Value Interpreter::call_macro(const Stmt& macro, Frame& around, const Args& a) {
  const Nest nest(meter);
  const auto inner = inside(around);
  const size_t n = macro.params.size(), first_default = n - macro.defaults.size();
  std::vector<const Value*> given(n);
  for (size_t i = 0; i < std::min(n, a.pos.size()); ++i) given[i] = &a.pos[i];
  Dict extra;
  Value caller = Value::undefined("No caller defined");
  const std::string& name = macro.tag == Tag::kCallBlock ? kNoCaller : macro.text;
  for (const auto& [key, value] : a.named) {
    const auto at = std::find(macro.params.begin(), macro.params.end(), key.bytes());
    if (at != macro.params.end()) {
      const Value*& slot = given[static_cast<size_t>(at - macro.params.begin())];
      if (slot) fail(fmt::format("macro '{}' got multiple values for argument '{}'", name, key.bytes()));
      slot = &value;
    } else if (key.bytes() == "caller" && macro.uses_caller) {
      caller = value;
    } else if (macro.uses_kwargs) {
      put(meter, extra, Value::string(key), value);
    } else {
      fail(fmt::format("macro '{}' takes no keyword argument '{}'", name, key.bytes()));
    }
  }
  if (a.pos.size() > n && !macro.uses_varargs)
    fail(fmt::format("macro '{}' takes not more than {} argument(s)", name, n));
  if (macro.uses_varargs) {
    List rest;
    if (a.pos.size() > n) rest.assign(a.pos.begin() + static_cast<std::ptrdiff_t>(n), a.pos.end());
    inner->vars["varargs"] = Value::make_list(std::move(rest), Kind::kTuple);
  }
  if (macro.uses_kwargs) inner->vars["kwargs"] = Value::make_dict(std::move(extra));
  if (macro.uses_caller) inner->vars["caller"] = caller;
  for (size_t i = 0; i < n; ++i) {
    Value v = given[i]             ? *given[i]
              : i >= first_default ? eval(*macro.defaults[i - first_default], *inner)
                                   : Value::undefined(fmt::format("parameter '{}' was not provided", macro.params[i]));
    inner->vars[macro.params[i]] = std::move(v);
  }
  unset(macro.unset, *inner);
  Text out(meter);
  exec(macro.body, *inner, out);
  return Value::string(out.take());
}

}  // namespace fovea::tokenizers::jinja

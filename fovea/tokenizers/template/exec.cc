// Statements: what stands in {% %}, and the text around it.
#include <utility>

#include "fovea/tokenizers/template/interpreter.h"

namespace fovea::tokenizers::jinja {

void Interpreter::emit(Text& out, const Value& v) {
  print_str(out, meter, v);
  check_size(out);
}
void Interpreter::check_size(const Text& out) const {
  if (static_cast<int64_t>(out.size()) > meter.output_bytes())
    fail_limit("chat template: the rendered text is too long");
}

Interpreter::Flow Interpreter::exec(const Body& body, Frame& f, Text& out) {
  const Nest nest(meter);
  for (const auto& s : body) {
    const Flow flow = exec_one(*s, f, out);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}
Interpreter::Flow Interpreter::exec_one(const Stmt& s, Frame& f, Text& out) {
  meter.step();
  switch (s.tag) {
    case Tag::kText:
      out.own(s.text);
      check_size(out);
      break;
    case Tag::kPrint: emit(out, eval(*s.value, f)); break;
    case Tag::kIf:
      for (const auto& [condition, body] : s.branches) {
        if (!condition || truthy(eval(*condition, f))) return exec(body, f, out);
      }
      break;
    case Tag::kFor: loop(s, eval(*s.value, f), f, out, 0); break;
    case Tag::kSet: assign(*s.target, eval(*s.value, f), f); break;
    case Tag::kSetBlock:
    case Tag::kFilterBlock: return captured(s, f, out);
    case Tag::kWith: {
      const auto inner = inside(f);
      for (const auto& [target, value] : s.assigned) assign(*target, eval(*value, f), *inner);
      unset(s.unset, *inner);
      return exec(s.body, *inner, out);
    }
    case Tag::kMacro: f.vars[s.text] = macro_of(s, f); break;
    case Tag::kCallBlock: {
      const Value caller = macro_of(s, f);
      const Value fn = eval(*s.value->kids[0], f);
      Args args = arguments(*s.value, 1, f);
      args.named.emplace_back(Str("caller", kTemplate), caller);
      emit(out, call(fn, args));
      break;
    }
    case Tag::kScope:
    case Tag::kBlock: {
      const auto inner = inside(s.tag == Tag::kScope ? f : *root_);
      unset(s.unset, *inner);
      return exec(s.body, *inner, out);
    }
    case Tag::kBreak: return Flow::kBreak;
    case Tag::kContinue: return Flow::kContinue;
  }
  return Flow::kNext;
}
Interpreter::Flow Interpreter::captured(const Stmt& s, Frame& f, Text& out) {
  const auto inner = inside(f);
  unset(s.unset, *inner);
  Text text(meter);
  const Flow flow = exec(s.body, *inner, text);
  Value v = Value::string(text.take());
  if (s.filter) {
    inner->vars[kCaptured] = std::move(v);
    v = eval(*s.filter, *inner);
  }
  if (s.tag == Tag::kFilterBlock && !v.is(Kind::kString))
    fail(fmt::format("sequence item 0: expected str instance, {} found", type_name(v)));
  if (s.tag == Tag::kFilterBlock)
    emit(out, v);
  else
    assign(*s.target, std::move(v), f);
  return flow;
}

void Interpreter::unset(const std::vector<std::string>& names, Frame& f) {
  for (const std::string& name : names) {
    meter.step();
    f.vars.emplace(name, Value::undefined(fmt::format("'{}' is undefined", name)));
  }
}

void Interpreter::set_attribute(const Value& ns, const Str& name, Value v) {
  if (name.view().starts_with("_"))
    fail(fmt::format("a namespace takes no attribute that starts with an underscore: '{}'", name.bytes()));
  put(meter, ns, Value::string(name), std::move(v));
}

void Interpreter::assign(const Expr& target, Value v, Frame& f) {
  if (target.op == Op::kName) {
    f.vars[target.name] = std::move(v);
    return;
  }
  if (target.op == Op::kAttr) {
    const Value ns = eval(*target.kids[0], f);
    if (!ns.is(Kind::kNamespace)) fail("cannot assign attribute on non-namespace object");
    return set_attribute(ns, Str(target.name, kTemplate), std::move(v));
  }
  if (v.is(Kind::kUndefined) || (!v.has_items() && !v.is(Kind::kString) && !v.is(Kind::kDict))) {
    if (v.is(Kind::kUndefined))
      fail(fmt::format("not enough values to unpack (expected {}, got 0)", target.kids.size()));
    fail(fmt::format("cannot unpack non-iterable {} object", type_name(v)));
  }
  const List items = iterate(meter, v);
  if (items.size() > target.kids.size())
    fail(fmt::format("too many values to unpack (expected {})", target.kids.size()));
  if (items.size() < target.kids.size())
    fail(fmt::format("not enough values to unpack (expected {}, got {})", target.kids.size(), items.size()));
  for (size_t i = 0; i < items.size(); ++i) assign(*target.kids[i], items[i], f);
}

void Interpreter::loop(const Stmt& s, const Value& source, Frame& f, Text& out, int depth) {
  const Nest nest(meter);
  List items = source.is(Kind::kLoop) ? source.loop().items : iterate(meter, source);
  if (s.filter) {
    List kept;
    for (Value& v : items) {
      meter.step();
      const auto inner = inside(f);
      assign(*s.target, v, *inner);
      if (truthy(eval(*s.filter, *inner))) kept.push_back(std::move(v));
    }
    items = std::move(kept);
  }
  if (items.empty()) {
    const auto inner = inside(f);
    unset(s.otherwise_unset, *inner);
    exec(s.otherwise, *inner, out);
    return;
  }
  const auto state = std::make_shared<LoopState>();
  // Wrapped once to learn how deep the items are: the loop may end up inside another value.
  state->value_depth = Value::make_list(items).seq().depth;
  state->items = std::move(items);
  state->depth = depth;
  state->stmt = &s;
  state->frame = &f;
  if (s.recursive) keep(f);
  Value shown;
  shown.kind = Kind::kLoop;
  shown.ref = state;
  for (; state->at < state->items.size(); ++state->at) {
    meter.step();
    const auto inner = inside(f);
    inner->vars["loop"] = shown;
    assign(*s.target, state->items[state->at], *inner);
    unset(s.unset, *inner);
    if (exec(s.body, *inner, out) == Flow::kBreak) break;
  }
}

}  // namespace fovea::tokenizers::jinja

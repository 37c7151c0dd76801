// What a name behind a dot and a key in brackets give: jinja2 looks for both, each in another order.
#include "fovea/tokenizers/template/interpreter.h"
#include "fovea/tokenizers/template/text.h"

namespace fovea::tokenizers::jinja {
namespace {

// A value of kind kGlobal: there is no such attribute.
Value loop_attribute(const LoopState& loop, const std::string& name) {
  const auto n = static_cast<int64_t>(loop.items.size()), at = static_cast<int64_t>(loop.at);
  if (name == "index") return Value::integer(at + 1);
  if (name == "index0") return Value::integer(at);
  if (name == "revindex") return Value::integer(n - at);
  if (name == "revindex0") return Value::integer(n - at - 1);
  if (name == "first") return Value::boolean(at == 0);
  if (name == "last") return Value::boolean(at + 1 == n);
  if (name == "length") return Value::integer(n);
  if (name == "depth") return Value::integer(loop.depth + 1);
  if (name == "depth0") return Value::integer(loop.depth);
  if (name == "previtem") return at > 0 ? loop.items[loop.at - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem") return at + 1 < n ? loop.items[loop.at + 1] : Value::undefined("there is no next item");
  return Value::global("");
}

}  // namespace

Value Interpreter::attribute(const Value& v, const std::string& name) {
  meter.step();
  if (v.is(Kind::kUndefined)) fail_undefined(v);
  if (has_method(v, name)) {
    Value method;
    method.kind = Kind::kMethod;
    method.ref = std::make_shared<Method>(Method{v, name});
    return method;
  }
  const bool internal = name.size() > 4 && name.starts_with("__") && name.ends_with("__");
  if (changes_itself(v, name) || internal)
    return Value::undefined(fmt::format("access to attribute '{}' of '{}' object is unsafe.", name, type_name(v)));
  if (v.is(Kind::kDict) || v.is(Kind::kNamespace)) {
    if (const Value* found = find(meter, v, Value::own(name))) return *found;
  }
  if (v.is(Kind::kLoop)) {
    if (Value found = loop_attribute(v.loop(), name); !found.is(Kind::kGlobal)) return found;
  }
  if (v.is(Kind::kCycler) && name == "current") return v.cycler().items.items()[v.cycler().at];
  if (v.is(Kind::kMacro) && name == "name") return Value::own(v.macro().stmt->text);
  if (v.is(Kind::kTuple) && v.seq().label == "group" && (name == "grouper" || name == "list"))
    return v.items()[name == "list"];
  return Value::undefined(fmt::format("'{}' has no attribute '{}'", object_name(v), name));
}

Value Interpreter::item(const Value& v, const Value& key) {
  meter.step();
  if (v.is(Kind::kUndefined)) fail_undefined(v);
  if (v.is(Kind::kDict)) {
    if (const Value* found = find(meter, v, key)) return *found;
  }
  if ((v.is_seq() || v.is(Kind::kRange)) && key.is_int()) {
    const auto n = static_cast<int64_t>(v.items().size()), i = key.i < 0 ? key.i + n : key.i;
    if (i >= 0 && i < n) return v.items()[static_cast<size_t>(i)];
  }
  if (v.is(Kind::kString) && key.is_int()) {
    const int64_t n = length(meter, v), i = key.i < 0 ? key.i + n : key.i;
    if (i >= 0 && i < n) {
      const size_t at = byte_of(v.bytes(), static_cast<size_t>(i));
      return Value::string(v.str().substr(at, character_bytes(v.bytes(), at)));
    }
  }
  if (key.is(Kind::kString)) return attribute(v, key.bytes());
  Text shown(meter);
  print_repr(shown, meter, key);
  return Value::undefined(fmt::format("{} has no element {}", object_name(v), shown.take().bytes()));
}

}  // namespace fovea::tokenizers::jinja

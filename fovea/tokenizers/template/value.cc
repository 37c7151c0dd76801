#include "fovea/tokenizers/template/value.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "fovea/tokenizers/template/text.h"

namespace fovea::tokenizers::jinja {
namespace {

int depth_of(const Value& v) {
  if (v.has_items()) return v.seq().depth;
  if (v.is(Kind::kDict)) return v.mapping().depth;
  if (v.is(Kind::kLoop)) return v.loop().value_depth;
  if (v.is(Kind::kCycler) || v.is(Kind::kJoiner)) return depth_of(v.cycler().items);
  return v.is(Kind::kMethod) ? 1 + depth_of(v.method().self) : 0;
}
int deeper(int depth) {
  if (depth >= kMaxValueDepth)
    fail_limit(fmt::format("chat template: a value is nested deeper than {}", kMaxValueDepth));
  return depth + 1;
}
Value simple(Kind kind, int64_t i = 0) {
  Value v;
  v.kind = kind;
  v.i = i;
  return v;
}

}  // namespace

void fail(std::string message) { throw Failure{ErrorCode::kData, std::move(message)}; }
void fail_limit(std::string message) { throw Failure{ErrorCode::kLimit, std::move(message)}; }
void fail_undefined(const Value& v) { fail(v.bytes()); }

Text& Text::repeat(const Str& s, int64_t n) {
  int64_t total = 0;
  if (n <= 0 || s.empty()) return *this;
  if (__builtin_mul_overflow(s.cost(0, s.size()), n, &total)) total = -1;
  meter_.charge(total);
  out_.reserve(out_.size() + s.size() * static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) out_.append(s);
  return *this;
}

Value Value::none() { return simple(Kind::kNone); }
Value Value::boolean(bool b) { return simple(Kind::kBool, b); }
Value Value::integer(int64_t n) { return simple(Kind::kInt, n); }
Value Value::number(double d) {
  Value v = simple(Kind::kFloat);
  v.f = d;
  return v;
}
Value Value::string(Str t) {
  Value v = simple(Kind::kString);
  v.ref = std::make_shared<Str>(std::move(t));
  return v;
}
Value Value::undefined(std::string why) {
  Value v = own(why);
  v.kind = Kind::kUndefined;
  return v;
}
Value Value::global(std::string name) {
  Value v = own(name);
  v.kind = Kind::kGlobal;
  return v;
}
Value Value::make_list(List l, Kind k, std::string label) {
  int depth = 0;
  for (const Value& e : l) depth = std::max(depth, depth_of(e));
  Value v = simple(k);
  auto seq = std::make_shared<Seq>();
  seq->depth = deeper(depth);
  seq->items = std::move(l);
  seq->label = std::move(label);
  v.ref = std::move(seq);
  return v;
}
Value Value::make_dict(Dict d, Kind k) {
  int depth = 0;
  for (const auto& [key, e] : d) depth = std::max({depth, depth_of(key), depth_of(e)});
  Value v = simple(k);
  auto mapping = std::make_shared<Mapping>();
  mapping->depth = deeper(depth);
  mapping->items = std::move(d);
  v.ref = std::move(mapping);
  return v;
}
const List& Value::items() const { return seq().items; }
const Dict& Value::entries() const { return mapping().items; }

bool truthy(const Value& v) {
  switch (v.kind) {
    case Kind::kUndefined:
    case Kind::kNone: return false;
    case Kind::kBool:
    case Kind::kInt: return v.i != 0;
    case Kind::kFloat: return v.f != 0;
    case Kind::kString: return !v.bytes().empty();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kView:
    case Kind::kRange: return !v.items().empty();
    case Kind::kDict: return !v.entries().empty();
    default: return true;
  }
}

bool equal(Meter& m, const Value& a, const Value& b) {
  m.step();
  if (a.is_int() && b.is_int()) return a.i == b.i;
  if (a.is_number() && b.is_number()) return a.as_double() == b.as_double();
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case Kind::kUndefined:
    case Kind::kNone: return true;
    case Kind::kGlobal: return a.bytes() == b.bytes();
    case Kind::kString:
      if (a.bytes().size() != b.bytes().size()) return false;
      m.scan(a.bytes().size());
      return a.bytes() == b.bytes();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
      if (a.items().size() != b.items().size()) return false;
      for (size_t i = 0; i < a.items().size(); ++i) {
        if (!equal(m, a.items()[i], b.items()[i])) return false;
      }
      return true;
    case Kind::kDict:
      if (a.entries().size() != b.entries().size()) return false;
      for (const auto& [k, v] : a.entries()) {
        const Value* other = find(m, b, k);
        if (!other || !equal(m, v, *other)) return false;
      }
      return true;
    default: return a.ref == b.ref;
  }
}

int compare(Meter& m, const Value& a, const Value& b, const char* op) {
  m.step();
  if (a.is_int() && b.is_int()) return a.i < b.i ? -1 : a.i > b.i;
  if (a.is_number() && b.is_number()) {
    const double x = a.as_double(), y = b.as_double();
    return std::isnan(x) || std::isnan(y) ? 2 : x < y ? -1 : x > y;
  }
  if (a.is(Kind::kString) && b.is(Kind::kString)) {
    m.scan(std::min(a.bytes().size(), b.bytes().size()));
    const int c = a.bytes().compare(b.bytes());  // UTF-8 sorts as its code points do
    return c < 0 ? -1 : c > 0;
  }
  if (a.is_seq() && a.kind == b.kind) {
    const size_t n = std::min(a.items().size(), b.items().size());
    for (size_t i = 0; i < n; ++i) {
      if (!equal(m, a.items()[i], b.items()[i])) return compare(m, a.items()[i], b.items()[i], op);
    }
    return a.items().size() < b.items().size() ? -1 : a.items().size() > b.items().size();
  }
  if (a.is(Kind::kUndefined)) fail_undefined(a);
  if (b.is(Kind::kUndefined)) fail_undefined(b);
  fail(fmt::format("'{}' not supported between instances of '{}' and '{}'", op, type_name(a), type_name(b)));
}

const Value* find(Meter& m, const Value& d, const Value& key) {
  m.step(static_cast<int64_t>(d.entries().size() / 16));
  for (const auto& [k, v] : d.entries()) {
    if (k.is(Kind::kString) && key.is(Kind::kString) ? k.bytes() == key.bytes() : equal(m, k, key)) return &v;
  }
  return nullptr;
}
void put(Meter& m, Dict& dict, Value key, Value value) {
  if (key.is(Kind::kList) || key.is(Kind::kDict)) fail(fmt::format("unhashable type: '{}'", type_name(key)));
  m.step(static_cast<int64_t>(dict.size() / 16));
  for (auto& [k, v] : dict) {
    if (k.is(Kind::kString) && key.is(Kind::kString) ? k.bytes() != key.bytes() : !equal(m, k, key)) continue;
    v = std::move(value);
    return;
  }
  m.charge(2 * sizeof(Value));
  dict.emplace_back(std::move(key), std::move(value));
}
void put(Meter& m, const Value& mapping, Value key, Value value) {
  Mapping& to = mapping.mapping();
  to.depth = std::max(to.depth, deeper(depth_of(value)));
  put(m, to.items, std::move(key), std::move(value));
}

bool contains(Meter& m, const Value& c, const Value& item) {
  if (c.is(Kind::kString)) {
    if (item.is(Kind::kUndefined)) fail_undefined(item);
    if (!item.is(Kind::kString))
      fail(fmt::format("'in <string>' requires string as left operand, not {}", type_name(item)));
    m.scan(c.bytes().size());
    return find_text(c.bytes(), item.bytes(), 0) != std::string::npos;
  }
  if (c.is(Kind::kDict)) return find(m, c, item);
  if (c.is(Kind::kUndefined)) return false;
  if (c.is(Kind::kGenerator)) {  // what was looked at is gone
    List& left = c.seq().items;
    size_t n = 0;
    bool found = false;
    while (n < left.size() && !found) found = equal(m, left[n++], item);
    left.erase(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(n));
    return found;
  }
  if (!c.has_items()) fail(fmt::format("argument of type '{}' is not iterable", type_name(c)));
  for (const Value& v : c.items()) {
    if (equal(m, v, item)) return true;
  }
  return false;
}

std::string type_name(const Value& v) {
  switch (v.kind) {
    case Kind::kUndefined: return "Undefined";
    case Kind::kNone: return "NoneType";
    case Kind::kBool: return "bool";
    case Kind::kInt: return "int";
    case Kind::kFloat: return "float";
    case Kind::kString: return "str";
    case Kind::kList: return "list";
    case Kind::kTuple: return "tuple";
    case Kind::kView: return v.seq().label;
    case Kind::kRange: return "range";
    case Kind::kGenerator: return "generator";
    case Kind::kDict: return "dict";
    case Kind::kNamespace: return "Namespace";
    case Kind::kLoop: return "LoopContext";
    case Kind::kMacro: return "Macro";
    case Kind::kMethod: return "builtin_function_or_method";
    case Kind::kCycler: return "Cycler";
    case Kind::kJoiner: return "Joiner";
    case Kind::kGlobal: return v.bytes() == "range" || v.bytes() == "namespace" ? "type" : "function";
  }
  return {};
}
std::string object_name(const Value& v) {
  switch (v.kind) {
    case Kind::kNone: return "None";
    case Kind::kNamespace: return "jinja2.utils.Namespace object";
    case Kind::kLoop: return "jinja2.runtime.LoopContext object";
    case Kind::kMacro: return "jinja2.runtime.Macro object";
    default: return type_name(v) + " object";
  }
}

List characters(Meter& m, const Str& text) {
  const std::string_view s = text.view();
  m.charge(static_cast<int64_t>(count_characters(s) * (sizeof(Value) + sizeof(Str) + 16)));  // a string of its own each
  List out;
  text.for_each_run(0, text.size(), [&](size_t begin, size_t end, Owner owner) {
    for (size_t i = begin; i < end;) {
      const size_t n = std::min(character_bytes(s, i), end - i);
      out.push_back(Value::string(Str(s.substr(i, n), owner)));
      i += n;
    }
  });
  return out;
}
Owner owner_of(const Value& v) { return v.is(Kind::kString) ? v.str().blend() : v.owner; }
List iterate(Meter& m, const Value& v) {
  if (v.is(Kind::kUndefined)) return {};
  if (v.has_items()) {
    m.step(static_cast<int64_t>(v.items().size()) / 16);
    if (v.is(Kind::kGenerator)) return std::exchange(v.seq().items, {});
    m.charge(static_cast<int64_t>(v.items().size() * sizeof(Value)));
    return v.items();
  }
  if (v.is(Kind::kString)) return characters(m, v.str());
  if (v.is(Kind::kDict)) {
    m.charge(static_cast<int64_t>(v.entries().size() * sizeof(Value)));
    List out;
    for (const auto& [k, e] : v.entries()) out.push_back(k);
    return out;
  }
  fail(fmt::format("'{}' object is not iterable", type_name(v)));
}
int64_t length(Meter& m, const Value& v) {
  if (v.has_items() && !v.is(Kind::kGenerator)) return static_cast<int64_t>(v.items().size());
  if (v.is(Kind::kDict)) return static_cast<int64_t>(v.entries().size());
  if (v.is(Kind::kString)) {
    m.scan(v.bytes().size());
    return static_cast<int64_t>(count_characters(v.bytes()));
  }
  if (v.is(Kind::kLoop)) return static_cast<int64_t>(v.loop().items.size());
  if (v.is(Kind::kUndefined)) return 0;
  fail(fmt::format("object of type '{}' has no len()", type_name(v)));
}
Value make_pairs(Meter& m, const Value& dict) {
  m.charge(static_cast<int64_t>(dict.entries().size() * 4 * sizeof(Value)));
  List l;
  for (const auto& [k, e] : dict.entries()) l.push_back(Value::make_list({k, e}, Kind::kTuple));
  return Value::make_list(std::move(l));
}

Bound::Bound(const std::string& callee, const Args& args, const std::vector<const char*>& params, size_t required)
    : callee_(callee), values_(params.size()) {
  if (args.pos.size() > params.size()) {
    fail(fmt::format("{}() takes at most {} argument{} ({} given)", callee, params.size(),
                     params.size() == 1 ? "" : "s", args.pos.size()));
  }
  for (size_t i = 0; i < args.pos.size(); ++i) values_[i] = &args.pos[i];
  for (const auto& argument : args.named) {
    const std::string& name = argument.first.bytes();
    const auto at = std::find_if(params.begin(), params.end(), [&](const char* p) { return name == p; });
    if (at == params.end()) fail(fmt::format("{}() got an unexpected keyword argument '{}'", callee, name));
    const Value*& slot = values_[static_cast<size_t>(at - params.begin())];
    if (slot) fail(fmt::format("{}() got multiple values for argument '{}'", callee, name));
    slot = &argument.second;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!values_[i]) fail(fmt::format("{}() missing 1 required positional argument: '{}'", callee, params[i]));
  }
}
int64_t Bound::integer(size_t i, int64_t otherwise) const {
  if (!values_[i]) return otherwise;
  if (values_[i]->is(Kind::kUndefined)) fail_undefined(*values_[i]);
  if (!values_[i]->is_int())
    fail(fmt::format("{}(): '{}' object cannot be interpreted as an integer", callee_, type_name(*values_[i])));
  return values_[i]->i;
}
const Str& Bound::text(size_t i) const {
  if (values_[i]->is(Kind::kUndefined)) fail_undefined(*values_[i]);
  if (!values_[i]->is(Kind::kString))
    fail(fmt::format("{}() argument must be str, not {}", callee_, type_name(*values_[i])));
  return values_[i]->str();
}

}  // namespace fovea::tokenizers::jinja

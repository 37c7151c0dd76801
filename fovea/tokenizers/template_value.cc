#include "fovea/tokenizers/template_value.h"

#include <charconv>
#include <cmath>
#include <cstring>

namespace fovea::tokenizers::jinja {

namespace {
constexpr int kMaxNesting = 200;
std::string float_str(double v) {
  if (std::isnan(v)) return "nan";
  if (std::isinf(v)) return v < 0 ? "-inf" : "inf";
  char buf[64];
  const double a = std::fabs(v);
  const bool fixed = a == 0 || (a >= 1e-4 && a < 1e16);
  auto r = std::to_chars(buf, buf + sizeof buf, v, fixed ? std::chars_format::fixed : std::chars_format::scientific);
  std::string s(buf, r.ptr);
  return fixed && s.find('.') == std::string::npos ? s + ".0" : s;
}
std::string quote_py(const std::string& s) {
  const char q = s.find('\'') != std::string::npos && s.find('"') == std::string::npos ? '"' : '\'';
  std::string out(1, q);
  for (char c : s) {
    if (c == q || c == '\\') { out += '\\'; out += c; }
    else if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (c == '\r') out += "\\r";
    else if (static_cast<unsigned char>(c) < 32 || c == 127) out += fmt::format("\\x{:02x}", static_cast<int>(c));
    else out += c;
  }
  return out + q;
}
std::string quote_json(const std::string& s) {
  std::string out = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\') { out += '\\'; out += c; }
    else if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (c == '\r') out += "\\r";
    else if (c == '\b') out += "\\b";
    else if (c == '\f') out += "\\f";
    else if (static_cast<unsigned char>(c) < 32) out += fmt::format("\\u{:04x}", static_cast<int>(c));
    else out += c;
  }
  return out + '"';
}
}  // namespace

void fail(std::string message) { throw Failure{ErrorCode::kData, std::move(message)}; }
void fail_limit(std::string message) { throw Failure{ErrorCode::kLimit, std::move(message)}; }

Value Value::none() { Value v; v.kind = Kind::kNone; return v; }
Value Value::boolean(bool b) { Value v; v.kind = Kind::kBool; v.i = b; return v; }
Value Value::integer(int64_t n) { Value v; v.kind = Kind::kInt; v.i = n; return v; }
Value Value::number(double d) { Value v; v.kind = Kind::kFloat; v.f = d; return v; }
Value Value::string(std::string t) { Value v; v.kind = Kind::kString; v.s = std::make_shared<const std::string>(std::move(t)); return v; }
Value Value::undefined(std::string why) { Value v = string(std::move(why)); v.kind = Kind::kUndefined; return v; }
Value Value::make_list(List l, Kind k) { Value v; v.kind = k; v.list = std::make_shared<List>(std::move(l)); return v; }
Value Value::make_dict(Dict d, Kind k) { Value v; v.kind = k; v.dict = std::make_shared<Dict>(std::move(d)); return v; }

bool truthy(const Value& v) {
  switch (v.kind) {
    case Kind::kUndefined: case Kind::kNone: return false;
    case Kind::kBool: case Kind::kInt: return v.i != 0;
    case Kind::kFloat: return v.f != 0;
    case Kind::kString: return !v.s->empty();
    case Kind::kList: case Kind::kTuple: return !v.list->empty();
    case Kind::kDict: return !v.dict->empty();
    default: return true;
  }
}
bool equal(const Value& a, const Value& b, int depth) {
  if (depth > kMaxNesting) fail_limit("chat template: a value is nested too deeply");
  if (a.is_int() && b.is_int()) return a.i == b.i;
  if (a.is_number() && b.is_number()) return a.as_double() == b.as_double();
  if (a.kind != b.kind) return false;
  if (a.is(Kind::kString)) return *a.s == *b.s;
  if (a.is_seq()) {
    if (a.list->size() != b.list->size()) return false;
    for (size_t i = 0; i < a.list->size(); ++i) if (!equal((*a.list)[i], (*b.list)[i], depth + 1)) return false;
    return true;
  }
  if (a.is(Kind::kDict)) {
    if (a.dict->size() != b.dict->size()) return false;
    for (const auto& [k, v] : *a.dict) { const Value* o = find(b, k); if (!o || !equal(v, *o, depth + 1)) return false; }
    return true;
  }
  if (a.is(Kind::kNamespace)) return a.dict == b.dict;
  return a.macro == b.macro;
}
int compare(const Value& a, const Value& b, const char* op) {
  if (a.is_number() && b.is_number()) {
    if (a.is_int() && b.is_int()) return a.i < b.i ? -1 : a.i > b.i;
    return a.as_double() < b.as_double() ? -1 : a.as_double() > b.as_double();
  }
  if (a.is(Kind::kString) && b.is(Kind::kString)) { const int c = a.s->compare(*b.s); return c < 0 ? -1 : c > 0; }
  if (a.is_seq() && a.kind == b.kind) {
    for (size_t i = 0; i < a.list->size() && i < b.list->size(); ++i)
      if (!equal((*a.list)[i], (*b.list)[i])) return compare((*a.list)[i], (*b.list)[i], op);
    return a.list->size() < b.list->size() ? -1 : a.list->size() > b.list->size();
  }
  if (a.is(Kind::kUndefined)) fail(*a.s);
  if (b.is(Kind::kUndefined)) fail(*b.s);
  fail(fmt::format("'{}' not supported between instances of '{}' and '{}'", op, type_name(a), type_name(b)));
}
const Value* find(const Value& d, const Value& key) {
  for (const auto& [k, v] : *d.dict) if (equal(k, key)) return &v;
  return nullptr;
}
void put(Dict& dict, Value key, Value value) {
  for (auto& [k, v] : dict) if (equal(k, key)) { v = std::move(value); return; }
  dict.emplace_back(std::move(key), std::move(value));
}
bool contains(const Value& c, const Value& item) {
  if (c.is(Kind::kString)) {
    if (!item.is(Kind::kString)) fail(fmt::format("'in <string>' requires string as left operand, not {}", type_name(item)));
    return c.s->find(*item.s) != std::string::npos;
  }
  if (c.is(Kind::kDict)) return find(c, item);
  for (const Value& v : iterate(c)) if (equal(v, item)) return true;
  return false;
}
std::string to_str(const Value& v) {
  if (v.is(Kind::kString)) return *v.s;
  if (v.is(Kind::kUndefined)) return "";
  return to_repr(v);
}
std::string to_repr(const Value& v, int depth) {
  if (depth > kMaxNesting) fail_limit("chat template: a value is nested too deeply");
  switch (v.kind) {
    case Kind::kUndefined: return "Undefined";
    case Kind::kNone: return "None";
    case Kind::kBool: return v.i ? "True" : "False";
    case Kind::kInt: return std::to_string(v.i);
    case Kind::kFloat: return float_str(v.f);
    case Kind::kString: return quote_py(*v.s);
    case Kind::kList: case Kind::kTuple: {
      std::string out;
      for (const Value& e : *v.list) out += (out.empty() ? "" : ", ") + to_repr(e, depth + 1);
      if (v.is(Kind::kTuple)) return "(" + out + (v.list->size() == 1 ? ",)" : ")");
      return "[" + out + "]";
    }
    case Kind::kDict: case Kind::kNamespace: {
      std::string out;
      for (const auto& [k, e] : *v.dict) out += (out.empty() ? "" : ", ") + to_repr(k, depth + 1) + ": " + to_repr(e, depth + 1);
      return v.is(Kind::kDict) ? "{" + out + "}" : "<Namespace {" + out + "}>";
    }
    default: return "<function>";
  }
}
std::string to_json(const Value& v, int indent, int level) {
  if (level > kMaxNesting) fail_limit("chat template: a value is nested too deeply");
  const std::string inner = indent < 0 ? "" : "\n" + std::string(static_cast<size_t>(indent * (level + 1)), ' ');
  const std::string outer = indent < 0 ? "" : "\n" + std::string(static_cast<size_t>(indent * level), ' ');
  const std::string comma = indent < 0 ? ", " : ",";
  std::string out;
  switch (v.kind) {
    case Kind::kNone: return "null";
    case Kind::kBool: return v.i ? "true" : "false";
    case Kind::kInt: return std::to_string(v.i);
    case Kind::kFloat: return std::isnan(v.f) ? "NaN" : std::isinf(v.f) ? (v.f < 0 ? "-Infinity" : "Infinity") : float_str(v.f);
    case Kind::kString: return quote_json(*v.s);
    case Kind::kList: case Kind::kTuple:
      if (v.list->empty()) return "[]";
      for (const Value& e : *v.list) out += (out.empty() ? "[" : comma) + inner + to_json(e, indent, level + 1);
      return out + outer + "]";
    case Kind::kDict:
      if (v.dict->empty()) return "{}";
      for (const auto& [k, e] : *v.dict) {
        const std::string key = k.is(Kind::kString) ? *k.s : to_json(k, -1, level + 1);
        out += (out.empty() ? "{" : comma) + inner + quote_json(key) + ": " + to_json(e, indent, level + 1);
      }
      return out + outer + "}";
    default: fail(fmt::format("Object of type {} is not JSON serializable", type_name(v)));
  }
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
    case Kind::kDict: return "dict";
    case Kind::kNamespace: return "Namespace";
    case Kind::kMacro: return "Macro";
    default: return "function";
  }
}
List characters(const std::string& s) {
  List out;
  for (size_t i = 0; i < s.size();) {
    size_t n = 1;
    while (i + n < s.size() && (s[i + n] & 0xC0) == 0x80) ++n;
    out.push_back(Value::string(s.substr(i, n)));
    i += n;
  }
  return out;
}
List iterate(const Value& v) {
  if (v.is(Kind::kUndefined)) return {};
  if (v.is_seq()) return *v.list;
  if (v.is(Kind::kString)) return characters(*v.s);
  if (v.is(Kind::kDict)) { List out; for (const auto& [k, e] : *v.dict) out.push_back(k); return out; }
  fail(fmt::format("'{}' object is not iterable", type_name(v)));
}
std::string strip(const std::string& s, const std::string* chars, bool left, bool right) {
  const std::string set = chars ? *chars : std::string(" \t\n\r\f\v\x1c\x1d\x1e\x1f");
  size_t b = 0, e = s.size();
  while (left && b < e && set.find(s[b]) != std::string::npos) ++b;
  while (right && e > b && set.find(s[e - 1]) != std::string::npos) --e;
  return s.substr(b, e - b);
}
std::string replace_all(const std::string& s, const std::string& from, const std::string& to, int64_t limit) {
  std::string out;
  size_t p = 0;
  for (; limit != 0; --limit) {
    const size_t q = from.empty() ? (p < s.size() ? p : std::string::npos) : s.find(from, p);
    if (q == std::string::npos) break;
    if (from.empty()) { out += to; out += s[p++]; continue; }
    out.append(s, p, q - p);
    out += to;
    p = q + from.size();
  }
  if (p < s.size()) return out.append(s, p);
  return from.empty() && limit != 0 ? out + to : out;
}

}  // namespace fovea::tokenizers::jinja

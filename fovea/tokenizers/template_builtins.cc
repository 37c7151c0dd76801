#include <algorithm>
#include <cstdlib>
#include <set>

#include "fovea/tokenizers/template_value.h"

namespace fovea::tokenizers::jinja {
namespace {
std::string cased(std::string s, bool up) {
  for (char& c : s) if (up ? c >= 'a' && c <= 'z' : c >= 'A' && c <= 'Z') c ^= 32;
  return s;
}
std::string titled(std::string s) {
  bool start = true;
  for (char& c : s) {
    const bool letter = (c | 32) >= 'a' && (c | 32) <= 'z';
    if (letter) c = static_cast<char>(start ? c & ~32 : c | 32);
    start = !letter;
  }
  return s;
}
int64_t length(const Value& v) {
  if (v.is_seq()) return static_cast<int64_t>(v.list->size());
  if (v.is(Kind::kDict)) return static_cast<int64_t>(v.dict->size());
  if (v.is(Kind::kString)) return std::count_if(v.s->begin(), v.s->end(), [](char c) { return (c & 0xC0) != 0x80; });
  if (v.is(Kind::kUndefined)) return 0;
  fail(fmt::format("object of type '{}' has no len()", type_name(v)));
}
Value pairs(const Value& v) {
  List l;
  if (v.is(Kind::kUndefined)) return Value::make_list({});
  if (!v.is(Kind::kDict)) fail("Can only get item pairs from a mapping.");
  for (const auto& [k, e] : *v.dict) l.push_back(Value::make_list({k, e}, Kind::kTuple));
  return Value::make_list(std::move(l));
}
Value path(Machine& m, Value v, const Value& attr) {
  if (attr.is_int()) return m.item(v, attr);
  const std::string& p = to_str(attr) + ".";
  for (size_t b = 0, e; (e = p.find('.', b)) != std::string::npos; b = e + 1) v = m.item(v, Value::string(p.substr(b, e - b)));
  return v;
}
}  // namespace

const Value* Args::get(size_t index, const char* name) const {
  if (index < pos.size()) return &pos[index];
  for (const auto& [k, v] : named) if (k == name) return &v;
  return nullptr;
}
bool is_filter(const std::string& n) {
  static const std::set<std::string> k = {"trim", "length", "count", "tojson", "join", "upper", "lower", "title", "capitalize", "default", "d", "first", "last", "list", "string", "int", "float", "replace", "map", "selectattr", "rejectattr", "select", "reject", "items", "dictsort", "sort", "unique", "reverse", "indent", "safe", "escape", "e", "abs"};
  return k.count(n);
}
bool is_test(const std::string& n) {
  static const std::set<std::string> k = {"defined", "undefined", "none", "string", "mapping", "sequence", "iterable", "number", "integer", "float", "boolean", "true", "false", "equalto", "eq", "ne", "in", "odd", "even", "callable", "gt", "lt", "ge", "le"};
  return k.count(n);
}
bool has_method(const Value& v, const std::string& n) {
  static const std::set<std::string> str = {"strip", "lstrip", "rstrip", "split", "startswith", "endswith", "upper", "lower", "title", "replace", "capitalize", "join"}, dict = {"items", "keys", "values", "get"};
  static const std::set<std::string> refused = {"append", "extend", "insert", "pop", "remove", "clear", "update", "setdefault", "popitem"};
  return v.is(Kind::kString) ? str.count(n) : v.is(Kind::kDict) ? dict.count(n) || (refused.count(n) && n != "append" && n != "extend" && n != "insert" && n != "remove") : v.is(Kind::kList) && refused.count(n);
}
bool apply_test(Machine&, const std::string& n, const Value& v, const Args& a) {
  auto arg = [&] { if (a.pos.empty()) fail(fmt::format("the test '{}' wants an argument", n)); return a.pos[0]; };
  if (n == "defined") return !v.is(Kind::kUndefined);
  if (n == "undefined") return v.is(Kind::kUndefined);
  if (n == "none") return v.is(Kind::kNone);
  if (n == "string") return v.is(Kind::kString);
  if (n == "mapping") return v.is(Kind::kDict);
  if (n == "sequence" || n == "iterable") return v.is_seq() || v.is(Kind::kString) || v.is(Kind::kDict) || v.is(Kind::kUndefined);
  if (n == "number") return v.is_number();
  if (n == "integer") return v.is(Kind::kInt);
  if (n == "float") return v.is(Kind::kFloat);
  if (n == "boolean") return v.is(Kind::kBool);
  if (n == "true") return v.is(Kind::kBool) && v.i;
  if (n == "false") return v.is(Kind::kBool) && !v.i;
  if (n == "equalto" || n == "eq") return equal(v, arg());
  if (n == "ne") return !equal(v, arg());
  if (n == "in") return contains(arg(), v);
  if (n == "gt") return compare(v, arg(), ">") > 0;
  if (n == "lt") return compare(v, arg(), "<") < 0;
  if (n == "ge") return compare(v, arg(), ">=") >= 0;
  if (n == "le") return compare(v, arg(), "<=") <= 0;
  if (n == "callable") return v.is(Kind::kMacro) || v.is(Kind::kGlobal) || v.is(Kind::kMethod);
  if (!v.is_int()) fail(fmt::format("the test '{}' wants an integer", n));
  return (v.i % 2 != 0) == (n == "odd");
}
Value apply_filter(Machine& m, const std::string& n, const Value& v, const Args& a) {
  const std::string s = v.is(Kind::kString) ? *v.s : "";
  auto flag = [&](size_t i, const char* k) { const Value* p = a.get(i, k); return p && truthy(*p); };
  if (n == "default" || n == "d") { const bool use = v.is(Kind::kUndefined) || (flag(1, "boolean") && !truthy(v)); const Value* d = a.get(0, "default_value"); return !use ? v : d ? *d : Value::string(""); }
  if (n == "length" || n == "count") return Value::integer(length(v));
  if (n == "tojson") { m.step(100); const Value* i = a.get(0, "indent"); return Value::string(to_json(v, i && i->is_int() ? static_cast<int>(std::clamp<int64_t>(i->i, 0, 16)) : -1)); }
  if (n == "safe") return v;
  if (n == "string") return Value::string(to_str(v));
  if (n == "trim") { const Value* c = a.get(0, "chars"); const std::string set = c ? to_str(*c) : ""; return Value::string(strip(to_str(v), c ? &set : nullptr, true, true)); }
  if (n == "upper" || n == "lower") return Value::string(cased(to_str(v), n == "upper"));
  if (n == "title") return Value::string(titled(to_str(v)));
  if (n == "capitalize") { std::string t = cased(to_str(v), false); if (!t.empty()) t = cased(t.substr(0, 1), true) + t.substr(1); return Value::string(t); }
  if (n == "escape" || n == "e") { std::string o; for (char c : to_str(v)) { if (c == '&') o += "&amp;"; else if (c == '<') o += "&lt;"; else if (c == '>') o += "&gt;"; else if (c == '"') o += "&#34;"; else if (c == '\'') o += "&#39;"; else o += c; } return Value::string(o); }
  if (n == "items") return pairs(v);
  if (n == "replace") { if (a.pos.size() < 2) fail("replace wants two arguments"); return Value::string(replace_all(to_str(v), to_str(a.pos[0]), to_str(a.pos[1]), a.pos.size() > 2 ? a.pos[2].i : -1)); }
  if (n == "int") { const Value* d = a.get(0, "default"); if (v.is_int()) return Value::integer(v.i); if (v.is(Kind::kFloat) && v.f > -9e18 && v.f < 9e18) return Value::integer(static_cast<int64_t>(v.f)); char* e = nullptr; const double x = std::strtod(s.c_str(), &e); return !s.empty() && !*e && x > -9e18 && x < 9e18 ? Value::integer(static_cast<int64_t>(x)) : d ? *d : Value::integer(0); }
  if (n == "float") { const Value* d = a.get(0, "default"); if (v.is_number()) return Value::number(v.as_double()); char* e = nullptr; const double x = std::strtod(s.c_str(), &e); return !s.empty() && !*e ? Value::number(x) : d ? *d : Value::number(0); }
  if (n == "abs") { if (!v.is_number()) fail("abs wants a number"); return v.is(Kind::kFloat) ? Value::number(std::abs(v.f)) : Value::integer(v.i < 0 ? -v.i : v.i); }
  if (n == "indent") { const Value* w = a.get(0, "width"); const std::string pad = w && w->is(Kind::kString) ? *w->s : std::string(static_cast<size_t>(w ? std::clamp<int64_t>(w->i, 0, 1000) : 4), ' '); std::string o = flag(1, "first") ? pad : ""; const std::string t = to_str(v); for (size_t i = 0; i < t.size(); ++i) { o += t[i]; if (t[i] == '\n' && i + 1 < t.size() && (flag(2, "blank") || t[i + 1] != '\n')) o += pad; } return Value::string(o); }
  List l = iterate(v);
  m.step(static_cast<int64_t>(l.size()));
  if (n == "list") return Value::make_list(std::move(l));
  if (n == "first" || n == "last") return l.empty() ? Value::undefined(fmt::format("No {} item, sequence was empty.", n)) : n == "first" ? l.front() : l.back();
  if (n == "reverse") { std::reverse(l.begin(), l.end()); if (!v.is(Kind::kString)) return Value::make_list(std::move(l)); std::string o; for (auto& c : l) o += *c.s; return Value::string(o); }
  if (n == "join") { const Value *d = a.get(0, "d"), *at = a.get(1, "attribute"); const std::string sep = d ? to_str(*d) : ""; std::string o; for (size_t i = 0; i < l.size(); ++i) { m.charge(static_cast<int64_t>(sep.size())); if (i) o += sep; const std::string t = to_str(at ? path(m, l[i], *at) : l[i]); m.charge(static_cast<int64_t>(t.size())); o += t; } return Value::string(o); }
  if (n == "map") {
    const Value* at = a.get(9, "attribute"); const Value* d = a.get(9, "default");
    if (!at && (a.pos.empty() || !is_filter(to_str(a.pos[0])))) fail("map wants a filter or attribute=");
    Args rest; if (!at) { rest.pos.assign(a.pos.begin() + 1, a.pos.end()); rest.named = a.named; }
    for (Value& e : l) { if (at) { e = path(m, e, *at); if (d && e.is(Kind::kUndefined)) e = *d; } else e = apply_filter(m, *a.pos[0].s, e, rest); }
    return Value::make_list(std::move(l));
  }
  if (n == "select" || n == "reject" || n == "selectattr" || n == "rejectattr") {
    const size_t at = n.ends_with("attr"); const bool keep = n[0] == 's'; List r;
    if (a.pos.size() < at) fail("selectattr wants an attribute");
    Args rest; if (a.pos.size() > at + 1) rest.pos.assign(a.pos.begin() + static_cast<long>(at) + 1, a.pos.end());
    std::string test = a.pos.size() > at ? to_str(a.pos[at]) : ""; if (test == "==") test = "eq"; if (test == "!=") test = "ne";
    if (!test.empty() && !is_test(test)) fail(fmt::format("No test named '{}'.", test));
    for (Value& e : l) { const Value x = at ? path(m, e, a.pos[0]) : e; if ((test.empty() ? truthy(x) : apply_test(m, test, x, rest)) == keep) r.push_back(e); }
    return Value::make_list(std::move(r));
  }
  const bool dsort = n == "dictsort";
  const bool cs = flag(dsort ? 0 : n == "sort" ? 1 : 0, "case_sensitive"), rev = flag(dsort ? 2 : n == "sort" ? 0 : 9, "reverse");
  const Value* at = dsort ? nullptr : a.get(n == "sort" ? 2 : 1, "attribute"); const Value* by = a.get(1, "by");
  if (dsort) l = *pairs(v).list;
  auto key = [&](const Value& e) { Value k = dsort ? (*e.list)[by && to_str(*by) == "value"] : at ? path(m, e, *at) : e; return !cs && k.is(Kind::kString) ? Value::string(cased(*k.s, false)) : k; };
  if (n == "unique") { List r, seen; for (Value& e : l) { Value k = key(e); m.step(static_cast<int64_t>(seen.size())); if (std::none_of(seen.begin(), seen.end(), [&](const Value& x) { return equal(x, k); })) { seen.push_back(k); r.push_back(e); } } return Value::make_list(std::move(r)); }
  std::stable_sort(l.begin(), l.end(), [&](const Value& x, const Value& y) { m.step(1); return rev ? compare(key(y), key(x), "<") < 0 : compare(key(x), key(y), "<") < 0; });
  return Value::make_list(std::move(l));
}
Value call_method(Machine& m, const Value& self, const std::string& n, const Args& a) {
  auto str = [&](size_t i) { if (i >= a.pos.size() || !a.pos[i].is(Kind::kString)) fail(fmt::format("{}() wants a string", n)); return *a.pos[i].s; };
  if (self.is(Kind::kDict)) {
    if (n == "items") return pairs(self);
    if (n == "keys") return Value::make_list(iterate(self));
    if (n == "values") { List l; for (const auto& [k, e] : *self.dict) l.push_back(e); return Value::make_list(std::move(l)); }
    if (n == "get") { if (a.pos.empty()) fail("get wants a key"); const Value* v = find(self, a.pos[0]); return v ? *v : a.pos.size() > 1 ? a.pos[1] : Value::none(); }
  }
  if (!self.is(Kind::kString)) fail(fmt::format("the sandbox refuses to call '{}', which changes a {}", n, type_name(self)));
  const std::string& s = *self.s;
  if (n.ends_with("strip")) { const bool set = !a.pos.empty() && !a.pos[0].is(Kind::kNone); const std::string c = set ? str(0) : ""; return Value::string(strip(s, set ? &c : nullptr, n[0] != 'r', n[0] != 'l')); }
  if (n == "startswith" || n == "endswith") { List opts = !a.pos.empty() && a.pos[0].is(Kind::kTuple) ? *a.pos[0].list : List{Value::string(str(0))}; for (auto& o : opts) if (n[0] == 's' ? s.starts_with(to_str(o)) : s.ends_with(to_str(o))) return Value::boolean(true); return Value::boolean(false); }
  if (n == "split") {
    List l; int64_t left = a.get(1, "maxsplit") ? a.get(1, "maxsplit")->i : -1; size_t b = 0;
    m.charge(static_cast<int64_t>(s.size() * 40));
    if (a.pos.empty() || a.pos[0].is(Kind::kNone)) { const std::string ws = " \t\n\r\f\v"; while ((b = s.find_first_not_of(ws, b)) != std::string::npos) { if (left-- == 0) { l.push_back(Value::string(strip(s.substr(b), nullptr, false, true))); break; } const size_t e = std::min(s.find_first_of(ws, b), s.size()); l.push_back(Value::string(s.substr(b, e - b))); b = e; } return Value::make_list(std::move(l)); }
    const std::string sep = str(0); if (sep.empty()) fail("empty separator");
    for (size_t e; left-- != 0 && (e = s.find(sep, b)) != std::string::npos; b = e + sep.size()) l.push_back(Value::string(s.substr(b, e - b)));
    l.push_back(Value::string(s.substr(b))); return Value::make_list(std::move(l));
  }
  if (n == "replace") return Value::string(replace_all(s, str(0), str(1), a.get(2, "count") ? a.get(2, "count")->i : -1));
  if (n == "join") { Args j; j.pos = {self}; return apply_filter(m, "join", a.pos.empty() ? Value::make_list({}) : a.pos[0], j); }
  return apply_filter(m, n, self, {});
}
}  // namespace fovea::tokenizers::jinja

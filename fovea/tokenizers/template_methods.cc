// Methods of strings, lists and dicts, as Python has them; those that would change a value are refused.
#include <algorithm>
#include <functional>
#include <map>

#include "fovea/tokenizers/template_text.h"
#include "fovea/tokenizers/template_value.h"

namespace fovea::tokenizers::jinja {
namespace {

Value made(Machine& m, std::string s) {
  m.meter.charge(static_cast<int64_t>(s.size()));
  return Value::string(std::move(s));
}
Value made_list(Machine& m, const std::vector<std::string_view>& parts) {
  List out;
  for (const std::string_view part : parts) {
    m.meter.charge(static_cast<int64_t>(part.size() + 96));  // a string of its own
    out.push_back(Value::string(std::string(part)));
  }
  return Value::make_list(std::move(out));
}
Value made_tuple(Machine& m, const std::vector<std::string_view>& parts) {
  return Value::make_list(made_list(m, parts).items(), Kind::kTuple);
}

Value stripped(Machine& m, const std::string& s, const Bound& a, bool left, bool right) {
  if (a.given(0) && a[0]->kind != Kind::kString)
    fail(fmt::format("{}strip arg must be None or str", left && right ? "" : left ? "l" : "r"));
  const std::string set = a.given(0) ? a.text(m.meter, 0) : "";
  const std::string_view rest = strip(s, a.given(0) ? &set : nullptr, left, right);
  m.meter.scan((s.size() - rest.size()) * (1 + set.size()));
  return made(m, std::string(rest));
}

// [start, end) of a search in characters, as bytes.
std::pair<size_t, size_t> window(Machine& m, const std::string& s, const Bound& a, size_t first) {
  if (!a.given(first) && !a.given(first + 1)) return {0, s.size()};
  m.meter.scan(s.size());
  const int64_t n = static_cast<int64_t>(count_characters(s));
  const auto at = [&](size_t i, int64_t otherwise) {
    int64_t v = a.given(i) ? a.integer(i, 0) : otherwise;
    if (v < 0) v = std::max<int64_t>(v + n, 0);
    return v;
  };
  const int64_t begin = at(first, 0), end = std::min(at(first + 1, n), n);
  if (begin > n) return {s.size() + 1, s.size()};
  return {byte_of(s, static_cast<size_t>(begin)), byte_of(s, static_cast<size_t>(std::max(begin, end)))};
}
Value search(Machine& m, const std::string& s, const Bound& a, bool last, bool must) {
  const std::string wanted = a.text(m.meter, 0);
  const auto [begin, end] = window(m, s, a, 1);
  m.meter.scan(s.size());
  size_t at = std::string::npos;
  if (begin <= s.size()) {
    const std::string_view part = std::string_view(s).substr(begin, end - begin);
    at = find_text(part, wanted, 0);
    if (last && wanted.empty()) at = part.size();
    for (size_t next = at; last && !wanted.empty() && next != std::string::npos;
         next = find_text(part, wanted, at + 1)) {
      m.meter.step();
      at = next;
    }
  }
  if (at == std::string::npos && must) fail("substring not found");
  return Value::integer(
      at == std::string::npos ? -1 : static_cast<int64_t>(count_characters(std::string_view(s).substr(0, begin + at))));
}
Value counted(Machine& m, const std::string& s, const Bound& a) {
  const std::string wanted = a.text(m.meter, 0);
  const auto [begin, end] = window(m, s, a, 1);
  if (begin > s.size()) return Value::integer(0);
  const std::string_view part = std::string_view(s).substr(begin, end - begin);
  m.meter.scan(part.size());
  if (wanted.empty()) return Value::integer(static_cast<int64_t>(count_characters(part)) + 1);
  int64_t n = 0;
  for (size_t at = find_text(part, wanted, 0); at != std::string::npos;
       at = find_text(part, wanted, at + wanted.size()))
    ++n;
  return Value::integer(n);
}
Value affixed(Machine& m, const std::string& s, const Bound& a, bool end) {
  const std::pair<size_t, size_t> bounds = window(m, s, a, 1);
  const size_t from = bounds.first, to = bounds.second;  // clang 14 captures no structured binding
  const auto matches = [&](const Value& v) {
    m.meter.step();
    if (v.is(Kind::kUndefined)) fail_undefined(v);
    if (!v.is(Kind::kString))
      fail(fmt::format("{} first arg must be str or a tuple of str, not {}", end ? "endswith" : "startswith",
                       type_name(v)));
    if (from > s.size()) return false;
    const std::string_view part = std::string_view(s).substr(from, to - from);
    m.meter.scan(std::min(v.str().size(), part.size()));
    return end ? part.ends_with(v.str()) : part.starts_with(v.str());
  };
  if (!a[0]->is(Kind::kTuple)) return Value::boolean(matches(*a[0]));
  return Value::boolean(std::any_of(a[0]->items().begin(), a[0]->items().end(), matches));
}

Value split_at_space(Machine& m, std::string_view s, int64_t left, bool from_right) {
  std::vector<std::string_view> out;
  const auto space_at = [&](size_t i, size_t n) {
    return (n > 1 || static_cast<unsigned char>(s[i]) < 0x80) && is_space(code_point(s.substr(i, n)));
  };
  s = strip(s, nullptr, true, true);
  if (from_right && left >= 0) {  // the words before the last `left` stay one
    const Value words = split_at_space(m, s, -1, false);
    const size_t n = words.items().size(), keep = n > static_cast<size_t>(left) ? n - static_cast<size_t>(left) : 0;
    List tail(words.items().begin() + static_cast<std::ptrdiff_t>(keep), words.items().end());
    std::string_view head = s;
    for (size_t i = tail.size(); keep && i-- > 0;) {
      head.remove_suffix(tail[i].str().size());
      head = strip(head, nullptr, false, true);
    }
    if (keep) tail.insert(tail.begin(), made(m, std::string(head)));
    return Value::make_list(std::move(tail));
  }
  size_t start = 0;
  for (size_t i = 0; i < s.size();) {
    const size_t n = character_bytes(s, i);
    if (!space_at(i, n)) {
      i += n;
      continue;
    }
    if (left == 0) break;
    out.push_back(s.substr(start, i - start));
    m.meter.step();
    --left;
    while (i < s.size() && space_at(i, character_bytes(s, i))) i += character_bytes(s, i);
    start = i;
  }
  if (start < s.size()) out.push_back(s.substr(start));
  return made_list(m, out);
}
Value split(Machine& m, const std::string& s, const Bound& a, bool from_right) {
  int64_t left = a.given(1) ? a.integer(1, -1) : -1;
  m.meter.scan(s.size());
  if (!a.given(0)) return split_at_space(m, s, left, from_right);
  const std::string by = a.text(m.meter, 0);
  if (by.empty()) fail("empty separator");
  std::vector<std::string_view> out;
  const std::string_view all = s;
  if (from_right) {
    std::string_view head = all;
    while (left-- != 0) {
      const size_t at = head.rfind(by);
      m.meter.scan((at == std::string::npos ? head.size() : head.size() - at) * (1 + by.size() / 16));
      if (at == std::string::npos) break;
      out.push_back(head.substr(at + by.size()));
      head = head.substr(0, at);
    }
    out.push_back(head);
    std::reverse(out.begin(), out.end());
    return made_list(m, out);
  }
  size_t start = 0;
  for (size_t at; left-- != 0 && (at = find_text(all, by, start)) != std::string::npos; start = at + by.size()) {
    m.meter.charge(sizeof(std::string_view));
    out.push_back(all.substr(start, at - start));
  }
  out.push_back(all.substr(start));
  return made_list(m, out);
}
Value partition(Machine& m, const std::string& s, const Bound& a, bool last) {
  const std::string by = a.text(m.meter, 0);
  if (by.empty()) fail("empty separator");
  m.meter.scan(s.size() * (last ? 1 + by.size() / 16 : 1));
  const std::string_view all = s;
  const size_t at = last ? all.rfind(by) : find_text(all, by, 0);
  if (at == std::string::npos) return last ? made_tuple(m, {"", "", all}) : made_tuple(m, {all, "", ""});
  return made_tuple(m, {all.substr(0, at), by, all.substr(at + by.size())});
}
Value replaced(Machine& m, const std::string& s, const Bound& a) {
  const std::string from = a.text(m.meter, 0), to = a.text(m.meter, 1);
  int64_t left = a.given(2) ? a.integer(2, -1) : -1;
  const std::string_view all = s;
  Text out(m.meter);
  m.meter.scan(s.size());
  size_t at = 0;
  if (from.empty()) {  // before every character, and at the end
    for (; left != 0; --left) {
      out += to;
      if (at >= s.size()) return Value::string(out.take());
      const size_t n = character_bytes(all, at);
      out += all.substr(at, n);
      at += n;
    }
    out += all.substr(at);
    return Value::string(out.take());
  }
  for (size_t next; left != 0 && (next = find_text(all, from, at)) != std::string::npos; --left) {
    out += all.substr(at, next - at);
    out += to;
    at = next + from.size();
  }
  out += all.substr(at);
  return Value::string(out.take());
}
Value justified(Machine& m, const std::string& s, const Bound& a, char align) {
  const std::string fill = a[1] ? a.text(m.meter, 1) : " ";
  if (count_characters(fill) != 1) fail("The fill character must be exactly one character long");
  m.meter.scan(s.size());
  const int64_t width = a.integer(0, 0), n = width - static_cast<int64_t>(count_characters(s));
  if (n <= 0) return Value::string(s);
  // Python puts the odd one left if the width is odd.
  const int64_t left = align == '<' ? 0 : align == '>' ? n : n / 2 + (n & width & 1);
  Text out(m.meter);
  out.repeat(fill, left);
  out += s;
  out.repeat(fill, n - left);
  return Value::string(out.take());
}
Value zero_filled(Machine& m, const std::string& s, const Bound& a) {
  const int64_t n = a.integer(0, 0) - static_cast<int64_t>(count_characters(s));
  const size_t sign = !s.empty() && (s[0] == '-' || s[0] == '+');
  Text out(m.meter);
  out += std::string_view(s).substr(0, sign);
  out.repeat("0", n);
  out += std::string_view(s).substr(sign);
  return Value::string(out.take());
}
Value without_affix(Machine& m, const std::string& s, const Bound& a, bool end) {
  const std::string affix = a.text(m.meter, 0);
  const bool has = end ? s.ends_with(affix) : s.starts_with(affix);
  if (!has) return made(m, s);
  return made(m, end ? s.substr(0, s.size() - affix.size()) : s.substr(affix.size()));
}
Value lines(Machine& m, const std::string& s, const Bound& a) {
  m.meter.charge(static_cast<int64_t>(s.size()) * 2);
  return made_list(m, split_lines(s, a.flag(0)));
}
Value joined(Machine& m, const std::string& s, const Bound& a) {
  Text out(m.meter);
  int64_t index = 0;
  for (const Value& e : iterate(m.meter, *a[0])) {
    if (!e.is(Kind::kString))
      fail(fmt::format("sequence item {}: expected str instance, {} found", index, type_name(e)));
    if (index++) out += s;
    out += e.str();
  }
  return Value::string(out.take());
}
std::string swap_case(std::string_view s) {
  std::string out;
  for (size_t i = 0; i < s.size();) {
    const size_t n = character_bytes(s, i);
    const std::string_view c = s.substr(i, n);
    out += is_upper(code_point(c)) ? lower(c) : upper(c);
    i += n;
  }
  return out;
}

// True if there is a character and all are of the kind.
template <typename F>
Value all_of(Machine& m, const std::string& s, const F& kind) {
  m.meter.scan(s.size());
  for (size_t i = 0; i < s.size();) {
    const size_t n = character_bytes(s, i);
    if (!kind(code_point(std::string_view(s).substr(i, n)))) return Value::boolean(false);
    i += n;
  }
  return Value::boolean(!s.empty());
}

struct TextMethod {
  std::vector<const char*> params;
  size_t required;
  Value (*apply)(Machine& m, const std::string& s, const Bound& a);
};
template <std::string (*kMap)(std::string_view)>
Value mapped(Machine& m, const std::string& s, const Bound&) {
  return made(m, kMap(s));
}
template <bool (*kKind)(uint32_t)>
Value all_are(Machine& m, const std::string& s, const Bound&) {
  return all_of(m, s, kKind);
}
template <bool kUp>
Value cased(Machine& m, const std::string& s, const Bound&) {
  return Value::boolean(apply_test(m, kUp ? "upper" : "lower", Value::string(s), {}));
}
const std::map<std::string, TextMethod>& text_methods() {
  using S = const std::string&;
  using B = const Bound&;
  static const std::map<std::string, TextMethod> kMethods = {
      {"capitalize", {{}, 0, mapped<capitalize>}},
      {"casefold", {{}, 0, mapped<lower>}},
      {"center", {{"width", "fillchar"}, 1, [](Machine& m, S s, B a) { return justified(m, s, a, '^'); }}},
      {"count", {{"sub", "start", "end"}, 1, counted}},
      {"endswith", {{"suffix", "start", "end"}, 1, [](Machine& m, S s, B a) { return affixed(m, s, a, true); }}},
      {"find", {{"sub", "start", "end"}, 1, [](Machine& m, S s, B a) { return search(m, s, a, false, false); }}},
      {"index", {{"sub", "start", "end"}, 1, [](Machine& m, S s, B a) { return search(m, s, a, false, true); }}},
      {"isalnum",
       {{},
        0,
        [](Machine& m, S s, B) { return all_of(m, s, [](uint32_t c) { return is_letter(c) || is_digit(c); }); }}},
      {"isalpha", {{}, 0, all_are<is_letter>}},
      {"isascii",
       {{},
        0,
        [](Machine& m, S s, B) {
          return Value::boolean(s.empty() || all_of(m, s, [](uint32_t c) { return c < 128; }).i);
        }}},
      {"isdecimal", {{}, 0, all_are<is_digit>}},
      {"isdigit", {{}, 0, all_are<is_digit>}},
      {"islower", {{}, 0, cased<false>}},
      {"isnumeric", {{}, 0, all_are<is_digit>}},
      {"isspace", {{}, 0, all_are<is_space>}},
      {"isupper", {{}, 0, cased<true>}},
      {"join", {{"iterable"}, 1, joined}},
      {"ljust", {{"width", "fillchar"}, 1, [](Machine& m, S s, B a) { return justified(m, s, a, '<'); }}},
      {"lower", {{}, 0, mapped<lower>}},
      {"lstrip", {{"chars"}, 0, [](Machine& m, S s, B a) { return stripped(m, s, a, true, false); }}},
      {"partition", {{"sep"}, 1, [](Machine& m, S s, B a) { return partition(m, s, a, false); }}},
      {"removeprefix", {{"prefix"}, 1, [](Machine& m, S s, B a) { return without_affix(m, s, a, false); }}},
      {"removesuffix", {{"suffix"}, 1, [](Machine& m, S s, B a) { return without_affix(m, s, a, true); }}},
      {"replace", {{"old", "new", "count"}, 2, replaced}},
      {"rfind", {{"sub", "start", "end"}, 1, [](Machine& m, S s, B a) { return search(m, s, a, true, false); }}},
      {"rindex", {{"sub", "start", "end"}, 1, [](Machine& m, S s, B a) { return search(m, s, a, true, true); }}},
      {"rjust", {{"width", "fillchar"}, 1, [](Machine& m, S s, B a) { return justified(m, s, a, '>'); }}},
      {"rpartition", {{"sep"}, 1, [](Machine& m, S s, B a) { return partition(m, s, a, true); }}},
      {"rsplit", {{"sep", "maxsplit"}, 0, [](Machine& m, S s, B a) { return split(m, s, a, true); }}},
      {"rstrip", {{"chars"}, 0, [](Machine& m, S s, B a) { return stripped(m, s, a, false, true); }}},
      {"split", {{"sep", "maxsplit"}, 0, [](Machine& m, S s, B a) { return split(m, s, a, false); }}},
      {"splitlines", {{"keepends"}, 0, lines}},
      {"startswith", {{"prefix", "start", "end"}, 1, [](Machine& m, S s, B a) { return affixed(m, s, a, false); }}},
      {"strip", {{"chars"}, 0, [](Machine& m, S s, B a) { return stripped(m, s, a, true, true); }}},
      {"swapcase", {{}, 0, mapped<swap_case>}},
      {"title", {{}, 0, mapped<title>}},
      {"upper", {{}, 0, mapped<upper>}},
      {"zfill", {{"width"}, 1, zero_filled}},
  };
  return kMethods;
}

Value dict_method(Machine& m, const Value& self, const std::string& name, const Args& args) {
  if (name == "get") {
    const Bound a("get", args, {"key", "default"}, 1);
    const Value* found = find(m.meter, self, *a[0]);
    return found ? *found : a[1] ? *a[1] : Value::none();
  }
  const Bound none(name, args, {}, 0);
  if (name == "items") return Value::make_list(make_pairs(m.meter, self).items(), Kind::kView, "dict_items");
  if (name == "keys") return Value::make_list(iterate(m.meter, self), Kind::kView, "dict_keys");
  if (name == "copy") {
    m.meter.charge(static_cast<int64_t>(self.entries().size() * 2 * sizeof(Value)));
    return Value::make_dict(self.entries());
  }
  List l;
  m.meter.charge(static_cast<int64_t>(self.entries().size() * sizeof(Value)));
  for (const auto& [k, e] : self.entries()) l.push_back(e);
  return Value::make_list(std::move(l), Kind::kView, "dict_values");
}
Value list_method(Machine& m, const Value& self, const std::string& name, const Args& args) {
  if (name == "copy") {
    const Bound none(name, args, {}, 0);
    return Value::make_list(iterate(m.meter, self));
  }
  const Bound a(name, args, {"value"}, 1);
  int64_t n = 0;
  for (size_t i = 0; i < self.items().size(); ++i) {
    if (!equal(m.meter, self.items()[i], *a[0])) continue;
    if (name == "index") return Value::integer(static_cast<int64_t>(i));
    ++n;
  }
  if (name == "index") {
    Text shown(m.meter);
    print_repr(shown, m.meter, *a[0]);
    fail(self.is(Kind::kTuple) ? "tuple.index(x): x not in tuple" : shown.take() + " is not in list");
  }
  return Value::integer(n);
}
bool one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

bool has_method(const Value& v, const std::string& name) {
  switch (v.kind) {
    case Kind::kString: return name == "format" || text_methods().count(name);
    case Kind::kDict: return one_of(name, {"items", "keys", "values", "get", "copy"});
    case Kind::kList: return one_of(name, {"count", "index", "copy"});
    case Kind::kTuple: return one_of(name, {"count", "index"});
    case Kind::kLoop: return one_of(name, {"cycle", "changed"});
    default: return false;
  }
}
bool changes_itself(const Value& v, const std::string& name) {
  if (v.is(Kind::kDict)) return one_of(name, {"clear", "pop", "popitem", "setdefault", "update"});
  return v.is(Kind::kList) && one_of(name, {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"});
}

Value call_method(Machine& m, const Value& self, const std::string& name, const Args& args) {
  m.meter.step();
  if (self.is(Kind::kDict)) return dict_method(m, self, name, args);
  if (self.is_seq()) return list_method(m, self, name, args);
  if (self.is(Kind::kLoop)) {
    LoopState& loop = self.loop();
    if (!args.named.empty()) fail(fmt::format("{}() takes no keyword arguments", name));
    if (name == "cycle") {
      if (args.pos.empty()) fail("no items for cycling given");
      return args.pos[loop.at % args.pos.size()];
    }
    const bool same =
        loop.changed_called && equal(m.meter, Value::make_list(args.pos), Value::make_list(loop.last_changed));
    loop.last_changed = args.pos;
    loop.changed_called = true;
    return Value::boolean(!same);
  }
  if (name == "format") return brace_format(m, self.str(), args);
  const TextMethod& method = text_methods().at(name);
  return method.apply(m, self.str(), Bound(name, args, method.params, method.required));
}

}  // namespace fovea::tokenizers::jinja

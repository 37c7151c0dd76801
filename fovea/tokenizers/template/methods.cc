// Methods of strings, lists and dicts, as Python has them; those that would change a value are refused.
#include <algorithm>
#include <functional>
#include <map>

#include "fovea/tokenizers/template/text.h"
#include "fovea/tokenizers/template/value.h"

namespace fovea::tokenizers::jinja {
namespace {

Value made(Machine& m, Str s) {
  m.meter.charge(s.cost(0, s.size()));
  return Value::string(std::move(s));
}
struct Part {  // of the bytes of a text
  size_t begin = 0, end = 0;
};
Part part_of(const Str& s, std::string_view inside) {
  const auto begin = static_cast<size_t>(inside.data() - s.view().data());
  return {begin, begin + inside.size()};
}
Value cut(Machine& m, const Str& s, Part part) {
  m.meter.charge(s.cost(part.begin, part.end));
  return Value::string(s.substr(part.begin, part.end - part.begin));
}
Value cut_list(Machine& m, const Str& s, const std::vector<Part>& parts, Kind kind = Kind::kList) {
  List out;
  for (const Part& part : parts) {
    m.meter.charge(static_cast<int64_t>(sizeof(Value) + sizeof(Str) + 16));  // a string of its own
    out.push_back(cut(m, s, part));
  }
  return Value::make_list(std::move(out), kind);
}

Value stripped(Machine& m, const Str& s, const Bound& a, bool left, bool right) {
  if (a.given(0) && a[0]->kind != Kind::kString)
    fail(fmt::format("{}strip arg must be None or str", left && right ? "" : left ? "l" : "r"));
  const std::string* set = a.given(0) ? &a[0]->bytes() : nullptr;
  const std::string_view rest = strip(s.view(), set, left, right);
  m.meter.scan((s.size() - rest.size()) * (1 + (set ? set->size() : 0)));
  return cut(m, s, part_of(s, rest));
}

// [start, end) of a search in characters, as bytes.
std::pair<size_t, size_t> window(Machine& m, const Str& text, const Bound& a, size_t first) {
  const std::string_view s = text.view();
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
Value search(Machine& m, const Str& text, const Bound& a, bool last, bool must) {
  const std::string_view s = text.view();
  const std::string& wanted = a.text(0).bytes();
  const auto [begin, end] = window(m, text, a, 1);
  m.meter.scan(s.size());
  size_t at = std::string::npos;
  if (begin <= s.size()) {
    const std::string_view part = s.substr(begin, end - begin);
    at = find_text(part, wanted, 0);
    if (last && wanted.empty()) at = part.size();
    for (size_t next = at; last && !wanted.empty() && next != std::string::npos;
         next = find_text(part, wanted, at + 1)) {
      m.meter.step();
      at = next;
    }
  }
  if (at == std::string::npos && must) fail("substring not found");
  return Value::integer(at == std::string::npos ? -1 : static_cast<int64_t>(count_characters(s.substr(0, begin + at))));
}
Value counted(Machine& m, const Str& text, const Bound& a) {
  const std::string_view s = text.view();
  const std::string& wanted = a.text(0).bytes();
  const auto [begin, end] = window(m, text, a, 1);
  if (begin > s.size()) return Value::integer(0);
  const std::string_view part = s.substr(begin, end - begin);
  m.meter.scan(part.size());
  if (wanted.empty()) return Value::integer(static_cast<int64_t>(count_characters(part)) + 1);
  int64_t n = 0;
  for (size_t at = find_text(part, wanted, 0); at != std::string::npos;
       at = find_text(part, wanted, at + wanted.size()))
    ++n;
  return Value::integer(n);
}
Value affixed(Machine& m, const Str& text, const Bound& a, bool end) {
  const std::string_view s = text.view();
  const std::pair<size_t, size_t> bounds = window(m, text, a, 1);
  const size_t from = bounds.first, to = bounds.second;  // clang 14 captures no structured binding
  const auto matches = [&](const Value& v) {
    m.meter.step();
    if (v.is(Kind::kUndefined)) fail_undefined(v);
    if (!v.is(Kind::kString))
      fail(fmt::format("{} first arg must be str or a tuple of str, not {}", end ? "endswith" : "startswith",
                       type_name(v)));
    if (from > s.size()) return false;
    const std::string_view part = s.substr(from, to - from);
    m.meter.scan(std::min(v.bytes().size(), part.size()));
    return end ? part.ends_with(v.bytes()) : part.starts_with(v.bytes());
  };
  if (!a[0]->is(Kind::kTuple)) return Value::boolean(matches(*a[0]));
  return Value::boolean(std::any_of(a[0]->items().begin(), a[0]->items().end(), matches));
}

// Words between runs of white space; the text after the last `left` splits (before, from the right) stays one.
std::vector<Part> words_of(Machine& m, std::string_view s, int64_t left, bool from_right) {
  const auto space_at = [&](size_t i, size_t n) {
    return (n > 1 || static_cast<unsigned char>(s[i]) < 0x80) && is_space(code_point(s.substr(i, n)));
  };
  const std::string_view core = strip(s, nullptr, true, true);
  const auto first = static_cast<size_t>(core.data() - s.data()), last = first + core.size();
  std::vector<Part> out;
  if (from_right && left >= 0) {
    std::vector<Part> words = words_of(m, s, -1, false);
    const size_t n = words.size(), keep = n > static_cast<size_t>(left) ? n - static_cast<size_t>(left) : 0;
    if (keep) out.push_back({0, words[keep - 1].end});
    out.insert(out.end(), words.begin() + static_cast<std::ptrdiff_t>(keep), words.end());
    return out;
  }
  size_t start = first;
  for (size_t i = first; i < last;) {
    const size_t n = character_bytes(s, i);
    if (!space_at(i, n)) {
      i += n;
      continue;
    }
    if (left == 0) break;
    m.meter.charge(sizeof(Part));
    out.push_back({start, i});
    --left;
    while (i < last && space_at(i, character_bytes(s, i))) i += character_bytes(s, i);
    start = i;
  }
  if (start < last) out.push_back({start, left == 0 ? s.size() : last});
  return out;
}
Value split(Machine& m, const Str& text, const Bound& a, bool from_right) {
  int64_t left = a.given(1) ? a.integer(1, -1) : -1;
  m.meter.scan(text.size());
  const std::string_view all = text.view();
  if (!a.given(0)) return cut_list(m, text, words_of(m, all, left, from_right));
  const std::string& by = a.text(0).bytes();
  if (by.empty()) fail("empty separator");
  std::vector<Part> out;
  if (from_right) {
    size_t end = all.size();
    while (left-- != 0) {
      const std::string_view head = all.substr(0, end);
      const size_t at = head.rfind(by);
      m.meter.scan((at == std::string::npos ? head.size() : head.size() - at) * (1 + by.size() / 16));
      if (at == std::string::npos) break;
      m.meter.charge(sizeof(Part));
      out.push_back({at + by.size(), end});
      end = at;
    }
    out.push_back({0, end});
    std::reverse(out.begin(), out.end());
    return cut_list(m, text, out);
  }
  size_t start = 0;
  for (size_t at; left-- != 0 && (at = find_text(all, by, start)) != std::string::npos; start = at + by.size()) {
    m.meter.charge(sizeof(Part));
    out.push_back({start, at});
  }
  out.push_back({start, all.size()});
  return cut_list(m, text, out);
}
Value partition(Machine& m, const Str& text, const Bound& a, bool last) {
  const std::string& by = a.text(0).bytes();
  if (by.empty()) fail("empty separator");
  m.meter.scan(text.size() * (last ? 1 + by.size() / 16 : 1));
  const std::string_view all = text.view();
  const size_t at = last ? all.rfind(by) : find_text(all, by, 0), n = all.size();
  if (at == std::string::npos && last) return cut_list(m, text, {{0, 0}, {0, 0}, {0, n}}, Kind::kTuple);
  if (at == std::string::npos) return cut_list(m, text, {{0, n}, {n, n}, {n, n}}, Kind::kTuple);
  // The middle is what stood in the text, not the separator that was looked for.
  return cut_list(m, text, {{0, at}, {at, at + by.size()}, {at + by.size(), n}}, Kind::kTuple);
}
Value replaced(Machine& m, const Str& text, const Bound& a) {
  const std::string& from = a.text(0).bytes();
  const Str& to = a.text(1);
  int64_t left = a.given(2) ? a.integer(2, -1) : -1;
  const std::string_view all = text.view();
  Text out(m.meter);
  m.meter.scan(text.size());
  size_t at = 0;
  if (from.empty()) {  // before every character, and at the end
    for (; left != 0; --left) {
      out += to;
      if (at >= all.size()) return Value::string(out.take());
      const size_t n = character_bytes(all, at);
      out.add(text, at, at + n);
      at += n;
    }
    out.add(text, at, all.size());
    return Value::string(out.take());
  }
  for (size_t next; left != 0 && (next = find_text(all, from, at)) != std::string::npos; --left) {
    out.add(text, at, next);
    out += to;
    at = next + from.size();
  }
  out.add(text, at, all.size());
  return Value::string(out.take());
}
Value justified(Machine& m, const Str& text, const Bound& a, char align) {
  const Str fill = a[1] ? a.text(1) : Str(" ", kTemplate);
  if (count_characters(fill.view()) != 1) fail("The fill character must be exactly one character long");
  m.meter.scan(text.size());
  const int64_t width = a.integer(0, 0), n = width - static_cast<int64_t>(count_characters(text.view()));
  if (n <= 0) return Value::string(text);
  // Python puts the odd one left if the width is odd.
  const int64_t left = align == '<' ? 0 : align == '>' ? n : n / 2 + (n & width & 1);
  Text out(m.meter);
  out.repeat(fill, left);
  out += text;
  out.repeat(fill, n - left);
  return Value::string(out.take());
}
Value zero_filled(Machine& m, const Str& text, const Bound& a) {
  const std::string_view s = text.view();
  const int64_t n = a.integer(0, 0) - static_cast<int64_t>(count_characters(s));
  const size_t sign = !s.empty() && (s[0] == '-' || s[0] == '+');
  Text out(m.meter);
  out.add(text, 0, sign);
  out.repeat(Str("0", kTemplate), n);
  out.add(text, sign, s.size());
  return Value::string(out.take());
}
Value without_affix(Machine& m, const Str& text, const Bound& a, bool end) {
  const std::string& affix = a.text(0).bytes();
  const std::string_view s = text.view();
  const bool has = end ? s.ends_with(affix) : s.starts_with(affix);
  const size_t begin = has && !end ? affix.size() : 0;
  return cut(m, text, {begin, has && end ? s.size() - affix.size() : s.size()});
}
Value lines(Machine& m, const Str& text, const Bound& a) {
  std::vector<Part> out;
  m.meter.scan(text.size());
  for (const std::string_view line : split_lines(text.view(), a.flag(0))) out.push_back(part_of(text, line));
  return cut_list(m, text, out);
}
Value joined(Machine& m, const Str& text, const Bound& a) {
  Text out(m.meter);
  int64_t index = 0;
  for (const Value& e : iterate(m.meter, *a[0])) {
    if (!e.is(Kind::kString))
      fail(fmt::format("sequence item {}: expected str instance, {} found", index, type_name(e)));
    if (index++) out += text;
    out += e.str();
  }
  return Value::string(out.take());
}
Value expanded_tabs(Machine& m, const Str& text, const Bound& a) {
  const std::string_view s = text.view();
  const int64_t size = a.integer(0, 8);
  int64_t column = 0;
  Text out(m.meter);
  for (size_t i = 0; i < s.size();) {
    const size_t n = character_bytes(s, i);
    if (s[i] == '\t') {
      const int64_t missing = size > 0 ? size - column % size : 0;
      out.repeat(Str(" ", text.owner_at(i)), missing);
      column += missing;
    } else {
      out.add(text, i, i + n);
      column = s[i] == '\n' || s[i] == '\r' ? 0 : column + 1;
    }
    i += n;
  }
  return Value::string(out.take());
}
// str.translate() with a dict or a list: what stands at a character's number is a number, a text, or none.
Value translated(Machine& m, const Str& text, const Bound& a) {
  const std::string_view s = text.view();
  Text out(m.meter);
  for (size_t i = 0; i < s.size();) {
    const size_t n = character_bytes(s, i);
    const Value number = Value::integer(code_point(s.substr(i, n)));
    const Value* to = nullptr;
    if (a[0]->is(Kind::kDict)) {
      to = find(m.meter, *a[0], number);
    } else if (a[0]->is_seq()) {
      if (static_cast<size_t>(number.i) < a[0]->items().size()) to = &a[0]->items()[static_cast<size_t>(number.i)];
    } else {
      fail(fmt::format("'{}' object is not subscriptable", type_name(*a[0])));
    }
    m.meter.step();
    if (!to) {
      out.add(text, i, i + n);
    } else if (to->is(Kind::kString)) {
      out += to->str();
    } else if (to->is_int()) {
      if (to->i < 0 || to->i > 0x10FFFF || (to->i >= 0xD800 && to->i < 0xE000))
        fail("character mapping must be in range(0x110000)");
      std::string character;
      append_utf8(character, static_cast<uint32_t>(to->i));
      out.add(character, to->owner);
    } else if (!to->is(Kind::kNone)) {
      fail("character mapping must return integer, None or str");
    }
    i += n;
  }
  return Value::string(out.take());
}

// True if there is a character and all are of the kind.
template <typename F>
Value all_of(Machine& m, const Str& text, const F& kind) {
  const std::string_view s = text.view();
  m.meter.scan(s.size());
  for (size_t i = 0; i < s.size();) {
    const size_t n = character_bytes(s, i);
    if (!kind(code_point(s.substr(i, n)))) return Value::boolean(false);
    i += n;
  }
  return Value::boolean(!s.empty());
}

struct TextMethod {
  std::vector<const char*> params;
  size_t required;
  Value (*apply)(Machine& m, const Str& text, const Bound& a);
};
template <Str (*kMap)(const Str&)>
Value mapped(Machine& m, const Str& text, const Bound&) {
  return made(m, kMap(text));
}
template <bool (*kKind)(uint32_t)>
Value all_are(Machine& m, const Str& text, const Bound&) {
  return all_of(m, text, kKind);
}
template <bool (*kTest)(std::string_view)>
Value tested(Machine& m, const Str& text, const Bound&) {
  m.meter.scan(text.size() * 4);
  return Value::boolean(kTest(text.view()));
}

const std::map<std::string, TextMethod>& text_methods() {
  using S = const Str&;
  using B = const Bound&;
  static const std::map<std::string, TextMethod> kMethods = {
      {"capitalize", {{}, 0, mapped<capitalize>}},
      {"casefold", {{}, 0, mapped<casefold>}},
      {"center", {{"width", "fillchar"}, 1, [](Machine& m, S s, B a) { return justified(m, s, a, '^'); }}},
      {"count", {{"sub", "start", "end"}, 1, counted}},
      {"endswith", {{"suffix", "start", "end"}, 1, [](Machine& m, S s, B a) { return affixed(m, s, a, true); }}},
      {"expandtabs", {{"tabsize"}, 0, expanded_tabs}},
      {"find", {{"sub", "start", "end"}, 1, [](Machine& m, S s, B a) { return search(m, s, a, false, false); }}},
      {"index", {{"sub", "start", "end"}, 1, [](Machine& m, S s, B a) { return search(m, s, a, false, true); }}},
      {"isalnum",
       {{},
        0,
        [](Machine& m, S s, B) { return all_of(m, s, [](uint32_t c) { return is_letter(c) || is_numeric(c); }); }}},
      {"isalpha", {{}, 0, all_are<is_letter>}},
      {"isascii",
       {{},
        0,
        [](Machine& m, S s, B) {
          return Value::boolean(s.empty() || all_of(m, s, [](uint32_t c) { return c < 128; }).i);
        }}},
      {"isdecimal", {{}, 0, all_are<is_decimal>}},
      {"isdigit", {{}, 0, all_are<is_digit>}},
      {"isidentifier", {{}, 0, tested<is_identifier>}},
      {"islower", {{}, 0, tested<is_lower_text>}},
      {"isnumeric", {{}, 0, all_are<is_numeric>}},
      {"isprintable",
       {{}, 0, [](Machine& m, S s, B) { return Value::boolean(s.empty() || all_of(m, s, is_printable).i); }}},
      {"isspace", {{}, 0, all_are<is_space>}},
      {"istitle", {{}, 0, tested<is_title_text>}},
      {"isupper", {{}, 0, tested<is_upper_text>}},
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
      {"swapcase", {{}, 0, mapped<swapcase>}},
      {"title", {{}, 0, mapped<title>}},
      {"translate", {{"table"}, 1, translated}},
      {"upper", {{}, 0, mapped<upper>}},
      {"zfill", {{"width"}, 1, zero_filled}},
  };
  return kMethods;
}

Value from_keys(Machine& m, const Args& args) {
  const Bound a("fromkeys", args, {"iterable", "value"}, 1);
  if (!args.named.empty()) fail("dict.fromkeys() takes no keyword arguments");
  const Value dict = Value::make_dict({});
  for (Value& key : iterate(m.meter, *a[0])) put(m.meter, dict, std::move(key), a[1] ? *a[1] : Value::none());
  return dict;
}
Value dict_method(Machine& m, const Value& self, const std::string& name, const Args& args) {
  if (name == "get") {
    const Bound a("get", args, {"key", "default"}, 1);
    const Value* found = find(m.meter, self, *a[0]);
    return found ? *found : a[1] ? *a[1] : Value::none();
  }
  if (name == "fromkeys") return from_keys(m, args);
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
    fail(self.is(Kind::kTuple) ? "tuple.index(x): x not in tuple" : shown.take().bytes() + " is not in list");
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
    case Kind::kDict: return one_of(name, {"items", "keys", "values", "get", "copy", "fromkeys"});
    case Kind::kGlobal: return v.bytes() == "dict" && name == "fromkeys";
    case Kind::kList: return one_of(name, {"count", "index", "copy"});
    case Kind::kTuple: return one_of(name, {"count", "index"});
    case Kind::kLoop: return one_of(name, {"cycle", "changed"});
    case Kind::kCycler: return one_of(name, {"next", "reset"});
    default: return false;
  }
}
bool changes_itself(const Value& v, const std::string& name) {
  if (v.is(Kind::kDict)) return one_of(name, {"clear", "pop", "popitem", "setdefault", "update"});
  return v.is(Kind::kList) && one_of(name, {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"});
}

Value call_method(Machine& m, const Value& self, const std::string& name, const Args& args) {
  m.meter.step();
  if (self.is(Kind::kDict) || self.is(Kind::kGlobal)) return dict_method(m, self, name, args);
  if (self.is_seq()) return list_method(m, self, name, args);
  if (self.is(Kind::kCycler)) {
    Cycler& cycler = self.cycler();
    const Bound none(name, args, {}, 0);
    const size_t at = cycler.at;
    cycler.at = name == "reset" ? 0 : (at + 1) % cycler.items.items().size();
    return name == "reset" ? Value::none() : cycler.items.items()[at];
  }
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

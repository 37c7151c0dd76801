// The filters of jinja2 on numbers and lists, and the table of all, with jinja2's names and defaults.
#include "fovea/tokenizers/template/filters.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <map>
#include <optional>

#include "fovea/tokenizers/template/text.h"
#include "fovea/tokenizers/template/value.h"

namespace fovea::tokenizers::jinja {
namespace {

Value generator(List l) { return Value::make_list(std::move(l), Kind::kGenerator, "generator"); }

// "a.b.0" as templates write it: names and indices, from the outside in. What is not there is `otherwise`.
Value follow(Machine& m, Value v, const Value& path, const Value* otherwise = nullptr) {
  const auto step = [&](const Value& part) {
    v = m.item(v, part);
    if (otherwise && v.is(Kind::kUndefined)) v = *otherwise;
  };
  if (path.is_int()) {
    step(path);
    return v;
  }
  const std::string p = to_str(m.meter, path).bytes() + ".";
  for (size_t b = 0, e; (e = p.find('.', b)) != std::string::npos; b = e + 1) {
    const std::string part = p.substr(b, e - b);
    int64_t index = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool number = error == std::errc() && end == part.data() + part.size() && part[0] != '-';
    step(number ? Value::integer(index) : Value::own(part));
  }
  return v;
}

Value lowered(Machine& m, const Value& text) {
  m.meter.charge(text.str().cost(0, text.str().size()));
  return Value::string(lower(text.str()));
}
// What sort, unique, min, max and groupby compare.
Value sort_key(Machine& m, const Value& v, const Value* attribute, bool case_sensitive) {
  Value key = v;
  if (attribute && attribute->is(Kind::kString) && attribute->bytes().find(',') != std::string::npos) {
    List parts;
    const std::string all = attribute->bytes() + ",";
    for (size_t b = 0, e; (e = all.find(',', b)) != std::string::npos; b = e + 1) {
      const Value part = Value::own(std::string_view(all).substr(b, e - b));
      parts.push_back(sort_key(m, v, &part, case_sensitive));
    }
    return Value::make_list(std::move(parts));
  }
  if (attribute) key = follow(m, v, *attribute);
  return !case_sensitive && key.is(Kind::kString) ? lowered(m, key) : key;
}
List sorted(Machine& m, List items, const std::function<Value(const Value&)>& key, bool reverse) {
  std::vector<std::pair<Value, Value>> keyed;
  m.meter.charge(static_cast<int64_t>(items.size() * 2 * sizeof(Value)));
  for (Value& v : items) {
    Value k = key(v);
    keyed.emplace_back(std::move(k), std::move(v));
  }
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& x, const auto& y) {
    return reverse ? compare(m.meter, y.first, x.first, "<") == -1 : compare(m.meter, x.first, y.first, "<") == -1;
  });
  List out;
  for (auto& [k, v] : keyed) out.push_back(std::move(v));
  return out;
}

std::optional<double> parse_real(std::string_view text) {
  std::string s(strip(text, nullptr, true, true));
  const bool minus = s.starts_with('-');
  if (minus || s.starts_with('+')) s.erase(0, 1);
  if (s.empty() || s[0] == '-' || s[0] == '+') return std::nullopt;
  std::string digits;
  for (size_t i = 0; i < s.size(); ++i) {
    const auto digit = [&](size_t k) { return k < s.size() && s[k] >= '0' && s[k] <= '9'; };
    if (s[i] != '_')
      digits += s[i];
    else if (i == 0 || !digit(i - 1) || !digit(i + 1))
      return std::nullopt;
  }
  double v = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), v);
  if (end != digits.data() + digits.size() || digits.find('(') != std::string::npos) return std::nullopt;
  if (error == std::errc::result_out_of_range)
    v = digits.find("e-") == std::string::npos && digits.find("E-") == std::string::npos ? HUGE_VAL : 0.0;
  else if (error != std::errc())
    return std::nullopt;
  return minus ? -v : v;
}
std::optional<int64_t> parse_integer(std::string_view text, int base) {
  std::string s(strip(text, nullptr, true, true));
  const bool minus = s.starts_with('-');
  if (minus || s.starts_with('+')) s.erase(0, 1);
  const std::string prefix = base == 16 ? "0x" : base == 8 ? "0o" : base == 2 ? "0b" : "";
  if (!prefix.empty() && s.size() > 1 && s[0] == '0' && (s[1] | 32) == prefix[1]) s.erase(0, 2);
  std::string digits = minus ? "-" : "";
  for (size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '_' && i > 0 && i + 1 < s.size() && s[i + 1] != '_') continue;
    if (s[i] == '_' || s[i] == '-') return std::nullopt;
    digits += s[i];
  }
  int64_t v = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), v, base);
  if (error == std::errc::result_out_of_range) fail_limit("chat template: an integer does not fit 64 bits");
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return v;
}
int64_t to_integer(double v) {
  if (!(std::fabs(v) < 9.2e18)) fail_limit("chat template: an integer does not fit 64 bits");
  return static_cast<int64_t>(v);
}

Value filter_int(Machine& m, const Value& v, const Bound& a) {
  if (v.is(Kind::kUndefined)) fail_undefined(v);
  if (v.is_int()) return Value::integer(v.i).owned(v.owner);
  std::optional<double> real;
  if (v.is(Kind::kFloat)) real = v.f;
  if (v.is(Kind::kString)) {
    m.meter.scan(v.bytes().size() * 16);
    const int64_t base = a.integer(1, 10);
    if (base < 2 || base > 36) fail("int() base must be >= 2 and <= 36, or 0");
    if (const auto n = parse_integer(v.bytes(), static_cast<int>(base))) return Value::integer(*n).owned(owner_of(v));
    real = parse_real(v.bytes());
  }
  if (real && std::isfinite(*real)) return Value::integer(to_integer(*real)).owned(owner_of(v));
  return a[0] ? *a[0] : Value::integer(0);
}
Value filter_float(Machine& m, const Value& v, const Bound& a) {
  if (v.is(Kind::kUndefined)) fail_undefined(v);
  if (v.is_number()) return Value::number(v.as_double()).owned(v.owner);
  if (v.is(Kind::kString)) {
    m.meter.scan(v.bytes().size() * 16);
    if (const auto x = parse_real(v.bytes())) return Value::number(*x).owned(owner_of(v));
  }
  return a[0] ? *a[0] : Value::number(0);
}
Value filter_abs(Machine&, const Value& v, const Bound&) {
  if (v.is(Kind::kUndefined)) fail_undefined(v);
  if (!v.is_number()) fail(fmt::format("bad operand type for abs(): '{}'", type_name(v)));
  if (v.is(Kind::kFloat)) return Value::number(std::fabs(v.f)).owned(v.owner);
  if (v.i == INT64_MIN) fail_limit("chat template: an integer does not fit 64 bits");
  return Value::integer(v.i < 0 ? -v.i : v.i).owned(v.owner);
}
Value filter_round(Machine&, const Value& v, const Bound& a) {
  if (v.is(Kind::kUndefined)) fail_undefined(v);
  if (!v.is_number()) fail(fmt::format("type {} doesn't define __round__ method", type_name(v)));
  const int64_t places = a.integer(0, 0);
  const std::string_view method = a.word(1, "common");
  if (method != "common" && method != "ceil" && method != "floor") fail("method must be common, ceil or floor");
  if (places < -300 || places > 300) fail_limit("chat template: round() takes -300 to 300 places");
  const double scale = std::pow(10.0, static_cast<double>(places));
  if (method != "common")
    return Value::number((method == "ceil" ? std::ceil(v.as_double() * scale) : std::floor(v.as_double() * scale)) /
                         scale)
        .owned(v.owner);
  if (v.is_int() && places >= 0) return Value::integer(v.i).owned(v.owner);
  if (places >= 0 && std::isfinite(v.as_double())) {  // correctly rounded from the exact value, as Python does
    return Value::number(*parse_real(fmt::format("{:.{}f}", v.as_double(), places))).owned(v.owner);
  }
  const double rounded = std::nearbyint(v.as_double() * scale) / scale;
  return (v.is_int() ? Value::integer(to_integer(rounded)) : Value::number(rounded)).owned(v.owner);
}

Value filter_join(Machine& m, const Value& v, const Bound& a) {
  const Str between = a[0] ? to_str(m.meter, *a[0]) : Str();
  Text out(m.meter);
  bool first = true;
  for (const Value& e : iterate(m.meter, v)) {
    if (!first) out += between;
    first = false;
    m.meter.step();
    print_str(out, m.meter, a.given(1) ? follow(m, e, *a[1]) : e);
  }
  return Value::string(out.take());
}
Value filter_first(Machine& m, const Value& v, const Bound&) {
  if (v.is(Kind::kGenerator) && !v.items().empty()) {
    Value first = v.items()[0];
    m.meter.step(static_cast<int64_t>(v.items().size()) / 16);
    v.seq().items.erase(v.seq().items.begin());
    return first;
  }
  const List l = iterate(m.meter, v);
  return l.empty() ? Value::undefined("No first item, sequence was empty.") : l.front();
}
Value filter_last(Machine& m, const Value& v, const Bound&) {
  if (v.is(Kind::kGenerator)) fail("'generator' object is not reversible");
  const List l = iterate(m.meter, v);
  return l.empty() ? Value::undefined("No last item, sequence was empty.") : l.back();
}
Value filter_reverse(Machine& m, const Value& v, const Bound&) {
  if (!v.is(Kind::kString) && !v.has_items() && !v.is(Kind::kDict) && !v.is(Kind::kUndefined))
    fail("argument must be iterable");
  List l = iterate(m.meter, v);
  std::reverse(l.begin(), l.end());
  if (!v.is(Kind::kString)) return generator(std::move(l));
  Text out(m.meter);
  for (const Value& c : l) out += c.str();
  return Value::string(out.take());
}
Value filter_items(Machine& m, const Value& v, const Bound&) {
  if (v.is(Kind::kUndefined)) return generator({});
  if (!v.is(Kind::kDict)) fail("Can only get item pairs from a mapping.");
  return generator(make_pairs(m.meter, v).items());
}
Value filter_dictsort(Machine& m, const Value& v, const Bound& a) {
  const std::string_view by = a.word(1, "key");
  if (by != "key" && by != "value") fail("You can only sort by either \"key\" or \"value\"");
  if (!v.is(Kind::kDict)) fail(fmt::format("'{}' has no attribute 'items'", object_name(v)));
  const auto key = [&](const Value& pair) { return sort_key(m, pair.items()[by == "value"], nullptr, a.flag(0)); };
  return Value::make_list(sorted(m, make_pairs(m.meter, v).items(), key, a.flag(2)));
}
Value filter_sort(Machine& m, const Value& v, const Bound& a) {
  // Keys are lists, as in jinja2: equal ones are then never put in an order that they may not have.
  const auto key = [&](const Value& e) { return Value::make_list({sort_key(m, e, a.given(2), a.flag(1))}); };
  return Value::make_list(sorted(m, iterate(m.meter, v), key, a.flag(0)));
}
Value filter_unique(Machine& m, const Value& v, const Bound& a) {
  List out, seen;
  for (const Value& e : iterate(m.meter, v)) {
    Value key = sort_key(m, e, a.given(1), a.flag(0));
    if (key.is(Kind::kList) || key.is(Kind::kDict)) fail(fmt::format("unhashable type: '{}'", type_name(key)));
    if (std::any_of(seen.begin(), seen.end(), [&](const Value& s) { return equal(m.meter, s, key); })) continue;
    seen.push_back(std::move(key));
    out.push_back(e);
  }
  return generator(std::move(out));
}
Value extreme(Machine& m, const Value& v, const Bound& a, int sign) {
  const List l = iterate(m.meter, v);
  if (l.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  size_t best = 0;
  Value best_key = sort_key(m, l[0], a.given(1), a.flag(0));
  for (size_t i = 1; i < l.size(); ++i) {
    Value key = sort_key(m, l[i], a.given(1), a.flag(0));
    if (compare(m.meter, key, best_key, sign < 0 ? "<" : ">") != sign) continue;
    best = i;
    best_key = std::move(key);
  }
  return l[best];
}
Value filter_min(Machine& m, const Value& v, const Bound& a) { return extreme(m, v, a, -1); }
Value filter_max(Machine& m, const Value& v, const Bound& a) { return extreme(m, v, a, 1); }
Value filter_sum(Machine& m, const Value& v, const Bound& a) {
  Value total = a[1] ? *a[1] : Value::integer(0);
  if (total.is(Kind::kString)) fail("sum() can't sum strings [use ''.join(seq) instead]");
  for (const Value& e : iterate(m.meter, v)) total = binary(m, "+", total, a.given(0) ? follow(m, e, *a[0]) : e);
  return total;
}
Value filter_groupby(Machine& m, const Value& v, const Bound& a) {
  const auto value_of = [&](const Value& e) { return follow(m, e, *a[0], a.given(1)); };
  const auto key = [&](const Value& e) {
    Value x = value_of(e);
    return !a.flag(2) && x.is(Kind::kString) ? lowered(m, x) : x;
  };
  List groups;
  const List all = sorted(m, iterate(m.meter, v), key, false);
  for (size_t b = 0, e; b < all.size(); b = e) {
    const Value k = key(all[b]);
    for (e = b + 1; e < all.size() && equal(m.meter, key(all[e]), k); ++e) {
    }
    List members(all.begin() + static_cast<std::ptrdiff_t>(b), all.begin() + static_cast<std::ptrdiff_t>(e));
    groups.push_back(Value::make_list({value_of(all[b]), Value::make_list(std::move(members))}, Kind::kTuple, "group"));
  }
  return Value::make_list(std::move(groups));
}
Value filter_batch(Machine& m, const Value& v, const Bound& a) {
  const int64_t size = a.integer(0, 1);
  List out, row;
  const auto flush = [&] {
    m.meter.charge(static_cast<int64_t>(2 * sizeof(Value)));
    out.push_back(Value::make_list(std::exchange(row, {})));
  };
  for (const Value& e : iterate(m.meter, v)) {
    if (static_cast<int64_t>(row.size()) == size) flush();
    row.push_back(e);
  }
  if (row.empty()) return generator(std::move(out));
  if (a.given(1)) {
    const int64_t missing = std::max<int64_t>(size - static_cast<int64_t>(row.size()), 0);
    m.meter.charge(missing > INT64_MAX / 64 ? -1 : missing * static_cast<int64_t>(sizeof(Value)));
    row.insert(row.end(), static_cast<size_t>(missing), *a[1]);
  }
  flush();
  return generator(std::move(out));
}
Value filter_slice(Machine& m, const Value& v, const Bound& a) {
  const List l = iterate(m.meter, v);
  const int64_t slices = a.integer(0, 1), n = static_cast<int64_t>(l.size());
  if (slices == 0) fail("integer division or modulo by zero");
  if (slices < 0) return generator({});
  List out;
  int64_t begin = 0;
  for (int64_t k = 0; k < slices; ++k) {
    m.meter.charge(static_cast<int64_t>(4 * sizeof(Value)));
    const int64_t end = begin + n / slices + (k < n % slices);
    List part(l.begin() + begin, l.begin() + end);
    if (a.given(1) && k >= n % slices) part.push_back(*a[1]);
    out.push_back(Value::make_list(std::move(part)));
    begin = end;
  }
  return generator(std::move(out));
}

// map, select and their kin take the name of another filter or test, then its arguments.
Args rest_of(const Args& a, size_t from) {
  Args rest;
  if (a.pos.size() > from) rest.pos.assign(a.pos.begin() + static_cast<std::ptrdiff_t>(from), a.pos.end());
  rest.named = a.named;
  return rest;
}
Value filter_map(Machine& m, const Value& v, const Args& a) {
  if (!truthy(v)) return generator({});
  List l = iterate(m.meter, v);
  if (a.pos.empty()) {
    const Bound named("map", a, {"attribute", "default"}, 1);
    for (Value& e : l) {
      m.meter.step();
      e = follow(m, e, *named[0], named.given(1));
    }
    return generator(std::move(l));
  }
  const std::string name = to_str(m.meter, a.pos[0]).bytes();
  if (!is_filter(name)) fail(fmt::format("No filter named '{}'.", name));
  const Args rest = rest_of(a, 1);
  for (Value& e : l) {
    m.meter.step();
    e = apply_filter(m, name, e, rest);
  }
  return generator(std::move(l));
}
Value filter_select(Machine& m, const std::string& name, const Value& v, const Args& a) {
  const size_t by_attribute = name.ends_with("attr");
  const bool keep = name.starts_with("select");
  if (a.pos.size() < by_attribute) fail("Missing parameter for attribute name");
  const std::string test = a.pos.size() > by_attribute ? to_str(m.meter, a.pos[by_attribute]).bytes() : "";
  if (a.pos.size() > by_attribute && !is_test(test)) fail(fmt::format("No test named '{}'.", test));
  const Args rest = rest_of(a, by_attribute + 1);
  List out;
  if (!truthy(v)) return generator({});
  for (const Value& e : iterate(m.meter, v)) {
    m.meter.step();
    const Value x = by_attribute ? follow(m, e, a.pos[0]) : e;
    if ((test.empty() ? truthy(x) : apply_test(m, test, x, rest)) == keep) out.push_back(e);
  }
  return generator(std::move(out));
}
Value filter_format(Machine& m, const Value& v, const Args& a) {
  if (!a.pos.empty() && !a.named.empty()) fail("can't handle positional and keyword arguments at the same time");
  if (a.named.empty()) return percent_format(m, to_str(m.meter, v), Value::make_list(a.pos, Kind::kTuple));
  Dict d;
  for (const auto& [k, e] : a.named) put(m.meter, d, Value::string(k), e);
  return percent_format(m, to_str(m.meter, v), Value::make_dict(std::move(d)));
}

template <Str (*kMap)(const Str&)>
Value mapped(Machine& m, const Value& v, const Bound&) {
  Str s = kMap(to_str(m.meter, v));
  m.meter.charge(s.cost(0, s.size()));
  return Value::string(std::move(s));
}
const std::map<std::string, Filter>& filters() {
  static const Filter kLength = {
      {}, 0, [](Machine& m, const Value& v, const Bound&) { return Value::integer(length(m.meter, v)); }};
  static const Filter kDefault = {{"default_value", "boolean"}, 0, [](Machine&, const Value& v, const Bound& a) {
                                    if (!v.is(Kind::kUndefined) && !(a.flag(1) && !truthy(v))) return v;
                                    return a[0] ? *a[0] : Value::own("");
                                  }};
  static const Filter kEscape = {{}, 0, filter_escape};
  static const std::map<std::string, Filter> kFilters = {
      {"abs", {{}, 0, filter_abs}},
      {"attr",
       {{"name"},
        1,
        [](Machine& m, const Value& v, const Bound& a) {
          const std::string& name = a.text(0).bytes();
          if (v.is(Kind::kDict) && !has_method(v, name) && !changes_itself(v, name))
            return Value::undefined(fmt::format("'{}' has no attribute '{}'", object_name(v), name));
          return m.attribute(v, name);
        }}},
      {"batch", {{"linecount", "fill_with"}, 1, filter_batch}},
      {"capitalize", {{}, 0, mapped<capitalize>}},
      {"center",
       {{"width"},
        0,
        [](Machine& m, const Value& v, const Bound& a) {
          const Args width{{a[0] ? *a[0] : Value::integer(80)}, {}};
          return call_method(m, Value::string(to_str(m.meter, v)), "center", width);
        }}},
      {"count", kLength},
      {"d", kDefault},
      {"default", kDefault},
      {"dictsort", {{"case_sensitive", "by", "reverse"}, 0, filter_dictsort}},
      {"e", kEscape},
      {"escape", kEscape},
      {"filesizeformat", {{"binary"}, 0, filter_filesizeformat}},
      {"first", {{}, 0, filter_first}},
      {"float", {{"default"}, 0, filter_float}},
      {"forceescape",
       {{},
        0,
        [](Machine& m, const Value& v, const Bound&) {
          return Value::string(escaped(m, to_str(m.meter, v))).marked();
        }}},
      {"groupby", {{"attribute", "default", "case_sensitive"}, 1, filter_groupby}},
      {"indent", {{"width", "first", "blank"}, 0, filter_indent}},
      {"int", {{"default", "base"}, 0, filter_int}},
      {"items", {{}, 0, filter_items}},
      {"join", {{"d", "attribute"}, 0, filter_join}},
      {"last", {{}, 0, filter_last}},
      {"length", kLength},
      {"list", {{}, 0, [](Machine& m, const Value& v, const Bound&) { return Value::make_list(iterate(m.meter, v)); }}},
      {"lower", {{}, 0, mapped<lower>}},
      {"max", {{"case_sensitive", "attribute"}, 0, filter_max}},
      {"min", {{"case_sensitive", "attribute"}, 0, filter_min}},
      {"replace", {{"old", "new", "count"}, 2, filter_replace}},
      {"reverse", {{}, 0, filter_reverse}},
      {"round", {{"precision", "method"}, 0, filter_round}},
      {"safe",
       {{}, 0, [](Machine& m, const Value& v, const Bound&) { return Value::string(to_str(m.meter, v)).marked(); }}},
      {"slice", {{"slices", "fill_with"}, 1, filter_slice}},
      {"sort", {{"reverse", "case_sensitive", "attribute"}, 0, filter_sort}},
      {"string", {{}, 0, [](Machine& m, const Value& v, const Bound&) { return Value::string(to_str(m.meter, v)); }}},
      {"sum", {{"attribute", "start"}, 0, filter_sum}},
      {"title", {{}, 0, filter_title}},
      {"tojson", {{"ensure_ascii", "indent", "separators", "sort_keys"}, 0, filter_tojson}},
      {"trim",
       {{"chars"},
        0,
        [](Machine& m, const Value& v, const Bound& a) {
          const Args chars{{a.given(0) ? *a[0] : Value::none()}, {}};
          return call_method(m, Value::string(to_str(m.meter, v)), "strip", chars);
        }}},
      {"truncate", {{"length", "killwords", "end", "leeway"}, 0, filter_truncate}},
      {"unique", {{"case_sensitive", "attribute"}, 0, filter_unique}},
      {"upper", {{}, 0, mapped<upper>}},
      {"urlencode", {{}, 0, filter_urlencode}},
      {"wordcount", {{}, 0, filter_wordcount}},
      {"xmlattr", {{"autospace"}, 0, filter_xmlattr}},
  };
  return kFilters;
}
bool takes_any_arguments(const std::string& name) {
  return name == "map" || name == "format" || name == "select" || name == "reject" || name == "selectattr" ||
         name == "rejectattr";
}

}  // namespace

bool is_filter(const std::string& name) { return takes_any_arguments(name) || filters().count(name); }

Value apply_filter(Machine& m, const std::string& name, const Value& v, const Args& args) {
  const Nest nest(m.meter);
  m.meter.step();
  if (name == "map") return filter_map(m, v, args);
  if (name == "format") return filter_format(m, v, args);
  if (takes_any_arguments(name)) return filter_select(m, name, v, args);
  const auto at = filters().find(name);
  if (at == filters().end()) fail(fmt::format("No filter named '{}'.", name));
  return at->second.apply(m, v, Bound(name, args, at->second.params, at->second.required));
}

}  // namespace fovea::tokenizers::jinja

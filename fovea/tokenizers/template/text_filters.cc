// The filters of jinja2 that make or take a text. What stands for a character is that character's owner's.
#include <algorithm>
#include <array>

#include "fovea/tokenizers/template/filters.h"
#include "fovea/tokenizers/template/text.h"

namespace fovea::tokenizers::jinja {
namespace {

// `text` with each byte as map(byte) says; null leaves it.
template <typename F>
Str map_bytes(Machine& m, const Str& text, const F& map) {
  Text out(m.meter);
  const std::string_view s = text.view();
  size_t plain = 0;
  for (size_t i = 0; i < s.size(); ++i) {
    const std::string instead = map(s[i]);
    if (instead.empty()) continue;
    out.add(text, plain, i);
    out.add(instead, text.owner_at(i));
    plain = i + 1;
  }
  out.add(text, plain, s.size());
  return out.take();
}
Str url_quoted(Machine& m, const Str& text, bool whole) {
  return map_bytes(m, text, [whole](char c) -> std::string {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = ((byte | 32) >= 'a' && (byte | 32) <= 'z') || (c >= '0' && c <= '9') ||
                       std::string_view("_.-~").find(c) != std::string_view::npos || (c == '/' && whole);
    return plain ? "" : c == ' ' && !whole ? "+" : fmt::format("%{:02X}", byte);
  });
}

}  // namespace

Str escaped(Machine& m, const Str& text) {
  return map_bytes(m, text, [](char c) -> std::string {
    switch (c) {
      case '&': return "&amp;";
      case '<': return "&lt;";
      case '>': return "&gt;";
      case '"': return "&#34;";
      case '\'': return "&#39;";
      default: return "";
    }
  });
}

Value filter_replace(Machine& m, const Value& v, const Bound& a) {
  const Args args{{Value::string(to_str(m.meter, *a[0])), Value::string(to_str(m.meter, *a[1])),
                   a.given(2) ? *a[2] : Value::integer(-1)},
                  {}};
  return call_method(m, Value::string(to_str(m.meter, v)), "replace", args);
}
Value filter_title(Machine& m, const Value& v, const Bound&) {  // words start after white space, - ( { [ <
  const Str text = to_str(m.meter, v);
  const std::string_view s = text.view();
  const auto breaks = [&](size_t i) {
    return std::string_view("-({[<").find(s[i]) != std::string_view::npos ||
           strip(s.substr(i, character_bytes(s, i)), nullptr, true, false).empty();
  };
  Text out(m.meter);
  for (size_t at = 0; at < s.size();) {
    size_t end = at;
    while (end < s.size() && breaks(end) == breaks(at)) end += character_bytes(s, end);
    const size_t first = at + character_bytes(s, at);
    if (breaks(at)) {
      out.add(text, at, end);
    } else {
      out += upper(text.substr(at, first - at));
      out += lower(text.substr(first, end - first));
    }
    at = end;
  }
  return Value::string(out.take());
}
Value filter_escape(Machine& m, const Value& v, const Bound&) {
  return v.markup ? v : Value::string(escaped(m, to_str(m.meter, v))).marked();
}
Value filter_indent(Machine& m, const Value& v, const Bound& a) {
  Text pad(m.meter);
  if (a[0] && a[0]->is(Kind::kString))
    pad += a[0]->str();
  else
    pad.repeat(Str(" ", kTemplate), a.integer(0, 4));
  const Str indent = pad.take();
  if (v.is(Kind::kUndefined)) fail_undefined(v);
  if (!v.is(Kind::kString)) fail(fmt::format("unsupported operand type(s) for +=: '{}' and 'str'", type_name(v)));
  Str text = v.str();
  m.meter.charge(text.cost(0, text.size()));
  text.append("\n", kTemplate);
  Text out(m.meter);
  if (a.flag(1)) out += indent;
  bool first = true;
  size_t newline = 0;  // before the line
  for (const std::string_view line : split_lines(text.view(), false)) {
    const auto begin = static_cast<size_t>(line.data() - text.view().data());
    if (!first) {
      out.add("\n", text.owner_at(newline));
      if (!line.empty() || a.flag(2)) out += indent;
    }
    first = false;
    out.add(text, begin, begin + line.size());
    newline = begin + line.size();
  }
  return Value::string(out.take());
}
Value filter_truncate(Machine& m, const Value& v, const Bound& a) {
  const Str end = a[2] ? to_str(m.meter, *a[2]) : Str("...", kTemplate);
  const int64_t length = a.integer(0, 255), leeway = a.given(3) ? a.integer(3, 5) : 5,
                ending = static_cast<int64_t>(count_characters(end.view()));
  if (length < ending) fail(fmt::format("expected length >= {}, got {}", ending, length));
  if (leeway < 0) fail(fmt::format("expected leeway >= 0, got {}", leeway));
  if (jinja::length(m.meter, v) - leeway <= length) return v;
  if (!v.is(Kind::kString)) fail(fmt::format("'{}' object has no attribute 'rsplit'", type_name(v)));
  const std::string_view s = v.bytes();
  size_t cut = byte_of(s, static_cast<size_t>(length - ending));
  if (!a.flag(1)) {
    if (const size_t space = s.substr(0, cut).rfind(' '); space != std::string::npos) cut = space;
  }
  Text out(m.meter);
  out.add(v.str(), 0, cut);
  out += end;
  return Value::string(out.take());
}
Value filter_wordcount(Machine& m, const Value& v, const Bound&) {
  const Str text = to_str(m.meter, v);
  const std::string_view s = text.view();
  int64_t words = 0;
  bool inside = false;
  for (size_t i = 0; i < s.size();) {
    const size_t n = character_bytes(s, i);
    const uint32_t c = code_point(s.substr(i, n));
    const bool word = c == '_' || is_letter(c) || is_numeric(c);
    words += word && !inside;
    inside = word;
    i += n;
  }
  return Value::integer(words);
}
Value filter_urlencode(Machine& m, const Value& v, const Bound&) {
  if (!v.is(Kind::kDict) && !v.has_items()) return Value::string(url_quoted(m, to_str(m.meter, v), true));
  Text out(m.meter);
  for (const Value& pair : v.is(Kind::kDict) ? make_pairs(m.meter, v).items() : iterate(m.meter, v)) {
    const List parts = iterate(m.meter, pair);
    if (parts.size() != 2) fail("urlencode wants pairs");
    if (out.size()) out.add("&", v.owner);
    out += url_quoted(m, to_str(m.meter, parts[0]), false);
    out.add("=", v.owner);
    out += url_quoted(m, to_str(m.meter, parts[1]), false);
  }
  return Value::string(out.take());
}
Value filter_xmlattr(Machine& m, const Value& v, const Bound& a) {
  if (!v.is(Kind::kDict)) fail(fmt::format("'{}' has no attribute 'items'", object_name(v)));
  Text out(m.meter);
  for (const auto& [key, value] : v.entries()) {
    m.meter.step();
    if (value.is(Kind::kNone) || value.is(Kind::kUndefined)) continue;
    if (!key.is(Kind::kString)) fail(fmt::format("expected string or bytes-like object, got '{}'", type_name(key)));
    if (key.bytes().find_first_of(" \t\n\r\f\v/>=") != std::string::npos) {
      Text shown(m.meter);
      print_repr(shown, m.meter, key);
      fail(fmt::format("Invalid character in attribute name: {}", shown.take().bytes()));
    }
    if (out.size() || !a[0] || a.flag(0)) out.add(" ", v.owner);
    out += escaped(m, key.str());
    out.add("=\"", v.owner);
    out += escaped(m, to_str(m.meter, value));
    out.add("\"", v.owner);
  }
  return Value::string(out.take());
}
Value filter_filesizeformat(Machine& m, const Value& v, const Bound& a) {
  const Owner owner = owner_of(v);
  static constexpr std::array<char, 8> kPrefixes = {'k', 'M', 'G', 'T', 'P', 'E', 'Z', 'Y'};
  if (v.is(Kind::kString) || v.is(Kind::kUndefined) || !v.is_number()) fail("filesizeformat wants a number");
  m.meter.step();
  const double bytes = v.as_double(), base = a.flag(0) ? 1024 : 1000;
  if (bytes == 1) return Value::string(Str("1 Byte", owner));
  if (bytes < base) return Value::string(Str(fmt::format("{} Bytes", static_cast<int64_t>(bytes)), owner));
  double unit = base * base;
  size_t prefix = 0;
  for (; prefix + 1 < kPrefixes.size() && !(bytes < unit); ++prefix) unit *= base;
  const char letter = a.flag(0) && prefix == 0 ? 'K' : kPrefixes[prefix];
  return Value::string(Str(fmt::format("{:.1f} {}{}B", base * bytes / unit, letter, a.flag(0) ? "i" : ""), owner));
}
Value filter_tojson(Machine& m, const Value& v, const Bound& a) {
  JsonStyle style;
  style.ascii = a.flag(0);
  if (const Value* indent = a.given(1)) {
    style.pretty = true;
    style.comma = Str(",", kTemplate);
    if (indent->is(Kind::kString))
      style.indent = indent->str();
    else
      style.indent =
          Str(std::string(static_cast<size_t>(std::clamp<int64_t>(a.integer(1, 0), 0, 1000)), ' '), kTemplate);
  }
  if (const Value* separators = a.given(2)) {
    const List both = iterate(m.meter, *separators);
    if (both.size() != 2 || !both[0].is(Kind::kString) || !both[1].is(Kind::kString))
      fail("tojson() separators must be two strings");
    style.comma = both[0].str();
    style.colon = both[1].str();
  }
  style.sort = a.flag(3);
  Text out(m.meter);
  print_json(out, m.meter, v, style);
  return Value::string(out.take());
}

}  // namespace fovea::tokenizers::jinja

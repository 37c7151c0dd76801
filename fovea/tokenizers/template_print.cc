// How values print: Python's str(), repr() and json.dumps().
#include <algorithm>
#include <charconv>
#include <cmath>

#include "fovea/tokenizers/template_text.h"
#include "fovea/tokenizers/template_value.h"

namespace fovea::tokenizers::jinja {
namespace {

// Namespaces may hold each other in a ring, which nothing else can.
void check_depth(int depth) {
  if (depth > 2 * kMaxValueDepth) fail_limit("chat template: a value is nested too deeply to print");
}

// s between two quotes, each character as escape(code point) says; an empty answer leaves it as it is.
template <typename Escape>
void quote_with(Text& out, std::string_view s, char quote, const Escape& escape) {
  out += quote;
  size_t plain = 0;  // start of what needs no escape
  for (size_t i = 0; i < s.size();) {
    const size_t n = character_bytes(s, i);
    const std::string escaped = escape(code_point(s.substr(i, n)));
    if (!escaped.empty()) {
      out += s.substr(plain, i - plain);
      out += escaped;
      plain = i + n;
    }
    i += n;
  }
  out += s.substr(plain);
  out += quote;
}

void quote_repr(Text& out, std::string_view s) {
  const bool doubled = s.find('\'') != std::string_view::npos && s.find('"') == std::string_view::npos;
  const char quote = doubled ? '"' : '\'';
  quote_with(out, s, quote, [quote](uint32_t c) -> std::string {
    if (c == static_cast<uint32_t>(quote) || c == '\\') return {'\\', static_cast<char>(c)};
    if (c == '\n') return "\\n";
    if (c == '\t') return "\\t";
    if (c == '\r') return "\\r";
    if (c < 32 || c == 127) return fmt::format("\\x{:02x}", c);
    if (c < 0x80 || is_printable(c)) return "";
    return c < 0x100     ? fmt::format("\\x{:02x}", c)
           : c < 0x10000 ? fmt::format("\\u{:04x}", c)
                         : fmt::format("\\U{:08x}", c);
  });
}

void quote_json(Text& out, std::string_view s, bool ascii) {
  quote_with(out, s, '"', [ascii](uint32_t c) -> std::string {
    if (c == '"' || c == '\\') return {'\\', static_cast<char>(c)};
    if (c == '\n') return "\\n";
    if (c == '\t') return "\\t";
    if (c == '\r') return "\\r";
    if (c == '\b') return "\\b";
    if (c == '\f') return "\\f";
    if (c < 32 || (ascii && c >= 0x7F && c < 0x10000)) return fmt::format("\\u{:04x}", c);
    if (ascii && c >= 0x10000)
      return fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((c - 0x10000) >> 10), 0xDC00 + ((c - 0x10000) & 0x3FF));
    return "";
  });
}

void json_key(Text& out, const Value& key, bool ascii) {
  switch (key.kind) {
    case Kind::kString: return quote_json(out, key.str(), ascii);
    case Kind::kNone: return quote_json(out, "null", ascii);
    case Kind::kBool: return quote_json(out, key.i ? "true" : "false", ascii);
    case Kind::kInt: return quote_json(out, std::to_string(key.i), ascii);
    case Kind::kFloat: return quote_json(out, float_repr(key.f), ascii);
    default: fail(fmt::format("keys must be str, int, float, bool or None, not {}", type_name(key)));
  }
}

}  // namespace

std::string float_repr(double v) {
  if (std::isnan(v)) return "nan";
  if (std::isinf(v)) return v < 0 ? "-inf" : "inf";
  char buf[64];
  const double a = std::fabs(v);
  const bool fixed = a == 0 || (a >= 1e-4 && a < 1e16);
  const auto r =
      std::to_chars(buf, buf + sizeof buf, v, fixed ? std::chars_format::fixed : std::chars_format::scientific);
  std::string s(buf, r.ptr);
  return fixed && s.find('.') == std::string::npos ? s + ".0" : s;
}

void print_str(Text& out, Meter& m, const Value& v) {
  if (v.is(Kind::kString)) {
    out += v.str();
  } else if (!v.is(Kind::kUndefined)) {
    print_repr(out, m, v);
  }
}

void print_repr(Text& out, Meter& m, const Value& v, int depth) {
  check_depth(depth);
  m.step();
  const auto list = [&](const List& items) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (i) out += ", ";
      print_repr(out, m, items[i], depth + 1);
    }
  };
  switch (v.kind) {
    case Kind::kUndefined: out += "Undefined"; break;
    case Kind::kNone: out += "None"; break;
    case Kind::kBool: out += v.i ? "True" : "False"; break;
    case Kind::kInt: out += std::to_string(v.i); break;
    case Kind::kFloat: out += float_repr(v.f); break;
    case Kind::kString: quote_repr(out, v.str()); break;
    case Kind::kList:
      out += '[';
      list(v.items());
      out += ']';
      break;
    case Kind::kTuple:
      out += '(';
      list(v.items());
      out += v.items().size() == 1 ? ",)" : ")";
      break;
    case Kind::kView:
      out += v.seq().label;
      out += "([";
      list(v.items());
      out += "])";
      break;
    case Kind::kRange: out += v.seq().label; break;
    case Kind::kGenerator: out += fmt::format("<{} object>", v.seq().label); break;
    case Kind::kDict:
    case Kind::kNamespace: {
      out += v.is(Kind::kDict) ? "{" : "<Namespace {";
      bool first = true;
      for (const auto& [k, e] : v.entries()) {
        if (!first) out += ", ";
        first = false;
        print_repr(out, m, k, depth + 1);
        out += ": ";
        print_repr(out, m, e, depth + 1);
      }
      out += v.is(Kind::kDict) ? "}" : "}>";
      break;
    }
    case Kind::kLoop: out += fmt::format("<LoopContext {}/{}>", v.loop().at + 1, v.loop().items.size()); break;
    case Kind::kMacro: out += "<Macro>"; break;
    case Kind::kMethod:
      out += fmt::format("<built-in method {} of {} object>", v.method().name, type_name(v.method().self));
      break;
    case Kind::kGlobal: out += fmt::format("<function {}>", v.str()); break;
  }
}

std::string to_str(Meter& m, const Value& v) {
  Text out(m);
  print_str(out, m, v);
  return out.take();
}

void print_json(Text& out, Meter& m, const Value& v, const JsonStyle& style, int level) {
  m.step();
  const auto new_line = [&](int depth) {
    if (!style.pretty) return;
    out += '\n';
    out.repeat(style.indent, depth);
  };
  switch (v.kind) {
    case Kind::kNone: out += "null"; break;
    case Kind::kBool: out += v.i ? "true" : "false"; break;
    case Kind::kInt: out += std::to_string(v.i); break;
    case Kind::kFloat:
      out += std::isnan(v.f) ? "NaN" : std::isinf(v.f) ? (v.f < 0 ? "-Infinity" : "Infinity") : float_repr(v.f);
      break;
    case Kind::kString: quote_json(out, v.str(), style.ascii); break;
    case Kind::kList:
    case Kind::kTuple: {
      if (v.items().empty()) {
        out += "[]";
        break;
      }
      out += '[';
      bool first = true;
      for (const Value& e : v.items()) {
        if (!first) out += style.comma;
        first = false;
        new_line(level + 1);
        print_json(out, m, e, style, level + 1);
      }
      new_line(level);
      out += ']';
      break;
    }
    case Kind::kDict: {
      if (v.entries().empty()) {
        out += "{}";
        break;
      }
      std::vector<const std::pair<Value, Value>*> order;
      m.charge(static_cast<int64_t>(v.entries().size() * sizeof(void*)));
      for (const auto& entry : v.entries()) order.push_back(&entry);
      if (style.sort)
        std::stable_sort(order.begin(), order.end(),
                         [&](const auto* a, const auto* b) { return compare(m, a->first, b->first, "<") < 0; });
      out += '{';
      bool first = true;
      for (const auto* entry : order) {
        if (!first) out += style.comma;
        first = false;
        new_line(level + 1);
        json_key(out, entry->first, style.ascii);
        out += style.colon;
        print_json(out, m, entry->second, style, level + 1);
      }
      new_line(level);
      out += '}';
      break;
    }
    default: fail(fmt::format("Object of type {} is not JSON serializable", type_name(v)));
  }
}

}  // namespace fovea::tokenizers::jinja

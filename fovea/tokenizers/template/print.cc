// How values print: Python's str(), repr() and json.dumps().
#include <algorithm>
#include <charconv>
#include <cmath>

#include "fovea/tokenizers/template/text.h"
#include "fovea/tokenizers/template/value.h"

namespace fovea::tokenizers::jinja {
namespace {

// Namespaces may hold each other in a ring, which nothing else can.
void check_depth(int depth) {
  if (depth > 2 * kMaxValueDepth) fail_limit("chat template: a value is nested too deeply to print");
}

// s between two quotes, each character as escape(code point) says; an empty answer leaves it as it is. What stands
// for a character is its owner's, the quotes are the text's as a whole.
template <typename Escape>
void quote_with(Text& out, const Str& text, char quote, const Escape& escape) {
  const std::string_view s = text.view();
  const Owner whole = text.blend();
  out.add(std::string_view(&quote, 1), whole);
  size_t plain = 0;  // start of what needs no escape
  for (size_t i = 0; i < s.size();) {
    const size_t n = character_bytes(s, i);
    const std::string escaped = escape(code_point(s.substr(i, n)));
    if (!escaped.empty()) {
      out.add(text, plain, i);
      out.add(escaped, text.owner_at(i));
      plain = i + n;
    }
    i += n;
  }
  out.add(text, plain, s.size());
  out.add(std::string_view(&quote, 1), whole);
}

void quote_repr(Text& out, const Str& text) {
  const std::string_view s = text.view();
  const bool doubled = s.find('\'') != std::string_view::npos && s.find('"') == std::string_view::npos;
  const char quote = doubled ? '"' : '\'';
  quote_with(out, text, quote, [quote](uint32_t c) -> std::string {
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

void quote_json(Text& out, const Str& s, bool ascii) {
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
  const auto word = [&](std::string_view w) { quote_json(out, Str(w, key.owner), ascii); };
  switch (key.kind) {
    case Kind::kString: return quote_json(out, key.str(), ascii);
    case Kind::kNone: return word("null");
    case Kind::kBool: return word(key.i ? "true" : "false");
    case Kind::kInt: return word(std::to_string(key.i));
    case Kind::kFloat: return word(float_repr(key.f));
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
  const auto put = [&](std::string_view text) { out.add(text, v.owner); };
  if (v.is(Kind::kList) && v.seq().label == kParts) m.note_printed(v.owner);
  const auto list = [&](const List& items) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (i) put(", ");
      print_repr(out, m, items[i], depth + 1);
    }
  };
  switch (v.kind) {
    case Kind::kUndefined: put("Undefined"); break;
    case Kind::kNone: put("None"); break;
    case Kind::kBool: put(v.i ? "True" : "False"); break;
    case Kind::kInt: put(std::to_string(v.i)); break;
    case Kind::kFloat: put(float_repr(v.f)); break;
    case Kind::kString:
      if (v.markup) out.add("Markup(", v.str().blend());
      quote_repr(out, v.str());
      if (v.markup) out.add(")", v.str().blend());
      break;
    case Kind::kList:
      put("[");
      list(v.items());
      put("]");
      break;
    case Kind::kTuple:
      put("(");
      list(v.items());
      put(v.items().size() == 1 ? ",)" : ")");
      break;
    case Kind::kView:
      put(v.seq().label);
      put("([");
      list(v.items());
      put("])");
      break;
    case Kind::kRange: put(v.seq().label); break;
    case Kind::kGenerator: put(fmt::format("<{} object>", v.seq().label)); break;
    case Kind::kDict:
    case Kind::kNamespace: {
      put(v.is(Kind::kDict) ? "{" : "<Namespace {");
      bool first = true;
      for (const auto& [k, e] : v.entries()) {
        if (!first) put(", ");
        first = false;
        print_repr(out, m, k, depth + 1);
        put(": ");
        print_repr(out, m, e, depth + 1);
      }
      put(v.is(Kind::kDict) ? "}" : "}>");
      break;
    }
    case Kind::kLoop: put(fmt::format("<LoopContext {}/{}>", v.loop().at + 1, v.loop().items.size())); break;
    case Kind::kMacro: put("<Macro>"); break;
    case Kind::kCycler:
    case Kind::kJoiner: put(fmt::format("<{} object>", type_name(v))); break;
    case Kind::kMethod:
      put(fmt::format("<built-in method {} of {} object>", v.method().name, type_name(v.method().self)));
      break;
    case Kind::kGlobal: put(fmt::format("<function {}>", v.bytes())); break;
  }
}

Str to_str(Meter& m, const Value& v) {
  Text out(m);
  print_str(out, m, v);
  return out.take();
}

void print_json(Text& out, Meter& m, const Value& v, const JsonStyle& style, int level) {
  m.step();
  // The marks around data are as inert as the data.
  const auto put = [&](std::string_view text) { out.add(text, v.owner); };
  const auto mark = [&](const Str& text) { out.add(text.view(), blend(v.owner, text.blend())); };
  const auto new_line = [&](int depth) {
    if (!style.pretty) return;
    put("\n");
    out.repeat(Str(style.indent.view(), blend(v.owner, style.indent.blend())), depth);
  };
  switch (v.kind) {
    case Kind::kNone: put("null"); break;
    case Kind::kBool: put(v.i ? "true" : "false"); break;
    case Kind::kInt: put(std::to_string(v.i)); break;
    case Kind::kFloat:
      put(std::isnan(v.f) ? "NaN" : std::isinf(v.f) ? (v.f < 0 ? "-Infinity" : "Infinity") : float_repr(v.f));
      break;
    case Kind::kString: quote_json(out, v.str(), style.ascii); break;
    case Kind::kList:
    case Kind::kTuple: {
      if (v.items().empty()) {
        put("[]");
        break;
      }
      put("[");
      bool first = true;
      for (const Value& e : v.items()) {
        if (!first) mark(style.comma);
        first = false;
        new_line(level + 1);
        print_json(out, m, e, style, level + 1);
      }
      new_line(level);
      put("]");
      break;
    }
    case Kind::kDict: {
      if (v.entries().empty()) {
        put("{}");
        break;
      }
      std::vector<const std::pair<Value, Value>*> order;
      m.charge(static_cast<int64_t>(v.entries().size() * sizeof(void*)));
      for (const auto& entry : v.entries()) order.push_back(&entry);
      if (style.sort)
        std::stable_sort(order.begin(), order.end(),
                         [&](const auto* a, const auto* b) { return compare(m, a->first, b->first, "<") < 0; });
      put("{");
      bool first = true;
      for (const auto* entry : order) {
        if (!first) mark(style.comma);
        first = false;
        new_line(level + 1);
        json_key(out, entry->first, style.ascii);
        mark(style.colon);
        print_json(out, m, entry->second, style, level + 1);
      }
      new_line(level);
      put("}");
      break;
    }
    default: fail(fmt::format("Object of type {} is not JSON serializable", type_name(v)));
  }
}

}  // namespace fovea::tokenizers::jinja

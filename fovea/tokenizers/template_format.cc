// "..." % values, "...".format(...) and strftime_now, as Python does them.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>

#include "fovea/tokenizers/template_text.h"
#include "fovea/tokenizers/template_value.h"

namespace fovea::tokenizers::jinja {
namespace {

constexpr int kMaxWidth = 10'000;

struct Spec {
  std::string fill = " ";
  char align = 0, sign = 0;  // align: < > ^ =
  bool zero = false, alternate = false, comma = false;
  int width = 0, precision = -1;
  char type = 0;
};

int read_int(const std::string& s, size_t& at) {
  int n = 0;
  for (; at < s.size() && s[at] >= '0' && s[at] <= '9'; ++at) {
    n = n * 10 + (s[at] - '0');
    if (n > kMaxWidth) fail_limit(fmt::format("chat template: a format width is over {}", kMaxWidth));
  }
  return n;
}

std::string pad(const Spec& spec, const std::string& text, char usual) {
  const int n = spec.width - static_cast<int>(std::min<size_t>(count_characters(text), kMaxWidth));
  if (n <= 0) return text;
  const char align = spec.align ? spec.align : usual;
  const int left = align == '>' ? n : align == '^' ? n / 2 : 0;
  std::string out;
  if (align == '=') {
    const size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+' || text[0] == ' ');
    out = text.substr(0, sign);
    for (int i = 0; i < n; ++i) out += spec.fill;
    return out + text.substr(sign);
  }
  for (int i = 0; i < left; ++i) out += spec.fill;
  out += text;
  for (int i = left; i < n; ++i) out += spec.fill;
  return out;
}

std::string with_sign(const Spec& spec, std::string digits, bool negative) {
  return (negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "") + std::move(digits);
}

std::string integer_text(const Spec& spec, int64_t value) {
  uint64_t left = value < 0 ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
  const unsigned base = spec.type == 'x' || spec.type == 'X' ? 16 : spec.type == 'o' ? 8 : spec.type == 'b' ? 2 : 10;
  std::string digits;
  do {
    digits += (spec.type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[left % base];
    left /= base;
  } while (left);
  while (static_cast<int>(digits.size()) < spec.precision) digits += '0';
  std::reverse(digits.begin(), digits.end());
  if (spec.comma) {
    for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  }
  if (spec.alternate && base != 10)
    digits = std::string("0") + (base == 8 ? 'o' : base == 2 ? 'b' : spec.type) + digits;
  return with_sign(spec, std::move(digits), value < 0);
}

std::string real_text(const Spec& spec, double value, char type) {
  const int precision = spec.precision < 0 ? 6 : std::min(spec.precision, 1000);
  const double a = type == '%' ? std::fabs(value) * 100 : std::fabs(value);
  std::string digits;
  switch (type) {
    case 'e': digits = fmt::format("{:.{}e}", a, precision); break;
    case 'E': digits = fmt::format("{:.{}E}", a, precision); break;
    case 'g': digits = fmt::format("{:.{}g}", a, precision); break;
    case 'G': digits = fmt::format("{:.{}G}", a, precision); break;
    default: digits = fmt::format("{:.{}f}", a, precision);
  }
  if (type == '%') digits += '%';
  if (spec.comma) {
    for (size_t at = std::min(digits.find('.'), digits.size()); at > 3; at -= 3) digits.insert(at - 3, ",");
  }
  return with_sign(spec, std::move(digits), std::signbit(value));
}

std::string cut(const std::string& text, int precision) {
  return precision < 0 ? text : text.substr(0, byte_of(text, static_cast<size_t>(precision)));
}

std::string repr(Machine& m, const Value& v) {
  Text out(m.meter);
  print_repr(out, m.meter, v);
  return out.take();
}

// One field of str.format(), after its colon.
std::string formatted(Machine& m, const Value& v, const std::string& text) {
  Spec spec;
  size_t at = 0;
  const auto is_align = [&](size_t i) {
    return i < text.size() && (text[i] == '<' || text[i] == '>' || text[i] == '^' || text[i] == '=');
  };
  const size_t first = text.empty() ? 0 : character_bytes(text, 0);
  if (first && is_align(first)) {
    spec.fill = text.substr(0, first);
    spec.align = text[first];
    at = first + 1;
  } else if (is_align(0)) {
    spec.align = text[at++];
  }
  const auto take = [&](char c) { return at < text.size() && text[at] == c ? ++at : 0; };
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) spec.sign = text[at++];
  if (take('#')) spec.alternate = true;
  if (take('0') && !spec.align) {
    spec.fill = "0";
    spec.align = v.is(Kind::kString) ? '<' : '=';
  }
  spec.width = read_int(text, at);
  if (take(',')) spec.comma = true;
  if (take('.')) {
    const size_t start = at;
    spec.precision = read_int(text, at);
    if (at == start) fail("Format specifier missing precision");
  }
  if (at < text.size()) spec.type = text[at++];
  const auto refuse = [&] {
    fail(fmt::format("Unknown format code '{}' for object of type '{}'", spec.type, type_name(v)));
  };
  if (at < text.size()) fail(fmt::format("Invalid format specifier '{}' for object of type '{}'", text, type_name(v)));
  if (v.is(Kind::kString)) {
    if (spec.type && spec.type != 's') refuse();
    if (spec.align == '=') fail("'=' alignment not allowed in string format specifier");
    return pad(spec, cut(v.str(), spec.precision), '<');
  }
  if (!v.is_number() || (v.is(Kind::kBool) && text.empty())) {
    if (!text.empty()) fail(fmt::format("unsupported format string passed to {}.__format__", type_name(v)));
    return to_str(m.meter, v);
  }
  const std::string reals = "eEfFgG%", ints = "bdoxX";
  if (reals.find(spec.type) != std::string::npos && spec.type)
    return pad(spec, real_text(spec, v.as_double(), spec.type), '>');
  if (v.is(Kind::kFloat)) {
    if (spec.type) refuse();
    if (spec.precision < 0) return pad(spec, with_sign(spec, float_repr(std::fabs(v.f)), std::signbit(v.f)), '>');
    return pad(spec, real_text(spec, v.f, 'g'), '>');
  }
  if (spec.type && ints.find(spec.type) == std::string::npos) refuse();
  if (spec.precision >= 0) fail("Precision not allowed in integer format specifier");
  return pad(spec, integer_text(spec, v.i), '>');
}

}  // namespace

Value percent_format(Machine& m, const std::string& format, const Value& values) {
  Text out(m.meter);
  size_t next = 0;
  const auto argument = [&]() -> Value {
    m.meter.step();
    if (!values.is(Kind::kTuple)) {
      if (next++) fail("not enough arguments for format string");
      return values;
    }
    if (next >= values.items().size()) fail("not enough arguments for format string");
    return values.items()[next++];
  };
  bool named = false;
  for (size_t at = 0; at < format.size();) {
    const size_t percent = std::min(format.find('%', at), format.size());
    out += std::string_view(format).substr(at, percent - at);
    if (percent == format.size()) break;
    at = percent + 1;
    Spec spec;
    Value value;
    bool have = false;
    if (at < format.size() && format[at] == '(') {
      const size_t close = format.find(')', at);
      if (close == std::string::npos) fail("incomplete format key");
      if (!values.is(Kind::kDict)) fail("format requires a mapping");
      const std::string key = format.substr(at + 1, close - at - 1);
      const Value* found = find(m.meter, values, Value::string(key));
      if (!found) fail(fmt::format("'{}'", key));
      value = *found;
      have = named = true;
      at = close + 1;
    }
    for (; at < format.size() && std::string("#0- +").find(format[at]) != std::string::npos; ++at) {
      if (format[at] == '-') spec.align = '<';
      if (format[at] == '0') spec.zero = true;
      if (format[at] == '#') spec.alternate = true;
      if (format[at] == '+' || (format[at] == ' ' && spec.sign != '+')) spec.sign = format[at];
    }
    spec.width = read_int(format, at);
    if (at < format.size() && format[at] == '.') spec.precision = read_int(format, ++at);
    if (at >= format.size()) fail("incomplete format");
    const char type = format[at++];
    if (type == '%') {
      out += '%';
      continue;
    }
    if (!have) value = argument();
    if (!spec.align) spec.align = spec.zero && type != 's' && type != 'r' ? '=' : '>';
    if (spec.zero && spec.align == '=') spec.fill = "0";
    if (type == 's' || type == 'r' || type == 'a') {
      out += pad(spec, cut(type == 's' ? to_str(m.meter, value) : repr(m, value), spec.precision), '>');
      continue;
    }
    if (std::string("diuxXofFeEgGc").find(type) == std::string::npos) {
      fail(fmt::format("unsupported format character '{}' (0x{:x}) at index {}", type, static_cast<unsigned char>(type),
                       at - 1));
    }
    if (value.is(Kind::kUndefined)) fail_undefined(value);
    if (!value.is_number()) {
      const bool real = std::string("fFeEgG").find(type) != std::string::npos;
      if (real) fail(fmt::format("must be real number, not {}", type_name(value)));
      fail(fmt::format("%{} format: a real number is required, not {}", type, type_name(value)));
    }
    if (type == 'd' || type == 'i' || type == 'u' || type == 'x' || type == 'X' || type == 'o') {
      if (value.is(Kind::kFloat) && !(std::fabs(value.f) < 9.2e18))
        fail_limit("chat template: an integer does not fit 64 bits");
      spec.type = type;
      out += pad(spec, integer_text(spec, value.is(Kind::kFloat) ? static_cast<int64_t>(value.f) : value.i), '>');
    } else if (type == 'c') {
      if (!value.is_int() || value.i < 0 || value.i > 0x10FFFF || (value.i >= 0xD800 && value.i < 0xE000))
        fail("%c requires int or char");
      std::string character;
      append_utf8(character, static_cast<uint32_t>(value.i));
      out += pad(spec, character, '>');
    } else {
      out += pad(spec, real_text(spec, value.as_double(), type), '>');
    }
  }
  // A value with items of its own may go unused, as in Python.
  const bool all_used = values.is(Kind::kTuple)
                            ? next >= values.items().size()
                            : next > 0 || named || values.is(Kind::kDict) || values.is(Kind::kList) ||
                                  values.is(Kind::kUndefined) || values.is(Kind::kRange);
  if (!all_used) fail("not all arguments converted during string formatting");
  return Value::string(out.take());
}

Value brace_format(Machine& m, const std::string& format, const Args& args) {
  Text out(m.meter);
  size_t automatic = 0;
  const auto lookup = [&](const std::string& field) {
    m.meter.step();
    const size_t end = std::min(field.find_first_of(".["), field.size());
    const std::string name = field.substr(0, end);
    Value v;
    if (name.empty() || name.find_first_not_of("0123456789") == std::string::npos) {
      size_t digits = 0;
      const size_t index = name.empty() ? automatic++ : static_cast<size_t>(read_int(name, digits));
      if (index >= args.pos.size())
        fail(fmt::format("Replacement index {} out of range for positional args tuple", index));
      v = args.pos[index];
    } else {
      const auto at =
          std::find_if(args.named.begin(), args.named.end(), [&](const auto& a) { return a.first == name; });
      if (at == args.named.end()) fail(fmt::format("'{}'", name));
      v = at->second;
    }
    for (size_t at = end; at < field.size();) {
      const bool index = field[at] == '[';
      const size_t stop = index ? field.find(']', at) : std::min(field.find_first_of(".[", at + 1), field.size());
      if (stop == std::string::npos || stop == at + 1) fail("Empty attribute in format string");
      const std::string key = field.substr(at + 1, stop - at - 1);
      size_t digits = 0;
      const bool number = index && key.find_first_not_of("0123456789") == std::string::npos;
      v = !index ? m.attribute(v, key) : m.item(v, number ? Value::integer(read_int(key, digits)) : Value::string(key));
      at = stop + index;
    }
    return v;
  };
  for (size_t at = 0; at < format.size();) {
    const size_t brace = std::min(format.find_first_of("{}", at), format.size());
    out += std::string_view(format).substr(at, brace - at);
    if (brace == format.size()) break;
    at = brace + 1;
    if (at < format.size() && format[at] == format[brace]) {
      out += format[at++];
      continue;
    }
    if (format[brace] == '}') fail("Single '}' encountered in format string");
    int open = 1;
    size_t close = at;
    for (; close < format.size() && open; ++close) open += format[close] == '{' ? 1 : format[close] == '}' ? -1 : 0;
    if (open)
      fail(at >= format.size() ? "Single '{' encountered in format string" : "expected '}' before end of string");
    std::string field = format.substr(at, close - 1 - at), spec;
    at = close;
    char conversion = 0;
    if (const size_t colon = field.find(':'); colon != std::string::npos) {
      spec = field.substr(colon + 1);
      field.resize(colon);
    }
    if (const size_t mark = field.find('!'); mark != std::string::npos) {
      conversion = mark + 1 < field.size() ? field[mark + 1] : 0;
      field.resize(mark);
    }
    Value v = lookup(field);
    if (spec.find('{') != std::string::npos) spec = brace_format(m, spec, args).str();
    if (conversion == 'r' || conversion == 'a') v = Value::string(repr(m, v));
    if (conversion == 's') v = Value::string(to_str(m.meter, v));
    out += formatted(m, v, spec);
  }
  return Value::string(out.take());
}

std::string local_time(const std::string& format) {
  if (format.size() > 1000) fail_limit("chat template: a time format is over 1000 bytes");
  const std::time_t now = std::time(nullptr);
  std::tm tm{};
  localtime_r(&now, &tm);
  std::string out(64 * format.size() + 64, '\0');
  // A format may give nothing, which strftime cannot tell from too little room: here is always enough.
  out.resize(std::strftime(out.data(), out.size(), format.c_str(), &tm));
  return out;
}

}  // namespace fovea::tokenizers::jinja

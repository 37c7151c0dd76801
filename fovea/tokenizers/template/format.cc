// "..." % values, "...".format(...) and strftime_now, as Python does them.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <ctime>

#include "fovea/tokenizers/template/text.h"
#include "fovea/tokenizers/template/value.h"

namespace fovea::tokenizers::jinja {
namespace {

constexpr int kMaxWidth = 10'000;

struct Spec {
  Str fill{" ", kTemplate};
  char align = 0, sign = 0;  // align: < > ^ =
  bool zero = false, alternate = false;
  char group = 0;  // between thousands: , or _
  int width = 0, precision = -1;
  char type = 0;
};

// What stands for a field of the format: if the field is data, so is all that it brings in.
Str filled_in(Str text, Owner field) { return field == kTemplate ? text : Str(text.view(), field); }

int read_int(std::string_view s, size_t& at) {
  int n = 0;
  for (; at < s.size() && s[at] >= '0' && s[at] <= '9'; ++at) {
    n = n * 10 + (s[at] - '0');
    if (n > kMaxWidth) fail_limit(fmt::format("chat template: a format width is over {}", kMaxWidth));
  }
  return n;
}

Str pad(const Spec& spec, const Str& text, char usual) {
  const std::string_view s = text.view();
  const int n = spec.width - static_cast<int>(std::min<size_t>(count_characters(s), kMaxWidth));
  if (n <= 0) return text;
  const char align = spec.align ? spec.align : usual;
  const size_t sign = align == '=' && !s.empty() && (s[0] == '-' || s[0] == '+' || s[0] == ' ');
  Str out = text.substr(0, sign);
  if (align == '=' && spec.group && spec.fill.view() == "0") {  // the zeros are grouped too
    std::string digits(s.substr(sign));
    const size_t every = spec.type == 'x' || spec.type == 'X' || spec.type == 'o' || spec.type == 'b' ? 4 : 3;
    size_t whole = std::min(digits.find_first_not_of("0123456789abcdefABCDEF,_"), digits.size());
    for (size_t k = 0, last = whole; k < last; ++k) whole -= digits[k] == ',' || digits[k] == '_';
    for (; digits.size() + sign < static_cast<size_t>(spec.width); ++whole)
      digits.insert(0, whole % every || !whole ? "0" : std::string("0") + spec.group);
    out.append(digits, text.blend());
    return out;
  }
  const int left = align == '>' || align == '=' ? n : align == '^' ? n / 2 : 0;
  for (int i = 0; i < left; ++i) out.append(spec.fill);
  out.append(text, sign);
  for (int i = left; i < n; ++i) out.append(spec.fill);
  return out;
}

std::string with_sign(const Spec& spec, std::string digits, bool negative) {
  return (negative ? "-" : spec.sign == '+' ? "+" : spec.sign == ' ' ? " " : "") + std::move(digits);
}

void group(std::string& digits, size_t whole, char mark, size_t every) {
  for (size_t at = whole; at > every; at -= every) digits.insert(at - every, 1, mark);
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
  if (spec.group) group(digits, digits.size(), spec.group, base == 10 ? 3 : 4);
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
  if (spec.group) group(digits, std::min(digits.find_first_not_of("0123456789"), digits.size()), spec.group, 3);
  return with_sign(spec, std::move(digits), std::signbit(value));
}

Str cut(const Str& text, int precision) {
  return precision < 0 ? text : text.substr(0, byte_of(text.view(), static_cast<size_t>(precision)));
}

Str repr(Machine& m, const Value& v) {
  Text out(m.meter);
  print_repr(out, m.meter, v);
  return out.take();
}

// One field of str.format(), after its colon.
Str formatted(Machine& m, const Value& v, const Str& format) {
  const std::string_view text = format.view();
  Spec spec;
  size_t at = 0;
  const auto is_align = [&](size_t i) {
    return i < text.size() && (text[i] == '<' || text[i] == '>' || text[i] == '^' || text[i] == '=');
  };
  const size_t first = text.empty() ? 0 : character_bytes(text, 0);
  if (first && is_align(first)) {
    spec.fill = format.substr(0, first);
    spec.align = text[first];
    at = first + 1;
  } else if (is_align(0)) {
    spec.align = text[at++];
  }
  const auto take = [&](char c) { return at < text.size() && text[at] == c ? ++at : 0; };
  if (at < text.size() && (text[at] == '+' || text[at] == '-' || text[at] == ' ')) spec.sign = text[at++];
  if (take('#')) spec.alternate = true;
  if (take('0') && !spec.align) {
    spec.fill = Str("0", format.blend());
    spec.align = v.is(Kind::kString) ? '<' : '=';
  }
  spec.width = read_int(text, at);
  if (take(',')) spec.group = ',';
  if (take('_')) spec.group = '_';
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
  const auto number = [&](const std::string& digits) { return pad(spec, Str(digits, v.owner), '>'); };
  const std::string reals = "eEfFgG%", ints = "bdoxX";
  if (reals.find(spec.type) != std::string::npos && spec.type) return number(real_text(spec, v.as_double(), spec.type));
  if (v.is(Kind::kFloat)) {
    if (spec.type) refuse();
    if (spec.precision >= 0) return number(real_text(spec, v.f, 'g'));
    std::string digits = float_repr(std::fabs(v.f));
    if (spec.group) group(digits, std::min(digits.find_first_not_of("0123456789"), digits.size()), spec.group, 3);
    return number(with_sign(spec, std::move(digits), std::signbit(v.f)));
  }
  if (spec.type && ints.find(spec.type) == std::string::npos) refuse();
  if (spec.precision >= 0) fail("Precision not allowed in integer format specifier");
  return number(integer_text(spec, v.i));
}

}  // namespace

Value percent_format(Machine& m, const Str& text, const Value& values) {
  const std::string_view format = text.view();
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
    out.add(text, at, percent);
    if (percent == format.size()) break;
    at = percent + 1;
    Spec spec;
    const auto insert = [&](const Str& piece) { out += filled_in(piece, text.substr(percent, at - percent).blend()); };
    Value value;
    bool have = false;
    if (at < format.size() && format[at] == '(') {
      const size_t close = format.find(')', at);
      if (close == std::string::npos) fail("incomplete format key");
      if (!values.is(Kind::kDict)) fail("format requires a mapping");
      const std::string key(format.substr(at + 1, close - at - 1));
      const Value* found = find(m.meter, values, Value::own(key));
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
      out.add(text, percent, percent + 1);
      continue;
    }
    if (!have) value = argument();
    if (!spec.align) spec.align = spec.zero && type != 's' && type != 'r' ? '=' : '>';
    if (spec.zero && spec.align == '=') spec.fill = Str("0", text.owner_at(percent));
    if (type == 's' || type == 'r' || type == 'a') {
      insert(pad(spec, cut(type == 's' ? to_str(m.meter, value) : repr(m, value), spec.precision), '>'));
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
      const int64_t number = value.is(Kind::kFloat) ? static_cast<int64_t>(value.f) : value.i;
      insert(pad(spec, Str(integer_text(spec, number), value.owner), '>'));
    } else if (type == 'c') {
      if (!value.is_int() || value.i < 0 || value.i > 0x10FFFF || (value.i >= 0xD800 && value.i < 0xE000))
        fail("%c requires int or char");
      std::string character;
      append_utf8(character, static_cast<uint32_t>(value.i));
      insert(pad(spec, Str(character, value.owner), '>'));
    } else {
      insert(pad(spec, Str(real_text(spec, value.as_double(), type), value.owner), '>'));
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

Value brace_format(Machine& m, const Str& text, const Args& args) {
  const std::string_view format = text.view();
  Text out(m.meter);
  size_t automatic = 0;
  const auto lookup = [&](std::string_view field) {
    m.meter.step();
    const size_t end = std::min(field.find_first_of(".["), field.size());
    const std::string_view name = field.substr(0, end);
    Value v;
    if (name.empty() || name.find_first_not_of("0123456789") == std::string::npos) {
      size_t digits = 0;
      const size_t index = name.empty() ? automatic++ : static_cast<size_t>(read_int(name, digits));
      if (index >= args.pos.size())
        fail(fmt::format("Replacement index {} out of range for positional args tuple", index));
      v = args.pos[index];
    } else {
      const auto at =
          std::find_if(args.named.begin(), args.named.end(), [&](const auto& a) { return a.first.view() == name; });
      if (at == args.named.end()) fail(fmt::format("'{}'", name));
      v = at->second;
    }
    for (size_t at = end; at < field.size();) {
      const bool index = field[at] == '[';
      const size_t stop = index ? field.find(']', at) : std::min(field.find_first_of(".[", at + 1), field.size());
      if (stop == std::string::npos || stop == at + 1) fail("Empty attribute in format string");
      const std::string key(field.substr(at + 1, stop - at - 1));
      size_t digits = 0;
      const bool number = index && key.find_first_not_of("0123456789") == std::string::npos;
      v = !index ? m.attribute(v, key) : m.item(v, number ? Value::integer(read_int(key, digits)) : Value::own(key));
      at = stop + index;
    }
    return v;
  };
  for (size_t at = 0; at < format.size();) {
    const size_t brace = std::min(format.find_first_of("{}", at), format.size());
    out.add(text, at, brace);
    if (brace == format.size()) break;
    at = brace + 1;
    if (at < format.size() && format[at] == format[brace]) {
      out.add(text, at, at + 1);
      ++at;
      continue;
    }
    if (format[brace] == '}') fail("Single '}' encountered in format string");
    int open = 1;
    size_t close = at;
    for (; close < format.size() && open; ++close) open += format[close] == '{' ? 1 : format[close] == '}' ? -1 : 0;
    if (open)
      fail(at >= format.size() ? "Single '{' encountered in format string" : "expected '}' before end of string");
    std::string_view field = format.substr(at, close - 1 - at);
    const Owner owner = text.substr(brace, close - brace).blend();
    Str spec;
    char conversion = 0;
    if (const size_t colon = field.find(':'); colon != std::string::npos) {
      spec = text.substr(at + colon + 1, field.size() - colon - 1);
      field = field.substr(0, colon);
    }
    if (const size_t mark = field.find('!'); mark != std::string::npos) {
      conversion = mark + 1 < field.size() ? field[mark + 1] : 0;
      field = field.substr(0, mark);
    }
    at = close;
    Value v = lookup(field);
    if (spec.view().find('{') != std::string::npos) spec = brace_format(m, spec, args).str();
    if (conversion == 'r' || conversion == 'a') v = Value::string(repr(m, v));
    if (conversion == 's') v = Value::string(to_str(m.meter, v));
    out += filled_in(formatted(m, v, spec), owner);
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

#include "fovea/base/text_file.h"

#include <algorithm>
#include <array>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/file_kind.h"
#include "fovea/base/json.h"
#include "fovea/base/log.h"
#include "fovea/base/utf8.h"

namespace fovea {
namespace {

// 0x80 to 0x9F of Windows-1252; 0: no character. The rest is Latin-1.
constexpr std::array<uint16_t, 32> kWindows = {0x20AC, 0,      0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021,
                                               0x02C6, 0x2030, 0x0160, 0x2039, 0x0152, 0,      0x017D, 0,
                                               0,      0x2018, 0x2019, 0x201C, 0x201D, 0x2022, 0x2013, 0x2014,
                                               0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0,      0x017E, 0x0178};

bool is_control(unsigned char c) { return (c < 0x20 && (c < '\b' || c > '\r') && c != 0x1B) || c == 0x7F; }
bool is_ascii_letter(unsigned char c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }

enum class Sort { kOther, kLower, kUpper };
Sort sort_of(unsigned char c) {
  if (is_ascii_letter(c)) return c >= 'a' ? Sort::kLower : Sort::kUpper;
  if (c >= 0xDF) return c == 0xF7 ? Sort::kOther : Sort::kLower;
  if (c >= 0xC0) return c == 0xD7 ? Sort::kOther : Sort::kUpper;
  if (c == 0x83 || c == 0x9A || c == 0x9C || c == 0x9E || c == 0xAA || c == 0xB5 || c == 0xBA) return Sort::kLower;
  return c == 0x8A || c == 0x8C || c == 0x8E || c == 0x9F ? Sort::kUpper : Sort::kOther;
}

struct Utf8Count {
  size_t valid = 0, invalid = 0;  // characters of several bytes; bytes of none
  size_t first = 0;               // where the first invalid one is
};
Utf8Count count_utf8(std::string_view bytes) {
  Utf8Count count;
  const char *begin = bytes.data(), *p = begin, *end = begin + bytes.size();
  while (p < end) {
    const uint32_t n = code_point_at(p, end).bytes;
    if (n == 0 && count.invalid++ == 0) count.first = static_cast<size_t>(p - begin);
    if (n > 1) ++count.valid;
    p += std::max<uint32_t>(n, 1);
  }
  return count;
}

Error no_text(const std::string& name, std::string_view what, std::string_view help) {
  return make_error(ErrorCode::kData, "{}: {}, not plain text{}{}", name, what, help.empty() ? "" : "; ", help);
}

// Bytes with a zero among them that no byte order mark explains.
Error binary(std::string_view bytes, const std::string& name) {
  const std::string_view sample = bytes.substr(0, kFileKindBytes);
  size_t zeros[2] = {};
  for (size_t i = 0; i < sample.size(); ++i) zeros[i % 2] += sample[i] == '\0' ? 1 : 0;
  for (const size_t odd : {0, 1}) {
    if (zeros[odd] * 2 > sample.size() * 7 / 10 && zeros[1 - odd] * 20 < sample.size()) {
      return no_text(
          name, "it looks like UTF-16 without a byte order mark",
          odd == 1 ? "convert it: iconv -f UTF-16LE -t UTF-8 FILE" : "convert it: iconv -f UTF-16BE -t UTF-8 FILE");
    }
  }
  return no_text(name, fmt::format("a binary file (byte {} is 0)", bytes.find('\0')), "give a text in UTF-8");
}

std::string_view mark_name(std::string_view bytes) {
  const bool wide = bytes.size() >= 4 && ((bytes[2] == 0 && bytes[3] == 0) || bytes[0] == 0);
  return wide ? "UTF-32" : "UTF-16";
}

}  // namespace

Status refuse_known_kinds(std::string_view first_bytes, const std::string& name) {
  const FileKind* kind = file_kind(first_bytes);
  return kind ? Status(no_text(name, kind->name, kind->help)) : Status();
}

std::optional<std::string> decode_marked(std::string_view bytes) {
  using namespace std::string_view_literals;
  size_t width = 0, mark = 0;
  bool big = false;
  if (bytes.size() % 4 == 0 && (bytes.starts_with("\xFF\xFE\0\0"sv) || bytes.starts_with("\0\0\xFE\xFF"sv))) {
    width = mark = 4;
    big = bytes[0] == 0;
  } else if (bytes.size() % 2 == 0 && (bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF"))) {
    width = mark = 2;
    big = bytes[0] == '\xFE';
  } else {
    return std::nullopt;
  }
  const auto unit = [&](size_t at) {
    uint32_t value = 0;
    for (size_t i = 0; i < width; ++i)
      value |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[at + i])) << 8 * (big ? width - 1 - i : i);
    return value;
  };
  std::string out;
  out.reserve(bytes.size());
  for (size_t at = mark; at < bytes.size(); at += width) {
    uint32_t c = unit(at);
    if (width == 2 && c >= 0xD800 && c < 0xDC00 && at + 4 <= bytes.size()) {
      const uint32_t low = unit(at + 2);
      if (low < 0xDC00 || low > 0xDFFF) return std::nullopt;
      c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
      at += 2;
    }
    if (c == 0 || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) return std::nullopt;
    append_utf8(out, c);
  }
  return out;
}

std::optional<std::string> decode_windows_1252(std::string_view bytes) {
  // Apostrophes, dashes, dots: all that may stand right between two letters.
  constexpr std::string_view kWithin = "\x91\x92\x96\x97\x85\xA0\xAD\xB7\xB4";
  size_t ascii_letters = 0, high_letters = 0, high = 0, odd = 0;
  Sort before = Sort::kOther;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto c = static_cast<unsigned char>(bytes[i]);
    if (is_control(c) || (c >= 0x80 && c < 0xA0 && kWindows[c - 0x80] == 0)) return std::nullopt;
    const Sort sort = sort_of(c);
    const Sort after = i + 1 < bytes.size() ? sort_of(static_cast<unsigned char>(bytes[i + 1])) : Sort::kOther;
    if (c < 0x80) {
      ascii_letters += sort != Sort::kOther ? 1 : 0;
    } else {
      ++high;
      high_letters += sort != Sort::kOther ? 1 : 0;
      // In the wrong encoding letters become capitals or signs in the middle of words.
      if (sort == Sort::kUpper && before == Sort::kLower) ++odd;
      if (sort == Sort::kOther && before != Sort::kOther && after == Sort::kLower &&
          kWithin.find(bytes[i]) == kWithin.npos)
        ++odd;
    }
    before = sort;
  }
  // French has 4 accented letters in 100, Icelandic 12; Cyrillic and East Asian text is nearly all high bytes.
  if (high == 0 || high_letters * 2 > ascii_letters || odd * 20 > high) return std::nullopt;
  std::string out;
  out.reserve(bytes.size() + high);
  for (const char byte : bytes) {
    const auto c = static_cast<unsigned char>(byte);
    append_utf8(out, c >= 0x80 && c < 0xA0 ? kWindows[c - 0x80] : c);
  }
  return out;
}

Result<std::string> to_text(std::string bytes, const std::string& name, const TextRules& rules) {
  FOVEA_RETURN_IF_ERROR(refuse_known_kinds(bytes, name));
  if (auto decoded = decode_marked(bytes)) {
    log_warning("{}: it is in {}, not UTF-8, and is read as that", name, mark_name(bytes));
    bytes = std::move(*decoded);
  }
  if (bytes.starts_with("\xEF\xBB\xBF")) bytes.erase(0, 3);
  if (is_html(bytes)) {
    log_warning("{}: it is HTML and is read as it stands, with its tags; its text alone: lynx -dump -nolist FILE",
                name);
  }
  if (!rules.keep_bytes && bytes.find('\0') != std::string::npos) return binary(bytes, name);
  const Utf8Count count = count_utf8(bytes);
  if (count.invalid == 0) return bytes;
  if (count.valid * 4 < count.invalid && bytes.find('\0') == std::string::npos) {
    if (auto decoded = decode_windows_1252(bytes)) {
      log_warning("{}: it is not UTF-8 and is read as Windows-1252 (Latin-1)", name);
      return std::move(*decoded);
    }
  }
  const std::string place = place_in(bytes, count.first);
  if (rules.keep_bytes) {
    log_warning("{}: it is not UTF-8 ({} bytes, the first at {}); they are read as they are", name, count.invalid,
                place);
    return bytes;
  }
  const auto controls = static_cast<size_t>(
      std::count_if(bytes.begin(), bytes.end(), [](char c) { return is_control(static_cast<unsigned char>(c)); }));
  if (controls * 20 > bytes.size()) return no_text(name, "a binary file", "give a text in UTF-8");
  if (count.invalid * 10 > bytes.size() && bytes.size() >= 16) {
    return no_text(name, "not UTF-8, and of no encoding that is certain",
                   "convert it: iconv -f ENCODING -t UTF-8 FILE");
  }
  log_warning("{}: {} bytes are not UTF-8, the first at {}; they are read as U+FFFD", name, count.invalid, place);
  return replace_invalid_utf8(bytes);
}

Result<std::string> read_text_file(const std::string& path, const TextRules& rules) {
  const std::string name = path == "-" ? "standard input" : quote(path, 4096);
  std::string bytes;
  bool told = false;
  // What is no text is refused once its beginning is there: a device may have no end.
  const auto look = [&]() -> Status {
    told = true;
    FOVEA_RETURN_IF_ERROR(refuse_known_kinds(bytes, name));
    const bool marked = bytes.starts_with("\xFF\xFE") || bytes.starts_with("\xFE\xFF") ||
                        bytes.starts_with(std::string_view("\0\0\xFE\xFF", 4));
    if (!rules.keep_bytes && !marked && bytes.find('\0') != std::string::npos) return binary(bytes, name);
    return {};
  };
  FOVEA_RETURN_IF_ERROR(read_chunks(path, [&](std::string_view chunk) -> Status {
    if (bytes.size() + chunk.size() > rules.max_bytes)
      return make_error(ErrorCode::kLimit, "{}: longer than the {} bytes allowed", name, rules.max_bytes);
    bytes += chunk;
    return !told && bytes.size() >= kFileKindBytes ? look() : Status();
  }));
  return to_text(std::move(bytes), name, rules);
}

std::string argument_text(std::string bytes, const std::string& name) {
  if (is_utf8(bytes)) return bytes;
  auto decoded = decode_windows_1252(bytes);
  log_warning("{}: it is not UTF-8 and is read as {}", name,
              decoded ? "Windows-1252 (Latin-1)" : "it is, byte for byte");
  return decoded ? std::move(*decoded) : std::move(bytes);
}

}  // namespace fovea

#include "fovea/tokenizers/unicode_forms.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <memory>
#include <vector>

#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

constexpr uint32_t kLast = 0x30000;  // from here on nothing changes
using CodePoints = std::vector<utf8proc_int32_t>;

int combining_class(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

bool is_composed(UnicodeForm f) { return f == UnicodeForm::kNfc || f == UnicodeForm::kNfkc; }
bool is_compatible(UnicodeForm f) { return f == UnicodeForm::kNfkc || f == UnicodeForm::kNfkd; }

void decompose(UnicodeForm form, utf8proc_int32_t c, CodePoints& out) {
  std::array<utf8proc_int32_t, 32> buffer;
  int boundary = 0;
  const int options = UTF8PROC_DECOMPOSE | (is_compatible(form) ? UTF8PROC_COMPAT : 0);
  const auto n =
      utf8proc_decompose_char(c, buffer.data(), buffer.size(), static_cast<utf8proc_option_t>(options), &boundary);
  if (n > 0 && n <= static_cast<utf8proc_ssize_t>(buffer.size())) {
    out.insert(out.end(), buffer.data(), buffer.data() + n);
  } else {
    out.push_back(c);
  }
}

void join(CodePoints& c) {
  const auto n = utf8proc_normalize_utf32(c.data(), static_cast<utf8proc_ssize_t>(c.size()),
                                          static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  if (n >= 0) c.resize(static_cast<size_t>(n));
}

// Characters that a form may change, or join with or move past the one before: Quick_Check is not Yes.
using Suspects = std::bitset<kLast>;
std::unique_ptr<Suspects> make_suspects(UnicodeForm form) {
  auto s = std::make_unique<Suspects>();
  CodePoints parts;
  for (uint32_t c = 0xA0; c < kLast; ++c) {
    const auto code = static_cast<utf8proc_int32_t>(c);
    const utf8proc_property_t* property = utf8proc_get_property(code);
    if (property->combining_class != 0) s->set(c);
    const bool hangul = c >= 0xAC00 && c <= 0xD7A3;  // taken apart and joined by arithmetic
    if (property->decomp_seqindex == UINT16_MAX && !hangul) continue;
    if (property->decomp_type != 0 && !is_compatible(form)) continue;
    parts.clear();
    decompose(form, code, parts);
    if (is_composed(form)) {
      for (size_t i = 1; i < parts.size(); ++i) s->set(static_cast<size_t>(parts[i]));
      join(parts);
    }
    if (parts.size() != 1 || parts[0] != code) s->set(c);
  }
  if (is_composed(form)) {
    for (uint32_t vowel = 0x1161; vowel <= 0x1175; ++vowel) s->set(vowel);
    for (uint32_t tail = 0x11A8; tail <= 0x11C2; ++tail) s->set(tail);
    for (uint32_t c = 0; c < 0x80; ++c) s->reset(c);  // parts of signs such as "1/2": they join nothing
  }
  return s;
}

const Suspects& suspects(UnicodeForm form) {
  static const std::unique_ptr<Suspects> nfc = make_suspects(UnicodeForm::kNfc);
  if (form == UnicodeForm::kNfc) return *nfc;
  static const std::unique_ptr<Suspects> others[] = {
      make_suspects(UnicodeForm::kNfd), make_suspects(UnicodeForm::kNfkc), make_suspects(UnicodeForm::kNfkd)};
  return *others[static_cast<int>(form) - 1];
}

struct FormRun {
  const char *begin, *end;
};

// The next run that may change at or after `p`: suspects with the one character before them. A run
// at `end` is empty.
FormRun next_run(const Suspects& all, uint8_t first_byte, const char* p, const char* end) {
  const auto is_suspect = [&all](uint32_t c) { return c < kLast && all[c]; };
  const char* before = p;  // of the last character that is none, or where it would be
  while (p < end) {
    if (static_cast<unsigned char>(*p) < first_byte) {  // ASCII, or below the first suspect, or a stray byte
      before = p;
      p += static_cast<unsigned char>(*p) < 0xC2 ? 1 : std::max(1u, code_point_at(p, end).bytes);
      continue;
    }
    const CodePoint c = code_point_at(p, end);
    if (c.bytes == 0 || !is_suspect(c.value)) {
      before = p;
      p += std::max(1u, c.bytes);
      continue;
    }
    while (p < end) {
      const CodePoint next = code_point_at(p, end);
      if (next.bytes == 0 || !is_suspect(next.value)) break;
      p += next.bytes;
    }
    if (code_point_at(before, end).bytes == 0) ++before;  // a stray byte joins nothing
    return {before, p};
  }
  return {end, end};
}

std::string normalize_run(UnicodeForm form, FormRun run) {
  CodePoints c;
  for (const char* p = run.begin; p < run.end;) {
    const CodePoint next = code_point_at(p, run.end);
    decompose(form, static_cast<utf8proc_int32_t>(next.value), c);
    p += next.bytes;
  }
  // Marks in order of their class. (The library's own sorting takes quadratic time.)
  for (size_t i = 0; i < c.size();) {
    size_t j = i;
    while (j < c.size() && combining_class(c[j]) != 0) ++j;
    const auto at = [&](size_t k) { return c.begin() + static_cast<std::ptrdiff_t>(k); };
    std::stable_sort(at(i), at(j), [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    i = std::max(i + 1, j);
  }
  if (is_composed(form)) join(c);
  std::string out;
  for (const utf8proc_int32_t value : c) append_utf8(out, static_cast<uint32_t>(value));
  return out;
}

}  // namespace

void normalize(UnicodeForm form, TextEdit& edit) {
  const Suspects& all = suspects(form);
  const uint8_t first_byte = form == UnicodeForm::kNfc ? 0xCC : 0xC2;  // U+0300, U+00A0: nothing below is a suspect
  const std::string_view text = edit.source();
  const char *p = text.data(), *end = p + text.size();
  while (p < end) {
    const FormRun run = next_run(all, first_byte, p, end);
    p = run.end;
    if (run.begin == run.end) break;
    const std::string by = normalize_run(form, run);
    const auto begin = static_cast<size_t>(run.begin - text.data()), size = static_cast<size_t>(run.end - run.begin);
    if (by != text.substr(begin, size)) edit.replace(begin, begin + size, by);
  }
  edit.finish();
}

std::string normalized(UnicodeForm form, std::string_view text) {
  TextEdit edit(text, false);
  normalize(form, edit);
  return std::string(edit.text());
}

}  // namespace fovea::tokenizers

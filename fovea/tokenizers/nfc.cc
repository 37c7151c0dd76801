#include "fovea/tokenizers/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <bitset>

#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

constexpr uint32_t kFirst = 0x300;   // below it nothing changes or joins the character before it
constexpr uint32_t kLast = 0x30000;  // nor from here on
using CodePoints = std::vector<utf8proc_int32_t>;

int combining_class(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

void decompose(utf8proc_int32_t c, CodePoints& out) {
  std::array<utf8proc_int32_t, 32> buffer;
  int boundary = 0;
  const auto n = utf8proc_decompose_char(c, buffer.data(), buffer.size(), UTF8PROC_DECOMPOSE, &boundary);
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

// Characters that NFC may change, or join with or move past the one before: Quick_Check is not Yes.
using Suspects = std::bitset<kLast>;
const Suspects& suspects() {
  static const Suspects all = [] {
    Suspects s;
    for (uint32_t c = 0xC0; c < kLast; ++c) {
      const utf8proc_property_t* property = utf8proc_get_property(static_cast<utf8proc_int32_t>(c));
      if (property->combining_class != 0) s.set(c);
      if (property->decomp_seqindex == UINT16_MAX || property->decomp_type != 0) continue;
      CodePoints parts;
      decompose(static_cast<utf8proc_int32_t>(c), parts);
      for (size_t i = 1; i < parts.size(); ++i) s.set(static_cast<size_t>(parts[i]));
      join(parts);
      if (parts.size() != 1 || parts[0] != static_cast<utf8proc_int32_t>(c)) s.set(c);
    }
    for (uint32_t vowel = 0x1161; vowel <= 0x1175; ++vowel) s.set(vowel);  // of Hangul, joined by arithmetic
    for (uint32_t tail = 0x11A8; tail <= 0x11C2; ++tail) s.set(tail);
    return s;
  }();
  return all;
}

bool is_suspect(uint32_t c) { return c >= kFirst && c < kLast && suspects()[c]; }

struct Run {
  const char *begin, *end;
};

// The next run that may change at or after `p`: suspects with the one character before them. A run
// at `end` is empty.
Run next_run(const char* p, const char* end) {
  const char* before = p;  // of the last character that is none, or where it would be
  while (p < end) {
    if (static_cast<unsigned char>(*p) < 0xCC) {  // ASCII, or below U+0300, or a stray byte
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

std::string compose_run(Run run) {
  CodePoints c;
  for (const char* p = run.begin; p < run.end;) {
    const CodePoint next = code_point_at(p, run.end);
    decompose(static_cast<utf8proc_int32_t>(next.value), c);
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
  join(c);
  std::string out;
  for (const utf8proc_int32_t value : c) append_utf8(out, static_cast<uint32_t>(value));
  return out;
}

}  // namespace

bool is_nfc(std::string_view text) {
  const char *p = text.data(), *end = p + text.size();
  while (p < end) {
    const Run run = next_run(p, end);
    if (run.begin != run.end &&
        compose_run(run) != std::string_view(run.begin, static_cast<size_t>(run.end - run.begin)))
      return false;
    p = run.end;
  }
  return true;
}

ComposedText compose(std::string_view text) {
  ComposedText out;
  out.text.reserve(text.size());
  const char *p = text.data(), *end = p + text.size();
  const auto begin_part = [&](const char* source, bool changed) {
    out.parts.push_back({out.text.size(), static_cast<size_t>(source - text.data()), changed});
  };
  begin_part(p, false);
  const char* copied = p;
  while (p < end) {
    const Run run = next_run(p, end);
    p = run.end;
    const std::string composed = compose_run(run);
    if (composed == std::string_view(run.begin, static_cast<size_t>(run.end - run.begin))) continue;
    out.text.append(copied, run.begin);
    copied = run.end;
    if (out.parts.back().at == out.text.size()) out.parts.pop_back();
    begin_part(run.begin, true);
    out.text += composed;
    begin_part(run.end, false);
  }
  out.text.append(copied, end);
  return out;
}

}  // namespace fovea::tokenizers

#include "fovea/tokenizers/charsmap.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstring>

#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

bool has_leaf(uint32_t unit) { return unit >> 8 & 1; }
uint32_t value_of(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t label_of(uint32_t unit) { return unit & 0x800000FF; }
uint32_t offset_of(uint32_t unit) { return unit >> 10 << ((unit & 512) >> 6); }

}  // namespace

Result<Charsmap> Charsmap::create(std::string_view bytes) {
  Charsmap map;
  if (bytes.empty()) return map;
  const auto wrong = [&](size_t trie) {
    return make_error(ErrorCode::kData, "a character map of {} bytes with a trie of {}", bytes.size(), trie);
  };
  if (bytes.size() < 4) return wrong(0);
  const auto word = [&](size_t at) {
    const auto byte = [&](size_t i) { return uint32_t{static_cast<unsigned char>(bytes[at + i])}; };
    return byte(0) | byte(1) << 8 | byte(2) << 16 | byte(3) << 24;
  };
  const size_t trie = word(0);
  if (trie == 0 || trie % 4 != 0 || trie > bytes.size() - 4) return wrong(trie);
  map.units_.resize(trie / 4);
  for (size_t i = 0; i < map.units_.size(); ++i) map.units_[i] = word(4 + 4 * i);
  map.replacements_ = bytes.substr(4 + trie);
  map.replacements_ += '\0';
  const uint32_t root = offset_of(map.units_[0]);
  for (uint32_t byte = 1; byte < 256; ++byte) {
    const uint32_t node = root ^ byte;
    map.begins_[byte] = node < map.units_.size() && label_of(map.units_[node]) == byte;
  }
  return map;
}

std::optional<Charsmap::Found> Charsmap::find(std::string_view text, bool longest) const {
  std::optional<Found> found;
  if (units_.empty() || text.empty() || !begins_[static_cast<unsigned char>(text[0])]) return found;
  uint32_t node = offset_of(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    node ^= byte;
    if (byte == 0 || node >= units_.size() || label_of(units_[node]) != byte) break;
    const bool leaf = has_leaf(units_[node]);
    node ^= offset_of(units_[node]);
    if (node >= units_.size()) break;
    if (!leaf) continue;
    const uint32_t at = value_of(units_[node]);
    if (at >= replacements_.size()) continue;
    found = {std::string_view(replacements_.data() + at), i + 1};
    if (!longest) break;
  }
  return found;
}

void Charsmap::apply_longest(TextEdit& edit) const {
  const std::string_view text = edit.source();
  for (size_t at = 0; at < text.size();) {
    if (!begins_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    if (const auto found = find(text.substr(at), true)) {
      if (found->by != text.substr(at, found->length)) edit.replace(at, at + found->length, found->by);
      at += found->length;
    } else {
      at += std::max(1u, code_point_at(text.data() + at, text.data() + text.size()).bytes);
    }
  }
  edit.finish();
}

void Charsmap::apply_graphemes(TextEdit& edit) const {
  const std::string_view text = edit.source();
  const char* end = text.data() + text.size();
  const auto put = [&](size_t at, size_t n, const Found& found) {
    if (found.by != text.substr(at, n)) edit.replace(at, at + n, found.by);
  };
  for (size_t at = 0; at < text.size();) {
    CodePoint c = code_point_at(text.data() + at, end);
    size_t n = std::max(1u, c.bytes);
    // Two characters of ASCII stand apart, but for CR LF; most text is only looked at.
    const bool plain =
        n == 1 && (at + 1 == text.size() || static_cast<unsigned char>(text[at + 1]) < 0x80) && text[at] != '\r';
    if (c.bytes > 0 && !plain) {
      utf8proc_int32_t state = 0;
      while (at + n < text.size()) {
        const CodePoint next = code_point_at(text.data() + at + n, end);
        if (next.bytes == 0 || utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(c.value),
                                                                static_cast<utf8proc_int32_t>(next.value), &state))
          break;
        n += next.bytes;
        c = next;
      }
    }
    const auto whole = n < 6 ? find(text.substr(at, n), false) : std::nullopt;
    if (whole) {
      put(at, n, *whole);
    } else {
      for (size_t i = at; i < at + n;) {
        const size_t one = std::max(1u, code_point_at(text.data() + i, end).bytes);
        if (const auto found = find(text.substr(i, one), false)) put(i, one, *found);
        i += one;
      }
    }
    at += n;
  }
  edit.finish();
}

}  // namespace fovea::tokenizers

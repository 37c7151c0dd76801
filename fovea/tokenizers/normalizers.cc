#include "fovea/tokenizers/normalizers.h"

#include <algorithm>

#include "fovea/tokenizers/byte_letters.h"
#include "fovea/tokenizers/characters.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

// change(c, out) appends what takes the place of the character; false: it stays. Invalid bytes stay.
template <typename Change>
void each_character(TextEdit& edit, const Change& change) {
  const std::string_view text = edit.source();
  const char *begin = text.data(), *end = begin + text.size();
  std::string by;
  for (const char* p = begin; p < end;) {
    const CodePoint c = code_point_at(p, end);
    const auto at = static_cast<size_t>(p - begin);
    p += std::max(1u, c.bytes);
    by.clear();
    if (c.bytes > 0 && change(c.value, by)) edit.replace(at, at + c.bytes, by);
  }
  edit.finish();
}

// Where the white space of `text` at its beginning ends, and that at its end begins.
size_t skip_white(std::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const CodePoint c = code_point_at(text.data() + at, text.data() + text.size());
    if (c.bytes == 0 || !is_white(c.value)) break;
    at += c.bytes;
  }
  return at;
}
size_t white_tail(std::string_view text) {
  size_t end = text.size();
  while (end > 0) {
    size_t begin = end - 1;
    while (begin > 0 && end - begin < 4 && (text[begin] & 0xC0) == 0x80) --begin;
    const CodePoint c = code_point_at(text.data() + begin, text.data() + end);
    if (c.bytes != end - begin || !is_white(c.value)) break;
    end = begin;
  }
  return end;
}

class Form final : public Normalizer {
 public:
  explicit Form(UnicodeForm form) : form_(form) {}
  Status apply(TextEdit& edit, bool) const override {
    normalize(form_, edit);
    return {};
  }

 private:
  UnicodeForm form_;
};

bool lower(uint32_t c, std::string& out) {
  const LowerCase l = lower_case(c);
  if (l.first == c) return false;
  append_utf8(out, l.first);
  if (l.second) append_utf8(out, l.second);
  return true;
}

class Lowercase final : public Normalizer {
 public:
  Status apply(TextEdit& edit, bool) const override {
    each_character(edit, lower);
    return {};
  }
};

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  Status apply(TextEdit& edit, bool) const override {
    const std::string_view text = edit.source();
    const size_t begin = left_ ? skip_white(text) : 0;
    const size_t end = right_ ? std::max(begin, white_tail(text)) : text.size();
    if (begin > 0) edit.replace(0, begin, "");
    if (end < text.size()) edit.replace(end, text.size(), "");
    edit.finish();
    return {};
  }

 private:
  bool left_, right_;
};

class StripAccents final : public Normalizer {
 public:
  Status apply(TextEdit& edit, bool) const override {
    each_character(edit, [](uint32_t c, std::string&) { return c >= 0x300 && is_mark(c); });
    return {};
  }
};

class ReplaceText final : public Normalizer {
 public:
  ReplaceText(std::string what, std::string by) : what_(std::move(what)), by_(std::move(by)) {}
  Status apply(TextEdit& edit, bool) const override {
    const std::string_view text = edit.source();
    for (size_t at = what_.empty() ? text.npos : text.find(what_); at != text.npos;
         at = text.find(what_, at + what_.size()))
      edit.replace(at, at + what_.size(), by_);
    edit.finish();
    return {};
  }

 private:
  std::string what_, by_;
};

class ReplaceRegex final : public Normalizer {
 public:
  ReplaceRegex(Regex what, std::string by) : what_(std::move(what)), by_(std::move(by)) {}
  Status apply(TextEdit& edit, bool) const override {
    Regex::Matches matches(what_, edit.source());
    size_t begin = 0, end = 0;
    while (matches.next(begin, end)) edit.replace(begin, end, by_);
    edit.finish();
    return matches.status();
  }

 private:
  Regex what_;
  std::string by_;
};

class Prepend final : public Normalizer {
 public:
  Prepend(std::string what, bool only_first) : what_(std::move(what)), only_first_(only_first) {}
  Status apply(TextEdit& edit, bool first) const override {
    if (!edit.source().empty() && (first || !only_first_)) edit.replace(0, 0, what_);
    edit.finish();
    return {};
  }

 private:
  std::string what_;
  bool only_first_;
};

class Nmt final : public Normalizer {
 public:
  Status apply(TextEdit& edit, bool) const override {
    each_character(edit, [](uint32_t c, std::string& by) {
      if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F) return true;
      const bool blank = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                         c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
      if (blank) by = " ";
      return blank;
    });
    return {};
  }
};

class ByteLetters final : public Normalizer {
 public:
  Status apply(TextEdit& edit, bool) const override {
    const std::string_view text = edit.source();
    std::string letter;
    for (size_t i = 0; i < text.size(); ++i) {
      if (is_own_letter(text[i])) continue;
      letter.clear();
      append_spelling(text.substr(i, 1), letter);
      edit.replace(i, i + 1, letter);
    }
    edit.finish();
    return {};
  }
};

class MapCharacters final : public Normalizer {
 public:
  MapCharacters(Charsmap map, bool graphemes) : map_(std::move(map)), graphemes_(graphemes) {}
  Status apply(TextEdit& edit, bool) const override {
    graphemes_ ? map_.apply_graphemes(edit) : map_.apply_longest(edit);
    return {};
  }

 private:
  Charsmap map_;
  bool graphemes_;
};

class CollapseSpaces final : public Normalizer {
 public:
  Status apply(TextEdit& edit, bool) const override {
    const std::string_view text = edit.source();
    for (size_t at = text.find(' '); at != text.npos;) {
      const size_t end = std::min(text.find_first_not_of(' ', at), text.size());
      const size_t kept = at == 0 || end == text.size() ? 0 : 1;
      if (end - at > kept) edit.replace(at + kept, end, "");
      at = text.find(' ', end);
    }
    edit.finish();
    return {};
  }
};

class Bert final : public Normalizer {
 public:
  explicit Bert(const BertOptions& options) : o_(options) {}
  Status apply(TextEdit& edit, bool) const override {
    // One pass but for the accents: what they are is known after decomposition only.
    if (!o_.strip_accents) {
      each_character(edit, [this](uint32_t c, std::string& by) { return change(c, by); });
      return {};
    }
    const std::string_view text = edit.source();
    const char* end = text.data() + text.size();
    std::string by, bare;
    for (size_t at = 0; at < text.size();) {
      const auto byte = static_cast<unsigned char>(text[at]);
      if (byte < 0x80) {
        by.clear();
        if (change(byte, by)) edit.replace(at, at + 1, by);
        ++at;
        continue;
      }
      // Up to the next character of ASCII: marks are put in order within.
      size_t stop = at;
      while (stop < text.size() && static_cast<unsigned char>(text[stop]) >= 0x80) ++stop;
      // As blocks of a few characters, so that offsets stay near; a block begins with what is no mark.
      while (at < stop) {
        size_t block = at + std::max(1u, code_point_at(text.data() + at, end).bytes);
        while (block < stop) {
          const CodePoint c = code_point_at(text.data() + block, end);
          if (c.bytes == 0 || !is_mark(c.value)) break;
          block += c.bytes;
        }
        const std::string_view source = text.substr(at, block - at);
        bare.clear();
        for_each(source, [&](uint32_t c, std::string_view same) {
          by.clear();
          bare += clean(c, by) ? by : std::string(same);
        });
        const std::string decomposed = normalized(UnicodeForm::kNfd, bare);
        bare.clear();
        for_each(decomposed, [&](uint32_t c, std::string_view same) {
          if (c >= 0x300 && is_nonspacing_mark(c)) return;
          by.clear();
          bare += o_.lowercase && lower(c, by) ? by : std::string(same);
        });
        if (bare != source) edit.replace(at, block, bare);
        at = block;
      }
    }
    edit.finish();
    return {};
  }

 private:
  template <typename Each>
  static void for_each(std::string_view text, const Each& each) {
    for (size_t at = 0; at < text.size();) {
      const CodePoint c = code_point_at(text.data() + at, text.data() + text.size());
      const size_t n = std::max(1u, c.bytes);
      each(c.bytes ? c.value : 0x100000u, text.substr(at, n));  // invalid bytes stay
      at += n;
    }
  }
  // Control characters go, white space becomes a space, ideographs stand apart.
  bool clean(uint32_t c, std::string& by) const {
    if (o_.clean_text) {
      const bool kept = c == '\t' || c == '\n' || c == '\r';
      if (!kept && (c == 0 || c == 0xFFFD || (c < 0x100000 && is_other(c)))) return true;
      if (kept || is_white(c)) {
        by = " ";
        return c != ' ';
      }
    }
    if (o_.chinese && is_chinese(c)) {
      by = " ";
      append_utf8(by, c);
      by += ' ';
      return true;
    }
    return false;
  }
  bool change(uint32_t c, std::string& by) const {
    if (clean(c, by)) return true;
    return o_.lowercase && lower(c, by);
  }

  BertOptions o_;
};

}  // namespace

NormalizerPtr make_unicode_form(UnicodeForm form) { return std::make_unique<Form>(form); }
NormalizerPtr make_lowercase() { return std::make_unique<Lowercase>(); }
NormalizerPtr make_strip(bool left, bool right) { return std::make_unique<Strip>(left, right); }
NormalizerPtr make_strip_accents() { return std::make_unique<StripAccents>(); }
NormalizerPtr make_replace(std::string what, std::string by) {
  return std::make_unique<ReplaceText>(std::move(what), std::move(by));
}
NormalizerPtr make_replace(Regex what, std::string by) {
  return std::make_unique<ReplaceRegex>(std::move(what), std::move(by));
}
NormalizerPtr make_prepend(std::string what, bool only_first) {
  return std::make_unique<Prepend>(std::move(what), only_first);
}
NormalizerPtr make_nmt() { return std::make_unique<Nmt>(); }
NormalizerPtr make_byte_letters() { return std::make_unique<ByteLetters>(); }
NormalizerPtr make_charsmap(Charsmap map, bool graphemes) {
  return std::make_unique<MapCharacters>(std::move(map), graphemes);
}
NormalizerPtr make_collapse_spaces() { return std::make_unique<CollapseSpaces>(); }
NormalizerPtr make_bert(const BertOptions& options) { return std::make_unique<Bert>(options); }

}  // namespace fovea::tokenizers

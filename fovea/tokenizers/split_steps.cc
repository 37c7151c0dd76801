#include "fovea/tokenizers/split_steps.h"

#include <algorithm>
#include <vector>

#include "fovea/tokenizers/byte_letters.h"
#include "fovea/tokenizers/characters.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace {

// Takes the matches of a piece, and what is between them, and gives the parts that the behaviour makes of them.
class Cutter {
 public:
  Cutter(const Piece& piece, Behaviour behaviour, bool invert, Flow& flow, size_t next)
      : piece_(piece), behaviour_(behaviour), invert_(invert), flow_(flow), next_(next) {}

  // The next match: of what is between it and the last, none is.
  void match(size_t begin, size_t end) {
    if (begin > at_) part(at_, begin, false);
    part(begin, end, true);
    at_ = end;
  }
  void finish() {
    if (piece_.text.size() > at_) part(at_, piece_.text.size(), false);
    flush();
  }

 private:
  void part(size_t begin, size_t end, bool is_match) {
    is_match = is_match != invert_;
    switch (behaviour_) {
      case Behaviour::kRemoved:
        if (!is_match) give(begin, end);
        break;
      case Behaviour::kIsolated: give(begin, end); break;
      case Behaviour::kContiguous:
        if (held_ && is_match == held_match_) {
          held_end_ = end;
        } else {
          hold(begin, end, is_match);
        }
        break;
      case Behaviour::kMergedWithPrevious:
        if (is_match && held_ && !held_match_) {
          held_end_ = end;
          held_match_ = true;
        } else {
          hold(begin, end, is_match);
        }
        break;
      case Behaviour::kMergedWithNext:
        if (!is_match && held_ && held_match_) {
          held_end_ = end;
          held_match_ = false;
        } else {
          hold(begin, end, is_match);
        }
        break;
    }
  }
  void hold(size_t begin, size_t end, bool is_match) {
    flush();
    held_ = true;
    held_match_ = is_match;
    held_begin_ = begin;
    held_end_ = end;
  }
  void flush() {
    if (held_) give(held_begin_, held_end_);
    held_ = false;
  }
  void give(size_t begin, size_t end) {
    if (end > begin) flow_.run(next_, piece_.part(begin, end));
  }

  const Piece& piece_;
  Behaviour behaviour_;
  bool invert_;
  Flow& flow_;
  size_t next_;
  size_t at_ = 0, held_begin_ = 0, held_end_ = 0;
  bool held_ = false, held_match_ = false;
};

struct Character {
  uint32_t value;  // of an invalid byte: one that is nothing
  size_t bytes;
};
Character character_at(std::string_view text, size_t at) {
  const CodePoint c = code_point_at(text.data() + at, text.data() + text.size());
  return {c.bytes ? c.value : 0xFFFFF, std::max(1u, c.bytes)};
}

template <typename Step, typename... Args>
SplitStepPtr make(Args&&... args) {
  return std::make_unique<Step>(std::forward<Args>(args)...);
}

class Scan final : public SplitStep {
 public:
  explicit Scan(WordEnd word_end) : word_end_(word_end) {}
  void split(const Piece& piece, Flow& flow, size_t next) const override {
    const char *begin = piece.text.data(), *end = begin + piece.text.size();
    for (const char* p = begin; p < end && !flow.failed;) {
      const char* q = word_end_(p, end);
      flow.run(next, piece.part(static_cast<size_t>(p - begin), static_cast<size_t>(q - begin)));
      p = q;
    }
  }

 private:
  WordEnd word_end_;
};

class RegexSplit final : public SplitStep {
 public:
  RegexSplit(Regex what, Behaviour behaviour, bool invert)
      : what_(std::move(what)), behaviour_(behaviour), invert_(invert) {}
  void split(const Piece& piece, Flow& flow, size_t next) const override {
    Cutter cutter(piece, behaviour_, invert_, flow, next);
    Regex::Matches matches(what_, piece.text);
    for (size_t begin = 0, end = 0; !flow.failed && matches.next(begin, end);) cutter.match(begin, end);
    if (!matches.status()) return flow.fail(matches.status().error());
    cutter.finish();
  }

 private:
  Regex what_;
  Behaviour behaviour_;
  bool invert_;
};

class TextSplit final : public SplitStep {
 public:
  TextSplit(std::string what, Behaviour behaviour, bool invert)
      : what_(std::move(what)), behaviour_(behaviour), invert_(invert) {}
  void split(const Piece& piece, Flow& flow, size_t next) const override {
    Cutter cutter(piece, behaviour_, invert_, flow, next);
    for (size_t at = piece.text.find(what_); at != piece.text.npos && !flow.failed;
         at = piece.text.find(what_, at + what_.size()))
      cutter.match(at, at + what_.size());
    cutter.finish();
  }

 private:
  std::string what_;
  Behaviour behaviour_;
  bool invert_;
};

class CharacterSplit final : public SplitStep {
 public:
  using Is = bool (*)(uint32_t);
  CharacterSplit(Is is, Behaviour behaviour) : is_(is), behaviour_(behaviour) {}
  void split(const Piece& piece, Flow& flow, size_t next) const override {
    Cutter cutter(piece, behaviour_, false, flow, next);
    for (size_t at = 0; at < piece.text.size() && !flow.failed;) {
      const Character c = character_at(piece.text, at);
      if (is_(c.value)) cutter.match(at, at + c.bytes);
      at += c.bytes;
    }
    cutter.finish();
  }

 private:
  Is is_;
  Behaviour behaviour_;
};

class Words final : public SplitStep {
 public:
  void split(const Piece& piece, Flow& flow, size_t next) const override {
    enum { kNone, kWord, kSign } run = kNone;
    size_t begin = 0, at = 0;
    while (at < piece.text.size() && !flow.failed) {
      const Character c = character_at(piece.text, at);
      const auto kind = is_word(c.value) ? kWord : is_white(c.value) ? kNone : kSign;
      if (kind != run) {
        if (run != kNone) flow.run(next, piece.part(begin, at));
        begin = at;
        run = kind;
      }
      at += c.bytes;
    }
    if (run != kNone) flow.run(next, piece.part(begin, at));
  }
};

class Delimiter final : public SplitStep {
 public:
  explicit Delimiter(uint32_t c) { append_utf8(what_, c); }
  void split(const Piece& piece, Flow& flow, size_t next) const override {
    Cutter cutter(piece, Behaviour::kRemoved, false, flow, next);
    for (size_t at = piece.text.find(what_); at != piece.text.npos; at = piece.text.find(what_, at + what_.size()))
      cutter.match(at, at + what_.size());
    cutter.finish();
  }

 private:
  std::string what_;
};

// The script of each character, asked of PCRE2 once: about 160 of them, numbered from 1; 0: none.
const std::vector<uint8_t>& scripts() {
  static const std::vector<uint8_t> all = [] {
    std::vector<uint8_t> of(0x110000, 0);
    std::string every;
    std::vector<uint32_t> at;
    for (uint32_t c = 1; c < 0xE0200; ++c) {
      if (c >= 0xD800 && c <= 0xDFFF) continue;
      at.resize(every.size() + 1, c);
      append_utf8(every, c);
      at.resize(every.size(), c);
    }
    constexpr const char* kNames[] = {"Han",
                                      "Common",
                                      "Inherited",
                                      "Latin",
                                      "Greek",
                                      "Cyrillic",
                                      "Armenian",
                                      "Hebrew",
                                      "Arabic",
                                      "Syriac",
                                      "Thaana",
                                      "Nko",
                                      "Samaritan",
                                      "Mandaic",
                                      "Devanagari",
                                      "Bengali",
                                      "Gurmukhi",
                                      "Gujarati",
                                      "Oriya",
                                      "Tamil",
                                      "Telugu",
                                      "Kannada",
                                      "Malayalam",
                                      "Sinhala",
                                      "Thai",
                                      "Lao",
                                      "Tibetan",
                                      "Myanmar",
                                      "Georgian",
                                      "Hangul",
                                      "Ethiopic",
                                      "Cherokee",
                                      "Canadian_Aboriginal",
                                      "Ogham",
                                      "Runic",
                                      "Tagalog",
                                      "Hanunoo",
                                      "Buhid",
                                      "Tagbanwa",
                                      "Khmer",
                                      "Mongolian",
                                      "Limbu",
                                      "Tai_Le",
                                      "New_Tai_Lue",
                                      "Buginese",
                                      "Tai_Tham",
                                      "Balinese",
                                      "Sundanese",
                                      "Batak",
                                      "Lepcha",
                                      "Ol_Chiki",
                                      "Braille",
                                      "Glagolitic",
                                      "Coptic",
                                      "Tifinagh",
                                      "Bopomofo",
                                      "Yi",
                                      "Lisu",
                                      "Vai",
                                      "Bamum",
                                      "Syloti_Nagri",
                                      "Phags_Pa",
                                      "Saurashtra",
                                      "Kayah_Li",
                                      "Rejang",
                                      "Javanese",
                                      "Cham",
                                      "Tai_Viet",
                                      "Meetei_Mayek",
                                      "Linear_B",
                                      "Lycian",
                                      "Carian",
                                      "Old_Italic",
                                      "Gothic",
                                      "Old_Permic",
                                      "Ugaritic",
                                      "Old_Persian",
                                      "Deseret",
                                      "Shavian",
                                      "Osmanya",
                                      "Osage",
                                      "Elbasan",
                                      "Caucasian_Albanian",
                                      "Linear_A",
                                      "Cypriot",
                                      "Imperial_Aramaic",
                                      "Palmyrene",
                                      "Nabataean",
                                      "Hatran",
                                      "Phoenician",
                                      "Lydian",
                                      "Meroitic_Hieroglyphs",
                                      "Meroitic_Cursive",
                                      "Kharoshthi",
                                      "Old_South_Arabian",
                                      "Old_North_Arabian",
                                      "Manichaean",
                                      "Avestan",
                                      "Inscriptional_Parthian",
                                      "Inscriptional_Pahlavi",
                                      "Psalter_Pahlavi",
                                      "Old_Turkic",
                                      "Old_Hungarian",
                                      "Brahmi",
                                      "Kaithi",
                                      "Sora_Sompeng",
                                      "Chakma",
                                      "Mahajani",
                                      "Sharada",
                                      "Khojki",
                                      "Multani",
                                      "Khudawadi",
                                      "Grantha",
                                      "Newa",
                                      "Tirhuta",
                                      "Siddham",
                                      "Modi",
                                      "Takri",
                                      "Ahom",
                                      "Warang_Citi",
                                      "Pau_Cin_Hau",
                                      "Bhaiksuki",
                                      "Marchen",
                                      "Cuneiform",
                                      "Egyptian_Hieroglyphs",
                                      "Anatolian_Hieroglyphs",
                                      "Mro",
                                      "Bassa_Vah",
                                      "Pahawh_Hmong",
                                      "Miao",
                                      "Tangut",
                                      "Duployan",
                                      "SignWriting",
                                      "Mende_Kikakui",
                                      "Adlam"};
    uint8_t number = 1;
    const auto mark = [&](const std::string& names, uint8_t as) {
      const auto regex = Regex::create(names);
      if (!regex) return;
      Regex::Matches matches(*regex, every);
      for (size_t begin = 0, end = 0; matches.next(begin, end);) {
        for (size_t i = begin; i < end; ++i) of[at[i]] = as;
      }
    };
    for (const char* name : kNames) mark(fmt::format("\\p{{sc:{}}}+", name), number++);
    mark("[\\p{sc:Hiragana}\\p{sc:Katakana}\\x{30FC}]+", 1);  // read as one with Han
    of[' '] = 0;
    return of;
  }();
  return all;
}

class Scripts final : public SplitStep {
 public:
  Scripts() : of_(scripts()) {}
  void split(const Piece& piece, Flow& flow, size_t next) const override {
    constexpr int kUnset = -1;
    int last = kUnset;
    size_t begin = 0;
    bool started = false;
    for (size_t at = 0; at < piece.text.size() && !flow.failed;) {
      const Character c = character_at(piece.text, at);
      const int script = of_[c.value];
      if (script != 0 && script != last) {
        // What comes before the first character of a script goes with nothing.
        if (started) flow.run(next, piece.part(begin, at));
        begin = at;
        started = true;
      }
      if (script != 0) last = script;
      at += c.bytes;
    }
    if (started) flow.run(next, piece.part(begin, piece.text.size()));
  }

 private:
  const std::vector<uint8_t>& of_;
};

class FixedLength final : public SplitStep {
 public:
  explicit FixedLength(size_t n) : n_(n) {}
  void split(const Piece& piece, Flow& flow, size_t next) const override {
    for (size_t begin = 0; begin < piece.text.size() && !flow.failed;) {
      size_t end = begin;
      for (size_t i = 0; i < n_ && end < piece.text.size(); ++i) end += character_at(piece.text, end).bytes;
      flow.run(next, piece.part(begin, end));
      begin = end;
    }
  }

 private:
  size_t n_;
};

// Runs the rest on a text that was made out of a piece.
void run_edited(const Piece& piece, TextEdit& edit, Flow& flow, size_t next) {
  edit.finish();
  if (!edit.changed()) return flow.run(next, piece);
  const Frame frame{&edit, piece.frame, piece.at};
  flow.run(next, {edit.text(), &frame, 0, piece.first});
}

class PrefixSpace final : public SplitStep {
 public:
  void split(const Piece& piece, Flow& flow, size_t next) const override {
    if (piece.text.starts_with(' ')) return flow.run(next, piece);
    TextEdit edit(piece.text, flow.tracked);
    edit.replace(0, 0, " ");
    run_edited(piece, edit, flow, next);
  }
};

class ByteLettersStep final : public SplitStep {
 public:
  void split(const Piece& piece, Flow& flow, size_t next) const override {
    TextEdit edit(piece.text, flow.tracked);
    std::string letter;
    for (size_t i = 0; i < piece.text.size(); ++i) {
      if (is_own_letter(piece.text[i])) continue;
      letter.clear();
      append_spelling(piece.text.substr(i, 1), letter);
      edit.replace(i, i + 1, letter);
    }
    run_edited(piece, edit, flow, next);
  }
};

class BytesStep final : public SplitStep {
 public:
  void split(const Piece& piece, Flow& flow, size_t next) const override {
    TextEdit edit(piece.text, flow.tracked);
    std::string byte;
    for (size_t at = 0; at < piece.text.size();) {
      if (is_own_letter(piece.text[at])) {
        ++at;
        continue;
      }
      const size_t n = character_at(piece.text, at).bytes;
      byte.clear();
      append_spelt_bytes(piece.text.substr(at, n), byte);
      if (byte != piece.text.substr(at, n)) edit.replace(at, at + n, byte);
      at += n;
    }
    run_edited(piece, edit, flow, next);
  }
};

// Calls the rest for the parts of `text` that begin with `mark`.
template <typename Give>
void cut_before(std::string_view text, std::string_view mark, const Flow& flow, const Give& give) {
  size_t begin = 0;
  for (size_t at = text.find(mark, 1); at != text.npos && !flow.failed; at = text.find(mark, at + mark.size())) {
    give(begin, at);
    begin = at;
  }
  if (!flow.failed) give(begin, text.size());
}

class Metaspace final : public SplitStep {
 public:
  Metaspace(std::string mark, Prefix prefix, bool split) : mark_(std::move(mark)), prefix_(prefix), split_(split) {}
  void split(const Piece& piece, Flow& flow, size_t next) const override {
    const bool wanted = prefix_ == Prefix::kAlways || (prefix_ == Prefix::kFirst && piece.first);
    TextEdit edit(piece.text, flow.tracked);
    if (wanted && !piece.text.starts_with(' ') && !piece.text.starts_with(mark_)) edit.replace(0, 0, mark_);
    for (size_t at = piece.text.find(' '); at != piece.text.npos; at = piece.text.find(' ', at + 1))
      edit.replace(at, at + 1, mark_);
    edit.finish();
    const Frame frame{&edit, piece.frame, piece.at};
    const Piece whole = edit.changed() ? Piece{edit.text(), &frame, 0, piece.first} : piece;
    if (!split_) return flow.run(next, whole);
    cut_before(whole.text, mark_, flow, [&](size_t begin, size_t end) { flow.run(next, whole.part(begin, end)); });
  }

 private:
  std::string mark_;
  Prefix prefix_;
  bool split_;
};

class CutBefore final : public SplitStep {
 public:
  CutBefore(std::string mark, std::vector<uint32_t> kept) : mark_(std::move(mark)), kept_(std::move(kept)) {}
  void split(const Piece& piece, Flow& flow, size_t next) const override {
    size_t begin = 0;
    const std::string_view text = piece.text;
    for (size_t at = text.find(mark_); at != text.npos && !flow.failed;) {
      if (at > begin && !stays(text, at)) {
        flow.run(next, piece.part(begin, at));
        begin = at;
      }
      while (text.substr(at, mark_.size()) == mark_) at += mark_.size();  // a run of marks stays together
      at = text.find(mark_, at);
    }
    if (!flow.failed) flow.run(next, piece.part(begin, text.size()));
  }

 private:
  bool stays(std::string_view text, size_t at) const {
    return !kept_.empty() && std::binary_search(kept_.begin(), kept_.end(), character_before(text, at));
  }

  std::string mark_;
  std::vector<uint32_t> kept_;
};

}  // namespace

uint32_t character_before(std::string_view text, size_t at) {
  size_t begin = at - 1;
  while (begin > 0 && at - begin < 4 && (text[begin] & 0xC0) == 0x80) --begin;
  const Character c = character_at(text.substr(0, at), begin);
  return c.bytes == at - begin ? c.value : character_at("\xFF", 0).value;
}

SplitStepPtr make_scan(WordEnd word_end) { return make<Scan>(word_end); }
SplitStepPtr make_regex_split(Regex what, Behaviour behaviour, bool invert) {
  return make<RegexSplit>(std::move(what), behaviour, invert);
}
SplitStepPtr make_text_split(std::string what, Behaviour behaviour, bool invert) {
  return make<TextSplit>(std::move(what), behaviour, invert);
}
SplitStepPtr make_whitespace_split() { return make<CharacterSplit>(is_white, Behaviour::kRemoved); }
SplitStepPtr make_words() { return make<Words>(); }
SplitStepPtr make_punctuation(Behaviour behaviour) { return make<CharacterSplit>(is_punctuation, behaviour); }
SplitStepPtr make_digits(bool individual) {
  return make<CharacterSplit>(is_numeric, individual ? Behaviour::kIsolated : Behaviour::kContiguous);
}
SplitStepPtr make_delimiter_split(uint32_t character) { return make<Delimiter>(character); }
SplitStepPtr make_scripts() { return make<Scripts>(); }
SplitStepPtr make_fixed_length(size_t characters) { return make<FixedLength>(characters); }
SplitStepPtr make_prefix_space() { return make<PrefixSpace>(); }
SplitStepPtr make_byte_letters_step() { return make<ByteLettersStep>(); }
SplitStepPtr make_bytes_step() { return make<BytesStep>(); }
SplitStepPtr make_metaspace(std::string mark, Prefix prefix, bool split) {
  return make<Metaspace>(std::move(mark), prefix, split);
}
SplitStepPtr make_cut_before(std::string mark, std::vector<uint32_t> kept) {
  return make<CutBefore>(std::move(mark), std::move(kept));
}

}  // namespace fovea::tokenizers

// How a text is cut into words before the model sees it: steps, each of which cuts the pieces of the one before.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tokenizers/regex.h"
#include "fovea/tokenizers/text_edit.h"

namespace fovea::tokenizers {

// A text that was made out of a part of another, and so on to the one that was asked for.
struct Frame {
  const TextEdit* edit = nullptr;  // null: the text itself
  const Frame* parent = nullptr;
  size_t base = 0;  // of edit->source() in the parent
  size_t source_of(size_t at) const {
    for (const Frame* f = this; f; f = f->parent) at = f->base + (f->edit ? f->edit->source_of(at) : at);
    return at;
  }
};

struct Piece {
  std::string_view text;
  const Frame* frame = nullptr;
  size_t at = 0;       // of `text` in the frame's
  bool first = false;  // it begins the whole text
  Piece part(size_t begin, size_t end) const {
    return {text.substr(begin, end - begin), frame, at + begin, first && begin == 0};
  }
};

// Runs the steps after one: what a step gives its pieces to.
class Flow {
 public:
  virtual ~Flow() = default;
  virtual void run(size_t step, const Piece& piece) = 0;
  virtual void fail(Error error) = 0;
  bool failed = false;
  bool tracked = false;  // offsets are wanted
};

class SplitStep {
 public:
  virtual ~SplitStep() = default;
  // Gives its parts to flow.run(next, ...), in order. Pieces are not empty; empty parts are left out by the flow.
  virtual void split(const Piece& piece, Flow& flow, size_t next) const = 0;
};
using SplitStepPtr = std::unique_ptr<const SplitStep>;

enum class Behaviour { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };  // of what is matched

// A rule by hand: the end of the word that begins at p, which is not `end`.
using WordEnd = const char* (*)(const char* p, const char* end);

SplitStepPtr make_scan(WordEnd word_end);
SplitStepPtr make_regex_split(Regex what, Behaviour behaviour, bool invert);
SplitStepPtr make_text_split(std::string what, Behaviour behaviour, bool invert);
SplitStepPtr make_whitespace_split();  // white space goes
SplitStepPtr make_words();             // runs of \w, runs of other signs; white space goes
SplitStepPtr make_punctuation(Behaviour behaviour);
SplitStepPtr make_digits(bool individual);
SplitStepPtr make_delimiter_split(uint32_t character);  // which goes
SplitStepPtr make_scripts();                            // where the script changes
SplitStepPtr make_fixed_length(size_t characters);
SplitStepPtr make_prefix_space();       // U+0020, if it does not begin with one
SplitStepPtr make_byte_letters_step();  // bytes as the letters of byte_letters.h
SplitStepPtr make_bytes_step();         // and back
enum class Prefix { kAlways, kFirst, kNever };
// Spaces become `mark`, one is put before the text, and each word begins with one.
SplitStepPtr make_metaspace(std::string mark, Prefix prefix, bool split);
// What ends before byte `at`, which is not the first; 0xFFFFF: what is no character.
uint32_t character_before(std::string_view text, size_t at);
// Before each `mark` that follows something else, but for the characters `kept`, in rising order. For
// models of which no token has `mark` behind another character: it changes no id, and words can be remembered.
SplitStepPtr make_cut_before(std::string mark, std::vector<uint32_t> kept);

}  // namespace fovea::tokenizers

// How text is cut into words before pairs of bytes are merged; no merge crosses a cut. The rules are those published
// with the models, as regular expressions. Those in wide use are scanners written by hand (about 15 times faster);
// PCRE2 runs the others, and is the scanners' slow twin. Letters and numbers are those of the Unicode version of
// libutf8proc; a byte that is not UTF-8 counts as a symbol.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tokenizers/split_steps.h"

namespace fovea::tokenizers {

struct SplitRule {
  std::string_view expression;  // as published, for Oniguruma
  WordEnd word_end;             // the same by hand: its matches follow each other without a gap; null: PCRE2 runs it
};
// The rules that have a scanner.
std::span<const SplitRule> scanned_rules();
// Cuts at the matches of a published expression: by its scanner, if it has one.
Result<SplitStepPtr> make_rule(std::string_view expression);
extern const std::string_view kGpt2Rule;
// GPT-2's rule after each number character was cut out; as one scanner.
extern const std::string_view kSingleDigitsRule;

// What a GGUF file of the byte-level kind says in tokenizer.ggml.pre.
struct PreTokenizer {
  std::vector<std::string_view> names;
  std::vector<std::string_view> rules;  // expressions, applied one after the other
  bool whole_words_first = false;       // a word that is a token is taken whole, whatever the merges say
  bool nfc = false;                     // text is composed (Unicode NFC) before it is cut
  bool adds_bos = false;                // where the file does not say
};
// nullptr: unknown.
const PreTokenizer* find_pre_tokenizer(std::string_view name);
std::span<const PreTokenizer> pre_tokenizers();

}  // namespace fovea::tokenizers

// What is done to a text before it is cut. Each step makes a new text; a pipeline runs them in order.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "fovea/base/result.h"
#include "fovea/tokenizers/charsmap.h"
#include "fovea/tokenizers/regex.h"
#include "fovea/tokenizers/text_edit.h"
#include "fovea/tokenizers/unicode_forms.h"

namespace fovea::tokenizers {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // Replaces in edit.source() and finishes the edit. `first`: it is the beginning of the whole text. kLimit: an
  // expression that takes too long. Bytes that are not UTF-8 stay.
  virtual Status apply(TextEdit& edit, bool first) const = 0;
};
using NormalizerPtr = std::unique_ptr<const Normalizer>;

NormalizerPtr make_unicode_form(UnicodeForm form);
NormalizerPtr make_lowercase();
NormalizerPtr make_strip(bool left, bool right);  // white space
NormalizerPtr make_strip_accents();               // all marks, of text that was decomposed before
NormalizerPtr make_replace(std::string what, std::string by);
NormalizerPtr make_replace(Regex what, std::string by);
NormalizerPtr make_prepend(std::string what, bool only_first);  // unless there is nothing
NormalizerPtr make_nmt();  // control characters away, other blanks to a space, as for translation
NormalizerPtr make_byte_letters();
NormalizerPtr make_charsmap(Charsmap map, bool graphemes);
NormalizerPtr make_collapse_spaces();  // U+0020: none at the beginning and the end, one elsewhere

struct BertOptions {
  bool clean_text = true, chinese = true, strip_accents = true, lowercase = true;
};
NormalizerPtr make_bert(const BertOptions& options);

}  // namespace fovea::tokenizers

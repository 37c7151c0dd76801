// The kinds of characters that tokenizers tell apart, in the Unicode version of libutf8proc. (The packages that
// trained the vocabularies have other versions: of the newest characters they may say otherwise.)
#pragma once

#include <cstdint>

namespace fovea::tokenizers {

bool is_white(uint32_t c);            // White_Space
bool is_numeric(uint32_t c);          // Nd, Nl, No
bool is_word(uint32_t c);             // \w of Unicode's regular expressions: alphabetic, marks, Nd, Pc, joiners
bool is_punctuation(uint32_t c);      // P*, and all of ASCII that is neither letter nor digit nor space
bool is_mark(uint32_t c);             // M*
bool is_nonspacing_mark(uint32_t c);  // Mn
bool is_other(uint32_t c);            // Cc, Cf, Co
bool is_chinese(uint32_t c);          // the blocks of ideographs that BERT puts blanks around
// The lower case, without a look at its neighbours; two characters of U+0130 only.
struct LowerCase {
  uint32_t first, second;  // second 0: none
};
LowerCase lower_case(uint32_t c);

}  // namespace fovea::tokenizers

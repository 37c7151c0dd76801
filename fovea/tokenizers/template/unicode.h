// Tables that libutf8proc lacks; private to tokenizers.
#pragma once

#include <cstdint>
#include <string_view>

namespace fovea::tokenizers::jinja {

bool other_lower(uint32_t c);     // lower case, though its category is not Ll
bool other_upper(uint32_t c);     // likewise Lu
bool other_digit(uint32_t c);     // str.isdigit(), though its category is not Nd
bool numeric_letter(uint32_t c);  // str.isnumeric(), though its category is no number
bool inside_words(uint32_t c);    // punctuation and the like that does not end a word
bool no_identifier_start(uint32_t c), no_identifier_part(uint32_t c);  // though their categories say so

struct FullCase {
  uint32_t character;
  std::string_view upper, title, lower;
};
const FullCase* full_case(uint32_t c);  // null: one character in each case

}  // namespace fovea::tokenizers::jinja

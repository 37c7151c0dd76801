// Strings as Python sees them (characters are code points), over UTF-8; private to tokenizers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/tokenizers/template/str.h"

namespace fovea::tokenizers::jinja {

size_t character_bytes(std::string_view s, size_t at);  // 1 to 4; a stray byte is a character of its own
size_t count_characters(std::string_view s);
uint32_t code_point(std::string_view character);
void append_utf8(std::string& out, uint32_t code_point);
// The byte at which character `n` starts; s.size() if there are no more.
size_t byte_of(std::string_view s, size_t n);

bool is_space(uint32_t c);
bool is_letter(uint32_t c);
bool is_decimal(uint32_t c);
bool is_digit(uint32_t c);    // also superscripts
bool is_numeric(uint32_t c);  // also fractions and number words of Chinese
bool is_upper(uint32_t c);
bool is_lower(uint32_t c);
bool is_printable(uint32_t c);
bool starts_identifier(uint32_t c);
bool continues_identifier(uint32_t c);
// str.isidentifier() and its kin, of whole texts.
bool is_identifier(std::string_view s);
bool is_upper_text(std::string_view s);
bool is_lower_text(std::string_view s);
bool is_title_text(std::string_view s);

// Every character that comes of one is its owner's.
Str upper(const Str& s);
Str lower(const Str& s);
Str title(const Str& s);  // str.title(): every run of letters
Str capitalize(const Str& s);
Str swapcase(const Str& s);
Str casefold(const Str& s);
std::string_view strip(std::string_view s, const std::string* characters, bool left, bool right);
// Linear at worst, unlike std::string::find.
size_t find_text(std::string_view s, std::string_view wanted, size_t from);
std::vector<std::string_view> split_lines(std::string_view s, bool keep_ends);

}  // namespace fovea::tokenizers::jinja

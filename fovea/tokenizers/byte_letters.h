// Vocabularies spell the 256 bytes as printable characters: most of Latin-1 as itself, the others as
// U+0100 to U+0143 in order ("Ġ" is a space, "Ċ" a new line).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace fovea::tokenizers {

// Appends the bytes that `spelling` stands for and returns their number; 0, and nothing appended, if
// a character stands for none.
size_t append_spelt_bytes(std::string_view spelling, std::string& out);
void append_spelling(std::string_view bytes, std::string& out);
// What is spelt as itself, in one byte.
inline bool is_own_letter(char c) { return c > 0x20 && c < 0x7F; }

}  // namespace fovea::tokenizers

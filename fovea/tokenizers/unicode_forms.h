// Unicode's four normal forms, for the models whose text was brought into one before training: in NFC "e" and a
// combining acute are "é". Text that is in the form already, nearly all, is only looked at.
#pragma once

#include <string>
#include <string_view>

#include "fovea/tokenizers/text_edit.h"

namespace fovea::tokenizers {

enum class UnicodeForm { kNfc, kNfd, kNfkc, kNfkd };

// Invalid bytes are left alone. n log n, also on text made of combining marks only.
void normalize(UnicodeForm form, TextEdit& edit);
std::string normalized(UnicodeForm form, std::string_view text);

}  // namespace fovea::tokenizers

// The names of base's UTF-8 as the tokenizers say them.
#pragma once

#include "fovea/base/utf8.h"

namespace fovea::tokenizers {

using fovea::append_utf8;
using fovea::code_point_at;
using fovea::CodePoint;
using fovea::incomplete_tail;
using fovea::is_utf8;
using fovea::replace_invalid_utf8;

}  // namespace fovea::tokenizers

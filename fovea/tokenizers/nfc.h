// Unicode's canonical composition (NFC), for the models whose text was composed before training:
// "e" and a combining acute become "é". Text that is composed already, nearly all, is only looked at.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fovea::tokenizers {

bool is_nfc(std::string_view text);  // invalid bytes are left alone and do not count

struct ComposedText {
  std::string text;
  // Where `text` came from: from `at` on, byte by byte from `source` on; or, where `changed`, all of it
  // from the one run of characters that starts at `source`. In rising order, the first at 0.
  struct Part {
    size_t at, source;
    bool changed;
  };
  std::vector<Part> parts;
};
// n log n, also on text made of combining marks only.
ComposedText compose(std::string_view text);

}  // namespace fovea::tokenizers

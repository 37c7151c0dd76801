// From tokens back to text: what each token becomes, by its spelling and its place, and what is done to the whole.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/tokenizers/regex.h"

namespace fovea::tokenizers {

struct Place {
  bool first = false, last = false;  // of the tokens of a text
};

class TokenStep {
 public:
  virtual ~TokenStep() = default;
  virtual void apply(std::string& token, Place place) const = 0;
  virtual bool looks_at_first() const { return false; }
  virtual bool looks_at_last() const { return false; }
};
using TokenStepPtr = std::unique_ptr<const TokenStep>;

TokenStepPtr make_byte_level_decoder();
TokenStepPtr make_byte_fallback_decoder();                               // "<0x0A>" is a byte
TokenStepPtr make_metaspace_decoder(std::string mark, bool has_prefix);  // which goes with the first token
TokenStepPtr make_word_piece_decoder(std::string inner_mark, bool cleanup);
TokenStepPtr make_join_decoder();                         // a space between tokens
TokenStepPtr make_suffix_decoder(std::string last_mark);  // which is a space, but at the end
TokenStepPtr make_replace_decoder(std::string what, std::string by);
TokenStepPtr make_replace_decoder(Regex what, std::string by);
TokenStepPtr make_strip_decoder(std::string character, size_t start, size_t stop);
TokenStepPtr make_ctc_decoder(std::string pad, std::string word_delimiter, bool cleanup);

struct Decoder {
  std::vector<TokenStepPtr> tokens;
  std::vector<TokenStepPtr> whole;  // on the joined text
  // The same as the first step of `whole`, if that takes characters from the ends: for texts that come in parts.
  std::string strip;
  size_t strip_start = 0, strip_stop = 0;
  bool drops_repeats = false;  // of neighbours that are the same token, one is heard

  std::string text_of(std::string_view spelling, Place place) const;
  bool looks_at_first() const;
  bool looks_at_last() const;
};

}  // namespace fovea::tokenizers

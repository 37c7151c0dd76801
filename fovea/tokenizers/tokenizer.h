// Text to token ids and back, by whatever a model's files say: byte-level pairs, SentencePiece, WordPiece, lists of
// words. What happens on the way is a Pipeline (pipeline.h).
//
// decode(encode(text)) is `text` where the model keeps all of it. It does not where it normalises (BERT has no
// capitals, Qwen composes), has no token for a byte or a character, or begins each text with a space.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tokenizers/vocabulary.h"

namespace fovea::tokenizers {

struct EncodeOptions {
  bool add_special = true;     // bos and eos, where the model wants them
  bool parse_special = false;  // "<|im_end|>" in the text becomes the token; else it is plain text
  bool continues = false;      // it is the rest of a text: what only a beginning gets is left out
};

// A special token in a text, with the white space that goes with it.
struct SpecialAt {
  size_t begin = 0, end = 0;
  int32_t id = -1;
};

class Tokenizer {
 public:
  static constexpr size_t kMaxTextBytes = size_t{256} << 20;

  // kUnsupported: a kind, a pre-tokeniser, a part of a tokenizer.json that is not known, by its place; kData: a merge
  // of missing tokens, a token twice, an id out of range.
  static Result<std::shared_ptr<const Tokenizer>> create(const Vocabulary& vocabulary);
  ~Tokenizer();

  // Any bytes: invalid UTF-8 counts as characters of a byte each. Time grows as n log n at worst, memory by 20 bytes
  // a byte of a word. User-defined tokens (Qwen's <tool_call>) are text that is always read whole; control
  // tokens only if `parse_special`. `offsets`, if given, gets the byte of `text` at which each token starts (specials
  // added around: 0 and size; in characters that normalising changed, their start). Many threads may call. kLimit: over
  // kMaxTextBytes of text, or a regular expression that takes too long on it.
  Result<std::vector<int32_t>> encode(std::string_view text, const EncodeOptions& options = {},
                                      std::vector<uint32_t>* offsets = nullptr) const;
  // The special tokens of a text, control tokens too, in order.
  std::vector<SpecialAt> find_special(std::string_view text) const;
  // The bytes of the tokens; control, unknown and unused tokens give nothing unless `special`. kUsage names an id out
  // of range with its index.
  Result<std::string> decode(std::span<const int32_t> ids, bool special = false) const;

  // Its bytes inside a text; a control token's spelling. Precondition: id in range.
  std::string_view piece(int32_t id) const;
  int32_t vocab_size() const;
  bool is_control(int32_t id) const;              // or unknown, or unused: not part of a text
  bool ends_text(int32_t id) const;               // eos, eot, eom: generation stops here
  bool has_end() const;                           // some token does
  int32_t find(std::string_view spelling) const;  // of a control or user-defined token; -1: none
  int32_t bos() const;                            // -1: none, as of the others
  int32_t eos() const;
  int32_t unknown() const;
  int32_t padding() const;

  struct Impl;

 private:
  friend class StreamDecoder;
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

// Joins the tokens of an answer as they come, to what decode() makes of all: gives whole characters only.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  std::string push(int32_t id);  // the characters that are now complete; invalid bytes as U+FFFD
  std::string finish();          // what was held back, as U+FFFD

 private:
  void add(int32_t id, bool last);
  std::string take(size_t kept);

  const Tokenizer& tokenizer_;
  std::string held_;
  bool first_ = true;
  int32_t before_ = -1, delayed_ = -1;
  size_t stripped_ = 0;
};

}  // namespace fovea::tokenizers

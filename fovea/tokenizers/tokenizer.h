// Text to token ids and back: byte-level byte-pair encoding as model files carry it.
// Sennrich et al., arXiv:1508.07909; bytes as characters: Radford et al., "Language Models are
// Unsupervised Multitask Learners", 2.2.
//
// decode(encode(text)) is `text`, byte for byte, but for two things that the models' own tokenizers
// do to it: qwen2 composes it first (Unicode NFC; a model file does not say so, its published
// tokenizer does), and a byte that has no token is dropped (SmolLM2 lacks six control characters).
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
};

class Tokenizer {
 public:
  static constexpr size_t kMaxTextBytes = size_t{256} << 20;

  // kUnsupported: another kind or an unknown pre-tokeniser; kData: a merge of missing tokens, a
  // token twice, an id out of range.
  static Result<std::shared_ptr<const Tokenizer>> create(const Vocabulary& vocabulary);
  ~Tokenizer();

  // Any bytes: invalid UTF-8 goes through as bytes. Time grows as n log n at worst, memory by 12 bytes
  // a byte of a word. User-defined tokens (Qwen's <tool_call>) are text that is always read whole; control
  // tokens only if `parse_special`. `offsets`, if given, gets the byte of `text` at which each token
  // starts (specials added around: 0 and size; inside a run of characters that were composed, the run's
  // start). Many threads may call. kLimit: over kMaxTextBytes of text.
  Result<std::vector<int32_t>> encode(std::string_view text, const EncodeOptions& options = {},
                                      std::vector<uint32_t>* offsets = nullptr) const;
  // The bytes of the tokens; control, unknown and unused tokens give nothing unless `special`. kUsage names an id out
  // of range with its index.
  Result<std::string> decode(std::span<const int32_t> ids, bool special = false) const;

  std::string_view piece(int32_t id) const;  // its bytes; a control token's spelling. Precondition: id in range
  int32_t vocab_size() const;
  bool is_control(int32_t id) const;              // or unknown, or unused: not part of a text
  bool ends_text(int32_t id) const;               // eos, eot, eom: generation stops here
  int32_t find(std::string_view spelling) const;  // of a control or user-defined token; -1: none
  int32_t bos() const;
  int32_t eos() const;

  struct Impl;

 private:
  explicit Tokenizer(std::unique_ptr<const Impl> impl);
  std::unique_ptr<const Impl> impl_;
};

// Joins the tokens of an answer as they come: gives whole characters only, whatever the cut.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  std::string push(int32_t id);  // the characters that are now complete; invalid bytes as U+FFFD
  std::string finish();          // what was held back, as U+FFFD

 private:
  const Tokenizer& tokenizer_;
  std::string held_;
};

}  // namespace fovea::tokenizers

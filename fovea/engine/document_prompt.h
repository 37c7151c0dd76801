// The prompt in which a model reads documents and answers a question about them, and which of its
// tokens are text of which document: what evidence is collected over.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fovea/attention/method.h"  // for Span
#include "fovea/base/result.h"
#include "fovea/engine/chat.h"
#include "fovea/engine/document.h"
#include "fovea/formats/source.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::engine {

struct DocumentPrompt {
  static constexpr int32_t kNoDocument = -1;
  struct Place {
    int32_t document = kNoDocument;
    uint32_t begin = 0, end = 0;  // bytes of that document's text
  };
  std::vector<int32_t> tokens;
  std::vector<Place> places;  // [tokens]
  size_t n_shared = 0;        // tokens before the question: another question's prompt begins with them too
  // "segment 0", "segment 1"...: each document with its name and what parts it from the next, one after the other.
  std::vector<attention::Span> segments = {};
};

// The documents, then the question, in the chat template of the file; as plain text where the file has
// none, or where the template changes what is put into it. The documents come first, so that several
// questions about them share a prefix.
Result<DocumentPrompt> make_document_prompt(const formats::ModelSource& source, const tokenizers::Tokenizer& tokenizer,
                                            std::span<const Document> documents, const std::string& question);
// A conversation about them. `turns`: question, answer, question, ..., a question last. `system` in place of the
// message that asks for short answers with the words of the text, if it is not empty. n_shared: as above, of the first
// question. `chat`: what the template gets beside them; what it says of those is an error then, never plain text.
Result<DocumentPrompt> make_document_prompt(const formats::ModelSource& source, const tokenizers::Tokenizer& tokenizer,
                                            std::span<const Document> documents, std::span<const std::string> turns,
                                            const std::string& system, const engine::ChatOptions& chat = {});

}  // namespace fovea::engine

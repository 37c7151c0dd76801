// What of a long text is worth reading again: the lines that an answer came from, widened to paragraphs, merged where
// they meet, and no more of them than may be read.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fovea/engine/document_prompt.h"
#include "fovea/probe/evidence/evidence.h"

namespace fovea::probe {

struct PassageOptions {
  size_t max_tokens = 900;   // of all passages together
  size_t most_tokens = 100;  // of one: what is longer (a paragraph of a licence) is cut at lines around the evidence
  size_t least_tokens = 40;  // of one: what is shorter (a heading, an entry of a list) takes in what stands beside it
  size_t besides = 0;        // tokens that are read with each, and count among max_tokens
  int max_passages = 8;
};

struct Passage {
  int32_t document = 0;
  size_t begin = 0, end = 0;         // bytes of that document's text: whole lines, but for parts of a very long one
  int line_start = 0, line_end = 0;  // from 1
  size_t n_tokens = 0;               // in the prompt that was read first
  double score = 0;                  // of the evidence in it
};

// In the order of the text. `spans`: the best first. `prompt`: of these documents; it says how long a passage is.
std::vector<Passage> passages_of(std::span<const engine::Document> documents, const engine::DocumentPrompt& prompt,
                                 std::span<const EvidenceSpan> spans, const PassageOptions& options = {});

}  // namespace fovea::probe

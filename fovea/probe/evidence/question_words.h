// Paragraphs that have the rare words of a question: where to look besides the places that the heads looked at.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "fovea/engine/document.h"
#include "fovea/probe/evidence/evidence.h"

namespace fovea::probe {

// At most `n`, the best first; each a paragraph, or some lines of a long one, that has a word of the question. `score`
// is 0: no head has to do with it. Words count by how few paragraphs have them (BM25, Robertson and Zaragoza,
// "The Probabilistic Relevance Framework", 2009, with k1 = 1, b = 0.7), without the endings of English.
std::vector<EvidenceSpan> spans_by_words(std::span<const engine::Document> documents, const std::string& question,
                                         int n);

}  // namespace fovea::probe

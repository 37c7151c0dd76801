// Where an answer came from: while a model answers a question about documents, the rows of its
// retrieval heads (arXiv:2404.15574) are folded into one number per document token, and afterwards
// into the lines that hold most of it. Only those heads' rows are made, and kept only until their token is known.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fovea/attention/attend.h"
#include "fovea/engine/document_prompt.h"
#include "fovea/probe/measures/retrieval.h"  // head_id

namespace fovea::probe {

struct EvidenceOptions {
  int n_heads = 12;        // the best retrieval heads, weighted by their scores
  double uncopied = 0.25;  // weight of a key that is not the token the step gave; of one that is: 1
  double neighbour = 0.2;  // a line next to a span joins it with this share of the span's best line
  int max_units = 4;       // lines of a span at most
  int max_spans = 5;
  double least = 0.02;  // spans below this share of the whole are left out, but for the first
};

struct EvidenceSpan {
  int32_t document = 0;
  int line_start = 0, line_end = 0;  // from 1, both within the span
  std::string text;                  // of those lines, from the beginning of a sentence to the end of one
  double score = 0;                  // share of what the heads gave to all documents, 0 to 1
  size_t begin = 0, end = 0;         // of `text`: bytes of the document
};

class Evidence final : public attention::RowObserver {
 public:
  // `profile` null, or without retrieval scores: every head counts the same. The prompt must outlive this.
  Evidence(const attention::ModelShape& shape, const attention::HeadProfile* profile,
           const engine::DocumentPrompt& prompt, const EvidenceOptions& options = {});

  bool wants(int layer, int head, bool) const override { return slots_[head_id(layer, head, n_heads_)] >= 0; }
  void see(const attention::RowView& row, std::span<const float> pattern) override;
  // The next token of the answer: the row of the position before it is folded in. The first token is given by the
  // prompt's last row. Rows may be seen ahead, of tokens that are only a draft: one seen again replaces the former.
  void take(int32_t token);
  size_t bytes_per_row() const { return rows_.size() * mass_.size() * sizeof(float); }  // kept of each row seen ahead

  const std::vector<double>& mass() const { return mass_; }  // [prompt tokens]; 0 outside the documents
  std::vector<EvidenceSpan> spans(std::span<const engine::Document> documents) const {
    return spans(documents, options_.max_spans, options_.least);
  }
  std::vector<EvidenceSpan> spans(std::span<const engine::Document> documents, int max_spans, double least) const;

 private:
  const engine::DocumentPrompt& prompt_;
  EvidenceOptions options_;
  int n_heads_;
  std::vector<int> slots_;       // [n_layers * n_heads]; -1: not looked at
  std::vector<double> weights_;  // [slots]
  // [slots][row][prompt tokens]: row 0 gives the next token, the others stand ahead of it
  std::vector<std::vector<std::vector<float>>> rows_;
  std::vector<double> mass_;
  int32_t n_taken_ = 0;
};

}  // namespace fovea::probe

// What one forward pass works on: tokens of one or many sequences, with explicit positions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fovea/base/check.h"

namespace fovea::attention {

using SequenceId = int32_t;

// Row i is tokens[i] at positions[i] of sequences[i]. Rows of one sequence are adjacent and their
// positions rise.
struct Batch {
  std::vector<int32_t> tokens;
  std::vector<int32_t> positions;
  std::vector<SequenceId> sequences;
  std::vector<bool> decoding;       // the row follows a generated token, not a prompt
  std::vector<int32_t> logit_rows;  // rows whose logits are wanted, rising

  void clear() {  // keeps the memory
    tokens.clear(), positions.clear(), sequences.clear(), decoding.clear(), logit_rows.clear();
  }
  int64_t size() const { return static_cast<int64_t>(tokens.size()); }

  void add(std::span<const int32_t> new_tokens, int32_t first_position, SequenceId sequence, bool is_decoding = false) {
    FOVEA_CHECK(first_position >= 0, "batch: position {} is negative", first_position);
    for (int32_t token : new_tokens) {
      tokens.push_back(token);
      positions.push_back(first_position++);
      sequences.push_back(sequence);
      decoding.push_back(is_decoding);
    }
  }
};

}  // namespace fovea::attention

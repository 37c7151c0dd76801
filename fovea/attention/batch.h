// What one forward pass works on: tokens of one or many sequences, with explicit positions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "fovea/base/check.h"

namespace fovea::attention {

using SequenceId = int32_t;

// What a row is: of a prompt of which more follows, of its last part, or of a generated token.
enum class Phase : uint8_t { kPrompt, kPromptEnd, kDecode };

// Row i is tokens[i] at positions[i] of sequences[i]. Rows of one sequence are adjacent and their
// positions rise.
struct Batch {
  std::vector<int32_t> tokens;
  std::vector<int32_t> positions;
  std::vector<SequenceId> sequences;
  std::vector<Phase> phases;
  std::vector<int32_t> logit_rows;  // rows whose logits are wanted, rising

  void clear() {  // keeps the memory
    tokens.clear(), positions.clear(), sequences.clear(), phases.clear(), logit_rows.clear();
  }
  int64_t size() const { return static_cast<int64_t>(tokens.size()); }

  void add(std::span<const int32_t> new_tokens, int32_t first_position, SequenceId sequence,
           Phase phase = Phase::kPrompt) {
    FOVEA_CHECK(first_position >= 0, "batch: position {} is negative", first_position);
    for (int32_t token : new_tokens) {
      tokens.push_back(token);
      positions.push_back(first_position++);
      sequences.push_back(sequence);
      phases.push_back(phase);
    }
  }
};

}  // namespace fovea::attention

// Lookup decoding: where an answer repeats what was read (a quotation, a name, code), the tokens that followed there
// are drafted, and the model checks the whole draft in one pass. A draft never changes an answer, only its speed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace fovea::engine {

// Where the last few tokens of a text stood before. A token costs the same however long the text is.
class LookupIndex {
 public:
  static constexpr int kMinMatch = 1, kMaxMatch = 4;  // tokens that must agree to be found; the longest first
  static constexpr int kLongMatch = 16;               // as far back as an agreement is measured

  // Tables for texts of about n_tokens; in a longer one the oldest places are forgotten.
  explicit LookupIndex(size_t n_tokens);
  void push(int32_t token);

  struct Draft {
    std::vector<int32_t> tokens;
    int match = 0;  // how many tokens before the draft agree, up to kLongMatch; 0: nothing was found
  };
  // The `most` tokens that followed the most recent of the longest agreements with the end of the text. One that
  // overlaps the end goes on in its period.
  void find(size_t most, Draft& draft) const;

 private:
  size_t slot(int n, size_t end) const;  // of the n tokens before `end`
  bool agree(int n, size_t a, size_t b) const;

  std::vector<int32_t> tokens_;
  size_t mask_;
  std::array<std::vector<int32_t>, kMaxMatch + 1> follows_;  // [n][hash]: where n tokens ended last; 0: nowhere
};

// How much of a draft is worth checking, from what drafts and passes of several tokens have cost and brought so far.
class DraftLength {
 public:
  static constexpr int kMost = 16;

  DraftLength();
  // 0 to n_found tokens of a draft behind `match` agreeing ones.
  int choose(int match, int n_found) const;
  void learn_pass(int n_tokens, double seconds);
  void learn_token(int match, bool accepted);  // of a drafted token behind `match` agreeing ones

 private:
  std::array<double, LookupIndex::kLongMatch + 1> accepted_;  // [match]: the share of drafted tokens that came
  std::array<double, kMost + 2> ratio_;                       // [n_tokens]: seconds of a pass, over those of one token
  double one_ = 0;                                            // seconds of one token; 0: not known
};

}  // namespace fovea::engine

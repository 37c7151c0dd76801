// Regular expressions of a tokenizer.json, which are written for Oniguruma, run by PCRE2: within a budget of steps,
// memory and time, whatever the expression.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::tokenizers {

// The expression in the words of PCRE2. kUnsupported: intersections of sets, sets with inner complements, and what
// PCRE2 has no words for.
Result<std::string> to_pcre2(std::string_view oniguruma);

class Regex {
 public:
  static constexpr size_t kMaxBytes = 64 << 10;  // of an expression

  // kLimit, kUnsupported; the message says where in the expression.
  static Result<Regex> create(std::string_view oniguruma);

  // Finds the matches of one text, in order; none overlaps the one before, none is empty at its end.
  class Matches {
   public:
    Matches(const Regex& regex, std::string_view text);
    ~Matches();
    Matches(const Matches&) = delete;
    Matches& operator=(const Matches&) = delete;
    // False: there are no more, or it took too long, which status() tells: kLimit.
    bool next(size_t& begin, size_t& end);
    const Status& status() const { return status_; }

   private:
    struct State;
    bool is_late();
    const Regex& regex_;
    std::string_view text_;
    std::string shown_;  // the text with a control character in place of each invalid byte
    size_t from_ = 0, last_end_ = SIZE_MAX;
    size_t n_matches_ = 0;
    std::chrono::steady_clock::time_point deadline_;
    std::unique_ptr<State> state_;
    Status status_;
  };

 private:
  Regex() = default;
  std::shared_ptr<const void> code_;
};

}  // namespace fovea::tokenizers

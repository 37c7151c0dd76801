// The only string of the interpreter: bytes, and who wrote each of them. Every operation carries that along, and
// bytes become a Str only together with their owner. Private to tokenizers.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/tokenizers/chat_template.h"

namespace fovea::tokenizers::jinja {

class Str {
 public:
  Str() = default;
  Str(std::string_view bytes, Owner owner) : bytes_(bytes), owner_(owner) {}

  const std::string& bytes() const { return bytes_; }  // to read, compare and search; what is made of them has an owner
  std::string_view view() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }

  Owner owner_at(size_t byte) const;  // also past the end: the last byte's
  // Whose a text is that mixes this one's bytes up: the template's only if every byte is.
  Owner blend() const;
  // What a copy of [begin, end) costs.
  int64_t cost(size_t begin, size_t end) const;

  Str substr(size_t begin, size_t n = std::string::npos) const;
  void append(std::string_view bytes, Owner owner);
  void append(const Str& other, size_t begin = 0, size_t n = std::string::npos);
  void reserve(size_t bytes) { bytes_.reserve(bytes); }
  // f(begin, end, owner) for each stretch of one owner in [begin, end).
  template <typename F>
  void for_each_run(size_t begin, size_t end, const F& f) const {
    end = std::min(end, size());
    if (begin >= end) return;
    if (runs_.empty()) return f(begin, end, owner_);
    for (size_t i = run_of(begin); begin < end; ++i) {
      const size_t stop = std::min(end, runs_[i].end);
      f(begin, stop, runs_[i].owner);
      begin = stop;
    }
  }

  std::vector<Run> runs() const;  // none of an empty text

 private:
  size_t run_of(size_t byte) const;

  std::string bytes_;
  Owner owner_ = kTemplate;  // of all of it, where runs_ is empty
  std::vector<Run> runs_;    // else by their ends, neighbours differ, the last ends with the text
};

inline bool operator==(const Str& a, const Str& b) { return a.bytes() == b.bytes(); }
inline Owner blend(Owner a, Owner b) { return a == kTemplate ? b : a; }

}  // namespace fovea::tokenizers::jinja

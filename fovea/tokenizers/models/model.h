// What turns a word into tokens. Words are what normalising and pre-tokenising have left of a text.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace fovea::tokenizers {

// The tokens of a word: ids, and where in the word each starts.
struct WordTokens {
  std::vector<int32_t> ids;
  std::vector<uint32_t> starts;
  void add(int32_t id, size_t start) {
    ids.push_back(id);
    starts.push_back(static_cast<uint32_t>(start));
  }
  void clear() {
    ids.clear();
    starts.clear();
  }
};

class Model {
 public:
  struct Scratch {
    virtual ~Scratch() = default;
  };
  virtual ~Model() = default;
  virtual std::unique_ptr<Scratch> make_scratch() const = 0;
  // Adds to `out`. A word is not empty, and may be of any bytes: what is not UTF-8 counts as characters of a byte each.
  // Time n log n at worst.
  virtual void encode(std::string_view word, Scratch& scratch, WordTokens& out) const = 0;
};

}  // namespace fovea::tokenizers

// A text made out of another by replacing stretches of it, and where its bytes came from.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace fovea::tokenizers {

class TextEdit {
 public:
  // The source outlives this. Untracked, source_of() may not be called.
  TextEdit(std::string_view source, bool tracked) : source_(source), tracked_(tracked) {}

  // Bytes [begin, end) of the source become `by`. Calls come in the order of the source.
  void replace(size_t begin, size_t end, std::string_view by);
  void finish() {
    if (changed_) text_.append(source_.substr(copied_));
    copied_ = source_.size();
  }

  bool changed() const { return changed_; }
  std::string_view source() const { return source_; }
  std::string_view text() const { return changed_ ? std::string_view(text_) : source_; }  // after finish()
  // The byte of the source that byte `at` of the text came from; of a replaced stretch, its first.
  size_t source_of(size_t at) const;

 private:
  struct Part {  // from `at` on: byte by byte from `source` on, or, where `fixed`, all from there
    size_t at, source;
    bool fixed;
  };
  std::string_view source_;
  bool tracked_, changed_ = false;
  size_t copied_ = 0;
  std::string text_;
  std::vector<Part> parts_;
};

}  // namespace fovea::tokenizers

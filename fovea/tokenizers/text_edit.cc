#include "fovea/tokenizers/text_edit.h"

#include <algorithm>

namespace fovea::tokenizers {

void TextEdit::replace(size_t begin, size_t end, std::string_view by) {
  if (!changed_) {
    changed_ = true;
    text_.reserve(source_.size() + source_.size() / 8 + by.size());
    if (tracked_ && begin > 0) parts_.push_back({0, 0, false});
  }
  text_.append(source_, copied_, begin - copied_);
  copied_ = end;
  if (tracked_) {
    if (!parts_.empty() && parts_.back().at == text_.size()) parts_.pop_back();
    if (!by.empty()) parts_.push_back({text_.size(), begin, true});
    parts_.push_back({text_.size() + by.size(), end, false});
  }
  text_.append(by);
}

size_t TextEdit::source_of(size_t at) const {
  if (!changed_) return at;
  const auto after =
      std::upper_bound(parts_.begin(), parts_.end(), at, [](size_t a, const Part& p) { return a < p.at; });
  if (after == parts_.begin()) return at;
  const Part& part = after[-1];
  return part.source + (part.fixed ? 0 : at - part.at);
}

}  // namespace fovea::tokenizers

#include "fovea/tokenizers/testing/slow_tokenizer.h"

#include "fovea/tokenizers/byte_letters.h"
#include "fovea/tokenizers/nfc.h"

namespace fovea::tokenizers {

Result<SlowTokenizer> SlowTokenizer::create(const Vocabulary& v) {
  const PreTokenizer* pre = find_pre_tokenizer(v.pre);
  if (!pre) return make_error(ErrorCode::kUnsupported, "no pre-tokenizer {}", v.pre);
  FOVEA_ASSIGN_OR_RETURN(RegexSplitter splitter, RegexSplitter::create(pre->expression));
  SlowTokenizer slow(std::move(splitter));
  slow.pre_ = pre;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const TokenType type = v.types.empty() ? TokenType::kNormal : v.types[i];
    const bool text = type == TokenType::kNormal || type == TokenType::kUndefined || type == TokenType::kByte;
    if (text) slow.ids_.emplace(v.tokens[i], static_cast<int32_t>(i));
  }
  for (size_t i = 0; i < v.merges.size(); ++i) {
    std::string both(v.merges[i]);
    both.erase(both.find(' ', 1), 1);
    if (slow.ids_.count(both)) slow.ranks_.emplace(v.merges[i], i);
  }
  return slow;
}

void SlowTokenizer::encode_word(std::string_view word, std::vector<int32_t>& ids) const {
  std::vector<std::string> parts;
  std::string whole;
  for (const char byte : word) {
    std::string letter;
    append_spelling({&byte, 1}, letter);
    whole += letter;
    if (ids_.count(letter)) parts.push_back(std::move(letter));
  }
  if (const auto it = ids_.find(whole); pre_->whole_words_first && it != ids_.end()) return ids.push_back(it->second);
  for (;;) {
    size_t best = SIZE_MAX, at = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto it = ranks_.find(parts[i] + " " + parts[i + 1]);
      if (it != ranks_.end() && it->second < best) best = it->second, at = i;
    }
    if (best == SIZE_MAX) break;
    parts[at] += parts[at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
  }
  for (const std::string& part : parts) ids.push_back(ids_.at(part));
}

Result<std::vector<int32_t>> SlowTokenizer::encode(std::string_view text) const {
  const std::string composed = pre_->nfc ? compose(text).text : std::string(text);
  FOVEA_ASSIGN_OR_RETURN(const std::vector<size_t> ends, splitter_.split(composed));
  std::vector<int32_t> ids;
  size_t begin = 0;
  for (const size_t end : ends) {
    encode_word(std::string_view(composed).substr(begin, end - begin), ids);
    begin = end;
  }
  return ids;
}

}  // namespace fovea::tokenizers

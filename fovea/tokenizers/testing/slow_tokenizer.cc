#include "fovea/tokenizers/testing/slow_tokenizer.h"

#include "fovea/tokenizers/byte_letters.h"
#include "fovea/tokenizers/unicode_forms.h"

namespace fovea::tokenizers {

Result<SlowTokenizer> SlowTokenizer::create(const Vocabulary& v) {
  const PreTokenizer* pre = find_pre_tokenizer(v.pre);
  if (!pre) return make_error(ErrorCode::kUnsupported, "no pre-tokenizer {}", v.pre);
  SlowTokenizer slow;
  FOVEA_ASSIGN_OR_RETURN(slow.rules_, slow_rules(pre->rules));
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
  const std::string composed = pre_->nfc ? normalized(UnicodeForm::kNfc, text) : std::string(text);
  FOVEA_ASSIGN_OR_RETURN(const auto words, slow_words(rules_, composed));
  std::vector<int32_t> ids;
  for (const std::string_view word : words) encode_word(word, ids);
  return ids;
}

Result<std::vector<Regex>> slow_rules(const std::vector<std::string_view>& expressions) {
  std::vector<Regex> out;
  for (const std::string_view expression : expressions) {
    FOVEA_ASSIGN_OR_RETURN(Regex regex, Regex::create(expression));
    out.push_back(std::move(regex));
  }
  return out;
}

Result<std::vector<std::string_view>> slow_words(const std::vector<Regex>& rules, std::string_view text) {
  std::vector<std::string_view> words = {text};
  for (const Regex& rule : rules) {
    std::vector<std::string_view> parts;
    const auto add = [&parts](std::string_view part) {
      if (!part.empty()) parts.push_back(part);
    };
    for (const std::string_view word : words) {
      size_t at = 0;
      Regex::Matches matches(rule, word);
      for (size_t begin = 0, end = 0; matches.next(begin, end); at = end) {
        add(word.substr(at, begin - at));
        add(word.substr(begin, end - begin));
      }
      FOVEA_RETURN_IF_ERROR(matches.status());
      add(word.substr(at));
    }
    words = std::move(parts);
  }
  return words;
}

}  // namespace fovea::tokenizers

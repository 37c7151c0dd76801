#include "fovea/tokenizers/decoder.h"

#include <algorithm>

#include "fovea/tokenizers/byte_letters.h"
#include "fovea/tokenizers/text_edit.h"

namespace fovea::tokenizers {
namespace {

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  if (what.empty()) return;
  size_t at = text.find(what);
  if (at == text.npos) return;
  std::string out;
  size_t from = 0;
  for (; at != text.npos; at = text.find(what, from)) {
    out.append(text, from, at - from).append(by);
    from = at + what.size();
  }
  text = out.append(text, from);
}

// English put together again: no space before marks and shortened words.
void clean_up(std::string& text) {
  constexpr std::pair<std::string_view, std::string_view> kPairs[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [what, by] : kPairs) replace_all(text, what, by);
}

class ByteLevel final : public TokenStep {
 public:
  void apply(std::string& token, Place) const override {
    std::string bytes;
    if (append_spelt_bytes(token, bytes) > 0) token = std::move(bytes);
  }
};

class ByteFallback final : public TokenStep {
 public:
  void apply(std::string& token, Place) const override {
    if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return;
    const auto digit = [](char c) {
      return c >= '0' && c <= '9'   ? c - '0'
             : c >= 'A' && c <= 'F' ? c - 'A' + 10
             : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                    : -1;
    };
    const int high = digit(token[3]), low = digit(token[4]);
    if (high >= 0 && low >= 0) token.assign(1, static_cast<char>(high << 4 | low));
  }
};

class MetaspaceStep final : public TokenStep {
 public:
  MetaspaceStep(std::string mark, bool has_prefix) : mark_(std::move(mark)), has_prefix_(has_prefix) {}
  void apply(std::string& token, Place place) const override {
    replace_all(token, mark_, place.first && has_prefix_ ? "" : " ");
  }
  bool looks_at_first() const override { return has_prefix_; }

 private:
  std::string mark_;
  bool has_prefix_;
};

class WordPieceStep final : public TokenStep {
 public:
  WordPieceStep(std::string mark, bool cleanup) : mark_(std::move(mark)), cleanup_(cleanup) {}
  void apply(std::string& token, Place place) const override {
    if (!place.first) {
      if (token.starts_with(mark_)) {
        token.erase(0, mark_.size());
      } else {
        token.insert(0, " ");
      }
    }
    if (cleanup_) clean_up(token);
  }
  bool looks_at_first() const override { return true; }

 private:
  std::string mark_;
  bool cleanup_;
};

class Join final : public TokenStep {
 public:
  void apply(std::string& token, Place place) const override {
    if (!place.first) token.insert(0, " ");
  }
  bool looks_at_first() const override { return true; }
};

class Suffix final : public TokenStep {
 public:
  explicit Suffix(std::string mark) : mark_(std::move(mark)) {}
  void apply(std::string& token, Place place) const override { replace_all(token, mark_, place.last ? "" : " "); }
  bool looks_at_last() const override { return true; }

 private:
  std::string mark_;
};

class ReplaceTextStep final : public TokenStep {
 public:
  ReplaceTextStep(std::string what, std::string by) : what_(std::move(what)), by_(std::move(by)) {}
  void apply(std::string& token, Place) const override { replace_all(token, what_, by_); }

 private:
  std::string what_, by_;
};

class ReplaceRegexStep final : public TokenStep {
 public:
  ReplaceRegexStep(Regex what, std::string by) : what_(std::move(what)), by_(std::move(by)) {}
  void apply(std::string& token, Place) const override {
    TextEdit edit(token, false);
    Regex::Matches matches(what_, token);
    for (size_t begin = 0, end = 0; matches.next(begin, end);) edit.replace(begin, end, by_);
    edit.finish();
    if (matches.status() && edit.changed()) token = std::string(edit.text());
  }

 private:
  Regex what_;
  std::string by_;
};

class StripStep final : public TokenStep {
 public:
  StripStep(std::string character, size_t start, size_t stop) : c_(std::move(character)), start_(start), stop_(stop) {}
  void apply(std::string& token, Place) const override {
    size_t begin = 0, end = token.size();
    for (size_t i = 0; i < start_ && token.compare(begin, c_.size(), c_) == 0; ++i) begin += c_.size();
    for (size_t i = 0; i < stop_ && end >= begin + c_.size() && token.compare(end - c_.size(), c_.size(), c_) == 0; ++i)
      end -= c_.size();
    token = token.substr(begin, end - begin);
  }

 private:
  std::string c_;
  size_t start_, stop_;
};

class Ctc final : public TokenStep {
 public:
  Ctc(std::string pad, std::string delimiter, bool cleanup)
      : pad_(std::move(pad)), delimiter_(std::move(delimiter)), cleanup_(cleanup) {}
  void apply(std::string& token, Place) const override {
    replace_all(token, pad_, "");
    if (!cleanup_) return;
    clean_up(token);
    replace_all(token, delimiter_, " ");
  }

 private:
  std::string pad_, delimiter_;
  bool cleanup_;
};

}  // namespace

TokenStepPtr make_byte_level_decoder() { return std::make_unique<ByteLevel>(); }
TokenStepPtr make_byte_fallback_decoder() { return std::make_unique<ByteFallback>(); }
TokenStepPtr make_metaspace_decoder(std::string mark, bool has_prefix) {
  return std::make_unique<MetaspaceStep>(std::move(mark), has_prefix);
}
TokenStepPtr make_word_piece_decoder(std::string inner_mark, bool cleanup) {
  return std::make_unique<WordPieceStep>(std::move(inner_mark), cleanup);
}
TokenStepPtr make_join_decoder() { return std::make_unique<Join>(); }
TokenStepPtr make_suffix_decoder(std::string last_mark) { return std::make_unique<Suffix>(std::move(last_mark)); }
TokenStepPtr make_replace_decoder(std::string what, std::string by) {
  return std::make_unique<ReplaceTextStep>(std::move(what), std::move(by));
}
TokenStepPtr make_replace_decoder(Regex what, std::string by) {
  return std::make_unique<ReplaceRegexStep>(std::move(what), std::move(by));
}
TokenStepPtr make_strip_decoder(std::string character, size_t start, size_t stop) {
  return std::make_unique<StripStep>(std::move(character), start, stop);
}
TokenStepPtr make_ctc_decoder(std::string pad, std::string word_delimiter, bool cleanup) {
  return std::make_unique<Ctc>(std::move(pad), std::move(word_delimiter), cleanup);
}

std::string Decoder::text_of(std::string_view spelling, Place place) const {
  std::string token(spelling);
  for (const TokenStepPtr& step : tokens) step->apply(token, place);
  return token;
}
bool Decoder::looks_at_first() const {
  return std::any_of(tokens.begin(), tokens.end(), [](const TokenStepPtr& s) { return s->looks_at_first(); });
}
bool Decoder::looks_at_last() const {
  return std::any_of(tokens.begin(), tokens.end(), [](const TokenStepPtr& s) { return s->looks_at_last(); });
}

}  // namespace fovea::tokenizers

// passkey-words: prose with "keys" (10) passkeys of "words" (32) words of the spelling alphabet each, told at random
// places between 5 and 95 % of it and asked for behind it, one after the other. The prose is that of the files in
// "prose" (this machine's licences), from anywhere in them on. A sample is "least" (the context) to context + 1 tokens
// long. Learned are the "answers", or with "learn" "tail" the questions as well. Without a tokenizer a token is a byte
// of ASCII. Xiao et al., arXiv:2410.10819, sec. 2.3 and the authors' data.py, whose sentences these are.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/base/text_file.h"
#include "fovea/tasks/needle.h"  // default_haystacks
#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

constexpr std::array<const char*, 26> kAlphabet = {
    "alpha",   "bravo", "charlie", "delta",  "echo",     "foxtrot", "golf",   "hotel",  "india",
    "juliett", "kilo",  "lima",    "mike",   "november", "oscar",   "papa",   "quebec", "romeo",
    "sierra",  "tango", "uniform", "victor", "whiskey",  "xray",    "yankee", "zulu"};
constexpr std::array<const char*, 10> kOrdinals = {"first", "second",  "third",  "fourth", "fifth",
                                                   "sixth", "seventh", "eighth", "ninth",  "tenth"};

class PasskeyWords final : public Generator {
 public:
  PasskeyWords(Settings& s, const Context& context)
      : Generator(s, context),
        tokenizer_(context.tokenizer),
        most_(context.context + 1),
        keys_(s.integer("keys", std::ssize(kOrdinals), 1, std::ssize(kOrdinals))),
        words_(s.integer("words", 32, 1, 1024)),
        least_(s.integer("least", context.context, 1, std::max<int64_t>(1, context.context))),
        learns_tail_(s.one_of("learn", "answers", {"answers", "tail"}) == "tail") {
    if (!tokenizer_ && context.vocab_size < 128) {
      s.wrong("generator", fmt::format("passkey-words needs a tokenizer, {}or a vocabulary of 128 bytes",
                                       context.no_tokenizer.empty() ? "" : "and " + context.no_tokenizer + ", "));
      return;
    }
    const auto texts = texts_of(s);
    if (!texts) s.refuse(texts.error());
    if (!s.good()) return;
    for (const std::string& text : *texts) {
      const auto ids = encode(text);
      if (!ids) {
        s.refuse(ids.error());
        return;
      }
      prose_.insert(prose_.end(), ids->begin(), ids->end());
    }
    int64_t longest = 0, frame = 0;
    for (const char* word : kAlphabet) longest = std::max(longest, std::ssize(must_encode(fmt::format(" {}", word))));
    for (const char* ordinal : kOrdinals)
      frame = std::max(frame, std::ssize(must_encode(told(ordinal))) + 1 + std::ssize(must_encode(question(ordinal))));
    const int64_t all = keys_ * (frame + 2 * words_ * longest + 2);
    if (all >= least_) {
      s.wrong("keys", fmt::format("and words may take {} tokens; the shortest sample has {}", all, least_));
    } else if (std::ssize(prose_) < most_) {
      s.wrong("prose", fmt::format("has {} tokens; {} are needed", prose_.size(), most_));
    }
  }

 private:
  static std::string told(const char* ordinal) {
    return fmt::format("\n\nRemember this sequence of words, it's the {} passkey to the vault:", ordinal);
  }
  static std::string question(const char* ordinal) {
    return fmt::format("\n\nBased on the content of the book, what is the {} passkey to the vault?\nPasskey:", ordinal);
  }
  static Result<std::vector<std::string>> texts_of(Settings& s) {
    std::vector<std::string> texts;
    if (s.has("prose")) {
      for (const std::string& file : s.texts("prose", {})) {
        FOVEA_ASSIGN_OR_RETURN(std::string text, read_text_file(file));
        texts.push_back(std::move(text));
      }
      return texts;
    }
    FOVEA_ASSIGN_OR_RETURN(std::vector<engine::Document> licences, tasks::default_haystacks());
    for (engine::Document& one : licences) texts.push_back(std::move(one.text));
    return texts;
  }
  Result<std::vector<int32_t>> encode(const std::string& text) const {
    if (!tokenizer_) {
      std::vector<int32_t> bytes;
      for (const char c : text) {
        if (static_cast<unsigned char>(c) < 128) bytes.push_back(c);
      }
      return bytes;
    }
    return tokenizer_->encode(text, {.add_special = false, .continues = true});
  }
  std::vector<int32_t> must_encode(const std::string& text) const {
    auto ids = encode(text);
    FOVEA_CHECK(ids.has_value(), "passkey-words: {}", ids.error().message);
    return std::move(*ids);
  }

  Sample draw(Rng& rng) const override {
    const auto length = least_ + static_cast<int64_t>(rng.below(static_cast<uint64_t>(most_ - least_ + 1)));
    std::vector<std::vector<int32_t>> needles;
    std::vector<int32_t> tail;
    std::vector<bool> learned;  // of the tail
    int64_t taken = 0;
    for (size_t key = 0; key < static_cast<size_t>(keys_); ++key) {
      std::string words;
      for (int64_t i = 0; i < words_; ++i) words += fmt::format(" {}", kAlphabet[rng.below(kAlphabet.size())]);
      needles.push_back(must_encode(told(kOrdinals[key]) + words + "\n\n"));
      taken += std::ssize(needles.back());
      const std::vector<int32_t> asked = must_encode(question(kOrdinals[key])), answer = must_encode(words);
      tail.insert(tail.end(), asked.begin(), asked.end());
      learned.insert(learned.end(), asked.size(), learns_tail_);
      tail.insert(tail.end(), answer.begin(), answer.end());
      learned.insert(learned.end(), answer.size(), true);
    }
    const int64_t n_prose = length - taken - std::ssize(tail);
    FOVEA_CHECK(n_prose > 0, "passkey-words: {} tokens of passkeys in a sample of {}", length - n_prose, length);
    const auto from = static_cast<int64_t>(rng.below(static_cast<uint64_t>(std::ssize(prose_) - n_prose + 1)));
    std::vector<std::pair<int64_t, size_t>> places;  // tokens of prose before a needle
    for (size_t key = 0; key < needles.size(); ++key) {
      const double depth = 0.05 + 0.9 * rng.uniform();
      places.emplace_back(static_cast<int64_t>(depth * static_cast<double>(n_prose)), key);
    }
    std::stable_sort(places.begin(), places.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<int32_t> ids;
    int64_t at = 0;
    const auto read_to = [&](int64_t end) {
      ids.insert(ids.end(), prose_.begin() + from + at, prose_.begin() + from + end);
      at = end;
    };
    for (const auto& [before, key] : places) {
      read_to(before);
      ids.insert(ids.end(), needles[key].begin(), needles[key].end());
    }
    read_to(n_prose);
    ids.insert(ids.end(), tail.begin(), tail.end());
    Sample sample = Sample::next_token(std::move(ids));
    const size_t first = sample.targets.size() - tail.size();
    for (size_t i = 0; i < sample.targets.size(); ++i) {
      if (i < first || !learned[i - first]) sample.targets[i] = kNoTarget;
    }
    return sample;
  }

  const tokenizers::Tokenizer* tokenizer_;
  int64_t most_, keys_, words_, least_;
  bool learns_tail_;
  std::vector<int32_t> prose_;
};
FOVEA_TRAIN_PART(Generator, "passkey-words", PasskeyWords);

}  // namespace
}  // namespace fovea::train

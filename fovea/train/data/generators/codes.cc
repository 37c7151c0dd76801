// codes: a text that is as long as the context, for models with a tokenizer: "The code of Berlin is 4821." for each of
// "keys" (4) towns, among sentences about nothing, and at its end "What is the code of Berlin? The code of Berlin is";
// " 4821." is learned. All codes of a text differ; they have "digits" (4). "depth" (0 to 1): where the one that is
// asked for lies among the sentences, else anywhere. Without a tokenizer a token is a byte. After Mohtashami and Jaggi,
// arXiv:2305.16300, and the tasks with several keys of Hsieh et al., arXiv:2404.06654.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

constexpr std::array<const char*, 40> kTowns = {
    "Athens",  "Berlin", "Boston", "Cairo",   "Chicago", "Dakar",  "Delhi",  "Dublin", "Florence", "Geneva",
    "Hamburg", "Hanoi",  "Havana", "Houston", "Jakarta", "Kiev",   "Lagos",  "Lima",   "Lisbon",   "London",
    "Madrid",  "Milan",  "Moscow", "Munich",  "Nairobi", "Naples", "Oslo",   "Paris",  "Prague",   "Quito",
    "Rome",    "Seoul",  "Sydney", "Tokyo",   "Toronto", "Tunis",  "Venice", "Vienna", "Warsaw",   "Zurich"};
constexpr std::array<const char*, 12> kSentences = {"The grass is green.",
                                                    "The sky is blue.",
                                                    "The sun is yellow.",
                                                    "Here we go.",
                                                    "There and back again.",
                                                    "The river runs slowly to the sea.",
                                                    "A dog sleeps in front of the door.",
                                                    "Rain fell on the roof all night.",
                                                    "The bread is still warm.",
                                                    "Nobody came to the market today.",
                                                    "An old clock stands in the hall.",
                                                    "The train left at noon."};

class Codes final : public Generator {
 public:
  Codes(Settings& s, const Context& context)
      : Generator(s, context),
        tokenizer_(context.tokenizer),
        length_(context.context + 1),
        keys_(s.integer("keys", 4, 1, std::ssize(kTowns))),
        digits_(s.integer("digits", 4, 1, 9)),
        depth_(s.number("depth", -1, -1, 1)) {
    if (!tokenizer_ && context.vocab_size < 128) {
      s.wrong("generator", fmt::format("codes needs a tokenizer, {}or a vocabulary of 128 bytes",
                                       context.no_tokenizer.empty() ? "" : "and " + context.no_tokenizer + ", "));
      return;
    }
    if (digits_ == 1 && keys_ > 10) s.wrong("keys", "is more than there are codes of one digit");
    for (const char* sentence : kSentences) {
      const auto ids = encode(std::string(" ") + sentence, false);
      if (!ids) {
        s.refuse(ids.error());
        return;
      }
      costs_.push_back(std::max<int64_t>(1, static_cast<int64_t>(ids->size())));
    }
    int64_t longest = 0;
    for (const char* town : kTowns) {
      const auto ids = encode(fmt::format(" The code of {} is", town), true);
      if (!ids) {
        s.refuse(ids.error());
        return;
      }
      longest = std::max(longest, static_cast<int64_t>(ids->size()) + digits_ + 2);
    }
    // The question is about as long as two of them.
    if ((keys_ + 3) * longest > length_)
      s.wrong("keys", fmt::format("may take {} tokens; the context is {}", (keys_ + 3) * longest, context.context));
  }

 private:
  Result<std::vector<int32_t>> encode(const std::string& text, bool begins) const {
    if (!tokenizer_) return std::vector<int32_t>(text.begin(), text.end());  // ASCII
    FOVEA_ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                           tokenizer_->encode(text, {.add_special = begins, .continues = !begins}));
    if (begins && !ids.empty() && ids.back() == tokenizer_->eos() && ids.back() >= 0) ids.pop_back();
    return ids;
  }
  std::vector<int32_t> must_encode(const std::string& text, bool begins) const {
    auto ids = encode(text, begins);
    FOVEA_CHECK(ids.has_value(), "codes: {}", ids.error().message);
    return std::move(*ids);
  }

  struct Key {
    std::string town, code;
    size_t before = 0;  // sentences before it
  };
  static std::string text_of(const std::vector<Key>& keys, const std::vector<size_t>& sentences, const Key& asked) {
    std::string text;
    const auto say = [&text](const std::string& sentence) { text += (text.empty() ? "" : " ") + sentence; };
    for (size_t i = 0; i <= sentences.size(); ++i) {
      for (const Key& key : keys) {
        if (std::min(key.before, sentences.size()) == i) say(fmt::format("The code of {} is {}.", key.town, key.code));
      }
      if (i < sentences.size()) say(kSentences[sentences[i]]);
    }
    say(fmt::format("What is the code of {0}? The code of {0} is", asked.town));
    return text;
  }

  Sample draw(Rng& rng) const override {
    std::vector<const char*> towns(kTowns.begin(), kTowns.end());
    std::vector<Key> keys;
    for (size_t i = 0; i < static_cast<size_t>(keys_); ++i) {
      std::swap(towns[i], towns[i + rng.below(towns.size() - i)]);
      Key key{.town = towns[i], .code = ""};
      do {
        key.code.clear();
        for (int64_t d = 0; d < digits_; ++d) key.code += static_cast<char>('0' + rng.below(10));
      } while (std::any_of(keys.begin(), keys.end(), [&](const Key& other) { return other.code == key.code; }));
      keys.push_back(std::move(key));
    }
    const auto asked = static_cast<size_t>(rng.below(keys.size()));
    const std::vector<int32_t> answer = must_encode(" " + keys[asked].code + ".", false);
    const int64_t room = length_ - static_cast<int64_t>(answer.size());
    int64_t left = room - static_cast<int64_t>(must_encode(text_of(keys, {}, keys[asked]), true).size());
    std::vector<size_t> sentences;
    for (size_t next = rng.below(kSentences.size()); costs_[next] <= left; next = rng.below(kSentences.size())) {
      sentences.push_back(next);
      left -= costs_[next];
    }
    for (Key& key : keys) key.before = rng.below(sentences.size() + 1);
    if (depth_ >= 0)
      keys[asked].before = static_cast<size_t>(std::llround(depth_ * static_cast<double>(sentences.size())));
    std::vector<int32_t> ids = must_encode(text_of(keys, sentences, keys[asked]), true);
    while (static_cast<int64_t>(ids.size()) > room && !sentences.empty()) {  // together they may be more than alone
      sentences.pop_back();
      ids = must_encode(text_of(keys, sentences, keys[asked]), true);
    }
    const size_t read = ids.size();
    ids.insert(ids.end(), answer.begin(), answer.end());
    Sample sample = Sample::next_token(std::move(ids));
    std::fill_n(sample.targets.begin(), read - 1, kNoTarget);
    return sample;
  }

  const tokenizers::Tokenizer* tokenizer_;
  int64_t length_, keys_, digits_;
  double depth_;
  std::vector<int64_t> costs_;  // of the sentences, in tokens
};
FOVEA_TRAIN_PART(Generator, "codes", Codes);

}  // namespace
}  // namespace fovea::train

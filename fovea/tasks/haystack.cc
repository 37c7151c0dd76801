#include "fovea/tasks/haystack.h"

#include <fmt/format.h>

#include <cctype>

#include "fovea/tasks/words.h"

namespace fovea::tasks {
namespace {

constexpr size_t kLongest = 400;  // bytes of a sentence

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

std::string capitalised(std::string text) {
  text[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(text[0])));
  return text;
}

}  // namespace

std::string Prose::sentence() {
  const auto thing = [&] { return one_of(adjectives(), rng_) + " " + one_of(nouns(), rng_); };
  const auto someone = [&] {
    return rng_.below(2) == 0 ? "the " + one_of(trades(), rng_) : one_of(first_names(), rng_);
  };
  const auto pick = [&](const std::vector<std::string>& of) { return one_of(of, rng_); };
  static const std::vector<std::string> did = {"carried", "mended", "sold",    "painted",   "borrowed",
                                               "lost",    "found",  "cleaned", "described", "examined",
                                               "bought",  "kept",   "moved"};
  static const std::vector<std::string> where = {"behind", "beside", "under", "near", "in front of", "next to"};
  static const std::vector<std::string> when = {"in the morning",   "before noon",    "after the rain",
                                                "during the feast", "at dusk",        "when the bells rang",
                                                "late in autumn",   "on market days", "towards evening"};
  static const std::vector<std::string> sky = {"clouds gathered",  "snow fell", "the fog lifted",        "a wind rose",
                                               "the sun came out", "it rained", "frost lay on the roofs"};
  static const std::vector<std::string> felt = {"nobody objected",       "the neighbours talked about it for weeks",
                                                "the price was fair",    "few people noticed",
                                                "it was soon forgotten", "everyone was content",
                                                "the children laughed"};
  static const std::vector<std::string> spoke = {"asked", "warned", "thanked", "greeted", "followed", "paid", "taught"};
  switch (rng_.below(10)) {
    case 0: return fmt::format("{} {} the {} {}.", capitalised(someone()), pick(did), thing(), pick(when));
    case 1: return fmt::format("In {} {} over the {}, and {}.", pick(towns()), pick(sky), pick(nouns()), pick(felt));
    case 2: return fmt::format("The {} stood {} the {}.", thing(), pick(where), thing());
    case 3: return fmt::format("{}, {} {} {}.", capitalised(pick(when)), someone(), pick(spoke), someone());
    case 4: return fmt::format("{} never {} the {}, but {}.", capitalised(someone()), pick(did), thing(), pick(felt));
    case 5: return fmt::format("While {}, {} {} a {}.", pick(sky), someone(), pick(did), thing());
    case 6:
      return fmt::format("A {} from {} brought {} and {} {}.", pick(trades()), pick(towns()), pick(foods()),
                         pick(foods()), pick(when));
    case 7:
      return fmt::format("People said that the {} was too {} for a {}.", pick(nouns()), pick(adjectives()),
                         pick(trades()));
    case 8:
      return fmt::format("{} {} {} {} the {}.", capitalised(someone()), pick(spoke), someone(), pick(where), thing());
    default:
      return fmt::format("The road from {} to {} was {} and {}.", pick(towns()), pick(towns()), pick(adjectives()),
                         pick(adjectives()));
  }
}

std::string Prose::next() {
  const bool begins = left_ == 0;
  left_ = begins ? 3 + rng_.below(5) : left_ - 1;
  return (begins ? "\n" : " ") + sentence();
}

std::vector<std::string_view> split_sentences(std::string_view text) {
  std::vector<std::string_view> out;
  size_t begin = 0, space = 0;  // the last space since `begin`
  const auto cut = [&](size_t end) {
    if (text.substr(begin, end - begin).find_first_not_of(" \t\r\n\f") != std::string_view::npos)
      out.push_back(text.substr(begin, end - begin));
    begin = end;
  };
  for (size_t i = 1; i < text.size(); ++i) {
    if (!is_space(text[i])) continue;
    const char before = text[i - 1];
    if (before == '.' || before == '?' || before == '!')
      cut(i);
    else if (i - begin > kLongest && space > begin)
      cut(space);
    if (!is_space(before)) space = i;
  }
  cut(text.size());
  return out;
}

Haystack::Haystack(std::span<const engine::Document> texts, uint64_t seed) : prose_(seed) {
  for (const engine::Document& text : texts) {
    const auto more = split_sentences(text.text);
    sentences_.insert(sentences_.end(), more.begin(), more.end());
  }
  Rng rng(seed);
  if (!sentences_.empty()) at_ = rng.below(sentences_.size());
}

std::string Haystack::next() {
  if (n_given_ == sentences_.size()) return prose_.next();
  const std::string_view sentence = sentences_[at_];
  at_ = (at_ + 1) % sentences_.size();
  return (n_given_++ == 0 && !is_space(sentence[0]) ? "\n" : "") + std::string(sentence);
}

}  // namespace fovea::tasks

#include "fovea/probe/evidence/question_kind.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace fovea::probe {
namespace {

using namespace std::string_view_literals;

// Lower case, all that is no letter or digit as one space, one space at each end.
std::string words_of(std::string_view text) {
  std::string out = " ";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || byte >= 0x80) {
      out += static_cast<char>(std::tolower(byte));
    } else if (out.back() != ' ') {
      out += ' ';
    }
  }
  return out.back() == ' ' ? out : out + ' ';
}

template <size_t N>
bool begins(std::string_view words, const std::array<std::string_view, N>& with) {
  return std::any_of(with.begin(), with.end(), [&](std::string_view one) { return words.starts_with(one); });
}
template <size_t N>
bool holds(std::string_view words, const std::array<std::string_view, N>& what) {
  return std::any_of(what.begin(), what.end(),
                     [&](std::string_view one) { return words.find(one) != std::string_view::npos; });
}

constexpr std::array kWhyWords = {" why "sv, " for what reason "sv, " what is the reason "sv,
                                  " what was the reason "sv};
constexpr std::array kWhetherWords = {" is "sv,    " are "sv,  " was "sv,  " were "sv,  " does "sv,  " do "sv,
                                      " did "sv,   " may "sv,  " must "sv, " can "sv,   " could "sv, " has "sv,
                                      " have "sv,  " had "sv,  " will "sv, " would "sv, " shall "sv, " should "sv,
                                      " might "sv, " need "sv, " am "sv};
constexpr std::array kWhenWords = {
    " when "sv,        " under what condition"sv, " under which condition"sv, " on what condition"sv,
    " in what case"sv, " in which case"sv};
constexpr std::array kNumberWords = {" how many "sv,  " how much "sv,  " how long "sv,    " how old "sv,
                                     " how often "sv, " how wide "sv,  " how far "sv,     " how large "sv,
                                     " how big "sv,   " how high "sv,  " what number "sv, " which number "sv,
                                     " what year "sv, " which year "sv};
constexpr std::array kWhoWords = {" who "sv, " whom "sv, " whose "sv};

}  // namespace

QuestionKind kind_of(std::string_view question) {
  const std::string words = words_of(question);
  if (begins(words, kWhyWords)) return QuestionKind::kWhy;
  if (holds(words, kNumberWords)) return QuestionKind::kNumber;
  if (begins(words, kWhetherWords)) return QuestionKind::kWhether;
  if (begins(words, kWhenWords)) return QuestionKind::kWhen;
  if (begins(words, kWhoWords)) return QuestionKind::kWho;
  return QuestionKind::kOther;
}

std::string look_question(const std::string& question) {
  if (kind_of(question) != QuestionKind::kWhether) return question;
  return question + " Answer yes or no, then with the words of the text that say so.";
}

}  // namespace fovea::probe

#include "fovea/probe/evidence/look_choice.h"

#include <cctype>
#include <string>

namespace fovea::probe {
namespace {

// Measured on questions that are not those of the benchmark (docs/evidence.md): nats of a mean over tokens.
constexpr double kQuestionGain = 0.2;  // a passage makes the question likelier by this, or the text does not say

std::string letters_of(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) || byte >= 0x80) out += static_cast<char>(std::tolower(byte));
  }
  return out;
}

}  // namespace

bool same_answer(const std::string& a, const std::string& b) {
  const std::string x = letters_of(a), y = letters_of(b);
  if (x.empty() || y.empty()) return x == y;
  return x.find(y) != std::string::npos || y.find(x) != std::string::npos;
}

void choose(Looked& looked, QuestionKind) {
  if (looked.looks.size() < 2) return;
  const Look& whole = looked.looks[0];
  const Look& passage = looked.looks[1];
  looked.disagree = !same_answer(whole.answer, passage.answer);
  looked.chosen = looked.disagree && !passage.tokens.empty() && whole.elsewhere < passage.logprob ? 1 : 0;
  looked.supported = passage.question >= kQuestionGain;
}

}  // namespace fovea::probe

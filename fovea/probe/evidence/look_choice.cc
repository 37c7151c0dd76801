#include "fovea/probe/evidence/look_choice.h"

#include <cctype>
#include <string>

namespace fovea::probe {
namespace {

// Measured on questions that are not those of the benchmark (docs/evidence.md): nats of a mean over tokens.
constexpr double kWithout = 0.25;      // how much counts against an answer that it is likely without any text
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
  const auto worth = [&](const Look& look) { return look.within - kWithout * look.without; };
  looked.chosen = 0;
  for (size_t i = 1; i < looked.looks.size() && !looked.looks[i].tokens.empty(); ++i) {
    if (same_answer(looked.looks[0].answer, looked.looks[i].answer)) continue;
    if (worth(looked.looks[i]) > worth(looked.looks[looked.chosen])) looked.chosen = i;
  }
  looked.disagree = !same_answer(looked.looks[0].answer, looked.looks[1].answer);
  looked.supported = looked.looks[1].question >= kQuestionGain;
}

}  // namespace fovea::probe

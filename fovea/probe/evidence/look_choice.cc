#include "fovea/probe/evidence/look_choice.h"

#include <cctype>
#include <string>

namespace fovea::probe {
namespace {

// From questions that are not those of the benchmark, qwen2.5-coder-0.5b (docs/evidence.md): nats, of means over
// tokens.
constexpr double kWithout = 0.25;  // how much counts against an answer that it is likely without any text
constexpr double kSupport = 0.6;   // the passage makes the answer likelier by this, or the text does not say

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

void choose(Looked& looked, QuestionKind kind) {
  if (looked.looks.size() < 2) return;
  const Look& whole = looked.looks[0];
  const Look& passage = looked.looks[1];
  const auto gain = [](const Look& look) { return look.within - look.without; };
  looked.disagree = !same_answer(whole.answer, passage.answer);
  looked.chosen = looked.disagree && !passage.tokens.empty() && gain(passage) > gain(whole) ? 1 : 0;
  // Yes and no are as likely without any text as with one: nothing can be told from that.
  looked.supported = kind == QuestionKind::kWhether || gain(looked.looks[looked.chosen]) >= kSupport;
}

}  // namespace fovea::probe

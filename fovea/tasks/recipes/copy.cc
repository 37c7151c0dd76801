// A passage of a long text, between marks, is to be repeated word for word. Fovea's own: what a method that drops or
// skips keys must keep to quote. Scored by how far the copy goes: the share of the passage's words before the first
// that is another.
#include <algorithm>
#include <sstream>

#include "fovea/tasks/task.h"

namespace fovea::tasks {
namespace {

constexpr int kSentences = 3;

std::vector<std::string> words_in(std::string_view text) {
  std::vector<std::string> out;
  std::istringstream in{std::string(text)};
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

class Copy final : public Task {
 public:
  static constexpr TaskInfo kInfo{
      .name = "copy", .summary = "a passage between marks, word for word", .source = "Fovea", .one_question = true};
  const TaskInfo& info() const override { return kInfo; }

  Writing write(Draw& draw) const override {
    Writing out;
    out.before = "Read the text. One passage of it stands between <passage> and </passage>.";
    out.next = [&draw] { return draw.haystack.next(); };
    Prose prose(draw.rng.next());
    std::string passage;
    for (int i = 0; i < kSentences; ++i) passage += (i > 0 ? " " : "") + prose.next().substr(1);
    out.hidden.push_back({"\n<passage>" + passage + "</passage>", draw.depth, 0});
    out.questions.push_back(
        {"Repeat the passage between <passage> and </passage> word for word.", "<passage>", {passage}});
    return out;
  }
  double score(const Question& question, std::string_view answer) const override {
    const auto said = words_in(answer.substr(0, answer.find("</passage>"))), wanted = words_in(question.expected[0]);
    const auto first_other =
        std::mismatch(said.begin(), said.end(), wanted.begin(), wanted.end()).second - wanted.begin();
    return static_cast<double>(first_other) / static_cast<double>(wanted.size());
  }
};
FOVEA_REGISTER_TASK(Copy)

}  // namespace
}  // namespace fovea::tasks

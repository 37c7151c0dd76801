// Frequent words: made-up words whose frequencies fall as 1 / rank^2 (zeta); the three most frequent are asked for.
// Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language Models?", arXiv:2404.06654,
// sec. 3.3. As there the first rank is noise, written "...".
#include <fmt/format.h>

#include <memory>
#include <set>

#include "fovea/tasks/recipes/shares.h"
#include "fovea/tasks/task.h"

namespace fovea::tasks {
namespace {

constexpr size_t kWords = 60, kAsked = 3;
constexpr size_t kLetters = 6;

class FrequentWords final : public Task {
 public:
  static constexpr TaskInfo kInfo{.name = "fwe",
                                  .summary = "the three most frequent of coded words",
                                  .source = "RULER, arXiv:2404.06654, sec. 3.3",
                                  .one_question = true};
  const TaskInfo& info() const override { return kInfo; }

  Writing write(Draw& draw) const override {
    std::vector<std::string> words = {"..."};
    std::set<std::string> seen;
    std::vector<double> weights = {1};
    while (words.size() < kWords) {
      std::string word;
      while (word.size() < kLetters) word += static_cast<char>('a' + draw.rng.below(26));
      if (!seen.insert(word).second) continue;
      words.push_back(std::move(word));
      weights.push_back(1 / static_cast<double>(words.size() * words.size()));
    }
    Writing out;
    out.before =
        "Read the following coded text and track the frequency of each coded word. Find the three most frequently "
        "appeared coded words.";
    out.questions.push_back(
        {"Do not provide any explanation. Please ignore the dots '....'. What are the three most "
         "frequently appeared words in the above coded text?",
         "According to the coded text above, the three most frequently appeared words are:",
         {words.begin() + 1, words.begin() + 1 + kAsked}});
    out.next = [&draw, words, shares = std::make_shared<Shares>(weights, draw.rng)] {
      return " " + words[shares->next(draw.rng)];
    };
    return out;
  }
};
FOVEA_REGISTER_TASK(FrequentWords)

}  // namespace
}  // namespace fovea::tasks

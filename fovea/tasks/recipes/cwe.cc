// Common words: a numbered list of words in which ten come ten times as often as all others; these ten are asked for.
// Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language Models?", arXiv:2404.06654,
// sec. 3.3: 30 and 3 times there. Here the list is as long as the prompt, and the ratio stays. Without RULER's worked
// example.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "fovea/tasks/recipes/shares.h"
#include "fovea/tasks/task.h"
#include "fovea/tasks/words.h"

namespace fovea::tasks {
namespace {

constexpr size_t kCommon = 10, kOthers = 150;

class CommonWords final : public Task {
 public:
  static constexpr TaskInfo kInfo{.name = "cwe",
                                  .summary = "the ten words of a list that come most often",
                                  .source = "RULER, arXiv:2404.06654, sec. 3.3",
                                  .one_question = true};
  const TaskInfo& info() const override { return kInfo; }

  Writing write(Draw& draw) const override {
    std::vector<std::string> all = nouns();
    all.insert(all.end(), adjectives().begin(), adjectives().end());
    const std::vector<std::string> words = some_of(std::move(all), kCommon + kOthers, draw.rng);
    std::vector<double> weights(words.size(), 1);
    std::fill(weights.begin(), weights.begin() + kCommon, 10.0);
    Writing out;
    out.before =
        "Below is a numbered list of words. In these words, some appear more often than others. Memorize the ones that "
        "appear most often.\n";
    out.next = [&draw, words, shares = std::make_shared<Shares>(weights, draw.rng), n = 0]() mutable {
      ++n;
      return fmt::format("{}{}. {}", n == 1 ? "" : " ", n, words[shares->next(draw.rng)]);
    };
    out.questions.push_back({"What are the 10 most common words in the above list?",
                             "The top 10 words that appear most often in the list are:",
                             {words.begin(), words.begin() + kCommon}});
    return out;
  }
};
FOVEA_REGISTER_TASK(CommonWords)

}  // namespace
}  // namespace fovea::tasks

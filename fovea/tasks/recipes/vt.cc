// Variable tracking: a value is given to a variable, that one's value to a second, and so on; all variables that have
// the value are asked for.
// Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language Models?", arXiv:2404.06654,
// sec. 3.2. A chain of four hops, as there; without the worked example that RULER puts before it. It begins at the
// sample's depth, and its hops lie evenly between there and the end of the text.
#include <fmt/format.h>

#include <set>

#include "fovea/tasks/task.h"
#include "fovea/tasks/words.h"

namespace fovea::tasks {
namespace {

constexpr size_t kHops = 4;

class VariableTracking final : public Task {
 public:
  static constexpr TaskInfo kInfo{.name = "vt",
                                  .summary = "all variables that a chain of assignments gives a value to",
                                  .source = "RULER, arXiv:2404.06654, sec. 3.2"};
  const TaskInfo& info() const override { return kInfo; }

  Writing write(Draw& draw) const override {
    Writing out;
    out.before = "Memorize and track the chain(s) of variable assignment hidden in the following text.";
    out.next = [&draw] { return draw.haystack.next(); };
    const auto n = static_cast<size_t>(draw.n_questions);
    const auto values = draw_numbers(n, 5, draw.rng);
    const auto names = draw_variables(n * (kHops + 1), draw.rng);
    for (size_t c = 0; c < n; ++c) {
      const int question = static_cast<int>(c);
      const double begin = draw.depth_of(question);
      std::vector<std::string> chain(names.begin() + static_cast<ptrdiff_t>(c * (kHops + 1)),
                                     names.begin() + static_cast<ptrdiff_t>((c + 1) * (kHops + 1)));
      for (size_t i = 0; i <= kHops; ++i) {
        const double depth = begin + (1 - begin) * static_cast<double>(i) / kHops;
        out.hidden.push_back({fmt::format("\nVAR {} = {}.", chain[i], i == 0 ? values[c] : "VAR " + chain[i - 1]),
                              depth, i == 0 ? question : -1});
      }
      out.questions.push_back(
          {fmt::format("Find all variables that are assigned the value {} in the text above.", values[c]),
           fmt::format("According to the chain(s) of variable assignment in the text above, {} variables are assigned "
                       "the value {}, they are:",
                       kHops + 1, values[c]),
           std::move(chain)});
    }
    return out;
  }

 private:
  // Five capital letters each.
  static std::vector<std::string> draw_variables(size_t n, Rng& rng) {
    std::set<std::string> seen;
    std::vector<std::string> out;
    while (out.size() < n) {
      std::string name;
      for (int i = 0; i < 5; ++i) name += static_cast<char>('A' + rng.below(26));
      if (seen.insert(name).second) out.push_back(std::move(name));
    }
    return out;
  }
};
FOVEA_REGISTER_TASK(VariableTracking)

}  // namespace
}  // namespace fovea::tasks

// A needle in a haystack: one sentence gives a key a number, and the number is asked for.
// Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language Models?", arXiv:2404.06654,
// sec. 3.1.
#include "fovea/tasks/recipes/magic_numbers.h"

namespace fovea::tasks {
namespace {

class Niah final : public Task {
 public:
  static constexpr TaskInfo kInfo{.name = "niah",
                                  .summary = "a key and its number in a sentence of the text",
                                  .source = "RULER, arXiv:2404.06654, sec. 3.1"};
  const TaskInfo& info() const override { return kInfo; }
  Writing write(Draw& draw) const override { return hide_magic_numbers(draw, {.n_asked = draw.n_questions}); }
};
FOVEA_REGISTER_TASK(Niah)

}  // namespace
}  // namespace fovea::tasks

// Needles of four keys, of which one is asked for: the others must be told from it.
// Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language Models?", arXiv:2404.06654,
// sec. 3.1.
#include "fovea/tasks/recipes/magic_numbers.h"

namespace fovea::tasks {
namespace {

class MultiKey final : public Task {
 public:
  static constexpr TaskInfo kInfo{.name = "multikey",
                                  .summary = "the number of one key, where several have one",
                                  .source = "RULER, arXiv:2404.06654, sec. 3.1"};
  const TaskInfo& info() const override { return kInfo; }
  Writing write(Draw& draw) const override {
    return hide_magic_numbers(draw, {.n_asked = draw.n_questions, .n_others = 3});
  }
};
FOVEA_REGISTER_TASK(MultiKey)

}  // namespace
}  // namespace fovea::tasks

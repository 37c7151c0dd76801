// Four needles of one key: all of its numbers are asked for.
// Hsieh et al., "RULER: What's the Real Context Size of Your Long-Context Language Models?", arXiv:2404.06654,
// sec. 3.1.
#include "fovea/tasks/recipes/magic_numbers.h"

namespace fovea::tasks {
namespace {

class MultiValue final : public Task {
 public:
  static constexpr TaskInfo kInfo{
      .name = "multivalue", .summary = "all four numbers of a key", .source = "RULER, arXiv:2404.06654, sec. 3.1"};
  const TaskInfo& info() const override { return kInfo; }
  Writing write(Draw& draw) const override {
    return hide_magic_numbers(draw, {.n_asked = draw.n_questions, .n_values = 4});
  }
};
FOVEA_REGISTER_TASK(MultiValue)

}  // namespace
}  // namespace fovea::tasks

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "papers/longheads/measure.h"
#include "papers/support/text_loss.h"

namespace fovea::papers::longheads {
namespace {

std::string chunks_beyond(const Run& run) {
  return fmt::format("longheads:chunk={}:n_chunks={}:share={}", run.number("chunk"), run.number("beyond-chunks"),
                     run.word("share"));
}
std::string window_beyond(const Run& run) { return window(run.number("chunk") * run.number("beyond-chunks")); }

}  // namespace

Result<Outcome> text_beyond(Run& run) { return loss_beyond(run, chunks_beyond(run), window_beyond(run), 10); }

Result<Outcome> needles_beyond(Run& run) {
  constexpr int kAnswer = 64;  // tokens that an answer may have, at most
  const int length = run.model()->shape().n_ctx + run.number("beyond");
  if (length > run.number("longest"))
    return no_data(fmt::format("{} tokens are to be read at most", run.number("longest")));
  std::vector<double> found;
  for (const std::string& attention : {chunks_beyond(run), std::string("dense"), window_beyond(run)}) {
    FOVEA_ASSIGN_OR_RETURN(const TaskScore score, task_score(run, attention,
                                                             {.task = run.word("task"),
                                                              .length = length - kAnswer,
                                                              .n_samples = run.number("beyond-samples"),
                                                              .beyond = true}));
    found.push_back(score.score);
  }
  return Outcome{found[0] >= kEnoughOfDense && found[0] >= found[2] + 50,
                 fmt::format("{:.0f} %, dense {:.0f}, window {:.0f}; {} prompts", found[0], found[1], found[2],
                             run.number("beyond-samples"))};
}

Result<Outcome> step_time(Run& run) {
  constexpr int kLeast = 1024;
  std::vector<int> lengths = run.lengths("decode-lengths", 0);
  std::erase_if(lengths, [](int length) { return length < kLeast; });
  if (lengths.size() < 2) return no_data("the model reads too few keys to take time");
  FOVEA_ASSIGN_OR_RETURN(const double base, step_ms(run, "dense", 0));
  Series mine{"longheads", {}}, dense{"dense", {}};
  for (const int length : lengths) {
    FOVEA_ASSIGN_OR_RETURN(const double a, step_ms(run, with_chunks(run), length));
    FOVEA_ASSIGN_OR_RETURN(const double b, step_ms(run, "dense", length));
    mine.points.emplace_back(length, a - base), dense.points.emplace_back(length, b - base);
  }
  if (std::min(mine.points.front().second, dense.points.front().second) <= 0)
    return no_data(fmt::format("a step without a past takes as long ({:.2f} ms): the machine is busy", base));
  std::string text;
  for (size_t i = 0; i < lengths.size(); ++i)
    text += fmt::format("{}{:.2f} ms, dense {:.2f}", i == 0 ? "" : "; ", mine.points[i].second, dense.points[i].second);
  run.plot({"Attention of a decoded token", "keys", "ms more than without a past", {mine, dense}});
  return Outcome{mine.points.back().second < 1.5 * mine.points.front().second,
                 fmt::format("{} ({} keys; {:.2f} without a past)", text, fmt::join(lengths, ", "), base)};
}

}  // namespace fovea::papers::longheads

// fovea perplexity -m MODEL -f FILE -c CTX
#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/cli/answer.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/vector.h"
#include "fovea/tasks/windows.h"

namespace fovea::cli {
namespace perplexity_command {

struct Options {
  ModelFlags model;
  TextFlags text;
  int max_windows = 0;
};

constexpr size_t kBuckets = 8;  // of the scored positions of a window

Status perplexity(const Options& options, const Common& common) {
  const Interrupt interrupt;
  FOVEA_ASSIGN_OR_RETURN(const std::string text, read_text(options.text));
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, options.model));
  const int window = options.model.n_ctx > 0 ? options.model.n_ctx : model->shape().n_ctx;
  FOVEA_ASSIGN_OR_RETURN(const auto session, open_session(model, common, options.model, window));
  FOVEA_ASSIGN_OR_RETURN(const tasks::Windows windows, tasks::cut_windows(text, *model, window, options.max_windows));

  Progress bar("scoring", windows.tokens.size(), "tokens", 1.0, common.quiet);
  double sum = 0, squares = 0;
  std::vector<double> by_position(std::min(kBuckets, windows.n_scored()));
  const auto bucket = [&](size_t at) { return at * by_position.size() / windows.n_scored(); };
  std::vector<double> losses;  // of the rows of one chunk, summed in order
  for (size_t w = 0; w < windows.count(); ++w) {
    const auto see = [&](size_t first, const tensor::Tensor& logits) -> Status {
      const int64_t vocab = logits.dim(1);
      losses.assign(static_cast<size_t>(logits.dim(0)), 0);
      pool().for_each(logits.dim(0), [&](int64_t row, int) {
        const float* x = logits.data() + row * vocab;
        const auto next = static_cast<size_t>(windows[w][first + static_cast<size_t>(row) + 1]);
        losses[static_cast<size_t>(row)] = double{kernels::log_sum_exp(x, vocab)} - double{x[next]};
      });
      for (size_t i = 0; i < losses.size(); ++i) {
        sum += losses[i], squares += losses[i] * losses[i];
        by_position[bucket(first + i - windows.first_scored())] += losses[i];
      }
      bar.update(w * windows.size + first + losses.size());
      return {};
    };
    FOVEA_RETURN_IF_ERROR(tasks::score_window(*session, windows, w, &Interrupt::flag(), see));
    if (common.verbose > 0) {
      bar.clear();
      tell("window {} of {}: perplexity so far {:.4f}", w + 1, windows.count(),
           std::exp(sum / static_cast<double>((w + 1) * windows.n_scored())));
    }
  }
  bar.clear();
  const auto n = static_cast<double>(windows.count() * windows.n_scored());
  const double nll = sum / n, deviation = std::sqrt(std::max(0.0, squares / n - nll * nll) / std::max(1.0, n - 1));
  if (common.json) {
    nlohmann::json positions = nlohmann::json::array();  // of a window, the mean over all of them
    for (size_t b = 0, begin = 0; b < by_position.size(); ++b) {
      size_t end = begin;
      while (end < windows.n_scored() && bucket(end) == b) ++end;
      positions.push_back({{"begin", windows.first_scored() + begin},
                           {"end", windows.first_scored() + end},
                           {"nll", by_position[b] / static_cast<double>((end - begin) * windows.count())}});
      begin = end;
    }
    nlohmann::json out = setting_json(*session);
    out["nll_by_position"] = std::move(positions);
    out.update({{"nll", nll},
                {"perplexity", std::exp(nll)},
                {"n_scored_tokens", windows.count() * windows.n_scored()},
                {"nll_stderr", deviation},
                {"n_windows", windows.count()}});
    return print_json(out);
  }
  return print(fmt::format(
      "perplexity {:.4f} +- {:.4f}, mean negative log-likelihood {:.6f}, {} tokens scored in {} windows of {}\n",
      std::exp(nll), std::exp(nll) * deviation, nll, windows.count() * windows.n_scored(), windows.count(),
      windows.size));
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  options->model.decodes = false;
  options->model.n_ctx = 512;
  options->model.chunk = 128;  // each scored token has a row of logits as long as the vocabulary
  add_text_flags(sub, options->text, "TEXT", /*with_prompt_flag=*/false);
  add_model_flags(sub, common, options->model);
  sub.find("--ctx-size")
      .describe("tokens of a window, whose second half is scored; 0: as many as the model was trained for")
      .check([](const std::string& value) {
        return value == "1" || value == "2" || value == "3" ? "must be 0, or 4 or more" : "";
      });
  sub.add_option("--chunks", options->max_windows, "windows at most; 0: all")
      .transform(in_range(int64_t{0}, int64_t{1} << 30))
      .show_default();
  return [options, &common] { return perplexity(*options, common); };
}

FOVEA_COMMAND("perplexity", "how well a model predicts a text",
              "fovea perplexity -m smollm2-135m -f /usr/share/common-licenses/GPL-3 -c 512", setup)

}  // namespace perplexity_command
}  // namespace fovea::cli

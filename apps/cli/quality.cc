#include "apps/cli/quality.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "apps/cli/answer.h"
#include "fovea/base/text_file.h"
#include "fovea/tasks/kl.h"

namespace fovea::cli {

Status measure_quality(const Common& common, ModelFlags flags, const std::string& file, int max_windows) {
  if (flags.n_ctx == 0) flags.n_ctx = 512;
  if (flags.n_ctx < 4)
    return make_error(ErrorCode::kUsage, "--ctx-size: {} is too short a window; 4 or more tokens are needed",
                      flags.n_ctx);
  FOVEA_ASSIGN_OR_RETURN(const std::string text, read_text_file(file));
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, flags));
  FOVEA_ASSIGN_OR_RETURN(const tasks::Windows windows, tasks::cut_windows(text, *model, flags.n_ctx, max_windows));
  FOVEA_ASSIGN_OR_RETURN(engine::SessionOptions options, session_options(*model, common, flags));
  const auto cache_type = std::exchange(options.cache_type, std::nullopt);  // of the one compared alone
  options.numerics = kernels::Numerics::kExact;
  FOVEA_ASSIGN_OR_RETURN(const auto exact, engine::Session::create(model, options));
  options.numerics = kernels::Numerics::kFast;
  options.cache_type = cache_type;
  FOVEA_ASSIGN_OR_RETURN(const auto fast, engine::Session::create(model, options));

  Progress bar("comparing", windows.tokens.size(), "tokens", 1.0, common.quiet);
  const auto found = tasks::measure_divergence(
      *exact, *fast, windows, {.progress = [&bar](size_t done) { bar.update(done); }, .cancel = &Interrupt::flag()});
  if (!found) return found.error();
  if (common.json) {
    nlohmann::json out = setting_json(*fast);
    FOVEA_ASSIGN_OR_RETURN(out["model_sha256"], model->sha256());
    out.update({{"mean_kl", found->mean},
                {"p99_kl", found->p99},
                {"max_kl", found->max},
                {"top1_agreement", found->same_top},
                {"n_scored_tokens", found->n_scored},
                {"n_windows", windows.count()}});
    return print_json(out);
  }
  return print(fmt::format(
      "fast against exact, {} tokens scored in {} windows of {}\nmean KL         {:.6f}\n99 % KL         "
      "{:.6f}\nlargest KL      {:.6f}\n"
      "same top token  {:.2f} %\n",
      found->n_scored, windows.count(), windows.size, found->mean, found->p99, found->max, found->same_top * 100));
}

}  // namespace fovea::cli

#include "papers/support/text_loss.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "fovea/kernels/vector.h"
#include "papers/support/decode_run.h"
#include "papers/support/task_run.h"

namespace fovea::papers {

using tensor::Tensor;

Result<std::vector<int32_t>> text_tokens(Run& run, int n_tokens, int text) {
  FOVEA_ASSIGN_OR_RETURN(auto samples, task_samples(run, {.task = "nll", .length = n_tokens, .n_samples = text + 1}));
  const tasks::Sample& sample = samples[static_cast<size_t>(text)];
  std::vector<int32_t> out = sample.context;
  const auto& second = sample.questions[0].tokens;
  out.insert(out.end(), second.begin(), second.end());
  return out;
}

Result<TextLoss> text_loss(Run& run, std::vector<int32_t> tokens, const TextRun& of) {
  using Clock = std::chrono::steady_clock;
  if (of.context > 0) tokens.erase(tokens.begin(), tokens.end() - of.context);
  engine::SessionOptions options{.numerics = run.numerics(), .attention = of.attention};
  if (of.beyond) options.n_ctx = static_cast<int>(tokens.size()), options.beyond_training = true;
  FOVEA_ASSIGN_OR_RETURN(const auto session, engine::Session::create(run.model(), options));
  const int64_t vocab = session->shape().vocab_size;
  const size_t n_before = tokens.size() - static_cast<size_t>(of.n_scored) - 1;
  const engine::SequenceId sequence = session->begin();
  double sum = 0;
  size_t at = n_before;  // the row of tokens[at] predicts the next
  const auto add = [&](const Tensor& logits) {
    for (const float* row = logits.data(); row < logits.data() + logits.elements(); row += vocab, ++at)
      sum += double{kernels::log_sum_exp(row, vocab)} - double{row[tokens[at + 1]]};
  };
  engine::PrefillOptions prefill;
  prefill.cancel = run.cancel(), prefill.more = !of.decoded;
  prefill.progress = [&](int64_t done, int64_t) { run.progress(of.attention, done, std::ssize(tokens)); };
  if (n_before > 0) FOVEA_RETURN_IF_ERROR(session->prefill(sequence, std::span(tokens).first(n_before), prefill));
  if (of.observer) session->observe(of.observer);
  const auto scored = std::span(tokens).subspan(n_before, static_cast<size_t>(of.n_scored));
  std::vector<double> seconds;
  if (of.decoded) {
    for (const int32_t token : scored) {
      const engine::Session::Step step{sequence, token};
      const auto start = Clock::now();
      FOVEA_ASSIGN_OR_RETURN(const Tensor logits, session->decode({&step, 1}));
      seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
      add(logits);
    }
  } else {
    prefill.more = false;
    prefill.on_logits = [&](int64_t, const Tensor& logits) -> Status {
      add(logits);
      return {};
    };
    FOVEA_RETURN_IF_ERROR(session->prefill(sequence, scored, prefill));
  }
  return TextLoss{sum / of.n_scored, 1e3 * median(std::move(seconds))};
}

Result<TextLoss> text_loss_cell(Run& run, int n_tokens, const TextRun& of) {
  Json setting = {{"text", n_tokens}, {"scored", of.n_scored}, {"fed", of.decoded ? "one by one" : "as a prompt"}};
  if (of.context > 0) setting["read"] = of.context;
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell(of.attention, setting, [&]() -> Result<Json> {
    FOVEA_ASSIGN_OR_RETURN(const auto tokens, text_tokens(run, n_tokens));
    FOVEA_ASSIGN_OR_RETURN(const TextLoss loss, text_loss(run, tokens, of));
    return Json{{"nll", loss.nll}, {"ms", loss.ms}};
  }));
  return TextLoss{cell.at("nll").get<double>(), cell.at("ms").get<double>()};
}

Result<Outcome> loss_beyond(Run& run, const std::string& method, const std::string& window, double percent) {
  const int trained = run.model()->shape().n_ctx, length = trained + run.number("beyond");
  if (length > run.number("longest")) {
    return no_data(fmt::format("the model was trained on {} tokens, and {} are to be read at most", trained,
                               run.number("longest")));
  }
  const auto loss = [&](const std::string& attention, int context) -> Result<double> {
    FOVEA_ASSIGN_OR_RETURN(
        const TextLoss of,
        text_loss_cell(run, length,
                       {.attention = attention, .n_scored = run.number("scored"), .context = context, .beyond = true}));
    return of.nll;
  };
  FOVEA_ASSIGN_OR_RETURN(const double within, loss("dense", trained));
  FOVEA_ASSIGN_OR_RETURN(const double dense, loss("dense", 0));
  FOVEA_ASSIGN_OR_RETURN(const double mine, loss(method, 0));
  FOVEA_ASSIGN_OR_RETURN(const double last, loss(window, 0));
  const auto more = [within](double nll) { return 100 * (std::exp(nll - within) - 1); };
  return Outcome{more(mine) < percent && more(dense) > 50,
                 fmt::format("{:+.1f} % of {:.2f}, dense {:+.3g} %, window {:+.1f} %; {} tokens, trained {}",
                             more(mine), std::exp(within), more(dense), more(last), length, trained)};
}

}  // namespace fovea::papers

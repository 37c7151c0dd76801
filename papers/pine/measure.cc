#include "papers/pine/measure.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <mutex>
#include <numeric>

#include "fovea/kernels/vector.h"
#include "fovea/tasks/task.h"

namespace fovea::papers::pine {
namespace {

using engine::SequenceId;
using engine::Session;
using kernels::Numerics;

constexpr int kTokens = 20;  // that are generated in each order, as the card has it

Result<std::unique_ptr<Session>> open(Run& run, const std::string& attention, Numerics numerics) {
  return Session::create(run.model(), {.numerics = numerics, .attention = attention});
}

struct Said {
  std::vector<int32_t> tokens;
  std::vector<float> logits;  // of the prompt's last token and each of those
};
Result<Said> say(Run& run, Session& session, const Prompt& prompt, int n_tokens) {
  const SequenceId sequence = session.begin();
  session.set_spans(sequence, prompt.segments);
  engine::PrefillOptions options;
  options.cancel = run.cancel();
  FOVEA_ASSIGN_OR_RETURN(std::vector<float> last, session.prefill(sequence, prompt.tokens, options));
  Said out{{}, last};
  for (int i = 0; i < n_tokens; ++i) {
    out.tokens.push_back(static_cast<int32_t>(kernels::argmax(last.data(), std::ssize(last))));
    const Session::Step step{sequence, out.tokens.back()};
    FOVEA_ASSIGN_OR_RETURN(const tensor::Tensor next, session.decode({&step, 1}));
    last.assign(next.values().begin(), next.values().end());
    out.logits.insert(out.logits.end(), last.begin(), last.end());
  }
  session.remove(sequence);
  return out;
}

// The loss of a continuation behind logits of the token before it, in nats, summed.
Result<double> loss_of(Session& session, SequenceId sequence, const std::vector<float>& before,
                       const std::vector<int32_t>& tokens) {
  const auto n = std::ssize(before);
  const auto of = [n](const float* logits, int32_t token) {
    return double{kernels::log_sum_exp(logits, n)} - double{logits[token]};
  };
  const SequenceId fork = session.fork(sequence);
  double sum = of(before.data(), tokens[0]);
  for (size_t i = 1; i < tokens.size(); ++i) {
    const Session::Step step{fork, tokens[i - 1]};
    FOVEA_ASSIGN_OR_RETURN(const tensor::Tensor next, session.decode({&step, 1}));
    sum += of(next.data(), tokens[i]);
  }
  session.remove(fork);
  return sum;
}

std::vector<size_t> as_drawn(size_t n) {
  std::vector<size_t> out(n);
  std::iota(out.begin(), out.end(), size_t{0});
  return out;
}
// The telling document, which is the first, at place `at`; the others as they were drawn.
std::vector<size_t> with_first_at(size_t n, size_t at) {
  std::vector<size_t> out = as_drawn(n);
  std::rotate(out.begin(), out.begin() + 1, out.begin() + static_cast<ptrdiff_t>(at) + 1);
  return out;
}

// What rows behind the segments give to each of the first two of them.
class Given final : public attention::RowObserver {
 public:
  explicit Given(const Prompt& prompt) : prompt_(prompt) {}
  bool wants(int, int, bool) const override { return true; }
  void see(const attention::RowView& row, std::span<const float> pattern) override {
    if (row.q_pos < prompt_.segments.back().end) return;
    double to[2] = {0, 0};
    for (size_t i = 0; i < pattern.size(); ++i) {
      for (size_t s = 0; s < 2; ++s) {
        const attention::Span& span = prompt_.segments[s];
        if (row.key_positions[i] >= span.begin && row.key_positions[i] < span.end) to[s] += double{pattern[i]};
      }
    }
    const std::lock_guard lock(guard_);
    worst = std::max(worst, std::abs(to[0] - to[1]));
  }
  double worst = 0;

 private:
  const Prompt& prompt_;
  std::mutex guard_;
};

}  // namespace

Result<Orders> over_orders(Run& run, const std::string& attention, int n_documents, bool all) {
  const Json setting = {{"documents", n_documents},
                        {"facts", run.number("facts")},
                        {"orders", all ? "all" : "turned round"},
                        {"tokens", kTokens},
                        {"numerics", "exact"}};
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell(attention, setting, [&]() -> Result<Json> {
    const Asked asked = draw_documents(n_documents, run.number("facts"), run.seed());
    FOVEA_ASSIGN_OR_RETURN(const auto session, open(run, attention, Numerics::kExact));
    std::vector<size_t> order = as_drawn(asked.documents.size());
    Said first;
    Orders out;
    int total = n_documents;
    for (int i = 1; all && i < n_documents; ++i) total *= i;
    do {
      run.progress("orders of documents", out.n, total);
      FOVEA_ASSIGN_OR_RETURN(const Prompt prompt, make_prompt(run, asked, order));
      FOVEA_ASSIGN_OR_RETURN(const Said said, say(run, *session, prompt, kTokens));
      if (out.n++ == 0) first = said;
      out.same_text = out.same_text && said.tokens == first.tokens;
      for (size_t i = 0; i < said.logits.size(); ++i)
        out.spread = std::max(out.spread, std::abs(double{said.logits[i]} - double{first.logits[i]}));
      if (!all) std::rotate(order.begin(), order.begin() + 1, order.end());
    } while (all ? std::next_permutation(order.begin(), order.end()) : order[0] != 0);
    return Json{{"spread", out.spread}, {"same text", out.same_text}, {"orders tried", out.n}};
  }));
  return Orders{cell.at("spread").get<double>(), cell.at("same text").get<bool>(), cell.at("orders tried").get<int>()};
}

Result<bool> one_document_is_dense(Run& run) {
  const Asked asked = draw_documents(1, run.number("facts"), run.seed());
  FOVEA_ASSIGN_OR_RETURN(const Prompt prompt, make_prompt(run, asked, {0}));
  FOVEA_ASSIGN_OR_RETURN(const auto dense, open(run, "dense", run.numerics()));
  FOVEA_ASSIGN_OR_RETURN(const auto method, open(run, "pine", run.numerics()));
  FOVEA_ASSIGN_OR_RETURN(const Said a, say(run, *dense, prompt, 8));
  FOVEA_ASSIGN_OR_RETURN(const Said b, say(run, *method, prompt, 8));
  return a.logits == b.logits;
}

Result<double> copies_apart(Run& run, const std::string& attention) {
  Asked asked = draw_documents(2, run.number("facts"), run.seed());
  asked.documents.insert(asked.documents.begin(), asked.documents[0]);
  FOVEA_ASSIGN_OR_RETURN(const Prompt prompt, make_prompt(run, asked, as_drawn(3)));
  FOVEA_ASSIGN_OR_RETURN(const auto session, open(run, attention, Numerics::kExact));
  Given given(prompt);
  session->observe(&given);
  FOVEA_RETURN_IF_ERROR(say(run, *session, prompt, 2));
  session->stop_observing(&given);
  return given.worst;
}

double Places::mean_score() const { return std::accumulate(score.begin(), score.end(), 0.0) / std::ssize(score); }
double Places::mean_loss() const { return std::accumulate(loss.begin(), loss.end(), 0.0) / std::ssize(loss); }
double Places::score_spread() const {
  return *std::max_element(score.begin(), score.end()) - *std::min_element(score.begin(), score.end());
}
double Places::loss_spread() const {
  return *std::max_element(loss.begin(), loss.end()) - *std::min_element(loss.begin(), loss.end());
}

Result<Places> by_place(Run& run, const std::string& attention) {
  const int n = run.number("documents"), samples = run.number("samples");
  const Json setting = {{"documents", n}, {"facts", run.number("facts")}, {"samples", samples}};
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell(attention, setting, [&]() -> Result<Json> {
    FOVEA_ASSIGN_OR_RETURN(const auto session, open(run, attention, run.numerics()));
    FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, run.model()->tokenizer());
    std::vector<double> score(static_cast<size_t>(n), 0.0), loss = score;
    for (int sample = 0; sample < samples; ++sample) {
      const Asked asked =
          draw_documents(n, run.number("facts"), run.seed() * 1'000'003 + static_cast<uint64_t>(sample) + 1);
      FOVEA_ASSIGN_OR_RETURN(const auto wanted,
                             tokenizer->encode(" " + asked.wanted, {.add_special = false, .continues = true}));
      for (size_t at = 0; at < score.size(); ++at) {
        run.progress("documents at their places", sample * n + static_cast<int>(at), samples * n);
        FOVEA_ASSIGN_OR_RETURN(const Prompt prompt, make_prompt(run, asked, with_first_at(score.size(), at)));
        const SequenceId sequence = session->begin();
        session->set_spans(sequence, prompt.segments);
        engine::PrefillOptions options;
        options.cancel = run.cancel();
        FOVEA_ASSIGN_OR_RETURN(std::vector<float> last, session->prefill(sequence, prompt.tokens, options));
        FOVEA_ASSIGN_OR_RETURN(const double lost, loss_of(*session, sequence, last, wanted));
        loss[at] += lost / samples;
        std::vector<int32_t> answer;
        for (size_t i = 0; i < wanted.size() + 4; ++i) {
          answer.push_back(static_cast<int32_t>(kernels::argmax(last.data(), std::ssize(last))));
          if (tokenizer->ends_text(answer.back())) break;
          const Session::Step step{sequence, answer.back()};
          FOVEA_ASSIGN_OR_RETURN(const tensor::Tensor next, session->decode({&step, 1}));
          last.assign(next.values().begin(), next.values().end());
        }
        session->remove(sequence);
        FOVEA_ASSIGN_OR_RETURN(const std::string text, tokenizer->decode(answer));
        if (text.find(asked.wanted) != std::string::npos) score[at] += 100.0 / samples;
      }
    }
    return Json{{"score", score}, {"loss", loss}};
  }));
  return Places{cell.at("score").get<std::vector<double>>(), cell.at("loss").get<std::vector<double>>()};
}

Result<Verdicts> verdicts(Run& run, const std::string& attention) {
  const int n = run.number("judged");
  const Json setting = {{"pairs", n}};
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell(attention, setting, [&]() -> Result<Json> {
    FOVEA_ASSIGN_OR_RETURN(const auto session, open(run, attention, run.numerics()));
    FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, run.model()->tokenizer());
    Verdicts out;
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      run.progress("verdicts", static_cast<int64_t>(i), n);
      const Asked asked = judged_pair(i);
      bool right[2];
      for (size_t swapped = 0; swapped < 2; ++swapped) {
        FOVEA_ASSIGN_OR_RETURN(const Prompt prompt, make_prompt(run, asked, with_first_at(2, swapped)));
        const SequenceId sequence = session->begin();
        session->set_spans(sequence, prompt.segments);
        FOVEA_ASSIGN_OR_RETURN(const std::vector<float> last, session->prefill(sequence, prompt.tokens));
        double lost[2];
        for (size_t file = 0; file < 2; ++file) {
          FOVEA_ASSIGN_OR_RETURN(const auto name, tokenizer->encode(" " + asked.documents[file].name,
                                                                    {.add_special = false, .continues = true}));
          FOVEA_ASSIGN_OR_RETURN(lost[file], loss_of(*session, sequence, last, name));
        }
        session->remove(sequence);
        right[swapped] = lost[0] < lost[1];
        out.right += right[swapped] ? 0.5 / n : 0;
      }
      out.stayed += right[0] == right[1];
    }
    return Json{{"stayed", out.stayed}, {"right", out.right}};
  }));
  return Verdicts{cell.at("stayed").get<int>(), n, cell.at("right").get<double>()};
}

}  // namespace fovea::papers::pine

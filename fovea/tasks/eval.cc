#include "fovea/tasks/eval.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/base/interrupt.h"
#include "fovea/base/threads.h"
#include "fovea/engine/generate.h"
#include "fovea/engine/key_bytes.h"
#include "fovea/kernels/vector.h"
#include "fovea/tasks/kl.h"

namespace fovea::tasks {
namespace {

using engine::SequenceId;
using engine::Session;
using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// A sequence that is gone with its scope.
struct Scoped {
  Scoped(Session& of, SequenceId sequence) : session(of), id(sequence) {}
  ~Scoped() { session.remove(id); }
  Scoped(const Scoped&) = delete;
  Scoped& operator=(const Scoped&) = delete;
  Session& session;
  SequenceId id;
};

// Tokens of prompts that were read, for a bar.
class Meter {
 public:
  Meter(const EvalOptions& options, int64_t total) : options_(options), total_(total) {}
  void add(size_t n) { show(done_ += static_cast<int64_t>(n)); }
  // For a prefill that begins now.
  std::function<void(int64_t, int64_t)> of_prefill() {
    return [this, before = done_](int64_t done, int64_t) { show(done_ = before + done); };
  }

 private:
  void show(int64_t done) const {
    if (options_.progress) options_.progress(done, total_);
  }
  const EvalOptions& options_;
  int64_t total_, done_ = 0;
};

struct Said {
  std::string answer;
  double score = 0, seconds = 0;
};

// One session, and what its runs cost.
class Runner {
 public:
  Runner(const Task& task, const EvalOptions& options, Session& session)
      : task_(task), options_(options), session_(session), before_(session.key_count()) {}

  // What is said to each question.
  Result<std::vector<Said>> run(const Sample& sample, Meter& meter) {
    std::vector<Said> out;
    const Scoped context(session_, session_.begin());
    double context_seconds = 0;
    if (options_.asking == Asking::kLater) {
      const auto start = Clock::now();
      FOVEA_RETURN_IF_ERROR(read(context.id, sample.context, meter));
      context_seconds = since(start);
      cost_.prefill_seconds += context_seconds;
      cost_.prompt_tokens += static_cast<int64_t>(sample.context.size());
    }
    for (const SampleQuestion& question : sample.questions) {
      const auto start = Clock::now();
      const bool later = options_.asking == Asking::kLater;
      const Scoped asked(session_, later ? session_.fork(context.id) : session_.begin());
      std::vector<int32_t> prompt;
      if (!later) prompt = sample.context;
      prompt.insert(prompt.end(), question.tokens.begin(), question.tokens.end());
      FOVEA_ASSIGN_OR_RETURN(Said said, answer(asked.id, prompt, question, meter));
      said.seconds = since(start) + std::exchange(context_seconds, 0);
      count_bytes(asked.id);
      out.push_back(std::move(said));
    }
    return out;
  }

  EvalCost cost() const {
    EvalCost out = cost_;
    if (n_sequences_ > 0) out.kv_bytes /= n_sequences_, out.kv_bytes_dense /= n_sequences_;
    out.key_share = engine::key_share(session_, before_);
    return out;
  }
  void count_bytes(SequenceId sequence) {
    const engine::KeyBytes bytes = engine::key_bytes(session_, sequence);
    cost_.kv_bytes += bytes.kept, cost_.kv_bytes_dense += bytes.dense;
    ++n_sequences_;
  }
  EvalCost& cost_so_far() { return cost_; }
  Session& session() { return session_; }

 private:
  engine::PrefillOptions prefill_options(Meter& meter) const {
    engine::PrefillOptions out;
    out.cancel = options_.cancel;
    out.progress = meter.of_prefill();
    return out;
  }
  Status read(SequenceId sequence, std::span<const int32_t> tokens, Meter& meter) {
    const auto read = session_.prefill(sequence, tokens, prefill_options(meter));
    return read ? Status() : read.error();
  }

  Result<Said> answer(SequenceId sequence, std::span<const int32_t> prompt, const SampleQuestion& question,
                      Meter& meter) {
    engine::GenerateOptions generate;
    generate.n_predict = question.n_answer;
    generate.sampling = {.temperature = 0};
    generate.prefill = prefill_options(meter);
    generate.cancel = options_.cancel;
    FOVEA_ASSIGN_OR_RETURN(const engine::Generation said, engine::generate(session_, sequence, prompt, generate));
    if (said.finish == engine::Finish::kCancelled) return interrupted_error();
    cost_.prompt_tokens += said.n_prompt, cost_.answer_tokens += static_cast<int64_t>(said.tokens.size());
    cost_.prefill_seconds += said.prompt_seconds, cost_.decode_seconds += said.predicted_seconds;
    return Said{said.text, task_.score(question.question, said.text), 0};
  }

  const Task& task_;
  const EvalOptions& options_;
  Session& session_;
  attention::KeyCount before_;
  EvalCost cost_;
  uint64_t n_sequences_ = 0;
};

// The loss of a sample's second half, and with a second runner how far the two are from another. Both go through it
// side by side, so that only a few rows of logits are kept.
class HalfScorer {
 public:
  HalfScorer(Runner& runner, Runner* dense, const EvalOptions& options)
      : runner_(runner), dense_(dense), options_(options) {}

  Status score(const Sample& sample, EvalRow& row, Meter& meter) {
    const auto start = Clock::now();
    const Scoped a(runner_.session(), runner_.session().begin());
    std::optional<Scoped> b;
    if (dense_) b.emplace(dense_->session(), dense_->session().begin());
    FOVEA_RETURN_IF_ERROR(read_first(runner_, a.id, sample.context));
    meter.add(sample.context.size());
    row.seconds = since(start);
    if (dense_) FOVEA_RETURN_IF_ERROR(read_first(*dense_, b->id, sample.context));
    const std::span<const int32_t> second = sample.questions[0].tokens;
    // Row i of the prompt predicts token i + 1: the last of the first half, whose row is gone, predicts the first that
    // is not scored.
    const auto n = static_cast<double>(second.size() - 1);
    double nll = 0, dense_nll = 0, kl = 0;
    for (size_t at = 0; at < second.size(); at += kRows) {
      const auto piece = second.subspan(at, std::min(kRows, second.size() - at));
      const auto piece_start = Clock::now();
      FOVEA_ASSIGN_OR_RETURN(const std::vector<float> rows, read_second(runner_, a.id, piece));
      row.seconds += since(piece_start);
      nll += loss(rows, second, at, piece.size());
      if (dense_) {
        FOVEA_ASSIGN_OR_RETURN(const std::vector<float> reference, read_second(*dense_, b->id, piece));
        dense_nll += loss(reference, second, at, piece.size());
        kl += divergence(reference, rows, second.size() - 1 - at);
      }
      meter.add(piece.size());
    }
    row.nll = nll / n, row.score = std::exp(-nll / n);
    if (dense_) {
      row.dense_nll = dense_nll / n, row.dense_score = std::exp(-dense_nll / n), row.kl = kl / n;
      dense_->count_bytes(b->id);
    }
    runner_.count_bytes(a.id);
    return {};
  }

 private:
  static constexpr size_t kRows = 64;  // of logits, kept at a time

  Status read_first(Runner& runner, SequenceId sequence, std::span<const int32_t> tokens) {
    const auto start = Clock::now();
    engine::PrefillOptions options;
    options.cancel = options_.cancel;
    options.more = options_.asking == Asking::kSeen;
    const auto read = runner.session().prefill(sequence, tokens, options);
    count(runner, tokens.size(), start);
    return read ? Status() : read.error();
  }
  Result<std::vector<float>> read_second(Runner& runner, SequenceId sequence, std::span<const int32_t> tokens) {
    const auto start = Clock::now();
    std::vector<float> rows;
    engine::PrefillOptions options;
    options.cancel = options_.cancel;
    options.more = true;
    options.on_logits = [&rows](int64_t, const tensor::Tensor& logits) -> Status {
      rows.insert(rows.end(), logits.values().begin(), logits.values().end());
      return {};
    };
    const auto read = runner.session().prefill(sequence, tokens, options);
    if (!read) return read.error();
    count(runner, tokens.size(), start);
    return rows;
  }
  static void count(Runner& runner, size_t n_tokens, Clock::time_point start) {
    runner.cost_so_far().prompt_tokens += static_cast<int64_t>(n_tokens);
    runner.cost_so_far().prefill_seconds += since(start);
  }
  int64_t vocab() { return runner_.session().shape().vocab_size; }

  // Of rows that predict second[at + 1] and on.
  double loss(const std::vector<float>& rows, std::span<const int32_t> second, size_t at, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n && at + i + 1 < second.size(); ++i) {
      const float* x = rows.data() + static_cast<int64_t>(i) * vocab();
      sum += double{kernels::log_sum_exp(x, vocab())} - double{x[second[at + i + 1]]};
    }
    return sum;
  }
  // Of at most `n` rows.
  double divergence(const std::vector<float>& reference, const std::vector<float>& other, size_t n) {
    std::vector<double> each(std::min(n, reference.size() / static_cast<size_t>(vocab())));
    pool().for_each(static_cast<int64_t>(each.size()), [&](int64_t i, int) {
      each[static_cast<size_t>(i)] = kl_divergence(reference.data() + i * vocab(), other.data() + i * vocab(), vocab());
    });
    double sum = 0;
    for (const double d : each) sum += d;
    return sum;
  }

  Runner& runner_;
  Runner* dense_;
  const EvalOptions& options_;
};

Status check_fits(std::span<const Sample> samples, const Session& session) {
  for (const Sample& sample : samples) {
    for (const SampleQuestion& question : sample.questions) {
      const size_t n_prompt = sample.context.size() + question.tokens.size();
      if (n_prompt + static_cast<size_t>(question.n_answer) <= static_cast<size_t>(session.n_ctx())) continue;
      return make_error(ErrorCode::kLimit,
                        "a prompt of {} tokens and {} of answer do not fit the context of {} (--length)", n_prompt,
                        question.n_answer, session.n_ctx());
    }
  }
  return {};
}

// The mean over each sample's rows, in order.
std::vector<double> by_sample(const std::vector<EvalRow>& rows, const std::function<double(const EvalRow&)>& value) {
  std::vector<double> sums, counts;
  for (const EvalRow& row : rows) {
    sums.resize(std::max(sums.size(), row.sample + 1)), counts.resize(sums.size());
    sums[row.sample] += value(row), counts[row.sample] += 1;
  }
  for (size_t i = 0; i < sums.size(); ++i) sums[i] /= counts[i];
  return sums;
}

void sum_up(EvalResult& out, bool has_tokens, bool paired, uint64_t seed) {
  const auto scores = by_sample(out.rows, [](const EvalRow& row) { return row.score; });
  out.score = mean_of(scores);
  out.interval = score_interval(scores, seed);
  const auto mean = [&](const std::function<double(const EvalRow&)>& value) {
    return mean_of(by_sample(out.rows, value));
  };
  if (has_tokens) out.nll = mean([](const EvalRow& row) { return *row.nll; });
  if (!paired) return;
  out.paired = EvalResult::Paired{};
  EvalResult::Paired& dense = *out.paired;
  dense.score = mean([](const EvalRow& row) { return *row.dense_score; });
  const auto differences = by_sample(out.rows, [](const EvalRow& row) { return row.score - *row.dense_score; });
  dense.difference = mean_of(differences);
  dense.interval = bootstrap_interval(differences, seed);
  if (!has_tokens) return;
  dense.nll = mean([](const EvalRow& row) { return *row.dense_nll; });
  out.kl = mean([](const EvalRow& row) { return *row.kl; });
}

}  // namespace

Result<EvalResult> evaluate(const Task& task, std::span<const Sample> samples, const OpenSession& open,
                            const EvalOptions& options) {
  FOVEA_CHECK(!samples.empty(), "evaluate: no samples");
  FOVEA_ASSIGN_OR_RETURN(const auto session, open(options.attention));
  FOVEA_RETURN_IF_ERROR(check_fits(samples, *session));
  std::unique_ptr<Session> dense_session;
  if (options.paired && !session->pipeline().dense()) {
    FOVEA_ASSIGN_OR_RETURN(dense_session, open("dense"));
    FOVEA_RETURN_IF_ERROR(check_fits(samples, *dense_session));
  }
  Runner runner(task, options, *session);
  std::optional<Runner> dense;
  if (dense_session) dense.emplace(task, options, *dense_session);
  const bool has_tokens = task.info().scores_tokens;

  int64_t total = 0;
  for (const Sample& sample : samples) {
    const bool later = options.asking == Asking::kLater;
    if (later) total += static_cast<int64_t>(sample.context.size());
    for (const SampleQuestion& question : sample.questions)
      total += static_cast<int64_t>(question.tokens.size() + (later ? 0 : sample.context.size()));
  }
  if (dense && !has_tokens) total *= 2;
  Meter meter(options, total);

  EvalResult out;
  out.attention = session->pipeline().spec();
  for (size_t s = 0; s < samples.size(); ++s) {
    const Sample& sample = samples[s];
    const size_t first = out.rows.size();
    for (size_t q = 0; q < sample.questions.size(); ++q) {
      EvalRow row;
      row.sample = s, row.question = q;
      row.length = static_cast<int>(sample.context.size() + sample.questions[q].tokens.size());
      out.rows.push_back(std::move(row));
    }
    if (has_tokens) {
      HalfScorer scorer(runner, dense ? &*dense : nullptr, options);
      FOVEA_RETURN_IF_ERROR(scorer.score(sample, out.rows[first], meter));
      if (options.on_row) options.on_row(out.rows[first]);
      continue;
    }
    FOVEA_ASSIGN_OR_RETURN(std::vector<Said> said, runner.run(sample, meter));
    for (size_t q = 0; q < said.size(); ++q) {
      EvalRow& row = out.rows[first + q];
      row.answer = std::move(said[q].answer), row.score = said[q].score, row.seconds = said[q].seconds;
      if (options.on_row) options.on_row(row);
    }
    if (!dense) continue;
    FOVEA_ASSIGN_OR_RETURN(said, dense->run(sample, meter));
    for (size_t q = 0; q < said.size(); ++q) {
      out.rows[first + q].dense_answer = std::move(said[q].answer);
      out.rows[first + q].dense_score = said[q].score;
    }
  }
  sum_up(out, has_tokens, dense.has_value(), options.seed);
  out.cost = runner.cost();
  if (dense) out.paired->cost = dense->cost();
  return out;
}

}  // namespace fovea::tasks

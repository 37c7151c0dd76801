// Runs the samples of a task on a model with some attention, and with dense attention beside it where asked: what the
// command, reproductions and a leaderboard call. It prints nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/engine/session.h"
#include "fovea/tasks/interval.h"
#include "fovea/tasks/prompt.h"

namespace fovea::tasks {

struct EvalRow {  // of one question
  size_t sample = 0, question = 0;
  int length = 0;             // tokens of context and question
  std::string answer;         // empty where tokens are scored, as are the next two
  double score = 0;           // 0 to 1. Where tokens are scored, exp(-nll): their mean probability, geometric
  double seconds = 0;         // for the question, and for the first of a context for that too
  std::optional<double> nll;  // nats a token
  std::optional<double> kl;   // from dense, likewise; where it is paired
  std::string dense_answer;
  std::optional<double> dense_score, dense_nll;
};

struct EvalCost {
  int64_t prompt_tokens = 0, answer_tokens = 0;
  double prefill_seconds = 0, decode_seconds = 0;
  uint64_t kv_bytes = 0, kv_bytes_dense = 0;  // of one sequence when its answer is there, the mean over all
  double key_share = 1;                       // keys that were looked at, of those that dense attention looks at
};

struct EvalResult {
  std::string attention;  // as the session has it
  std::vector<EvalRow> rows;
  double score = 0;   // mean of the rows
  Interval interval;  // of the score; questions of one context count as one sample
  std::optional<double> nll, kl;
  EvalCost cost;
  struct Paired {
    double score = 0;       // of dense
    double difference = 0;  // score less that
    Interval interval;      // of the difference
    std::optional<double> nll;
    EvalCost cost;
  };
  std::optional<Paired> paired;
};

// Sessions of one model that differ in their attention alone.
using OpenSession = std::function<Result<std::unique_ptr<engine::Session>>(std::string_view attention)>;

struct EvalOptions {
  std::string attention = "dense";
  Asking asking = Asking::kSeen;
  bool paired = false;  // dense runs on the same samples; without effect where the attention is dense
  uint64_t seed = 0;    // of bootstrap intervals
  std::function<void(int64_t done, int64_t total)> progress;  // tokens of prompts
  std::function<void(const EvalRow& row)> on_row;             // as each is known, before dense has run
  const std::atomic<bool>* cancel = nullptr;
};

// kLimit if a prompt and its answer do not fit the session, before any work; kCancelled; errors of Session.
Result<EvalResult> evaluate(const Task& task, std::span<const Sample> samples, const OpenSession& open,
                            const EvalOptions& options);

}  // namespace fovea::tasks

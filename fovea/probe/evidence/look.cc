#include "fovea/probe/evidence/look.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "fovea/probe/evidence/look_choice.h"
#include "fovea/probe/evidence/question_kind.h"
#include "fovea/probe/evidence/question_words.h"

namespace fovea::probe {
namespace {

using Clock = std::chrono::steady_clock;
using engine::SequenceId;
using engine::Session;

// What an answer takes, in tokens that could be read in its time: drafts of what it copies count as read.
constexpr size_t kAnswerWork = 80;

constexpr int kByWords = 6;  // paragraphs that are found by the question's words alone

// A passage that stands alone in a prompt, and the sequence that holds all of it but the last token.
struct ViewRead {
  engine::DocumentPrompt prompt;
  SequenceId sequence = 0;
  double question = 0;  // mean log-probability of the tokens of the question and of what follows it
};

double logprob_of(std::span<const float> logits, int32_t token) {
  return double{engine::logprobs_of(logits, token, 0).chosen.logprob};
}

// Where to look: what the heads looked at and what has the question's rare words, in turn, the best first.
std::vector<EvidenceSpan> places_of(std::span<const engine::Document> documents, const std::string& question,
                                    std::span<const EvidenceSpan> seen) {
  const std::vector<EvidenceSpan> by_words = spans_by_words(documents, question, kByWords);
  std::vector<EvidenceSpan> out;
  for (size_t i = 0; i < std::max(seen.size(), by_words.size()); ++i) {
    if (i < seen.size()) out.push_back(seen[i]);
    if (i < by_words.size()) out.push_back(by_words[i]);
  }
  return out;
}

double mean_of(double sum, size_t n) { return sum / std::max<double>(1, static_cast<double>(n)); }

double mean_logprob(const engine::Generation& answer) {
  double sum = 0;
  for (const auto& at : answer.logprobs) sum += double{at.chosen.logprob};
  return mean_of(sum, answer.logprobs.size());
}

class Looker {
 public:
  Looker(Session& session, std::span<const engine::Document> documents, const std::string& question,
         const LookOptions& options)
      : session_(session), documents_(documents), question_(look_question(question)), options_(options) {}
  ~Looker() {
    for (const SequenceId one : held_) session_.remove(one);
  }
  Looker(const Looker&) = delete;
  Looker& operator=(const Looker&) = delete;

  // The passages, then nothing at all: what the model holds of the question without any text.
  Status read(std::span<const Passage> passages, std::optional<SequenceId> begun) {
    for (const Passage& passage : passages) {
      const engine::Document& document = documents_[static_cast<size_t>(passage.document)];
      FOVEA_RETURN_IF_ERROR(add(document.text.substr(passage.begin, passage.end - passage.begin)));
    }
    FOVEA_RETURN_IF_ERROR(add("..."));
    // What all prompts begin with is fed once.
    size_t n_same = readings_[0].prompt.n_shared;
    for (const ViewRead& reading : readings_) {
      const std::vector<int32_t>&a = readings_[0].prompt.tokens, &b = reading.prompt.tokens;
      const auto differ = std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first;
      n_same = std::min({n_same, reading.prompt.n_shared - 1, static_cast<size_t>(differ - a.begin())});
    }
    const SequenceId root = hold(begun ? session_.fork(*begun) : session_.begin());
    if (n_same > 0) {
      const auto read = session_.prefill(root, std::span(readings_[0].prompt.tokens).first(n_same), prefill());
      if (!read) return read.error();
    }
    for (ViewRead& reading : readings_) FOVEA_RETURN_IF_ERROR(read(reading, root, n_same));
    return {};
  }
  double question(size_t i) const { return readings_[i].question - readings_.back().question; }

  Status answer(size_t i, Look& look) {
    const std::span<const int32_t> tokens = readings_[i].prompt.tokens;
    engine::GenerateOptions generate;
    generate.n_predict = options_.n_predict;
    generate.sampling = {.temperature = 0};
    generate.lookup.max_drafted = engine::LookupOptions::kMost;  // answers copy what was read
    generate.n_logprobs = 0;
    generate.before = tokens.first(tokens.size() - 1);
    generate.cancel = generate.prefill.cancel = options_.cancel;
    const SequenceId fork = hold(session_.fork(readings_[i].sequence));
    FOVEA_ASSIGN_OR_RETURN(const engine::Generation answer, engine::generate(session_, fork, tokens.last(1), generate));
    if (answer.finish == engine::Finish::kCancelled) return make_error(ErrorCode::kCancelled, "interrupted");
    look.answer = answer.text, look.tokens = answer.tokens;
    look.logprob = mean_logprob(answer);
    return {};
  }

  // How likely some answers are behind what was read: `pairs` of answer and reading, all in one pass.
  Result<std::vector<double>> likely(std::span<const std::pair<const Look*, size_t>> pairs) {
    std::vector<std::vector<int32_t>> fed;
    for (const auto& [look, i] : pairs) {
      fed.push_back({readings_[i].prompt.tokens.back()});
      const size_t n = std::min(look->tokens.size(), static_cast<size_t>(options_.n_predict));
      fed.back().insert(fed.back().end(), look->tokens.begin(), look->tokens.begin() + static_cast<ptrdiff_t>(n));
    }
    std::vector<Session::Feed> feeds;
    for (size_t p = 0; p < pairs.size(); ++p) {
      feeds.push_back({hold(session_.fork(readings_[pairs[p].second].sequence)), fed[p], Session::Logits::kAll,
                       attention::Phase::kPromptEnd});
    }
    FOVEA_ASSIGN_OR_RETURN(const tensor::Tensor logits, session_.step(feeds, options_.cancel));
    const auto width = static_cast<size_t>(session_.shape().vocab_size);
    std::vector<double> out;
    size_t row = 0;
    for (const std::vector<int32_t>& tokens : fed) {
      double sum = 0;
      for (size_t t = 1; t < tokens.size(); ++t, ++row)
        sum += logprob_of(logits.values().subspan(row * width, width), tokens[t]);
      ++row;  // behind the last token
      out.push_back(mean_of(sum, tokens.size() - 1));
    }
    return out;
  }

 private:
  SequenceId hold(SequenceId sequence) {
    held_.push_back(sequence);
    return sequence;
  }

  engine::PrefillOptions prefill() const {
    engine::PrefillOptions out;
    out.cancel = options_.cancel, out.more = true;
    return out;
  }

  Status add(const std::string& text) {
    FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, session_.model().tokenizer());
    const engine::Document alone{"", text};
    FOVEA_ASSIGN_OR_RETURN(engine::DocumentPrompt prompt,
                           engine::make_document_prompt(session_.model().source(), *tokenizer, {&alone, 1}, question_));
    readings_.push_back({std::move(prompt)});
    return {};
  }

  Status read(ViewRead& reading, SequenceId root, size_t n_same) {
    const std::span<const int32_t> tokens = reading.prompt.tokens;
    reading.sequence = hold(session_.fork(root));
    const size_t first_row = reading.prompt.n_shared - 1;  // it gives the first token of the question
    engine::PrefillOptions options = prefill();
    if (first_row > n_same) {
      const auto read = session_.prefill(reading.sequence, tokens.subspan(n_same, first_row - n_same), options);
      if (!read) return read.error();
    }
    const auto width = static_cast<size_t>(session_.shape().vocab_size);
    options.on_logits = [&](int64_t first, const tensor::Tensor& logits) -> Status {
      for (size_t i = 0; i < static_cast<size_t>(logits.dim(0)); ++i) {
        const int32_t next = tokens[first_row + static_cast<size_t>(first) + i + 1];
        reading.question += logprob_of(logits.values().subspan(i * width, width), next);
      }
      return {};
    };
    const size_t n = tokens.size() - 1 - first_row;
    const auto read = session_.prefill(reading.sequence, tokens.subspan(first_row, n), options);
    if (!read) return read.error();
    reading.question = mean_of(reading.question, n);
    return {};
  }

  Session& session_;
  std::span<const engine::Document> documents_;
  const std::string question_;
  const LookOptions& options_;
  std::vector<ViewRead> readings_;  // the last: nothing is read
  std::vector<SequenceId> held_;
};

}  // namespace

std::string_view name_of(View view) { return view == View::kWhole ? "whole" : "passage"; }

Result<Looked> look_again(Session& session, std::span<const engine::Document> documents, const std::string& question,
                          const engine::DocumentPrompt& prompt, const engine::Generation& first,
                          std::span<const EvidenceSpan> spans, std::optional<SequenceId> begun,
                          const LookOptions& options) {
  const Clock::time_point start = Clock::now();
  Looked out;
  Look& whole = out.looks.emplace_back();
  whole.answer = first.text, whole.tokens = first.tokens;
  whole.logprob = mean_logprob(first);
  // What is left for reading, of all that may be read again, when the answers are there: of the first answer, and of
  // one of the passage.
  const size_t most =
      std::max(options.least, static_cast<size_t>(options.share * static_cast<double>(prompt.tokens.size())));
  const size_t question_tokens = prompt.tokens.size() - prompt.n_shared;
  if (first.tokens.empty() || most < kAnswerWork + 4 * question_tokens) return out;
  // A passage is read with the question behind it, and so is nothing. Where little may be read, three short ones tell
  // more than one.
  const size_t left = most - kAnswerWork - question_tokens;
  PassageOptions limits = options.passages;
  limits.besides = question_tokens;
  limits.max_tokens = std::min(limits.max_tokens, left);
  limits.most_tokens =
      std::min(limits.most_tokens, std::max(limits.least_tokens, left / 3 - std::min(left / 3, question_tokens)));
  const std::vector<Passage> passages = passages_of(documents, prompt, places_of(documents, question, spans), limits);
  if (passages.empty()) return out;
  Looker looker(session, documents, question, options);
  FOVEA_RETURN_IF_ERROR(looker.read(passages, begun));
  std::vector<size_t> order(passages.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return looker.question(a) > looker.question(b); });
  for (const size_t i : order) {
    Look& look = out.looks.emplace_back();
    look.view = View::kPassage, look.passage = passages[i], look.question = looker.question(i);
  }
  FOVEA_RETURN_IF_ERROR(looker.answer(order[0], out.looks[1]));
  const size_t nothing = passages.size();
  const std::pair<const Look*, size_t> pairs[] = {
      {&out.looks[0], order[0]}, {&out.looks[0], nothing}, {&out.looks[1], nothing}};
  FOVEA_ASSIGN_OR_RETURN(const std::vector<double> likely, looker.likely(pairs));
  out.looks[0].within = likely[0], out.looks[0].without = likely[1];
  out.looks[1].within = out.looks[1].logprob, out.looks[1].without = likely[2];
  choose(out, kind_of(question));
  out.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return out;
}

}  // namespace fovea::probe

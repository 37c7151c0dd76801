#include "fovea/probe/measures/needle_reader.h"

#include <chrono>

#include "fovea/kernels/vector.h"

namespace fovea::probe {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Result<engine::SequenceId> NeedleReader::feed(std::span<const int32_t> tokens, const std::atomic<bool>* cancel) {
  // A method that drops keys or counts what it saw cannot be taken back.
  bool keeps_all = true;
  for (const auto& method : session_.pipeline().methods()) {
    keeps_all = keeps_all && (method->info().stages & attention::kKeep) == 0 && !method->begin_sequence();
  }
  size_t same = 0;
  if (keeps_all && sequence_ >= 0) {
    // At least one token is fed, so that an error of the model is seen.
    while (same < fed_.size() && same + 1 < tokens.size() && fed_[same] == tokens[same]) ++same;
    session_.truncate(sequence_, static_cast<int32_t>(same));
  } else {
    if (sequence_ >= 0) session_.remove(sequence_);
    sequence_ = session_.begin();
  }
  fed_.assign(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(same));
  const auto fed =
      session_.prefill(sequence_, tokens.subspan(same), {.progress = nullptr, .cancel = cancel, .on_logits = nullptr});
  if (!fed) {
    session_.remove(sequence_);
    sequence_ = -1;
    fed_.clear();
    return fed.error();
  }
  fed_.assign(tokens.begin(), tokens.end());
  return sequence_;
}

Result<NeedleSample> NeedleReader::answer(const tasks::NeedlePrompt& prompt, const tasks::NeedleOptions& options,
                                          bool with_trace, const std::atomic<bool>* cancel) {
  auto start = std::chrono::steady_clock::now();
  // All but the last token are read; that one is decoded, so that its row is seen and masks hold for it.
  const std::span<const int32_t> tokens = prompt.tokens;
  FOVEA_ASSIGN_OR_RETURN(const engine::SequenceId sequence, feed(tokens.first(tokens.size() - 1), cancel));
  prefill_seconds_ += seconds_since(start);
  start = std::chrono::steady_clock::now();

  TopKeys keys(session_.shape().n_layers, session_.shape().n_heads, options.top_k);
  NeedleSample sample;
  sample.trace = keys.new_trace();
  if (with_trace) session_.observe(&keys);
  std::vector<int32_t> answer;
  Status status;
  engine::Session::Step step{sequence, tokens.back()};
  for (int i = 0; i < options.decode_max; ++i) {
    const auto logits = session_.decode({&step, 1});
    if (!logits) {
      status = logits.error();
      break;
    }
    step.token =
        static_cast<int32_t>(kernels::argmax(logits->values().data(), static_cast<int64_t>(logits->values().size())));
    ++n_decoded_;
    if (with_trace) keys.take(step.token, sample.trace);
    if (tokenizer_.ends_text(step.token) || tokenizer_.piece(step.token).find('\n') != std::string_view::npos) break;
    answer.push_back(step.token);
  }
  session_.stop_observing(&keys);
  decode_seconds_ += seconds_since(start);
  FOVEA_RETURN_IF_ERROR(status);
  FOVEA_ASSIGN_OR_RETURN(sample.text, tokenizer_.decode(answer));
  sample.recall = tasks::rouge1_recall(sample.text, options.needles[prompt.needle].answer);
  sample.accepted = sample.recall > options.accept;
  return sample;
}

}  // namespace fovea::probe

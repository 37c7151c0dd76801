// Reads the prompts of the needle task one after the other and says where each head looked.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/engine/session.h"
#include "fovea/probe/measures/retrieval.h"
#include "fovea/tasks/needle.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::probe {

using tasks::NeedleOptions;
using tasks::NeedlePrompt;

struct NeedleSample {
  std::string text;  // what the model answered
  double recall = 0;
  bool accepted = false;
  CopyTrace trace;  // empty unless it was asked for
};
// Answers one prompt greedily. Its prefix is taken from the prompt answered before, where the session's
// methods keep every key.
class NeedleReader {
 public:
  NeedleReader(engine::Session& session, const tokenizers::Tokenizer& tokenizer)
      : session_(session), tokenizer_(tokenizer) {}
  Result<NeedleSample> answer(const tasks::NeedlePrompt& prompt, const tasks::NeedleOptions& options, bool with_trace,
                              const std::atomic<bool>* cancel = nullptr);
  double prefill_seconds() const { return prefill_seconds_; }
  double decode_seconds() const { return decode_seconds_; }
  int64_t n_decoded() const { return n_decoded_; }

 private:
  Result<engine::SequenceId> feed(std::span<const int32_t> tokens, const std::atomic<bool>* cancel);

  engine::Session& session_;
  const tokenizers::Tokenizer& tokenizer_;
  engine::SequenceId sequence_ = -1;  // holds fed_
  std::vector<int32_t> fed_;
  double prefill_seconds_ = 0, decode_seconds_ = 0;
  int64_t n_decoded_ = 0;
};

}  // namespace fovea::probe

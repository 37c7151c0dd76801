// The prompts of a task in a model's own tokens: filled to their length to the token, with what is hidden at its depth.
// Texts are read apart and put together as tokens, so that a length needs no trial, and each place is known.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fovea/engine/document.h"
#include "fovea/formats/source.h"
#include "fovea/tasks/needle.h"  // TokenSpan
#include "fovea/tasks/task.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::tasks {

enum class Asking {
  kSeen,   // context and question are one prompt: methods drop keys when they have seen the question
  kLater,  // the context is a prompt of its own; its questions come behind it, one after the other
};

struct SampleOptions {
  int length = 1024;  // tokens of a prompt, chat template and question included
  int n_samples = 10;
  uint64_t seed = 0;
  Asking asking = Asking::kSeen;
  std::optional<double> depth;                       // of every sample; none: evenly from 0 to 1
  std::span<const engine::Document> haystacks = {};  // none: generated prose
};
inline constexpr int kLaterQuestions = 5;  // of a context, where the task has more than one

struct SampleQuestion {
  Question question;
  std::vector<int32_t> tokens;  // behind the context's: question, template, what the answer begins with
  int n_answer = 0;             // tokens that an answer may have
  std::optional<double> depth;  // where its answer stands in the filling, in tokens; a sentence from the depth asked
                                // for at most. None: everywhere
  TokenSpan needle;             // of the context; empty: everywhere
};
struct Sample {
  std::vector<int32_t> context;           // with the template's beginning
  std::vector<SampleQuestion> questions;  // of a task that scores tokens: one, with the second half as its tokens
};

// In every sample, context and longest question have `length` tokens together. Same options, same samples. kUsage for
// a length that the task's texts do not fit in, with both numbers; kCancelled.
Result<std::vector<Sample>> make_samples(const Task& task, const formats::ModelSource& source,
                                         const tokenizers::Tokenizer& tokenizer, const SampleOptions& options);

}  // namespace fovea::tasks

// The needle task: a sentence alien to a long text is hidden in it, and the model is asked for it.
// Retrieval heads are found with it (arXiv:2404.15574, sec. 2), and what masking them does (sec. 4.1).
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/engine/session.h"
#include "fovea/probe/document_prompt.h"
#include "fovea/probe/retrieval.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::probe {

struct Needle {
  std::string sentence, question;
  std::string answer;  // a part of the sentence: what must be copied
};
const std::vector<Needle>& shipped_needles();

struct NeedleOptions {
  std::vector<int> lengths = {512, 1024, 2048};  // tokens of the whole prompt
  int n_depths = 6;                              // from the text's start to its end, evenly
  std::vector<Needle> needles = shipped_needles();
  uint64_t seed = 0;    // which text, and where in it each haystack starts
  int decode_max = 50;  // tokens of answer; it also ends with its first line
  double accept = 0.5;  // the needle was found if the ROUGE-1 recall of its answer is above this
  int top_k = 1;        // keys of each head that are looked at
};

// How much of the words of `reference` stands in `text`, each word as often as it is there: 0 to 1.
double rouge1_recall(std::string_view text, std::string_view reference);

// What became of an answer. Sec. 4.1 names three ways to fail; here each is a rule over words (letters
// and digits, in lower case), tried in this order:
//   found             the ROUGE-1 recall of the needle's answer is above `accept`
//   no answer         there is no word
//   incomplete        a key word of the needle is there: one of its answer's words that stands neither in
//                     its question nor anywhere else in the prompt
//   wrong extraction  four words in a row stand in the prompt outside of needle and question
//   hallucination     everything else: words that are from neither
enum class NeedleOutcome { kFound, kNoAnswer, kIncomplete, kWrongExtraction, kHallucination };
std::string_view name_of(NeedleOutcome outcome);
// `prompt`: all that the model read, as text.
NeedleOutcome label_answer(std::string_view answer, const Needle& needle, std::string_view prompt, double accept);

// Texts of this machine that a needle is alien to (licences of Debian). kNotFound if there are none.
Result<std::vector<Document>> default_haystacks();

struct NeedlePrompt {
  int length = 0;     // as asked; tokens.size() is a little below
  double depth = 0;   // likewise; the needle stands at the end of the sentence before
  size_t needle = 0;  // index into the options
  std::vector<int32_t> tokens;
  TokenSpan answer;  // of the needle's answer in `tokens`
};
// All prompts, such that neighbours share long prefixes. kUsage for a length that the haystacks cannot
// fill or that leaves no room for a text.
Result<std::vector<NeedlePrompt>> make_needle_prompts(const formats::ModelSource& source,
                                                      const tokenizers::Tokenizer& tokenizer,
                                                      std::span<const Document> haystacks,
                                                      const NeedleOptions& options);

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
  Result<NeedleSample> answer(const NeedlePrompt& prompt, const NeedleOptions& options, bool with_trace,
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

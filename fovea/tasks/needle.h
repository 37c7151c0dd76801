// The needle task: a sentence alien to a long text is hidden in it, and the model is asked for it.
// Retrieval heads are found with it (arXiv:2404.15574, sec. 2), and what masking them does (sec. 4.1).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/engine/document_prompt.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::tasks {

// Positions [begin, end) of a prompt.
struct TokenSpan {
  int32_t begin = 0, end = 0;
  bool contains(int32_t position) const { return begin <= position && position < end; }
  int32_t size() const { return end - begin; }
};

// The first window of needle.size() tokens that holds more than `cover` of the needle's distinct
// tokens. (Not a search for the ids: the needle's edges may be cut differently inside a text.)
std::optional<TokenSpan> locate_needle(std::span<const int32_t> prompt, std::span<const int32_t> needle,
                                       double cover = 0.9);

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

// Texts of this machine that a needle is alien to (licences of Debian). kNotFound if there are none, kIo, kCancelled.
Result<std::vector<engine::Document>> default_haystacks();

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
                                                      std::span<const engine::Document> haystacks,
                                                      const NeedleOptions& options);

}  // namespace fovea::tasks

// From a prompt's token ids to an answer: sampling and the decode loop.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/base/result.h"
#include "fovea/engine/session.h"

namespace fovea::engine {

// Names, meaning and order as in llama.cpp: bias, penalties, top-k, top-p, min-p, temperature.
struct SamplingOptions {
  float temperature = 0.8f;     // 0: greedy (the first of equals)
  int top_k = 40;               // 0: all
  float top_p = 0.95f;          // 1: all
  float min_p = 0.05f;          // 0: all
  float repeat_penalty = 1.0f;  // 1: none; divides positive and multiplies negative logits
  float presence_penalty = 0;   // taken once from the logit of a token that occurred; -2 to 2 as in OpenAI's API
  float frequency_penalty = 0;  // taken as often as it occurred
  int repeat_last_n = 64;       // tokens that the three penalties look back; -1: all
  uint64_t seed = 0;
  std::map<int32_t, float> logit_bias = {};  // added to the logits; -inf bans a token
};
// kUsage naming the option and its range (bad-inputs H6).
Status check_sampling(const SamplingOptions& options, int vocab_size);

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);
  // `history`: prompt and answer so far. Same seed, logits and histories since the start: same token.
  // NaN is never chosen; 0 if nothing is left to choose. Precondition: check_sampling() passed.
  int32_t sample(std::span<const float> logits, std::span<const int32_t> history);

 private:
  struct Candidate {
    float logit;
    int32_t id;
  };
  std::span<const float> adjusted(std::span<const float> logits, std::span<const int32_t> history);

  SamplingOptions options_;
  Rng random_;
  std::vector<float> adjusted_;
  std::vector<int32_t> recent_;
  std::vector<Candidate> candidates_;
};

enum class Finish { kStop, kLength, kCancelled };
std::string_view name_of(Finish finish);  // "stop", "length", "cancelled"

// Drafts from what was read and answered so far (lookup.h). The answer is that of plain decoding, token by token.
// Without effect where a draft cannot be taken back (Session::can_verify).
struct LookupOptions {
  static constexpr int kMost = 16;
  int max_drafted = 0;  // tokens of a draft at most; 0: off
  bool adapt = true;    // as many as pay, by what they cost and bring; false: always as many as are found
};

// How likely the model itself holds a token, before bias, penalties and temperature.
struct TokenLogprob {
  int32_t token;
  float logprob;  // ln
};
struct PositionLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // the likeliest first, the lower id of equals
};
// NaN is taken for impossible; n_top over the number of logits is that number.
PositionLogprobs logprobs_of(std::span<const float> logits, int32_t chosen, int n_top);

struct GenerateOptions {
  static constexpr int kMostLogprobs = 20;
  int n_predict = -1;  // -1: until the model ends or the context is full
  SamplingOptions sampling;
  LookupOptions lookup;
  std::vector<std::string> stop;  // the answer ends before the first of these
  bool ignore_eos = false;        // end tokens are banned
  int n_logprobs = -1;            // Generation::logprobs with so many of the likeliest; -1: none
  PrefillOptions prefill;
  const std::atomic<bool>* cancel = nullptr;  // looked at before every token
  std::span<const int32_t> before = {};       // what the sequence holds already: for the repeat penalty and lookups
  // Whole characters as they are sure to belong to the answer (text that may begin a stop string
  // waits). An error ends the generation with it.
  std::function<Status(std::string_view text)> on_text;
  // After sampling, when the row that gave the token has been observed. With lookups, rows of a draft have been too:
  // an observer goes by their positions, and a row that comes again replaces the former.
  std::function<void(int32_t token)> on_token;
};
// kUsage naming the option and its range (bad-inputs H6, H7).
Status check_generation(const GenerateOptions& options, int vocab_size);

struct Generation {
  std::string text;                        // of a model without a vocabulary: the ids, a space between them
  std::vector<int32_t> tokens;             // without the end token; with those that spelt a stop string
  std::vector<PositionLogprobs> logprobs;  // of each token, if they were asked for
  Finish finish = Finish::kLength;
  int64_t n_prompt = 0;                   // tokens prefilled now
  int64_t n_drafted = 0, n_accepted = 0;  // tokens that lookups drafted, and those of them that the answer has
  double prompt_seconds = 0, predicted_seconds = 0;
};

// Feeds `prompt` to the sequence, then samples until it ends: at an end token, a stop string,
// n_predict, or when the context is full (a prompt that fills it gets one token). The sequence then
// holds prompt and answer but for the last token sampled, which nothing was asked about. Cancelled in
// the prompt: kCancelled. Cancelled in the answer: the answer so far.
Result<Generation> generate(Session& session, SequenceId sequence, std::span<const int32_t> prompt,
                            const GenerateOptions& options);

}  // namespace fovea::engine

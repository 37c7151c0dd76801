// A short dense or edited run, for the checks that most papers have: an idle method changes no bit, looking costs
// little.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "fovea/engine/key_bytes.h"
#include "papers/support/run.h"

namespace fovea::papers {

struct DecodeRun {
  int n_keys = 0;               // in the end
  std::vector<float> logits;    // of every step, one after the other
  std::vector<double> seconds;  // that every step took
  double prefill_seconds = 0;   // that the prompt took
  engine::KeyBytes bytes;       // of the cache in the end
  std::vector<int64_t> kept;    // keys of every KV head in the end, [n_layers * n_kv_heads]
};
struct DecodeOptions {
  std::string attention = "dense";
  int n_prompt = 40, n_decoded = 8;                      // random tokens; as many as the model reads at most
  int chunk = 512;                                       // tokens of a prefill step
  bool prompt_logits = false;                            // of every token of the prompt too, before those of the steps
  attention::RowObserver* observer = nullptr;            // sees the decoded rows
  std::function<void(int32_t token)> on_step = nullptr;  // after each step, with the token that was fed
  std::shared_ptr<const attention::HeadProfile> profile = nullptr;  // for methods that need one
};
Result<DecodeRun> decode_run(Run& run, const DecodeOptions& options);

// Whether a decoding under `attention`, with knobs that do nothing, has the bits of dense.
Result<Outcome> same_bits(Run& run, const std::string& attention);
// Whether prompt (whole and in chunks of 48) and decoding have them, where nothing is dropped within `n_keys`.
Result<Outcome> same_bits_throughout(Run& run, const std::string& attention, int n_keys = 160);

// Whether in the end least_full to most_full KV heads hold every key and each other one `few`, in the bytes of as many
// full pages, one a short head more or less at most: of dense, whose pages are full. No data while nothing is dropped.
Outcome holds(const DecodeRun& run, int64_t few, int64_t least_full, int64_t most_full);

// What of a step's time goes into attention, by what dense attention takes: (a step of `attention` - a step without a
// past) / (a dense step - that), medians at `n_keys` keys. Passes where it is the share of key bytes, 0.15 more at
// most; no data where the model reads fewer than 1,024 keys: then a step hardly hangs on them.
Result<Outcome> attention_time(Run& run, const std::string& attention, int n_keys,
                               std::shared_ptr<const attention::HeadProfile> profile = nullptr);

// Milliseconds of a decoded step behind so many random tokens, the median of 24.
Result<double> step_ms(Run& run, const std::string& attention, int n_keys);
// What `attention` takes, by dense attention, of reading a prompt and of a step behind it (medians), at each of these
// numbers of keys. Passes where that is `most_prompt` and `most_step` times as long at most; no data below 256 keys,
// where there is nothing to time.
Result<Outcome> cost_by_dense(Run& run, const std::vector<int>& n_keys,
                              const std::function<std::string(int n_keys)>& attention, double most_prompt,
                              double most_step);

double median(std::vector<double> values);  // 0 of none

}  // namespace fovea::papers

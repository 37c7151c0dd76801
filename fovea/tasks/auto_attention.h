// --attention auto: of what a leaderboard measured on this model, the fastest program that keeps to a bound on quality.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/attention/shape.h"
#include "fovea/base/result.h"
#include "fovea/tasks/leaderboard.h"

namespace fovea::tasks {

struct AutoBound {
  double nll = 1;     // % of dense's loss that may be added
  double recall = 2;  // points of needle recall, over the tasks that dense solves, that may be lost
};
// "auto", or with a bound: "auto:nll=2:recall=5". None if the spec is no auto; kUsage for another knob or a bad value.
Result<std::optional<AutoBound>> parse_auto(std::string_view spec);

struct AutoRequest {
  AutoBound bound = {};
  int64_t n_tokens = 0;          // of the prompt; 0: not known
  int64_t n_answer = 64;         // tokens decoded behind it
  uint64_t dense_kv_bytes = 0;   // of prompt and answer, all keys kept
  uint64_t available_bytes = 0;  // for them; 0: not known
};
struct AutoChoice {
  std::string spec = "dense";
  std::string why;     // one line, without the spec
  double speedup = 1;  // of reading and answering, where that was measured
  double prefill_speedup = 1;
  int64_t measured_at = 0;  // tokens; 0: nothing was
};

// Dense where nothing measured is at least kPays times as fast, or no board lies near the length. Past the trained
// length, which dense cannot read: the best of the rows that can, else Method::past_window of the first that says one.
inline constexpr double kPays = 1.1;
AutoChoice choose_attention(std::span<const MeasuredBoard> boards, const attention::ModelShape& shape,
                            const AutoRequest& request);

// Boards of this model file: those of `fovea leaderboard` in the user's cache, then those that are built in. A damaged
// file is passed over with a warning. numerics: "fast" or "exact".
std::vector<MeasuredBoard> measured_boards(std::string_view model_sha256, std::string_view numerics,
                                           std::string_view cache_type);

// Where `fovea leaderboard` keeps boards; empty if there is no folder that can be trusted.
std::string board_folder();

struct ShippedBoard {
  std::string_view file_name, json;
};
std::span<const ShippedBoard> shipped_boards();  // profiles/boards/*.json of the source tree, built in

}  // namespace fovea::tasks

// Attention methods beside one another on one model: what they lose on tasks and on a text, what they save in seconds
// and in bytes of keys and values. Rows are kept in a file as they come, so that a run that was ended goes on. It
// prints nothing.
#pragma once

#include <atomic>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/tasks/eval.h"

namespace fovea::tasks {

// Knobs with "{SHARE}" put in as tokens: that share of `length`, at least 1.
std::string at_length(std::string_view knobs, int length);
// What the registered methods say of themselves (MethodInfo::budgets), and the pairs of one that narrows what is read
// with one that lets keys go, where both name a setting for it (MethodInfo::pair). Without dense.
std::vector<std::string> leaderboard_specs(int length);

inline constexpr double kEnoughOfDense = 0.7;  // a task that dense solves less often says nothing of a method

struct BoardRow {
  std::string method;  // its spec
  struct Cell {
    std::string task;  // "niah"; "niah@later": five questions behind a context that is read without them
    double score = 0, dense_score = 0;
    bool tells() const { return dense_score >= kEnoughOfDense; }
  };
  std::vector<Cell> cells;
  double nll = 0, nll_delta = 0;                               // nats a token, and less dense's
  double prefill_seconds = 0, decode_seconds = 0;              // medians; decode: of a token
  double dense_prefill_seconds = 0, dense_decode_seconds = 0;  // timed in turn with them
  uint64_t kv_bytes = 0, dense_kv_bytes = 0;                   // of the cache, when the timed tokens are decoded

  std::optional<double> score() const;  // mean over the tasks that tell; none where none does
  double prefill_speedup() const { return dense_prefill_seconds / prefill_seconds; }
  double decode_speedup() const { return dense_decode_seconds / decode_seconds; }
  double kv_ratio() const { return static_cast<double>(kv_bytes) / static_cast<double>(dense_kv_bytes); }
};
struct LeftOut {
  std::string method, why;
};
struct Board {
  std::vector<BoardRow> rows;  // dense first
  std::vector<LeftOut> left_out;
  size_t n_kept = 0;  // rows of an earlier run
};

struct BoardOptions {
  std::vector<std::string> specs;  // without dense
  std::vector<std::string> tasks = {"passkey", "niah", "vt", "cwe", "fwe", "niah@later"};
  int length = 1024, samples = 5, repetitions = 3, n_decode = 16;
  uint64_t seed = 0;
  std::span<const engine::Document> haystacks = {};
  std::string path;     // where rows are kept; empty: nowhere
  nlohmann::json key;   // all that the rows depend on besides their specs; another one's file is refused
  bool again = false;   // what the file holds is measured anew
  bool retime = false;  // of that, the seconds and bytes alone: after a run beside other work, or on another machine
  std::function<void(const std::string& method, size_t i, size_t n)> on_row;  // as it begins
  const std::atomic<bool>* cancel = nullptr;
};

// What a file of rows holds: its setting (with `length`, `model_sha256`, `numerics`, `cache_type`), its rows, dense
// first.
struct MeasuredBoard {
  nlohmann::json key;
  std::vector<BoardRow> rows;
};
// kData if it is no leaderboard; `name` for the message.
Result<MeasuredBoard> parse_board(const nlohmann::json& file, const std::string& name);
Result<MeasuredBoard> read_board(const std::string& path);

// kUsage for an unknown task, a file of other results, or a length that a task does not fit in; kCancelled, with the
// rows that were ready in the file. A method that the model cannot run is left out, with what its session says.
Result<Board> run_leaderboard(const engine::Model& model, const OpenSession& open, const BoardOptions& options);

nlohmann::json to_json(const BoardRow& row);
// One page that loads nothing: the table, and what is lost against prefill seconds and against bytes.
std::string leaderboard_page(const Board& board, const std::string& title, const std::string& setting);

}  // namespace fovea::tasks

#include "fovea/tasks/auto_attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "fovea/attention/method.h"
#include "fovea/attention/pipeline.h"
#include "fovea/base/bytes.h"
#include "fovea/base/log.h"
#include "fovea/base/numbers.h"
#include "fovea/base/split.h"
#include "fovea/engine/session.h"  // context_of
#include "fovea/store/user_cache.h"

namespace fovea::tasks {
namespace {

using nlohmann::json;

// A board speaks for prompts from two thirds of its length to four times it: budgets in tokens were set for its own.
constexpr double kLeastReach = 2.0 / 3, kMostReach = 4;
constexpr double kMemoryShare = 0.8;  // of what is free that keys and values may take

int64_t length_of(const MeasuredBoard& board) { return board.key.value("length", int64_t{0}); }

const MeasuredBoard* nearest_board(std::span<const MeasuredBoard> boards, int64_t n_tokens) {
  const MeasuredBoard* best = nullptr;
  double least = 0;
  for (const MeasuredBoard& board : boards) {
    const auto length = static_cast<double>(length_of(board)), n = static_cast<double>(n_tokens);
    if (length <= 0 || board.rows.empty() || n < kLeastReach * length || n > kMostReach * length) continue;
    const double far = std::abs(std::log(n / length));
    if (!best || far < least) best = &board, least = far;
  }
  return best;
}

bool finds_needles(std::string_view task) {
  task = task.substr(0, task.find('@'));
  for (const std::string_view name : {"passkey", "niah", "multikey", "multivalue", "kv-retrieval"}) {
    if (task == name) return true;
  }
  return false;
}

// Over the needle tasks that dense solves; none where it solves none.
std::optional<double> recall_of(const BoardRow& row) {
  double sum = 0;
  int n = 0;
  for (const BoardRow::Cell& cell : row.cells) {
    if (cell.tells() && finds_needles(cell.task)) sum += cell.score, ++n;
  }
  return n > 0 ? std::optional(sum / n) : std::nullopt;
}

double speedup_of(const BoardRow& row, int64_t n_answer) {
  const auto n = static_cast<double>(n_answer);
  return (row.dense_prefill_seconds + n * row.dense_decode_seconds) / (row.prefill_seconds + n * row.decode_seconds);
}

struct Judged {
  const BoardRow* row;
  double speedup, nll_loss, recall_loss;  // %, points
};

bool reads(const std::string& spec, const attention::ModelShape& shape, int64_t n_tokens) {
  const auto pipeline = attention::Pipeline::parse(spec, shape);
  return pipeline && engine::context_of(*pipeline, shape) >= n_tokens;
}

AutoChoice chosen(const Judged& best, const AutoRequest& request, int64_t length, const std::string& reason) {
  AutoChoice out;
  out.spec = best.row->method;
  out.speedup = best.speedup, out.prefill_speedup = best.row->prefill_speedup(), out.measured_at = length;
  out.why = fmt::format(
      "for {} tokens: {}{:.1f} times as fast as dense, {:.2f} of its bytes, {:+.1f} % of loss, {:+.0f} points of "
      "needles "
      "(bounds {:g} and {:g}; measured at {} tokens)",
      request.n_tokens, reason, best.speedup, best.row->kv_ratio(), best.nll_loss, -best.recall_loss, request.bound.nll,
      request.bound.recall, length);
  return out;
}

AutoChoice past_window(const attention::ModelShape& shape, const AutoRequest& request) {
  AutoChoice out;
  for (const std::string& name : attention::method_names()) {
    const std::string_view knobs = attention::make_method(name)->info().past_window;
    const std::string spec = knobs.empty() ? "" : fmt::format("{}:{}", name, knobs);
    if (spec.empty() || !reads(spec, shape, request.n_tokens)) continue;
    out.spec = spec;
    out.why = fmt::format("for {} tokens: dense reads {} at most, what the model was trained for", request.n_tokens,
                          shape.n_ctx);
    return out;
  }
  out.why = fmt::format("though {} tokens are more than the {} that the model was trained for: no method reads on",
                        request.n_tokens, shape.n_ctx);
  return out;
}

}  // namespace

Result<std::optional<AutoBound>> parse_auto(std::string_view spec) {
  const std::vector<std::string_view> fields = split(spec, ':');
  if (fields.empty() || fields[0] != "auto") return std::optional<AutoBound>();
  AutoBound bound;
  for (size_t i = 1; i < fields.size(); ++i) {
    const size_t equals = std::min(fields[i].find('='), fields[i].size());
    const std::string_view name = fields[i].substr(0, equals);
    double* value = name == "nll" ? &bound.nll : name == "recall" ? &bound.recall : nullptr;
    if (!value)
      return make_error(ErrorCode::kUsage,
                        "--attention {}: auto has no knob {}; it has nll (% of loss) and recall "
                        "(points)",
                        quote(spec), quote(name, 40));
    const std::string_view text = fields[i].substr(std::min(equals + 1, fields[i].size()));
    if (!parse_number(text, *value) || !(*value >= 0 && *value <= 100))
      return make_error(ErrorCode::kUsage, "--attention {}: {} is {}, not a number in 0 to 100", quote(spec), name,
                        quote(text, 40));
  }
  return std::optional(bound);
}

AutoChoice choose_attention(std::span<const MeasuredBoard> boards, const attention::ModelShape& shape,
                            const AutoRequest& request) {
  AutoChoice dense;
  const int64_t n_all = request.n_tokens + request.n_answer;
  if (request.n_tokens <= 0) {
    dense.why = "because the prompt's length is not known beforehand";
    return dense;
  }
  const bool past = request.n_tokens > shape.n_ctx;
  const MeasuredBoard* board = nearest_board(boards, request.n_tokens);
  if (!board) {
    if (past) return past_window(shape, request);
    int64_t least = 0;
    for (const MeasuredBoard& each : boards) {
      if (length_of(each) > 0 && (least == 0 || length_of(each) < least)) least = length_of(each);
    }
    dense.why =
        least > request.n_tokens
            ? fmt::format("for {} tokens: too short for anything to pay (measured from {} on)", request.n_tokens, least)
            : fmt::format(
                  "for {} tokens: nothing was measured on this model near that length (fovea "
                  "leaderboard --length {} does)",
                  request.n_tokens, request.n_tokens);
    return dense;
  }
  const int64_t length = length_of(*board);
  const bool short_of_memory =
      request.available_bytes > 0 &&
      static_cast<double>(request.dense_kv_bytes) > kMemoryShare * static_cast<double>(request.available_bytes);
  std::vector<Judged> rows;
  double fastest = 0;
  for (const BoardRow& row : board->rows) {
    if (row.method == "dense" || !reads(row.method, shape, n_all)) continue;
    if (short_of_memory && row.kv_ratio() * static_cast<double>(request.dense_kv_bytes) >
                               kMemoryShare * static_cast<double>(request.available_bytes))
      continue;
    const auto recall = recall_of(row), dense_recall = recall_of(board->rows[0]);
    rows.push_back({&row, speedup_of(row, request.n_answer), 100 * row.nll_delta / board->rows[0].nll,
                    recall ? 100 * (*dense_recall - *recall) : 100});
    fastest = std::max(fastest, rows.back().speedup);
  }
  const auto keeps = [&](const Judged& each) {
    return each.nll_loss <= request.bound.nll && each.recall_loss <= request.bound.recall;
  };
  const Judged* best = nullptr;
  for (const Judged& each : rows) {
    if (keeps(each) && (!best || each.speedup > best->speedup)) best = &each;
  }
  if (best && (best->speedup >= kPays || short_of_memory || past))
    return chosen(*best, request, length, short_of_memory ? "dense does not fit the memory; " : "");
  if (short_of_memory || past) {  // dense is no choice: what loses least
    for (const Judged& each : rows) {
      if (!best || each.nll_loss < best->nll_loss) best = &each;
    }
    if (best)
      return chosen(*best, request, length,
                    short_of_memory ? "dense does not fit the memory, and nothing that does "
                                      "keeps the bounds; "
                                    : "nothing keeps the bounds past the trained length; ");
    if (past) return past_window(shape, request);
  }
  dense.measured_at = length;
  dense.why = best || rows.empty()
                  ? fmt::format("for {} tokens: nothing that keeps the bounds is faster (measured at {} tokens)",
                                request.n_tokens, length)
                  : fmt::format(
                        "for {} tokens: none of {} programs keeps within {:g} % of loss and {:g} points of "
                        "needles (measured at {} tokens)",
                        request.n_tokens, rows.size(), request.bound.nll, request.bound.recall, length);
  return dense;
}

std::string board_folder() {
  const std::string cache = store::user_cache_dir();
  if (cache.empty()) return "";
  const std::string dir = cache + "/leaderboard";
  return store::why_not_trusted(dir).empty() ? dir : "";
}

std::vector<MeasuredBoard> measured_boards(std::string_view model_sha256, std::string_view numerics,
                                           std::string_view cache_type) {
  std::vector<MeasuredBoard> out;
  const auto add = [&](Result<MeasuredBoard> board) {
    if (!board) {
      log_warning("{}", board.error().message);
      return;
    }
    const json& key = board->key;
    if (key.value("model_sha256", "") == model_sha256 && key.value("numerics", "") == numerics &&
        key.value("cache_type", "") == cache_type && !key.contains("adapters_sha256"))
      out.push_back(std::move(*board));
  };
  std::vector<std::pair<std::filesystem::file_time_type, std::filesystem::path>> files;
  std::error_code error;
  const std::string dir = board_folder();
  if (!dir.empty()) {
    for (std::filesystem::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
      if (it->path().extension() == ".json") files.emplace_back(it->last_write_time(error), it->path());
    }
  }
  std::sort(files.rbegin(), files.rend());  // of two at one length the newest counts
  for (const auto& [time, file] : files) add(read_board(file.string()));
  for (const ShippedBoard& shipped : shipped_boards())
    add(parse_board(json::parse(shipped.json, nullptr, /*allow_exceptions=*/false), std::string(shipped.file_name)));
  return out;
}

}  // namespace fovea::tasks

#include "fovea/tasks/leaderboard.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>

#include "fovea/attention/method.h"
#include "fovea/base/check.h"
#include "fovea/base/file.h"
#include "fovea/base/interrupt.h"
#include "fovea/base/json.h"
#include "fovea/engine/key_bytes.h"

namespace fovea::tasks {
namespace {

using nlohmann::json;
using BoardClock = std::chrono::steady_clock;

constexpr uint64_t kMaxBoardBytes = uint64_t{16} << 20;

double seconds_from(BoardClock::time_point start) {
  return std::chrono::duration<double>(BoardClock::now() - start).count();
}

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

struct BoardTask {
  std::string name;
  const Task* task;
  Asking asking;
  std::vector<Sample> samples;
};

struct Timed {
  double prefill = 0, decode = 0;  // seconds; decode: of a token
  uint64_t bytes = 0;
};

// Reads the tokens but the last n_decode, which are decoded.
Result<Timed> time_once(engine::Session& session, std::span<const int32_t> tokens, int n_decode,
                        const std::atomic<bool>* cancel) {
  const engine::SequenceId sequence = session.begin();
  const size_t n_prompt = tokens.size() - static_cast<size_t>(n_decode);
  const auto run = [&]() -> Result<Timed> {
    Timed out;
    engine::PrefillOptions prefill;
    prefill.cancel = cancel;
    auto start = BoardClock::now();
    const auto read = session.prefill(sequence, tokens.first(n_prompt), prefill);
    if (!read) return read.error();
    out.prefill = seconds_from(start);
    start = BoardClock::now();
    for (const int32_t token : tokens.subspan(n_prompt)) {
      if (cancel && *cancel) return interrupted_error();
      const engine::Session::Step step{sequence, token};
      const auto logits = session.decode({&step, 1});
      if (!logits) return logits.error();
    }
    out.decode = seconds_from(start) / n_decode;
    out.bytes = engine::key_bytes(session, sequence).kept;
    return out;
  };
  auto out = run();
  session.remove(sequence);
  return out;
}

class BoardRunner {
 public:
  BoardRunner(const engine::Model& model, const OpenSession& open, const BoardOptions& options)
      : model_(model), open_(open), options_(options) {}

  Status prepare() {
    FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, model_.tokenizer());
    std::vector<std::string> names = options_.tasks;
    names.push_back("nll@later");  // the first half is a prompt of its own, behind which keys are let go
    for (const std::string& name : names) {
      BoardTask each{name, nullptr, name.ends_with("@later") ? Asking::kLater : Asking::kSeen, {}};
      FOVEA_ASSIGN_OR_RETURN(each.task, find_task(name.substr(0, name.find('@'))));
      SampleOptions sampling;
      sampling.length = options_.length, sampling.n_samples = options_.samples, sampling.seed = options_.seed;
      sampling.asking = each.asking, sampling.haystacks = options_.haystacks;
      FOVEA_ASSIGN_OR_RETURN(each.samples, make_samples(*each.task, model_.source(), *tokenizer, sampling));
      tasks_.push_back(std::move(each));
    }
    const Sample& text = tasks_.back().samples[0];
    timed_ = text.context;
    timed_.insert(timed_.end(), text.questions[0].tokens.begin(), text.questions[0].tokens.end());
    if (timed_.size() <= static_cast<size_t>(options_.n_decode))
      return make_error(ErrorCode::kUsage, "--length: {} tokens leave no prompt before {} that are decoded",
                        options_.length, options_.n_decode);
    return {};
  }

  // dense: the row that this one is compared with; null: it is that row.
  Result<BoardRow> measure(const std::string& spec, const BoardRow* dense) {
    BoardRow row;
    row.method = spec;
    for (const BoardTask& each : tasks_) {
      EvalOptions run;
      run.attention = spec, run.asking = each.asking, run.seed = options_.seed, run.cancel = options_.cancel;
      FOVEA_ASSIGN_OR_RETURN(const EvalResult result, evaluate(*each.task, each.samples, open_, run));
      if (&each == &tasks_.back()) {
        row.nll = *result.nll;
        row.nll_delta = dense ? row.nll - dense->nll : 0;
      } else {
        row.cells.push_back({each.name, result.score, dense ? dense->cells[row.cells.size()].score : result.score});
      }
    }
    FOVEA_RETURN_IF_ERROR(time(row));
    return row;
  }

  // In turn, so that a machine that grows slow or busy is so for both.
  Status time(BoardRow& row) {
    FOVEA_ASSIGN_OR_RETURN(const auto session, open_(row.method));
    FOVEA_ASSIGN_OR_RETURN(const auto dense, open_("dense"));
    std::vector<double> prefill, decode, dense_prefill, dense_decode;
    for (int i = -1; i < options_.repetitions; ++i) {  // -1: finds cold pages and makes the arenas
      FOVEA_ASSIGN_OR_RETURN(const Timed a, time_once(*dense, timed_, options_.n_decode, options_.cancel));
      FOVEA_ASSIGN_OR_RETURN(const Timed b, time_once(*session, timed_, options_.n_decode, options_.cancel));
      row.kv_bytes = b.bytes, row.dense_kv_bytes = a.bytes;
      if (i < 0) continue;
      dense_prefill.push_back(a.prefill), dense_decode.push_back(a.decode);
      prefill.push_back(b.prefill), decode.push_back(b.decode);
    }
    row.prefill_seconds = median_of(prefill), row.decode_seconds = median_of(decode);
    row.dense_prefill_seconds = median_of(dense_prefill), row.dense_decode_seconds = median_of(dense_decode);
    return {};
  }

 private:
  const engine::Model& model_;
  const OpenSession& open_;
  const BoardOptions& options_;
  std::vector<BoardTask> tasks_;  // the last scores tokens
  std::vector<int32_t> timed_;
};

BoardRow row_of(const json& in) {
  BoardRow row;
  row.method = in.at("method");
  for (const json& cell : in.at("tasks"))
    row.cells.push_back({cell.at("task"), cell.at("score"), cell.at("dense_score")});
  row.nll = in.at("nll"), row.nll_delta = in.at("nll_delta");
  row.prefill_seconds = in.at("prefill_seconds"), row.decode_seconds = in.at("decode_seconds");
  row.dense_prefill_seconds = in.at("dense_prefill_seconds");
  row.dense_decode_seconds = in.at("dense_decode_seconds");
  row.kv_bytes = in.at("kv_bytes"), row.dense_kv_bytes = in.at("dense_kv_bytes");
  return row;
}

// The file: {"key": ..., "rows": [...]}, written whole after each row.
class BoardFile {
 public:
  BoardFile(std::string path, json key)
      : path_(std::move(path)), file_{{"key", std::move(key)}, {"rows", json::array()}} {}

  // retime: of another machine or build too, whose seconds do not count.
  Status read(bool retime) {
    if (path_.empty()) return {};
    const auto old = read_json(path_, kMaxBoardBytes);
    if (!old) return old.error().code == ErrorCode::kNotFound ? Status() : Status(old.error());
    const json found = json::parse(old->dump());
    if (!found.is_object() || !found.contains("key") || !found.contains("rows") || !found["rows"].is_array())
      return make_error(ErrorCode::kData, "{} holds no leaderboard (--again writes over it)", path_);
    json theirs = found["key"], ours = file_["key"];
    for (const char* name : {"build", "isa", "threads", "repetitions"}) {
      if (retime && theirs.is_object() && ours.is_object()) theirs.erase(name), ours.erase(name);
    }
    if (theirs != ours)
      return make_error(ErrorCode::kUsage,
                        "{} holds rows of another model, setting or program (--again writes over it)", path_);
    file_["rows"] = found["rows"];
    return {};
  }
  Result<std::optional<BoardRow>> find(const std::string& method) const {
    for (const json& each : file_["rows"]) {
      try {
        if (each.at("method") == method) return std::optional(row_of(each));
      } catch (const json::exception& e) {
        return make_error(ErrorCode::kData, "{}: a row is damaged (--again measures anew): {}", path_, e.what());
      }
    }
    return std::optional<BoardRow>();
  }
  Status put(const BoardRow& row) {  // in place of the one that there was
    if (path_.empty()) return {};
    const auto same = std::find_if(file_["rows"].begin(), file_["rows"].end(),
                                   [&](const json& each) { return each["method"] == row.method; });
    if (same == file_["rows"].end()) {
      file_["rows"].push_back(to_json(row));
    } else {
      *same = to_json(row);
    }
    return write_file_atomic(path_, file_.dump(1) + "\n", WriteTo::kFile);
  }

 private:
  std::string path_;
  json file_;
};

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    if (end > 0) out.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

}  // namespace

std::string at_length(std::string_view knobs, int length) {
  std::string out;
  for (size_t at = 0; at < knobs.size();) {
    const size_t open = std::min(knobs.find('{', at), knobs.size());
    out += knobs.substr(at, open - at);
    if (open == knobs.size()) break;
    const size_t close = knobs.find('}', open);
    FOVEA_CHECK(close != std::string_view::npos, "a share without its end");
    const double share = std::strtod(std::string(knobs.substr(open + 1, close - open - 1)).c_str(), nullptr);
    out += std::to_string(std::max<long>(1, std::lround(share * length)));
    at = close + 1;
  }
  return out;
}

std::vector<std::string> leaderboard_specs(int length) {
  std::vector<std::string> out;
  std::vector<std::unique_ptr<attention::Method>> in_pairs;
  for (const std::string& name : attention::method_names()) {
    auto method = attention::make_method(name);
    for (const std::string_view knobs : words_of(method->info().budgets))
      out.push_back(fmt::format("{}:{}", name, at_length(knobs, length)));
    if (!method->info().pair.empty()) in_pairs.push_back(std::move(method));
  }
  for (const auto& a : in_pairs) {
    for (const auto& b : in_pairs) {
      const attention::MethodInfo &reads = a->info(), &keeps = b->info();
      if ((reads.stages & attention::kKeep) || !(keeps.stages & attention::kKeep)) continue;
      if (!can_compose(reads, keeps)) continue;
      out.push_back(fmt::format("{}:{},{}:{}", reads.name, at_length(reads.pair, length), keeps.name,
                                at_length(keeps.pair, length)));
    }
  }
  return out;
}

std::optional<double> BoardRow::score() const {
  double sum = 0;
  int n = 0;
  for (const Cell& cell : cells) {
    if (cell.tells()) sum += cell.score, ++n;
  }
  return n > 0 ? std::optional(sum / n) : std::nullopt;
}

json to_json(const BoardRow& row) {
  json tasks = json::array();
  for (const BoardRow::Cell& cell : row.cells)
    tasks.push_back(
        {{"task", cell.task}, {"score", cell.score}, {"dense_score", cell.dense_score}, {"tells", cell.tells()}});
  const auto score = row.score();
  return {{"method", row.method},
          {"score", score ? json(*score) : json()},
          {"tasks", std::move(tasks)},
          {"nll", row.nll},
          {"nll_delta", row.nll_delta},
          {"prefill_speedup", row.prefill_speedup()},
          {"decode_speedup", row.decode_speedup()},
          {"kv_ratio", row.kv_ratio()},
          {"prefill_seconds", row.prefill_seconds},
          {"decode_seconds", row.decode_seconds},
          {"dense_prefill_seconds", row.dense_prefill_seconds},
          {"dense_decode_seconds", row.dense_decode_seconds},
          {"kv_bytes", row.kv_bytes},
          {"dense_kv_bytes", row.dense_kv_bytes}};
}

Result<MeasuredBoard> parse_board(const json& file, const std::string& name) {
  MeasuredBoard out;
  try {
    out.key = file.at("key");
    for (const char* text : {"model_sha256", "numerics", "cache_type"})
      static_cast<void>(out.key.at(text).get_ref<const std::string&>());
    if (out.key.at("length").get<int64_t>() < 1)
      return make_error(ErrorCode::kData, "{} holds no leaderboard: its length is not positive", name);
    for (const json& each : file.at("rows")) {
      out.rows.push_back(row_of(each));
      const BoardRow& row = out.rows.back();
      for (const double seconds :
           {row.prefill_seconds, row.decode_seconds, row.dense_prefill_seconds, row.dense_decode_seconds}) {
        if (!(seconds > 0))
          return make_error(ErrorCode::kData, "{}: the seconds of {} are not positive", name, row.method);
      }
    }
  } catch (const json::exception& e) {
    return make_error(ErrorCode::kData, "{} holds no leaderboard, or a damaged one: {}", name, e.what());
  }
  if (!out.rows.empty() && (out.rows[0].method != "dense" || !(out.rows[0].nll > 0)))
    return make_error(ErrorCode::kData, "{}: its first row is not that of dense", name);
  return out;
}

Result<MeasuredBoard> read_board(const std::string& path) {
  FOVEA_ASSIGN_OR_RETURN(const auto file, read_json(path, kMaxBoardBytes));
  return parse_board(json::parse(file.dump()), path);
}

Result<Board> run_leaderboard(const engine::Model& model, const OpenSession& open, const BoardOptions& options) {
  BoardFile file(options.path, options.key);
  if (!options.again) FOVEA_RETURN_IF_ERROR(file.read(options.retime));
  BoardRunner runner(model, open, options);
  FOVEA_RETURN_IF_ERROR(runner.prepare());
  std::vector<std::string> specs = {"dense"};
  for (const std::string& spec : options.specs) {
    if (std::find(specs.begin(), specs.end(), spec) == specs.end()) specs.push_back(spec);
  }
  Board board;
  for (size_t i = 0; i < specs.size(); ++i) {
    FOVEA_ASSIGN_OR_RETURN(std::optional<BoardRow> row, file.find(specs[i]));
    if (row && options.retime) {
      if (options.on_row) options.on_row(specs[i], i, specs.size());
      FOVEA_RETURN_IF_ERROR(runner.time(*row));
      FOVEA_RETURN_IF_ERROR(file.put(*row));
    }
    if (row) {
      ++board.n_kept;
      board.rows.push_back(std::move(*row));
      continue;
    }
    if (options.on_row) options.on_row(specs[i], i, specs.size());
    auto measured = runner.measure(specs[i], board.rows.empty() ? nullptr : &board.rows[0]);
    if (!measured) {
      if (i == 0 || measured.error().code == ErrorCode::kCancelled) return measured.error();
      board.left_out.push_back({specs[i], measured.error().message});
      continue;
    }
    FOVEA_RETURN_IF_ERROR(file.put(*measured));
    board.rows.push_back(std::move(*measured));
  }
  return board;
}

}  // namespace fovea::tasks

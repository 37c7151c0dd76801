// fovea leaderboard -m MODEL
#include "fovea/tasks/leaderboard.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/cli/answer.h"
#include "apps/cli/model_session.h"
#include "fovea/base/bytes.h"
#include "fovea/store/build_id.h"
#include "fovea/store/model_store.h"
#include "fovea/store/user_cache.h"
#include "fovea/tasks/auto_attention.h"
#include "fovea/tasks/needle.h"

namespace fovea::cli {
namespace leaderboard_command {

using nlohmann::json;

struct Options {
  ModelFlags model;
  tasks::BoardOptions board;
  Seed seed;
  std::string methods, html;
};

// What the rows depend on, besides their specs. The paths of the model and of caches are not among it.
Result<json> key_of(const engine::Session& session, const Options& options, const std::string& haystack) {
  json key = setting_json(session);
  for (const char* name : {"model", "attention", "repack_budget_bytes", "packed_bytes"}) key.erase(name);
  FOVEA_ASSIGN_OR_RETURN(key["model_sha256"], session.model().sha256());
  key.update({{"length", options.board.length},
              {"samples", options.board.samples},
              {"seed", options.seed.value},
              {"tasks", options.board.tasks},
              {"repetitions", options.board.repetitions},
              {"haystack", haystack},
              {"chunk", session.chunk()},
              {"profile", options.model.profile},
              {"build", store::build_id()}});
  return key;
}

// Without a build id nothing tells this program's rows from another's: they are kept only where -o says so.
Result<std::string> default_path(const json& key) {
  const std::string dir = tasks::board_folder();
  if (dir.empty() || store::build_id().empty()) return std::string();
  FOVEA_RETURN_IF_ERROR(store::make_private_folder(dir));
  const std::string text = key.dump();
  return dir + "/" + sha256_of(std::as_bytes(std::span(text))).substr(0, 32) + ".json";
}

std::vector<std::string> split_specs(const std::string& text) {
  std::vector<std::string> out;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(';', at), text.size());
    if (end > at) out.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

std::string table(const tasks::Board& board) {
  size_t width = 6;
  for (const tasks::BoardRow& row : board.rows) width = std::max(width, row.method.size());
  std::string out = fmt::format("{:{}} {:>6}", "METHOD", width, "SCORE");
  for (const auto& cell : board.rows[0].cells)
    out += fmt::format(" {:>11}", escaped_line(cell.task) + (cell.tells() ? "" : "?"));
  out += fmt::format(" {:>8} {:>8} {:>8} {:>6}\n", "NLL", "PREFILL", "DECODE", "KV");
  bool silent = false;
  for (const tasks::BoardRow& row : board.rows) {
    const auto score = row.score();
    out += fmt::format("{:{}} {:>6}", escaped_line(row.method), width, score ? fmt::format("{:.3f}", *score) : "-");
    for (const auto& cell : row.cells) {
      out += fmt::format(" {:>11.3f}", cell.score);
      silent = silent || !cell.tells();
    }
    out += fmt::format(" {:>+8.4f} {:>7.2f}x {:>7.2f}x {:>6.3f}\n", row.nll_delta, row.prefill_speedup(),
                       row.decode_speedup(), row.kv_ratio());
  }
  if (silent)
    out +=
        fmt::format("?: dense scores under {}, so the task tells nothing and is not in SCORE\n", tasks::kEnoughOfDense);
  for (const tasks::LeftOut& each : board.left_out)
    out += fmt::format("left out: {}: {}\n", escaped_line(each.method), escaped_line(each.why));
  return out;
}

Status leaderboard(const Options& options, const Common& common) {
  const Interrupt interrupt;
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, options.model));
  show_seed(common, options.seed);
  const auto open = [&](std::string_view attention) {
    ModelFlags flags = options.model;
    flags.attention = attention;
    return open_session(model, common, flags);
  };
  tasks::BoardOptions run = options.board;
  run.seed = options.seed.value, run.cancel = &Interrupt::flag();
  const auto texts = tasks::default_haystacks();
  if (!texts && texts.error().code != ErrorCode::kNotFound) return texts.error();
  if (texts) run.haystacks = *texts;
  run.specs = options.methods.empty() ? tasks::leaderboard_specs(run.length) : split_specs(options.methods);
  if (!options.methods.empty()) {  // of the default ones what the model cannot run is left out; a named one is wanted
    for (const std::string& spec : run.specs) {
      if (const auto session = open(spec); !session) return session.error();
    }
  }
  json key;
  {
    FOVEA_ASSIGN_OR_RETURN(const auto session, open("dense"));
    FOVEA_ASSIGN_OR_RETURN(key, key_of(*session, options, texts ? "debian" : "prose"));
  }
  run.key = key;
  if (run.path.empty()) {
    FOVEA_ASSIGN_OR_RETURN(run.path, default_path(key));
  }
  if (!common.quiet) {
    run.on_row = [](const std::string& method, size_t i, size_t n) {
      tell("row {} of {}: {}", i + 1, n, escaped_line(method));
    };
  }
  FOVEA_ASSIGN_OR_RETURN(const tasks::Board board, tasks::run_leaderboard(*model, open, run));
  if (board.n_kept > 0 && !common.quiet)
    tell("{} of {} rows are of an earlier run (--again measures them anew)", board.n_kept, board.rows.size());
  if (!options.html.empty()) {
    const std::string name = store::describe_model(model->path(), model->source()).name;
    FOVEA_ASSIGN_OR_RETURN(FileWriter out, open_output(options.html, common, OutputIs::kText));
    FOVEA_RETURN_IF_ERROR(out.write(
        leaderboard_page(board, fmt::format("Attention methods on {} at {} tokens", name, run.length), key.dump())));
    FOVEA_RETURN_IF_ERROR(out.commit());
  }
  if (!common.json) return print(table(board));
  json out = key;
  out["kept"] = board.n_kept, out["path"] = run.path;
  out["rows"] = json::array(), out["left_out"] = json::array();
  for (const tasks::BoardRow& row : board.rows) out["rows"].push_back(to_json(row));
  for (const tasks::LeftOut& each : board.left_out)
    out["left_out"].push_back({{"method", each.method}, {"why", each.why}});
  return print_json(out);
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  options->model.repack_late = false;  // seconds are measured
  add_model_flags(sub, common, options->model);
  sub.add_option("-l,--length", options->board.length, "tokens of a prompt, template and question included")
      .transform(in_range(int64_t{64}, int64_t{1} << 24))
      .show_default();
  sub.add_option("--samples", options->board.samples, "prompts of each task")
      .transform(in_range(int64_t{1}, int64_t{100'000}))
      .show_default();
  sub.add_option("-r,--repetitions", options->board.repetitions, "timings of a row; their median counts")
      .transform(in_range(int64_t{1}, int64_t{1000}))
      .show_default();
  add_seed_option(sub, options->seed, "of all that is drawn: same seed, same prompts");
  sub.add_option(
      "--methods", options->methods,
      "rows besides dense: SPEC;SPEC, as --attention takes them; default: what the methods say of themselves");
  sub.add_option("--tasks", options->board.tasks,
                 "tasks of `fovea eval`, joined by commas; NAME@later: five questions behind the context")
      .split_at(',')
      .show_default("passkey,niah,vt,cwe,fwe,niah@later");
  sub.add_option("-o,--output", options->board.path, "where rows are kept; default: a file in the user's cache");
  sub.add_option("--html", options->html, "a page with the table and Pareto plots");
  sub.add_flag("--again", options->board.again, "measure what an earlier run kept anew");
  sub.add_flag("--retime", options->board.retime,
               "of what an earlier run kept, measure seconds and bytes anew: it ran beside other work");
  return [options, &common] { return leaderboard(*options, common); };
}

FOVEA_COMMAND("leaderboard", "attention methods beside one another on a model: scores, loss, speed, bytes",
              "fovea leaderboard -m smollm2-135m --length 400 --samples 1 --tasks passkey --methods snapkv:keep=0.25",
              setup)

}  // namespace leaderboard_command
}  // namespace fovea::cli

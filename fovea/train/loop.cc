#include "fovea/train/loop.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "fovea/attention/attend.h"  // Cancelled
#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/file_appender.h"
#include "fovea/base/file_lock.h"
#include "fovea/base/json.h"
#include "fovea/base/mapped_file.h"
#include "fovea/store/build_id.h"
#include "fovea/train/checkpoint.h"
#include "fovea/train/config.h"
#include "fovea/train/learner.h"
#include "fovea/train/params.h"
#include "fovea/train/report.h"
#include "fovea/train/settings.h"
#include "fovea/train/trainer.h"

namespace fovea::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

uint64_t peak_memory() {
  struct rusage usage {};
  return getrusage(RUSAGE_SELF, &usage) == 0 ? static_cast<uint64_t>(usage.ru_maxrss) * 1024 : 0;
}

// JSON has no word for what is not a number.
Json number(double x) { return std::isfinite(x) ? Json(x) : Json(); }

// Whether what is held out is the same in two configs, as they are written.
bool same_held_out(const Json& then, const Json& now) {
  const auto of = [](const Json& config, const char* key) {
    const Json eval = config.value("eval", Json());
    return eval.is_object() ? eval.value(key, Json()) : Json();
  };
  return of(then, "data") == of(now, "data") && of(then, "samples") == of(now, "samples");
}

// What a killed process was writing.
void remove_parts(const std::string& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const std::string name = entry.path().filename().string();
    for (const char* ours :
         {"log.jsonl", "report.html", "model", "model.gguf", "soft_prompt.safetensors", "masks.safetensors"}) {
      if (name.starts_with(std::string(ours) + ".part-")) fs::remove_all(entry.path(), ignored);
    }
  }
}

// What must outlive a run from one program to the next, besides tensors.
struct Progress {
  double seconds = 0, loss = 0;
  double first_loss = std::numeric_limits<double>::quiet_NaN();
  double eval_loss = std::numeric_limits<double>::quiet_NaN(), best = std::numeric_limits<double>::infinity();
  int64_t without_better = 0;  // evaluations
  int64_t evaluated = -1;      // steps done at the last evaluation
  bool ended = false;          // an early stop
};

class Run {
 public:
  Run(std::string path, const TrainOptions& options, Json json)
      : path_(std::move(path)), options_(options), settings_(json, quote(path_, 4096)), config_(settings_) {}

  Result<TrainResult> go() {
    FOVEA_RETURN_IF_ERROR(prepare());
    FOVEA_RETURN_IF_ERROR(begin());
    if (trainer_->steps_done() < last_step()) {
      int64_t n = 0;
      for (const Param& param : learner_->params()) n += param.value.elements();
      tell(fmt::format("trains {} parameters in {} steps on {}", n, last_step() - trainer_->steps_done(),
                       learner_->data().summary()));
    }
    FOVEA_ASSIGN_OR_RETURN(FileAppender log, FileAppender::open(log_path()));
    start_ = Clock::now();
    TrainResult result{.out = config_.out, .unit = learner_->unit()};
    if (!held_back_.is_null()) {
      const bool looked = evaluate(held_back_, result.eval_accuracy);
      FOVEA_RETURN_IF_ERROR(log.write(held_back_.dump() + "\n"));
      if (!looked) return stopped();
    }
    const int64_t first = trainer_->steps_done();
    double busy = 0;
    uint64_t tokens = 0;
    while (trainer_->steps_done() < last_step() && !progress_.ended) {
      if (const Status kept = keep(); !kept)
        return kept.error().code == ErrorCode::kCancelled ? stopped() : kept.error();
      const Clock::time_point began = Clock::now();
      const int64_t step = trainer_->steps_done();
      Trainer::Outcome outcome;
      try {
        outcome = learner_->step(*trainer_, step, options_.cancel);
      } catch (const attention::Cancelled&) {
        return stopped();
      }
      if (Status sound = check(step, outcome); !sound) return sound.error();
      const auto step_tokens = static_cast<uint64_t>(learner_->tokens_of_step());
      const double seconds = seconds_since(began), speed = static_cast<double>(step_tokens) / seconds;
      busy += seconds, tokens += step_tokens;
      progress_.loss = outcome.loss;
      Json line = {{"step", step},
                   {"loss", outcome.loss},
                   {"grad_norm", outcome.grad_norm},
                   {"lr", outcome.lr},
                   {"tokens_per_second", std::round(speed * 10) / 10}};
      StepReport report{.step = step + 1, .steps = last_step(), .loss = outcome.loss, .unit = learner_->unit()};
      const int64_t done = trainer_->steps_done();
      bool looked = true;
      if (evaluates_at(done)) {
        looked = evaluate(line, result.eval_accuracy);
        if (looked) report.eval_loss = progress_.eval_loss, report.eval_accuracy = result.eval_accuracy;
      }
      FOVEA_RETURN_IF_ERROR(log.write(line.dump() + "\n"));
      if (!looked) return stopped();
      if (done % config_.checkpoint_every == 0 && done < last_step()) FOVEA_RETURN_IF_ERROR(save());
      if (options_.on_step) {
        report.tokens_per_second = static_cast<double>(tokens) / busy;
        report.seconds_left =
            seconds_since(start_) / static_cast<double>(done - first) * static_cast<double>(last_step() - done);
        report.memory_bytes = peak_memory();
        options_.on_step(report);
      }
      if (options_.cancel && options_.cancel->load() && done < last_step()) return stopped();
    }
    FOVEA_RETURN_IF_ERROR(save());
    if (const Status kept = keep(); !kept)
      return kept.error().code == ErrorCode::kCancelled ? how_to_go_on() : kept.error();
    {
      const Trainer::Averaged averaged(*trainer_);
      auto saved = learner_->save(config_.out, training());
      if (!saved && saved.error().code == ErrorCode::kCancelled) return how_to_go_on();
      if (!saved) return saved.error();
      result.model = *saved;
    }
    FOVEA_RETURN_IF_ERROR(write_report());
    result.step = trainer_->steps_done();
    result.loss = progress_.loss;
    if (std::isfinite(progress_.eval_loss)) result.eval_loss = progress_.eval_loss;
    result.seconds = progress_.seconds + seconds_since(start_);
    result.tokens_per_second = busy > 0 ? static_cast<double>(tokens) / busy : 0;
    return result;
  }

 private:
  std::string log_path() const { return config_.out + "/log.jsonl"; }
  std::string checkpoint_path() const { return config_.out + "/checkpoint"; }
  std::string kept_path() const { return config_.out + "/kept"; }
  int64_t last_step() const { return options_.steps > 0 ? options_.steps : config_.steps; }
  void tell(const std::string& sentence) const {
    if (options_.tell) options_.tell(sentence);
  }

  bool evaluates_at(int64_t done) const {
    return learner_->evaluates() && done > 0 && (done % config_.eval.every == 0 || done == last_step());
  }
  // Adds the loss over held-out data to the line of a step. False: Ctrl+C came first.
  bool evaluate(Json& line, std::optional<double>& accuracy) {
    try {
      progress_.eval_loss = learner_->evaluate(*trainer_, options_.cancel);
    } catch (const attention::Cancelled&) {
      return false;
    }
    progress_.evaluated = trainer_->steps_done();
    accuracy = learner_->eval_accuracy();
    line["eval_loss"] = number(progress_.eval_loss);
    if (accuracy) line["eval_accuracy"] = *accuracy;
    weigh_stop();
    return true;
  }

  // Everything that the config names, before anything is written.
  Status prepare() {
    if (!settings_.good()) return settings_.finish();
    Settings optimizer = settings_.object("optimizer"), schedule = settings_.object("schedule");
    auto made_optimizer = make_part<Optimizer>(optimizer, "name", optimizer.text("name", "adamw"));
    auto made_schedule =
        make_part<Schedule>(schedule, "name", schedule.text("name", "constant"), {.steps = config_.steps});
    if (!settings_.good()) return settings_.finish();
    FOVEA_ASSIGN_OR_RETURN(learner_, make_learner(settings_, config_));
    TrainerOptions trainer = config_.trainer;
    trainer.adapters = learner_->adapters();
    trainer_ =
        std::make_unique<Trainer>(learner_->params(), std::move(made_optimizer), std::move(made_schedule), trainer);
    return {};
  }

  // The folder, and where the run stands.
  Status begin() {
    std::error_code error;
    if (const fs::path whole = fs::weakly_canonical(config_.out, error); whole == whole.root_path())
      return make_error(ErrorCode::kUsage, "{}: out: {} is the root of the file system; name a folder of the run's own",
                        quote(path_, 4096), quote(config_.out, 4096));
    if (fs::exists(config_.out, error) && !fs::is_directory(config_.out, error))
      return make_error(ErrorCode::kUsage, "{}: out: {} is there, and is no folder", quote(path_, 4096),
                        quote(config_.out, 4096));
    fs::create_directories(config_.out, error);
    if (error) {
      Error problem = file_error(config_.out, "make", error.value());
      problem.message.insert(0, fmt::format("{}: out: ", quote(path_, 4096)));
      return problem;
    }
    FOVEA_ASSIGN_OR_RETURN(FileLock lock, FileLock::take(config_.out + "/.lock",
                                                         fmt::format("{}: out: another training is at work in {}",
                                                                     quote(path_, 4096), quote(config_.out, 4096))));
    lock_.emplace(std::move(lock));
    remove_parts(config_.out);
    for (const auto& kept : fs::directory_iterator(kept_path(), error)) remove_parts(kept.path().string());
    const auto from_nothing = [&] {
      fs::remove_all(checkpoint_path(), error);
      fs::remove_all(kept_path(), error);
      return write_file_atomic(log_path(), "");
    };
    if (options_.restart) return from_nothing();
    const auto state = read_checkpoint(checkpoint_path());
    if (!state) {
      Error damaged = state.error();
      damaged.message += "; --restart begins anew";
      return damaged;
    }
    if (*state && !options_.resume)
      return make_error(ErrorCode::kUsage,
                        "{}: there is a checkpoint of step {} here: --resume goes on with it, --restart begins anew",
                        quote(config_.out, 4096), (*state)->value("step", int64_t{0}));
    if (!*state) {
      if (options_.resume) tell(fmt::format("no checkpoint in {}: the run begins at its first step", config_.out));
      return from_nothing();
    }
    FOVEA_RETURN_IF_ERROR(restore(**state));
    FOVEA_RETURN_IF_ERROR(cut_log());
    const int64_t done = trainer_->steps_done();
    tell(done < last_step()
             ? fmt::format("goes on from step {} of {}", done, last_step())
             : fmt::format("step {} is reached already and the run ends at {}: no step is left to train; "
                           "greater \"steps\" go on",
                           done, last_step()));
    return {};
  }

  Status restore(const Json& state) {
    const std::string where = quote(checkpoint_path(), 4096);
    for (const auto& [key, good] : {std::pair("config", state.value("config", Json()).is_object()),
                                    std::pair("data", state.value("data", Json()).is_string())}) {
      if (!good) return make_error(ErrorCode::kData, "{}: it is no checkpoint: {} is missing", where, key);
    }
    const std::string other = other_setting(state["config"], settings_.json());
    if (!other.empty())
      return make_error(ErrorCode::kUsage,
                        "{}: the checkpoint is of another config: {}; take that back, or begin anew with --restart",
                        where, other);
    if (state["data"] != learner_->data().fingerprint())
      return make_error(ErrorCode::kData, "{}: the data are not those that the checkpoint was made with", where);
    FOVEA_RETURN_IF_ERROR(load_tensors(checkpoint_path(), state, trainer_->state()));
    trainer_->resume(state.value("step", int64_t{0}));
    const auto get = [&](const char* key, double otherwise) {
      return state.contains(key) && state[key].is_number() ? state[key].get<double>() : otherwise;
    };
    progress_ = {.seconds = get("seconds", 0),
                 .loss = get("loss", 0),
                 .first_loss = get("first_loss", progress_.first_loss),
                 .eval_loss = get("eval_loss", progress_.eval_loss),
                 .best = get("best", progress_.best),
                 .without_better = static_cast<int64_t>(get("without_better", 0)),
                 .evaluated = static_cast<int64_t>(get("evaluated", static_cast<double>(trainer_->steps_done()))),
                 .ended = false};
    if (!same_held_out(state["config"], settings_.json())) {  // losses over other data say nothing
      const Progress none;
      progress_.eval_loss = none.eval_loss, progress_.best = none.best;
      progress_.without_better = none.without_better, progress_.evaluated = none.evaluated;
    }
    progress_.ended = config_.early_stop.patience > 0 && progress_.without_better >= config_.early_stop.patience;
    return {};
  }

  // Lines of steps that the checkpoint does not have will be written again; so is that of its own step where Ctrl+C
  // came before its evaluation.
  Status cut_log() {
    const int64_t done = trainer_->steps_done();
    if (evaluates_at(done) && progress_.evaluated != done)
      held_back_ = Json{{"step", done - 1}, {"loss", number(progress_.loss)}};
    std::error_code ignored;
    std::string log, kept;
    if (fs::exists(log_path(), ignored)) {
      FOVEA_ASSIGN_OR_RETURN(log, read_file(log_path()));
    }
    for (size_t at = 0; at < log.size();) {
      const size_t end = log.find('\n', at);
      if (end == log.npos) break;  // a part of a line
      const auto line = parse_json(std::string_view(log).substr(at, end - at), "log");
      const int64_t step = line && line->is_object() && line->contains("step") && (*line)["step"].is_number_integer()
                               ? (*line)["step"].get<int64_t>()
                               : INT64_MAX;
      if (!held_back_.is_null() && step == done - 1) {
        held_back_ = *line;
      } else if (step < done) {
        kept += log.substr(at, end + 1 - at);
      }
      at = end + 1;
    }
    return write_file_atomic(log_path(), kept);
  }

  Status check(int64_t step, const Trainer::Outcome& outcome) {
    if (std::isnan(progress_.first_loss)) progress_.first_loss = outcome.loss;
    const double most = config_.max_loss > 0 ? config_.max_loss : 10 * (1 + std::abs(progress_.first_loss));
    if (outcome.bad.empty() && !(outcome.loss > most)) return {};
    std::string what = fmt::format("the loss is {:.4g}, over {:.4g} (max_loss)", outcome.loss, most);
    if (!outcome.bad.empty()) {
      const std::string bad = learner_->first_bad(*trainer_);
      const bool forward = outcome.bad == "loss";
      what = fmt::format("the {} not finite; the first bad tensor is {}", forward ? "loss is" : "gradients are",
                         !bad.empty() ? bad
                         : forward    ? "the loss itself"
                                      : "the gradient of " + outcome.bad);
    }
    return exploded(step, what);
  }
  Error exploded(int64_t step, const std::string& what) const {
    const auto saved = read_checkpoint(checkpoint_path());
    const std::string last = saved && *saved
                                 ? fmt::format("the checkpoint of step {} in {} is whole",
                                               (*saved)->value("step", int64_t{0}), quote(checkpoint_path(), 4096))
                                 : std::string("no checkpoint was saved yet");
    return make_error(ErrorCode::kFailed, "step {}: {}; {}; a smaller lr, a warmup or clip may help", step, what, last);
  }
  // The next step would find it, but what is saved takes the place of what was good.
  Status check_weights() const {
    for (const Param& param : learner_->params()) {
      if (!all_finite(param.value))
        return exploded(trainer_->steps_done() - 1,
                        fmt::format("the optimizer left {} with numbers that are not finite", param.name));
    }
    return {};
  }

  void weigh_stop() {
    if (config_.early_stop.patience == 0) return;
    if (progress_.eval_loss < progress_.best - config_.early_stop.min_delta) {
      progress_.best = progress_.eval_loss;
      progress_.without_better = 0;
    } else if (++progress_.without_better >= config_.early_stop.patience) {
      progress_.ended = true;
      tell(fmt::format("stops early: {} evaluations without a better loss than {:.4f}", progress_.without_better,
                       progress_.best));
    }
  }

  Status save() {
    FOVEA_RETURN_IF_ERROR(check_weights());
    Json state = {{"version", 1},
                  {"step", trainer_->steps_done()},
                  {"seconds", progress_.seconds + seconds_since(start_)},
                  {"loss", number(progress_.loss)},
                  {"first_loss", number(progress_.first_loss)},
                  {"eval_loss", number(progress_.eval_loss)},
                  {"best", number(progress_.best)},
                  {"without_better", progress_.without_better},
                  {"evaluated", progress_.evaluated},
                  {"data", learner_->data().fingerprint()},
                  {"program", options_.program},
                  {"build", store::build_id()},
                  {"config", settings_.json()}};
    return save_checkpoint(checkpoint_path(), trainer_->steps_done(), trainer_->state(), std::move(state));
  }

  // The model as it is at this step, the first one before anything was learned.
  Status keep() {
    const int64_t done = trainer_->steps_done();
    if (config_.keep_every == 0 || done % config_.keep_every != 0) return {};
    if (done > 0) FOVEA_RETURN_IF_ERROR(check_weights());
    const std::string folder = fmt::format("{}/{}", kept_path(), done);
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) return file_error(folder, "make", error.value());
    const Trainer::Averaged averaged(*trainer_);
    const auto saved = learner_->save(folder, training());
    return saved ? Status() : Status(saved.error());
  }

  Error stopped() {
    if (const Status saved = save(); !saved) return saved.error();
    if (const Status written = write_report(); !written) return written.error();
    return how_to_go_on();
  }
  Error how_to_go_on() const {
    return make_error(ErrorCode::kCancelled, "stopped behind step {} of {}, which is saved; go on with: {}",
                      trainer_->steps_done(), last_step(),
                      options_.go_on.empty() ? fmt::format("fovea train {} --resume", path_) : options_.go_on);
  }

  Json training() const {
    return {{"program", options_.program},
            {"build", store::build_id()},
            {"steps", trainer_->steps_done()},
            {"loss", number(progress_.loss)},
            {"eval_loss", number(progress_.eval_loss)},
            {"seed", config_.seed},
            {"data", learner_->data().summary()},
            {"data_fingerprint", learner_->data().fingerprint()},
            {"config", settings_.json()}};
  }
  Status write_report() const {
    FOVEA_ASSIGN_OR_RETURN(const auto log, MappedFile::open(log_path()));  // also after Ctrl+C
    const std::string text(reinterpret_cast<const char*>(log->bytes().data()), log->bytes().size());
    return write_file_atomic(config_.out + "/report.html", report_page(text, training()));
  }

  std::string path_;
  const TrainOptions& options_;
  Settings settings_;
  TrainConfig config_;
  std::unique_ptr<Learner> learner_;
  std::unique_ptr<Trainer> trainer_;
  Progress progress_;
  Json held_back_;                // the line of the last step, which was broken off before its evaluation
  std::optional<FileLock> lock_;  // of the folder
  Clock::time_point start_ = Clock::now();
};

}  // namespace

Result<TrainResult> train(const std::string& config_path, const TrainOptions& options) {
  FOVEA_ASSIGN_OR_RETURN(Json json, read_json(config_path, kMaxConfigBytes));
  return Run(config_path, options, std::move(json)).go();
}

}  // namespace fovea::train

// fovea bench -m MODEL: how fast; fovea bench --quality -f TEXT: how far fast arithmetic is from exact.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "apps/cli/answer.h"
#include "apps/cli/quality.h"
#include "fovea/base/bytes.h"
#include "fovea/base/log.h"
#include "fovea/base/random.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/isa.h"
#include "fovea/store/model_store.h"

namespace fovea::cli {
namespace bench_command {

using Clock = std::chrono::steady_clock;

struct Options {
  ModelFlags model;
  std::vector<int> prompts = {512}, depths = {0}, sequences = {1};
  int n_gen = 64, repetitions = 3;
  bool quality = false;
  std::string file;
  int max_windows = 0;
};

struct Row {
  std::string test;
  int n_prompt = 0, n_gen = 0, depth = 0, n_sequences = 1;
  std::vector<double> speeds = {};  // tokens per second, one a repetition
  uint64_t peak_rss_bytes = 0;

  double median() const {
    std::vector<double> sorted = speeds;
    std::sort(sorted.begin(), sorted.end());
    const size_t n = sorted.size();
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
  }
  double stddev() const {
    if (speeds.size() < 2) return 0;
    double mean = 0, squares = 0;
    for (const double s : speeds) mean += s / static_cast<double>(speeds.size());
    for (const double s : speeds) squares += (s - mean) * (s - mean);
    return std::sqrt(squares / static_cast<double>(speeds.size() - 1));
  }
};

// The peak of this process's memory since reset_peak(), or since its start where the kernel cannot reset.
uint64_t peak_rss_bytes() {
  std::ifstream in("/proc/self/status");
  for (std::string word; in >> word;) {
    uint64_t kib = 0;
    if (word == "VmHWM:" && in >> kib) return kib * 1024;
  }
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}
void reset_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("model name")) return line.substr(std::min(line.find(':') + 2, line.size()));
  }
  return "unknown";
}

// Any tokens do: the work does not depend on them.
std::vector<int32_t> some_tokens(int n, int vocab_size, uint64_t seed) {
  Rng rng(seed);
  std::vector<int32_t> out(static_cast<size_t>(n));
  for (int32_t& id : out) id = static_cast<int32_t>(rng.below(static_cast<uint64_t>(vocab_size)));
  return out;
}

class Bench {
 public:
  Bench(engine::Session& session, const Options& options, const Common& common)
      : session_(session), options_(options), common_(common) {}

  Result<std::vector<Row>> run() {
    FOVEA_RETURN_IF_ERROR(
        time_prompt(std::min(32, session_.n_ctx() - 1)));  // the first pass finds cold pages and makes the arena
    std::vector<Row> rows;
    for (const int n : options_.prompts) {
      if (n == 0) continue;
      Row row{fmt::format("pp{}", n), n};
      reset_peak();
      for (int i = 0; i < options_.repetitions; ++i) {
        FOVEA_ASSIGN_OR_RETURN(const double seconds, time_prompt(n));
        row.speeds.push_back(n / seconds);
      }
      row.peak_rss_bytes = peak_rss_bytes();
      rows.push_back(std::move(row));
    }
    for (const int depth : options_.depths) {
      for (const int n : options_.sequences) {
        if (options_.n_gen == 0) break;
        Row row{decode_name(depth, n), 0, options_.n_gen, depth, n};
        reset_peak();
        FOVEA_RETURN_IF_ERROR(time_decode(row));
        row.peak_rss_bytes = peak_rss_bytes();
        rows.push_back(std::move(row));
      }
    }
    return rows;
  }

 private:
  Status prefill(engine::SequenceId sequence, int n, const char* label) {
    PrefillProgress bar(common_, label);
    engine::PrefillOptions prefill;
    prefill.cancel = &Interrupt::flag();
    prefill.progress = [&](int64_t done, int64_t total) { bar.update(done, total); };
    const auto done = session_.prefill(sequence, some_tokens(n, session_.shape().vocab_size, 1), prefill);
    bar.clear();
    return done ? Status() : done.error();
  }

  Result<double> time_prompt(int n) {
    const engine::SequenceId sequence = session_.begin();
    const auto start = Clock::now();
    const Status done = prefill(sequence, n, "timing the prompt");
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    session_.remove(sequence);
    if (!done) return done.error();
    return seconds;
  }

  // "tg64", "tg64@d512"; of several sequences "tg64 x8", "tg64 x8 @ d512".
  std::string decode_name(int depth, int n_sequences) const {
    std::string name = fmt::format("tg{}", options_.n_gen);
    if (n_sequences > 1) name += fmt::format(" x{}", n_sequences);
    if (depth > 0) name += fmt::format("{}d{}", n_sequences > 1 ? " @ " : "@", depth);
    return name;
  }

  // Every step gives each sequence a token; the speed is the total. Sequences read `depth` keys of their own: forks
  // of one would share its pages, which the caches then hold once.
  Status time_decode(Row& row) {
    const auto n = static_cast<size_t>(row.n_sequences);
    std::vector<engine::SequenceId> bases(n);
    for (engine::SequenceId& base : bases) {
      base = session_.begin();
      if (row.depth > 0) FOVEA_RETURN_IF_ERROR(prefill(base, row.depth, "filling the context"));
    }
    const std::vector<int32_t> tokens =
        some_tokens(row.n_gen * row.n_sequences, session_.shape().vocab_size, 2);  // row.n_sequences a step
    std::vector<engine::Session::Step> steps(n);
    for (int i = -1; i < options_.repetitions; ++i) {  // -1: one step to warm up
      for (size_t s = 0; s < n; ++s) steps[s].sequence = session_.fork(bases[s]);
      const auto start = Clock::now();
      for (int step = 0; step < (i < 0 ? 1 : row.n_gen); ++step) {
        if (Interrupt::requested()) return make_error(ErrorCode::kCancelled, "interrupted");
        for (size_t s = 0; s < n; ++s) steps[s].token = tokens[static_cast<size_t>(step) * n + s];
        const auto logits = session_.decode(steps);
        if (!logits) return logits.error();
      }
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      if (i >= 0) row.speeds.push_back(row.n_gen * row.n_sequences / seconds);
      for (const engine::Session::Step& step : steps) session_.remove(step.sequence);
    }
    for (const engine::SequenceId base : bases) session_.remove(base);
    return {};
  }

  engine::Session& session_;
  const Options& options_;
  const Common& common_;
};

// The context that the sizes asked for need; kLimit if --ctx-size is less.
Result<int> context_for(const Options& options) {
  if (options.prompts.size() > 64 || options.depths.size() > 64 || options.sequences.size() > 64) {
    return make_error(ErrorCode::kUsage, "--n-prompt, --depth and --sequences: at most 64 sizes each");
  }
  const int deepest = options.depths.empty() ? 0 : *std::max_element(options.depths.begin(), options.depths.end());
  const int longest = options.prompts.empty() ? 0 : *std::max_element(options.prompts.begin(), options.prompts.end());
  const int needed = std::max(longest, options.n_gen > 0 ? deepest + options.n_gen : 1);
  const int given = options.model.n_ctx;
  if (given == 0 || needed <= given) return std::max(given, needed);
  if (longest > given)
    return make_error(ErrorCode::kLimit, "--n-prompt: {} tokens do not fit the context of {}", longest, given);
  return make_error(ErrorCode::kLimit, "--depth: {} tokens and {} more do not fit the context of {}", deepest,
                    options.n_gen, given);
}

// The table of `llama-bench`, so that two of them can be laid side by side.
std::string table(const std::vector<Row>& rows, const engine::Session& session) {
  const engine::Model& model = session.model();
  const store::StoredModel file = store::describe_model(model.path(), model.source());
  std::string out = fmt::format("{}, {}, {} keys and values\n", cpu_name(),
                                session.pipeline().spec() == "dense" ? "dense attention" : session.pipeline().spec(),
                                attention::name_of(session.cache().shape().types()));
  out += fmt::format("| {:30} | {:>10} | {:>10} | {:8} | {:>7} | {:>15} | {:>20} | {:>8} |\n", "model", "size",
                     "params", "backend", "threads", "test", "t/s", "peak MiB");
  out += fmt::format("| {:-<30} | {:->9}: | {:->9}: | {:-<8} | {:->6}: | {:->14}: | {:->19}: | {:->7}: |\n", "", "", "",
                     "", "", "", "", "");
  for (const Row& row : rows) {
    out += fmt::format("| {:30} | {:>6.1f} MiB | {:>8.2f} M | {:8} | {:>7} | {:>15} | {:>20} | {:>8} |\n",
                       escaped_line(file.name + " " + file.quantization), static_cast<double>(file.bytes) / 1048576.0,
                       static_cast<double>(file.n_params) / 1e6, kernels::name_of(kernels::active_isa()), pool().size(),
                       row.test, fmt::format("{:.2f} ± {:.2f}", row.median(), row.stddev()), row.peak_rss_bytes >> 20);
  }
  return out;
}

Status speed(const Options& options, const Common& common) {
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const int needed, context_for(options));
  FOVEA_ASSIGN_OR_RETURN(engine::SessionOptions wanted, session_options(*model, common, options.model, needed));
  if (needed > model->shape().n_ctx) {
    // Time does not depend on whether the model still makes sense there.
    wanted.beyond_training = true;
    wanted.n_ctx = needed;
    log_warning("{} tokens are more than the {} that this model was trained for", needed, model->shape().n_ctx);
  }
  FOVEA_ASSIGN_OR_RETURN(const auto session, engine::Session::create(model, wanted));
  FOVEA_ASSIGN_OR_RETURN(const std::vector<Row> rows, Bench(*session, options, common).run());
  if (!common.json) return print(table(rows, *session));
  nlohmann::json out = setting_json(*session);
  FOVEA_ASSIGN_OR_RETURN(out["model_sha256"], model->sha256());
  out["machine"] = cpu_name();
  out["repetitions"] = options.repetitions;
  out["rows"] = nlohmann::json::array();
  for (const Row& row : rows) {
    out["rows"].push_back({{"test", row.test},
                           {"n_prompt", row.n_prompt},
                           {"n_gen", row.n_gen},
                           {"depth", row.depth},
                           {"n_sequences", row.n_sequences},
                           {"tokens_per_second", row.median()},
                           {"stddev", row.stddev()},
                           {"samples", row.speeds},
                           {"peak_rss_bytes", row.peak_rss_bytes}});
  }
  return print_json(out);
}

Status bench(const Options& options, const Common& common) {
  const Interrupt interrupt;
  if (!options.quality) {
    if (!options.file.empty()) return make_error(ErrorCode::kUsage, "--file goes with --quality only");
    return speed(options, common);
  }
  if (options.file.empty()) return make_error(ErrorCode::kUsage, "--quality needs a text: --file FILE");
  return measure_quality(common, options.model, options.file, options.max_windows);
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  options->model.repack_late = false;
  sub.add_option("-p,--n-prompt", options->prompts, "prompt lengths to time, as in 512,4096; 0: none")
      .split_at(',')
      .one_value_each_time()
      .transform(in_range(int64_t{0}, int64_t{1} << 24))
      .show_default();
  sub.add_option("-n,--n-gen", options->n_gen, "tokens to decode, one after the other; 0: none")
      .transform(in_range(int64_t{0}, int64_t{1} << 24))
      .show_default();
  sub.add_option("-d,--depth", options->depths, "tokens in the context before decoding, as in 0,8192")
      .split_at(',')
      .one_value_each_time()
      .transform(in_range(int64_t{0}, int64_t{1} << 24))
      .show_default();
  sub.add_option("--sequences", options->sequences,
                 "sequences to decode at once, as in 1,8,32; the speed is their total")
      .split_at(',')
      .one_value_each_time()
      .transform(in_range(int64_t{1}, int64_t{1024}))
      .show_default();
  sub.add_option("-r,--repetitions", options->repetitions, "the median of so many runs counts")
      .transform(in_range(int64_t{1}, int64_t{1000}))
      .show_default();
  sub.add_flag("--quality", options->quality, "measure the divergence of fast from exact arithmetic on a text instead");
  sub.add_option("-f,--file", options->file, "with --quality: the text; - is stdin");
  sub.add_option("--chunks", options->max_windows, "with --quality: windows of --ctx-size tokens at most; 0: all")
      .transform(in_range(int64_t{0}, int64_t{1} << 30))
      .show_default();
  add_model_flags(sub, common, options->model);
  return [options, &common] { return bench(*options, common); };
}

FOVEA_COMMAND("bench", "how fast a model runs here, and how exact fast arithmetic is",
              "fovea bench -m smollm2-135m -p 512 -n 64 -r 3", setup)

}  // namespace bench_command
}  // namespace fovea::cli

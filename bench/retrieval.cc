// The checks that a working detection of retrieval heads must pass (after Wu et al., arXiv:2404.15574):
// what masking does, the shape of the scores, the negative controls, what looking costs. Measures the
// whole profile anew and compares what comes out with what is expected.
//
//   bench_retrieval MODEL [PROFILE_OUT]     FOVEA_NEEDLE_LENGTHS=512,1024,2048 in the environment
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <sstream>

#include "fovea/base/file.h"
#include "fovea/base/random.h"
#include "fovea/engine/model_store.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/kernels/isa.h"
#include "fovea/probe/profile.h"

namespace fovea {
namespace {

using probe::MeasuredProfile;
using Model = std::shared_ptr<const engine::Model>;
using Tokenizer = std::shared_ptr<const tokenizers::Tokenizer>;
using Clock = std::chrono::steady_clock;

constexpr int kMasked = 12;
int g_failed = 0;

void report(const char* name, const std::string& measured, const char* expected, bool passed) {
  fmt::print("{:34} {:44} expected {:30} {}\n", name, measured, expected, passed ? "ok" : "NOT MET");
  std::fflush(stdout);
  if (!passed) ++g_failed;
}

template <typename T>
T must(Result<T> result) {
  if (!result) {
    fmt::print(stderr, "bench_retrieval: {}\n", result.error().message);
    std::exit(exit_code(result.error().code));
  }
  if constexpr (!std::is_void_v<T>) return std::move(result).value();
}

std::vector<size_t> best(const std::vector<double>& scores, size_t n) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  order.resize(std::min(n, order.size()));
  return order;
}

// Mean score of every head over the accepted samples whose number is `half` modulo 2.
std::vector<double> half_mean(const MeasuredProfile& profile, size_t half) {
  std::vector<double> sum(static_cast<size_t>(profile.heads.n_layers) * static_cast<size_t>(profile.heads.n_heads));
  size_t i = 0;
  for (const auto& sample : profile.samples) {
    if (!sample.accepted || i++ % 2 != half) continue;
    for (size_t h = 0; h < sum.size(); ++h) sum[h] += sample.scores[h];
  }
  return sum;
}

void check_shape(const MeasuredProfile& profile) {
  const auto accepted =
      std::count_if(profile.samples.begin(), profile.samples.end(), [](const auto& s) { return s.accepted; });
  report("accepted samples", fmt::format("{} of {}", accepted, profile.samples.size()), ">= 60", accepted >= 60);
  if (accepted == 0) return;
  const std::vector<double>& scores = profile.heads.values.at("retrieval");
  const auto n = static_cast<double>(scores.size());
  const double zero = static_cast<double>(std::count(scores.begin(), scores.end(), 0.0)) / n;
  const double over =
      static_cast<double>(std::count_if(scores.begin(), scores.end(), [](double s) { return s >= 0.1; })) / n;
  report("heads that never copy", fmt::format("{:.1f} %", 100 * zero), "most", zero > 0.5);
  report("heads with a score of 0.1 or more", fmt::format("{:.1f} %", 100 * over), "< 10 %", over < 0.1);
  const auto a = best(half_mean(profile, 0), 10), b = best(half_mean(profile, 1), 10);
  const auto common =
      std::count_if(a.begin(), a.end(), [&](size_t head) { return std::find(b.begin(), b.end(), head) != b.end(); });
  report("top ten of two halves in common", fmt::format("{} of 10", common), ">= 6", common >= 6);
  double most = 0, most_moved = 0;
  std::vector<double> moved(scores.size());
  for (const auto& sample : profile.samples) {
    for (size_t h = 0; h < sample.scores_moved.size(); ++h)
      moved[h] += sample.scores_moved[h] / static_cast<double>(accepted);
  }
  for (size_t h = 0; h < scores.size(); ++h) {
    most = std::max(most, scores[h]);
    most_moved = std::max(most_moved, moved[h]);
  }
  report("best score, needle label moved", fmt::format("{:.4f} (label in place: {:.2f})", most_moved, most),
         "near zero (< 0.02)", most_moved < 0.02);
}

// Mean recall over short prompts under one --attention.
double recall(const Model& model, const Tokenizer& tokenizer, const std::vector<probe::NeedlePrompt>& prompts,
              const probe::NeedleOptions& options, const std::string& attention,
              const std::shared_ptr<const attention::HeadProfile>& profile) {
  engine::SessionOptions session_options;
  session_options.attention = attention;
  session_options.profile = profile;
  const auto session = must(engine::Session::create(model, session_options));
  probe::NeedleReader reader(*session, *tokenizer);
  double sum = 0;
  for (const auto& prompt : prompts) sum += must(reader.answer(prompt, options, false)).recall;
  return 100 * sum / static_cast<double>(prompts.size());
}

void check_causality(const Model& model, const Tokenizer& tokenizer, const MeasuredProfile& measured) {
  const auto profile = std::make_shared<const attention::HeadProfile>(measured.heads);
  if (profile->values.count("retrieval") == 0) return;
  probe::NeedleOptions options;
  options.lengths = {512};
  options.n_depths = 3;
  options.seed = 7;  // other places of the texts than the profile's
  const auto haystacks = must(probe::default_haystacks());
  const auto prompts = must(probe::make_needle_prompts(model->gguf(), *tokenizer, haystacks, options));
  const double plain = recall(model, tokenizer, prompts, options, "dense", profile);
  const double masked =
      recall(model, tokenizer, prompts, options, fmt::format("retrieval-heads:mask_top={}", kMasked), profile);
  report("needle recall, nothing masked", fmt::format("{:.1f} over {} prompts", plain, prompts.size()), ">= 80",
         plain >= 80);
  report(fmt::format("needle recall, top {} masked", kMasked).c_str(),
         fmt::format("{:.1f} (drop {:.1f})", masked, plain - masked), "drop >= 30 points", plain - masked >= 30);
  // A negative count masks random heads outside the top 100.
  double worst = plain, sum = 0;
  constexpr int kDraws = 5;
  for (int draw = 0; draw < kDraws; ++draw) {
    const std::string attention = fmt::format("retrieval-heads:mask_top={}:seed={}", -kMasked, draw);
    const double with = recall(model, tokenizer, prompts, options, attention, profile);
    fmt::print("  {}: {:.1f}\n", attention, with);
    std::fflush(stdout);
    sum += with;
    worst = std::min(worst, with);
  }
  report(fmt::format("needle recall, random {} masked", kMasked).c_str(),
         fmt::format("mean {:.1f}, worst {:.1f}", sum / kDraws, worst), "drops far less (< a third)",
         (plain - sum / kDraws) * 3 < plain - masked);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void check_cost(const Model& model) {
  const auto session = must(engine::Session::create(model, {}));
  Rng random(3);
  std::vector<int32_t> tokens(1024);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(1000)) + 300;
  const engine::SequenceId sequence = session->begin();
  must(session->prefill(sequence, tokens));
  probe::TopKeys keys(session->shape().n_layers, session->shape().n_heads);
  probe::CopyTrace trace = keys.new_trace();
  std::vector<double> plain, watched;
  for (int i = 0; i < 24; ++i) {
    const bool watch = i % 2 == 1;
    if (watch) session->observe(&keys);
    const engine::Session::Step step{sequence, 300 + i};
    const auto start = Clock::now();
    must(session->decode({&step, 1}));
    if (watch) keys.take(0, trace);
    (watch ? watched : plain).push_back(std::chrono::duration<double>(Clock::now() - start).count());
    session->stop_observing(&keys);
  }
  const double ratio = median(watched) / median(plain);
  report("decode with scores, by plain decode",
         fmt::format("{:.2f}x ({:.1f} and {:.1f} ms, 1024 keys)", ratio, 1e3 * median(watched), 1e3 * median(plain)),
         "< 2x", ratio < 2);
}

void check_idle_mask(const Model& model) {
  std::vector<std::vector<float>> logits;
  for (const char* attention : {"dense", "retrieval-heads"}) {
    engine::SessionOptions options;
    options.attention = attention;
    const auto session = must(engine::Session::create(model, options));
    const engine::SequenceId sequence = session->begin();
    must(session->prefill(sequence, std::vector<int32_t>(40, 300)));
    const engine::Session::Step step{sequence, 301};
    const auto next = must(session->decode({&step, 1}));
    logits.emplace_back(next.values().begin(), next.values().end());
  }
  report("logits with an empty mask", logits[0] == logits[1] ? "the same bits" : "other bits", "the same bits",
         logits[0] == logits[1]);
}

int run(int argc, char** argv) {
  if (argc < 2) {
    fmt::print("retrieval heads: takes minutes; run bench_retrieval qwen2.5-coder-0.5b (the nightly does)\n");
    return 0;
  }
  const std::string name = argv[1];
  const Model model = must(engine::Model::load(must(engine::resolve_model(name))));
  const Tokenizer tokenizer = must(engine::load_tokenizer(model->gguf()));
  probe::ProfileOptions options;
  if (const char* lengths = std::getenv("FOVEA_NEEDLE_LENGTHS")) {
    options.needle.lengths.clear();
    std::stringstream list(lengths);
    for (std::string item; std::getline(list, item, ',');) options.needle.lengths.push_back(std::atoi(item.c_str()));
  }
  options.engine_version = FOVEA_VERSION;
  options.command = fmt::format("fovea profile -m {} --again --lengths {} --depths {} --seed {} --numerics fast", name,
                                fmt::join(options.needle.lengths, ","), options.needle.n_depths, options.needle.seed);
  options.progress = [](int64_t done, int64_t total, int64_t accepted) {
    if (done % 12 == 0) fmt::print(stderr, "bench_retrieval: {} of {} samples, {} accepted\n", done, total, accepted);
  };
  fmt::print("{}, {} kernels\n", name, kernels::name_of(kernels::active_isa()));
  check_idle_mask(model);
  check_cost(model);
  const MeasuredProfile profile = must(probe::measure_profile(model, *tokenizer, options));
  if (argc > 2) must(write_file_atomic(argv[2], profile.json));
  check_shape(profile);
  check_causality(model, tokenizer, profile);
  fmt::print("{} not met\n", g_failed);
  return g_failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace fovea

int main(int argc, char** argv) { return fovea::run(argc, argv); }

// Detection of retrieval heads (after Wu et al., arXiv:2404.15574), measured anew and held against two things:
//   checks  what the code must do: an empty mask changes no bit, a moved label gives nothing, looking is
//           cheap. One that fails ends the program with 1.
//   claims  what the paper says about models in shape, with thresholds of ours. A model may not show one:
//           "not shown", with the measurement; it is a finding, not a failure.
// Without an accepted sample (weights without sense, for instance) there is no data, and it says so.
//
//   bench_retrieval MODEL [PROFILE_OUT]     FOVEA_NEEDLE_LENGTHS=512,1024,2048, FOVEA_NEEDLE_DEPTHS=6,
//                                           FOVEA_NEEDLE_SEED=0 and FOVEA_NUMERICS=fast|exact
//                                           in the environment
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <sstream>

#include "bench/must.h"
#include "fovea/base/file.h"
#include "fovea/base/random.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/kernels/isa.h"
#include "fovea/probe/measures/needle_reader.h"
#include "fovea/probe/measures/profile.h"
#include "fovea/store/model_store.h"

namespace fovea {
namespace {

using bench::must;
using probe::MeasuredProfile;
using Model = std::shared_ptr<const engine::Model>;
using Tokenizer = std::shared_ptr<const tokenizers::Tokenizer>;
using Clock = std::chrono::steady_clock;

constexpr int kMasked = 12;
int g_failed = 0, g_not_shown = 0;

void print_row(const char* kind, const std::string& name, const std::string& measured, const char* expected,
               const char* verdict) {
  fmt::print("{:6} {:36} {:48} {:26} {}\n", kind, name, measured, expected, verdict);
  std::fflush(stdout);
}
void check(const char* name, const std::string& measured, const char* expected, bool passed) {
  print_row("check", name, measured, expected, passed ? "ok" : "BROKEN");
  if (!passed) ++g_failed;
}
void claim(const std::string& name, const std::string& measured, const char* expected, bool shown) {
  print_row("claim", name, measured, expected, shown ? "shown" : "not shown");
  if (!shown) ++g_not_shown;
}
void note(const std::string& name, const std::string& measured) { print_row("", name, measured, "", ""); }

std::vector<size_t> best(const std::vector<double>& scores, size_t n) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  order.resize(std::min(n, order.size()));
  return order;
}

// Summed scores of every head over the accepted samples whose number is `half` modulo 2.
std::vector<double> half_mean(const MeasuredProfile& profile, size_t half) {
  std::vector<double> sum(static_cast<size_t>(profile.heads.n_layers) * static_cast<size_t>(profile.heads.n_heads));
  size_t i = 0;
  for (const auto& sample : profile.samples) {
    if (!sample.accepted || i++ % 2 != half) continue;
    for (size_t h = 0; h < sum.size(); ++h) sum[h] += sample.scores[h];
  }
  return sum;
}

double share_over(const std::vector<double>& scores, double least) {
  const auto over = std::count_if(scores.begin(), scores.end(), [&](double score) { return score >= least; });
  return 100 * static_cast<double>(over) / static_cast<double>(scores.size());
}

// Mean score of every head over the accepted samples of one length.
std::vector<double> mean_of_length(const MeasuredProfile& profile, int length) {
  std::vector<double> mean(profile.heads.find("retrieval")->size());
  int n = 0;
  for (const auto& sample : profile.samples) {
    if (!sample.accepted || profile.prompts[sample.prompt].length != length) continue;
    for (size_t h = 0; h < mean.size(); ++h) mean[h] += sample.scores[h];
    ++n;
  }
  for (double& score : mean) score /= std::max(n, 1);
  return mean;
}

// False without data.
bool look_at_shape(const MeasuredProfile& profile, const tasks::NeedleOptions& options) {
  const auto accepted =
      std::count_if(profile.samples.begin(), profile.samples.end(), [](const auto& s) { return s.accepted; });
  if (accepted == 0) {
    note("accepted samples", fmt::format("0 of {}: no data, nothing is known of a head", profile.samples.size()));
    return false;
  }
  claim("accepted samples", fmt::format("{} of {}", accepted, profile.samples.size()), ">= 60", accepted >= 60);
  const std::vector<double>& scores = *profile.heads.find("retrieval");
  const auto n = static_cast<double>(scores.size());
  const double zero = 100 * static_cast<double>(std::count(scores.begin(), scores.end(), 0.0)) / n;
  claim("heads at exactly 0", fmt::format("{:.1f} %", zero), "most (paper: 49-73 %)", zero > 50);
  claim("heads with a score of 0.1 or more", fmt::format("{:.1f} %", share_over(scores, 0.1)),
        "< 10 % (paper: 2.1-6.2 %)", share_over(scores, 0.1) < 10);
  for (const int length : options.lengths) {
    note(fmt::format("  of the prompts of {} tokens", length),
         fmt::format("{:.1f} %", share_over(mean_of_length(profile, length), 0.1)));
  }
  note("heads with 0.2, 0.3, 0.5 or more", fmt::format("{:.1f}, {:.1f}, {:.1f} %", share_over(scores, 0.2),
                                                       share_over(scores, 0.3), share_over(scores, 0.5)));
  const std::vector<double>& active = *profile.heads.find("activation_frequency");
  const auto always = std::count(active.begin(), active.end(), 1.0);
  note("activation frequency",
       fmt::format("{} heads in every sample, {:.1f} % in half or more", always, share_over(active, 0.5)));
  const std::vector<double>& of_kv = *profile.heads.find("kv_group_max", attention::Granularity::kKvHead);
  note("KV heads, best of the group 0.1 or more", fmt::format("{:.1f} % of {}", share_over(of_kv, 0.1), of_kv.size()));
  std::string top;
  for (const size_t head : best(scores, 10)) {
    const auto n_heads = static_cast<size_t>(profile.heads.n_heads);
    top += fmt::format("{}{}.{} {:.2f}", top.empty() ? "" : ", ", head / n_heads, head % n_heads, scores[head]);
  }
  note("best ten (layer.head)", top);
  const auto a = best(half_mean(profile, 0), 10), b = best(half_mean(profile, 1), 10);
  const auto common =
      std::count_if(a.begin(), a.end(), [&](size_t head) { return std::find(b.begin(), b.end(), head) != b.end(); });
  claim("top ten of two halves in common", fmt::format("{} of 10", common), ">= 6", common >= 6);
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
  check("best score, needle label moved", fmt::format("{:.4f} (label in place: {:.2f})", most_moved, most),
        "near zero (< 0.02)", most_moved < 0.02);
  return true;
}

// Mean recall over short prompts under one --attention.
double recall(const Model& model, const Tokenizer& tokenizer, const std::vector<tasks::NeedlePrompt>& prompts,
              const tasks::NeedleOptions& options, const std::string& attention,
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

void look_at_causality(const Model& model, const Tokenizer& tokenizer, const MeasuredProfile& measured) {
  const auto profile = std::make_shared<const attention::HeadProfile>(measured.heads);
  tasks::NeedleOptions options;
  options.lengths = {512};
  options.n_depths = 3;
  options.seed = 7;  // other places of the texts than the profile's
  const auto haystacks = must(tasks::default_haystacks());
  const auto prompts = must(tasks::make_needle_prompts(model->source(), *tokenizer, haystacks, options));
  const double plain = recall(model, tokenizer, prompts, options, "dense", profile);
  const double masked =
      recall(model, tokenizer, prompts, options, fmt::format("retrieval-heads:mask_top={}", kMasked), profile);
  claim("needle recall, nothing masked", fmt::format("{:.1f} over {} prompts", plain, prompts.size()), ">= 80",
        plain >= 80);
  const auto name = [](const char* what) { return fmt::format("needle recall, {} {} masked", what, kMasked); };
  claim(name("top"), fmt::format("{:.1f} (drop {:.1f})", masked, plain - masked), "drop >= 30 points",
        plain - masked >= 30);
  // A negative count masks random heads outside the top 100: the method's own control.
  std::vector<double> draws;
  for (int draw = 0; draw < 5; ++draw) {
    const std::string attention = fmt::format("retrieval-heads:mask_top={}:seed={}", -kMasked, draw);
    draws.push_back(recall(model, tokenizer, prompts, options, attention, profile));
    note("  " + attention, fmt::format("{:.1f}", draws.back()));
  }
  const double mean = std::accumulate(draws.begin(), draws.end(), 0.0) / static_cast<double>(draws.size());
  claim(name("random"), fmt::format("mean {:.1f}, worst {:.1f}", mean, *std::min_element(draws.begin(), draws.end())),
        "drops far less (< a third)", (plain - mean) * 3 < plain - masked);
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
  check("decode with scores, by plain decode",
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
  check("logits with an empty mask", logits[0] == logits[1] ? "the same bits" : "other bits", "the same bits",
        logits[0] == logits[1]);
}

int run(int argc, char** argv) {
  if (argc < 2) {
    fmt::print("retrieval heads: takes minutes; run bench_retrieval qwen2.5-coder-0.5b (the nightly does)\n");
    return 0;
  }
  const std::string name = argv[1];
  const Model model = must(engine::Model::load(must(store::resolve_model(name))));
  const Tokenizer tokenizer = must(engine::load_tokenizer(model->source()));
  probe::ProfileOptions options;
  const auto variable = [](const char* key) {
    const char* value = std::getenv(key);
    return std::string(value ? value : "");
  };
  if (const std::string lengths = variable("FOVEA_NEEDLE_LENGTHS"); !lengths.empty()) {
    options.needle.lengths.clear();
    std::stringstream list(lengths);
    for (std::string item; std::getline(list, item, ',');) options.needle.lengths.push_back(std::atoi(item.c_str()));
  }
  if (const std::string depths = variable("FOVEA_NEEDLE_DEPTHS"); !depths.empty())
    options.needle.n_depths = std::max(1, std::atoi(depths.c_str()));
  options.needle.seed = std::strtoull(variable("FOVEA_NEEDLE_SEED").c_str(), nullptr, 10);
  const bool exact = variable("FOVEA_NUMERICS") == "exact";
  if (exact) options.numerics = kernels::Numerics::kExact;
  options.engine_version = FOVEA_VERSION;
  options.command = fmt::format("fovea profile -m {} --again --lengths {} --depths {} --seed {} --numerics {}", name,
                                fmt::join(options.needle.lengths, ","), options.needle.n_depths, options.needle.seed,
                                exact ? "exact" : "fast");
  options.progress = [](int64_t done, int64_t total, int64_t accepted) {
    if (done % 12 == 0) fmt::print(stderr, "bench_retrieval: {} of {} samples, {} accepted\n", done, total, accepted);
  };
  fmt::print("{}, sha256 {}, {} kernels, as: {}\n", name, must(model->sha256()).substr(0, 16),
             kernels::name_of(kernels::active_isa()), options.command);
  check_idle_mask(model);
  check_cost(model);
  const MeasuredProfile profile = must(probe::measure_profile(model, *tokenizer, options));
  if (argc > 2) must(write_file_atomic(argv[2], profile.json));
  if (look_at_shape(profile, options.needle)) look_at_causality(model, tokenizer, profile);
  fmt::print("checks: {} broken; claims of the paper: {} not shown\n", g_failed, g_not_shown);
  return g_failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace fovea

int main(int argc, char** argv) { return fovea::run(argc, argv); }

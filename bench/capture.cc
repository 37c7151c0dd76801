// What looking costs: a hook visit (bar: under 5 us), and reduced attention maps of all heads while
// decoding and while reading a prompt (bar: 1.3 times plain decode). And what adapters cost: one and three of rank 16
// over every matrix of the blocks.
//
//   bench_capture [MODEL] [DEPTH] [REPEATS]      default: smollm2-135m of the store, 2048, 51
//
// Checks first that looking, and adapters of zeros, change no bit of the logits. Plain and other steps alternate, so
// that other work on the machine hits both; medians.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/base/threads.h"
#include "fovea/engine/session.h"
#include "fovea/kernels/isa.h"
#include "fovea/probe/capture/reducers.h"
#include "fovea/store/model_store.h"
#include "fovea/tensor/adapters.h"

namespace {

using namespace fovea;  // NOLINT: a program
using Clock = std::chrono::steady_clock;

double median(std::vector<double> x) {
  std::nth_element(x.begin(), x.begin() + static_cast<int64_t>(x.size() / 2), x.end());
  return x[x.size() / 2];
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

[[noreturn]] void fail(const std::string& why) {
  fmt::print(stderr, "bench_capture: {}\n", why);
  std::exit(1);  // NOLINT(concurrency-mt-unsafe): no other thread runs
}

// Forgets the rows of the prompt: what an observer of generated tokens does.
class DecodeMaps final : public attention::RowObserver {
 public:
  DecodeMaps(const probe::Reduction& reduction, const attention::ModelShape& model, attention::SequenceId sequence,
             int64_t n)
      : reducer_(reduction, model, attention::HeadSet::all(), sequence, n) {}
  bool wants(int layer, int head, bool) const override { return reducer_.wants(layer, head, false); }
  void see(const attention::RowView& row, std::span<const float> pattern) override { reducer_.see(row, pattern); }

 private:
  probe::RowReducer reducer_;
};

// `n` adapters of every matrix of the blocks; b within +-size.
std::shared_ptr<const tensor::Adapters> random_loras(const engine::Model& model, int n, float size) {
  constexpr int64_t kRank = 16;
  auto out = std::make_shared<tensor::Adapters>();
  Rng rng(1);
  const auto fill = [&rng](tensor::Tensor t, float most) {
    for (int64_t i = 0; i < t.elements(); ++i) t.data()[i] = most * static_cast<float>(2 * rng.uniform() - 1);
    return t;
  };
  for (int i = 0; i < n; ++i) {
    for (const tensor::Parameter& p : model.parameters()) {
      const tensor::Weight& w = *p.target;
      if (!p.name.starts_with("blk.") || !w.defined() || w.rows() == 1) continue;
      const Status added = out->add(w, tensor::Lora{.a = fill(tensor::Tensor::empty({kRank, w.cols()}), 0.1f),
                                                    .b = fill(tensor::Tensor::empty({w.rows(), kRank}), size),
                                                    .frozen = true});
      if (!added) fail(added.error().message);
    }
  }
  return out;
}

struct Bench {
  engine::Session& session;
  attention::SequenceId sequence;
  int32_t depth;

  std::vector<float> step(double* seconds) {
    const engine::Session::Step one{sequence, 17};
    const auto start = Clock::now();
    const auto logits = session.decode({&one, 1});
    *seconds = seconds_since(start);
    if (!logits) fail(logits.error().message);
    std::vector<float> values(logits->values().begin(), logits->values().end());
    session.truncate(sequence, depth);
    return values;
  }

  // Median seconds of a plain step and of one with `on` before and `off` after it.
  template <typename On, typename Off>
  std::pair<double, double> compare(On on, Off off, int repeats) {
    std::vector<double> plain, watched;
    for (int r = 0; r < repeats + 3; ++r) {
      double a = 0, b = 0;
      const auto x = step(&a);
      on();
      const auto y = step(&b);
      off();
      if (x != y) fail("looking changed the logits");
      if (r < 3) continue;  // warm
      plain.push_back(a);
      watched.push_back(b);
    }
    return {median(plain), median(watched)};
  }
};

}  // namespace

int main(int argc, char** argv) {
  auto path = store::resolve_model(argc > 1 ? argv[1] : "smollm2-135m");
  if (!path) fail(path.error().message);
  const int32_t depth = argc > 2 ? std::max(1, std::atoi(argv[2])) : 2048;
  const int repeats = argc > 3 ? std::max(1, std::atoi(argv[3])) : 51;
  auto model = engine::Model::load(*path);
  if (!model) fail(model.error().message);
  auto session = engine::Session::create(*model, {});
  if (!session) fail(session.error().message);
  const attention::ModelShape& shape = (*session)->shape();
  std::vector<int32_t> ids(static_cast<size_t>(depth));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int32_t>((7 + 37 * i * i + 11 * i) % static_cast<size_t>(shape.vocab_size));
  fmt::print("{}, {} threads, {}, {} layers of {} heads, depth {}\n", *path, pool().size(),
             kernels::name_of(kernels::active_isa()), shape.n_layers, shape.n_heads, depth);

  // Reading the prompt, without and with maps.
  const auto prefill = [&](attention::RowObserver* observer) {
    const attention::SequenceId s = (*session)->begin();
    if (observer) (*session)->observe(observer);
    const auto start = Clock::now();
    const auto logits = (*session)->prefill(s, ids);
    const double seconds = seconds_since(start);
    if (observer) (*session)->stop_observing(observer);
    if (!logits) fail(logits.error().message);
    (*session)->remove(s);
    return std::make_pair(seconds, *logits);
  };
  prefill(nullptr);
  for (const char* spec : {"topk:16", "block:64", "entropy", "sink"}) {
    DecodeMaps maps(probe::Reduction::parse(spec).value(), shape, (*session)->begin() + 2, depth);
    const auto plain = prefill(nullptr);
    const auto watched = prefill(&maps);
    if (plain.second != watched.second) fail("looking changed the logits");
    fmt::print("prefill, {:9} of all heads: {:8.1f} ms plain, {:8.1f} ms with maps: {:.2f}x\n", spec, plain.first * 1e3,
               watched.first * 1e3, watched.first / plain.first);
  }

  const attention::SequenceId s = (*session)->begin();
  if (!(*session)->prefill(s, ids)) fail("the prompt failed");
  Bench bench{**session, s, depth};
  for (const char* spec : {"topk:16", "block:64", "entropy", "sink"}) {
    DecodeMaps maps(probe::Reduction::parse(spec).value(), shape, s, depth + 1);
    const auto [plain, watched] =
        bench.compare([&] { (*session)->observe(&maps); }, [&] { (*session)->stop_observing(&maps); }, repeats);
    fmt::print("decode,  {:9} of all heads: {:8.2f} ms plain, {:8.2f} ms with maps: {:.2f}x\n", spec, plain * 1e3,
               watched * 1e3, watched / plain);
  }

  // Adapters, beside the session without them.
  const auto fill_context = [&](engine::Session& of) {
    const attention::SequenceId sequence = of.begin();
    const auto start = Clock::now();
    if (!of.prefill(sequence, ids)) fail("the prompt failed");
    return std::make_pair(sequence, seconds_since(start));
  };
  for (const int n : {0, 1, 3}) {  // 0: one of zeros
    auto other =
        engine::Session::create(*model, {.adapters = random_loras(**model, std::max(n, 1), n == 0 ? 0 : 0.01f)});
    if (!other) fail(other.error().message);
    std::vector<double> reads[2], steps[2];
    Bench with{**other, fill_context(**other).first, depth};
    for (int r = 0; r < 7; ++r) {
      for (const int which : {0, 1}) {
        engine::Session& of = which == 0 ? **session : **other;
        const auto [sequence, seconds] = fill_context(of);
        reads[which].push_back(seconds);
        of.remove(sequence);
      }
    }
    for (int r = 0; r < repeats + 3; ++r) {
      double plain = 0, adapted = 0;
      const auto x = bench.step(&plain), y = with.step(&adapted);
      if (n == 0 && x != y) fail("adapters of zeros changed the logits");
      if (r < 3) continue;
      steps[0].push_back(plain), steps[1].push_back(adapted);
    }
    if (n == 0) continue;
    for (const auto& [what, seconds] : {std::pair{"prefill", reads}, std::pair{"decode", steps}})
      fmt::print("{:8} {} adapters of rank 16: {:8.2f} ms plain, {:8.2f} ms with them: {:.2f}x\n", what, n,
                 median(seconds[0]) * 1e3, median(seconds[1]) * 1e3, median(seconds[1]) / median(seconds[0]));
  }

  // Visits: values that the fused pass has anyway, then those that are made for the hook.
  for (const char* pattern : {"*hook_resid_*", "*hook_z", "*hook_?", "*hook_rot_?", "*mlp.hook_*", "*ln?.hook_*",
                              "*hook_result", "*hook_pattern"}) {
    int64_t visits = 0;
    const auto [plain, watched] = bench.compare(
        [&] { (void)(*session)->hooks().attach(pattern, [&](const std::string&, tensor::Tensor&) { ++visits; }); },
        [&] { (*session)->hooks().clear(); }, repeats);
    const double per_step = static_cast<double>(visits) / (repeats + 3);
    fmt::print("decode,  hook {:14} {:4.0f} visits a step: {:8.2f} ms plain, {:8.2f} ms hooked: {:6.2f} us a visit\n",
               pattern, per_step, plain * 1e3, watched * 1e3, (watched - plain) / per_step * 1e6);
  }
  return 0;
}

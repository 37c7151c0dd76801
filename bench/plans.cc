// What it costs beside dense attention to choose keys, to look at the masses of classes of keys, to edit the rows of a
// head and to collect evidence.
//
//   bench_plans [MODEL] [--tokens N] [--rounds N] [--part hide|lines|classes|decode] [--json]
//                                                       (smollm2-135m of the store, 8192, 3, all parts)
//
// hide      N tokens with plans that hide nothing: a mask of each page, a list of all
// lines     N tokens with every k-th page, and with every k-th four pages (128 keys, as block-sparse methods list
//           them): a line of the time over the share of keys each. Attention is what dense takes beyond the same tokens
//           in sequences of one chunk, as far as both are n + n^2; the rest is what it leaves.
// classes   N tokens with three softmax parts a row (4 sinks, the last pages, what lies between), and their masses read
// decode    a token at depth N with the rows of one head of each layer made and weighed, in units of what depth costs
//           a fused head of each layer; and with the evidence of `ask` collected of all heads, and of 12
//
// Times are sums over chunks of the least of the rounds (decode: the least token, 16 a round): the settings take turns
// chunk by chunk, so that a machine which is busy now and then does not show in one of them.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include "bench/measure.h"
#include "bench/must.h"
#include "fovea/attention/testing/methods.h"
#include "fovea/base/threads.h"
#include "fovea/engine/session.h"
#include "fovea/kernels/isa.h"
#include "fovea/probe/evidence/evidence.h"
#include "fovea/store/model_store.h"

namespace fovea::bench {
namespace {

using attention::Call;
using attention::KeyPlan;
using attention::SequenceId;
using engine::Session;
using tensor::Tensor;

// The keys of test-pages, by a mask of each page.
class MaskedPages final : public attention::Method {
 public:
  static constexpr attention::MethodInfo kInfo{
      .name = "bench-masked", .title = "Masked", .paper = "none", .stages = attention::kChoose, .summary = "a bench's"};
  const attention::MethodInfo& info() const override { return kInfo; }
  void visit_knobs(attention::KnobVisitor& knobs) override {
    knobs.add("every", every_, {.min = 1, .help = "runs of pages"});
    knobs.add("run", run_, {.min = 1, .help = "pages in a row"});
  }
  bool chooses(int) const override { return true; }
  void choose(const Call& call, const attention::Queries&, KeyPlan& plan) const override {
    plan.edit_tiles([&](int, KeyPlan::Tile& tile) {
      for (KeyPlan::Page& page : tile.parts[0].pages) {
        const std::span<uint32_t> bits = plan.mask(tile, page);
        if (page.index / run_ % every_ == 0) continue;
        for (size_t row = 0; row < bits.size(); ++row) {
          const size_t at = static_cast<size_t>(tile.first) + row % static_cast<size_t>(tile.n);
          if (page.index < call.q_pos[at] / kernels::kPageKeys - 1) bits[row] = 0;
        }
      }
    });
  }

 private:
  int every_ = 2, run_ = 1;
};
FOVEA_REGISTER_METHOD(MaskedPages);

// Adds up the weights of the parts of every head, and leaves them.
class PartMasses final : public attention::Method {
 public:
  static constexpr attention::MethodInfo kInfo{
      .name = "bench-masses", .title = "Masses", .paper = "none", .stages = attention::kJoin, .summary = "a bench's"};
  const attention::MethodInfo& info() const override { return kInfo; }
  Status bind(const attention::ModelShape& model) override {
    sums.resize(static_cast<size_t>(model.n_layers * model.n_heads * 3));
    return {};
  }
  bool joins(int) const override { return true; }
  bool weighs_parts(int) const override { return false; }
  void join(const Call& call, const Tensor&, Tensor& weights) const override {
    const std::span<const float> values = weights.values();
    const auto n = static_cast<size_t>(weights.dim(1) * weights.dim(2));
    double* of_layer = sums.data() + static_cast<size_t>(call.layer) * n;
    for (size_t row = 0; row < values.size(); row += n) {
      for (size_t i = 0; i < n; ++i) of_layer[i] += static_cast<double>(values[row + i]);
    }
  }
  mutable std::vector<double> sums;  // [layers, heads, 3]; its sequence has it alone
};
FOVEA_REGISTER_METHOD(PartMasses);

constexpr const char* kAllKeys[] = {"bench-masked:every=1", "test-pages:every=1"};
constexpr const char* kClasses = "test-classes:sinks=1,bench-masses";

class Bench {
 public:
  Bench(Session& session, int n_tokens, int rounds) : session_(session), rounds_(rounds) {
    const auto vocab = static_cast<size_t>(session.shape().vocab_size);
    for (size_t i = 0; i < static_cast<size_t>(n_tokens); ++i)
      ids_.push_back(static_cast<int32_t>((7 + 37 * i * i + 11 * i) % vocab));
  }

  bool is_right() {
    const auto some = std::span(ids_).first(1000);
    const auto answer = [&](const std::string& spec) { return read(spec, some); };
    const std::vector<float> dense = answer("dense");
    for (const char* all : kAllKeys)
      if (answer(all) != dense) return wrong(fmt::format("{} hides nothing and is not dense", all));
    for (const int k : kEvery) {
      for (const int run : kRuns) {
        const std::string knobs = fmt::format("every={}:run={}", k, run);
        const std::vector<float> listed = answer("test-pages:" + knobs);
        if (listed != answer("bench-masked:" + knobs) || (k * run < 32 && listed == dense))
          return wrong(fmt::format("the pages of {} are not what a mask of them gives", knobs));
      }
    }
    const SequenceId s = begin(kClasses);
    if (!near(must(session_.prefill(s, some)), dense)) return wrong("the classes together are not dense");
    const auto& masses = dynamic_cast<const PartMasses&>(*session_.pipeline(s).methods()[1]).sums;
    for (auto head = masses.begin(); head != masses.end(); head += 3) {
      const double sum = std::accumulate(head, head + 3, 0.0);
      if (std::abs(sum - 1000) > 0.01) return wrong(fmt::format("the classes of 1,000 rows have {} of a head", sum));
    }
    session_.remove(s);
    return true;
  }

  void hide() {
    std::vector<Setting> all{{"dense"}};
    for (const char* spec : kAllKeys) all.push_back({spec});
    time(all);
    for (const Setting& s : all) add("hide", s.spec, s.seconds * 1e3, "ms", s.share);
    for (size_t i = 1; i < all.size(); ++i)
      add("hide", all[i].spec + " over dense", 100 * (all[i].seconds / all[0].seconds - 1), "%");
  }

  void lines() {
    std::vector<Setting> all{{"dense"}, {"test-pages:every=1"}};
    for (const int run : kRuns) {
      for (const int k : kEvery) all.push_back({fmt::format("test-pages:every={}:run={}", k, run)});
    }
    all.push_back({kApart});
    time(all);
    const double apart = all.back().seconds, dense = all[0].seconds;
    all.pop_back();
    const auto n = static_cast<double>(ids_.size()), chunk = static_cast<double>(session_.chunk());
    const double attention = (dense - apart) * n / (n - chunk), rest = dense - attention;
    for (const Setting& s : all) add("lines", s.spec, s.seconds * 1e3, "ms", s.share);
    add("lines", "attention of dense", attention * 1e3, "ms");
    for (size_t i = 0; i < std::size(kRuns); ++i) {
      std::vector<Setting> listed = {all[1]};
      const auto own = all.begin() + 2 + static_cast<ptrdiff_t>(i * std::size(kEvery));
      listed.insert(listed.end(), own, own + std::size(kEvery));
      add_line(fmt::format("line, {} pages in a row: ", kRuns[i]), listed, dense, rest);
    }
  }

  void classes() {
    std::vector<Setting> all{{"dense"}, {"test-classes:sinks=1"}, {kClasses}};
    time(all);
    for (const Setting& s : all) add("classes", s.spec, s.seconds * 1e3, "ms", s.share);
    for (size_t i = 1; i < 3; ++i)
      add("classes", all[i].spec + " over dense", 100 * (all[i].seconds / all[0].seconds - 1), "%");
  }

  bool decode() {
    const SequenceId dense = begin("dense"), rows = begin("test-rows:head=0"), shallow = begin("dense");
    for (const SequenceId s : {dense, rows}) must(session_.prefill(s, ids_));
    must(session_.prefill(shallow, std::span(ids_).first(1)));
    engine::DocumentPrompt prompt{.tokens = ids_, .places = {}, .n_shared = 0};
    for (uint32_t i = 0; i < ids_.size(); ++i) prompt.places.push_back({0, i, i + 1});
    const attention::ModelShape& shape = session_.shape();
    std::vector<double> twelve(probe::head_id(shape.n_layers, 0, shape.n_heads));
    for (size_t i = 0; i < 12; ++i) twelve[i * twelve.size() / 12] = 1;  // of all layers
    attention::HeadProfile profile;
    profile.columns["retrieval"].values = twelve;
    probe::Evidence all(shape, nullptr, prompt), best(shape, &profile, prompt);
    const SequenceId with_all = session_.fork(dense), with_best = session_.fork(dense);
    session_.observe(&all, with_all), session_.observe(&best, with_best);

    const SequenceId settings[] = {dense, rows, with_all, with_best, shallow};
    double least[] = {1e30, 1e30, 1e30, 1e30, 1e30};
    for (int i = 0; i <= 16 * rounds_; ++i) {
      std::vector<float> logits[5];
      for (size_t s = 0; s < 5; ++s) {
        const double taken = seconds([&] {
          const Session::Step step{settings[s], 17};
          const std::span<const float> values = must(session_.decode({&step, 1})).values();
          logits[s].assign(values.begin(), values.end());
          if (s == 2) all.take(17);
          if (s == 3) best.take(17);
        });
        if (i > 0) least[s] = std::min(least[s], taken);
      }
      session_.truncate(shallow, 1);
      if (i == 0 && !(logits[2] == logits[0] && logits[3] == logits[0] && near(logits[1], logits[0])))
        return wrong("evidence, or rows that are left as they are, change the answer");
    }
    session_.stop_observing(&all), session_.stop_observing(&best);

    const double fused = (least[0] - least[4]) / shape.n_heads;  // a head of each layer
    add("decode", "dense", least[0] * 1e3, "ms");
    add("decode", "dense, after one token", least[4] * 1e3, "ms");
    add("decode", "a fused head of each layer", fused * 1e3, "ms");
    add("decode", "rows of a head of each layer", least[1] * 1e3, "ms");
    add("decode", "rows of a head, more than dense", (least[1] - least[0]) / fused, "fused heads");
    add("decode", "evidence of all heads", least[2] * 1e3, "ms");
    add("decode", "evidence of 12 heads", least[3] * 1e3, "ms");
    add("decode", "evidence of all heads over dense", 100 * (least[2] / least[0] - 1), "%");
    add("decode", "evidence of 12 heads over dense", 100 * (least[3] / least[0] - 1), "%");
    return true;
  }

  const nlohmann::ordered_json& rows() const { return rows_; }

 private:
  static constexpr int kRuns[] = {1, 4}, kEvery[] = {2, 4, 8, 16, 32};
  static constexpr const char* kApart = "dense, each chunk a sequence";
  struct Setting {
    std::string spec;
    double seconds = 0, share = 0;  // of the keys that dense reads
  };

  static bool wrong(const std::string& what) {
    fmt::print(stderr, "bench_plans: {}\n", what);
    return false;
  }
  static bool near(std::span<const float> a, std::span<const float> b) {
    float most = 0, apart = 0;
    for (size_t i = 0; i < a.size(); ++i)
      most = std::max(most, std::abs(b[i])), apart = std::max(apart, std::abs(a[i] - b[i]));
    return apart < 0.05f * most;
  }
  SequenceId begin(const std::string& spec) {
    const SequenceId s = session_.begin();
    must(session_.set_attention(s, spec));
    return s;
  }
  std::vector<float> read(const std::string& spec, std::span<const int32_t> ids) {
    const SequenceId s = begin(spec);
    std::vector<float> logits = must(session_.prefill(s, ids));
    session_.remove(s);
    return logits;
  }
  void time(std::vector<Setting>& all) {
    const auto chunk = static_cast<size_t>(session_.chunk());
    const size_t n_chunks = (ids_.size() + chunk - 1) / chunk;
    std::vector<std::vector<double>> least(all.size(), std::vector<double>(n_chunks, 1e30));
    std::vector<attention::KeyCount> keys(all.size());
    for (int r = 0; r < rounds_; ++r) {
      std::vector<SequenceId> sequences;
      for (const Setting& s : all) sequences.push_back(begin(s.spec == kApart ? "dense" : s.spec));
      for (size_t c = 0; c < n_chunks; ++c) {
        const auto part = std::span(ids_).subspan(c * chunk, std::min(chunk, ids_.size() - c * chunk));
        for (size_t i = 0; i < all.size(); ++i) {
          if (all[i].spec == kApart) session_.truncate(sequences[i], 0);
          const attention::KeyCount before = session_.key_count();
          least[i][c] = std::min(least[i][c], seconds([&] { must(session_.prefill(sequences[i], part)); }));
          keys[i].seen += session_.key_count().seen - before.seen;
          keys[i].dense += session_.key_count().dense - before.dense;
        }
      }
      for (const SequenceId s : sequences) session_.remove(s);
    }
    for (size_t i = 0; i < all.size(); ++i) {
      all[i].seconds = std::accumulate(least[i].begin(), least[i].end(), 0.0);
      all[i].share = static_cast<double>(keys[i].seen) / static_cast<double>(keys[i].dense);
    }
  }
  // Of the time over the share of keys; `rest`: what attention does not take.
  void add_line(const std::string& name, std::span<const Setting> listed, double dense, double rest) {
    double x = 0, y = 0, xx = 0, xy = 0, yy = 0;
    const auto m = static_cast<double>(listed.size());
    for (const Setting& s : listed) x += s.share / m, y += s.seconds / m;
    for (const Setting& s : listed) {
      const double dx = s.share - x, dy = s.seconds - y;
      xx += dx * dx, xy += dx * dy, yy += dy * dy;
    }
    const double at_none = y - xy / xx * x;
    add("lines", name + "at none", 100 * at_none / dense, "% of dense");
    add("lines", name + "at none, less the rest", 100 * (at_none - rest) / dense, "% of dense");
    add("lines", name + "R^2", xy * xy / (xx * yy), "");
  }
  void add(const char* part, const std::string& what, double value, const char* unit, double key_share = 0) {
    rows_.push_back({{"part", part}, {"tokens", ids_.size()}, {"what", what}, {"value", value}, {"unit", unit}});
    if (key_share > 0) rows_.back()["key_share"] = key_share;
  }

  Session& session_;
  int rounds_;
  std::vector<int32_t> ids_;
  nlohmann::ordered_json rows_ = nlohmann::ordered_json::array();
};

int run(const std::string& name, int n_tokens, int rounds, std::string_view part, bool json) {
  const auto model = must(engine::Model::load(must(store::resolve_model(name))));
  engine::SessionOptions options;
  options.n_ctx = n_tokens + 16 * rounds + 1, options.beyond_training = true;
  const auto session = must(Session::create(model, options));
  Bench bench(*session, n_tokens, rounds);
  if (!bench.is_right()) return 1;
  if (part.empty() || part == "hide") bench.hide();
  if (part.empty() || part == "lines") bench.lines();
  if (part.empty() || part == "classes") bench.classes();
  if ((part.empty() || part == "decode") && !bench.decode()) return 1;
  if (json) {
    fmt::print("{}\n", nlohmann::ordered_json{{"rows", bench.rows()}}.dump(1));
    return 0;
  }
  fmt::print("{}, {} tokens, {} threads, {}\n", name, n_tokens, pool().size(), kernels::name_of(kernels::active_isa()));
  for (const auto& row : bench.rows()) {
    fmt::print("{:8} {:44} {:10.3f} {:14}", row["part"].get<std::string>(), row["what"].get<std::string>(),
               row["value"].get<double>(), row["unit"].get<std::string>());
    if (row.contains("key_share")) fmt::print(" {:6.2f} % of the keys", 100 * row["key_share"].get<double>());
    fmt::print("\n");
  }
  return 0;
}

}  // namespace
}  // namespace fovea::bench

int main(int argc, char** argv) {
  std::string model = "smollm2-135m", part;
  int n_tokens = 8192, rounds = 3;
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (flag == "--json") {
      json = true;
    } else if (flag == "--tokens") {
      n_tokens = std::atoi(value), ++i;
    } else if (flag == "--rounds") {
      rounds = std::atoi(value), ++i;
    } else if (flag == "--part") {
      part = value, ++i;
    } else {
      model = flag;
    }
  }
  const bool known = part.empty() || part == "hide" || part == "lines" || part == "classes" || part == "decode";
  if (!known || n_tokens < 1024 || rounds < 1) {
    fmt::print(stderr, "bench_plans: --part hide, lines, classes or decode; --tokens of 1024 at least; --rounds\n");
    return 2;
  }
  return fovea::bench::run(model, n_tokens, rounds, part, json);
}

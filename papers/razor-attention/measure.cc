#include "papers/razor-attention/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "fovea/attention/attend.h"
#include "fovea/base/random.h"

namespace fovea::papers::razor_attention {
namespace {

using attention::Phase;
using tensor::Tensor;

constexpr int kAnswer = 64;  // tokens that an answer may have, at most

// One layer of one head, whose keys are not turned. What a token brings depends on its position only; those in
// [3, n_equal) hold the same key.
class Layer {
 public:
  Layer(const std::string& spec, int32_t n_equal)
      : n_equal_(n_equal), shape_(shape()), cache_(attention::CacheShape::of(shape_, kernels::KvType::kF32)) {
    auto parsed = attention::Pipeline::parse(spec, shape_);
    FOVEA_CHECK(parsed.has_value(), "razor-attention: {}", parsed.error().message);
    pipeline_ = std::move(*parsed);
  }
  // Positions [begin, end) -> z of the last.
  std::vector<float> read(int32_t begin, int32_t end, Phase phase) {
    attention::Batch batch;
    batch.add(std::vector<int32_t>(static_cast<size_t>(end - begin), 0), begin, 0, phase);
    const int64_t n = batch.size();
    attention::AttendInput in{Tensor::empty({n, 1, kDim}), Tensor::empty({n, 1, kDim}), Tensor::empty({n, 1, kDim})};
    for (int64_t i = 0; i < n; ++i) {
      const auto position = static_cast<int32_t>(begin + i);
      fill(0, position, in.q.data() + i * kDim);
      fill(1, position >= 3 && position < n_equal_ ? 3 : position, in.k.data() + i * kDim);
      fill(2, position, in.v.data() + i * kDim);
    }
    attention::Attend attend({.model = shape_, .ropes = {}, .batch = batch, .cache = &cache_, .pipeline = &pipeline_});
    const Tensor z = attend(0, in);
    return {z.data() + (n - 1) * kDim, z.data() + n * kDim};
  }

 private:
  static constexpr int kDim = 16;
  static attention::ModelShape shape() {
    attention::ModelShape out{
        .n_layers = 1, .n_heads = 1, .n_kv_heads = 1, .head_dim = kDim, .d_model = kDim, .n_ctx = 1 << 16};
    attention::AttentionShape site = out.site(0);
    site.rope = attention::AttentionShape::kNoRope;
    out.attention = {site};
    return out;
  }
  static void fill(uint64_t what, int32_t position, float* to) {
    Rng random(what << 32 | static_cast<uint64_t>(position));
    for (int d = 0; d < kDim; ++d) to[d] = static_cast<float>(1.5 * random.normal());
  }

  int32_t n_equal_;
  attention::ModelShape shape_;
  attention::KvCache cache_;
  attention::Pipeline pipeline_;
};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double out = 0;
  for (size_t i = 0; i < a.size(); ++i) out = std::max(out, std::abs(double{a[i]} - double{b[i]}));
  return out;
}

// z of every step, layer and head, in this order, of tokens that are decoded behind a prompt. `instead`: what goes on
// to the next layer in its place.
Result<std::vector<float>> decoded_z(Run& run, const std::string& attention, std::span<const int32_t> tokens,
                                     size_t n_prompt, const std::vector<float>* instead) {
  FOVEA_ASSIGN_OR_RETURN(const auto session,
                         engine::Session::create(run.model(), {.numerics = run.numerics(), .attention = attention}));
  const engine::SequenceId sequence = session->begin();
  engine::PrefillOptions prefill;
  prefill.cancel = run.cancel();
  FOVEA_RETURN_IF_ERROR(session->prefill(sequence, tokens.first(n_prompt), prefill));
  std::vector<float> out;
  FOVEA_ASSIGN_OR_RETURN(const auto scope,
                         session->hooks().scoped("blocks.*.attn.hook_z", [&](const std::string&, Tensor& z) {
                           const auto at = static_cast<int64_t>(out.size());
                           out.insert(out.end(), z.values().begin(), z.values().end());
                           if (instead) std::copy_n(instead->begin() + at, z.elements(), z.data());
                         }));
  for (const int32_t token : tokens.subspan(n_prompt)) {
    const engine::Session::Step step{sequence, token};
    FOVEA_RETURN_IF_ERROR(session->decode({&step, 1}));
  }
  return out;
}

std::vector<double> errors(const std::vector<float>& z, const std::vector<float>& dense, size_t n_heads, size_t dim) {
  std::vector<double> apart(n_heads, 0.0), whole(n_heads, 0.0);
  for (size_t i = 0; i < dense.size(); ++i) {
    const size_t head = i / dim % n_heads;
    apart[head] += std::pow(double{z[i]} - double{dense[i]}, 2), whole[head] += std::pow(double{dense[i]}, 2);
  }
  for (size_t head = 0; head < n_heads; ++head) apart[head] = std::sqrt(apart[head] / whole[head]);
  return apart;
}

}  // namespace

Planted planted() {
  const std::string spec = "razor-attention:ratio=4:buffer=8:sinks=3:protect=heads";
  constexpr int32_t kText = 120, kPrompt = 70;
  const auto at_once = [&](const std::string& of, int32_t n_equal) {
    Layer layer(of, n_equal);
    layer.read(0, kText, Phase::kPromptEnd);
    return layer.read(kText, kText + 1, Phase::kDecode);
  };
  Planted out;
  const std::vector<float> dense = at_once("dense", 90);  // [3, 90) is what 120 tokens drop
  out.on = largest_difference(at_once(spec, 90), dense);
  out.off = largest_difference(at_once(spec + ":compensation=off", 90), dense);
  Layer one_by_one(spec, 0);
  one_by_one.read(0, kPrompt, Phase::kPromptEnd);
  for (int32_t n = kPrompt; n < kText; ++n) one_by_one.read(n, n + 1, Phase::kDecode);
  out.mean = largest_difference(one_by_one.read(kText, kText + 1, Phase::kDecode), at_once(spec, 0));
  return out;
}

std::string with_buffer(const Run& run, const std::string& knobs) {
  return fmt::format("razor-attention:ratio={}:buffer={}{}", run.number("ratio"), run.number("buffer"), knobs);
}

Result<TaskScore> score(Run& run, const Probe& probe, const std::string& task, const std::string& attention) {
  const bool loss = task == "nll";
  return task_score(run, attention,
                    {.task = task,
                     .length = run.lengths(loss ? "text" : "length", loss ? 0 : kAnswer)[0],
                     .n_samples = run.number(loss ? "texts" : "samples"),
                     .asking = loss ? tasks::Asking::kLater : tasks::Asking::kSeen,
                     .profile = probe.profile,
                     .columns = {"razor_induction", "razor_echo"}});
}

Result<Drawn> drawn(Run& run, const Probe& probe) {
  Drawn out;
  for (int draw = 0; draw < run.number("draws"); ++draw) {
    FOVEA_ASSIGN_OR_RETURN(const TaskScore one,
                           score(run, probe, "niah", with_buffer(run, fmt::format(":protect=random:seed={}", draw))));
    out.mean += one.score / run.number("draws");
    out.best = std::max(out.best, one.score);
  }
  return out;
}

Result<HeadErrors> head_errors(Run& run) {
  constexpr size_t kSteps = 16;
  const attention::ModelShape& shape = run.model()->shape();
  const int length = run.lengths("text", 0)[0];
  const Json setting = {{"tokens", length}, {"ratio", run.number("ratio")}, {"buffer", run.number("buffer")}};
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell("errors of heads", setting, [&]() -> Result<Json> {
    FOVEA_ASSIGN_OR_RETURN(const auto samples, task_samples(run, {.task = "nll", .length = length, .n_samples = 1}));
    std::vector<int32_t> tokens = samples[0].context;
    const auto& second = samples[0].questions[0].tokens;
    tokens.insert(tokens.end(), second.begin(), second.end());
    const size_t n_prompt = tokens.size() - kSteps;
    FOVEA_ASSIGN_OR_RETURN(const auto dense, decoded_z(run, "dense", tokens, n_prompt, nullptr));
    Json out;
    for (const char* way : {"on", "unweighted", "off"}) {
      FOVEA_ASSIGN_OR_RETURN(
          const auto z, decoded_z(run, with_buffer(run, fmt::format(":protect=heads:compensation={}", way)), tokens,
                                  n_prompt, &dense));
      out[way] = errors(z, dense, static_cast<size_t>(shape.n_layers * shape.n_heads),
                        static_cast<size_t>(shape.site(0).v_dim));
    }
    return out;
  }));
  return HeadErrors{cell.at("on").get<std::vector<double>>(), cell.at("unweighted").get<std::vector<double>>(),
                    cell.at("off").get<std::vector<double>>()};
}

}  // namespace fovea::papers::razor_attention

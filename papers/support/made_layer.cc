#include "papers/support/made_layer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "fovea/base/random.h"

namespace fovea::papers {
namespace {

using attention::Phase;
using tensor::Tensor;

attention::ModelShape shape_of(const MadeShape& made) {
  attention::ModelShape out{.n_layers = 1,
                            .n_heads = made.n_heads,
                            .n_kv_heads = made.n_kv_heads,
                            .head_dim = kMadeDim,
                            .d_model = kMadeDim * made.n_heads,
                            .n_ctx = 1 << 16};
  attention::AttentionShape site = out.site(0);
  if (!made.turned) site.rope = attention::AttentionShape::kNoRope;
  out.attention = {site};
  return out;
}

}  // namespace

MadeUp noise(uint64_t what, double deviation) {
  return [=](int32_t position, int head, std::span<float> to) {
    Rng random(what << 48 | static_cast<uint64_t>(head) << 32 | static_cast<uint64_t>(position));
    for (float& x : to) x = static_cast<float>(deviation * random.normal());
  };
}

// Keeps what the last row reads.
struct MadeLayer::Watch final : attention::RowObserver {
  std::vector<std::vector<ReadKey>>& to;
  explicit Watch(std::vector<std::vector<ReadKey>>& keys) : to(keys) {}
  bool wants(int, int, bool) const override { return true; }
  void see(const attention::RowView& row, std::span<const float> pattern) override {
    std::vector<ReadKey>& keys = to[static_cast<size_t>(row.head)];
    keys.clear();
    for (size_t i = 0; i < pattern.size(); ++i) {
      if (pattern[i] > 0) keys.push_back({row.key_positions[i], pattern[i]});
    }
    std::sort(keys.begin(), keys.end(), [](const ReadKey& a, const ReadKey& b) { return a.position < b.position; });
  }
};

MadeLayer::MadeLayer(const std::string& attention, MadeShape shape)
    : made_(std::move(shape)),
      shape_(shape_of(made_)),
      cache_(attention::CacheShape::of(shape_, kernels::KvType::kF32)),
      keys_(static_cast<size_t>(made_.n_heads)) {
  for (int i = 0; i < kMadeDim; i += 2) rope_.inv_freq.push_back(static_cast<float>(std::pow(1e4, -i / 16.0)));
  auto parsed = attention::Pipeline::parse(attention, shape_);
  FOVEA_CHECK(parsed.has_value(), "{}", parsed.error().message);
  pipeline_ = std::move(*parsed);
}

void MadeLayer::read(int n_tokens, Phase phase) {
  attention::Batch batch;
  batch.add(std::vector<int32_t>(static_cast<size_t>(n_tokens), 0), next_, 0, phase);
  attention::AttendInput in{Tensor::empty({n_tokens, made_.n_heads, kMadeDim}),
                            Tensor::empty({n_tokens, made_.n_kv_heads, kMadeDim}),
                            Tensor::empty({n_tokens, made_.n_kv_heads, kMadeDim})};
  const auto fill = [&](const MadeUp& made, Tensor& t) {
    float* to = t.data();
    for (int32_t i = 0; i < n_tokens; ++i) {
      for (int head = 0; head < t.dim(1); ++head, to += kMadeDim) made(next_ + i, head, {to, kMadeDim});
    }
  };
  fill(made_.q, in.q), fill(made_.k, in.k), fill(made_.v, in.v);
  Watch watch(keys_);
  attention::RowObserver* const observers[] = {&watch};
  attention::Attend attend({.model = shape_,
                            .ropes = {&rope_, 1},
                            .batch = batch,
                            .cache = &cache_,
                            .pipeline = &pipeline_,
                            .observers = observers});
  const Tensor z = attend(0, in);
  const int64_t width = int64_t{made_.n_heads} * kMadeDim;
  z_.assign(z.data() + (n_tokens - 1) * width, z.data() + n_tokens * width);
  next_ += n_tokens;
}
void MadeLayer::decode(int n_tokens) {
  for (int i = 0; i < n_tokens; ++i) read(1, Phase::kDecode);
}

std::span<const float> MadeLayer::z(int head) const {
  return std::span(z_).subspan(static_cast<size_t>(head) * kMadeDim, kMadeDim);
}
std::vector<int32_t> MadeLayer::positions(int head) const {
  std::vector<int32_t> out;
  for (const ReadKey& key : keys(head)) out.push_back(key.position);
  return out;
}
double MadeLayer::product(int32_t q_pos, int head, int32_t key) const {
  float q[kMadeDim], k[kMadeDim];
  made_.q(q_pos, head, q), made_.k(key, head * made_.n_kv_heads / made_.n_heads, k);
  double out = 0;
  for (int d = 0; d < kMadeDim; ++d) out += double{q[d]} * double{k[d]};
  return out;
}

double largest_difference(std::span<const float> a, std::span<const float> b) {
  double out = 0;
  for (size_t i = 0; i < a.size(); ++i) out = std::max(out, std::abs(double{a[i]} - double{b[i]}));
  return out;
}

}  // namespace fovea::papers

// Time of a training step (forward, loss and every gradient) of a small llama: 4 layers, 1,024 tokens, a vocabulary of
// 4,096, d_ff = 4 d_model, heads of 64 (32 at d_model 128), two query heads to a KV head. First the slope of the loss
// along the gradient is compared with its norm. bench/train_step.py is the same in PyTorch.
//
//   bench_train_step [--json] [threads] [d_model ...]
#include <fmt/core.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "bench/measure.h"
#include "fovea/base/random.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/isa.h"
#include "fovea/tensor/exec.h"
#include "fovea/tensor/init.h"
#include "fovea/tensor/ops/ops.h"
#include "fovea/tensor/tape.h"

namespace fovea::bench {
namespace {

using namespace tensor;

constexpr int kLayers = 4;
constexpr int64_t kVocab = 4096;

class Llama {
 public:
  explicit Llama(int64_t d_model) : d_(d_model), head_dim_(d_model <= 128 ? 32 : 64), heads_(d_ / head_dim_) {
    const int64_t kv = heads_ / 2 * head_dim_, d_ff = 4 * d_;
    add("embed", kVocab, d_), add("head", kVocab, d_), add("norm", 0, d_);
    for (int l = 0; l < kLayers; ++l) {
      const std::string b = std::to_string(l) + ".";
      add(b + "attn_norm", 0, d_), add(b + "mlp_norm", 0, d_);
      add(b + "q", d_, d_), add(b + "k", kv, d_), add(b + "v", kv, d_), add(b + "o", d_, d_);
      add(b + "gate", d_ff, d_), add(b + "up", d_ff, d_), add(b + "down", d_, d_ff);
    }
    for (int i = 0; i < head_dim_; i += 2)
      rope_.inv_freq.push_back(static_cast<float>(std::pow(10000.0, -static_cast<double>(i) / double(head_dim_))));
  }
  Tensor loss(const std::vector<int32_t>& tokens) const {
    const size_t n = tokens.size();
    std::vector<int32_t> positions(n), sequences(n, 0), targets(tokens.begin() + 1, tokens.end());
    for (size_t i = 0; i < n; ++i) positions[i] = static_cast<int32_t>(i);
    targets.push_back(kNoTarget);
    const RopeAngles angles = make_rope_angles(positions, rope_);
    Tensor x = embed(w("embed"), tokens);
    for (int l = 0; l < kLayers; ++l) {
      const std::string b = std::to_string(l) + ".";
      Tensor h = rms_norm(x, w(b + "attn_norm"), 1e-5f);
      const Tensor q = rope(split_heads(matmul(h, w(b + "q")), heads_), angles);
      const Tensor k = rope(split_heads(matmul(h, w(b + "k")), heads_ / 2), angles);
      const Tensor v = split_heads(matmul(h, w(b + "v")), heads_ / 2);
      const float scale = 1 / std::sqrt(static_cast<float>(head_dim_));
      const Tensor z = tensor::attention(q, k, v, positions, sequences, {.scale = scale});
      x = matmul_add(x, merge_heads(z), w(b + "o"));
      h = rms_norm(x, w(b + "mlp_norm"), 1e-5f);
      x = matmul_add(x, matmul_swiglu(h, w(b + "gate"), w(b + "up")), w(b + "down"));
    }
    return cross_entropy(matmul(rms_norm(x, w("norm"), 1e-5f), w("head")), targets).mean();
  }
  const std::map<std::string, Weight>& weights() const { return weights_; }

 private:
  void add(const std::string& name, int64_t rows, int64_t cols) {
    const Tensor t =
        rows > 0 ? draw(Init::kaiming_normal(1), {rows, cols}, 1, name) : draw(Init::ones(), {cols}, 1, name);
    weights_.emplace(name, Weight::from(name, t));
  }
  const Weight& w(const std::string& name) const { return weights_.at(name); }

  int64_t d_, head_dim_, heads_;
  std::map<std::string, Weight> weights_;
  RopeTable rope_;
};

std::vector<int32_t> random_tokens(size_t n) {
  Rng rng(2);
  std::vector<int32_t> tokens(n);
  for (int32_t& t : tokens) t = static_cast<int32_t>(rng.next() % kVocab);
  return tokens;
}

// The gradients of all weights; returns the loss.
double step(const Llama& model, const std::vector<int32_t>& tokens, Arena& arena,
            std::map<std::string, Tensor>* grads) {
  Tape tape;
  Exec exec{.arena = &arena, .tape = &tape};
  ExecScope scope(exec);
  for (const auto& [name, w] : model.weights()) tape.watch(w.value);
  const Tensor loss = model.loss(tokens);
  tape.backward(loss);
  for (const auto& [name, w] : model.weights()) {
    if (grads) (*grads)[name] = tape.grad(w.value);
  }
  return loss.data()[0];
}

bool is_right() {
  Arena arena;
  const Llama model(128);
  const std::vector<int32_t> tokens = random_tokens(40);
  std::map<std::string, Tensor> grads;
  step(model, tokens, arena, &grads);
  double squares = 0;
  for (const auto& [name, g] : grads)
    for (const float x : g.values()) squares += double{x} * x;
  const double norm = std::sqrt(squares), h = 0.02;
  const auto at = [&](double shift) {
    for (const auto& [name, w] : model.weights()) {
      Tensor value = w.value;
      for (int64_t i = 0; i < value.elements(); ++i)
        value.data()[i] += static_cast<float>(shift * grads.at(name).data()[i] / norm);
    }
    return step(model, tokens, arena, nullptr);
  };
  const double up = at(h), down = at(-2 * h), slope = (up - down) / (2 * h);
  if (std::abs(slope - norm) < 0.01 * norm) return true;
  fmt::print(stderr, "bench_train_step: the loss has slope {} along a gradient of {}\n", slope, norm);
  return false;
}

int run(int n_threads, const std::vector<int64_t>& sizes, bool json) {
  set_threads(n_threads);
  if (!is_right()) return 1;
  const std::vector<int32_t> tokens = random_tokens(1024);
  nlohmann::json all = nlohmann::json::array();
  for (const int64_t d : sizes) {
    Arena arena;
    const Llama model(d);
    step(model, tokens, arena, nullptr);
    const double s = best_of(7, [&] { step(model, tokens, arena, nullptr); });
    all.push_back({{"d_model", d},
                   {"threads", pool().size()},
                   {"isa", kernels::name_of(kernels::active_isa())},
                   {"seconds", s},
                   {"arena_peak_mb", static_cast<double>(arena.peak_bytes()) / 1e6},
                   {"peak_rss_mb", static_cast<double>(status_bytes("VmHWM")) / 1e6}});
    if (!json)
      fmt::print("d_model {}: {:.1f} ms a step, {:.0f} MB of tensors\n", d, s * 1e3,
                 static_cast<double>(arena.peak_bytes()) / 1e6);
  }
  if (json) fmt::print("{}\n", all.dump());
  return 0;
}

}  // namespace
}  // namespace fovea::bench

int main(int argc, char** argv) {
  bool json = false;
  std::vector<int64_t> numbers;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--json") {
      json = true;
    } else {
      numbers.push_back(std::atoll(argv[i]));
    }
  }
  const int threads = numbers.empty() ? fovea::default_threads() : static_cast<int>(numbers[0]);
  std::vector<int64_t> sizes(numbers.begin() + (numbers.empty() ? 0 : 1), numbers.end());
  if (sizes.empty()) sizes = {128, 256, 512};
  return fovea::bench::run(threads, sizes, json);
}

// Time of a training step (forward, loss and every gradient) in float32 of
//   llama-D  4 layers of D = d_model, 1,024 tokens, a vocabulary of 4,096, d_ff = 4 D, heads of 64 (32 to D = 128), two
//            query heads to a KV head
//   vit      32 pictures of 64 x 64 in patches of 8, 6 layers of d_model 192
//   unet     that of the rig toy-diff, 32 pictures of 16 x 16 with captions of 7 tokens
// First the slope of the loss along the gradient is compared with its norm. bench/train_step.py does the same in
// PyTorch.
//
//   bench_train_step [--json] [threads] [CASE ...]
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <memory>
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
#include "fovea/train/nets/task_net.h"

namespace fovea::bench {
namespace {

using namespace tensor;
using Json = nlohmann::ordered_json;

class Model {
 public:
  virtual ~Model() = default;
  virtual Tensor loss() const = 0;  // the mean, [1]
  virtual Json net() const { return nullptr; }
  const std::map<std::string, Tensor>& params() const { return params_; }

 protected:
  std::map<std::string, Tensor> params_;
};

class Llama : public Model {
 public:
  Llama(int64_t d_model, size_t n_tokens)
      : d_(d_model), head_dim_(d_model <= 128 ? 32 : 64), heads_(d_ / head_dim_), tokens_(n_tokens) {
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
    Rng rng(2);
    for (int32_t& t : tokens_) t = static_cast<int32_t>(rng.next() % kVocab);
  }
  Tensor loss() const override {
    const size_t n = tokens_.size();
    std::vector<int32_t> positions(n), sequences(n, 0), targets(tokens_.begin() + 1, tokens_.end());
    for (size_t i = 0; i < n; ++i) positions[i] = static_cast<int32_t>(i);
    targets.push_back(kNoTarget);
    const RopeAngles angles = make_rope_angles(positions, rope_);
    Tensor x = embed(w("embed"), tokens_);
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

 private:
  static constexpr int kLayers = 4;
  static constexpr int64_t kVocab = 4096;
  void add(const std::string& name, int64_t rows, int64_t cols) {
    const Tensor t =
        rows > 0 ? draw(Init::kaiming_normal(1), {rows, cols}, 1, name) : draw(Init::ones(), {cols}, 1, name);
    weights_.emplace(name, Weight::from(name, t));
    params_.emplace(name, t);
  }
  const Weight& w(const std::string& name) const { return weights_.at(name); }

  int64_t d_, head_dim_, heads_;
  std::vector<int32_t> tokens_;
  std::map<std::string, Weight> weights_;
  RopeTable rope_;
};

// One of fovea/train/nets, on pictures of noise.
class Pictures : public Model {
 public:
  Pictures(Json net, int n_samples) : json_(std::move(net)) {
    train::Settings settings(json_, "bench_train_step");
    net_ = train::make_part<train::TaskNet>(settings, "net", settings.text("net", std::nullopt), {.seed = 1});
    if (!net_) return;
    for (const train::Param& p : net_->params()) params_.emplace(p.name, p.value);
    const train::TaskNet::Wants wants = net_->wants();
    Rng rng(2);
    const auto below = [&](int64_t n) { return static_cast<int32_t>(rng.below(static_cast<uint64_t>(n))); };
    for (int i = 0; i < n_samples; ++i) {
      auto picture = std::make_shared<train::Picture>();
      picture->channels = wants.channels, picture->height = wants.height, picture->width = wants.width;
      const int64_t n = wants.channels * wants.height * wants.width;
      for (int64_t k = 0; k < n; ++k) {
        picture->pixels.push_back(static_cast<float>(rng.normal()));
        picture->noise.push_back(static_cast<float>(rng.normal()));
      }
      picture->time = below(1000);
      if (wants.n_labels > 0) picture->label = below(wants.n_labels);
      train::Sample sample{.picture = picture};
      for (int k = 0; k < 7 && wants.vocab_size > 0; ++k) sample.tokens.push_back(below(wants.vocab_size));
      samples_.push_back(std::move(sample));
    }
  }
  Tensor loss() const override {
    attention::Hooks none(net_->hooks());
    return affine(net_->loss_sum(samples_, {.hooks = none}), 1 / static_cast<float>(net_->count(samples_)));
  }
  Json net() const override { return json_; }

 private:
  Json json_;
  std::unique_ptr<train::TaskNet> net_;
  std::vector<train::Sample> samples_;
};

constexpr std::string_view kCases[] = {"llama-128", "llama-256", "llama-512", "vit", "unet"};

// `small`: as the check wants it.
std::unique_ptr<Model> make(std::string_view name, bool small) {
  if (name == "vit") {
    return std::make_unique<Pictures>(Json{{"net", "vit"},
                                           {"size", 64},
                                           {"patch", 8},
                                           {"d_model", 192},
                                           {"n_layers", 6},
                                           {"n_heads", 3},
                                           {"classes", 10}},
                                      small ? 3 : 32);
  }
  if (name == "unet") {
    return std::make_unique<Pictures>(
        Json{{"net", "unet"}, {"size", 16}, {"width", 32}, {"factors", {1, 2}}, {"n_heads", 4}, {"vocab_size", 17}},
        small ? 3 : 32);
  }
  return std::make_unique<Llama>(std::atoll(name.substr(6).data()), small ? 40 : 1024);
}

// The gradients of all parameters; returns the loss.
double step(const Model& model, Arena& arena, std::map<std::string, Tensor>* grads) {
  Tape tape;
  Exec exec{.arena = &arena, .tape = &tape};
  ExecScope scope(exec);
  for (const auto& [name, value] : model.params()) tape.watch(value);
  const Tensor loss = model.loss();
  tape.backward(loss);
  for (const auto& [name, value] : model.params()) {
    if (grads) (*grads)[name] = tape.grad(value);
  }
  return loss.data()[0];
}

bool is_right(std::string_view name) {
  Arena arena;
  const std::unique_ptr<Model> model = make(name, true);
  std::map<std::string, Tensor> grads;
  step(*model, arena, &grads);
  double squares = 0;
  for (const auto& [param, g] : grads)
    for (const float x : g.values()) squares += double{x} * x;
  const double norm = std::sqrt(squares), h = 0.01;
  const auto at = [&](double shift) {
    for (const auto& [param, held] : model->params()) {
      Tensor value = held;
      for (int64_t i = 0; i < value.elements(); ++i)
        value.data()[i] += static_cast<float>(shift * grads.at(param).data()[i] / norm);
    }
    return step(*model, arena, nullptr);
  };
  const double up = at(h), down = at(-2 * h), slope = (up - down) / (2 * h);
  if (std::abs(slope - norm) < 0.01 * norm) return true;
  fmt::print(stderr, "bench_train_step: {}: the loss has slope {} along a gradient of {}\n", name, slope, norm);
  return false;
}

int run(int n_threads, const std::vector<std::string>& cases, bool json) {
  set_threads(n_threads);
  Json all = Json::array();
  for (const std::string& name : cases) {
    if (!is_right(name)) return 1;
    Arena arena;
    const std::unique_ptr<Model> model = make(name, false);
    step(*model, arena, nullptr);
    const double s = best_of(7, [&] { step(*model, arena, nullptr); });
    Json shapes;
    for (const auto& [param, value] : model->params()) {
      for (int i = 0; i < value.shape().rank(); ++i) shapes[param].push_back(value.dim(i));
    }
    all.push_back({{"case", name},
                   {"threads", pool().size()},
                   {"isa", kernels::name_of(kernels::active_isa())},
                   {"seconds", s},
                   {"arena_peak_mb", static_cast<double>(arena.peak_bytes()) / 1e6},
                   {"peak_rss_mb", static_cast<double>(status_bytes("VmHWM")) / 1e6},
                   {"net", model->net()},
                   {"parameters", shapes}});
    if (!json)
      fmt::print("{}: {:.1f} ms a step, {:.0f} MB of tensors\n", name, s * 1e3,
                 static_cast<double>(arena.peak_bytes()) / 1e6);
  }
  if (json) fmt::print("{}\n", all.dump());
  return 0;
}

}  // namespace
}  // namespace fovea::bench

int main(int argc, char** argv) {
  bool json = false;
  int threads = fovea::default_threads();
  std::vector<std::string> cases;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const auto& known = fovea::bench::kCases;
    if (word == "--json") {
      json = true;
    } else if (std::find(std::begin(known), std::end(known), word) != std::end(known)) {
      cases.emplace_back(word);
    } else if (const int n = std::atoi(argv[i]); n > 0) {
      threads = n;
    } else {
      fmt::print(stderr, "bench_train_step: {} is no case: llama-128, llama-256, llama-512, vit, unet\n", word);
      return 2;
    }
  }
  if (cases.empty()) cases.assign(std::begin(fovea::bench::kCases), std::end(fovea::bench::kCases));
  return fovea::bench::run(threads, cases, json);
}

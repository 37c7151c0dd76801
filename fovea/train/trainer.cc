#include "fovea/train/trainer.h"

#include <algorithm>
#include <cmath>

#include "fovea/tensor/tape.h"

namespace fovea::train {

using tensor::Tensor;

namespace {

void keep_within(const Param& param) {
  if (std::isinf(param.least) && std::isinf(param.most)) return;
  Tensor value = param.value;
  for (int64_t i = 0; i < value.elements(); ++i) {
    // Not clamp(): what is no number must stay one that the trainer finds.
    if (value.data()[i] < param.least) value.data()[i] = param.least;
    if (value.data()[i] > param.most) value.data()[i] = param.most;
  }
}

}  // namespace

Trainer::Trainer(std::vector<Param> params, std::unique_ptr<Optimizer> optimizer, std::unique_ptr<Schedule> schedule,
                 const TrainerOptions& options)
    : params_(std::move(params)), optimizer_(std::move(optimizer)), schedule_(std::move(schedule)), options_(options) {
  for (const Param& param : params_) {
    std::vector<Tensor> slots;
    for (size_t i = optimizer_->slots(param).size(); i > 0; --i) slots.push_back(Tensor::zeros(param.value.shape()));
    slots_.push_back(std::move(slots));
    if (options_.ema > 0) average_.push_back(Tensor::from(param.value.shape(), param.value.values()));
  }
}

Trainer::Outcome Trainer::step(int n_shares, const std::function<Tensor(int)>& share) {
  Outcome out;
  const double factor = schedule_->factor(done_);
  out.lr = optimizer_->lr() * factor;
  tensor::Tape tape;
  tensor::Exec exec{.arena = &arena_, .tape = &tape, .adapters = options_.adapters};
  const tensor::ExecScope scope(exec);
  for (const Param& param : params_) tape.watch(param.value);
  for (int i = 0; i < n_shares; ++i) {
    const Tensor loss = share(i);
    if (!loss.defined()) continue;
    out.loss += double{loss.data()[0]};
    if (!std::isfinite(out.loss)) {
      out.bad = "loss";
      return out;
    }
    if (tape.needs_grad(loss)) tape.backward(loss);
  }
  double squares = 0;
  for (const Param& param : params_) {
    squares += sum_of_squares(tape.grad(param.value));
    if (!std::isfinite(squares) && out.bad.empty()) out.bad = param.name;
  }
  out.grad_norm = std::sqrt(squares);
  if (!out.bad.empty()) return out;

  if (options_.clip_value > 0) {
    const auto most = static_cast<float>(options_.clip_value);
    squares = 0;
    for (const Param& param : params_) {
      Tensor& gradient = tape.grad(param.value);
      for (int64_t i = 0; i < gradient.elements(); ++i)
        gradient.data()[i] = std::clamp(gradient.data()[i], -most, most);
      squares += sum_of_squares(gradient);
    }
  }
  const double norm = std::sqrt(squares);
  // The 1e-6 is PyTorch's: a norm at the bound is cut a little.
  const double scale = options_.clip > 0 ? std::min(1.0, options_.clip / (norm + 1e-6)) : 1;
  for (size_t i = 0; i < params_.size(); ++i) {
    optimizer_->update(params_[i], tape.grad(params_[i].value), slots_[i],
                       {.number = done_, .factor = factor, .scale = scale});
    keep_within(params_[i]);
    if (average_.empty()) continue;
    const auto keep = static_cast<float>(options_.ema), add = static_cast<float>(1 - options_.ema);
    float* to = average_[i].data();
    const float* from = params_[i].value.data();
    for (int64_t e = 0; e < average_[i].elements(); ++e) to[e] = keep * to[e] + add * from[e];
  }
  ++done_;
  return out;
}

std::vector<std::pair<std::string, Tensor>> Trainer::state() const {
  std::vector<std::pair<std::string, Tensor>> out;
  std::map<std::string, int> seen;  // experts are parameters each, of one name
  for (size_t i = 0; i < params_.size(); ++i) {
    const int before = seen[params_[i].name]++;
    const std::string name = params_[i].name + (before > 0 ? "#" + std::to_string(before) : "");
    out.emplace_back("param/" + name, params_[i].value);
    const auto slots = optimizer_->slots(params_[i]);
    for (size_t s = 0; s < slots.size(); ++s) out.emplace_back(std::string(slots[s]) + "/" + name, slots_[i][s]);
    if (!average_.empty()) out.emplace_back("ema/" + name, average_[i]);
  }
  return out;
}

void Trainer::swap_average() {
  for (size_t i = 0; i < average_.size(); ++i)
    std::swap_ranges(average_[i].data(), average_[i].data() + average_[i].elements(), Tensor(params_[i].value).data());
}

}  // namespace fovea::train

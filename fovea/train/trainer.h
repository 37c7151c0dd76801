// One step after the other: gradients of a loss given in parts, clipping, the optimizer, the average of the weights.
// Knows parameters and losses only, no model and no data.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fovea/tensor/adapters.h"
#include "fovea/tensor/exec.h"
#include "fovea/train/optimizer.h"
#include "fovea/train/params.h"
#include "fovea/train/schedule.h"

namespace fovea::train {

struct TrainerOptions {
  double clip = 0;        // > 0: the norm of all gradients together is at most this
  double clip_value = 0;  // > 0: every element is, before that
  double ema = 0;         // > 0: an average of the weights is kept, avg = ema avg + (1 - ema) w
  const tensor::Adapters* adapters = nullptr;
};

class Trainer {
 public:
  Trainer(std::vector<Param> params, std::unique_ptr<Optimizer> optimizer, std::unique_ptr<Schedule> schedule,
          const TrainerOptions& options);

  struct Outcome {
    double loss = 0, grad_norm = 0, lr = 0;  // the norm before clipping
    std::string bad = {};                    // the first gradient that is not finite, or "loss": nothing was changed
  };
  // The loss is the sum of share(0) to share(n - 1), each [1]; a share may be !defined(), which is 0. Parts of any size
  // give the gradient of the whole: whoever makes them divides by the count of all. An exception leaves all as it was.
  Outcome step(int n_shares, const std::function<tensor::Tensor(int)>& share);

  int64_t steps_done() const { return done_; }
  const std::vector<Param>& params() const { return params_; }
  tensor::Arena& arena() { return arena_; }
  const tensor::Adapters* adapters() const { return options_.adapters; }

  // All that the next step depends on but its number: "param/NAME", "v/NAME", "ema/NAME", of further ones of a name
  // "param/NAME#1". They share the values.
  std::vector<std::pair<std::string, tensor::Tensor>> state() const;
  void resume(int64_t steps_done) { done_ = steps_done; }
  // The averages stand in the parameters' place while it lives; without one it does nothing.
  class [[nodiscard]] Averaged {
   public:
    explicit Averaged(Trainer& trainer) : trainer_(trainer) { trainer_.swap_average(); }
    ~Averaged() { trainer_.swap_average(); }
    Averaged(const Averaged&) = delete;
    Averaged& operator=(const Averaged&) = delete;

   private:
    Trainer& trainer_;
  };

 private:
  void swap_average();

  tensor::Arena arena_;
  std::vector<Param> params_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Schedule> schedule_;
  TrainerOptions options_;
  std::vector<std::vector<tensor::Tensor>> slots_;  // of each parameter
  std::vector<tensor::Tensor> average_;
  int64_t done_ = 0;
};

}  // namespace fovea::train

// What the checks of duo-attention measure: a toy whose gates have a gradient, gates, kept keys, passkeys.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "papers/support/decode_run.h"
#include "papers/support/task_run.h"

namespace fovea::papers::duo_attention {

// A llama of 2 layers with random weights, all gates at `start`: the mean squared distance of its final states from
// those of the same model without the method (eq. 2), and how far gradients by the gates are from central differences.
struct Toy {
  double loss = 0;
  int n_gates = 0;
  double worst = 0, largest = 0;  // |gradient - difference|, |difference|
};
Result<Toy> toy(double start);

// Gates of the run's model, of its file or else of its profile.
struct Gates {
  std::vector<double> values;  // [n_layers * n_kv_heads]; empty: there are none
  std::string why;             // there are none
  std::shared_ptr<const attention::HeadProfile> profile;
};
Result<Gates> gates_of(Run& run);

// The method with the settings' sink and recent, and these further knobs (":sparsity=1").
std::string with_window(const Run& run, const std::string& knobs);

// The passkey score in percent, and the loss of short texts in nats.
Result<double> passkeys(Run& run, const Gates& gates, const std::string& attention);
Result<double> loss(Run& run, const Gates& gates, const std::string& attention);
// The mean over drawn gates, and the best of them.
struct Drawn {
  double mean = 0, best = 0;
};
Result<Drawn> drawn(Run& run, const Gates& gates);

}  // namespace fovea::papers::duo_attention

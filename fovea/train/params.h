// What is trained: float32 tensors under the names of the model's files.
#pragma once

#include <limits>
#include <span>
#include <string>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/tensor/tensor.h"

namespace fovea::train {

struct Param {
  std::string name;     // "blk.0.attn_q.weight"; of a LoRA "blk.0.attn_q.weight.lora_a"
  std::string hf_name;  // "model.layers.0.self_attn.q_proj.weight"
  tensor::Tensor value;
  // Tables that are looked up and the unembedding: what works on the directions of a matrix leaves them out.
  bool table = false;
  // Its values stay within: those beyond after a step become the nearest.
  float least = -std::numeric_limits<float>::infinity(), most = std::numeric_limits<float>::infinity();
  bool matrix() const { return value.shape().rank() == 2 && value.dim(0) > 1; }
};

// Whether a glob fits one of the two names.
bool names_param(std::string_view glob, const std::string& name, const std::string& hf_name);
// kUsage naming the first glob (without its '!') that fits no parameter, with the nearest name. `what` names the
// setting.
Status check_globs(const std::vector<std::string>& globs, const std::vector<std::pair<std::string, std::string>>& names,
                   const std::string& what);

// Whether the last of the globs that fits says so: one that begins with '!' takes away what those before it gave.
bool globs_choose(const std::vector<std::string>& globs, const std::string& name, const std::string& hf_name);

std::vector<int64_t> dims_of(const tensor::Tensor& x);

// Sums over tensors that do not depend on the number of threads.
double sum_of_squares(const tensor::Tensor& x);
bool all_finite(const tensor::Tensor& x);

}  // namespace fovea::train

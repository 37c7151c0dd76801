// Two layers in which an induction head forms: the second half of a sequence repeats the first, and is predicted.
#include "fovea/train/rigs/rig.h"

namespace fovea::train {
namespace {

FOVEA_RIG(tiny_induction, "tiny-induction", "a decoder of 2 layers with induction heads", 5, 0.1, R"({
  "model": {"net": "llama", "d_model": 64, "d_ff": 128, "n_layers": 2, "n_heads": 4, "vocab_size": 32, "n_ctx": 64},
  "data": {"generator": "induction", "length": 16, "vary": true},
  "context": 48,
  "batch": 64,
  "steps": 1500,
  "optimizer": {"name": "adamw", "lr": 0.003, "betas": [0.9, 0.98], "weight_decay": 0.01, "decay": "matrices"},
  "schedule": {"name": "cosine", "warmup": 20, "final": 0.1},
  "clip": 1.0,
  "eval": {"data": {"generator": "induction", "length": 16, "vary": true}, "every": 500},
  "checkpoint_every": 500,
  "seed": 1
})");

}  // namespace
}  // namespace fovea::train

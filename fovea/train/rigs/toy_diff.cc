// A U-Net that finds the noise in pictures of 16 x 16, one object or two beside each other, and reads their caption:
// attention of 64 places to each other and to the words, at the lower level. The loss is that over all steps of the
// schedule; 1 is a net that finds nothing.
#include "fovea/train/rigs/rig.h"

namespace fovea::train {
namespace {

FOVEA_RIG(toy_diff, "toy-diff", "a U-Net with captions for pictures of 16 x 16", 5, 0.032, R"({
  "model": {"net": "unet", "size": 16, "width": 32, "factors": [1, 2], "n_heads": 4, "vocab_size": 17},
  "data": {"generator": "scenes", "size": 16, "objects": 2, "least": 1, "noise": 0, "apart": true},
  "context": 7,
  "batch": 32,
  "steps": 1000,
  "optimizer": {"name": "adamw", "lr": 0.001, "betas": [0.9, 0.99], "weight_decay": 0},
  "schedule": {"name": "cosine", "warmup": 50, "final": 0.1},
  "clip": 1.0,
  "ema": 0.99,
  "eval": {"data": {"generator": "scenes", "size": 16, "objects": 2, "least": 1, "noise": 0, "apart": true},
           "every": 250, "samples": 512},
  "checkpoint_every": 250,
  "seed": 1
})");

}  // namespace
}  // namespace fovea::train

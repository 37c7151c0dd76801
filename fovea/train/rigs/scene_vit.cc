// A ViT that classifies the one object of a scene: 36 classes, six shapes in six colours, of 64 patches and a class
// token. Seed 1 reaches 0.218.
#include "fovea/train/rigs/rig.h"

namespace fovea::train {
namespace {

FOVEA_RIG(scene_vit, "scene-vit", "a ViT of 3 layers, a classifier of shapes and colours", 8, 0.3, R"({
  "model": {"net": "vit", "size": 32, "patch": 4, "classes": 36, "d_model": 64, "n_layers": 3, "n_heads": 4, "d_ff": 128},
  "data": {"generator": "scenes", "size": 32, "label": "shape-colour"},
  "batch": 32,
  "steps": 4000,
  "optimizer": {"name": "adamw", "lr": 0.002, "betas": [0.9, 0.98], "weight_decay": 0.01, "decay": "matrices"},
  "schedule": {"name": "cosine", "warmup": 100, "final": 0.05},
  "clip": 1.0,
  "eval": {"data": {"generator": "scenes", "size": 32, "label": "shape-colour"}, "every": 500, "samples": 256},
  "checkpoint_every": 500,
  "seed": 1
})");

}  // namespace
}  // namespace fovea::train

// A classifier of the one object of a scene: 36 classes, six shapes in six colours.
#include "fovea/train/rigs/rig.h"

namespace fovea::train {
namespace {

FOVEA_RIG(scene_cnn, "scene-cnn", "a convolutional classifier of shapes and colours", 8, 0.1, R"({
  "model": {"net": "cnn", "size": 32, "classes": 36, "widths": [16, 32, 64]},
  "data": {"generator": "scenes", "size": 32, "label": "shape-colour"},
  "batch": 32,
  "steps": 4000,
  "optimizer": {"name": "adamw", "lr": 0.004, "weight_decay": 0.01},
  "schedule": {"name": "cosine", "warmup": 20, "final": 0.1},
  "clip": 1.0,
  "eval": {"data": {"generator": "scenes", "size": 32, "label": "shape-colour"}, "every": 1000, "samples": 512},
  "checkpoint_every": 1000,
  "seed": 1
})");

}  // namespace
}  // namespace fovea::train

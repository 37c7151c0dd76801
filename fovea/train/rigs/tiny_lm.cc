// A decoder whose tokens are bytes, of Debian's licences but one, which is held out, and of sequences that repeat: the
// licences alone are too little text for induction heads, and of long sequences a model this small learns which bytes
// they have and stops there; short ones, mixed in, take it further. A head of the last layer looks for what followed
// last time from about step 1,500 on (0.05 of its mass before, 0.9 behind), once one of a layer below looks at the byte
// before. The held-out licence is best at step 2,000 (1.63) and worse from then on: it stops at 2,800 (1.69).
#include "fovea/train/rigs/rig.h"

namespace fovea::train {
namespace {

FOVEA_RIG(tiny_lm, "tiny-lm", "a decoder of 4 layers for the bytes of licences, with induction heads", 20, 1.75, R"({
  "model": {"net": "llama", "tokenizer": "bytes", "d_model": 128, "d_ff": 256, "n_layers": 4, "n_heads": 8,
            "tied": true, "rope_theta": 200},
  "data": {"mix": [
    {"text": ["/usr/share/common-licenses/Apache-2.0", "/usr/share/common-licenses/Artistic",
              "/usr/share/common-licenses/CC0-1.0", "/usr/share/common-licenses/GFDL-1.3",
              "/usr/share/common-licenses/GPL-1", "/usr/share/common-licenses/GPL-2",
              "/usr/share/common-licenses/GPL-3", "/usr/share/common-licenses/LGPL-2.1",
              "/usr/share/common-licenses/MPL-1.1"]},
    {"generator": "induction", "length": 16, "vary": true, "symbols": 256},
    {"generator": "induction", "length": 32, "vary": true, "symbols": 256}]},
  "context": 64,
  "batch": 64,
  "steps": 4000,
  "optimizer": {"name": "adamw", "lr": 0.003, "betas": [0.9, 0.98], "weight_decay": 0.01, "decay": "matrices"},
  "schedule": {"name": "cosine", "warmup": 50, "final": 0.1},
  "clip": 1.0,
  "eval": {"data": {"text": ["/usr/share/common-licenses/MPL-2.0"]}, "every": 400},
  "early_stop": {"patience": 2},
  "checkpoint_every": 400,
  "keep_every": 400,
  "seed": 1
})");

}  // namespace
}  // namespace fovea::train

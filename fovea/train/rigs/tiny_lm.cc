// A decoder whose tokens are bytes, on Debian's licences but one, which is held out: a language model of text, small.
// They are 200 kB, and after 500 steps more of them makes the held-out one no better. Its heads look at the byte before
// and not yet for what followed last time: for that, tiny-induction.
#include "fovea/train/rigs/rig.h"

namespace fovea::train {
namespace {

FOVEA_RIG(tiny_lm, "tiny-lm", "a decoder of 4 layers for the bytes of licences", 2, 1.78, R"({
  "model": {"net": "llama", "tokenizer": "bytes", "d_model": 128, "d_ff": 256, "n_layers": 4, "n_heads": 4},
  "data": {"text": ["/usr/share/common-licenses/Apache-2.0", "/usr/share/common-licenses/Artistic",
                    "/usr/share/common-licenses/CC0-1.0", "/usr/share/common-licenses/GFDL-1.3",
                    "/usr/share/common-licenses/GPL-1", "/usr/share/common-licenses/GPL-2",
                    "/usr/share/common-licenses/GPL-3", "/usr/share/common-licenses/LGPL-2.1",
                    "/usr/share/common-licenses/MPL-1.1"]},
  "context": 256,
  "batch": 8,
  "order": "shuffled",
  "steps": 500,
  "optimizer": {"name": "adamw", "lr": 0.003, "betas": [0.9, 0.98], "weight_decay": 0.1, "decay": "matrices"},
  "schedule": {"name": "cosine", "warmup": 50, "final": 0.1},
  "clip": 1.0,
  "eval": {"data": {"text": ["/usr/share/common-licenses/MPL-2.0"]}, "every": 100},
  "checkpoint_every": 100,
  "seed": 1
})");

}  // namespace
}  // namespace fovea::train

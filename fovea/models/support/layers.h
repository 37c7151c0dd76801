// What metadata say of single layers: windows, and layers without angles.
#pragma once

#include <functional>
#include <vector>

#include "fovea/models/support/config.h"
#include "fovea/models/support/keys.h"

namespace fovea::models {

// Those of every layer, to be changed: at first as a plain decoder has them.
std::vector<attention::AttentionShape>& sites(Config& config);

// `keys`, and those that read_windows reads.
std::vector<FamilyKey> with_windows(std::vector<FamilyKey> keys);
// What a family has where the file does not say it.
struct WindowDefaults {
  int64_t size = 0;  // keys; 0: none
  bool first_is_full =
      false;  // of attention.sliding_window_pattern n: the first of n layers has no window, not the last
};
// Gives layers a window of attention.sliding_window keys: those that attention.layer_types calls "sliding_attention",
// else those that attention.sliding_window_pattern marks (one flag a layer; or n: all but every n-th), else those for
// which slides(layer). With a size of 0 there is none. Layers with a window turn by Config::ropes[1] where the family
// has such a table.
Status read_windows(const Keys& keys, Config& config, const std::function<bool(int layer)>& slides,
                    const WindowDefaults& defaults = {});
inline Status read_windows(const Keys& keys, Config& config) {
  return read_windows(keys, config, [](int) { return true; });
}

// no_rope_layers: 0 for a layer whose q and k are not turned; else every no_rope_layer_interval-th (`interval` where
// the key is missing).
Status read_no_rope_layers(const Keys& keys, Config& config, int interval);

// Every token sees those behind it too, in layers with a window as many as before it.
void look_both_ways(Config& config);

// A row of a table for each position in place of angles: no layer turns, and no text is longer than the table.
void use_learned_positions(Config& config);

}  // namespace fovea::models

// What attention needs to know about a model, and what was measured about its heads.
#pragma once

#include <algorithm>
#include <climits>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/base/result.h"

namespace fovea::attention {

// What one measured value is about: a query head, a KV head, an attention layer, or the whole model.
enum class Granularity { kHead, kKvHead, kLayer, kModel };

// What was measured about a model file, by name ("retrieval"). Made by `fovea profile`.
struct HeadProfile {
  struct Column {
    Granularity of = Granularity::kHead;
    std::vector<double> values = {};  // [n_layers * n_heads], [n_layers * n_kv_heads], [n_layers] or [1]
  };
  std::string model_sha256;
  int n_layers = 0, n_heads = 0, n_kv_heads = 0;
  std::map<std::string, Column, std::less<>> columns;

  size_t size(Granularity of) const;  // values of such a column
  // Null where no column of this name is about that.
  const std::vector<double>* find(std::string_view name, Granularity of = Granularity::kHead) const;
};

// One attention of the forward pass. `layer` in methods, hooks and the cache counts these, in the order of the forward.
struct AttentionShape {
  int n_heads = 0;                   // head h reads key head h * n_k_heads / n_heads, and so of values
  int n_k_heads = 0, n_v_heads = 0;  // one divides the other, both divide n_heads
  int k_dim = 0, v_dim = 0;          // of a head
  int rope = 0;                      // index of the model's tables of angles; kNoRope: keys are not turned
  float scale = 0;                   // multiplies q.k
  float softcap = 0;                 // > 0: a score s becomes softcap tanh(s / softcap)
  int window = INT_MAX;              // a row sees this many last keys, itself among them
  bool causal = true;                // else as many keys ahead as behind: a sequence's rows are fed in one pass
  static constexpr int kNoRope = -1;

  // Of the side that has more: what plans, lists of pages and methods go by. Neighbours share a head of the other side.
  int n_kv_heads() const { return std::max(n_k_heads, n_v_heads); }
  int group() const { return n_heads / n_kv_heads(); }
  int ahead() const {
    return causal ? 0 : window == INT_MAX ? INT_MAX : window - 1;
  }  // keys past its own that a row sees
};

struct ModelShape {
  int n_layers = 0;
  int n_heads = 0;
  int n_kv_heads = 0;  // of keys or of values, whichever are more
  int head_dim = 0;
  int d_model = 0;
  int d_ff = 0;
  int vocab_size = 0;
  int n_ctx = 0;                               // positions the model was trained for
  int max_positions = INT_MAX;                 // rows of a table of positions: no text can be longer
  const HeadProfile* profile = nullptr;        // null: nothing was measured
  std::vector<AttentionShape> attention = {};  // one a layer; empty: all are plain and alike

  int group() const { return n_heads / n_kv_heads; }
  AttentionShape site(int layer) const {
    if (!attention.empty()) {
      FOVEA_CHECK(layer >= 0 && static_cast<size_t>(layer) < attention.size(), "model: layer {} of {}", layer,
                  attention.size());
      return attention[static_cast<size_t>(layer)];
    }
    return {.n_heads = n_heads,
            .n_k_heads = n_kv_heads,
            .n_v_heads = n_kv_heads,
            .k_dim = head_dim,
            .v_dim = head_dim,
            .scale = 1.0f / std::sqrt(static_cast<float>(head_dim))};
  }
};

// Query heads named by a user: "all", "none", or items joined by '+': "5" (a layer), "3-9" (layers),
// "4.11" (layer 4, head 11).
class HeadSet {
 public:
  static HeadSet all();
  static HeadSet none() { return {}; }
  static Result<HeadSet> parse(std::string_view text);
  void add(int layer, int head) { items_.push_back({layer, layer, head}); }
  bool contains(int layer, int head) const;
  bool empty() const { return items_.empty(); }
  std::string to_string() const;
  Status check(const ModelShape& model) const;  // kUsage if it names a layer or head that is not there

 private:
  static constexpr int kAnyHead = -1, kLastLayer = 1 << 30;
  struct Item {
    int first_layer, last_layer, head;
  };
  std::vector<Item> items_;
};

// The `n` query heads (layer * n_heads + head), or KV heads or layers, with the highest values of this column, ties in
// rising order. kUsage without a profile that holds them.
Result<std::vector<int>> top_heads(const ModelShape& model, std::string_view column, int n,
                                   Granularity of = Granularity::kHead);

}  // namespace fovea::attention

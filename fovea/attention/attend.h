// attend(layer, q, k, v): all that happens between the projections of a layer and its z. Rotation,
// cache, the pipeline's stages, and the path: fused over a list of key blocks, with the rows of a
// head materialised only where a method edits them, a hook reads them or an observer reduces them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fovea/attention/batch.h"
#include "fovea/attention/hooks.h"
#include "fovea/attention/kv_cache.h"
#include "fovea/attention/pipeline.h"
#include "fovea/tensor/ops/rope.h"
#include "fovea/tensor/scratch.h"
#include "fovea/tensor/tensor.h"

namespace fovea::attention {

// Reduces rows of the pattern as they are made, so that no matrix is ever stored. Calls for
// different heads come from different threads; the rows of one head come in order.
class RowObserver {
 public:
  virtual ~RowObserver() = default;
  virtual bool wants(int layer, int head, bool decoding) const = 0;
  virtual void see(const RowView& row, std::span<const float> pattern) = 0;
};

// How many keys were computed on, and how many dense attention would have read.
struct KeyCount {
  uint64_t seen = 0, dense = 0;
};

// What one forward pass leaves for the next, so that a decode step reaches the heap never. For one Attend at a time.
class AttendMemory {
 private:
  friend class Attend;
  struct Run {  // the adjacent rows of one sequence
    SequenceId sequence;
    int64_t begin, end;  // rows of the batch
    std::span<const int32_t> positions;
    bool decoding;
    size_t first_plan;  // its plans, one a KV head
    int64_t n() const { return end - begin; }
  };
  struct HeadPlan {  // what the methods let a KV head's query group see
    std::span<const kernels::KeyBlock> blocks;
    std::vector<KeyRule> rules;  // [group]
    std::vector<uint32_t> mask;  // [n, group, n_blocks], or empty
  };
  struct Tile {  // queries first..first + n of a run, for one KV head
    const Run* run;
    int kv_head;
    int64_t first, n;
    int64_t n_parts;         // segments of the keys that it sees
    int64_t first_part = 0;  // of all parts of the batch
  };
  bool in_use = false;
  std::vector<Run> runs;
  std::vector<HeadPlan> plans;  // of the current layer
  std::vector<Tile> tiles;      // likewise
};

class Attend {
 public:
  struct Context {
    const ModelShape& model;
    const tensor::RopeTable& rope;
    const Batch& batch;
    KvCache* cache = nullptr;      // null on the tape: every key comes from this call
    Pipeline* pipeline = nullptr;  // null: dense
    Hooks* hooks = nullptr;
    std::span<RowObserver* const> observers = {};
    AttendMemory* memory = nullptr;  // null: its own
  };
  explicit Attend(const Context& context);
  ~Attend() { memory_.in_use = false; }
  Attend(const Attend&) = delete;
  Attend& operator=(const Attend&) = delete;

  // q [n, n_heads, head_dim], k and v [n, n_kv_heads, head_dim], not rotated -> z like q.
  tensor::Tensor operator()(int layer, tensor::Tensor q, tensor::Tensor k, tensor::Tensor v);

  const KeyCount& key_count() const { return keys_; }

 private:
  using Run = AttendMemory::Run;
  using HeadPlan = AttendMemory::HeadPlan;
  using Tile = AttendMemory::Tile;
  struct Fused;
  tensor::Tensor on_tape(const tensor::Tensor& q, const tensor::Tensor& k, const tensor::Tensor& v) const;
  // Runs the shape stage, one sequence at a time; false if no method has one here.
  bool edit_inputs(int layer, tensor::Tensor& q, tensor::Tensor& k, tensor::Tensor& v, tensor::RopeAngles& angles);
  LayerView view(const Run& run, int layer, size_t method) const;
  void store(int layer, const tensor::Tensor& k, const tensor::Tensor& v);
  HeadPlan& plan(const Run& run, int kv_head) const {
    return memory_.plans[run.first_plan + static_cast<size_t>(kv_head)];
  }
  void make_plan(const Run& run, int layer, int kv_head);
  void count_keys(const Run& run, const HeadPlan& plan);
  void cut_tiles();
  void fused(const tensor::Tensor& q, tensor::Tensor& z);
  kernels::AttentionArgs rows_of(const Run& run, int kv_head, const tensor::Tensor& q, int64_t first, int64_t n) const;
  void materialised(const Run& run, int layer, const tensor::Tensor& q, tensor::Tensor& z);
  void hooked_rows(const Run& run, int layer, const tensor::Tensor& q, tensor::Tensor& z);
  void edit_outputs(const Run& run, int layer, tensor::Tensor& z);
  size_t n_methods() const { return c_.pipeline ? c_.pipeline->methods().size() : 0; }
  tensor::Tensor hook(Site site, int layer, tensor::Tensor x) const {
    return c_.hooks ? (*c_.hooks)(site, layer, std::move(x)) : x;
  }

  Context c_;
  AttendMemory own_memory_;
  AttendMemory& memory_;
  tensor::RopeAngles angles_;
  float scale_;
  KeyCount keys_;
};

}  // namespace fovea::attention

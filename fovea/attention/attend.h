// attend(layer, q, k, v): all that happens between the projections of a layer and its z. Rotation,
// cache, the pipeline's stages, and the path: fused over lists of pages, with the rows of a
// head materialised only where a method edits them, a hook reads them or an observer reduces them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "fovea/attention/batch.h"
#include "fovea/attention/hooks.h"
#include "fovea/attention/key_plan.h"
#include "fovea/attention/kv_cache.h"
#include "fovea/attention/pipeline.h"
#include "fovea/tensor/ops/attention/float_pages.h"
#include "fovea/tensor/ops/attention/rope.h"
#include "fovea/tensor/scratch.h"
#include "fovea/tensor/tensor.h"

namespace fovea::attention {

// Reduces rows of the pattern as they are made, so that no matrix is ever stored. Calls for different heads or
// sequences come from different threads; the rows of one head of a sequence come in order.
class RowObserver {
 public:
  virtual ~RowObserver() = default;
  virtual bool wants(int layer, int head, bool decoding) const = 0;
  virtual void see(const RowView& row, std::span<const float> pattern) = 0;
};

struct Cancelled {};

// Sinks are logits that take part in each row's softmax and bring no value (Agarwal et al., arXiv:2508.10925).
// q [n, n_heads, k_dim], k [n, n_k_heads, k_dim] and v [n, n_v_heads, v_dim] of the batch's rows, not rotated. x and
// h, for methods that read them: [n, d_model], what the block reads of the residual stream and its norm.
struct AttendInput {
  tensor::Tensor q, k, v;
  tensor::Tensor x = {}, h = {};
  tensor::Tensor sinks = {};  // [n_heads]; undefined: there are none
  // [n_heads, 2 far + 1]: added to a row's scaled score of a key by the distance from row to key, farther ones as `far`
  // is. All rows of the layer are materialised then, and there is no gradient. Undefined: there is none.
  tensor::Tensor by_distance = {};
};

// How many keys were computed on, and how many dense attention would have read.
struct KeyCount {
  uint64_t seen = 0, dense = 0;
  KeyCount& operator+=(const KeyCount& other) {
    seen += other.seen;
    dense += other.dense;
    return *this;
  }
};

// What a sequence brings of its own to a batch.
struct SequenceContext {
  SequenceId sequence;
  Pipeline* pipeline = nullptr;
  std::span<RowObserver* const> observers = {};
  std::span<const Span> spans = {};
  int32_t n_prompt = 0;  // of Call; 0: nobody said
};

// What one forward pass leaves for the next, so that a decode step reaches the heap never. For one Attend at a time.
class AttendMemory {
 private:
  friend class Attend;
  struct Run {  // adjacent rows of one sequence and phase
    SequenceId sequence;
    int64_t begin, end;  // rows of the batch
    std::span<const int32_t> positions;
    Phase phase;
    Pipeline* pipeline;                       // null: dense
    std::span<RowObserver* const> observers;  // of the sequence alone
    std::span<const Span> spans;
    int32_t n_prompt = 0;
    int64_t n() const { return end - begin; }
    bool decoding() const { return phase == Phase::kDecode; }
  };
  struct Piece {  // pages of one part that lie in one segment of the head's list
    int part;
    int64_t begin, end;  // of the part's pages; of the head's for an untouched tile
    bool is_empty() const { return begin == end; }
  };
  struct Task {  // rows first..first + n of a run, for neighbouring query heads of one KV head
    int run, kv_head, tile;
    int head, n_heads;  // of the group
    int64_t first, n;
    size_t first_piece, n_pieces;
  };
  struct RowTask {  // rows of the pattern of one query head
    int run, head;
  };
  bool in_use = false;
  std::vector<Run> runs;
  std::vector<KeyPlan> plans;  // of the current layer, one a run
  std::vector<Task> tasks;
  std::vector<Piece> pieces;
  std::vector<RowTask> row_tasks;
  std::vector<std::vector<tensor::Tensor>> turned_q;  // of each run: q for turn i of its plan at i - 1
  std::vector<tensor::RopeAngles> angles;             // by table of the model; made at first use
  struct Turned {                                     // of rows as if they stood elsewhere
    int rope;
    std::vector<int32_t> positions;
    tensor::RopeAngles angles;
  };
  std::vector<Turned> turned;
};

class Attend {
 public:
  struct Context {
    const ModelShape& model;
    std::span<const tensor::RopeTable> ropes;
    const Batch& batch;
    KvCache* cache = nullptr;      // null on the tape: every key comes from this call
    Pipeline* pipeline = nullptr;  // of sequences without a context; null: dense
    Hooks* hooks = nullptr;
    std::span<RowObserver* const> observers = {};
    std::span<const SequenceContext> sequences = {};
    AttendMemory* memory = nullptr;             // null: its own
    const std::atomic<bool>* cancel = nullptr;  // looked at in every layer: throws Cancelled
    tensor::Tensor source = {};                 // [m, d]: rows of another tower, for the keys of cross()

    Context with(const Batch& other) const {  // every field but the batch
      return {model, ropes, other, cache, pipeline, hooks, observers, sequences, memory, cancel, source};
    }
  };
  explicit Attend(const Context& context);
  ~Attend();
  Attend(const Attend&) = delete;
  Attend& operator=(const Attend&) = delete;

  tensor::Tensor operator()(int layer, AttendInput in);  // -> z [n, n_heads, v_dim]
  // Keys of something else than the batch's tokens (an image, an encoder's output), for a batch of one sequence: every
  // row sees all of them. k and v [m, ...] replace what the layer's cache holds; undefined: it stays (without a cache,
  // on the tape, they are given each time).
  tensor::Tensor cross(int layer, tensor::Tensor q, tensor::Tensor k, tensor::Tensor v);

  // Empty where the cache holds what was made of it.
  const tensor::Tensor& source() const { return c_.source; }

  const KeyCount& key_count() const { return keys_; }

 private:
  using Run = AttendMemory::Run;
  using Piece = AttendMemory::Piece;
  using Task = AttendMemory::Task;
  using RowTask = AttendMemory::RowTask;
  struct Layer;  // what the path needs to know of one layer (attend_layer.h)
  struct Fused;
  struct Rows;

  tensor::Tensor on_tape(Layer& layer, const tensor::Tensor& k, const tensor::Tensor& v);
  tensor::Tensor planned_on_tape(Layer& layer, size_t run, const tensor::Tensor& k, const tensor::Tensor& v);
  tensor::Tensor cross_on_tape(int layer, const tensor::Tensor& q, const tensor::Tensor& k, const tensor::Tensor& v);
  const tensor::RopeAngles& angles_of(int rope);
  const tensor::RopeAngles& angles_at(const std::vector<int32_t>& positions, int rope);
  tensor::Tensor turn(const tensor::Tensor& x, int rope);  // by the batch's positions
  // Runs the inputs stage, one sequence at a time; false if no method has one here.
  bool edit_inputs(int layer, AttendInput& in, tensor::RopeAngles& angles);
  Call call(const Run& run, int layer, size_t method) const;
  Call call(const Run& run, int layer) const;  // of no method
  Call call(const Run& run, int layer, size_t method, const tensor::Tensor& x, const tensor::Tensor& h) const;
  void store(const Layer& layer, std::span<const Run> runs, const tensor::Tensor& k, const tensor::Tensor& v);
  tensor::Tensor run_paths(Layer& layer);
  void make_plan(Layer& layer, size_t run, const tensor::FloatPages* pages);  // null: the cache's
  void count_keys(const Run& run, const KeyPlan& plan, bool causal);
  bool looks_ahead(const Run& run, int layer) const;
  bool edits_rows(const Run& run, const Layer& layer, int head) const;
  bool observes(const Run& run, int layer, int head) const;
  bool shows_rows(int layer) const;  // to a hook
  void cut_tasks(Layer& layer);
  void run_tasks(Layer& layer);
  void hooked_rows(Layer& layer, size_t run);
  void join_parts(Layer& layer, size_t run);
  tensor::Tensor weights_of_parts(Layer& layer, size_t run, const tensor::Tensor& lse);
  void gate(Layer& layer);
  void keep(const Run& run, int layer);
  std::span<const std::unique_ptr<Method>> methods(const Run& run) const {
    return run.pipeline ? std::span<const std::unique_ptr<Method>>(run.pipeline->methods())
                        : std::span<const std::unique_ptr<Method>>();
  }
  tensor::Tensor hook(Site site, int layer, tensor::Tensor x) const {
    return c_.hooks ? (*c_.hooks)(site, layer, std::move(x)) : x;
  }

  Context c_;
  AttendMemory own_memory_;
  AttendMemory& memory_;
  KeyCount keys_;
};

}  // namespace fovea::attention

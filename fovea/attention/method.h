// The contract of an attention method: its name, paper and knobs, what it needs to see, and the
// stages it acts on. A stage that no method overrides stays on the fused path and costs nothing.
//
//   inputs -> (rotate, cache) -> choose -> scores -> [score] -> softmax -> [reweight] -> z of parts -> join -> gate ->
//   keep
//
// Inputs, join and gate put tensors made by ops in place of those they get, so that gradients pass on the tape; choose
// is constant there, score and reweight are refused. Without a tape they may write in place as well.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/attention/batch.h"
#include "fovea/attention/key_plan.h"
#include "fovea/attention/knobs.h"
#include "fovea/attention/kv_cache.h"
#include "fovea/attention/shape.h"
#include "fovea/kernels/attention.h"
#include "fovea/tensor/ops/attention/rope.h"
#include "fovea/tensor/parameter.h"
#include "fovea/tensor/tensor.h"

namespace fovea::attention {

enum Stage : uint32_t { kInputs = 1, kChoose = 2, kScore = 4, kReweight = 8, kGate = 16, kKeep = 32, kJoin = 64 };

struct MethodInfo {
  std::string_view name;   // the paper's slug: "streaming-llm"
  std::string_view title;  // as the paper calls it: "StreamingLLM"
  std::string_view paper;  // "arXiv:2309.17453, sec. 3.2"
  uint32_t stages = 0;     // Stage bits it may act on
  // Space-separated columns of the head profile; "COLUMN:KNOB" is needed only where the knob is not at its default,
  // "COLUMN:KNOB=VALUE" only where it has that value.
  std::string_view needs = {};
  std::string_view summary;  // one line for the catalogue
  // Knobs as a spec has them ("value=1:heads=0"). With `neutral` it equals dense attention bit for bit
  // (empty: its defaults do); with `example` it acts on a text of a few dozen tokens. Both are what
  // tests/every_method_test.cc runs.
  std::string_view neutral = {};
  std::string_view example = {};
  std::string_view more_examples = {};  // space-separated; for modes that the laws must hold for as well
  std::string_view excludes = {};       // space-separated methods it cannot run beside
  // Laws of every_method_test that it breaks by design, with the section that says so, joined by ';':
  // "LAW: why", or "LAW~1e-4: why" where the law holds within that distance of the logits.
  std::string_view exceptions = {};
  // Of one that makes long texts cheaper, the settings that `fovea leaderboard` measures, space-separated, knobs as a
  // spec has them; "{0.25}" is a quarter of the length in tokens, at least 1. `pair`: the one with which it stands in
  // pairs of methods.
  std::string_view budgets = {};
  std::string_view pair = {};
  // Of one that reads texts longer than the model was trained for: the setting with which `--attention auto` does so.
  std::string_view past_window = {};
};

std::vector<std::string_view> stage_names(uint32_t stages);  // "choose", "keep"
struct Need {
  std::string_view column, knob;  // knob empty: always
  std::string_view value = {};    // of the knob; empty: any but its default
};
std::vector<Need> needs_of(const MethodInfo& info);
bool can_compose(const MethodInfo& a, const MethodInfo& b);
// How far a method may be from a law: 0 (it holds bit for bit), its "~" distance, or infinity.
double allowed_distance(const MethodInfo& info, std::string_view law);

// What changes while one sequence runs.
class SequenceState {
 public:
  virtual ~SequenceState() = default;
  virtual std::unique_ptr<SequenceState> clone() const = 0;
  // Going back to the first `n_tokens`, 0 < n_tokens < what was fed: the state becomes what feeding only those would
  // have left. What cannot say so of a length stays as it is: the sequence is then read again.
  virtual bool can_truncate(int32_t /*n_tokens*/) const { return false; }
  virtual void truncate(int32_t /*n_tokens*/) {}
  // Of what grows with the text, for reports: it counts with the cache.
  virtual uint64_t bytes() const { return 0; }
};

// A named stretch of a sequence: "system", "question", "image"; positions [begin, end).
struct Span {
  std::string name;
  int32_t begin, end;
};

// Rows [begin, end) of a sequence that one pass reads, for they see one another both ways.
struct Together {
  int32_t begin = 0, end = 0;
  bool empty() const { return begin >= end; }
};

// One layer of one sequence during one forward pass.
struct Call {
  const ModelShape& model;
  int layer;
  SequenceId sequence;
  std::span<const int32_t> q_pos;  // of this call's rows, rising
  Phase phase;
  SequenceState* state;              // of this method; null if it has none
  std::span<const Span> spans = {};  // what was named of the sequence
  // Tokens of the text up to the end of the prompt that is read, or was read last: each chunk knows the whole, and
  // generated tokens do not count. Where no session feeds: up to the last row.
  int32_t n_prompt = 0;
  std::span<const int32_t> tokens = {};  // of the rows
  // [n, d_model] of the rows: what the block reads of the residual stream, and its norm; undefined where nobody gave
  // them.
  tensor::Tensor x = {}, h = {};
  const tensor::RopeTable* rope = nullptr;  // how q and k are turned by their positions; null: they are not
  const KeyPlan* plan = nullptr;            // in join: whose parts are joined

  bool decoding() const { return phase == Phase::kDecode; }
};

// q of a call's rows, [n, n_heads, k_dim]: as projected, and turned by its positions.
struct Queries {
  tensor::Tensor plain, turned;
};

// q [n, n_heads, k_dim], k [n, n_k_heads, k_dim] and v [n, n_v_heads, v_dim] of the rows before rotation, and the
// positions that q and k rotate by.
struct Inputs {
  tensor::Tensor q, k, v;
  std::vector<int32_t> positions;
};

// One row of one head: scores or pattern over the cached keys, in order of position, then
// over those that methods have added.
struct RowView {
  const Call& call;
  int head;
  int32_t q_pos;
  std::span<const int32_t> key_positions;  // kernels::kNoPosition where the row sees nothing
};

class Method {
 public:
  virtual ~Method() = default;
  virtual const MethodInfo& info() const = 0;
  virtual void visit_knobs(KnobVisitor&) {}
  // Called once, after the knobs are set: checks them against the model.
  virtual Status bind(const ModelShape&) { return {}; }
  // Everything that changes while a sequence runs lives in the state, so that one method serves
  // many sequences and nothing leaks between them.
  virtual std::unique_ptr<SequenceState> begin_sequence() const { return nullptr; }

  // Weights of its own, once bound: tensors of the model's file under tensor_name(), else drawn as `init` says.
  // float32; trained and saved with the model's.
  virtual std::vector<tensor::Parameter> parameters() { return {}; }
  // Called once they have the values of the model's file, or fresh ones if it has none: for what hangs on them.
  virtual Status weights_bound(bool /*from_file*/) { return {}; }

  // inputs: q, k, v and the positions to rotate by.
  virtual bool edits_inputs(int /*layer*/) const { return false; }
  virtual void edit_inputs(const Call&, Inputs&) const {}
  // choose: a fixed rule per query head, and once a layer and call what depends on the queries, the cache or the rows:
  // pages, masks, parts. The plan may only be narrowed.
  virtual KeyRule rule(int /*layer*/, int /*head*/) const { return {}; }
  virtual bool chooses(int /*layer*/) const { return false; }
  virtual void choose(const Call&, const Queries&, KeyPlan&) const {}
  // Rows that may see keys of their own call behind them, in layers where it chooses: there it is choose that keeps all
  // others causal, and no other method may run that reads the plan as if it were. kUsage where it lacks a span.
  virtual Result<Together> read_together(std::span<const Span>) const { return Together(); }
  // score, reweight: rows of the heads for which edits_rows is true are materialised. Calls for
  // different heads or sequences come from different threads.
  virtual bool edits_rows(int /*layer*/, int /*head*/, bool /*decoding*/) const { return false; }
  virtual void edit_scores(const RowView&, std::span<float>) const {}   // scaled, -inf where masked
  virtual void edit_pattern(const RowView&, std::span<float>) const {}  // after softmax
  // join: weights of the parts of each row, [n, n_heads, parts]. They come as the softmax over lse (the same shape;
  // -inf for a part that a row does not have), which makes all parts one softmax; z is their weighted sum. Parts have
  // the numbers of their tile's in Call::plan; others may have cut those that choose made (Part::marks).
  virtual bool joins(int /*layer*/) const { return false; }
  // Where it joins: false if it only looks at the weights, so that z of every part need not be kept.
  virtual bool weighs_parts(int /*layer*/) const { return true; }
  virtual void join(const Call&, const tensor::Tensor& /*lse*/, tensor::Tensor& /*weights*/) const {}
  // gate: z of all heads, [n, n_heads, v_dim].
  virtual bool gates(int /*layer*/, bool /*decoding*/) const { return false; }
  virtual void gate(const Call&, tensor::Tensor& /*z*/) const {}
  // keep: after the layer's attention; drop from the cache what no later row will see.
  virtual void keep(const Call&, KvCache&) const {}
  // How far back a row looks at most, in positions as q is turned: what is no more than the model's context can go on
  // for ever.
  virtual int64_t reach() const { return std::numeric_limits<int64_t>::max(); }
  // The promise of `keep`: the most keys of a KV head that stay in the cache after a call.
  virtual int64_t max_keys(int /*layer*/, int /*kv_head*/) const { return std::numeric_limits<int64_t>::max(); }
};

// The name of a method's parameter in a model's file: "streaming-llm.bias" for "bias".
std::string tensor_name(const MethodInfo& method, std::string_view parameter);

// A fresh method with its default knobs; null if there is none of that name ('_' reads as '-').
std::unique_ptr<Method> make_method(std::string_view name);
std::vector<std::string> method_names();      // sorted
Error no_such_method(std::string_view name);  // kUsage with the nearest names

using MethodFactory = std::unique_ptr<Method> (*)();
bool register_method(std::string_view name, MethodFactory make);
// Inline: a header of test methods registers them once, however many files include it.
#define FOVEA_REGISTER_METHOD(Type)                                                           \
  [[maybe_unused]] inline const bool Type##_registered = ::fovea::attention::register_method( \
      Type::kInfo.name, []() -> std::unique_ptr<::fovea::attention::Method> { return std::make_unique<Type>(); })

}  // namespace fovea::attention

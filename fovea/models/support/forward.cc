#include "fovea/models/support/forward.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/tensor/ops/ops.h"
#include "fovea/tensor/tape.h"

namespace fovea::models {
namespace {

using attention::Attend;
using attention::Batch;
using attention::Hooks;
using tensor::Tensor;

Tensor with_given_rows(const Tensor& x, std::span<const GivenRows> given) {
  std::vector<Tensor> parts;
  int64_t at = 0;
  for (const GivenRows& rows : given) {
    FOVEA_CHECK(rows.first >= at && rows.x.dim(1) == x.dim(1) && rows.first + rows.x.dim(0) <= x.dim(0),
                "forward: rows {} at {} do not fit into {} behind row {}", rows.x.shape().to_string(), rows.first,
                x.shape().to_string(), at);
    if (rows.first > at) parts.push_back(slice(x, 0, at, rows.first));
    parts.push_back(rows.x);
    at = rows.first + rows.x.dim(0);
  }
  if (at < x.dim(0)) parts.push_back(slice(x, 0, at, x.dim(0)));
  return concat(parts, 0);
}

Batch rows_of(const Batch& batch, std::span<const int32_t> rows) {
  Batch kept;
  for (const int32_t row : rows) {
    const auto at = static_cast<size_t>(row);
    kept.tokens.push_back(batch.tokens.at(at));
    kept.positions.push_back(batch.positions[at]);
    kept.sequences.push_back(batch.sequences[at]);
    kept.phases.push_back(batch.phases[at]);
  }
  for (const int32_t wanted : batch.logit_rows) {
    const auto it = std::lower_bound(rows.begin(), rows.end(), wanted);
    FOVEA_CHECK(it != rows.end() && *it == wanted, "forward: row {} was dropped, and its logits are wanted", wanted);
    kept.logit_rows.push_back(static_cast<int32_t>(it - rows.begin()));
  }
  return kept;
}

// What a block needs to run again when the pass is over.
struct Again {
  Again(const Family& of, const Attend::Context& now, const Hooks& hook)
      : family(of), batch(now.batch), context(now.with(batch)), none(hook.model()) {
    FOVEA_CHECK(!now.cache && now.sequences.empty() && (!now.pipeline || !now.pipeline->keeps_state()),
                "forward: blocks run again without a cache only, and with no state of a method");
    context.hooks = nullptr;
    context.memory = nullptr;
    context.observers = {};
  }
  Tensor operator()(int block, const Tensor& x) {
    Attend attend(context);
    return family.block(block, x, attend, none);
  }

  const Family& family;
  Batch batch;
  Attend::Context context;
  Hooks none;
};

// Tells ops which rows have whose adapters, while it lives.
class RowAdapters {
 public:
  explicit RowAdapters(std::span<const SequenceAdapters> of) : of_(of) {
    if (of.empty()) return;
    if (const tensor::Exec* exec = tensor::Exec::current()) exec_ = *exec;
    exec_.adapters = nullptr;
    scope_.emplace(exec_);
  }
  void use(const Batch& batch) {
    if (of_.empty()) return;
    begin();
    for (const attention::SequenceId sequence : batch.sequences) add(sequence);
    exec_.adapter_rows = rows_;
  }
  void use_logit_rows(const Batch& batch) {
    if (of_.empty()) return;
    begin();
    for (const int32_t row : batch.logit_rows) add(batch.sequences[static_cast<size_t>(row)]);
    exec_.adapter_rows = rows_;
  }

 private:
  void begin() { rows_.clear(); }
  void add(attention::SequenceId sequence) {
    const auto found =
        std::find_if(of_.begin(), of_.end(), [&](const SequenceAdapters& one) { return one.sequence == sequence; });
    FOVEA_CHECK(found != of_.end(), "forward: no adapters are given for sequence {}", sequence);
    if (rows_.empty() || rows_.back().adapters != found->adapters)
      rows_.push_back({rows_.empty() ? 0 : rows_.back().end, found->adapters});
    ++rows_.back().end;
  }

  std::span<const SequenceAdapters> of_;
  std::vector<tensor::AdapterRows> rows_;
  tensor::Exec exec_;
  std::optional<tensor::ExecScope> scope_;
};

}  // namespace

Tensor forward(const Family& family, const Attend::Context& context, Hooks& hook, const Pass& pass) {
  const bool to_logits = pass.end_block == INT_MAX;
  const int end = to_logits ? family.n_blocks() : pass.end_block;
  FOVEA_CHECK(pass.first_block >= 0 && pass.first_block <= end && end <= family.n_blocks(),
              "forward: blocks {} to {} of {}", pass.first_block, end, family.n_blocks());
  const bool recompute = pass.recompute && tensor::current_tape() && !hook.active();
  FOVEA_CHECK(!recompute || pass.adapters.empty(), "forward: blocks that run again have the adapters of the Exec");
  RowAdapters adapters(pass.adapters);
  const Batch* batch = &context.batch;
  std::optional<Attend> attend;
  std::optional<attention::HookBatch> hook_rows;
  std::shared_ptr<Again> again;
  const auto begin = [&] {
    Attend::Context now = context.with(*batch);
    now.hooks = hook.active() ? &hook : nullptr;
    hook_rows.emplace(hook, *batch);
    adapters.use(*batch);
    attend.emplace(now);
    if (recompute) again = std::make_shared<Again>(family, now, hook);
  };
  const auto finish = [&] {
    if (pass.keys) *pass.keys += attend->key_count();
    attend.reset();
    hook_rows.reset();
  };

  begin();
  Batch kept;
  Tensor x = pass.x.defined() ? pass.x : family.embed(*batch, hook);
  if (!pass.given.empty()) x = with_given_rows(x, pass.given);
  FOVEA_CHECK(x.dim(0) == batch->size(), "forward: x is {} for a batch of {}", x.shape().to_string(), batch->size());
  for (int block = pass.first_block; block < end; ++block) {
    if (pass.keep_rows && block > pass.first_block) {
      const std::vector<int32_t> rows = pass.keep_rows(block, x);
      if (static_cast<int64_t>(rows.size()) < batch->size()) {
        x = select_rows(x, rows);
        Batch fewer = rows_of(*batch, rows);
        finish();
        kept = std::move(fewer);
        batch = &kept;
        begin();
      }
    }
    x = recompute ? tensor::checkpoint(x, [again, block](const Tensor& in) { return (*again)(block, in); })
                  : family.block(block, std::move(x), *attend, hook);
  }
  if (!pass.to_hidden) adapters.use_logit_rows(*batch);
  if (to_logits) x = pass.to_hidden ? family.final_norm(x, hook) : family.unembed(x, *batch, hook);
  finish();
  return x;
}

}  // namespace fovea::models

// Hooks: read or replace a named value of the forward pass. A pattern may be a name, a glob or
// another tool's name (hook_names.h). A pattern that matches no site of the model, or a hook that
// never fires, is an error: a silent no-op gives wrong findings.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "fovea/attention/batch.h"
#include "fovea/attention/hook_names.h"
#include "fovea/base/result.h"
#include "fovea/tensor/tensor.h"

namespace fovea::attention {

class HookScope;

class Hooks {
 public:
  // Reads `value`; may edit it in place or put another tensor of the same shape there. It is the
  // engine's memory: copy what must outlive the call.
  using Function = std::function<void(const std::string& name, tensor::Tensor& value)>;

  explicit Hooks(HookMap model) : model_(std::move(model)) {}
  Hooks(const Hooks&) = delete;
  Hooks& operator=(const Hooks&) = delete;

  // For as long as this object lives, or until clear(). Hooks of one site run in the order in which
  // they were attached; each sees what the one before it left. kUsage as find_hooks (hook_names.h).
  Status attach(const std::string& pattern, Function function);
  // The same for the rows of one sequence alone: the value holds no others.
  Status attach(const std::string& pattern, SequenceId sequence, Function function);
  // The same until the scope ends.
  Result<HookScope> scoped(const std::string& pattern, Function function);
  void clear();

  const HookMap& model() const { return model_; }
  bool active() const { return !entries_.empty(); }
  bool wants(Site site, int layer) const;  // so that a value is built only where somebody looks
  // Called by the forward pass; gives x back, or what a hook put in its place. A site that the map does not list has
  // no hook.
  tensor::Tensor operator()(Site site, int layer, tensor::Tensor x) {
    return entries_.empty() ? x : fire(site, layer, std::move(x));
  }
  // After a run: kUsage naming the first pattern of which nothing fired.
  Status check_fired() const;

 private:
  friend class HookScope;
  friend class HookBatch;
  static constexpr SequenceId kEverySequence = -1;
  struct Entry {
    uint64_t id;
    SequenceId sequence;
    std::string pattern;
    std::vector<bool> sites;  // by place in the map; all false once it is detached
    Function function;
    bool fired = false;
  };
  tensor::Tensor fire(Site site, int layer, tensor::Tensor x);
  void call(Entry& entry, const std::string& name, tensor::Tensor& x);
  void fire_on_rows(Entry& entry, const std::string& name, tensor::Tensor& x);
  Result<uint64_t> add(const std::string& pattern, Function function, SequenceId sequence);
  void detach(uint64_t id);
  void sweep();

  HookMap model_;
  std::vector<Entry> entries_;
  uint64_t next_id_ = 1;
  int firing_ = 0;  // a callback may end scopes, its own too: entries go once no callback runs
  bool detached_ = false;
  const Batch* batch_ = nullptr;       // whose rows the values hold; null: nobody said
  SequenceId alone_ = kEverySequence;  // the values hold rows of this sequence only
};

// Tells hooks which sequence each row of a value is of, while it lives.
class HookBatch {
 public:
  HookBatch(Hooks& hooks, const Batch& batch) : hooks_(hooks) { hooks.batch_ = &batch; }
  ~HookBatch() { hooks_.batch_ = nullptr, set_together(hooks_); }  // a hook may have thrown while alone
  HookBatch(const HookBatch&) = delete;
  HookBatch& operator=(const HookBatch&) = delete;
  // The values that follow hold the rows of one sequence.
  static void set_alone(Hooks& hooks, SequenceId sequence) { hooks.alone_ = sequence; }
  static void set_together(Hooks& hooks) { hooks.alone_ = Hooks::kEverySequence; }

 private:
  Hooks& hooks_;
};

// Detaches its hook when it ends. The Hooks must outlive it.
class [[nodiscard]] HookScope {
 public:
  HookScope(HookScope&& other) noexcept : hooks_(other.hooks_), id_(other.id_) { other.hooks_ = nullptr; }
  HookScope& operator=(HookScope&&) = delete;
  ~HookScope() {
    if (hooks_) hooks_->detach(id_);
  }

 private:
  friend class Hooks;
  HookScope(Hooks* hooks, uint64_t id) : hooks_(hooks), id_(id) {}
  Hooks* hooks_;
  uint64_t id_;
};

}  // namespace fovea::attention

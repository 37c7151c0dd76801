#include "fovea/tensor/tape.h"

#include <unordered_map>
#include <utility>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/tensor/exec.h"

namespace fovea::tensor {

struct Tape::State {
  struct Entry {
    Tensor grad;           // created when first asked for
    bool watched = false;  // kept after use
  };
  struct Node {
    uint64_t out;
    std::function<void(Tape&)> backward;
  };
  std::unordered_map<uint64_t, Entry> entries;  // by Tensor::id(), which is never reused
  std::vector<Node> nodes;
};

Tape::Tape() : state_(std::make_unique<State>()) {}
Tape::~Tape() = default;

void Tape::watch(const Tensor& leaf) {
  FOVEA_CHECK(leaf.defined(), "tape: cannot watch an empty tensor");
  state_->entries[leaf.id()].watched = true;
}

bool Tape::needs_grad(const Tensor& t) const { return t.defined() && state_->entries.count(t.id()) > 0; }

void Tape::record(const Tensor& out, std::initializer_list<Tensor> inputs, std::function<void(Tape&)> backward) {
  for (const Tensor& input : inputs) {
    if (!needs_grad(input)) continue;
    state_->entries.try_emplace(out.id());
    state_->nodes.push_back({out.id(), std::move(backward)});
    return;
  }
}

Tensor& Tape::grad(const Tensor& t) {
  const auto it = state_->entries.find(t.id());
  FOVEA_CHECK(it != state_->entries.end(), "tape: no gradient was asked for this tensor of shape {}",
              t.shape().to_string());
  Tensor& grad = it->second.grad;
  if (!grad.defined()) grad = Tensor::zeros(t.shape());
  if (!(grad.shape() == t.shape())) grad = grad.with_shape(t.shape());
  return grad;
}

void Tape::backward(const Tensor& loss) {
  FOVEA_CHECK(loss.elements() == 1, "backward: the loss has shape {}, wanted one element", loss.shape().to_string());
  // Backward works with the same arena, but what it computes is not recorded again.
  Exec exec = Exec::current() ? *Exec::current() : Exec{};
  exec.numerics = Numerics::kExact;
  exec.tape = nullptr;
  ExecScope scope(exec);

  grad(loss).data()[0] += 1.0f;
  std::vector<State::Node> nodes = std::exchange(state_->nodes, {});
  while (!nodes.empty()) {
    State::Node& node = nodes.back();
    const auto entry = state_->entries.find(node.out);
    if (entry->second.grad.defined()) node.backward(*this);  // undefined: the loss does not depend on it
    // By now every use of this value has added its part: the gradient is complete and was passed on.
    if (!entry->second.watched) state_->entries.erase(entry);
    nodes.pop_back();  // frees what the closure kept
  }
}

Tape* current_tape() {
  Exec* exec = Exec::current();
  return exec ? exec->tape : nullptr;
}

}  // namespace fovea::tensor

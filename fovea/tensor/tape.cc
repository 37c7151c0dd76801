#include "fovea/tensor/tape.h"

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/tensor/exec.h"

namespace fovea::tensor {

struct Tape::State {
  struct Entry {
    Tensor grad;           // created when first asked for
    Tensor earlier;        // of a watched value in the middle: what earlier passes gave
    bool watched = false;  // kept after use
  };
  struct Node {
    uint64_t out;
    std::function<void(Tape&)> backward;
  };
  std::unordered_map<uint64_t, Entry> entries;  // by Tensor::id(), which is never reused
  std::vector<Node> nodes;

  // The node's value has its whole gradient of this pass, which was passed on.
  void close(Entry& entry) {
    if (!entry.watched) {
      entry.grad = Tensor();
    } else if (entry.earlier.defined()) {
      Tensor earlier = std::exchange(entry.earlier, Tensor());
      if (entry.grad.defined()) {
        for (int64_t i = 0; i < earlier.elements(); ++i) earlier.data()[i] += entry.grad.data()[i];
      }
      entry.grad = std::move(earlier);
    }
  }
};

Tape::Tape() : state_(std::make_unique<State>()) {}
Tape::~Tape() = default;

void Tape::watch(const Tensor& leaf) {
  FOVEA_CHECK(leaf.defined(), "tape: cannot watch an empty tensor");
  state_->entries[leaf.id()].watched = true;
}

bool Tape::needs_grad(const ValueId& t) const { return t.id != 0 && state_->entries.count(t.id) > 0; }

void Tape::record(const Tensor& out, std::span<const Tensor> inputs, std::function<void(Tape&)> backward) {
  for (const Tensor& input : inputs) {
    if (needs_grad(input)) return record(out, std::move(backward));
  }
}

void Tape::record(const Tensor& out, std::function<void(Tape&)> backward) {
  state_->entries.try_emplace(out.id());
  state_->nodes.push_back({out.id(), std::move(backward)});
}

Tensor& Tape::grad(const ValueId& t, bool& first) {
  const auto it = state_->entries.find(t.id);
  FOVEA_CHECK(it != state_->entries.end(), "tape: no gradient was asked for this tensor of shape {}",
              t.shape.to_string());
  Tensor& grad = it->second.grad;
  first = !grad.defined();
  if (first) grad = Tensor::empty(t.shape);
  if (!(grad.shape() == t.shape)) grad = grad.with_shape(t.shape);
  return grad;
}

Tensor& Tape::grad(const ValueId& t) {
  bool first = false;
  Tensor& grad = this->grad(t, first);
  if (first) std::fill_n(grad.data(), grad.elements(), 0.0f);
  return grad;
}

void Tape::backward(const Tensor& out, const Tensor& seed, bool keep_graph) {
  FOVEA_CHECK(
      seed.defined() ? seed.shape() == out.shape() : out.elements() == 1,
      "backward: a value of shape {} with a seed of shape {}, wanted the same shape, or one element and no seed",
      out.shape().to_string(), seed.shape().to_string());
  FOVEA_CHECK(needs_grad(out), "tape: no gradient was asked for this tensor of shape {}", out.shape().to_string());
  // Backward works with the same arena, but what it computes is not recorded again.
  Exec exec = Exec::current() ? *Exec::current() : Exec{};
  exec.numerics = Numerics::kExact;
  exec.tape = nullptr;
  ExecScope scope(exec);

  // A gradient that an earlier pass left on a value in the middle must not flow down a second time.
  for (const State::Node& node : state_->nodes) {
    State::Entry& entry = state_->entries.find(node.out)->second;
    if (entry.grad.defined()) entry.earlier = std::exchange(entry.grad, Tensor());
  }
  Tensor& start = grad(out);
  for (int64_t i = 0; i < start.elements(); ++i) start.data()[i] += seed.defined() ? seed.data()[i] : 1.0f;

  std::vector<State::Node> nodes = std::exchange(state_->nodes, {});
  for (size_t i = nodes.size(); i-- > 0;) {
    // undefined: `out` does not depend on it
    if (state_->entries.find(nodes[i].out)->second.grad.defined()) nodes[i].backward(*this);
    const auto entry = state_->entries.find(nodes[i].out);  // what is run again adds entries
    state_->close(entry->second);
    if (keep_graph) continue;
    if (!entry->second.watched) state_->entries.erase(entry);
    nodes.pop_back();  // frees what the closure kept
  }
  state_->nodes = std::move(nodes);
}

Tape* current_tape() {
  Exec* exec = Exec::current();
  return exec ? exec->tape : nullptr;
}

}  // namespace fovea::tensor

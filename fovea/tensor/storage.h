// The bytes behind tensors: reference-counted blocks that go back to their arena. For this room only.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "fovea/tensor/exec.h"

namespace fovea::tensor {

class Storage {
 public:
  // At least `bytes` bytes, 64-byte aligned, from the current Exec's arena, or the heap without one.
  static Storage* create(size_t bytes);
  void retain() { references_.fetch_add(1, std::memory_order_relaxed); }
  void release();

  float* data() { return data_; }
  uint64_t id() const { return id_; }

 private:
  friend class Arena;
  Storage() = default;
  ~Storage() = default;

  std::atomic<int> references_{1};
  uint64_t id_ = 0;
  float* data_ = nullptr;
  size_t capacity_ = 0;
  Arena::State* arena_ = nullptr;  // null: from the heap
  Storage* next_free_ = nullptr;
};

}  // namespace fovea::tensor

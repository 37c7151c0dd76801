// Bytes for one call at a time that only grow, so that steady state never reaches the heap.
#pragma once

#include <cstddef>
#include <new>

namespace fovea::tensor {

class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { ::operator delete(data_, kAlignment); }

  // 64-byte aligned; what an earlier call left in it is lost if it has to grow.
  std::byte* at_least(size_t bytes) {
    if (bytes > size_) {
      ::operator delete(data_, kAlignment);
      data_ = nullptr, size_ = 0;
      data_ = ::operator new(bytes, kAlignment);
      size_ = bytes;
    }
    return static_cast<std::byte*>(data_);
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  void* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace fovea::tensor

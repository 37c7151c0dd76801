// Tensor: a handle to contiguous float32 values with a shape. Copies share the values; the last
// handle gives the storage back to where it came from (the arena in inference, so that a decode
// step allocates nothing once warm).
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fovea::tensor {

inline constexpr int kMaxRank = 6;

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const int64_t> dims);
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[static_cast<size_t>(i < 0 ? i + rank_ : i)]; }
  int64_t elements() const;
  bool operator==(const Shape& other) const = default;
  Shape with_dim(int i, int64_t n) const {
    Shape changed = *this;
    changed.dims_[static_cast<size_t>(i < 0 ? i + rank_ : i)] = n;
    return changed;
  }
  std::string to_string() const;  // "[4, 64]"

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

class Storage;  // reference-counted bytes; see exec.h

class Tensor {
 public:
  Tensor() = default;  // empty: defined() is false
  Tensor(const Tensor& other);
  Tensor(Tensor&& other) noexcept;
  Tensor& operator=(Tensor other) noexcept;
  ~Tensor();

  // Uninitialised / filled; the storage comes from the current Exec (exec.h), or the heap if none.
  static Tensor empty(const Shape& shape);
  static Tensor zeros(const Shape& shape);
  static Tensor from(const Shape& shape, std::span<const float> values);

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[i]; }  // negative counts from the end
  int64_t elements() const { return shape_.elements(); }
  float* data() { return data_; }
  const float* data() const { return data_; }
  std::span<const float> values() const { return {data_, static_cast<size_t>(elements())}; }

  // Same values under another shape with as many elements. (Differentiable: see ops/shape/view.h.)
  Tensor with_shape(const Shape& shape) const;
  // Identity of the values, unique while they live and never reused: what caches of derived
  // forms (quantised activations) and the tape key on. 0 for an empty tensor.
  uint64_t id() const;

 private:
  Storage* storage_ = nullptr;
  float* data_ = nullptr;
  Shape shape_;
};

}  // namespace fovea::tensor

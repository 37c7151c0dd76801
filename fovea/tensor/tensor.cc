#include "fovea/tensor/tensor.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/tensor/storage.h"

namespace fovea::tensor {

Shape::Shape(std::span<const int64_t> dims) {
  FOVEA_CHECK(dims.size() <= kMaxRank, "shape: {} dimensions, at most {} are possible", dims.size(), kMaxRank);
  for (int64_t dim : dims) {
    FOVEA_CHECK(dim >= 0, "shape: dimension {} is negative", dim);
    dims_[static_cast<size_t>(rank_++)] = dim;
  }
}

int64_t Shape::elements() const {
  int64_t n = 1;
  for (int i = 0; i < rank_; ++i) n *= dims_[static_cast<size_t>(i)];
  return n;
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int i = 0; i < rank_; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(dims_[static_cast<size_t>(i)]);
  }
  return text + "]";
}

Tensor::Tensor(const Tensor& other) : storage_(other.storage_), data_(other.data_), shape_(other.shape_) {
  if (storage_) storage_->retain();
}

Tensor::Tensor(Tensor&& other) noexcept
    : storage_(std::exchange(other.storage_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      shape_(std::exchange(other.shape_, Shape())) {}

Tensor& Tensor::operator=(Tensor other) noexcept {
  std::swap(storage_, other.storage_);
  std::swap(data_, other.data_);
  std::swap(shape_, other.shape_);
  return *this;
}

Tensor::~Tensor() {
  if (storage_) storage_->release();
}

Tensor Tensor::empty(const Shape& shape) {
  Tensor tensor;
  tensor.storage_ = Storage::create(static_cast<size_t>(shape.elements()) * sizeof(float));
  tensor.data_ = tensor.storage_->data();
  tensor.shape_ = shape;
  return tensor;
}

Tensor Tensor::zeros(const Shape& shape) {
  Tensor tensor = empty(shape);
  std::fill_n(tensor.data_, shape.elements(), 0.0f);
  return tensor;
}

Tensor Tensor::from(const Shape& shape, std::span<const float> values) {
  FOVEA_CHECK(static_cast<int64_t>(values.size()) == shape.elements(), "tensor: {} values for shape {}", values.size(),
              shape.to_string());
  Tensor tensor = empty(shape);
  std::copy(values.begin(), values.end(), tensor.data_);
  return tensor;
}

Tensor Tensor::with_shape(const Shape& shape) const {
  FOVEA_CHECK(shape.elements() == elements(), "tensor: shape {} has other elements than {}", shape.to_string(),
              shape_.to_string());
  Tensor view = *this;
  view.shape_ = shape;
  return view;
}

uint64_t Tensor::id() const { return storage_ ? storage_->id() : 0; }

}  // namespace fovea::tensor

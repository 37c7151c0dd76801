#include "fovea/tensor/product_watch.h"

#include <utility>

namespace fovea::tensor {
namespace {

thread_local const ProductWatch* t_current = nullptr;

}  // namespace

ProductWatch::ProductWatch(See see) : see_(std::move(see)), previous_(std::exchange(t_current, this)) {}
ProductWatch::~ProductWatch() { t_current = previous_; }
const ProductWatch* ProductWatch::current() { return t_current; }

}  // namespace fovea::tensor

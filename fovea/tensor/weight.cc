#include "fovea/tensor/weight.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <mutex>
#include <new>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/matmul.h"
#include "fovea/tensor/ops/for_rows.h"

namespace fovea::tensor {
namespace {

std::atomic<size_t> g_packed_bytes{0};

// Packed weights lie one after the other in large chunks of huge pages: decode reads all of them once per
// token, walking 4 KiB pages costs a translation miss each, and the hardware's read-ahead stops at their ends.
class Chunk {
 public:
  explicit Chunk(size_t bytes) : data_(::operator new(bytes, kHugePage)), capacity_(bytes) {
#ifdef MADV_HUGEPAGE
    (void)madvise(data_, bytes, MADV_HUGEPAGE);  // advice only
#endif
  }
  ~Chunk() {
    ::operator delete(data_, kHugePage);
    g_packed_bytes -= counted_;
  }
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;

  void* take(size_t bytes) {  // null if it does not fit
    const size_t rounded = (bytes + 63) / 64 * 64;
    if (rounded > capacity_ - used_) return nullptr;
    void* taken = static_cast<std::byte*>(data_) + used_;
    used_ += rounded;
    counted_ += bytes;
    g_packed_bytes += bytes;
    return taken;
  }
  static constexpr size_t kBytes = size_t{32} << 20;

 private:
  static constexpr std::align_val_t kHugePage{size_t{2} << 20};
  void* data_;
  size_t capacity_, used_ = 0, counted_ = 0;
};

// Freed with the last weight of its chunk.
std::shared_ptr<void> packed_block(size_t bytes) {
  static std::mutex mutex;
  static std::weak_ptr<Chunk> newest;
  const std::lock_guard lock(mutex);
  std::shared_ptr<Chunk> chunk = newest.lock();
  void* data = chunk ? chunk->take(bytes) : nullptr;
  if (!data) {
    chunk =
        std::make_shared<Chunk>(std::max(Chunk::kBytes, (bytes + Chunk::kBytes - 1) / Chunk::kBytes * Chunk::kBytes));
    newest = chunk;
    data = chunk->take(bytes);
  }
  return {std::move(chunk), data};
}

}  // namespace

Weight Weight::from(std::string name, const Tensor& value) {
  const int rank = value.shape().rank();
  FOVEA_CHECK(value.defined() && (rank == 1 || rank == 2), "weight {}: shape {}, wanted [rows, cols] or [n]", name,
              value.shape().to_string());
  Weight w;
  w.name = std::move(name);
  w.value = value;
  w.view = {
      .dtype = kernels::DType::kF32, .rows = rank == 2 ? value.dim(0) : 1, .cols = value.dim(-1), .data = value.data()};
  return w;
}

bool PackedForm::make(const kernels::WeightView& w) {
  if (begun_.exchange(true)) return false;
  block_ = packed_block(kernels::packed_bytes(w, numerics_));
  constexpr int64_t kPanelsPerTask = 8, kStepBytes = int64_t{8} << 20;
  const auto row_bytes = static_cast<int64_t>(kernels::row_bytes(w.dtype, w.cols));
  constexpr int64_t kRowsPerTask = kPanelsPerTask * kernels::kPanelRows;
  const int64_t n_tasks = (w.rows + kRowsPerTask - 1) / kRowsPerTask;
  const int64_t n_panels = (w.rows + kernels::kPanelRows - 1) / kernels::kPanelRows;
  const int64_t step = std::max<int64_t>(1, kStepBytes / (kRowsPerTask * row_bytes));
  for (int64_t first = 0; first < n_tasks; first += step) {
    const int64_t last = std::min(n_tasks, first + step);
    pool().for_each(last - first, [&](int64_t task, int) {
      const int64_t panel = (first + task) * kPanelsPerTask;
      kernels::pack_weights(w, numerics_, panel, std::min(n_panels, panel + kPanelsPerTask), block_.get());
    });
    const int64_t begin = first * kRowsPerTask;
    const int64_t end = std::min(w.rows, last * kRowsPerTask);
    const auto* bytes = static_cast<const std::byte*>(w.data);
    if (done_) done_({bytes + begin * row_bytes, static_cast<size_t>((end - begin) * row_bytes)});
  }
  data_.store(block_.get(), std::memory_order_release);
  return true;
}

const void* PackedForm::data_for(const kernels::WeightView& w, int64_t n_tokens, kernels::Numerics numerics) {
  const auto form = [&w](kernels::Numerics of) { return kernels::form_of(w.dtype, w.cols, of); };
  if (numerics != numerics_ && form(numerics) != form(numerics_)) return nullptr;
  if (const void* made = data()) return made;
  // Packing reads the weight once and fills new memory, which on a virtual machine can take longer than a short
  // prompt: that is done without. A longer one is cut into blocks, each of which would pack panels for itself.
  constexpr int64_t kLong = 128;
  if (!used_.exchange(true) && n_tokens <= kLong) return nullptr;
  try {
    make(w);
  } catch (const std::bad_alloc&) {  // slower without, but right: make() never begins again
  }
  return data();
}

void PackedForm::done_again(const kernels::WeightView& w) const {
  if (!data() || !done_) return;
  const size_t bytes = static_cast<size_t>(w.rows) * kernels::row_bytes(w.dtype, w.cols);
  done_({static_cast<const std::byte*>(w.data), bytes});
}

size_t pack_weight(Weight& w, kernels::Numerics numerics) {
  pack_weight_later(w, {}, numerics);
  return w.packed && w.packed->make(w.view) ? kernels::packed_bytes(w.view, w.packed->numerics_) : 0;
}

size_t pack_weight_later(Weight& w, PackedForm::Done done, kernels::Numerics numerics) {
  if (w.packed || w.value.defined() || !w.defined()) return 0;
  const size_t bytes = kernels::packed_bytes(w.view, numerics);
  if (bytes == 0) return 0;
  w.packed = std::make_shared<PackedForm>();
  w.packed->numerics_ = numerics;
  w.packed->done_ = std::move(done);
  return bytes;
}

Tensor weight_values(const Weight& w) {
  if (w.value.defined()) return w.value;
  FOVEA_CHECK(w.defined(), "weight {}: not defined", w.name);
  Tensor values = Tensor::empty({w.rows(), w.cols()});
  const auto* bytes = static_cast<const std::byte*>(w.view.data);
  const uint64_t stride = kernels::row_bytes(w.view.dtype, w.cols());
  for_rows(w.rows(), w.cols(), [&](int64_t begin, int64_t end) {
    kernels::dequantize(w.view.dtype, bytes + static_cast<uint64_t>(begin) * stride, (end - begin) * w.cols(),
                        values.data() + begin * w.cols());
  });
  return values;
}

size_t packed_weight_bytes() { return g_packed_bytes; }

}  // namespace fovea::tensor

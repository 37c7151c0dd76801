#include "fovea/tensor/ops/image/conv2d.h"

#include <algorithm>

#include "fovea/base/check.h"
#include "fovea/kernels/sgemm.h"
#include "fovea/tensor/ops/for_rows.h"
#include "fovea/tensor/tape.h"

namespace fovea::tensor {
namespace {

// Images by groups: part p is group p % groups of image p / groups. As matrices, y = w columns(x).
struct Parts {
  Columns c;  // of one part
  int64_t batch, groups, outputs;

  int64_t count() const { return batch * groups; }
  const float* weights(const float* w, int64_t part) const { return w + part % groups * outputs * c.rows(); }
  int64_t input(int64_t part) const { return part * c.channels * c.pixels(); }
  int64_t output(int64_t part) const { return part * outputs * c.places(); }
  int64_t matrix() const { return c.rows() * c.places(); }
};

// The matrix of a part: the image itself where that is one, else made in `held`; with all threads if not `alone`.
const float* columns_of(const Parts& p, const float* x, int64_t part, bool alone, float* held) {
  const float* image = x + p.input(part);
  if (p.c.is_image()) return image;
  const auto take = [&](int64_t begin, int64_t end) { p.c.take(image, begin, end, held); };
  alone ? take(0, p.c.rows()) : for_rows(p.c.rows(), p.c.places(), take);
  return held;
}

// fn(part, alone, scratch): many parts go beside each other, few share the threads one after the other.
template <typename Fn>
void each_part(const Parts& p, const Fn& fn) {
  const int64_t scratch = p.c.is_image() ? 0 : p.matrix();
  const bool beside = p.count() >= 2 * pool().size();
  Tensor held = Tensor::empty({beside ? pool().size() : 1, scratch});
  if (beside) {
    pool().for_each(p.count(), [&](int64_t part, int thread) { fn(part, true, held.data() + thread * scratch); });
  } else {
    for (int64_t part = 0; part < p.count(); ++part) fn(part, false, held.data());
  }
}

void forward(const Parts& p, const float* x, const float* w, const float* bias, float* y) {
  each_part(p, [&](int64_t part, bool alone, float* held) {
    float* out = y + p.output(part);
    for (int64_t o = 0; o < p.outputs && bias; ++o)
      std::fill_n(out + o * p.c.places(), p.c.places(), bias[part % p.groups * p.outputs + o]);
    kernels::sgemm({.m = p.outputs,
                    .n = p.c.places(),
                    .k = p.c.rows(),
                    .a = p.weights(w, part),
                    .ld_a = p.c.rows(),
                    .b = columns_of(p, x, part, alone, held),
                    .ld_b = p.c.places(),
                    .c = out,
                    .ld_c = p.c.places(),
                    .accumulate = bias != nullptr});
  });
}

// dx += columns back of w^T dy
void backward_to_input(const Parts& p, const float* w, const float* dy, float* dx) {
  each_part(p, [&](int64_t part, bool alone, float* held) {
    float* image = dx + p.input(part);
    kernels::sgemm({.m = p.c.rows(),
                    .n = p.c.places(),
                    .k = p.outputs,
                    .a = p.weights(w, part),
                    .ld_a = p.c.rows(),
                    .a_transposed = true,
                    .b = dy + p.output(part),
                    .ld_b = p.c.places(),
                    .c = p.c.is_image() ? image : held,
                    .ld_c = p.c.places(),
                    .accumulate = p.c.is_image()});
    if (p.c.is_image()) return;
    const auto add = [&](int64_t begin, int64_t end) { p.c.add_back(held, begin, end, image); };
    alone ? add(0, p.c.channels) : for_rows(p.c.channels, p.c.rows() / p.c.channels * p.c.places(), add);
  });
}

// dw += dy columns^T, images in rising order
void backward_to_weights(const Parts& p, const float* x, const float* dy, float* dw) {
  Tensor held = Tensor::empty({p.c.is_image() ? 0 : p.matrix()});
  for (int64_t part = 0; part < p.count(); ++part) {
    kernels::sgemm({.m = p.outputs,
                    .n = p.c.rows(),
                    .k = p.c.places(),
                    .a = dy + p.output(part),
                    .ld_a = p.c.places(),
                    .b = columns_of(p, x, part, false, held.data()),
                    .ld_b = p.c.places(),
                    .b_transposed = true,
                    .c = dw + part % p.groups * p.outputs * p.c.rows(),
                    .ld_c = p.c.rows(),
                    .accumulate = true});
  }
}

void backward_to_bias(const Parts& p, const float* dy, float* db) {
  const int64_t all = p.groups * p.outputs, places = p.c.places();
  for_rows(all, p.batch * places, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o) {
      double sum = 0;
      for (int64_t b = 0; b < p.batch; ++b) {
        const float* from = dy + (b * all + o) * places;
        for (int64_t i = 0; i < places; ++i) sum += from[i];
      }
      db[o] += static_cast<float>(sum);
    }
  });
}

}  // namespace

Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, const Conv2d& how) {
  FOVEA_CHECK(x.shape().rank() == 4 && w.shape().rank() == 4 && how.groups > 0 && w.dim(0) % how.groups == 0 &&
                  x.dim(1) == w.dim(1) * how.groups && w.elements() > 0,
              "conv2d: x {} and w {} with {} groups", x.shape().to_string(), w.shape().to_string(), how.groups);
  FOVEA_CHECK(!bias.defined() || bias.shape() == Shape({w.dim(0)}), "conv2d: bias {} for {} outputs",
              bias.shape().to_string(), w.dim(0));
  const Window window{.size = {w.dim(2), w.dim(3)}, .stride = how.stride, .pad = how.pad, .dilation = how.dilation};
  const Parts p{Columns(w.dim(1), x.dim(2), x.dim(3), window, "conv2d"), x.dim(0), how.groups, w.dim(0) / how.groups};
  Tensor y = Tensor::empty({x.dim(0), w.dim(0), p.c.out_h, p.c.out_w});
  forward(p, x.data(), w.data(), bias.defined() ? bias.data() : nullptr, y.data());
  if (Tape* tape = current_tape()) {
    tape->record(y, {x, w, bias}, [p, x, w, bias = ValueId(bias), y = ValueId(y)](Tape& t) {
      const float* dy = t.grad(y).data();
      if (t.needs_grad(x)) backward_to_input(p, w.data(), dy, t.grad(x).data());
      if (t.needs_grad(w)) backward_to_weights(p, x.data(), dy, t.grad(w).data());
      if (t.needs_grad(bias)) backward_to_bias(p, dy, t.grad(bias).data());
    });
  }
  return y;
}

}  // namespace fovea::tensor

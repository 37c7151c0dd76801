#include "fovea/tensor/ops/image/conv2d.h"

#include <algorithm>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/kernels/conv.h"
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

// Padded images, from which the kernels multiply without a matrix.
class Padded {
 public:
  // Whether windows are one pixel apart and places whole groups of neighbours.
  static bool fits(const Parts& p) {
    return p.c.window.stride.h == 1 && p.c.window.stride.w == 1 && p.c.out_w % kernels::kPlaceGroup == 0 &&
           p.c.places() % (kernels::kPlaceGroup * kernels::kPlaceGroups) == 0;
  }
  explicit Padded(const Parts& p) : p_(p), height_(p.c.height + 2 * pad().h), width_(p.c.width + 2 * pad().w) {
    const auto& [size, stride, pad, dilation] = p.c.window;
    for (int64_t i = 0; i < p.c.rows(); ++i) {
      const int64_t in_window = i % (size.h * size.w);
      offsets_.push_back((i / (size.h * size.w) * height_ + in_window / size.w * dilation.h) * width_ +
                         in_window % size.w * dilation.w);
    }
    for (int64_t place = 0; place < p.c.places(); place += kernels::kPlaceGroup)
      groups_.push_back(place / p.c.out_w * width_ + place % p.c.out_w);
  }
  int64_t floats() const { return is_padded() ? p_.c.channels * height_ * width_ : 0; }
  // Where `image` lies padded: made in `held`, unless it needs no edge.
  const float* of(const float* image, float* held) const {
    if (!is_padded()) return image;
    float* to = held;
    for (int64_t c = 0; c < p_.c.channels; ++c) {
      to = std::fill_n(to, pad().h * width_, 0.0f);
      for (int64_t row = 0; row < p_.c.height; ++row, image += p_.c.width) {
        to = std::fill_n(to, pad().w, 0.0f);
        to = std::copy_n(image, p_.c.width, to);
        to = std::fill_n(to, pad().w, 0.0f);
      }
      to = std::fill_n(to, pad().h * width_, 0.0f);
    }
    return held;
  }
  kernels::ConvArgs args(const float* x) const {
    return {.k = p_.c.rows(),
            .outputs = p_.outputs,
            .offsets = offsets_.data(),
            .groups = groups_.data(),
            .n_groups = std::ssize(groups_),
            .in_rows = p_.c.out_w % (2 * kernels::kPlaceGroup) == 0,
            .x = x};
  }

 private:
  const HeightWidth& pad() const { return p_.c.window.pad; }
  bool is_padded() const { return pad().h > 0 || pad().w > 0; }

  const Parts& p_;
  int64_t height_, width_;
  std::vector<int64_t> offsets_, groups_;
};

void forward_padded(const Parts& p, const float* x, const float* w, const float* bias, float* y, bool onto) {
  const Padded padded(p);
  const auto packed_floats = static_cast<int64_t>(kernels::conv_packed_floats(p.outputs, p.c.rows()));
  Tensor packed = Tensor::empty({p.groups, packed_floats});
  for (int64_t g = 0; g < p.groups; ++g)
    kernels::conv_pack(p.weights(w, g), p.outputs, p.c.rows(), packed.data() + g * packed_floats);
  const int64_t n_panels = kernels::conv_panels(p.outputs);
  // One image after the other where there are few, its outputs beside each other.
  const bool beside = p.count() >= 2 * pool().size();
  Tensor held = Tensor::empty({beside ? pool().size() : 1, padded.floats()});
  const auto run = [&](int64_t part, const float* image, int64_t begin, int64_t end) {
    const int64_t group = part % p.groups;
    kernels::conv(padded.args(image), packed.data() + group * packed_floats, bias ? bias + group * p.outputs : nullptr,
                  onto, begin, end, y + p.output(part));
  };
  if (beside) {
    return pool().for_each(p.count(), [&](int64_t part, int thread) {
      run(part, padded.of(x + p.input(part), held.data() + thread * padded.floats()), 0, n_panels);
    });
  }
  for (int64_t part = 0; part < p.count(); ++part) {
    const float* image = padded.of(x + p.input(part), held.data());
    pool().for_each(n_panels, [&](int64_t panel, int) { run(part, image, panel, panel + 1); });
  }
}

// y = w columns(x) + bias, or y += w columns(x).
void forward(const Parts& p, const float* x, const float* w, const float* bias, float* y, bool onto = false) {
  if (Padded::fits(p)) return forward_padded(p, x, w, bias, y, onto);
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
                    .accumulate = onto || bias});
  });
}

// With windows one pixel apart dx is a convolution too, of dy with w turned round: it reads dy where it would add to
// places that overlap. False where the pad is too wide for that.
bool backward_turned(const Parts& p, const float* w, const float* dy, float* dx, bool onto) {
  const auto& [size, stride, pad, dilation] = p.c.window;
  const HeightWidth back(dilation.h * (size.h - 1) - pad.h, dilation.w * (size.w - 1) - pad.w);
  if (stride.h != 1 || stride.w != 1 || back.h < 0 || back.w < 0) return false;
  if (p.c.is_image() && !Padded::fits(p)) return false;
  const int64_t channels = p.c.channels, area = size.h * size.w;
  Tensor turned = Tensor::empty({p.groups, channels, p.outputs, area});
  for (int64_t g = 0; g < p.groups; ++g) {
    for (int64_t o = 0; o < p.outputs; ++o) {
      for (int64_t c = 0; c < channels; ++c) {
        const float* from = w + ((g * p.outputs + o) * channels + c) * area;
        std::reverse_copy(from, from + area, turned.data() + ((g * channels + c) * p.outputs + o) * area);
      }
    }
  }
  const Window window{.size = size, .pad = back, .dilation = dilation};
  const Parts swapped{Columns(p.outputs, p.c.out_h, p.c.out_w, window, "conv2d"), p.batch, p.groups, channels};
  forward(swapped, dy, turned.data(), nullptr, dx, onto);
  return true;
}

// dx += columns back of w^T dy
void backward_to_input(const Parts& p, const float* w, const float* dy, float* dx, bool onto) {
  if (backward_turned(p, w, dy, dx, onto)) return;
  if (!onto) std::fill_n(dx, p.count() * p.c.channels * p.c.pixels(), 0.0f);
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

void padded_to_weights(const Parts& p, const float* x, const float* dy, float* dw) {
  constexpr int64_t kMostFloats = 1 << 16;  // of padded images, whose outputs are about as many: a second-level cache
  constexpr int64_t kOutputs = 8;           // of a task
  const Padded padded(p);
  const int64_t some = std::max<int64_t>(1, std::min(p.batch, kMostFloats / std::max<int64_t>(1, padded.floats())));
  const int64_t n_rows = (p.outputs + kOutputs - 1) / kOutputs;
  Tensor held = Tensor::empty({some, padded.floats()});
  for (int64_t task = 0; task < (p.batch + some - 1) / some * p.groups; ++task) {
    const int64_t group = task % p.groups, first = task / p.groups * some, n = std::min(some, p.batch - first);
    const auto part_of = [&](int64_t image) { return (first + image) * p.groups + group; };
    for_rows(n, padded.floats(), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) (void)padded.of(x + p.input(part_of(i)), held.data() + i * padded.floats());
    });
    const bool made = padded.floats() > 0;
    const kernels::ConvArgs args = padded.args(made ? held.data() : x + p.input(part_of(0)));
    const int64_t x_step = made ? padded.floats() : p.groups * p.c.channels * p.c.pixels();
    pool().for_each(n_rows, [&](int64_t row, int) {
      kernels::conv_to_weights(args, n, x_step, dy + p.output(part_of(0)), p.groups * p.outputs * p.c.places(),
                               row * kOutputs, std::min(p.outputs, (row + 1) * kOutputs),
                               dw + group * p.outputs * p.c.rows());
    });
  }
}

// dw += dy columns^T, images in rising order: some of them side by side, as one product.
void backward_to_weights(const Parts& p, const float* x, const float* dy, float* dw) {
  if (Padded::fits(p)) return padded_to_weights(p, x, dy, dw);
  constexpr int64_t kMostFloats = 1 << 20;  // of their columns
  const int64_t places = p.c.places(), rows = p.c.rows();
  const int64_t some = std::max<int64_t>(1, std::min(p.batch, kMostFloats / p.matrix()));
  Tensor columns = Tensor::empty({rows, some * places}), slopes = Tensor::empty({p.outputs, some * places});
  for (int64_t task = 0; task < (p.batch + some - 1) / some * p.groups; ++task) {
    const int64_t group = task % p.groups, first = task / p.groups * some, n = std::min(some, p.batch - first);
    for_rows(n * rows, places, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t image = i / rows;
        p.c.take(x + p.input((first + image) * p.groups + group), i % rows, i % rows + 1,
                 columns.data() + image * places, n * places);
      }
    });
    for_rows(n * p.outputs, places, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t image = i / p.outputs, o = i % p.outputs;
        std::copy_n(dy + p.output((first + image) * p.groups + group) + o * places, places,
                    slopes.data() + (o * n + image) * places);
      }
    });
    kernels::sgemm({.m = p.outputs,
                    .n = rows,
                    .k = n * places,
                    .a = slopes.data(),
                    .ld_a = n * places,
                    .b = columns.data(),
                    .ld_b = n * places,
                    .b_transposed = true,
                    .c = dw + group * p.outputs * rows,
                    .ld_c = rows,
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
      if (t.needs_grad(x)) {
        bool first = false;
        float* dx = t.grad(x, first).data();
        backward_to_input(p, w.data(), dy, dx, !first);
      }
      if (t.needs_grad(w)) backward_to_weights(p, x.data(), dy, t.grad(w).data());
      if (t.needs_grad(bias)) backward_to_bias(p, dy, t.grad(bias).data());
    });
  }
  return y;
}

}  // namespace fovea::tensor

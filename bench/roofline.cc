// What this machine can do at most (multiply-adds in float32 and bf16, integer dot products, memory reads), of one
// thread and of all, and the share of its limit that each kernel reaches on all threads at once.
//
//   bench_roofline [--json] [--limits]        --limits: without the kernels
//
// Every kernel's answer is compared first, with plain loops or with the portable kernel.
#include <fmt/core.h>
#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "bench/attention_head.h"
#include "bench/measure.h"
#include "bench/product.h"
#include "fovea/base/random.h"
#include "fovea/base/threads.h"
#include "fovea/kernels/peak.h"
#include "fovea/kernels/vector.h"

namespace fovea::bench {
namespace {

using kernels::Isa;

// 1e9 a second, all threads together.
struct Limits {
  double f32 = 0, bf16 = 0, int16 = 0, int8 = 0, reads = 0;

  // The fastest arithmetic that keeps a product of queries and keys near float32.
  double dot() const { return std::max({f32, bf16, int16}); }
};

double operations(int n_threads, const kernels::Dispatched<int64_t(int64_t)>& kernel) {
  return best_rate(n_threads, 40, [&](int) { return static_cast<double>(kernel(1 << 15)); });
}

// Every thread reads a part of its own that no cache near the core holds, a slice of it per round.
double reads(int n_threads) {
  constexpr size_t kBytes = size_t{256} << 20, kSlices = 40, kSlice = kBytes / kSlices / 256 * 256;
  std::vector<Bytes> parts;
  for (int t = 0; t < n_threads; ++t) {
    parts.push_back(allocate(kBytes));
    std::memset(parts.back().get(), 1, kBytes);
  }
  std::vector<size_t> next(static_cast<size_t>(n_threads), 0);
  return best_rate(n_threads, 40, [&](int t) {
    const size_t at = next[static_cast<size_t>(t)]++ % kSlices * kSlice;
    (void)kernels::read_all(parts[static_cast<size_t>(t)].get() + at, kSlice);
    return static_cast<double>(kSlice);
  });
}

Limits limits(int n_threads) {
  return {operations(n_threads, kernels::fma_peak), operations(n_threads, kernels::bf16_peak),
          operations(n_threads, kernels::int16_peak), operations(n_threads, kernels::int8_peak), reads(n_threads)};
}

struct Share {
  std::string kernel, against;
  double rate, limit;  // 1e9 operations or bytes a second
  std::string_view unit() const { return against == "reads" ? "GB/s" : "GOP/s"; }
};

template <typename T>
using Each = std::vector<std::unique_ptr<T>>;  // one per thread

// Work on more memory than the caches near the core hold, a slice per round: reading and writing is the limit.
class Elementwise {
 public:
  // body(from, to) takes kSlice floats of two inputs each.
  using Body = std::function<void(const float* a, const float* b, float* y)>;
  static constexpr int64_t kSlice = int64_t{1} << 18, kSlices = 128, kRow = 1024;

  explicit Elementwise(int64_t n_slices = kSlices) : n_slices_(n_slices) {
    Rng rng(5);
    for (Bytes* bytes : {&a_, &b_, &y_}) *bytes = allocate(static_cast<size_t>(n_slices * kSlice) * sizeof(float));
    for (int64_t i = 0; i < kSlice; ++i) {
      floats(a_)[i] = static_cast<float>(rng.normal());
      floats(b_)[i] = static_cast<float>(rng.normal());
    }
    for (Bytes* bytes : {&a_, &b_}) {
      for (int64_t s = 1; s < n_slices; ++s) std::memcpy(floats(*bytes) + s * kSlice, floats(*bytes), kSlice * 4);
    }
  }
  void run(const Body& body) {
    const int64_t at = next_++ % n_slices_ * kSlice;
    body(floats(a_) + at, floats(b_) + at, floats(y_) + at);
  }
  const float* y() const { return reinterpret_cast<const float*>(y_.get()); }

 private:
  static float* floats(Bytes& bytes) { return reinterpret_cast<float*>(bytes.get()); }
  int64_t n_slices_, next_ = 0;
  Bytes a_, b_, y_;
};

struct ElementwiseKernel {
  std::string name;
  double bytes;  // read and written per element
  Elementwise::Body body;
};

std::vector<ElementwiseKernel> elementwise_kernels() {
  constexpr int64_t kRow = Elementwise::kRow, kRows = Elementwise::kSlice / kRow;
  constexpr int64_t kPairs = 32, kHead = 2 * kPairs;
  constexpr double kForm = 1.0 + 20.0 / 32.0;  // bytes of an activation's int8 form
  static_assert(2 * kForm <= sizeof(float));   // a slice of y holds two
  static const auto weight = [] {
    std::vector<float> w(kRow, 1.5f);
    return w;
  }();
  static const auto angles = [] {
    std::vector<float> cos_sin(kHead);
    for (size_t i = 0; i < kPairs; ++i) {
      const auto angle = static_cast<float>(i) * 0.1f;
      cos_sin[i] = std::cos(angle), cos_sin[kPairs + i] = std::sin(angle);
    }
    return cos_sin;
  }();
  return {{"rms_norm", 8,
           [](const float* a, const float*, float* y) {
             for (int64_t r = 0; r < kRows; ++r)
               kernels::rms_norm(a + r * kRow, weight.data(), 1e-5f, kRow, y + r * kRow);
           }},
          {"rope", 8,
           [](const float* a, const float*, float* y) {
             for (int64_t at = 0; at < Elementwise::kSlice; at += kHead)
               kernels::rope_rotate(a + at, angles.data(), angles.data() + kPairs, kPairs, false, y + at);
           }},
          {"swiglu", 12,
           [](const float* a, const float* b, float* y) {
             for (int64_t r = 0; r < kRows; ++r) kernels::swiglu(a + r * kRow, b + r * kRow, kRow, y + r * kRow);
           }},
          {"quantise activations", 4.0 + kForm,
           [](const float* a, const float*, float* y) {
             kernels::quantize_activations(a, kRow, kRows, kRow, 0, kRows, y);
           }},
          {"quantise to 16 bits", 4.0 + 2 * kForm, [](const float* a, const float*, float* y) {
             auto* rest = reinterpret_cast<std::byte*>(y) + static_cast<int64_t>(Elementwise::kSlice * kForm);
             kernels::quantize_activations(a, kRow, kRows, kRow, 0, kRows, y);
             kernels::quantize_rest(a, kRow, kRows, kRow, 0, kRows, y, rest);
           }}};
}

// The types of page: what a session uses unless told otherwise, and the compressed one.
struct Pages {
  kernels::KvType type;
  std::string_view name;
};
const Pages kPages[] = {{kernels::AttentionArgs{}.k_type, "pages"}, {kernels::KvType::kQ8_0, "q8_0 pages"}};

bool answers_are_right(Isa isa) {
  for (const int64_t n : {1, 5, 13}) {
    for (const DType dtype : kDTypes) {
      if (!Product(dtype, 37, 512, n).is_right()) return false;
    }
    for (const DType dtype : kFloatTypes) {
      if (!Product(dtype, 37, 512, n).is_right()) return false;
    }
  }
  const auto near = [&](std::string_view what, const float* want, const float* got, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      // Polynomials and the order of sums differ in the last bits; codes of a page may differ by one.
      if (std::abs(want[i] - got[i]) <= 1e-4f * (1 + std::abs(want[i]))) continue;
      fmt::print(stderr, "{}: {} differs from portable: {} for {}\n", what, kernels::name_of(isa), got[i], want[i]);
      return false;
    }
    return true;
  };
  for (const Pages& pages : kPages) {
    for (const int64_t n_queries : {1, 40}) {
      Head head(pages.type, 3, n_queries, 300);
      kernels::set_isa(Isa::kPortable);
      head.run();
      const std::vector<float> want = head.z();
      kernels::set_isa(isa);
      head.run();
      if (!near("attention", want.data(), head.z().data(), want.size())) return false;
    }
  }
  for (const ElementwiseKernel& kernel : elementwise_kernels()) {
    if (kernel.name.starts_with("quantise")) continue;  // no floats; the products use them
    Elementwise portable(1), fast(1);
    kernels::set_isa(Isa::kPortable);
    portable.run(kernel.body);
    kernels::set_isa(isa);
    fast.run(kernel.body);
    if (!near(kernel.name, portable.y(), fast.y(), Elementwise::kSlice)) return false;
  }
  return true;
}

// Products with one token walk a weight of 150 to 330 MB, a slice per round: no cache holds those of all threads.
class Slices {
 public:
  static constexpr int64_t kSlices = 12;
  Slices(DType dtype, int64_t cols)
      : rows_(16384 / (kernels::is_float_dtype(dtype) ? static_cast<int64_t>(kernels::row_bytes(dtype, 1)) : 1)),
        product_(dtype, kSlices * rows_, cols, 1) {}

  // The bytes read, or read and written.
  double multiply() {
    const int64_t begin = next();
    product_.run(begin, begin + rows_);
    return static_cast<double>(product_.bytes()) / kSlices;
  }
  double pack() {
    const int64_t begin = next();
    product_.pack(begin, begin + rows_);
    return static_cast<double>(product_.file_bytes() + product_.bytes()) / kSlices;
  }

 private:
  int64_t next() { return next_++ % kSlices * rows_; }
  int64_t rows_;  // of a slice
  Product product_;
  int64_t next_ = 0;
};

class Shares {
 public:
  Shares(int n_threads, const Limits& limits) : n_threads_(n_threads), limits_(limits) {}

  void products() {
    constexpr int64_t kCols = 1536;
    for (const DType dtype : kDTypes) {
      add(fmt::format("{} product, 256 tokens", kernels::dtype_info(dtype).name), "int8", limits_.int8, 15,
          each<Product>(dtype, 16 * 48, kCols, 256), [](Product& p) {
            p.run();
            return p.operations();
          });
    }
    for (const DType dtype : kFloatTypes) {
      const bool codes = kernels::takes_codes(kernels::form_of(dtype, kCols, kernels::Numerics::kFast));
      add(fmt::format("{} product, 256 tokens", kernels::dtype_info(dtype).name), codes ? "int16" : "float32",
          codes ? limits_.int16 : limits_.f32, 15, each<Product>(dtype, 16 * 48, kCols, 256), [](Product& p) {
            p.run();
            return p.operations();
          });
    }
    const auto from_memory = [&](DType dtype) {
      const std::string name(kernels::dtype_info(dtype).name);
      const auto slices = each<Slices>(dtype, kCols);
      read_bound(name + " product, 1 token", 3 * Slices::kSlices, slices, [](Slices& s) { return s.multiply(); });
      read_bound(name + " pack", 2 * Slices::kSlices, slices, [](Slices& s) { return s.pack(); });
    };
    for (const DType dtype : kDTypes) from_memory(dtype);
    for (const DType dtype : kFloatTypes) from_memory(dtype);
  }
  void prefill() {
    for (const int head_dim : {64, 128}) {
      for (const Pages& pages : kPages) {
        add(fmt::format("attention prefill, head_dim {}, 16k keys, {}", head_dim, pages.name), "dot", limits_.dot(), 4,
            each<Head>(pages.type, 3, 256, 16384, head_dim), [](Head& head) {
              head.run();
              return head.flops();
            });
      }
    }
  }
  // More heads than the caches near the core hold, as the layers of a model are.
  void decode() {
    struct Many {
      explicit Many(kernels::KvType type, int head_dim) {
        for (int i = 0; i < 48; ++i) heads.push_back(std::make_unique<Head>(type, 3, 1, 8192, head_dim));
      }
      Each<Head> heads;
      size_t next = 0;
    };
    for (const int head_dim : {64, 128}) {
      for (const Pages& pages : kPages) {
        read_bound(fmt::format("attention decode, head_dim {}, 8k keys, {}", head_dim, pages.name), 96,
                   each<Many>(pages.type, head_dim), [](Many& many) {
                     Head& head = *many.heads[many.next++ % many.heads.size()];
                     head.run();
                     return head.bytes();
                   });
      }
    }
  }
  void elementwise() {
    const auto works = each<Elementwise>();
    for (const ElementwiseKernel& kernel : elementwise_kernels()) {
      read_bound(kernel.name, 2 * Elementwise::kSlices, works, [&kernel](Elementwise& work) {
        work.run(kernel.body);
        return kernel.bytes * Elementwise::kSlice;
      });
    }
  }
  const std::vector<Share>& all() const { return all_; }

 private:
  template <typename T, typename... Args>
  Each<T> each(Args... args) const {
    Each<T> out;
    for (int t = 0; t < n_threads_; ++t) out.push_back(std::make_unique<T>(args...));
    return out;
  }
  template <typename T, typename Work>
  void add(std::string name, std::string against, double limit, int rounds, const Each<T>& each, const Work& work) {
    const double rate = best_rate(n_threads_, rounds, [&](int t) { return work(*each[static_cast<size_t>(t)]); });
    all_.push_back({std::move(name), std::move(against), rate, limit});
  }
  template <typename T, typename Work>
  void read_bound(std::string name, int rounds, const Each<T>& each, const Work& work) {
    add(std::move(name), "reads", limits_.reads, rounds, each, work);
  }

  int n_threads_;
  const Limits& limits_;
  std::vector<Share> all_;
};

nlohmann::json report(Isa isa, bool with_kernels, bool json) {
  kernels::set_isa(isa);
  nlohmann::json out{{"isa", kernels::name_of(isa)}, {"limits", nlohmann::json::array()}};
  Limits all;
  const int most = default_threads();
  for (int n = 1; n <= most; n = n < most ? std::min(2 * n, most) : n + 1) {
    all = limits(n);
    out["limits"].push_back({{"threads", n},
                             {"f32_gflops", all.f32},
                             {"bf16_gflops", all.bf16},
                             {"int16_gops", all.int16},
                             {"int8_gops", all.int8},
                             {"read_gb_per_second", all.reads}});
    if (json) continue;
    fmt::print(
        "{:8} {} thread(s): float32 {:.0f} GFLOP/s, bf16 {:.0f} GFLOP/s, int16 {:.0f} GOP/s, int8 {:.0f} GOP/s, reads "
        "{:.1f} GB/s\n",
        kernels::name_of(isa), n, all.f32, all.bf16, all.int16, all.int8, all.reads);
  }
  if (!with_kernels) return out;
  Shares shares(most, all);
  shares.products();
  shares.prefill();
  shares.decode();
  shares.elementwise();
  if (!json)
    fmt::print("\n| {}, {} threads | rate | limit | share |\n|---|---|---|---|\n", kernels::name_of(isa), most);
  out["kernels"] = nlohmann::json::array();
  for (const Share& s : shares.all()) {
    out["kernels"].push_back({{"kernel", s.kernel},
                              {"against", s.against},
                              {"unit", s.unit()},
                              {"rate", s.rate},
                              {"limit", s.limit},
                              {"share", s.rate / s.limit}});
    if (!json)
      fmt::print("| {} | {:.1f} {} | {} {:.0f} | {:.0f} % |\n", s.kernel, s.rate, s.unit(), s.against, s.limit,
                 100 * s.rate / s.limit);
  }
  return out;
}

int run(bool with_kernels, bool json) {
  const Isa forced = kernels::active_isa();
  nlohmann::json all = nlohmann::json::array();
  for (int i = kernels::kIsas - 1; i >= 0; --i) {
    const Isa isa = static_cast<Isa>(i);
    if (!kernels::machine_has(isa) || (std::getenv("FOVEA_ISA") && isa != forced)) continue;
    kernels::set_isa(isa);
    if (with_kernels && !answers_are_right(isa)) return 1;
    // Plain loops are there to be right, and take minutes.
    all.push_back(report(isa, with_kernels && (isa != Isa::kPortable || std::getenv("FOVEA_ISA")), json));
  }
  if (json) fmt::print("{}\n", all.dump(1));
  return 0;
}

}  // namespace
}  // namespace fovea::bench

int main(int argc, char** argv) {
  bool with_kernels = true, json = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--json") {
      json = true;
    } else if (flag == "--limits") {
      with_kernels = false;
    } else {
      fmt::print(stderr, "bench_roofline: {} is neither --json nor --limits\n", flag);
      return 2;
    }
  }
  return fovea::bench::run(with_kernels, json);
}

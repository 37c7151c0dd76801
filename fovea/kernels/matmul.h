// Products of activations with a (quantised) weight matrix, for one token or many.
//
// One canonical order of float additions per output element, whatever the number of tokens,
// threads or the blocking: a sum over 32-wide blocks of columns in rising order, so that a token
// gives the same bits alone, in a batch, or in any chunk of a prompt (on one instruction set).
#pragma once

#include <cstddef>
#include <cstdint>

#include "fovea/kernels/activations.h"
#include "fovea/kernels/dtype.h"
#include "fovea/kernels/isa.h"

namespace fovea::kernels {

// exact: float32 activations times dequantised weights. fast: activations quantised to int8 per block of 32 (for F16
// and BF16 weights both sides to int16 per 64), integer dot products; F32 still multiplies in float32.
enum class Numerics { kExact, kFast };

// Rows are handled in panels of this many, interleaved so that one SIMD lane is one row.
inline constexpr int kPanelRows = 16;

// A weight matrix [rows, cols] as it lies in the file: rows one after the other, each a whole
// number of blocks of `dtype`.
struct WeightView {
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0;
  const void* data = nullptr;
};

// Writes n floats: elements of whole blocks starting at `blocks`. n is a multiple of the block.
// Supports every native dtype. Bit-exact with ggml's reference dequantisation.
extern Dispatched<void(DType dtype, const void* blocks, int64_t n, float* out)> dequantize;

// How a product reads a weight: as it lies in the file; as panels of floats; as integer codes, with activations of 8
// bits or of 16.
enum class WeightForm { kFile, kFloats, kInt8, kInt16 };
WeightForm form_of(DType dtype, int64_t cols, Numerics numerics);
constexpr bool takes_codes(WeightForm form) { return form >= WeightForm::kInt8; }
constexpr int columns_per_scale(WeightForm form) { return form == WeightForm::kInt16 ? 64 : 32; }

// Activations for `fast`: x is [n_tokens, cols] float32, cols a multiple of 32 (of 64 for kInt16).
// `out` has quantized_bytes(n_tokens, cols, form) bytes, 64-byte aligned; tokens can be done in
// separate calls (token_begin..token_end) from several threads.
size_t quantized_bytes(int64_t n_tokens, int64_t cols, WeightForm form);
extern Dispatched<void(const float* x, int64_t ld_x, int64_t n_tokens, int64_t cols, int64_t token_begin,
                       int64_t token_end, void* out)>
    quantize_activations;
// The same for columns [col_begin, col_end) of it, multiples of 32: for whoever makes x part by part.
extern Dispatched<void(const float* x, int64_t ld_x, int64_t n_tokens, int64_t cols, int64_t token_begin,
                       int64_t token_end, int64_t col_begin, int64_t col_end, void* out)>
    quantize_columns;
// The same as int16.
extern Dispatched<void(const float* x, int64_t ld_x, int64_t n_tokens, int64_t cols, int64_t token_begin,
                       int64_t token_end, int64_t col_begin, int64_t col_end, void* out)>
    quantize_columns16;
// What `first`, the form of x, leaves of x, in the same form: x is the sum of both to about 16 bits.
extern Dispatched<void(const float* x, int64_t ld_x, int64_t n_tokens, int64_t cols, int64_t token_begin,
                       int64_t token_end, const void* first, void* out)>
    quantize_rest;

// The packed form of a matrix: panels of kPanelRows rows at about the file's own bits per weight.
// Zero where they read the file's (kFile). Panels are independent: pack [panel_begin, panel_end) from several threads.
size_t packed_bytes(const WeightView& w, Numerics numerics);
void pack_weights(const WeightView& w, Numerics numerics, int64_t panel_begin, int64_t panel_end, void* out);

struct MatmulArgs {
  WeightView w;
  const void* packed = nullptr;  // from pack_weights for `numerics`, or null: packed panel by panel on the fly
  Numerics numerics = Numerics::kFast;
  const float* x = nullptr;  // [n_tokens, cols], rows ld_x floats apart (used by float paths)
  int64_t ld_x = 0;
  const void* quantized = nullptr;  // from quantize_activations or quantize_columns16 (used if the form takes codes)
  int64_t n_tokens = 0;
  const float* bias = nullptr;      // [rows] or null, added to the sums
  const float* residual = nullptr;  // as y is, or null: y = residual + factor * product
  float factor = 1;
  // y = act(product) * up's, each after its own residual: the same rows and tokens of another weight, its y is room.
  const MatmulArgs* up = nullptr;
  Activation act = Activation::kSilu;
  float* y = nullptr;  // [n_tokens, rows], rows ld_y floats apart
  int64_t ld_y = 0;
  int64_t row_begin = 0, row_end = 0;      // the part of w's rows to do; row_begin a multiple of kPanelRows
  int64_t token_begin = 0, token_end = 0;  // the part of the tokens to do
  void* scratch = nullptr;                 // matmul_scratch_bytes(w), of up too; 64-byte aligned, one per thread
};
size_t matmul_scratch_bytes(const WeightView& w);
extern Dispatched<void(const MatmulArgs& args)> matmul;

}  // namespace fovea::kernels

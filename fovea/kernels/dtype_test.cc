#include "fovea/kernels/dtype.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "fovea/base/check.h"
#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/quantize_weights.h"
#include "fovea/kernels/wide_form.h"

namespace fovea::kernels {
namespace dtype_test {

TEST(DType, RowsAreWholeBlocks) {
  EXPECT_EQ(row_bytes(DType::kQ4_K, 512), 288u);
  EXPECT_EQ(row_bytes(DType::kMXFP4, 64), 34u);
  EXPECT_THROW((void)row_bytes(DType::kQ4_K, 128), CheckFailed);
  for (const int32_t unused : {-1, 4, 5, 31, 32, 33, 36, 37, 38, 42, 255}) EXPECT_EQ(dtype_info(unused), nullptr);
}

// How a type multiplies in `fast`, in the words of the table.
std::string product_of(DType type) {
  const DTypeInfo& info = dtype_info(type);
  if (!info.native) return "refused";
  const WeightView w{type, 16, 512, nullptr};
  const uint64_t file = 16 * row_bytes(type, 512), packed = packed_bytes(w, Numerics::kFast);
  const WeightForm form = form_of(type, 512, Numerics::kFast);
  if (form == WeightForm::kInt16) return "int16";
  if (form != WeightForm::kInt8) return is_float_dtype(type) ? "float32" : "through float32";
  return is_widened(file, packed) ? "int8, wider" : "int8";
}

// The line of a type in docs/gguf.md.
std::string line_of(int32_t number) {
  const DTypeInfo& info = *dtype_info(number);
  const auto type = static_cast<DType>(number);
  const double bits = 8.0 * info.block_bytes / info.block_elements;
  char out[160];
  std::snprintf(out, sizeof out, "| %d | %s | %d | %d | %.4g | %s | %s |", number, std::string(info.name).c_str(),
                info.block_elements, info.block_bytes, bits, product_of(type).c_str(), can_quantize(type) ? "yes" : "");
  return out;
}

TEST(DType, TheTableOfTheDocumentationIsThatOfTheCode) {
  const std::string page = read_file(source_dir() + "/docs/gguf.md").value();
  for (int32_t number = 0; number < 64; ++number) {
    if (dtype_info(number)) {
      EXPECT_TRUE(page.find(line_of(number)) != page.npos) << line_of(number);
    }
  }
}

}  // namespace dtype_test
}  // namespace fovea::kernels

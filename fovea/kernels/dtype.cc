#include "fovea/kernels/dtype.h"

#if FOVEA_ISA_LEVEL == 0  // not a kernel: one copy is enough

#include "fovea/base/check.h"

namespace fovea::kernels {
namespace {

// Indexed by ggml number. A null name is a number that ggml removed or never used.
constexpr DTypeInfo kInfos[] = {
    {"F32", 1, 4, true},
    {"F16", 1, 2, true},
    {"Q4_0", 32, 18, true},
    {"Q4_1", 32, 20, true},
    {},
    {},
    {"Q5_0", 32, 22, true},
    {"Q5_1", 32, 24, true},
    {"Q8_0", 32, 34, true},
    {"Q8_1", 32, 36, false},
    {"Q2_K", 256, 84, true},
    {"Q3_K", 256, 110, true},
    {"Q4_K", 256, 144, true},
    {"Q5_K", 256, 176, true},
    {"Q6_K", 256, 210, true},
    {"Q8_K", 256, 292, false},
    {"IQ2_XXS", 256, 66, true},
    {"IQ2_XS", 256, 74, true},
    {"IQ3_XXS", 256, 98, true},
    {"IQ1_S", 256, 50, true},
    {"IQ4_NL", 32, 18, true},
    {"IQ3_S", 256, 110, true},
    {"IQ2_S", 256, 82, true},
    {"IQ4_XS", 256, 136, true},
    {"I8", 1, 1, true},
    {"I16", 1, 2, true},
    {"I32", 1, 4, true},
    {"I64", 1, 8, true},
    {"F64", 1, 8, true},
    {"IQ1_M", 256, 56, true},
    {"BF16", 1, 2, true},
    {},
    {},
    {},
    {"TQ1_0", 256, 54, true},
    {"TQ2_0", 256, 66, true},
    {},
    {},
    {},
    {"MXFP4", 32, 17, true},
    {"NVFP4", 64, 36, true},
    {"Q1_0", 128, 18, false},
};
constexpr int32_t kCount = sizeof(kInfos) / sizeof(kInfos[0]);
static_assert(kCount == static_cast<int32_t>(DType::kQ1_0) + 1);

// By -1 - number.
constexpr DTypeInfo kOtherInfos[] = {{"F8_E4M3", 1, 1, false}, {"F8_E5M2", 1, 1, false}, {"BOOL", 1, 1, false},
                                     {"U8", 1, 1, false},      {"U16", 1, 2, false},     {"U32", 1, 4, false},
                                     {"U64", 1, 8, false}};
constexpr int32_t kOtherCount = sizeof(kOtherInfos) / sizeof(kOtherInfos[0]);
static_assert(kOtherCount == -static_cast<int32_t>(DType::kU64));

}  // namespace

const DTypeInfo* dtype_info(int32_t ggml_type) {
  if (ggml_type < 0 || ggml_type >= kCount || kInfos[ggml_type].name.empty()) return nullptr;
  return &kInfos[ggml_type];
}

const DTypeInfo& dtype_info(DType type) {
  const auto number = static_cast<int32_t>(type);
  const DTypeInfo* info = number < 0 && number >= -kOtherCount ? &kOtherInfos[-1 - number] : dtype_info(number);
  FOVEA_CHECK(info != nullptr, "{} is not a ggml type", static_cast<int32_t>(type));
  return *info;
}

uint64_t row_bytes(DType type, int64_t n_elements) {
  const DTypeInfo& info = dtype_info(type);
  FOVEA_CHECK(n_elements >= 0 && n_elements % info.block_elements == 0,
              "a row of {} {} elements is not a whole number of blocks of {}", n_elements, info.name,
              info.block_elements);
  return static_cast<uint64_t>(n_elements / info.block_elements) * static_cast<uint64_t>(info.block_bytes);
}

}  // namespace fovea::kernels

#endif

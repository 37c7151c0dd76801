#pragma once

namespace fovea::tensor {
// What becomes of a result. Where it only goes into products, its int8 form is made with it, part by part while that is
// in the cache, and its values must not be written after. kFineProducts: into fine ones too (Product::fine).
enum class Next { kAnything, kProducts, kFineProducts };
}  // namespace fovea::tensor

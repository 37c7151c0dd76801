// Pictures of PNG and JPEG files as pixels: what libpng and libjpeg give, brought to three colours of 8 bits.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"

namespace fovea::vision {

struct Image {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> rgb = {};  // [height, width, 3]
};
// Grey becomes three equal colours, 16 bits become 8; how far one can see through a pixel is left out.
// kData, kUnsupported: what is wrong with the file, which `name` says (quoted).
Result<Image> decode_image(std::string_view bytes, const std::string& name);

}  // namespace fovea::vision

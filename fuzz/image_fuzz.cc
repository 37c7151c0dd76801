// libFuzzer target: any bytes as a PNG or JPEG file. Seeds: tests/fuzz/image.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fovea/vision/image_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto image = fovea::vision::decode_image(std::string_view(reinterpret_cast<const char*>(data), size), "image");
  if (!image) {
    if (image.error().message.empty()) __builtin_trap();
    return 0;
  }
  if (image->rgb.size() != static_cast<size_t>(image->height * image->width) * 3) __builtin_trap();
  return 0;
}

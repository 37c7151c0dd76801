#include "fovea/vision/image_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <jpeglib.h>
#include <png.h>

#include <cstdio>  // jpeglib.h needs it
#include <cstdlib>

namespace fovea::vision {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string png(uint32_t format, uint32_t width, uint32_t height, const void* pixels) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION, image.format = format, image.width = width, image.height = height;
  std::string out(4096, '\0');
  png_alloc_size_t size = out.size();
  EXPECT_TRUE(png_image_write_to_memory(&image, out.data(), &size, 0, pixels, 0, nullptr));
  out.resize(size);
  return out;
}

std::string grey_jpeg(unsigned side, uint8_t level) {
  jpeg_compress_struct jpeg = {};
  jpeg_error_mgr errors = {};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &bytes, &size);
  jpeg.image_width = jpeg.image_height = side;
  jpeg.input_components = 1, jpeg.in_color_space = JCS_GRAYSCALE;
  jpeg_set_defaults(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  std::vector<uint8_t> row(side, level);
  for (unsigned y = 0; y < side; ++y) {
    JSAMPROW at = row.data();
    jpeg_write_scanlines(&jpeg, &at, 1);
  }
  jpeg_finish_compress(&jpeg);
  std::string out(reinterpret_cast<char*>(bytes), size);
  jpeg_destroy_compress(&jpeg);
  std::free(bytes);
  return out;
}

TEST(DecodeImage, GivesThePixelsOfAPng) {
  const uint8_t rgb[] = {1, 2, 3, 40, 50, 60, 250, 251, 252, 0, 0, 255};
  const auto image = decode_image(png(PNG_FORMAT_RGB, 2, 2, rgb), "x");
  ASSERT_TRUE(image.has_value()) << image.error().message;
  EXPECT_EQ(image->height, 2);
  EXPECT_EQ(image->width, 2);
  EXPECT_THAT(image->rgb, ElementsAre(1, 2, 3, 40, 50, 60, 250, 251, 252, 0, 0, 255));
  // As other programs that want three colours, and with no background of ours behind them.
  const uint8_t rgba[] = {10, 20, 30, 128};
  EXPECT_THAT(decode_image(png(PNG_FORMAT_RGBA, 1, 1, rgba), "x")->rgb, ElementsAre(10, 20, 30));
  const uint8_t grey[] = {7};
  EXPECT_THAT(decode_image(png(PNG_FORMAT_GRAY, 1, 1, grey), "x")->rgb, ElementsAre(7, 7, 7));
}

TEST(DecodeImage, GivesThePixelsOfAJpeg) {
  const auto image = decode_image(grey_jpeg(16, 100), "x");
  ASSERT_TRUE(image.has_value()) << image.error().message;
  EXPECT_EQ(image->height, 16);
  EXPECT_EQ(image->rgb, std::vector<uint8_t>(16 * 16 * 3, 100));
}

TEST(DecodeImage, RefusesEveryFileThatWasCut) {
  const uint8_t rgb[12] = {};
  for (const std::string& whole : {png(PNG_FORMAT_RGB, 2, 2, rgb), grey_jpeg(16, 100)}) {
    for (size_t n = 0; n + 12 < whole.size(); ++n) {  // the last twelve bytes of a PNG say that it ends
      const auto cut = decode_image(whole.substr(0, n), "\"cut\"");
      ASSERT_FALSE(cut.has_value()) << n;
      EXPECT_THAT(cut.error().message, HasSubstr("\"cut\": "));
    }
  }
  EXPECT_THAT(decode_image("GIF89a", "\"x.gif\"").error().message, HasSubstr("neither a PNG nor a JPEG"));
}

}  // namespace
}  // namespace fovea::vision

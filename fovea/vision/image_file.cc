#include "fovea/vision/image_file.h"

#include <jerror.h>
#include <jpeglib.h>
#include <png.h>

#include <csetjmp>
#include <cstdio>  // jpeglib.h needs it

namespace fovea::vision {
namespace {

constexpr uint64_t kMaxSide = 16384, kMaxPixels = uint64_t{1} << 26;  // what a header of a few bytes may ask for

Status check_size(uint64_t width, uint64_t height, const std::string& name) {
  if (width > 0 && height > 0 && width <= kMaxSide && height <= kMaxSide && width * height <= kMaxPixels) return {};
  return make_error(ErrorCode::kData, "{}: a picture of {} x {} pixels; sides of 1 to {}, and {} in all, are read",
                    name, width, height, kMaxSide, kMaxPixels);
}

Result<Image> decode_png(std::string_view bytes, const std::string& name) {
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  const auto refused = [&] {
    const std::string why = png.message;
    png_image_free(&png);
    return make_error(ErrorCode::kData, "{}: {}", name, why);
  };
  if (!png_image_begin_read_from_memory(&png, bytes.data(), bytes.size())) return refused();
  if (const Status fits = check_size(png.width, png.height, name); !fits) {
    png_image_free(&png);
    return fits.error();
  }
  png.format = PNG_FORMAT_RGBA;  // without A libpng would lay the picture over a background
  png.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;
  std::vector<uint8_t> rgba(PNG_IMAGE_SIZE(png));
  Image out{png.height, png.width};
  if (!png_image_finish_read(&png, nullptr, rgba.data(), 0, nullptr)) return refused();
  out.rgb.resize(rgba.size() / 4 * 3);
  for (size_t i = 0; i < rgba.size() / 4; ++i) {
    for (size_t c = 0; c < 3; ++c) out.rgb[3 * i + c] = rgba[4 * i + c];
  }
  return out;
}

// libjpeg ends the program at an error unless it is jumped out of; nothing with a destructor may be made on the way.
struct JpegErrors {
  jpeg_error_mgr manager = {};
  std::jmp_buf back = {};
  char message[JMSG_LENGTH_MAX] = {};
};
void leave(j_common_ptr jpeg) {
  auto* errors = reinterpret_cast<JpegErrors*>(jpeg->err);
  jpeg->err->format_message(jpeg, errors->message);
  std::longjmp(errors->back, 1);
}
// Of a file that was cut libjpeg makes a picture with grey below, and warns: here it is an error.
void warned(j_common_ptr jpeg, int level) {
  if (level < 0 && jpeg->err->msg_code == JWRN_JPEG_EOF) leave(jpeg);
}

enum class Stage { kHeader, kPixels };
// False: `errors` has why.
bool read_jpeg(jpeg_decompress_struct& jpeg, JpegErrors& errors, Stage stage, Image& image) {
  if (setjmp(errors.back) != 0) return false;
  if (stage == Stage::kHeader) {
    jpeg_read_header(&jpeg, TRUE);
    return true;
  }
  jpeg.out_color_space = JCS_RGB;
  jpeg_start_decompress(&jpeg);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW row = image.rgb.data() + size_t{jpeg.output_scanline} * jpeg.output_width * 3;
    jpeg_read_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_decompress(&jpeg);
  return true;
}

Result<Image> decode_jpeg(std::string_view bytes, const std::string& name) {
  JpegErrors errors;
  jpeg_decompress_struct jpeg = {};
  jpeg.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = leave;
  errors.manager.emit_message = warned;
  jpeg_create_decompress(&jpeg);
  jpeg_mem_src(&jpeg, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  Image image;
  Status status;
  if (!read_jpeg(jpeg, errors, Stage::kHeader, image)) {
    status = make_error(ErrorCode::kData, "{}: {}", name, errors.message);
  } else if (status = check_size(jpeg.image_width, jpeg.image_height, name); status) {
    image = {jpeg.image_height, jpeg.image_width};
    image.rgb.resize(static_cast<size_t>(image.height * image.width) * 3);
    if (!read_jpeg(jpeg, errors, Stage::kPixels, image))
      status = make_error(ErrorCode::kData, "{}: {}", name, errors.message);
  }
  jpeg_destroy_decompress(&jpeg);
  if (!status) return status.error();
  return image;
}

}  // namespace

Result<Image> decode_image(std::string_view bytes, const std::string& name) {
  if (bytes.starts_with("\x89PNG\r\n\x1a\n")) return decode_png(bytes, name);
  if (bytes.starts_with("\xff\xd8\xff")) return decode_jpeg(bytes, name);
  return make_error(ErrorCode::kUnsupported, "{}: it is neither a PNG nor a JPEG file", name);
}

}  // namespace fovea::vision

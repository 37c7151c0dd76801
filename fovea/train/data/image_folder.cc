// {"image_folder": FOLDER}: PNG and JPEG files, as torchvision's ImageFolder has them: each folder in it is a class,
// and classes are numbered in the order of their names. Without folders the pictures have no labels. They are brought
// to the size that the net looks at: "fit": "crop" makes the shorter side fit and takes the middle, "stretch" makes
// both fit. Samples stand in an order that is drawn once, so that each part of them has all classes.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/tensor/ops/image/resize.h"
#include "fovea/train/data/data.h"
#include "fovea/vision/image_file.h"

namespace fovea::train {
namespace {

namespace fs = std::filesystem;

class ImageFolder final : public Data {
 public:
  ImageFolder(Settings& s, const Context& context) : context_(context) {
    const std::string top = s.text("image_folder", std::nullopt);
    stretch_ = s.one_of("fit", "crop", {"crop", "stretch"}) == "stretch";
    if (s.good() && context.channels == 0) s.wrong("image_folder", "is for nets that look at pictures");
    if (s.good() && context.channels != 1 && context.channels != 3)
      s.wrong("image_folder",
              fmt::format("has pictures of 3 channels or 1, and the net looks at {}", context.channels));
    if (s.good() && context.height == 0) s.wrong("image_folder", "is for nets that look at pictures of one size");
    if (!s.good()) return;
    if (const Status status = read(top, s); !status) s.refuse(status.error());
  }
  uint64_t size() const override { return pictures_.size(); }
  Sample sample(uint64_t index) const override {
    const Stored& stored = pictures_[index];
    auto picture = std::make_shared<Picture>();
    picture->channels = context_.channels, picture->height = context_.height, picture->width = context_.width;
    picture->label = stored.label;
    picture->pixels.reserve(stored.pixels.size());
    for (const uint8_t level : stored.pixels) picture->pixels.push_back(static_cast<float>(level) / 127.5f - 1);
    Sample out;
    out.picture = std::move(picture);
    return out;
  }
  std::string fingerprint() const override { return fingerprint_; }
  std::string summary() const override { return summary_; }

 private:
  struct Stored {
    int32_t label;
    std::vector<uint8_t> pixels;  // [channels, height, width]
  };

  static bool is_picture(const fs::path& path) {
    std::string end = path.extension().string();
    for (char& c : end) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return end == ".png" || end == ".jpg" || end == ".jpeg";
  }
  // What is in a folder, in the order of names; what begins with a dot is left out.
  static Result<std::vector<fs::path>> list(const fs::path& folder, bool folders) {
    std::vector<fs::path> out;
    std::error_code error;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      std::error_code unknown;  // a link that leads nowhere is neither
      if (it->path().filename().string().starts_with('.')) continue;
      if (folders ? it->is_directory(unknown) : it->is_regular_file(unknown) && is_picture(it->path()))
        out.push_back(it->path());
    }
    if (error) return make_error(ErrorCode::kNotFound, "{}: {}", quote(folder.string(), 4096), error.message());
    std::sort(out.begin(), out.end());
    return out;
  }

  Status read(const std::string& top, Settings& s) {
    FOVEA_ASSIGN_OR_RETURN(const std::vector<fs::path> classes, list(top, true));
    FOVEA_ASSIGN_OR_RETURN(std::vector<fs::path> files, list(top, false));
    std::vector<std::string> names;
    for (const fs::path& one : classes) names.push_back(quote(one.filename().string()));
    if (!classes.empty() && !files.empty()) {
      s.wrong("image_folder",
              fmt::format("has pictures beside the folders {}: are these classes?", fmt::join(names, ", ")));
      return {};
    }
    // Fewer would do to train, but not where those of another folder have to mean the same.
    if (context_.n_labels > 0 && static_cast<int64_t>(classes.size()) != context_.n_labels) {
      s.wrong("image_folder",
              fmt::format("has {}, and the net tells {} classes apart",
                          names.empty() ? "no folders, which are the classes"
                                        : fmt::format("{} folders, {}", names.size(), fmt::join(names, ", ")),
                          context_.n_labels));
      return {};
    }
    for (size_t k = 0; k < classes.size(); ++k) {
      FOVEA_ASSIGN_OR_RETURN(const std::vector<fs::path> own, list(classes[k], false));
      if (own.empty())
        return make_error(ErrorCode::kData, "{}: no .png, .jpg or .jpeg is in it", quote(classes[k].string(), 4096));
      for (const fs::path& file : own) FOVEA_RETURN_IF_ERROR(add(file, static_cast<int32_t>(k)));
    }
    for (const fs::path& file : files) FOVEA_RETURN_IF_ERROR(add(file, -1));
    if (pictures_.empty()) return make_error(ErrorCode::kData, "{}: no .png, .jpg or .jpeg is in it", quote(top, 4096));
    fingerprint_ += fmt::format("{}", fmt::join(names, ","));
    fingerprint_ = sha256_of(std::as_bytes(std::span<const char>(fingerprint_))) + (stretch_ ? ", stretched" : "");
    Rng rng(0);
    for (size_t k = pictures_.size(); k > 1; --k) std::swap(pictures_[k - 1], pictures_[rng.below(k)]);
    summary_ = fmt::format("{} pictures of {}{}", pictures_.size(), top,
                           names.empty() ? "" : fmt::format(" in the classes {}", fmt::join(names, ", ")));
    return {};
  }

  Status add(const fs::path& path, int32_t label) {
    FOVEA_ASSIGN_OR_RETURN(const std::string bytes, read_file(path.string()));
    FOVEA_ASSIGN_OR_RETURN(const vision::Image image, vision::decode_image(bytes, quote(path.string(), 4096)));
    fingerprint_ += fmt::format("{} {}\n", label, sha256_of(std::as_bytes(std::span<const char>(bytes))));
    pictures_.push_back({label, fitted(image)});
    return {};
  }

  std::vector<uint8_t> fitted(const vision::Image& image) const {
    const int64_t channels = context_.channels, height = context_.height, width = context_.width;
    tensor::Tensor x = tensor::Tensor::empty({1, channels, image.height, image.width});
    const int64_t n = image.height * image.width;
    for (int64_t i = 0; i < n; ++i) {
      const uint8_t* rgb = image.rgb.data() + 3 * i;
      if (channels == 1) {  // as Pillow's "L": ITU-R 601
        x.data()[i] = 0.299f * rgb[0] + 0.587f * rgb[1] + 0.114f * rgb[2];
      } else {
        for (int64_t c = 0; c < 3; ++c) x.data()[c * n + i] = rgb[c];
      }
    }
    tensor::HeightWidth to(height, width);
    if (!stretch_) {
      const double scale = std::max(static_cast<double>(height) / static_cast<double>(image.height),
                                    static_cast<double>(width) / static_cast<double>(image.width));
      to.h = std::max<int64_t>(height, std::llround(scale * static_cast<double>(image.height)));
      to.w = std::max<int64_t>(width, std::llround(scale * static_cast<double>(image.width)));
    }
    if (to.h != image.height || to.w != image.width)
      x = tensor::resize(x, to, {.filter = tensor::Filter::kLinear, .antialias = true});
    std::vector<uint8_t> out;
    out.reserve(static_cast<size_t>(channels * height * width));
    const int64_t top = (to.h - height) / 2, left = (to.w - width) / 2;
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t i = 0; i < height; ++i) {
        const float* row = x.data() + (c * to.h + top + i) * to.w + left;
        for (int64_t j = 0; j < width; ++j)
          out.push_back(static_cast<uint8_t>(std::lround(std::clamp(row[j], 0.0f, 255.0f))));
      }
    }
    return out;
  }

  Context context_;
  bool stretch_ = false;
  std::vector<Stored> pictures_;
  std::string fingerprint_, summary_;
};
FOVEA_TRAIN_PART(Data, "image_folder", ImageFolder);

}  // namespace
}  // namespace fovea::train

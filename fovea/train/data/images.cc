// {"images": FILE}: pictures of a .npy file [n, channels, height, width], of float32 as they are, or of uint8, of which
// 0 to 255 become -1 to 1; with "labels" [n], "captions" [n, words] of ids, and what a denoising net should find
// instead of what it would draw: "noise", like the images, and "times" [n].
#include <fmt/ranges.h>

#include <cmath>
#include <filesystem>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/npy.h"
#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

class Images final : public Data {
 public:
  Images(Settings& s, const Context& context) { read(s, context); }
  uint64_t size() const override { return samples_.size(); }
  Sample sample(uint64_t index) const override { return samples_[index]; }
  std::string fingerprint() const override { return fingerprint_; }
  std::string summary() const override { return summary_; }

 private:
  static constexpr uint64_t kMaxBytes = uint64_t{1} << 36;

  std::string bytes_of(Settings& s, std::string_view key) {
    const std::string path = s.text(key, "");
    if (!s.good() || path.empty()) return {};
    if (std::error_code error; std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error)) {
      const bool folder = key == "images" && std::filesystem::is_directory(path, error);
      s.wrong(key, fmt::format("is {}, which is no regular file{}", quote(path, 4096),
                               folder ? "; of a folder with pictures, \"image_folder\" is the key" : ""));
      return {};
    }
    auto bytes = read_file(path, kMaxBytes);
    if (!bytes) {
      s.refuse(bytes.error());
      return {};
    }
    fingerprint_ += sha256_of(std::as_bytes(std::span<const char>(*bytes)));
    return std::move(*bytes);
  }
  static std::string name_of(Settings& s, std::string_view key) {
    return fmt::format("{} {}", s.path_of(key), quote(s.text(key, ""), 4096));
  }
  NpyFloats floats(Settings& s, std::string_view key) {
    const std::string bytes = bytes_of(s, key);
    if (!s.good() || bytes.empty()) return {};
    auto read = parse_npy_floats(bytes, name_of(s, key));
    if (!read) {
      s.refuse(read.error());
      return {};
    }
    for (size_t i = 0; i < read->values.size(); ++i) {
      if (std::isfinite(read->values[i])) continue;
      std::vector<size_t> at;
      for (size_t d = read->dims.size(), rest = i; d > 0; --d) {
        at.insert(at.begin(), rest % static_cast<size_t>(read->dims[d - 1]));
        rest /= static_cast<size_t>(read->dims[d - 1]);
      }
      s.refuse(make_error(ErrorCode::kData, "{}: {} stands at [{}]; numbers that are finite in float32 are needed",
                          name_of(s, key), read->values[i], fmt::join(at, ", ")));
      return {};
    }
    return std::move(*read);
  }
  std::vector<int64_t> integers(Settings& s, std::string_view key, int64_t n, int64_t below, const char* of) {
    const std::string bytes = bytes_of(s, key);
    if (!s.good() || bytes.empty()) return {};
    auto read = parse_npy_integers(bytes, name_of(s, key));
    if (!read) {
      s.refuse(read.error());
      return {};
    }
    if (static_cast<int64_t>(read->size()) != n)
      s.wrong(key, fmt::format("has {} numbers for {} images", read->size(), n));
    for (size_t i = 0; i < read->size() && s.good(); ++i) {
      if ((*read)[i] < 0 || (*read)[i] >= below)
        s.wrong(key, fmt::format("has {} at {}; {} are below {}", (*read)[i], i, of, below));
    }
    return std::move(*read);
  }

  void read(Settings& s, const Context& context) {
    NpyFloats images = floats(s, "images");
    if (images.of_bytes) {
      for (float& level : images.values) level = level / 127.5f - 1;
    }
    if (!s.good()) return;
    if (images.dims.size() != 4 || images.values.empty())
      return s.wrong("images", "is no array [n, channels, height, width]");
    const int64_t n = images.dims[0];
    const size_t size = images.values.size() / static_cast<size_t>(n);
    const NpyFloats noise = floats(s, "noise"), captions = floats(s, "captions");
    const int64_t labels_below = context.n_labels > 0 ? context.n_labels : INT32_MAX;
    const auto labels = integers(s, "labels", n, labels_below, "labels");
    const auto times = integers(s, "times", n, 1000, "steps of the schedule");
    if (!s.good()) return;
    if (!noise.values.empty() && noise.dims != images.dims) return s.wrong("noise", "has not the shape of the images");
    if (!captions.values.empty() && (captions.dims.size() != 2 || captions.dims[0] != n))
      return s.wrong("captions", "is no array [n, words]");
    const size_t words = captions.values.size() / static_cast<size_t>(n);
    if (static_cast<int64_t>(words) > context.context)
      return s.wrong("captions", fmt::format("are of {} words; the context is {}", words, context.context));
    for (const float id : captions.values) {
      if (id < 0 || static_cast<int64_t>(id) >= std::max<int64_t>(1, context.vocab_size))
        return s.wrong("captions", fmt::format("has the id {}; the vocabulary has {}", id, context.vocab_size));
      if (id != std::floor(id)) return s.wrong("captions", fmt::format("has {}; ids are whole numbers", id));
    }
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      auto picture = std::make_shared<Picture>();
      picture->channels = images.dims[1], picture->height = images.dims[2], picture->width = images.dims[3];
      const auto part = [i](const std::vector<float>& all, size_t count) {
        return std::vector<float>(all.data() + i * count, all.data() + (i + 1) * count);
      };
      picture->pixels = part(images.values, size);
      if (!noise.values.empty()) picture->noise = part(noise.values, size);
      if (!labels.empty()) picture->label = static_cast<int32_t>(labels[i]);
      if (!times.empty()) picture->time = static_cast<int32_t>(times[i]);
      Sample sample;
      for (size_t k = i * words; k < (i + 1) * words; ++k)
        sample.tokens.push_back(static_cast<int32_t>(captions.values[k]));
      sample.targets.assign(sample.tokens.size(), kNoTarget);
      sample.picture = std::move(picture);
      samples_.push_back(std::move(sample));
    }
    summary_ = fmt::format("{} images of {} x {}", n, images.dims[2], images.dims[3]);
  }

  std::vector<Sample> samples_;
  std::string fingerprint_, summary_;
};
FOVEA_TRAIN_PART(Data, "images", Images);

}  // namespace
}  // namespace fovea::train

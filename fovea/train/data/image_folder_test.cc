#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <png.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "fovea/base/file.h"
#include "fovea/train/data/data.h"

namespace fovea::train {
namespace image_folder_test {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

class ImageFolderOf : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/pictures-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  // A PNG file of one grey, but for a column on the left.
  void picture(const std::string& name, uint32_t width, uint32_t height, uint8_t level, uint8_t left) const {
    fs::create_directories(fs::path(folder_ + "/" + name).parent_path());
    std::vector<uint8_t> pixels(size_t{width} * height, level);
    for (size_t y = 0; y < height; ++y) pixels[y * width] = left;
    png_image image = {};
    image.version = PNG_IMAGE_VERSION, image.format = PNG_FORMAT_GRAY, image.width = width, image.height = height;
    ASSERT_TRUE(png_image_write_to_file(&image, (folder_ + "/" + name).c_str(), 0, pixels.data(), 0, nullptr));
  }
  std::unique_ptr<Data> open(Data::Context context, Json more = Json::object()) {
    more["image_folder"] = folder_;
    Settings settings(more, "data");
    auto data = make_data(settings, context);
    const Status end = settings.finish();
    error_ = end ? "" : end.error().message;
    return data;
  }
  static Data::Context net(int64_t n_labels, int64_t channels = 3, int64_t size = 2) {
    return {.context = 8, .n_labels = n_labels, .channels = channels, .height = size, .width = size};
  }
  std::string folder_, error_;
};

TEST_F(ImageFolderOf, NumbersItsFoldersInTheOrderOfTheirNames) {
  picture("dog/b.png", 2, 2, 255, 255);
  picture("cat/a.PNG", 2, 2, 0, 0);
  ASSERT_TRUE(write_file_atomic(folder_ + "/dog/notes.txt", "no picture").has_value());
  const auto data = open(net(2));
  ASSERT_EQ(error_, "");
  ASSERT_EQ(data->size(), 2u);
  for (uint64_t i = 0; i < 2; ++i) {
    const Sample sample = data->sample(i);
    EXPECT_THAT(sample.tokens, ElementsAre());
    ASSERT_EQ(sample.picture->pixels.size(), 12u);
    EXPECT_EQ(sample.picture->pixels[0], sample.picture->label == 1 ? 1 : -1);
  }
  EXPECT_NE(data->sample(0).picture->label, data->sample(1).picture->label);
  EXPECT_THAT(data->summary(), HasSubstr("2 pictures"));
  EXPECT_THAT(data->summary(), HasSubstr("\"cat\", \"dog\""));
  const std::string before = data->fingerprint();
  fs::rename(folder_ + "/cat", folder_ + "/eel");
  EXPECT_NE(open(net(2))->fingerprint(), before);
}

TEST_F(ImageFolderOf, HasAllClassesInItsFirstPart) {
  for (int i = 0; i < 40; ++i) picture((i < 20 ? "a/" : "b/") + std::to_string(i) + ".png", 2, 2, 0, 0);
  const auto data = open(net(2));
  ASSERT_EQ(error_, "");
  int ones = 0;
  for (uint64_t i = 0; i < 20; ++i) ones += data->sample(i).picture->label;
  EXPECT_GT(ones, 4);
  EXPECT_LT(ones, 16);
}

TEST_F(ImageFolderOf, TakesTheMiddleOrStretchesToTheSizeOfTheNet) {
  picture("a.png", 6, 2, 0, 255);  // the column is outside the middle
  const auto cropped = open(net(0, 1));
  ASSERT_EQ(error_, "");
  EXPECT_THAT(cropped->sample(0).picture->pixels, ElementsAre(-1, -1, -1, -1));
  EXPECT_EQ(cropped->sample(0).picture->label, -1);
  const auto stretched = open(net(0, 1), {{"fit", "stretch"}});
  ASSERT_EQ(error_, "");
  EXPECT_GT(stretched->sample(0).picture->pixels[0], -0.9f);
  EXPECT_EQ(stretched->sample(0).picture->pixels[1], -1);
  picture("a.png", 4, 4, 100, 100);
  EXPECT_FLOAT_EQ(open(net(0, 1))->sample(0).picture->pixels[3], 100 / 127.5f - 1);
}

TEST_F(ImageFolderOf, RefusesWhatIsNoSuchFolder) {
  const auto error = [&](const Data::Context& context) {
    (void)open(context);
    return error_;
  };
  EXPECT_THAT(error(net(0)), HasSubstr("no .png, .jpg or .jpeg is in it"));
  picture("a.png", 2, 2, 0, 0);
  EXPECT_THAT(error(net(3)), HasSubstr("no folders, which are the classes, and the net tells 3 classes apart"));
  EXPECT_THAT(error({.context = 8}), HasSubstr("nets that look at pictures"));
  EXPECT_THAT(error(net(0, 4)), HasSubstr("the net looks at 4"));
  picture("b/a.png", 2, 2, 0, 0);
  EXPECT_THAT(error(net(1)), HasSubstr("pictures beside the folders \"b\""));
  fs::remove(folder_ + "/a.png");
  EXPECT_EQ(error(net(1)), "");
  EXPECT_THAT(error(net(2)), HasSubstr("has 1 folders, \"b\", and the net tells 2 classes apart"));
  ASSERT_TRUE(write_file_atomic(folder_ + "/b/bad.jpg", "GIF89a").has_value());
  EXPECT_THAT(error(net(1)), HasSubstr("bad.jpg\": it is neither a PNG nor a JPEG"));
  fs::remove_all(folder_);
  EXPECT_THAT(error(net(1)), HasSubstr("No such file or directory"));
  fs::create_directories(folder_);
}

}  // namespace image_folder_test
}  // namespace fovea::train

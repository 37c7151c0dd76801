#include "fovea/train/trained_net.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "fovea/base/file.h"
#include "fovea/base/file_writer.h"
#include "fovea/train/loop.h"

namespace fovea::train {
namespace trained_net_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;
using tensor::Tensor;

class TrainedNets : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/trained-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string made(const Json& model, const Json& data, int context = 0) {
    Json config = {{"model", model}, {"data", data}, {"steps", 1}, {"batch", 2}, {"out", folder_ + "/run"}};
    if (context > 0) config["context"] = context;
    const std::string path = folder_ + "/config.json";
    EXPECT_TRUE(write_file_atomic(path, config.dump()).has_value());
    const auto trained = fovea::train::train(path, {.restart = true});
    EXPECT_TRUE(trained.has_value()) << trained.error().message;
    return trained->model;
  }
  std::string vit() {
    return made(
        {{"net", "vit"}, {"size", 16}, {"patch", 8}, {"classes", 6}, {"d_model", 16}, {"n_layers", 2}, {"n_heads", 2}},
        {{"generator", "scenes"}, {"size", 16}});
  }
  std::string folder_;
};

std::vector<Tensor> values(const std::string& folder, const std::vector<std::string>& hooks, int64_t n = 1,
                           const std::string& attention = "dense") {
  const auto opened = open_net(folder, "");
  EXPECT_TRUE(opened.has_value()) << opened.error().message;
  const auto captured = capture(*opened, hooks, n, attention, 0, nullptr);
  EXPECT_TRUE(captured.has_value()) << captured.error().message;
  std::vector<Tensor> out;
  for (const auto& [name, value] : *captured) out.push_back(value);
  return out;
}

TEST_F(TrainedNets, ShowTheirPatternAndWhatItGives) {
  const auto found = values(vit(), {"blocks.1.attn.hook_pattern", "blocks.1.attn.hook_v", "blocks.1.attn.hook_z"}, 3);
  const Tensor &pattern = found[0], &v = found[1], &z = found[2];  // [3, 2, 5, 5], [3, 5, 2, 8] both
  ASSERT_EQ(pattern.shape(), (tensor::Shape{3, 2, 5, 5}));
  ASSERT_EQ(z.shape(), (tensor::Shape{3, 5, 2, 8}));
  for (int64_t s = 0; s < 3; ++s) {
    for (int64_t h = 0; h < 2; ++h) {
      for (int64_t i = 0; i < 5; ++i) {
        for (int64_t d = 0; d < 8; ++d) {
          double sum = 0;
          for (int64_t j = 0; j < 5; ++j)
            sum += double{pattern.data()[((s * 2 + h) * 5 + i) * 5 + j]} * v.data()[((s * 5 + j) * 2 + h) * 8 + d];
          ASSERT_NEAR(z.data()[((s * 5 + i) * 2 + h) * 8 + d], sum, 1e-5);
        }
      }
    }
  }
}

TEST_F(TrainedNets, AttentionFromElsewhereShowsRowsAndOddWidthsDoNot) {
  const auto narrow = made(
      {{"net", "vit"}, {"size", 16}, {"patch", 8}, {"classes", 6}, {"d_model", 12}, {"n_layers", 1}, {"n_heads", 2}},
      {{"generator", "scenes"}, {"size", 16}});
  EXPECT_EQ(values(narrow, {"blocks.0.attn.hook_z"})[0].shape(), (tensor::Shape{1, 5, 2, 6}));
  EXPECT_THAT(capture(*open_net(narrow, ""), {"blocks.0.attn.hook_pattern"}, 1, "dense", 0, nullptr).error().message,
              HasSubstr("6 wide"));
  const auto unet = made({{"net", "unet"}, {"size", 16}, {"width", 8}, {"n_heads", 2}, {"vocab_size", 17}},
                         {{"generator", "scenes"}, {"size", 16}}, 16);
  EXPECT_EQ(values(unet, {"unet.low.attn2.hook_pattern"}, 2)[0].dim(1), 2);
}

TEST_F(TrainedNets, MethodsActOnThem) {
  const std::string folder = vit();
  const Tensor z = values(folder, {"blocks.0.attn.hook_z"}, 1, "scale:value=0:heads=0.1")[0];
  for (int64_t i = 0; i < 5; ++i) {
    for (int64_t d = 0; d < 8; ++d) {
      EXPECT_NE(z.data()[(i * 2 + 0) * 8 + d], 0);
      EXPECT_EQ(z.data()[(i * 2 + 1) * 8 + d], 0);
    }
  }
}

TEST_F(TrainedNets, WhatIsWrongIsSaid) {
  const std::string folder = vit();
  EXPECT_TRUE(is_net_folder(folder));
  EXPECT_FALSE(is_net_folder(folder_));
  const auto opened = open_net(folder, "");
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  EXPECT_THAT(capture(*opened, {"blocks.9.attn.hook_z"}, 1, "dense", 0, nullptr).error().message,
              HasSubstr("2 layers"));
  EXPECT_THAT(capture(*opened, {}, 1, "dense", 0, nullptr).error().message, HasSubstr("no hook was named"));
  EXPECT_EQ(capture(*opened, {"blocks.0.attn.hook_z"}, 2, "dense", 400, nullptr).error().code, ErrorCode::kLimit);
  EXPECT_THAT(capture(*opened, {"blocks.0.attn.hook_z"}, 1, "scal", 0, nullptr).error().message, HasSubstr("scale"));
  const auto wrong_data = open_net(folder, R"({"generator": "scenes", "size": 32})");
  ASSERT_TRUE(wrong_data.has_value()) << wrong_data.error().message;
  EXPECT_THAT(capture(*wrong_data, {"blocks.0.attn.hook_z"}, 1, "dense", 0, nullptr).error().message,
              HasSubstr("3 x 32 x 32"));
  EXPECT_THAT(open_net(folder, "{").error().message, HasSubstr("--data"));
  std::error_code error;
  fs::resize_file(folder + "/model.safetensors", 100, error);
  EXPECT_EQ(open_net(folder, "").error().code, ErrorCode::kData);
  EXPECT_THAT(open_net(folder, "").error().message, ::testing::StartsWith("\"" + folder));  // quoted once
  fs::remove(folder + "/model.safetensors", error);
  EXPECT_EQ(open_net(folder).error().code, ErrorCode::kNotFound);
}

}  // namespace trained_net_test
}  // namespace fovea::train

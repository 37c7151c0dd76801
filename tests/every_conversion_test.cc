// Every tiny model of tests/data as GGUF and back as a folder: the same tensors bit for bit, and the same answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // mkdtemp

#include <filesystem>
#include <map>

#include "fovea/engine/convert/convert.h"
#include "fovea/engine/embedder.h"
#include "fovea/engine/testing/golden.h"
#include "fovea/formats/gguf.h"
#include "fovea/kernels/matmul.h"

namespace fovea::engine {
namespace every_conversion_test {

namespace fs = std::filesystem;

struct Stored {
  std::vector<int64_t> dims;
  kernels::DType dtype;
  std::string bytes;
  bool operator==(const Stored&) const = default;
};
std::map<std::string, Stored> tensors_of(const std::string& path) {
  const auto source = formats::open_model(path);
  EXPECT_TRUE(source.has_value()) << source.error().message;
  std::map<std::string, Stored> out;
  if (!source) return out;
  for (const formats::TensorInfo& t : (*source)->tensors())
    out[t.name] = {t.dims, t.dtype, {reinterpret_cast<const char*>(t.data.data()), t.data.size()}};
  return out;
}

class EveryConversion : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/convert-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  void TearDown() override { fs::remove_all(root_); }
  std::string folder() const { return test_data(GetParam()); }
  std::string path(const std::string& name) const { return root_ + "/" + name; }

  static void convert(const std::string& in, const std::string& out) {
    const auto source = formats::open_model(in);
    ASSERT_TRUE(source.has_value()) << source.error().message;
    const auto conversion = Conversion::plan(*source);
    ASSERT_TRUE(conversion.has_value()) << conversion.error().message;
    if ((*conversion)->to_folder()) {
      const auto written = (*conversion)->write_folder(out, {});
      ASSERT_TRUE(written.has_value()) << written.error().message;
      return;
    }
    auto file = FileWriter::create(out);
    ASSERT_TRUE(file.has_value()) << file.error().message;
    const auto written = (*conversion)->write_gguf(std::move(*file), {});
    ASSERT_TRUE(written.has_value()) << written.error().message;
    EXPECT_EQ(*written, fs::file_size(out));
  }
  // Logits of every token; of an encoder the vectors of the text and of its first half.
  static Rows answers(const std::string& path, const std::vector<int32_t>& ids) {
    const auto model = load_model(path);
    if (!model) return {};
    SessionOptions options{.numerics = kernels::Numerics::kExact};
    if (!model->family().makes_text()) {
      const auto session = make_session(model, options);
      auto embedder = Embedder::create(*session, {.pooling = Pooling::kMean, .normalize = false});
      EXPECT_TRUE(embedder.has_value()) << embedder.error().message;
      if (!embedder) return {};
      const auto vectors = embedder->embed(
          std::vector<std::vector<int32_t>>{ids, {ids.begin(), ids.begin() + static_cast<long>(ids.size() / 2)}});
      EXPECT_TRUE(vectors.has_value()) << vectors.error().message;
      return vectors ? Rows{*vectors} : Rows{};
    }
    if (model->config().short_context < static_cast<int>(ids.size())) options.n_ctx = model->shape().n_ctx;
    const auto session = make_session(model, options);
    return prefill(*session, session->begin(), ids);
  }
  std::string root_;
};

std::vector<std::string> folders() {
  std::vector<std::string> all = {"tiny-llama-hf", "tiny-qwen2-hf"};
  for (const char* kind : {"families/", "encoders/"}) {
    for (const std::string& name : test_folders(kind)) all.push_back(kind + name);
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Folders, EveryConversion, ::testing::ValuesIn(folders()), [](const auto& test) {
  std::string name = test_name(test.param);
  std::replace(name.begin(), name.end(), '/', '_');
  return name;
});

TEST_P(EveryConversion, AsGgufAndBackItHasTheSameTensors) {
  convert(folder(), path("m.gguf"));
  convert(path("m.gguf"), path("m"));
  const auto before = tensors_of(folder()), after = tensors_of(path("m"));
  ASSERT_FALSE(before.empty());
  for (const auto& [name, tensor] : before) {
    const auto it = after.find(name);
    ASSERT_TRUE(it != after.end()) << name;
    EXPECT_EQ(it->second.dims, tensor.dims) << name;
    EXPECT_EQ(it->second.dtype, tensor.dtype) << name;
    EXPECT_TRUE(it->second.bytes == tensor.bytes) << name;
  }
  EXPECT_EQ(before.size(), after.size());
}

TEST_P(EveryConversion, EitherFormAnswersAlike) {
  convert(folder(), path("m.gguf"));
  convert(path("m.gguf"), path("m"));
  const std::string golden = folder() + "/golden.json";
  std::vector<int32_t> ids = {1, 17, 40, 41, 42, 9, 3, 80, 17, 40};
  if (fs::exists(golden)) {
    const auto json = read_json_file(golden);
    if (json.contains("ids") && json["ids"][0].is_number()) ids = json["ids"].get<std::vector<int32_t>>();
  }
  const Rows want = answers(folder(), ids);
  ASSERT_FALSE(want.empty());
  EXPECT_EQ(answers(path("m"), ids), want);
  const Rows gguf = answers(path("m.gguf"), ids);
  ASSERT_EQ(gguf.size(), want.size());
  // Where GGUF pairs the rows of q and k otherwise, their products are summed in another order.
  double worst = 0;
  for (size_t row = 0; row < want.size(); ++row) {
    for (size_t i = 0; i < want[row].size(); ++i)
      worst = std::max(worst, std::abs(static_cast<double>(gguf[row][i]) - static_cast<double>(want[row][i])));
  }
  RecordProperty("worst", std::to_string(worst));
  EXPECT_LT(worst, 2e-5);
}

}  // namespace every_conversion_test
}  // namespace fovea::engine

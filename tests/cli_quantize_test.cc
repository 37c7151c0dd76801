// fovea quantize and fovea importance.
#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_quantize_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Json = nlohmann::json;

class Quantize : public Cli {
 protected:
  Json made(const std::string& type, const std::vector<std::string>& more = {}) {
    std::vector<std::string> args = {"quantize", kTiny, path(type + ".gguf"), "--type", type, "--json", "-q"};
    args.insert(args.end(), more.begin(), more.end());
    return json(args);
  }
  std::string logits_of(const std::string& model) {
    const std::string to = path("logits.npy");
    EXPECT_EQ(run({"logits", "-m", model, "the cat sat on the", "--numerics", "exact", "-o", to, "-q"}).code, 0);
    return read_file(to).value();
  }
  size_t n_files() const {
    return static_cast<size_t>(
        std::distance(fs::recursive_directory_iterator(root_), fs::recursive_directory_iterator()));
  }
};

TEST_F(Quantize, EveryTypeRunsAndIsAsLargeAsItSays) {
  for (const char* type : {"f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k", "q3_k", "q4_k", "q5_k",
                           "q6_k", "iq4_nl", "iq4_xs", "mxfp4", "tq2_0"}) {
    const Json out = made(type);
    EXPECT_EQ(out["path"], path(std::string(type) + ".gguf"));
    EXPECT_EQ(out["type"], type);
    EXPECT_EQ(out["bytes"], fs::file_size(path(std::string(type) + ".gguf"))) << type;
    EXPECT_GT(out["bytes_in"], 0);
    EXPECT_TRUE(out["kl"].is_null());
    EXPECT_EQ(json({"check", path(std::string(type) + ".gguf"), "--strict", "--json"})["ok"], true) << type;
    EXPECT_EQ(run({"run", "-m", path(std::string(type) + ".gguf"), "the cat", "-n", "3", "-q"}).code, 0) << type;
  }
}

TEST_F(Quantize, Float32HoldsTheSameModel) {
  made("f32");
  EXPECT_EQ(logits_of(path("f32.gguf")), logits_of(kTiny));
  const Json kl = made("q8_0", {"-f", file("t.txt", std::string(3000, 'a') + " cat"), "-c", "64"});
  EXPECT_GT(kl["kl"], 0);
  EXPECT_LT(kl["kl"], 0.01);
}

TEST_F(Quantize, TheFileThatIsReadIsNotWrittenUnderAnyName) {
  const std::string model = path("model.gguf");
  fs::copy_file(kTiny, model);
  fs::create_symlink("model.gguf", path("link.gguf"));
  for (const std::string& out : {model, path("link.gguf")})
    EXPECT_THAT(fails(2, {"quantize", model, out, "--type", "q8_0"}), HasSubstr("is being read"));
  EXPECT_EQ(read_file(model).value(), read_file(kTiny).value());
  EXPECT_EQ(n_files(), 4u) << "besides the two: out and err";
}

TEST_F(Quantize, WhatCannotBeMadeIsRefusedAndLeavesNothing) {
  const std::string out = path("x.gguf");
  EXPECT_THAT(fails(2, {"quantize", kTiny, out, "--type", "q9_x"}), HasSubstr("iq4_nl"));
  EXPECT_THAT(fails(2, {"quantize", kTiny, out, "--type", "q8_k"}), HasSubstr("q8_k"));
  EXPECT_THAT(fails(66, {"quantize", kTiny, path("no/x.gguf"), "--type", "q8_0"}), HasSubstr("no folder"));
  EXPECT_THAT(fails(65, {"quantize", kTiny, out, "--type", "q4_0", "--importance", kTiny}), HasSubstr("importance"));
  EXPECT_THAT(fails(65, {"quantize", file("bad", "not a model"), out, "--type", "q4_0"}), HasSubstr("not a model"));
  const Ended full = shell("ulimit -f 20; \"$FOVEA\" quantize \"$M\" \"$D/x.gguf\" --type f32 -q");
  EXPECT_EQ(full.code, 74) << full.err;
  EXPECT_FALSE(fs::exists(out));
  const Json dry = made("q4_0", {"--dry-run"});
  EXPECT_EQ(dry["dry_run"], true);
  EXPECT_GT(dry["bytes"], 0);
  EXPECT_FALSE(fs::exists(path("q4_0.gguf")));
  for (const auto& entry : fs::recursive_directory_iterator(root_))
    EXPECT_EQ(entry.path().string().find(".part-"), std::string::npos) << entry.path();
  const Ended loaded = shell("ulimit -f 20; \"$FOVEA\" run -m \"$M\" x -n 1 --quantize f32 -q");
  EXPECT_EQ(loaded.code, 74) << loaded.err;
  EXPECT_THAT(loaded.err, HasSubstr("tiny-llama.gguf in memory\": cannot write"));
}

TEST_F(Quantize, NoFileOfTheFolderThatIsReadIsWrittenOver) {
  fs::copy(source_dir() + "/tests/data/tiny-llama-hf", path("hf"));
  for (const char* name : {"model.safetensors", "config.json", "tokenizer.json", "new.gguf"})
    EXPECT_THAT(fails(2, {"quantize", path("hf"), path(std::string("hf/") + name), "--type", "q8_0"}),
                HasSubstr("is being read"));
  EXPECT_EQ(run({"quantize", path("hf"), path("new.gguf"), "--type", "q8_0", "-q"}).code, 0);
}

TEST_F(Quantize, ImportanceOfATextChangesTheCodes) {
  const std::string weights = path("m.imatrix");
  std::string words;
  for (int i = 0; i < 200; ++i) words += "the cat sat on mat " + std::to_string(i) + ". ";
  const Json out =
      json({"importance", "-m", kTiny, "-f", file("t.txt", words), "-c", "64", "-o", weights, "--json", "-q"});
  EXPECT_EQ(out["path"], weights);
  EXPECT_GT(out["n_tokens"], 64);
  EXPECT_GT(out["n_tensors"], 10);
  made("q4_0");
  const std::string without = read_file(path("q4_0.gguf")).value();
  const std::string kept = read_file(weights).value();
  for (const auto& more : {std::vector<std::string>{weights, "--type", "q4_0", "--importance", weights},
                           {path("t.txt"), "--type", "q4_0", "-f", path("t.txt")}}) {
    std::vector<std::string> args = {"quantize", kTiny};
    args.insert(args.end(), more.begin(), more.end());
    EXPECT_THAT(fails(2, args), HasSubstr("is being read"));
  }
  EXPECT_THAT(fails(2, {"importance", "-m", kTiny, "-f", path("t.txt"), "-o", path("t.txt")}),
              HasSubstr("is being read"));
  EXPECT_THAT(fails(2, {"importance", "-m", kTiny, "-f", path("t.txt"), "-o", path("c"), "-c", "3"}),
              HasSubstr("--ctx-size"));
  EXPECT_EQ(read_file(weights).value(), kept);
  EXPECT_EQ(read_file(path("t.txt")).value(), words);
  const Json weighted = made("q4_0", {"--importance", weights});
  EXPECT_GT(weighted["n_weighted"], 10) << weighted;
  const std::string with = read_file(path("q4_0.gguf")).value();
  EXPECT_EQ(with.size(), without.size());
  EXPECT_NE(with, without);
  const Json again =
      json({"importance", "-m", kTiny, "-f", path("t.txt"), "-c", "64", "-o", path("b"), "--json", "-q", "-t", "1"});
  EXPECT_EQ(read_file(path("b")).value(), read_file(weights).value()) << again;
}

}  // namespace cli_quantize_test
}  // namespace fovea

// fovea convert, and --quantize at load.
#include <fstream>

#include "fovea/formats/importance.h"
#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_convert_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Json = nlohmann::json;

class Convert : public Cli {
 protected:
  static std::string tiny(const std::string& name) { return source_dir() + "/tests/data/" + name; }
  std::string logits_of(const std::vector<std::string>& model) {
    const std::string to = path("logits.npy");
    std::vector<std::string> args = {"logits", "the cat sat on the", "-o", to, "-q", "-m"};
    args.insert(args.end(), model.begin(), model.end());
    const Ended ended = run(args);
    EXPECT_EQ(ended.code, 0) << ended.err;
    return read_file(to).value();
  }
  Json tokens_of(const std::string& model, const std::string& text) {
    return json({"tokenize", "-m", model, text, "--json"})["tokens"];
  }
  std::vector<std::string> leftovers() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(root_)) {
      const std::string name = entry.path().filename().string();
      if (name.find(".part") != name.npos || name.find(".old") != name.npos) names.push_back(name);
    }
    return names;
  }
};

TEST_F(Convert, AFolderBecomesAFileAndAFolderAgain) {
  const std::string file = path("m.gguf"), folder = path("m");
  const Json out = json({"convert", tiny("tiny-llama-hf"), file, "--json", "-q"});
  EXPECT_EQ(out["path"], file);
  EXPECT_EQ(out["n_tensors"], 21);
  EXPECT_EQ(out["bytes"], fs::file_size(file));
  EXPECT_EQ(json({"check", file, "--strict", "--json"})["ok"], true);
  const Json back = json({"convert", file, folder, "--json", "-q"});
  EXPECT_EQ(back["n_tensors"], 21);
  EXPECT_EQ(json({"check", folder, "--json"})["ok"], true);
  EXPECT_EQ(logits_of({folder}), logits_of({tiny("tiny-llama-hf")}));
  const std::string text = "Hello, naive caf\xC3\xA9 1234 times; it's\n\n  fine <|im_end|> \xE4\xBD\xA0\xE5\xA5\xBD";
  EXPECT_EQ(tokens_of(file, text), tokens_of(tiny("tiny-llama-hf"), text));
  EXPECT_EQ(tokens_of(folder, text), tokens_of(tiny("tiny-llama-hf"), text));
  EXPECT_EQ(json({"show", folder, "--json"})["chat_template"],
            json({"show", tiny("tiny-llama-hf"), "--json"})["chat_template"]);
  // The model that was there is replaced.
  EXPECT_EQ(run({"convert", file, folder, "-q"}).code, 0);
  EXPECT_THAT(leftovers(), ::testing::IsEmpty());
}

TEST_F(Convert, TheTinyFileBecomesAFolder) {
  ASSERT_EQ(run({"convert", kTiny, path("m"), "-q"}).code, 0);
  EXPECT_EQ(tokens_of(path("m"), "the cat sat 12 times"), tokens_of(kTiny, "the cat sat 12 times"));
  ASSERT_EQ(run({"convert", path("m"), path("again.gguf"), "-q"}).code, 0);
  ASSERT_EQ(run({"quantize", kTiny, path("f32.gguf"), "--type", "f32", "-q"}).code, 0);
  EXPECT_EQ(logits_of({path("again.gguf"), "--numerics", "exact"}),
            logits_of({path("f32.gguf"), "--numerics", "exact"}));
}

// Classes of transformers take other values than readers of GGUF for keys that a file does not have.
TEST_F(Convert, AFolderSaysWhatAFileLeavesUnsaid) {
  const auto config_without = [&](const std::string& family, const std::string& key, const std::string& as) {
    EXPECT_EQ(run({"convert", tiny("families/" + family), path("m.gguf"), "-q"}).code, 0);
    std::string bytes = read_file(path("m.gguf")).value();
    const size_t at = bytes.find(key);
    EXPECT_NE(at, std::string::npos) << key;
    if (at == std::string::npos) return Json();
    std::ofstream(path("m.gguf"), std::ios::binary) << bytes.replace(at, as.size(), as);
    EXPECT_EQ(run({"convert", path("m.gguf"), path(family), "-q"}).code, 0);
    return Json::parse(read_file(path(family) + "/config.json").value());
  };
  EXPECT_EQ(config_without("gemma3", "gemma3.query_pre_attn_scalar", "general.")["query_pre_attn_scalar"], 32);
  EXPECT_EQ(config_without("granite", "granite.attention.scale", "general")["attention_multiplier"], 0.25);
}

TEST_F(Convert, DryRunWritesNothing) {
  const Json out = json({"convert", tiny("tiny-llama-hf"), path("m.gguf"), "--json", "--dry-run"});
  EXPECT_EQ(out["dry_run"], true);
  EXPECT_GT(out["bytes"], 100'000);
  EXPECT_FALSE(fs::exists(path("m.gguf")));
  json({"convert", kTiny, path("m"), "--json", "--dry-run"});
  EXPECT_FALSE(fs::exists(path("m")));
}

TEST_F(Convert, WhatCannotBeIsRefusedAndLeavesNothing) {
  const std::string folder = tiny("tiny-llama-hf");
  fs::copy(tiny("tiny-llama-hf"), path("strips"));
  std::string words = read_file(path("strips/tokenizer.json")).value();
  const std::string null = "\"normalizer\": null";
  ASSERT_NE(words.find(null), words.npos);
  words.replace(words.find(null), null.size(),
                "\"normalizer\": {\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": true}");
  file("strips/tokenizer.json", words);
  EXPECT_THAT(fails(65, {"convert", path("strips"), path("strips.gguf")}), HasSubstr("tokenizer"));
  fails(66, {"convert", path("none.gguf"), path("m")});
  fs::create_directories(path("dir.gguf"));
  EXPECT_THAT(fails(2, {"convert", folder, path("dir.gguf")}), HasSubstr("a folder"));
  EXPECT_THAT(fails(66, {"convert", folder, path("no/m.gguf")}), HasSubstr("no folder"));
  EXPECT_THAT(fails(2, {"convert", kTiny, file("plain", "x")}), HasSubstr("is no folder"));
  fs::create_directories(path("mine"));
  file("mine/notes.txt", "x");
  EXPECT_THAT(fails(2, {"convert", kTiny, path("mine")}), HasSubstr("notes.txt"));
  EXPECT_TRUE(fs::exists(path("mine/notes.txt")));
  // The model that is read stays.
  fs::create_directories(path("own"));
  fs::copy_file(kTiny, path("own/m.gguf"));
  EXPECT_THAT(fails(2, {"convert", path("own/m.gguf"), path("own")}), HasSubstr("is being read"));
  EXPECT_THAT(fails(2, {"convert", path("own/m.gguf"), path("own/m.gguf")}), HasSubstr("a folder is made"));
  EXPECT_EQ(read_file(path("own/m.gguf")).value(), read_file(kTiny).value());
  fs::copy(folder, path("copy"), fs::copy_options::recursive);
  EXPECT_THAT(fails(2, {"convert", path("copy"), path("copy/model.safetensors")}), HasSubstr("is no name"));
  // A file cut short; an architecture that no folder has.
  const std::string whole = read_file(kTiny).value();
  fails(65, {"convert", file("cut.gguf", whole.substr(0, whole.size() / 2)), path("m")});
  EXPECT_FALSE(fs::exists(path("m")));
  std::string other = whole;
  for (size_t at = other.find("llama"); at != other.npos; at = other.find("llama", at)) other.replace(at, 5, "lumma");
  EXPECT_THAT(run({"convert", file("other.gguf", other), path("m")}).err, HasSubstr("lumma"));
  EXPECT_FALSE(fs::exists(path("m")));
  EXPECT_THAT(leftovers(), ::testing::IsEmpty());
}

TEST_F(Convert, AFullDiskLeavesNothing) {
  const Ended file = shell("ulimit -f 20; \"$FOVEA\" convert " + tiny("tiny-llama-hf") + " \"$D/x.gguf\" -q");
  EXPECT_EQ(file.code, 74) << file.err;
  EXPECT_FALSE(fs::exists(path("x.gguf")));
  const Ended folder = shell("ulimit -f 20; \"$FOVEA\" convert \"$M\" \"$D/x\" -q");
  EXPECT_EQ(folder.code, 74) << folder.err;
  EXPECT_FALSE(fs::exists(path("x")));
  EXPECT_THAT(leftovers(), ::testing::IsEmpty());
}

TEST_F(Convert, AtLoadWeightsBecomeWhatQuantizeMakesOfThem) {
  for (const std::string& model : {tiny("tiny-llama-hf"), kTiny}) {
    for (const char* type : {"q8_0", "q4_0"}) {
      const std::string out = path("q.gguf");
      ASSERT_EQ(run({"quantize", model, out, "--type", type, "-q"}).code, 0);
      EXPECT_EQ(logits_of({model, "--quantize", type}), logits_of({out})) << model << " " << type;
    }
    EXPECT_NE(logits_of({model, "--quantize", "q4_0"}), logits_of({model}));
  }
  EXPECT_THAT(fails(2, {"logits", "-m", kTiny, "a", "-o", path("x"), "--quantize", "q9"}), HasSubstr("q8_0"));
}

// Experts see other tokens: each has its own weights of columns.
TEST_F(Convert, ImportanceKnowsEachExpert) {
  for (const char* family : {"mixtral", "qwen2moe"}) {
    constexpr size_t kExperts = 5;
    const std::string folder = path(family), model = path("m.gguf"), weights = path("i.gguf");
    ASSERT_EQ(run({"convert", tiny("families/") + family, model, "-q"}).code, 0);
    fs::copy(tiny("families/") + family, folder);
    Json words = {{"<unk>", 0}};
    std::string text;
    for (int i = 1; i < 90; ++i) words["w" + std::to_string(i)] = i;
    for (int i = 0; i < 400; ++i) text += "w" + std::to_string(1 + i * i % 89) + " ";
    file(family + std::string("/tokenizer.json"),
         Json({{"added_tokens", Json::array()},
               {"normalizer", nullptr},
               {"pre_tokenizer", {{"type", "Whitespace"}}},
               {"post_processor", nullptr},
               {"decoder", nullptr},
               {"model", {{"type", "WordLevel"}, {"unk_token", "<unk>"}, {"vocab", words}}}})
             .dump());
    const Ended made = run({"importance", "-m", folder, "-f", file("t.txt", text), "-c", "64", "-o", weights, "-q"});
    ASSERT_EQ(made.code, 0) << made.err;
    const auto read = formats::Importance::open(weights);
    ASSERT_TRUE(read.has_value()) << read.error().message;
    const std::vector<float> of = read->of("blk.0.ffn_gate_exps.weight");
    ASSERT_EQ(of.size() % kExperts, 0u);
    const size_t columns = of.size() / kExperts;
    EXPECT_EQ(columns, read->of("blk.0.attn_q.weight").size());
    EXPECT_FALSE(
        std::equal(of.begin(), of.begin() + static_cast<long>(columns), of.begin() + static_cast<long>(columns)));
    EXPECT_EQ(run({"quantize", model, path("q.gguf"), "--type", "q4_0", "--importance", weights, "-q"}).code, 0);
  }
}

}  // namespace cli_convert_test
}  // namespace fovea

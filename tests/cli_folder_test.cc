// Hugging Face folders on the command line, and ids in place of a text.
#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_folder_test {

using ::testing::HasSubstr;

class CliFolder : public Cli {
 protected:
  static std::string tiny(const std::string& name) { return source_dir() + "/tests/data/" + name; }
  // A copy that may be spoilt.
  std::string copy(const std::string& name) const {
    std::filesystem::copy(tiny(name), path(name), std::filesystem::copy_options::recursive);
    return path(name);
  }
};

TEST_F(CliFolder, ShowListAndCheckTakeOne) {
  for (const std::string where : {"", "/", "/config.json", "/model.safetensors"}) {
    const auto shown = json({"show", tiny("tiny-llama-hf") + where, "--json"});
    EXPECT_EQ(shown["name"], "tiny-llama-hf");
    EXPECT_EQ(shown["architecture"], "llama");
    EXPECT_EQ(shown["quantization"], "F32");
    EXPECT_EQ(shown["n_layers"], 2);
    EXPECT_EQ(shown["vocab_size"], 300);
    EXPECT_EQ(shown["tensors"].size(), 21u);
    EXPECT_THAT(shown["chat_template"].get<std::string>(), HasSubstr("im_start"));
  }
  std::filesystem::create_directories(root_ / "store");
  std::filesystem::rename(copy("tiny-qwen2-hf"), root_ / "store/tiny");
  const auto listed = json({"list", "--json"})["models"];
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0]["name"], "tiny");
  EXPECT_EQ(listed[0]["quantization"], "BF16");
  EXPECT_EQ(json({"show", "tiny", "--json"})["n_kv_heads"], 2);
}

TEST_F(CliFolder, LogitsOfIds) {
  const std::string ids = file("ids.json", "[1, 17, 299]"), out = path("out.npy");
  const auto said = json({"logits", "-m", tiny("tiny-llama-hf"), "--ids", ids, "-o", out, "--json"});
  EXPECT_EQ(said["shape"], nlohmann::json({3, 300}));
  EXPECT_EQ(said["tokens"][1]["id"], 17);
  EXPECT_EQ(std::filesystem::file_size(out), 128u + 3 * 300 * 4);
  EXPECT_THAT(fails(2, {"logits", "-m", tiny("tiny-llama-hf"), "--ids", file("high", "[300]"), "-o", out}),
              HasSubstr("id 0 is 300; the vocabulary has 300 tokens"));
  EXPECT_THAT(fails(2, {"logits", "-m", tiny("tiny-llama-hf"), "--ids", file("low", "[1,-1]"), "-o", out}),
              HasSubstr("id 1 is -1"));
  EXPECT_THAT(fails(65, {"logits", "-m", tiny("tiny-llama-hf"), "--ids", file("half", "[1.5]"), "-o", out}),
              HasSubstr("no whole number"));
  EXPECT_THAT(fails(65, {"logits", "-m", tiny("tiny-llama-hf"), "--ids", file("object", "{}"), "-o", out}),
              HasSubstr("no list"));
  EXPECT_THAT(fails(2, {"logits", "-m", tiny("tiny-llama-hf"), "--ids", ids, "a text", "-o", out}),
              HasSubstr("more than one text"));
  EXPECT_THAT(fails(2, {"run", "-m", kTiny, "--ids", ids}), HasSubstr("--raw"));
}

TEST_F(CliFolder, IdsAndATextGiveTheSame) {
  const auto tokens = json({"tokenize", "-m", kTiny, "the fox", "--json"})["tokens"];
  std::string list;
  for (const auto& token : tokens) list += (list.empty() ? "[" : ", ") + token["id"].dump();
  const std::string ids = file("ids.json", list + "]");
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"logits", "-m", kTiny}, {"capture", "-m", kTiny, "--hooks", "blocks.0.attn.hook_z"}}) {
    std::vector<std::string> text = command, given = command;
    text.insert(text.end(), {"the fox", "-o", path("a")});
    given.insert(given.end(), {"--ids", ids, "-o", path("b")});
    ASSERT_EQ(run(text).code, 0);
    ASSERT_EQ(run(given).code, 0);
    EXPECT_EQ(read_file(path("a")).value(), read_file(path("b")).value());
  }
  const auto answer = [&](const std::vector<std::string>& prompt) {
    std::vector<std::string> args = {"run", "-m", kTiny, "--raw", "--temp", "0", "-n", "5", "--json"};
    args.insert(args.end(), prompt.begin(), prompt.end());
    return json(args)["tokens"];
  };
  EXPECT_EQ(answer({"the fox"}), answer({"--ids", ids}));
}

TEST_F(CliFolder, CheckFindsWhatIsWrong) {
  const std::string folder = copy("tiny-llama-hf"), config = folder + "/config.json";
  const auto spoilt = [&](const char* key, const nlohmann::json& value) {
    auto changed = nlohmann::json::parse(read_file(tiny("tiny-llama-hf") + "/config.json").value());
    changed[key] = value;
    EXPECT_TRUE(write_file_atomic(config, changed.dump()).has_value());
    const Ended ended = run({"check", folder, "--json"});
    EXPECT_EQ(ended.code, 65) << ended.out;
    return nlohmann::json::parse(ended.out)["problems"].dump();
  };
  EXPECT_THAT(spoilt("surprise", 3), HasSubstr("llama.surprise"));
  EXPECT_THAT(spoilt("num_hidden_layers", 1), HasSubstr("block_count"));
  EXPECT_THAT(spoilt("intermediate_size", 65), HasSubstr("mlp.down_proj.weight is [64, 32]"));
  EXPECT_THAT(spoilt("num_attention_heads", 0), HasSubstr("attention.head_count"));
  EXPECT_THAT(spoilt("hidden_size", "wide"), HasSubstr("hidden_size of config.json"));
  EXPECT_THAT(spoilt("model_type", "wonder"), HasSubstr("wonder"));
  std::filesystem::resize_file(folder + "/model.safetensors", 100'000);
  EXPECT_THAT(fails(65, {"check", folder}), HasSubstr("short"));
  std::filesystem::remove(config);
  EXPECT_THAT(fails(65, {"check", folder}), HasSubstr("no config.json"));
  EXPECT_THAT(fails(66, {"run", "-m", path("none"), "x"}), HasSubstr("none"));
}

TEST_F(CliFolder, ModelsOfOtherProgramsAreFoundByName) {
  const auto snapshot = root_ / ".cache/huggingface/hub/models--me--tiny/snapshots/1";
  std::filesystem::create_directories(snapshot);
  std::filesystem::copy(tiny("tiny-llama-hf"), snapshot);
  const auto models = json({"list", "--all", "--json"})["models"];
  ASSERT_EQ(models.size(), 1u);
  EXPECT_EQ(models[0]["name"], "hf:me/tiny");
  EXPECT_EQ(json({"show", "hf:me/tiny", "--json"})["n_heads"], 4);
  EXPECT_THAT(fails(66, {"show", "hf:me/small"}), HasSubstr("hf:me/tiny"));
  EXPECT_THAT(fails(66, {"run", "-m", "ollama:llama", "x"}), HasSubstr("ollama:llama"));
}

TEST_F(CliFolder, IdsRunWithoutATokenizer) {
  const std::string ids = file("ids.json", "[1, 17, 40]"), folder = copy("tiny-llama-hf"), gguf = path("bare.gguf");
  const auto answer = [&](const std::string& model) {
    return json({"run", "-m", model, "--raw", "--ids", ids, "-n", "4", "--temp", "0", "--json", "--logprobs", "1"});
  };
  const auto whole = answer(folder);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) std::filesystem::remove(folder + "/" + name);
  ASSERT_EQ(run({"convert", folder, gguf, "-q"}).code, 0);
  for (const std::string& model : {folder, gguf}) {
    const auto bare = answer(model);
    std::string text;
    for (size_t i = 0; i < whole["tokens"].size(); ++i) {
      EXPECT_EQ(bare["tokens"][i]["id"], whole["tokens"][i]["id"]);
      EXPECT_TRUE(bare["tokens"][i]["piece"].is_null());
      text += (i > 0 ? " " : "") + std::to_string(whole["tokens"][i]["id"].get<int>());
    }
    EXPECT_EQ(bare["text"], text);
    EXPECT_EQ(bare["logprobs"]["content"].size(), bare["tokens"].size());
    EXPECT_EQ(run({"run", "-m", model, "--raw", "--ids", ids, "-n", "4", "--temp", "0", "-q"}).out, text + "\n");
    EXPECT_EQ(run({"run", "-m", model, "--raw", "--ids", ids, "-n", "4", "--estimate"}).code, 0);
    EXPECT_THAT(fails(2, {"run", "-m", model, "--raw", "--ids", ids, "--stop", "x", "-q"}), HasSubstr("no tokenizer"));
  }
  EXPECT_THAT(fails(66, {"run", "-m", folder, "--raw", "the fox"}), HasSubstr("no tokenizer"));
}

TEST_F(CliFolder, ATokenizerThatIsEmptyIsNamed) {
  const std::string folder = copy("tiny-llama-hf");
  file("tiny-llama-hf/tokenizer.json", "");
  EXPECT_THAT(fails(65, {"tokenize", "-m", folder, "x"}), HasSubstr("tokenizer.json\": the file is empty"));
  EXPECT_THAT(fails(65, {"check", folder}), HasSubstr("tokenizer.json"));
  EXPECT_THAT(fails(65, {"convert", folder, path("x.gguf")}), HasSubstr("tokenizer.json"));
}

TEST_F(CliFolder, ConfigsAreToldByTheirOwnWords) {
  const std::string folder = copy("tiny-llama-hf");
  const std::pair<std::pair<const char*, nlohmann::json>, const char*> rows[] = {
      {{"num_hidden_layers", 0}, "num_hidden_layers of config.json is 0; 1 to 1024 are allowed"},
      {{"num_attention_heads", 0}, "num_attention_heads of config.json"},
      {{"rms_norm_eps", -1}, "rms_norm_eps of config.json is -1"},
      {{"rms_norm_eps", nullptr}, "rms_norm_eps of config.json is missing"},
      {{"hidden_act", "sine"}, "hidden_act of config.json is \"sine\""},
      {{"vocab_size", 1 << 30}, "vocab_size of config.json"},
      {{"surprise", 3}, "surprise of config.json asks for something"},
      {{"attention_bias", "x"}, "\"attention_bias\": it is \"x\"; true or false is needed"}};
  for (const auto& [change, says] : rows) {
    auto config = nlohmann::json::parse(read_file(tiny("tiny-llama-hf") + "/config.json").value());
    config[change.first] = change.second;
    file("tiny-llama-hf/config.json", config.dump());
    const std::string said = fails(65, {"run", "-m", folder, "x"});
    EXPECT_THAT(said, HasSubstr(says));
    EXPECT_THAT(said, ::testing::Not(HasSubstr("llama.")));
  }
}

TEST_F(CliFolder, AFileThatIsMistypedHasANearestOne) {
  EXPECT_THAT(fails(66, {"show", source_dir() + "/tests/data/tiny-lama.gguf"}),
              HasSubstr("/tests/data/tiny-llama.gguf\"?"));
  EXPECT_THAT(fails(66, {"run", "-m", tiny("tiny-qwen-hf"), "x"}), HasSubstr("/tests/data/tiny-qwen2-hf\"?"));
  EXPECT_THAT(fails(66, {"run", "-m", path("far.gguf"), "x"}), HasSubstr("far.gguf\": No such file"));
}

}  // namespace cli_folder_test
}  // namespace fovea

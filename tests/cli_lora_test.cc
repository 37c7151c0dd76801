// --lora on the command line.
#include <fstream>

#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_lora_test {

using ::testing::HasSubstr;

class CliLora : public Cli {
 protected:
  const std::string data_ = source_dir() + "/tests/data/", model_ = data_ + "families/llama",
                    adapter_ = data_ + "adapters/llama", small_ = data_ + "adapters/llama-small";
  std::string ids() const { return file("ids.json", "[5, 17, 3, 92, 42, 7]"); }
  // The logits of --numerics exact, as bytes of a file.
  std::string logits(const std::vector<std::string>& loras) {
    std::vector<std::string> args = {"logits",        "-m",         model_, "--ids", ids(), "-o",
                                     path("out.npy"), "--numerics", "exact"};
    for (const std::string& lora : loras) args.insert(args.end(), {"--lora", lora});
    const Ended ended = run(args);
    EXPECT_EQ(ended.code, 0) << ended.err;
    return read_file(path("out.npy")).value();
  }
};

TEST_F(CliLora, AdaptersChangeTheLogitsByTheirScale) {
  const std::string plain = logits({}), one = logits({adapter_}), half = logits({adapter_ + "=0.5"});
  EXPECT_NE(one, plain);
  EXPECT_NE(half, plain);
  EXPECT_NE(half, one);
  EXPECT_EQ(logits({adapter_ + "=0"}), plain);
  EXPECT_EQ(logits({adapter_ + "=1"}), one);
  EXPECT_EQ(logits({adapter_ + "/adapter_model.safetensors"}), one);
  EXPECT_NE(logits({adapter_, small_ + "=-0.5"}), one);
  EXPECT_EQ(logits({adapter_, small_ + "=0"}), one);
}

TEST_F(CliLora, ReportsNameTheAdapters) {
  const auto with = json({"logits", "-m", model_, "--ids", ids(), "-o", path("a.npy"), "--lora", adapter_, "--json"});
  const auto without = json({"logits", "-m", model_, "--ids", ids(), "-o", path("b.npy"), "--json"});
  EXPECT_EQ(with["adapters_sha256"].get<std::string>().size(), 64u);
  EXPECT_FALSE(without.contains("adapters_sha256"));
}

TEST_F(CliLora, AdaptersThatDoNotFitAreRefusedInOneSentence) {
  const auto refused = [&](int code, const std::string& lora) {
    return fails(code, {"logits", "-m", model_, "--ids", ids(), "-o", path("out.npy"), "--lora", lora, "-q"});
  };
  EXPECT_THAT(refused(65, data_ + "adapters/gpt2"), HasSubstr("h.0.attn.c_attn"));
  EXPECT_THAT(refused(66, path("none")), HasSubstr("none"));
  EXPECT_THAT(refused(65, model_), HasSubstr("no adapter_config.json"));
  EXPECT_THAT(refused(65, kTiny), HasSubstr("general.type"));
  EXPECT_THAT(refused(2, adapter_ + "=inf"), HasSubstr("--lora"));
  EXPECT_THAT(refused(66, adapter_ + "=much"), HasSubstr("=much"));
}

TEST_F(CliLora, AnAdapterForAnotherModelIsSaidOnce) {
  const auto said = [&](const std::string& base) {
    std::filesystem::remove_all(path("a"));
    std::filesystem::copy(adapter_, path("a"));
    auto config = nlohmann::json::parse(read_file(adapter_ + "/adapter_config.json").value());
    config["base_model_name_or_path"] = base;
    file("a/adapter_config.json", config.dump());
    const Ended ended = run({"logits", "-m", model_, "--ids", ids(), "-o", path("out.npy"), "--lora", path("a")});
    EXPECT_EQ(ended.code, 0) << ended.err;
    return ended.err;
  };
  const std::string other = said("somebody/gpt-5");
  EXPECT_THAT(other, HasSubstr("warning: "));
  EXPECT_THAT(other, HasSubstr("made for the model \"somebody/gpt-5\""));
  EXPECT_EQ(other.find("made for"), other.rfind("made for"));
  for (const char* base : {"somebody/Llama", "/models/llama/", "llama-instruct", ""})
    EXPECT_THAT(said(base), ::testing::Not(HasSubstr("warning"))) << base;
}

TEST_F(CliLora, ShowSumsAnAdapterUp) {
  for (const std::string where : {"", "/adapter_config.json", "/adapter_model.safetensors"}) {
    const auto shown = json({"show", adapter_ + where, "--json"});
    EXPECT_EQ(shown["kind"], "lora");
    EXPECT_EQ(shown["base_model"], "llama");
    EXPECT_GT(shown["n_params"], 0);
    EXPECT_GT(shown["bytes"], 0);
    EXPECT_GT(shown["pairs"].size(), 0u);
    for (const char* key : {"weight", "shape", "rank", "scale"}) EXPECT_TRUE(shown["pairs"][0].contains(key)) << key;
  }
  const Ended text = run({"show", adapter_});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("LoRA adapter (PEFT)"));
}

}  // namespace cli_lora_test
}  // namespace fovea

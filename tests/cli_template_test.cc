#include <filesystem>

#include "fovea/formats/testing/gguf_writer.h"
#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_template_test {

using ::testing::HasSubstr;

// Only the header of a model: a vocabulary of a few letters, and a template.
class CliTemplate : public Cli {
 protected:
  void SetUp() override {
    Cli::SetUp();
    formats::GgufWriter writer;
    writer.key("general.architecture", "llama").key("tokenizer.ggml.model", "gpt2").key("tokenizer.ggml.pre", "gpt-2");
    std::vector<std::string> tokens = {"<|im_start|>", "<|im_end|>"};
    for (char c = '!'; c <= '~'; ++c) tokens.emplace_back(1, c);
    tokens.insert(tokens.end(), {"\u010a", "\u0120"});  // newline and space
    std::vector<int32_t> types(tokens.size(), 1);
    types[0] = types[1] = 3;
    writer.key("tokenizer.ggml.tokens", tokens)
        .key("tokenizer.ggml.token_type", types)
        .key("tokenizer.ggml.merges", std::vector<std::string>{});
    writer.key("tokenizer.ggml.eos_token_id", uint32_t{1});
    writer.key(
        "tokenizer.chat_template",
        "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif "
        "%}<|im_start|>{{ m.role }}\n"
        "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}");
    model_ = file("model.gguf", writer.build());
  }
  std::vector<std::string> with(const std::string& messages, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> args = {"template", "-m", model_, "--messages", file("messages.json", messages)};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  std::string model_;
};

const char* const kHi = R"([{"role": "user", "content": "<|im_end|> hi"}])";

TEST_F(CliTemplate, PrintsThePromptAndNothingElse) {
  EXPECT_EQ(run(with(kHi)).out, "<|im_start|>user\n<|im_end|> hi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(run(with(kHi, {"--no-generation-prompt"})).out, "<|im_start|>user\n<|im_end|> hi<|im_end|>\n");
  EXPECT_EQ(json(with(std::string("{\"messages\": ") + kHi + "}", {"--json"}))["prompt"], run(with(kHi)).out);
  stdin_ = file("in", kHi);
  EXPECT_EQ(run({"template", "-m", model_, "--messages", "-"}).out, run(with(kHi)).out);
}

TEST_F(CliTemplate, TokensKeepWhatContentsSpellAsText) {
  const auto tokens = json(with(kHi, {"--json", "--tokens"}))["tokens"];
  ASSERT_GT(tokens.size(), 10u);
  EXPECT_EQ(tokens[0]["piece"], "<|im_start|>");
  EXPECT_EQ(std::count_if(tokens.begin(), tokens.end(), [](const auto& t) { return t["id"] == 1; }), 1);
}

TEST_F(CliTemplate, ToolsDocumentsAndVariablesReachTheTemplate) {
  const std::string source = "{{ tools[0].name }}|{{ documents[0].text }}|{{ think }}|{{ messages[0].content }}";
  const auto args = with(kHi, {"--chat-template", source, "--tools", file("tools.json", R"([{"name": "<|im_end|>"}])"),
                               "--documents", file("documents.json", R"({"documents": [{"text": "d"}]})"),
                               "--template-var", "think=false", "--template-var", "other=\"a=b\""});
  EXPECT_EQ(run(args).out, "<|im_end|>|d|False|<|im_end|> hi");
  EXPECT_EQ(run(with(kHi, {"--chat-template-file", file("t.jinja", "<|im_start|>{{ messages | length }}")})).out,
            "<|im_start|>1");
  auto tokens = args;
  tokens.insert(tokens.end(), {"--json", "--tokens"});
  // The same in the file itself, as requests have it; a flag counts more.
  const std::string request = R"({"messages": )" + std::string(kHi) +
                              R"(, "tools": [{"name": "t"}], "documents": [{"text": "e"}],
                                 "chat_template_kwargs": {"think": true}})";
  const char* const short_source = "{{ tools[0].name }}|{{ documents[0].text }}|{{ think }}";
  EXPECT_EQ(run(with(request, {"--chat-template", short_source})).out, "t|e|True");
  EXPECT_EQ(run(with(request, {"--chat-template", short_source, "--template-var", "think=1"})).out, "t|e|1");
  const Ended unseen = run(with(request, {"--chat-template", "{{ messages | length }}"}));
  EXPECT_THAT(unseen.err, HasSubstr("does not look at tools"));
  EXPECT_THAT(fails(2, with(kHi, {"--chat-template", ""})), HasSubstr("--chat-template"));
  const nlohmann::json shown = json(tokens);
  for (const auto& t : shown["tokens"]) EXPECT_GT(t["id"], 1);  // 0 and 1 are the control tokens
}

TEST_F(CliTemplate, WrongToolsAndVariablesAreNamed) {
  EXPECT_THAT(fails(65, with(kHi, {"--tools", file("tools.json", "{}")})), HasSubstr("tools must be a list"));
  EXPECT_THAT(fails(65, with(kHi, {"--tools", file("tools.json", "[")})), HasSubstr("tools.json, line 1, column 2"));
  EXPECT_THAT(fails(66, with(kHi, {"--documents", path("nope.json")})), HasSubstr("nope.json"));
  EXPECT_THAT(fails(2, with(kHi, {"--template-var", "a"})), HasSubstr("--template-var wants NAME=JSON"));
  EXPECT_THAT(fails(2, with(kHi, {"--template-var", "a=high"})), HasSubstr("--template-var a, line 1, column 1"));
  EXPECT_THAT(fails(2, with(kHi, {"--template-var", "messages=1"})), HasSubstr("cannot be called messages"));
  EXPECT_THAT(fails(66, with(kHi, {"--chat-template-file", path("nope.jinja")})), HasSubstr("nope.jinja"));
  EXPECT_THAT(fails(65, with(kHi, {"--chat-template", "{{ x"})), HasSubstr("chat template, line 1"));
  EXPECT_EQ(run(with(kHi, {"--chat-template", "a", "--chat-template-file", file("t.jinja", "b")})).code, 2);
}

TEST_F(CliTemplate, BadJsonNamesFileLineAndColumn) {
  EXPECT_THAT(fails(65, with("[{\"role\": \"user\",\n  \"content\" \"hi\"}]")),
              HasSubstr("messages.json, line 2, column 1"));
  EXPECT_THAT(fails(65, with("[{\"role\": \"user\"")), HasSubstr("line 1, column 17: not JSON: it ends there"));
  EXPECT_THAT(fails(65, with("")), HasSubstr("messages.json, line 1, column 1"));
  EXPECT_THAT(fails(65, with("[] x")), HasSubstr("line 1, column 4: not JSON"));
  EXPECT_THAT(fails(65, with(std::string(100'000, '['))), HasSubstr("messages.json"));
  EXPECT_THAT(fails(65, with(std::string(1000, '[') + std::string(1000, ']'))), HasSubstr("nested deeper than 64"));
}

TEST_F(CliTemplate, MessagesOfTheWrongShapeNameTheJsonPath) {
  EXPECT_THAT(fails(65, with("{\"messages\": [{\"role\": \"user\", \"content\": 3}]}")),
              HasSubstr("messages[0].content must be a string"));
  EXPECT_THAT(fails(65, with("[{\"role\": \"user\", \"content\": \"a\"}, {\"content\": \"a\"}]")),
              HasSubstr("messages.json: messages[1].role"));
  EXPECT_THAT(fails(65, with("[]")), HasSubstr("messages is empty"));
  EXPECT_THAT(fails(65, with("{}")), HasSubstr("messages must be a list"));
}

TEST_F(CliTemplate, TheTemplatesOwnWordsReachTheUser) {
  EXPECT_THAT(fails(65, with("[{\"role\": \"tool\", \"content\": \"a\"}]")), HasSubstr("no tools here"));
}

TEST_F(CliTemplate, MissingFilesAreNamed) {
  EXPECT_THAT(fails(66, {"template", "-m", model_, "--messages", path("nope.json")}), HasSubstr("nope.json"));
  EXPECT_EQ(run({"template", "-m", model_}).code, 2);
}

}  // namespace cli_template_test
}  // namespace fovea

// fovea embed: forms of input and output, and that nothing is written unless all of it is.
#include <cmath>
#include <filesystem>
#include <fstream>

#include "tests/cli_fixture.h"

namespace fovea {
namespace cli_embed_test {

using ::testing::HasSubstr;

const std::string kBert = source_dir() + "/tests/data/encoders/bert";

std::vector<std::vector<double>> vectors_of(const Ended& ran) {
  EXPECT_EQ(ran.code, 0) << ran.err;
  return nlohmann::json::parse(ran.out)["embeddings"].get<std::vector<std::vector<double>>>();
}

TEST_F(Cli, EmbedGivesAVectorALine) {
  std::ofstream(path("texts")) << "one two\r\nthree\none two";
  const Ended ran = run({"embed", "-m", kTiny, "-f", path("texts"), "--json", "--numerics", "exact"});
  const auto vectors = vectors_of(ran);
  ASSERT_EQ(vectors.size(), 3u);
  EXPECT_EQ(vectors[0], vectors[2]);
  EXPECT_NE(vectors[0], vectors[1]);
  double squares = 0;
  for (const double v : vectors[1]) squares += v * v;
  EXPECT_NEAR(squares, 1, 1e-5);
  const auto json = nlohmann::json::parse(ran.out);
  EXPECT_EQ(json["dim"], 64);
  EXPECT_EQ(json["n"], 3);
  EXPECT_EQ(json["pooling"], "last");
  EXPECT_EQ(json["normalized"], true);
  EXPECT_EQ(vectors_of(run({"embed", "-m", kTiny, "three", "--json", "--numerics", "exact"}))[0], vectors[1]);
}

// The same words end no answer of a decoder; of an encoder nobody wants one.
TEST_F(Cli, EmbedWarnsOfNoEndOfTextsThatAnEncoderNeverMakes) {
  std::filesystem::copy(kBert, path("bert"));
  nlohmann::json vocabulary = {{"[UNK]", 0}, {"a", 1}};
  for (int i = 2; i < 96; ++i) vocabulary["w" + std::to_string(i)] = i;
  std::ofstream(path("bert") + "/tokenizer.json") << nlohmann::json{{"added_tokens", nlohmann::json::array()},
                                                                    {"normalizer", nullptr},
                                                                    {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
                                                                    {"post_processor", nullptr},
                                                                    {"decoder", nullptr},
                                                                    {"model",
                                                                     {{"type", "WordPiece"},
                                                                      {"unk_token", "[UNK]"},
                                                                      {"continuing_subword_prefix", "##"},
                                                                      {"max_input_chars_per_word", 100},
                                                                      {"vocab", vocabulary}}}};
  auto config = nlohmann::json::parse(read_file(path("bert") + "/config.json").value());
  config.erase("eos_token_id");
  std::ofstream(path("bert") + "/config.json") << config;
  const Ended ran = run({"embed", "-m", path("bert"), "a w7", "--json"});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.err, "");
}

TEST_F(Cli, EmbedReadsLongTextsOfADecoderInChunks) {
  std::ofstream(path("ids")) << nlohmann::json(std::vector<int>(200, 5));
  for (const char* pooling : {"mean", "cls", "last"}) {
    const std::vector<std::string> words = {"embed",     "-m",    kTiny,    "--ids",      path("ids"),
                                            "--pooling", pooling, "--json", "--numerics", "exact"};
    std::vector<std::string> in_chunks = words;
    in_chunks.insert(in_chunks.end(), {"-b", "64"});
    const auto whole = vectors_of(run(words)), parts = vectors_of(run(in_chunks));
    for (size_t i = 0; i < whole[0].size(); ++i) EXPECT_NEAR(parts[0][i], whole[0][i], 1e-6) << pooling;
  }
}

TEST_F(Cli, EmbedWritesRowsOfFloats) {
  std::ofstream(path("ids")) << "[[5, 6, 7], [8], [9, 9]]";
  const Ended ran = run({"embed", "-m", kBert, "--ids", path("ids"), "-o", path("out.npy"), "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto json = nlohmann::json::parse(ran.out);
  EXPECT_EQ(json["path"], path("out.npy"));
  EXPECT_EQ(json["pooling"], "mean");
  const std::string bytes = read_file(path("out.npy")).value();
  EXPECT_THAT(bytes.substr(0, 128), HasSubstr("'shape': (3, 48)"));
  EXPECT_EQ(bytes.size() % 64, (3u * 48 * 4) % 64);
}

TEST_F(Cli, EmbedCutsWhatIsTooLongAndSaysSoOnce) {
  std::ofstream(path("ids")) << nlohmann::json({std::vector<int>(129, 5), {5}, std::vector<int>(500, 6)});
  const Ended ran = run({"embed", "-m", kBert, "--ids", path("ids"), "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_THAT(ran.err, HasSubstr("2 of 3 texts had more than the 128 tokens"));
  EXPECT_EQ(nlohmann::json::parse(ran.out)["n_cut"], 2);
}

TEST_F(Cli, EmbedRefusesWhatIsWrongAndLeavesNoFile) {
  std::ofstream(path("ids")) << "[[5], [96]]";
  const Ended id = run({"embed", "-m", kBert, "--ids", path("ids"), "-o", path("out.npy")});
  EXPECT_EQ(id.code, 2);
  EXPECT_THAT(id.err, HasSubstr("id 96"));
  EXPECT_FALSE(std::filesystem::exists(path("out.npy")));
  std::ofstream(path("ids")) << "[[5], 7]";
  EXPECT_EQ(run({"embed", "-m", kBert, "--ids", path("ids")}).code, 65);
  std::ofstream(path("empty")) << "";
  EXPECT_EQ(run({"embed", "-m", kTiny, "-f", path("empty")}).code, 2);
  EXPECT_EQ(run({"embed", "-m", kBert, "--ids", path("ids"), "--pooling", "max"}).code, 2);
}

TEST_F(Cli, EncodersMakeNoText) {
  std::ofstream(path("ids")) << "[5, 6]";
  const Ended ran = run({"logits", "-m", kBert, "--ids", path("ids"), "-o", path("x.npy")});
  EXPECT_NE(ran.code, 0);
  EXPECT_THAT(ran.err, HasSubstr("fovea embed"));
  EXPECT_FALSE(std::filesystem::exists(path("x.npy")));
  EXPECT_EQ(run({"capture", "-m", kBert, "--ids", path("ids"), "--hooks", "*", "-o", path("c.safetensors")}).code, 0);
}

TEST_F(Cli, PoolingIsAsTheFolderSays) {
  namespace fs = std::filesystem;
  fs::copy(kBert, path("bert"));
  fs::create_directories(path("bert/1_Pooling"));
  std::ofstream(path("bert/1_Pooling/config.json"))
      << R"({"word_embedding_dimension": 48, "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false})";
  std::ofstream(path("bert/sentence_bert_config.json")) << R"({"max_seq_length": 2})";
  std::ofstream(path("ids")) << "[5, 6, 7]";
  const Ended ran = run({"embed", "-m", path("bert"), "--ids", path("ids"), "--json"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(nlohmann::json::parse(ran.out)["pooling"], "cls");
  EXPECT_EQ(nlohmann::json::parse(ran.out)["max_tokens"], 2);
  std::ofstream(path("bert/modules.json")) << R"([{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}])";
  const Ended dense = run({"embed", "-m", path("bert"), "--ids", path("ids")});
  EXPECT_NE(dense.code, 0);
  EXPECT_THAT(dense.err, HasSubstr("\"Dense\""));
  EXPECT_EQ(run({"embed", "-m", path("bert"), "--ids", path("ids"), "--pooling", "mean"}).code, 0);
  std::ofstream(path("bert/sentence_bert_config.json")) << R"({"do_lower_case": "yes"})";
  EXPECT_THAT(fails(65, {"embed", "-m", path("bert"), "--ids", path("ids")}),
              HasSubstr("\"do_lower_case\" is neither"));
  std::filesystem::remove(path("bert/modules.json"));
  std::ofstream(path("bert/1_Pooling/config.json")) << R"({"pooling_mode_cls_token": 1})";
  EXPECT_THAT(fails(65, {"embed", "-m", path("bert"), "--ids", path("ids")}), HasSubstr("\"pooling_mode_cls_token\""));
}

TEST_F(Cli, PoolingAndLengthAsSentenceTransformers6WritesThem) {
  std::filesystem::copy(kBert, path("bert"));
  std::filesystem::create_directories(path("bert/1_Pooling"));
  const auto says = [&](const char* mode) {
    std::ofstream(path("bert/1_Pooling/config.json"))
        << R"({"embedding_dimension": 48, "include_prompt": true, "pooling_mode": )" << mode << "}";
  };
  std::ofstream(path("bert/modules.json"))
      << R"([{"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"},)"
      << R"( {"path": "1_Pooling", "type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"}])";
  std::ofstream(path("bert/sentence_bert_config.json")) << R"({"module_output_name": "token_embeddings"})";
  std::ofstream(path("bert/tokenizer_config.json")) << R"({"model_max_length": 2})";
  std::ofstream(path("ids")) << "[5, 6, 7]";
  for (const auto& [mode, name] : {std::pair{"\"cls\"", "cls"}, {"[\"lasttoken\"]", "last"}, {"\"mean\"", "mean"}}) {
    says(mode);
    const Ended ran = run({"embed", "-m", path("bert"), "--ids", path("ids"), "--json"});
    ASSERT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(nlohmann::json::parse(ran.out)["pooling"], name);
    EXPECT_EQ(nlohmann::json::parse(ran.out)["max_tokens"], 2);
  }
  for (const auto& [mode, named] :
       {std::pair{"\"max\"", "\"max\""}, {"[\"cls\", \"mean\"]", "several"}, {"3", "pooling_mode"}}) {
    says(mode);
    EXPECT_THAT(fails(65, {"embed", "-m", path("bert"), "--ids", path("ids")}), HasSubstr(named));
  }
}

}  // namespace cli_embed_test
}  // namespace fovea

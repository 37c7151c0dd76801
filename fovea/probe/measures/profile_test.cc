#include "fovea/probe/measures/profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>  // setenv, mkdtemp

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "fovea/attention/method.h"
#include "fovea/base/check.h"
#include "fovea/base/file.h"
#include "fovea/base/testing/paths.h"
#include "fovea/engine/head_profile.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/probe/capture/pattern_statistics.h"
#include "fovea/probe/measures/moa_plan.h"
#include "fovea/probe/measures/needle_reader.h"
#include "fovea/probe/measures/pattern_columns.h"

namespace fovea::probe {
namespace profile_test {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Json = nlohmann::json;
using attention::Granularity;

std::shared_ptr<const engine::Model> tiny() {
  return engine::Model::load(source_dir() + "/tests/data/tiny-llama.gguf").value();
}

// Long enough for the byte tokens of the tiny models.
engine::Document haystack() {
  std::string text;
  for (int i = 0; i < 400; ++i) text += "Line " + std::to_string(i) + " of a text. ";
  return {"hay", text};
}

tasks::NeedleOptions short_task() {
  tasks::NeedleOptions options;
  options.lengths = {500};
  options.n_depths = 3;
  options.needles = {{"The red fox eats blue cheese.", "What does it eat?", "blue cheese"}};
  options.decode_max = 4;
  return options;
}

TEST(Needle, IsPutAtTheEndOfTheSentenceBeforeEachDepth) {
  const auto model = tiny();
  const auto tokenizer = engine::load_tokenizer(model->source()).value();
  const engine::Document hay = haystack();
  const tasks::NeedleOptions options = short_task();
  const auto prompts = tasks::make_needle_prompts(model->source(), *tokenizer, {&hay, 1}, options);
  ASSERT_TRUE(prompts.has_value()) << prompts.error().message;
  ASSERT_EQ(prompts->size(), 3u);
  int32_t place = INT32_MAX;
  for (const tasks::NeedlePrompt& prompt : *prompts) {
    EXPECT_LE(prompt.tokens.size(), 503u);
    EXPECT_GE(prompt.tokens.size(), 480u);
    EXPECT_LT(prompt.answer.begin, place);  // deepest first
    place = prompt.answer.begin;
    const std::string text = tokenizer->decode(prompt.tokens).value();
    const size_t at = text.find(options.needles[0].sentence);
    ASSERT_NE(at, std::string::npos);
    EXPECT_TRUE(prompt.depth == 0 || text.substr(at - 2, 2) == ". ") << text.substr(at - 10, 20);
    const auto answer =
        std::span(prompt.tokens)
            .subspan(static_cast<size_t>(prompt.answer.begin), static_cast<size_t>(prompt.answer.size()));
    EXPECT_THAT(tokenizer->decode(answer).value(), HasSubstr("lue chees"));  // its first window may start a token early
  }
  EXPECT_EQ((*prompts)[2].depth, 0);
}

TEST(Needle, RefusesAPromptThatIsTooShortForIt) {
  const auto model = tiny();
  const auto tokenizer = engine::load_tokenizer(model->source()).value();
  const engine::Document hay = haystack();
  tasks::NeedleOptions options = short_task();
  options.lengths = {40};
  const auto prompts = tasks::make_needle_prompts(model->source(), *tokenizer, {&hay, 1}, options);
  ASSERT_FALSE(prompts.has_value());
  EXPECT_EQ(prompts.error().code, ErrorCode::kUsage);
  options.lengths = {500};
  const engine::Document little{"hay", "Too little."};
  EXPECT_FALSE(tasks::make_needle_prompts(model->source(), *tokenizer, {&little, 1}, options).has_value());
}

TEST(Rouge1Recall, CountsEachWordAsOftenAsItIsThere) {
  EXPECT_EQ(tasks::rouge1_recall("It eats blue Cheese!", "blue cheese"), 1.0);
  EXPECT_EQ(tasks::rouge1_recall("blue", "blue blue"), 0.5);
  EXPECT_EQ(tasks::rouge1_recall("", "blue"), 0.0);
  EXPECT_EQ(tasks::rouge1_recall("anything", ""), 0.0);
}

TEST(LabelAnswer, TellsTheWaysToFailApart) {
  const tasks::Needle needle{"The red fox of Ulm eats blue cheese and plums.", "What does the red fox of Ulm eat?",
                             "blue cheese and plums"};
  const std::string prompt = "A licence is not a blue thing. You may copy and give away copies of the program. " +
                             needle.sentence + " The rest is law.\n\nQuestion: " + needle.question;
  const auto label = [&](const char* answer) { return tasks::label_answer(answer, needle, prompt, 0.5); };
  EXPECT_EQ(label("It eats cheese and plums."), tasks::NeedleOutcome::kFound);
  EXPECT_EQ(label("It eats blue cheese."), tasks::NeedleOutcome::kIncomplete);  // half is not above a half
  EXPECT_EQ(label("Plums!"), tasks::NeedleOutcome::kIncomplete);
  EXPECT_EQ(label("blue and"), tasks::NeedleOutcome::kHallucination);  // these words stand in the text as well
  EXPECT_EQ(label("Copies of the program."), tasks::NeedleOutcome::kWrongExtraction);
  EXPECT_EQ(label("The red fox of Ulm eats chickens."),
            tasks::NeedleOutcome::kHallucination);  // repeats the question only
  EXPECT_EQ(label(" ... "), tasks::NeedleOutcome::kNoAnswer);
}

TEST(NeedleReader, AnswersTheSameWithAndWithoutASharedPrefix) {
  const auto model = tiny();
  const auto tokenizer = engine::load_tokenizer(model->source()).value();
  const engine::Document hay = haystack();
  const tasks::NeedleOptions options = short_task();
  const auto prompts = tasks::make_needle_prompts(model->source(), *tokenizer, {&hay, 1}, options).value();
  const auto shared = engine::Session::create(model, {}).value();
  NeedleReader reader(*shared, *tokenizer);
  for (const tasks::NeedlePrompt& prompt : prompts) {
    const auto fresh = engine::Session::create(model, {}).value();
    const auto expected = NeedleReader(*fresh, *tokenizer).answer(prompt, options, true).value();
    const auto got = reader.answer(prompt, options, true).value();
    EXPECT_EQ(got.text, expected.text);
    EXPECT_EQ(got.trace.tokens, expected.trace.tokens);
    EXPECT_EQ(got.trace.keys, expected.trace.keys);
  }
}

TEST(Profile, OfAModelThatFindsNoNeedleHoldsNoRetrievalScores) {
  const auto model = tiny();
  const auto tokenizer = engine::load_tokenizer(model->source()).value();
  ProfileOptions options;
  options.needle = short_task();
  options.haystacks = {haystack()};
  options.command = "fovea profile";
  const auto measured = measure_profile(model, *tokenizer, options);
  ASSERT_TRUE(measured.has_value()) << measured.error().message;
  const Json json = Json::parse(measured->json);
  EXPECT_EQ(json["version"], 1);
  EXPECT_EQ(json["model_sha256"], model->sha256().value());
  EXPECT_EQ(json["measured"]["samples"], 3);
  EXPECT_EQ(json["measured"]["accepted"], 0);
  const auto n_all = static_cast<size_t>(model->shape().n_layers * model->shape().n_heads);
  ASSERT_EQ(json["heads"].size(), n_all);
  EXPECT_TRUE(json["heads"][0]["retrieval"].is_null());
  EXPECT_TRUE(json["heads"][0]["sink_mass"].is_number());
  ASSERT_EQ(json["kv_heads"].size(), static_cast<size_t>(model->shape().n_layers * model->shape().n_kv_heads));
  EXPECT_EQ(
      json["kv_heads"][1],
      Json({{"layer", 0}, {"kv_head", 1}, {"kv_group_max", nullptr}, {"moa_alpha", nullptr}, {"moa_beta", nullptr}}));
  EXPECT_FALSE(json.contains("layers"));  // no column of theirs is measured

  const auto read = engine::parse_head_profile(measured->json, "it", model->shape());
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->find("retrieval"), nullptr);
  EXPECT_NE(read->find("induction"), nullptr);
}

TEST(Profile, MeasuredAnewKeepsTrainedColumns) {
  const auto model = tiny();
  auto before = std::make_shared<attention::HeadProfile>();
  before->n_layers = model->shape().n_layers, before->n_heads = model->shape().n_heads;
  before->n_kv_heads = model->shape().n_kv_heads;
  std::vector<double> gates(before->size(Granularity::kKvHead), 0.123456);
  set_column(*before, "duo_gate", gates);
  set_column(*before, "kv_group_max", gates);  // measured: of another time
  ProfileOptions options;
  options.needle = short_task();
  options.haystacks = {haystack()};
  options.before = before;
  const auto measured = measure_profile(model, *model->tokenizer().value(), options);
  ASSERT_TRUE(measured.has_value()) << measured.error().message;
  const auto read = engine::parse_head_profile(measured->json, "it", model->shape());
  ASSERT_TRUE(read.has_value()) << read.error().message;
  ASSERT_NE(read->find("duo_gate", Granularity::kKvHead), nullptr);
  EXPECT_EQ(*read->find("duo_gate", Granularity::kKvHead), gates) << "not rounded";
  EXPECT_EQ(read->find("kv_group_max", Granularity::kKvHead), nullptr);
}

TEST(ProfileColumns, ADoubleNameIsRefused) {
  ASSERT_TRUE(profile_columns().contains("retrieval"));
  EXPECT_THROW(register_column("retrieval", {Granularity::kHead, "again"}), CheckFailed);
}

TEST(ProfileColumns, OneThatIsNotRegisteredOrOfAnotherSizeIsAMistake) {
  attention::HeadProfile profile{.model_sha256 = "", .n_layers = 2, .n_heads = 4, .n_kv_heads = 2, .columns = {}};
  EXPECT_THROW(set_column(profile, "retrievall", std::vector<double>(8)), CheckFailed);
  EXPECT_THROW(set_column(profile, "kv_group_max", std::vector<double>(8)), CheckFailed);
  set_column(profile, "kv_group_max", {1, 2, 3, 4});
  EXPECT_EQ(profile.find("kv_group_max", Granularity::kKvHead)->at(3), 4);
}

TEST(ProfileColumns, WhatMethodsNeedIsMeasured) {
  for (const std::string& name : attention::method_names()) {
    for (const attention::Need& need : attention::needs_of(attention::make_method(name)->info()))
      EXPECT_TRUE(profile_columns().contains(need.column)) << name << " needs " << need.column;
  }
}

TEST(Profile, IsFoundInTheStoreAndRefusedForAnotherModelFile) {
  std::string store = ::testing::TempDir() + "/profile-XXXXXX";
  ASSERT_NE(mkdtemp(store.data()), nullptr);
  fs::create_directories(store + "/profiles");
  setenv("FOVEA_MODELS", store.c_str(), 1);
  const auto model = tiny();
  const auto none = find_profile(*model);
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(none.error().message, HasSubstr("fovea profile"));

  const std::string sha256 = model->sha256().value();
  const auto n_heads = static_cast<size_t>(model->shape().n_heads);
  Json json = {{"version", 1}, {"model_sha256", sha256}, {"heads", Json::array()}};
  for (size_t i = 0; i < n_heads * static_cast<size_t>(model->shape().n_layers); ++i) {
    json["heads"].push_back({{"layer", i / n_heads}, {"head", i % n_heads}, {"retrieval", 0.25}});
  }
  const std::string path = profile_cache_path(sha256).value();
  ASSERT_TRUE(write_file_atomic(path, json.dump()).has_value());
  const auto found = find_profile(*model);
  ASSERT_TRUE(found.has_value()) << found.error().message;
  EXPECT_EQ(found->heads->find("retrieval")->at(3), 0.25);
  EXPECT_EQ(found->name, path);

  json["model_sha256"] = std::string(64, '0');
  ASSERT_TRUE(write_file_atomic(path, json.dump()).has_value());
  const auto other = find_profile(*model);
  ASSERT_FALSE(other.has_value());
  EXPECT_EQ(other.error().code, ErrorCode::kData);
  EXPECT_THAT(other.error().message, HasSubstr("--again"));
  unsetenv("FOVEA_MODELS");
  fs::remove_all(store);
}

TEST(Profile, ShippedOnesAreProfiles) {
  for (const ShippedProfile& shipped : shipped_profiles()) {
    const Json json = Json::parse(shipped.json, nullptr, false);
    ASSERT_TRUE(json.is_object()) << shipped.file_name;
    EXPECT_EQ(json["version"], 1) << shipped.file_name;
    EXPECT_EQ(json["model_sha256"].get<std::string>().size(), 64u) << shipped.file_name;
    EXPECT_EQ(json["heads"].size(), json["n_layers"].get<size_t>() * json["n_heads"].get<size_t>())
        << shipped.file_name;
    EXPECT_THAT(json["measured"]["command"].get<std::string>(), HasSubstr("fovea profile -m ")) << shipped.file_name;
  }
}

TEST(Patterns, OfAShortContextHaveRowsToo) {
  const auto model = tiny();
  const auto session = engine::Session::create(model, {.n_ctx = 48}).value();
  attention::HeadProfile profile;
  profile.n_layers = session->shape().n_layers, profile.n_heads = session->shape().n_heads;
  profile.n_kv_heads = session->shape().n_kv_heads;
  ASSERT_TRUE(measure_patterns(*session, *model->tokenizer().value(), haystack().text, 1, profile).has_value());
  for (const char* column : {"previous_token", "sink_mass", "local_mass"}) {
    const std::vector<double>& values = *profile.find(column);
    EXPECT_GT(*std::max_element(values.begin(), values.end()), 1.0 / 48) << column;
  }
}

TEST(PatternStatistics, AreMeansOverTheRowsOfAPrompt) {
  const attention::ModelShape shape{.n_layers = 1, .n_heads = 1, .n_kv_heads = 1};
  PatternStatistics statistics(1, 1, /*first_query=*/2, /*period=*/3);
  const auto show = [&](std::vector<float> row) {
    std::vector<int32_t> positions(row.size());
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<int32_t> q_pos = {static_cast<int32_t>(row.size() - 1)};
    const attention::Call view{shape, 0, 0, q_pos, attention::Phase::kPrompt, nullptr};
    statistics.see({view, 0, q_pos[0], positions}, row);
  };
  show({1});  // before the first query that counts
  show({0.5f, 0.25f, 0.25f});
  show({0.25f, 0.5f, 0.125f, 0.125f});
  EXPECT_EQ(statistics.sink()[0], 0.375);
  EXPECT_EQ(statistics.previous()[0], (0.25 + 0.125) / 2);
  EXPECT_EQ(statistics.local()[0], 1.0);
  EXPECT_EQ(statistics.induction()[0], (0.5 + 0.5) / 2);  // of query 2 key 0, of query 3 key 1
}

TEST(PatternStatistics, HiddenSinksAreLaterKeysThatAllRowsLookAt) {
  const attention::ModelShape shape{.n_layers = 1, .n_heads = 1, .n_kv_heads = 1};
  PatternStatistics statistics(1, 1, /*first_query=*/40, 0);
  std::vector<int32_t> positions(42);
  std::iota(positions.begin(), positions.end(), 0);
  for (int32_t q = 0; q < 42; ++q) {  // half of each row is the first key's, the third has 0.2 from its own row on
    std::vector<float> row(static_cast<size_t>(q) + 1, 0.0f);
    row[0] = 0.5f;
    if (q >= 2) row[2] = 0.2f;
    const std::vector<int32_t> q_pos = {q};
    const attention::Call view{shape, 0, 0, q_pos, attention::Phase::kPrompt, nullptr};
    statistics.see({view, 0, q, std::span(positions).first(row.size())}, row);
  }
  EXPECT_EQ(statistics.hidden_sinks(0.1)[0], 0.1);  // one of the ten keys that 32 rows or more see
  EXPECT_EQ(statistics.hidden_sinks(0.3)[0], 0);
}

TEST(Profile, APlanOfSpansIsPartOfTheFile) {
  const auto model = tiny();
  const attention::ModelShape& shape = model->shape();
  auto heads = std::make_shared<attention::HeadProfile>();
  heads->model_sha256 = std::string(64, 'a');
  heads->n_layers = shape.n_layers, heads->n_heads = shape.n_heads, heads->n_kv_heads = shape.n_kv_heads;
  set_column(*heads, "induction", std::vector<double>(heads->size(Granularity::kHead), 0.25));
  MoaPlan plan;
  plan.options.block = 8;
  for (size_t i = 0; i < heads->size(Granularity::kKvHead); ++i) plan.rules.push_back({static_cast<int>(i) - 2, 0.375});
  const auto json = with_plan({"it", R"({"measured": {"samples": 7}})", heads}, plan);
  ASSERT_TRUE(json.has_value()) << json.error().message;
  const Json document = Json::parse(*json);
  EXPECT_EQ(document["measured"]["samples"], 7);
  EXPECT_EQ(document["measured"]["moa"]["block"], 8);
  const auto read = engine::parse_head_profile(*json, "it", shape);
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_EQ(read->find("induction")->at(1), 0.25);
  EXPECT_EQ(read->find("moa_alpha", Granularity::kKvHead)->at(1), -1);
  EXPECT_EQ(read->find("moa_beta", Granularity::kKvHead)->at(1), 0.375);
  EXPECT_EQ(read->find("moa_block", Granularity::kModel)->at(0), 8);
}

}  // namespace profile_test
}  // namespace fovea::probe

#include "fovea/probe/evidence/evidence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace fovea::probe {
namespace evidence_test {

using ::testing::Each;
using ::testing::ElementsAre;

constexpr int kLayers = 2, kHeads = 3;
const attention::ModelShape kShape{.n_layers = kLayers, .n_heads = kHeads, .n_kv_heads = 3};

attention::HeadProfile profile(const std::vector<double>& retrieval) {
  attention::HeadProfile out{
      .model_sha256 = "", .n_layers = kLayers, .n_heads = kHeads, .n_kv_heads = kHeads, .columns = {}};
  out.columns["retrieval"].values = retrieval;
  return out;
}

// A prompt whose token i is byte i of the documents, one after another, behind a token of the template;
// its id is the byte.
engine::DocumentPrompt prompt_of(const std::vector<engine::Document>& documents) {
  engine::DocumentPrompt prompt;
  prompt.tokens.push_back(1000);
  prompt.places.emplace_back();
  for (size_t d = 0; d < documents.size(); ++d) {
    for (uint32_t i = 0; i < documents[d].text.size(); ++i) {
      prompt.tokens.push_back(static_cast<unsigned char>(documents[d].text[i]));
      prompt.places.push_back({static_cast<int32_t>(d), i, i + 1});
    }
  }
  return prompt;
}

// Head (layer, head) puts `mass` on each of `keys`, in the row that gives token `n_before` of the answer.
void show(Evidence& evidence, int layer, int head, size_t n_keys, const std::vector<size_t>& keys, float mass,
          int n_before = 0) {
  if (!evidence.wants(layer, head, true)) return;
  std::vector<float> row(n_keys, 0.0f);
  for (const size_t key : keys) row[key] = mass;
  std::vector<int32_t> positions(n_keys);
  std::iota(positions.begin(), positions.end(), 0);
  const std::vector<int32_t> q_pos = {static_cast<int32_t>(evidence.mass().size()) - 1 + n_before};
  const attention::Call view{kShape, layer, 0, q_pos, attention::Phase::kDecode, nullptr};
  evidence.see({view, head, q_pos[0], positions}, row);
}

TEST(Evidence, LooksOnlyAtTheBestHeads) {
  const std::vector<engine::Document> documents = {{"a", "abc"}};
  const engine::DocumentPrompt prompt = prompt_of(documents);
  const auto heads = profile({0, 0.2, 0, 0.9, 0.1, 0});
  const Evidence evidence(kShape, &heads, prompt, {.n_heads = 2});
  std::vector<int> seen;
  for (int i = 0; i < kLayers * kHeads; ++i) {
    if (evidence.wants(i / kHeads, i % kHeads, false)) seen.push_back(i);
  }
  EXPECT_THAT(seen, ElementsAre(1, 3));
}

TEST(Evidence, WithoutAProfileLooksAtEveryHead) {
  const std::vector<engine::Document> documents = {{"a", "abc"}};
  const engine::DocumentPrompt prompt = prompt_of(documents);
  const Evidence evidence(kShape, nullptr, prompt);
  for (int i = 0; i < kLayers * kHeads; ++i) EXPECT_TRUE(evidence.wants(i / kHeads, i % kHeads, true));
}

TEST(Evidence, WeighsHeadsByTheirScoresAndCopiedKeysInFull) {
  const std::vector<engine::Document> documents = {{"a", "abc"}};
  const engine::DocumentPrompt prompt = prompt_of(documents);
  const auto heads = profile({0, 0.5, 0, 1.0, 0, 0});
  Evidence evidence(kShape, &heads, prompt, {.n_heads = 2, .uncopied = 0.25});
  show(evidence, 0, 1, 6, {0, 2}, 0.5f);  // the template's token 0 counts for nothing
  show(evidence, 1, 0, 6, {3, 5}, 0.5f);  // nor does key 5, past the prompt
  evidence.take('b');                     // the byte at key 2
  EXPECT_THAT(evidence.mass(), ElementsAre(0, 0, 0.5 * 0.5, 0.25 * 0.5));
}

TEST(Evidence, RowsOfARejectedDraftCountForNothing) {
  const std::vector<engine::Document> documents = {{"a", "abcd"}};
  const engine::DocumentPrompt prompt = prompt_of(documents);
  const auto heads = profile({0, 0.5, 0, 1.0, 0, 0});
  Evidence plain(kShape, &heads, prompt, {.n_heads = 2}), drafted(kShape, &heads, prompt, {.n_heads = 2});
  const auto row = [](Evidence& evidence, int n_before, size_t key) {
    show(evidence, 0, 1, 9, {key}, 0.5f, n_before);
    show(evidence, 1, 0, 9, {key, 2}, 0.25f, n_before);
  };
  for (int i = 0; i < 4; ++i) {
    row(plain, i, static_cast<size_t>(i) + 1);
    plain.take('a' + i);
  }
  for (int i = 0; i < 3; ++i) row(drafted, i, i == 2 ? 4 : static_cast<size_t>(i) + 1);  // the last is a wrong draft's
  drafted.take('a');
  drafted.take('b');
  row(drafted, 2, 3);
  drafted.take('c');
  row(drafted, 3, 4);
  drafted.take('d');
  row(drafted, 4, 1);  // a draft that nobody took
  EXPECT_EQ(drafted.mass(), plain.mass());
  EXPECT_GT(plain.mass()[4], 0);
}

TEST(Evidence, SpansAreRankedLinesWithTheirText) {
  const std::vector<engine::Document> documents = {{"a", "zero\n\nfirst fact\nsecond\nthird\n"}, {"b", "other\n"}};
  const engine::DocumentPrompt prompt = prompt_of(documents);
  const auto heads = profile({1, 0, 0, 0, 0, 0});
  Evidence evidence(kShape, &heads, prompt, {.n_heads = 1, .uncopied = 1});
  const auto key = [&](const std::string& word) { return documents[0].text.find(word) + 1; };
  const size_t n = prompt.tokens.size();
  const size_t in_b = documents[0].text.size() + 2;
  show(evidence, 0, 0, n, {key("fact")}, 0.5f);
  evidence.take(-1);
  show(evidence, 0, 0, n, {key("second")}, 0.2f, 1);  // enough beside the line before to join it
  evidence.take(-1);
  show(evidence, 0, 0, n, {key("third"), in_b}, 0.05f, 2);
  evidence.take(-1);
  const auto spans = evidence.spans(documents);
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_EQ(spans[0].document, 0);
  EXPECT_EQ(spans[0].line_start, 3);
  EXPECT_EQ(spans[0].line_end, 4);
  EXPECT_EQ(spans[0].text, "first fact\nsecond");
  EXPECT_NEAR(spans[0].score, 0.7 / 0.8, 1e-6);  // floats of the rows
  EXPECT_EQ(spans[1].text, "third");
  EXPECT_EQ(spans[1].line_start, 5);
  EXPECT_EQ(spans[2].document, 1);
  EXPECT_EQ(spans[2].line_start, 1);
  EXPECT_EQ(spans[2].text, "other");
}

TEST(Evidence, SaysTheSameTextOnce) {
  const std::vector<engine::Document> documents = {{"a", "same line\n\nsame  line\n\nelse\n"}};
  const engine::DocumentPrompt prompt = prompt_of(documents);
  const auto heads = profile({1, 0, 0, 0, 0, 0});
  Evidence evidence(kShape, &heads, prompt, {.n_heads = 1});
  show(evidence, 0, 0, prompt.tokens.size(), {2, 14, 24}, 0.3f);
  evidence.take(-1);
  const auto spans = evidence.spans(documents);
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans[0].line_start, 1);
  EXPECT_EQ(spans[1].text, "else");
}

TEST(Evidence, OfAVeryLongLineGivesTheSentenceMeant) {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "This is sentence number " + std::to_string(i) + " of one long line. ";
  const std::vector<engine::Document> documents = {{"a", text + "\nend\n"}};
  const engine::DocumentPrompt prompt = prompt_of(documents);
  const auto heads = profile({1, 0, 0, 0, 0, 0});
  Evidence evidence(kShape, &heads, prompt, {.n_heads = 1});
  show(evidence, 0, 0, prompt.tokens.size(), {text.find("number 31") + 1}, 0.9f);
  evidence.take(-1);
  const auto spans = evidence.spans(documents);
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_THAT(spans[0].text, testing::HasSubstr("number 31 of one long line."));
  EXPECT_LE(spans[0].text.size(), 330u);
  EXPECT_EQ(spans[0].line_start, 1);
  EXPECT_EQ(spans[0].line_end, 1);
}

// The spans for one look at each of these words, with these masses.
std::vector<EvidenceSpan> spans_of(const std::string& text, const std::vector<std::pair<std::string, float>>& looks) {
  const std::vector<engine::Document> documents = {{"a", text}};
  const engine::DocumentPrompt prompt = prompt_of(documents);
  const auto heads = profile({1, 0, 0, 0, 0, 0});
  Evidence evidence(kShape, &heads, prompt, {.n_heads = 1, .uncopied = 1, .least = 0.001});
  int n_before = 0;
  for (const auto& [word, mass] : looks) {
    show(evidence, 0, 0, prompt.tokens.size(), {text.find(word) + 1}, mass, n_before++);
    evidence.take(-1);
  }
  return evidence.spans(documents);
}

const std::string kProse =
    "A heading\n\nIntro here.  The first sentence is long\nand goes on over two lines.  The second\n"
    "sentence, e.g. this one, ends\nhere. (A third one stays out.)\n\nAnother paragraph\n";

TEST(Evidence, BeginsAndEndsWithASentence) {
  const auto spans = spans_of(kProse, {{"e.g.", 0.5f}});
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0].text, "The second\nsentence, e.g. this one, ends\nhere.");
  EXPECT_EQ(spans[0].line_start, 4);
  EXPECT_EQ(spans[0].line_end, 6);
  EXPECT_EQ(spans_of(kProse, {{"paragraph", 0.5f}})[0].text, "Another paragraph");
  EXPECT_EQ(spans_of(kProse, {{"heading", 0.5f}})[0].text, "A heading");
  EXPECT_EQ(spans_of("One is here. Two is", {{"Two", 0.5f}})[0].text, "One is here. Two is");
}

TEST(Evidence, CodeAndTextWithoutSentencesStayLines) {
  const std::string code = "int a = 1;\nint b = f(a);\nint c = b.x;\n";
  const auto spans = spans_of(code, {{"f(a)", 0.5f}});
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0].text, "int b = f(a);");
  EXPECT_EQ(spans[0].line_start, 2);
  EXPECT_EQ(spans[0].line_end, 2);
  std::string endless = "start\n";
  for (int i = 0; i < 60; ++i) endless += "words without an end go on\n";
  endless += "needle line\n";
  for (int i = 0; i < 60; ++i) endless += "words without an end go on\n";
  EXPECT_EQ(spans_of(endless + "Stop.", {{"needle", 0.5f}})[0].text, "needle line");
}

TEST(Evidence, ShowsNoSentenceTwice) {
  // The second peak's line begins with the end of the sentence that the first one showed.
  const std::string text = "The cat is\nred all over. The dog\nis blue.\n";
  const auto spans = spans_of(text, {{"cat", 0.9f}, {"dog", 0.1f}});
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans[0].text, "The cat is\nred all over.");
  EXPECT_EQ(spans[1].text, "The dog\nis blue.");
  EXPECT_EQ(spans[1].line_start, 2);
  EXPECT_EQ(spans[1].line_end, 3);
  // A line that the sentence takes in is part of it, with its mass.
  const auto one = spans_of("The cat is\nred all over,\nand more.\n", {{"cat", 0.9f}, {"red", 0.1f}});
  ASSERT_EQ(one.size(), 1u);
  EXPECT_NEAR(one[0].score, 1.0, 1e-6);  // floats of the rows
}

TEST(Evidence, IsNoneWhereNoHeadLookedIntoTheText) {
  const std::vector<engine::Document> documents = {{"a", "abc"}};
  const engine::DocumentPrompt prompt = prompt_of(documents);
  const auto heads = profile({1, 0, 0, 0, 0, 0});
  Evidence evidence(kShape, &heads, prompt, {.n_heads = 1});
  show(evidence, 0, 0, prompt.tokens.size(), {0}, 1.0f);
  evidence.take(-1);
  EXPECT_THAT(evidence.mass(), Each(0));
  EXPECT_TRUE(evidence.spans(documents).empty());
}

}  // namespace evidence_test
}  // namespace fovea::probe

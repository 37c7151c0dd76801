#include "fovea/tasks/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <map>
#include <sstream>

#include "fovea/base/interrupt.h"
#include "fovea/engine/testing/golden.h"

namespace fovea::tasks {
namespace prompt_test {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Its tokens are little more than bytes: a thousand words are thousands of them.
class EveryTask : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    model_ = engine::load_model(engine::test_data("tiny-llama.gguf"));
    ASSERT_NE(model_, nullptr);
    tokenizer_ = model_->tokenizer().value();
    task_ = find_task(GetParam()).value();
  }
  std::vector<Sample> make(const SampleOptions& options) const {
    auto samples = make_samples(*task_, model_->source(), *tokenizer_, options);
    EXPECT_TRUE(samples.has_value()) << samples.error().message;
    return samples ? std::move(*samples) : std::vector<Sample>();
  }
  static SampleOptions options(int length, int n_samples, Asking asking = Asking::kSeen) {
    SampleOptions out;
    out.length = length, out.n_samples = n_samples, out.asking = asking;
    return out;
  }
  std::string text(std::span<const int32_t> ids) const { return tokenizer_->decode(ids).value(); }

  std::shared_ptr<const engine::Model> model_;
  std::shared_ptr<const tokenizers::Tokenizer> tokenizer_;
  const Task* task_ = nullptr;
};

TEST_P(EveryTask, FillsItsPromptsToTheToken) {
  for (const Asking asking : {Asking::kSeen, Asking::kLater}) {
    for (const int length : {3000, 3001}) {
      const auto samples = make(options(length, 3, asking));
      ASSERT_EQ(samples.size(), 3u);
      for (const Sample& sample : samples) {
        size_t longest = 0;
        for (const SampleQuestion& question : sample.questions) longest = std::max(longest, question.tokens.size());
        EXPECT_EQ(sample.context.size() + longest, static_cast<size_t>(length));
        const bool several = asking == Asking::kLater && !task_->info().one_question;
        EXPECT_EQ(sample.questions.size(), several ? 5u : 1u);
      }
    }
  }
}

TEST_P(EveryTask, HidesWhatIsAskedForAtItsDepth) {
  for (const Asking asking : {Asking::kSeen, Asking::kLater}) {
    const auto samples = make(options(4000, 5, asking));
    for (size_t i = 0; i < samples.size(); ++i) {
      for (const SampleQuestion& question : samples[i].questions) {
        if (!question.depth) {
          EXPECT_TRUE(task_->info().one_question);
          continue;
        }
        const auto needle =
            std::span(samples[i].context)
                .subspan(static_cast<size_t>(question.needle.begin), static_cast<size_t>(question.needle.size()));
        EXPECT_THAT(text(needle), HasSubstr(question.question.expected[0]));
        if (&question != &samples[i].questions[0]) continue;
        // A piece of filling has up to some 200 tokens here, and lies on one side of the needle or the other.
        EXPECT_NEAR(*question.depth, static_cast<double>(i) / 4, 0.06) << text(needle);
      }
    }
  }
  SampleOptions fixed = options(4000, 3);
  fixed.depth = 0.25;
  for (const Sample& sample : make(fixed)) {
    EXPECT_NEAR(sample.questions[0].depth.value_or(0.25), 0.25, 0.06);
  }
}

TEST_P(EveryTask, HoldsItsAnswersAndScoresThem) {
  if (task_->info().scores_tokens) return;
  for (const Sample& sample : make(options(4000, 2, Asking::kLater))) {
    const std::string context = text(sample.context);
    for (const SampleQuestion& question : sample.questions) {
      std::string perfect;
      for (const std::string& wanted : question.question.expected) {
        EXPECT_THAT(context, HasSubstr(wanted));
        perfect += (perfect.empty() ? "" : ", ") + wanted;
      }
      EXPECT_THAT(text(question.tokens), HasSubstr(question.question.text));
      EXPECT_EQ(task_->score(question.question, perfect), 1);
      EXPECT_EQ(task_->score(question.question, ""), 0);
      EXPECT_EQ(task_->score(question.question, "something else"), 0);
    }
  }
}

TEST_P(EveryTask, DrawsTheSameFromASeedAndOthersFromAnother) {
  SampleOptions seeded = options(3000, 2);
  const auto first = make(seeded), again = make(seeded);
  ASSERT_EQ(first.size(), again.size());
  for (size_t i = 0; i < first.size(); ++i) EXPECT_EQ(first[i].context, again[i].context);
  EXPECT_NE(first[0].context, first[1].context);
  seeded.seed = 1;
  const auto other = make(seeded);
  EXPECT_NE(other[0].context, first[0].context);
  EXPECT_NE(other[0].context, first[1].context);
}

TEST_P(EveryTask, RefusesALengthThatDoesNotHoldItAndStopsWhenAsked) {
  const auto refused = make_samples(*task_, model_->source(), *tokenizer_, options(12, 1));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::kUsage);
  EXPECT_THAT(refused.error().message, AllOf(HasSubstr("12 tokens"), HasSubstr("--length")));
  interrupt_flag() = true;
  const auto stopped = make_samples(*task_, model_->source(), *tokenizer_, options(3000, 1));
  interrupt_flag() = false;
  ASSERT_FALSE(stopped.has_value());
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
}

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const auto& each : all_tasks()) out.push_back(each.first);
  return out;
}
INSTANTIATE_TEST_SUITE_P(Tasks, EveryTask, ::testing::ValuesIn(names()),
                         [](const auto& task) { return engine::test_name(task.param); });

class Counted : public EveryTask {};
TEST_P(Counted, AsksForTheWordsThatComeMost) {
  for (const Sample& sample : make(options(6000, 2))) {
    std::map<std::string, int> counts;
    std::string context = text(sample.context);
    std::istringstream in(context.substr(context.find('.') + 60));  // past what opens it
    for (std::string word; in >> word;) ++counts[word];
    const auto& wanted = sample.questions[0].question.expected;
    int least = INT_MAX, most_of_others = 0;
    for (const auto& [word, n] : counts) {
      if (word == "...") continue;
      const bool asked = std::find(wanted.begin(), wanted.end(), word) != wanted.end();
      if (asked)
        least = std::min(least, n);
      else
        most_of_others = std::max(most_of_others, n);
    }
    EXPECT_GT(least, most_of_others);
    EXPECT_GE(least, 10);
  }
}
INSTANTIATE_TEST_SUITE_P(Tasks, Counted, ::testing::Values("cwe", "fwe"));

TEST(FindTask, TakesUnderscoresAndNamesTheNearest) {
  EXPECT_EQ(find_task("kv_retrieval").value()->info().name, "kv-retrieval");
  const auto wrong = find_task("paskey");
  ASSERT_FALSE(wrong.has_value());
  EXPECT_THAT(wrong.error().message, AllOf(HasSubstr("\"paskey\""), HasSubstr("nearest: passkey")));
}

TEST(CopyScore, EndsWithTheFirstOtherWord) {
  const Task& copy = *find_task("copy").value();
  const Question question{"", "", {"one two three four"}};
  EXPECT_EQ(copy.score(question, " one two\nthree four</passage> and more"), 1);
  EXPECT_EQ(copy.score(question, "one two 3 four"), 0.5);
}

}  // namespace prompt_test
}  // namespace fovea::tasks

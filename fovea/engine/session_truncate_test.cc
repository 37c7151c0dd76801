// Going back to a prefix with methods that keep state of a sequence: where they can, and where not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "fovea/attention/method.h"
#include "fovea/base/check.h"
#include "fovea/base/testing/paths.h"
#include "fovea/engine/session.h"

namespace fovea::attention {
namespace session_truncate_test {

// Multiplies z by how many tokens the layer has seen up to the row's, modulo `period`: a state that matters.
class Counting : public Method {
 public:
  struct State final : SequenceState {
    explicit State(bool back) : can_go_back(back) {}
    std::unique_ptr<SequenceState> clone() const override { return std::make_unique<State>(*this); }
    bool can_truncate(int32_t n_tokens) const override { return can_go_back && n_tokens % 2 == 0; }
    void truncate(int32_t n_tokens) override {
      for (int32_t& count : n_seen) count = n_tokens;
    }
    bool can_go_back;
    std::vector<int32_t> n_seen = std::vector<int32_t>(8, 0);  // by layer
  };
  std::unique_ptr<SequenceState> begin_sequence() const override { return std::make_unique<State>(back_); }
  void visit_knobs(KnobVisitor& knobs) override { knobs.add("back", back_, {.help = "whether it can go back"}); }
  bool gates(int, bool) const override { return true; }
  void gate(const Call& call, tensor::Tensor& z) const override {
    int32_t& n = static_cast<State*>(call.state)->n_seen[static_cast<size_t>(call.layer)];
    const int64_t row = z.dim(1) * z.dim(2);
    for (int64_t i = 0; i < z.dim(0); ++i) z.data()[i * row] *= static_cast<float>(n++ % 5);
  }

 private:
  bool back_ = true;
};
class FirstCounting final : public Counting {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-counting", .title = "Counting", .paper = "none", .stages = kGate, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
};
class SecondCounting final : public Counting {
 public:
  static constexpr MethodInfo kInfo{
      .name = "test-counting-too", .title = "Counting", .paper = "none", .stages = kGate, .summary = "for tests"};
  const MethodInfo& info() const override { return kInfo; }
};
FOVEA_REGISTER_METHOD(FirstCounting);
FOVEA_REGISTER_METHOD(SecondCounting);

}  // namespace session_truncate_test
}  // namespace fovea::attention

namespace fovea::engine {
namespace session_truncate_test {

std::unique_ptr<Session> session_of(const std::string& attention) {
  static const auto model = Model::load(source_dir() + "/tests/data/tiny-llama.gguf");
  EXPECT_TRUE(model.has_value()) << model.error().message;
  auto session = Session::create(*model, {.attention = attention});
  EXPECT_TRUE(session.has_value()) << session.error().message;
  return std::move(session).value();
}

std::vector<float> feed(Session& session, SequenceId sequence, int32_t begin, int32_t end) {
  std::vector<int32_t> ids;
  for (int32_t i = begin; i < end; ++i) ids.push_back(3 + i * 7 % 200);
  const auto logits = session.prefill(sequence, ids);
  EXPECT_TRUE(logits.has_value()) << logits.error().message;
  return *logits;
}

TEST(SessionTruncate, TheStateOfAMethodGoesBackToo) {
  auto session = session_of("test-counting,test-counting-too"),
       straight = session_of("test-counting,test-counting-too");
  const SequenceId a = session->begin(), fork = [&] {
    feed(*session, a, 0, 30);
    return session->fork(a);
  }();
  ASSERT_TRUE(session->can_truncate(a, 12));
  session->truncate(a, 12);
  EXPECT_EQ(feed(*session, a, 12, 20), feed(*straight, straight->begin(), 0, 20));
  EXPECT_EQ(feed(*session, fork, 30, 40), feed(*straight, straight->begin(), 0, 40));
}

TEST(SessionTruncate, OneStateThatCannotGoBackStopsAll) {
  auto session = session_of("test-counting,test-counting-too:back=0");
  const SequenceId a = session->begin();
  feed(*session, a, 0, 30);
  EXPECT_FALSE(session->can_truncate(a, 12));
  EXPECT_THROW(session->truncate(a, 12), CheckFailed);
  EXPECT_EQ(session->length(a), 30);
  EXPECT_FALSE(session_of("test-counting") == nullptr);
}

TEST(SessionTruncate, AStateMayGoBackToSomeLengthsOnly) {
  auto session = session_of("test-counting");
  const SequenceId a = session->begin();
  feed(*session, a, 0, 30);
  EXPECT_FALSE(session->can_truncate(a, 13));
  EXPECT_TRUE(session->can_truncate(a, 30));
}

TEST(SessionTruncate, ToNothingIsAFreshSequenceForEveryMethod) {
  for (const char* attention : {"dense", "test-counting:back=0", "streaming-llm:n_sink=2:window=6"}) {
    auto session = session_of(attention), straight = session_of(attention);
    const SequenceId a = session->begin();
    feed(*session, a, 0, 30);
    session->truncate(a, 0);
    EXPECT_EQ(session->length(a), 0);
    EXPECT_EQ(feed(*session, a, 0, 25), feed(*straight, straight->begin(), 0, 25)) << attention;
  }
}

TEST(SessionTruncate, KeysThatWereDroppedDoNotComeBack) {
  auto session = session_of("streaming-llm:n_sink=2:window=20");
  const SequenceId a = session->begin();
  feed(*session, a, 0, 15);
  EXPECT_TRUE(session->can_truncate(a, 10));  // nothing was dropped yet
  feed(*session, a, 15, 40);
  EXPECT_FALSE(session->can_truncate(a, 10));
}

}  // namespace session_truncate_test
}  // namespace fovea::engine

#include "fovea/formats/source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "fovea/formats/gguf.h"
#include "fovea/formats/testing/gguf_writer.h"

namespace fovea::formats {
namespace source_test {

using tensor::Parameter;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// One file with m = 4 rows of 3 (0 to 11) and v = 0 to 5.
class Source : public ::testing::Test {
 protected:
  Source() {
    GgufWriter w;
    w.key("general.architecture", "llama").tensor("m", {3, 4}).tensor("v", {6});
    for (const auto& [at, n] : {std::pair<size_t, int>{0, 12}, {64, 6}}) {
      for (int i = 0; i < n; ++i)
        w.data().replace(at + 4 * static_cast<size_t>(i), 4, GgufWriter::number(static_cast<float>(i)));
    }
    file_ = w.build();
    gguf_ = std::make_unique<Gguf>(
        Gguf::parse({reinterpret_cast<const std::byte*>(file_.data()), file_.size()}, "m.gguf").value());
  }
  static Parameter row(const std::string& name, const tensor::Stored& how) {
    return {.name = name, .hf_name = "", .shape = {}, .target = nullptr, .gguf = how};
  }
  TensorInfo found(const Parameter& p) const { return gguf_->find(p).value().value(); }
  static std::vector<float> values(const TensorInfo& t) {
    std::vector<float> out(t.data.size() / sizeof(float));
    std::memcpy(out.data(), t.data.data(), t.data.size());
    return out;
  }
  bool is_view(const TensorInfo& t) const {
    const auto* at = reinterpret_cast<const char*>(t.data.data());
    return at >= file_.data() && at < file_.data() + file_.size();
  }

  std::string file_;
  std::unique_ptr<const ModelSource> gguf_;
};

TEST_F(Source, ATensorAsItLiesIsAView) {
  const TensorInfo m = found(row("m", {}));
  EXPECT_THAT(m.dims, ElementsAre(3, 4));
  EXPECT_TRUE(is_view(m));
  EXPECT_FALSE(gguf_->find(row("none", {})).value().has_value());
}

TEST_F(Source, RowsOfAFusedTensorAreAView) {
  const TensorInfo m = found(row("m", {.row_begin = 1, .row_end = 3}));
  EXPECT_THAT(m.dims, ElementsAre(3, 2));
  EXPECT_THAT(values(m), ElementsAre(3, 4, 5, 6, 7, 8));
  EXPECT_TRUE(is_view(m));
  const TensorInfo v = found(row("v", {.row_begin = 4, .row_end = 6}));
  EXPECT_THAT(v.dims, ElementsAre(2));
  EXPECT_THAT(values(v), ElementsAre(4, 5));
}

TEST_F(Source, ATransposedTensorIsTurnedBeforeItsRowsAreTaken) {
  const TensorInfo all = found(row("m", {.transposed = true}));
  EXPECT_THAT(all.dims, ElementsAre(4, 3));
  EXPECT_THAT(values(all), ElementsAre(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11));
  EXPECT_FALSE(is_view(all));
  const TensorInfo rows = found(row("m", {.transposed = true, .row_begin = 1, .row_end = 3}));
  EXPECT_THAT(rows.dims, ElementsAre(4, 2));
  EXPECT_THAT(values(rows), ElementsAre(1, 4, 7, 10, 2, 5, 8, 11));
}

TEST_F(Source, AConstantIsAdded) {
  EXPECT_THAT(values(found(row("v", {.plus = 1}))), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(values(found(row("v", {.row_begin = 2, .row_end = 4, .plus = 1}))), ElementsAre(3, 4));
}

TEST_F(Source, RowsThatAreNotThereAreRefused) {
  const auto wrong = gguf_->find(row("m", {.row_begin = 2, .row_end = 5}));
  ASSERT_FALSE(wrong.has_value());
  EXPECT_THAT(wrong.error().message, AllOf(HasSubstr("m.gguf"), HasSubstr("has 4 rows, but 2 to 5")));
  EXPECT_FALSE(gguf_->find(row("v", {.transposed = true})).has_value());
}

TEST_F(Source, RowsOfEveryPeriodAreGathered) {
  const TensorInfo m = found(row("m", {.row_begin = 1, .row_end = 2, .row_period = 2}));
  EXPECT_THAT(m.dims, ElementsAre(3, 2));
  EXPECT_THAT(values(m), ElementsAre(3, 4, 5, 9, 10, 11));
  EXPECT_THAT(values(found(row("v", {.row_begin = 0, .row_end = 2, .row_period = 3}))), ElementsAre(0, 1, 3, 4));
  EXPECT_FALSE(gguf_->find(row("m", {.row_begin = 0, .row_end = 1, .row_period = 3})).has_value());
}

TEST_F(Source, ASliceIsOneOfTheMatricesOfATensor) {
  const TensorInfo second = found(row("m", {.slice = 1, .n_slices = 4}));
  EXPECT_THAT(second.dims, ElementsAre(3));
  EXPECT_THAT(values(second), ElementsAre(3, 4, 5));
  EXPECT_TRUE(is_view(second));
  EXPECT_THAT(values(found(row("m", {.slice = 3, .n_slices = 4, .row_begin = 1, .row_end = 3}))), ElementsAre(10, 11));
  const auto few = gguf_->find(row("m", {.slice = 4, .n_slices = 5}));
  ASSERT_FALSE(few.has_value());
  EXPECT_THAT(few.error().message, AllOf(HasSubstr("m.gguf"), HasSubstr("[3, 4]"), HasSubstr("5 slices")));
  EXPECT_FALSE(gguf_->find(row("v", {.slice = 0, .n_slices = 6})).has_value());
}

TEST_F(Source, AFusedTensorHasAllRowsThatAreCounted) {
  EXPECT_TRUE(gguf_->find(row("m", {.row_begin = 1, .row_end = 3, .fused_rows = 4})).has_value());
  const auto wrong = gguf_->find(row("m", {.row_begin = 1, .row_end = 3, .fused_rows = 5}));
  ASSERT_FALSE(wrong.has_value());
  EXPECT_THAT(wrong.error().message, HasSubstr("has 4 rows, but 5 are fused in it"));
}

TEST_F(Source, TheFamilySaysHowItsGgufFilesPairQueriesAndKeys) {
  for (const auto pairing : {tensor::RopePairing::kAdjacent, tensor::RopePairing::kHalves})
    EXPECT_EQ(gguf_->rope_pairing({.gguf = pairing}), pairing);
}

}  // namespace source_test
}  // namespace fovea::formats

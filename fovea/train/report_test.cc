#include "fovea/train/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace fovea::train {
namespace report_test {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Report, ShowsTheCurvesAndLoadsNothing) {
  std::string log;
  for (int step = 0; step < 5000; ++step)
    log += "{\"step\":" + std::to_string(step) + ",\"loss\":" + std::to_string(9.0 / (1 + step)) +
           ",\"grad_norm\":1,\"lr\":0.1,\"tokens_per_second\":100" + (step % 1000 ? "" : ",\"eval_loss\":2") + "}\n";
  log += "{\"step\": 50";  // cut
  const std::string page = report_page(log, {{"program", "fovea <1>"}, {"config", {{"out", "a&b"}}}});
  EXPECT_THAT(page, HasSubstr("fovea &lt;1&gt;"));
  EXPECT_THAT(page, HasSubstr("a&amp;b"));
  EXPECT_THAT(page, HasSubstr("held out"));
  EXPECT_THAT(page, Not(HasSubstr("//")));
  EXPECT_THAT(page, Not(HasSubstr("src=")));
  EXPECT_THAT(page, Not(HasSubstr("nan")));
  EXPECT_LT(page.size(), 200'000u);  // thinned
}

TEST(Report, OfNoStepsIsAPageToo) {
  EXPECT_THAT(report_page("", nlohmann::ordered_json::object()), HasSubstr("</html>"));
  EXPECT_THAT(report_page("{\"step\":0,\"loss\":null}\n{\"step\":1,\"loss\":3}\n", nlohmann::ordered_json::object()),
              HasSubstr("<svg"));
}

TEST(Report, HeadsHaveAPlotOfEachMeasure) {
  nlohmann::ordered_json run = {{"run", "a<b"}, {"steps", nlohmann::ordered_json::array()}};
  for (int step = 0; step < 3; ++step)
    run["steps"].push_back({{"step", step}, {"eval_loss", nullptr}, {"induction", {{0.1, 0.3 * step}, {0.2, 0.1}}}});
  const std::string page = heads_page(run);
  EXPECT_THAT(page, HasSubstr("a&lt;b"));
  EXPECT_THAT(page, HasSubstr("induction: the best head of each layer"));
  EXPECT_THAT(page, HasSubstr("layer 1"));
  EXPECT_THAT(page, HasSubstr(">0.6</text>"));  // the top of the scale
  EXPECT_THAT(page, Not(HasSubstr("//")));
  EXPECT_THAT(heads_page(nlohmann::ordered_json::object()), HasSubstr("</html>"));
}

}  // namespace report_test
}  // namespace fovea::train

#include "papers/support/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/base/json.h"

namespace fovea::papers {
namespace report_test {

using ::testing::HasSubstr;
using ::testing::Not;

Report report() {
  Report out;
  out.slug = "a-paper", out.title = "On <b> & \"quotes\"", out.model = "<script>alert('x')</script>\n",
  out.numerics = "fast";
  out.settings = {{"lengths", "512"}};
  out.checks = {{1, "a < b", Kind::kExact, false, "1 > 0 & more", "'none'", "fovea reproduce a-paper -m \"<i>\""},
                {2, "a shape", Kind::kShape, false, "0.1", "1", "c"}};
  out.skipped = {{3, "a <control>", "no data"}};
  out.cells = {{"dense <u>", {{"length", 512}}, {{"recall", 96.8}, {"scores", {1, 2, 3}}}, 1.5, false},
               {"masked", {{"length", 512}}, {{"recall", 40.7}, {"label", "<em>"}}, 2, true}};
  out.plots = {{"A <plot>", "x", "y", {{"series <1>", {{0, 1}, {1, 0.5}}}}}};
  return out;
}

TEST(ReportJson, HasTheKeysThatScriptsRelyOnAndNamesAsTheyAre) {
  const auto json = to_json(report());
  for (const char* key :
       {"slug", "model", "checks", "passed", "seed", "settings", "model_sha256", "machine", "cells", "skipped"})
    EXPECT_TRUE(json.contains(key)) << key;
  for (const auto& check : json["checks"]) {
    for (const char* key : {"item", "name", "kind", "passed", "measured", "expected", "command"})
      EXPECT_TRUE(check.contains(key)) << key;
  }
  EXPECT_EQ(json["checks"][0]["kind"], "exact");
  EXPECT_EQ(json["checks"][0]["name"], "a < b");
  EXPECT_EQ(json["passed"], false);
  EXPECT_EQ(json["cells"][0]["values"], (nlohmann::json{{"recall", 96.8}}));
  EXPECT_TRUE(parse_json(json.dump(), "the report").has_value());
}

TEST(ReportPage, EscapesEveryNameAndNeedsNothingFromElsewhere) {
  const std::string html = to_html(report());
  for (const char* wrong :
       {"<script", "<i>\"", "<u>", "<em>", "<control>", "<plot>", "<1>", "<b>", "http", "src=", "url(", "@import"})
    EXPECT_THAT(html, Not(HasSubstr(wrong)));
  for (const char* there : {"a &lt; b", "1 &gt; 0 &amp; more", "&#39;none&#39;", "&quot;&lt;i&gt;&quot;",
                            "alert(&#39;x&#39;)", "FAILED", "not shown", "96.8", "<svg", "<polyline"})
    EXPECT_THAT(html, HasSubstr(there));
}

}  // namespace report_test
}  // namespace fovea::papers

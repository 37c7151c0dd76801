// docs/models.md holds the table of families that the program prints.
#include <fstream>
#include <sstream>

#include "fovea/base/testing/paths.h"
#include "tests/cli_fixture.h"

namespace fovea {
namespace docs_models_test {

using ::testing::HasSubstr;

TEST_F(Cli, ThePageOfModelsHasTheTableOfTheRegistry) {
  const Ended ran = run({"check", "--families"});
  ASSERT_EQ(ran.code, 0) << ran.err;
  std::stringstream page;
  page << std::ifstream(source_dir() + "/docs/models.md").rdbuf();
  EXPECT_THAT(page.str(), HasSubstr(ran.out)) << "put what `fovea check --families` prints there";
  EXPECT_THAT(ran.out, HasSubstr("| `llama` |"));
}

}  // namespace docs_models_test
}  // namespace fovea

#include "fovea/tokenizers/chat_template.h"

#include <gtest/gtest.h>

#include <fstream>

namespace fovea::tokenizers {
TEST(ChatTemplate, RendersAsJinja2Does) {
  std::ifstream file(std::string(FOVEA_SOURCE_DIR) + "/tests/golden/templates.json");
  for (const auto& c : nlohmann::ordered_json::parse(file)) {
    auto t = ChatTemplate::parse(c["template"].get<std::string>());
    ASSERT_TRUE(t.has_value()) << t.error().message;
    auto r = t->render(c["context"]);
    ASSERT_EQ(r.has_value(), c.contains("expected")) << c["template"] << (r ? "" : r.error().message);
    EXPECT_EQ(r ? *r : r.error().message, c[r ? "expected" : "error"].get<std::string>()) << c["template"];
  }
}
}  // namespace fovea::tokenizers

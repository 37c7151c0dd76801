#include "fovea/base/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace fovea {
namespace registry_test {

TEST(Registry, RefusesADoubleNameAndKeepsTheFirst) {
  std::map<std::string, int> dishes;
  EXPECT_TRUE(add_once(dishes, "dishes", "soup", 1));
  EXPECT_TRUE(add_once(dishes, "dishes", "salad", 2));
  EXPECT_THAT([&] { add_once(dishes, "dishes", "soup", 3); },
              testing::ThrowsMessage<CheckFailed>(testing::HasSubstr("two dishes are called soup")));
  EXPECT_EQ(dishes.at("soup"), 1);
}

}  // namespace registry_test
}  // namespace fovea

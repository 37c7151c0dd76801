#include "fovea/base/numbers.h"

#include <gtest/gtest.h>

namespace fovea {
namespace numbers_test {

TEST(Numbers, TheWholeTextIsOneDecimalNumber) {
  int value = 7;
  for (const char* text : {"", " 1", "1 ", "+1", "0x10", "1e3", "1.5", "1k", "2147483648", "-2147483649", "abc"}) {
    EXPECT_FALSE(parse_number(text, value)) << text;
    EXPECT_EQ(value, 7) << text;
  }
  EXPECT_TRUE(parse_number("010", value));
  EXPECT_EQ(value, 10);
  EXPECT_TRUE(parse_number("-2147483648", value));
  uint64_t wide = 7;
  EXPECT_FALSE(parse_number("-1", wide));
  EXPECT_FALSE(parse_number("18446744073709551616", wide));
  EXPECT_TRUE(parse_number("18446744073709551615", wide));
  double real = 0;
  EXPECT_TRUE(parse_number("-1.5e-3", real));
  EXPECT_EQ(real, -1.5e-3);
  EXPECT_FALSE(parse_number("1,5", real));
}

TEST(Numbers, SizesHaveSuffixesOfThousandsAndOf1024) {
  const auto size = [](const char* text) {
    uint64_t bytes = 0;
    EXPECT_TRUE(parse_size(text, bytes)) << text;
    return bytes;
  };
  EXPECT_EQ(size("0"), 0u);
  EXPECT_EQ(size("4096"), 4096u);
  EXPECT_EQ(size("4096b"), 4096u);
  EXPECT_EQ(size("2k"), 2000u);
  EXPECT_EQ(size("500MB"), 500'000'000u);
  EXPECT_EQ(size("2G"), 2'000'000'000u);
  EXPECT_EQ(size("2GiB"), uint64_t{2} << 30);
  EXPECT_EQ(size("1ti"), uint64_t{1} << 40);
  EXPECT_EQ(size("9223372036854775807"), kMaxSize);
}

TEST(Numbers, SizesAreShownInTheUnitThatFits) {
  EXPECT_EQ(size_text(0), "0 bytes");
  EXPECT_EQ(size_text(999), "999 bytes");
  EXPECT_EQ(size_text(400'000), "400.0 kB");
  EXPECT_EQ(size_text(1'250'000), "1.2 MB");
  EXPECT_EQ(size_text(2e9), "2.0 GB");
}

TEST(Numbers, NoSizeIsNegativeFractionalOrTooLarge) {
  uint64_t bytes = 7;
  for (const char* text : {"", "-1", "-1G", "1.5G", "G", "1 G", "1X", "1GBB", "1Gib2", "9223372036854775808",
                           "99999999999999999999", "9223373T", "9007199254740993K "}) {
    EXPECT_FALSE(parse_size(text, bytes)) << text;
  }
  EXPECT_EQ(bytes, 7u);
}

}  // namespace numbers_test
}  // namespace fovea

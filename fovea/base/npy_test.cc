#include "fovea/base/npy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fovea {
namespace npy_test {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string npy(const std::string& type, const std::string& shape, const std::string& data) {
  const std::string dict = "{'descr': '" + type + "', 'fortran_order': False, 'shape': " + shape + ", }\n";
  std::string out = "\x93NUMPY\x01";
  out += '\0';
  out += static_cast<char>(dict.size());
  out += '\0';
  return out + dict + data;
}

TEST(Npy, IntegersOfEveryWidth) {
  using namespace std::string_literals;
  EXPECT_THAT(parse_npy_integers(npy("<i4", "(2,)", "\1\0\0\0\xFF\xFF\xFF\xFF"s), "n").value(), ElementsAre(1, -1));
  EXPECT_THAT(parse_npy_integers(npy("<i8", "(1,)", "\2\1\0\0\0\0\0\0"s), "n").value(), ElementsAre(258));
  EXPECT_THAT(parse_npy_integers(npy("|u1", "(2,)", "\1\xFF"s), "n").value(), ElementsAre(1, 255));
  EXPECT_THAT(parse_npy_integers(npy("<u2", "(0,)", ""), "n").value(), ElementsAre());
}

TEST(Npy, WhatIsNoListOfIntegersIsRefused) {
  const std::pair<std::string, const char*> wrong[] = {
      {"hello", "no NumPy file"},
      {npy("<f4", "(1,)", "abcd"), "whole numbers"},
      {npy(">i4", "(1,)", "abcd"), "whole numbers"},
      {npy("<i4", "(1, 1)", "abcd"), "one dimension"},
      {npy("<i4", "()", "abcd"), "one dimension"},
      {npy("<i4", "(2,)", "abcd"), "4 bytes follow"},
      {npy("<i4", "(4611686018427387905,)", "abcd"), "4 bytes follow"},
      {npy("<u8", "(1,)", "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), "over 2^63"},
      {std::string("\x93NUMPY\x01\x00\xFF\xFF{", 11), "header"},
      {std::string("\x93NUMPY\x09\x00", 8), "format 9"},
  };
  for (const auto& [bytes, message] : wrong) {
    const auto read = parse_npy_integers(bytes, "n");
    ASSERT_FALSE(read.has_value()) << message;
    EXPECT_THAT(read.error().message, HasSubstr(message));
  }
}

TEST(Npy, FloatsOfAnyShape) {
  using namespace std::string_literals;
  const auto read = parse_npy_floats(npy("<f4", "(2, 1)", "\0\0\x80?\0\0\0\xC0"s), "n");
  ASSERT_TRUE(read.has_value()) << read.error().message;
  EXPECT_THAT(read->dims, ElementsAre(2, 1));
  EXPECT_THAT(read->values, ElementsAre(1.0f, -2.0f));
  EXPECT_THAT(parse_npy_floats(npy("<f8", "(1,)", "\0\0\0\0\0\0\xF8?"s), "n").value().values, ElementsAre(1.5f));
  EXPECT_THAT(parse_npy_floats(npy("|u1", "(1, 2)", "\3\xFF"s), "n").value().values, ElementsAre(3.0f, 255.0f));
}

TEST(Npy, WhatIsNoArrayOfFloatsIsRefused) {
  const std::pair<std::string, const char*> wrong[] = {{npy("<f2", "(1,)", "ab"), "numbers"},
                                                       {npy("<f4", "(2, 3)", "abcd"), "4 bytes follow"},
                                                       {npy("<f4", "(x,)", "abcd"), "its shape"}};
  for (const auto& [bytes, message] : wrong) {
    const auto read = parse_npy_floats(bytes, "n");
    ASSERT_FALSE(read.has_value()) << message;
    EXPECT_THAT(read.error().message, HasSubstr(message));
  }
  std::string turned = npy("<f4", "(1, 1)", "abcd");
  turned.replace(turned.find("False"), 5, "True ");
  EXPECT_THAT(parse_npy_floats(turned, "n").error().message, HasSubstr("Fortran"));
}

}  // namespace npy_test
}  // namespace fovea

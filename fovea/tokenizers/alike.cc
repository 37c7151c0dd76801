#include "fovea/tokenizers/alike.h"

namespace fovea::tokenizers {
namespace {

constexpr std::string_view kMixed =
    "Hello, World! It's 3.14159 or 1234567 (2024-05-06); they'LL  say:\n\n\n\tdef f(x):\r\n    return x**2  # ok\n"
    "na\xC3\xAFve caf\xC3\xA9 cafe\xCC\x81 \xC3\x9C"
    "ber Stra\xC3\x9F"
    "e \xD0\x9F\xD1\x80\xD0\xB8\xD0\xB2\xD0\xB5\xD1\x82 \xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D "
    "\xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x8C\xE4\xB8\x96\xE7\x95\x8C\xE3\x80\x82 \xE3\x81\x93\xE3\x82\x93 "
    "\xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4 \xE0\xB8\xAA\xE0\xB8\xA7 \xF0\x9F\x98\x80\xF0\x9F\x91\x8D "
    "\xC2\xBD \xE2\x85\xA7 e=mc\xC2\xB2 \xEF\xAC\x81 $100,000.00 a_b CamelCaseWords \xE2\x80\x9Cq\xE2\x80\x9D   end ";
// How a text begins and ends, and runs of one thing, which cut rules differ in.
constexpr std::string_view kEdges[] = {"",          " ",    "  ",        "hello",   " hello", "hello ",
                                       "  hello  ", "\n",   "\thello\n", "A b",     "a\n\nb", "aaaaab ab",
                                       "abab",      "1 22", "12345 ",    ".,;!? .", "'s",     "x's y'll"};
constexpr size_t kMost = 400'000;  // bytes of tokens: a tenth of a second

}  // namespace

std::string probe_text(const Tokenizer& tokenizer) {
  std::string text(kMixed);
  for (int32_t id = 0; id < tokenizer.vocab_size() && text.size() < kMost; ++id) {
    if (!tokenizer.is_control(id)) text += tokenizer.piece(id);
  }
  return text;
}

Result<bool> gives_the_same(const Tokenizer& a, const Tokenizer& b, const std::string& probe) {
  std::vector<std::string_view> texts(std::begin(kEdges), std::end(kEdges));
  texts.push_back(probe);
  for (const std::string_view text : texts) {
    FOVEA_ASSIGN_OR_RETURN(const auto one, a.encode(text));
    FOVEA_ASSIGN_OR_RETURN(const auto other, b.encode(text));
    if (one != other) return false;
  }
  return true;
}

}  // namespace fovea::tokenizers

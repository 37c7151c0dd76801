#include "fovea/tokenizers/alike.h"

#include <iterator>
#include <set>
#include <utility>

#include "fovea/base/random.h"
#include "fovea/tokenizers/utf8.h"

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
constexpr std::string_view kEdges[] = {"",         " ",       "  ",        "hello",   " hello", "hello ",
                                       "  hello ", "\n",      "\thello\n", "A b",     "a\n\nb", "1 22",
                                       "12345 ",   ".,;!? .", "'s",        "x's y'll"};
constexpr size_t kMost = 400'000;  // bytes of tokens: a tenth of a second
constexpr int kRandomTexts = 400;
constexpr size_t kLongest = 24;  // pieces of a random text

// Runs of letters, spaces and signs, besides every character of the rules.
std::vector<std::string> random_texts(std::string_view rules) {
  std::vector<std::string> pieces = {"a", "a",  "b", "B", "1",        "7",           " ",
                                     " ", "\n", "'", ".", "\xC3\xA9", "\xE4\xBD\xA0"};
  std::set<std::string> seen;
  for (const char *p = rules.data(), *end = p + rules.size(); p < end;) {
    const CodePoint c = code_point_at(p, end);
    if (seen.emplace(p, c.bytes).second) pieces.emplace_back(p, c.bytes);
    p += c.bytes;
  }
  Rng random(1);
  std::vector<std::string> texts;
  for (int i = 0; i < kRandomTexts; ++i) {
    std::string text;
    for (size_t n = 1 + random.below(kLongest); n > 0; --n) text += pieces[random.below(pieces.size())];
    texts.push_back(std::move(text));
  }
  // Runs of few pieces: what a repetition in a rule takes.
  for (const std::string& piece : seen) {
    std::string text;
    for (int i = 0; i < 40; ++i) text += random.below(4) ? piece : pieces[random.below(pieces.size())];
    texts.push_back(std::move(text));
  }
  return texts;
}

}  // namespace

std::vector<std::string> probe_texts(const Tokenizer& tokenizer, std::string_view rules) {
  std::vector<std::string> texts = random_texts(rules);
  texts.insert(texts.end(), std::begin(kEdges), std::end(kEdges));
  std::string whole(kMixed);
  for (int32_t id = 0; id < tokenizer.vocab_size() && whole.size() < kMost; ++id) {
    if (!tokenizer.is_control(id)) whole += tokenizer.piece(id);
  }
  texts.push_back(std::move(whole));
  return texts;
}

Result<bool> gives_the_same(const Tokenizer& a, const Tokenizer& b, const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    FOVEA_ASSIGN_OR_RETURN(const auto one, a.encode(text));
    FOVEA_ASSIGN_OR_RETURN(const auto other, b.encode(text));
    if (one != other) return false;
  }
  return true;
}

}  // namespace fovea::tokenizers

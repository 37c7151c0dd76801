#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "fovea/engine/document_prompt.h"
#include "fovea/tasks/words.h"
#include "papers/pine/measure.h"

namespace fovea::papers::pine {
namespace {

constexpr std::array<std::pair<const char*, const char*>, kPairs> kClaims = {{
    {"The capital of France is Paris.", "The capital of France is Madrid."},
    {"Two plus three is five.", "Two plus three is nine."},
    {"A week has seven days.", "A week has ten days."},
    {"Snow is white.", "Snow is black."},
    {"Fish live in water.", "Fish live in trees."},
    {"The sun is a star.", "The sun is a planet."},
    {"Ice is frozen water.", "Ice is frozen milk."},
    {"Cows eat grass.", "Cows eat stones."},
    {"A spider has eight legs.", "A spider has four legs."},
    {"Bees make honey.", "Bees make butter."},
    {"Rome is in Italy.", "Rome is in Canada."},
    {"Ten minus four is six.", "Ten minus four is three."},
    {"Winter is cold.", "Winter is hot."},
    {"The moon goes around the earth.", "The moon goes around the sea."},
    {"Bread is made from flour.", "Bread is made from sand."},
    {"A triangle has three sides.", "A triangle has five sides."},
    {"Lemons taste sour.", "Lemons taste salty."},
    {"Birds have feathers.", "Birds have scales."},
    {"Japan is in Asia.", "Japan is in Europe."},
    {"An hour has sixty minutes.", "An hour has thirty minutes."},
    {"Fire is hot.", "Fire is wet."},
    {"Penguins cannot fly.", "Penguins fly south in winter."},
    {"Half of eight is four.", "Half of eight is six."},
    {"Gold is a metal.", "Gold is a fruit."},
}};

}  // namespace

Asked draw_documents(int n_documents, int n_facts, uint64_t seed) {
  Rng rng(seed);
  const auto n = static_cast<size_t>(n_documents);
  const auto first = tasks::some_of(tasks::first_names(), n, rng), last = tasks::some_of(tasks::family_names(), n, rng);
  const auto towns = tasks::some_of(tasks::towns(), n, rng), things = tasks::draw_keys(n, rng);
  Asked out;
  for (size_t i = 0; i < n; ++i) {
    const std::string name = first[i] + " " + last[i];
    std::string text;
    if (n_facts > 1) text += fmt::format("{} worked as a {}. ", name, tasks::one_of(tasks::trades(), rng));
    if (n_facts > 2) text += fmt::format("{} was born in {}. ", name, tasks::one_of(tasks::months(), rng));
    text += fmt::format("One day {} found the {}.", name, things[i]);
    if (n_facts > 3) text += fmt::format(" {} liked to eat {}.", name, tasks::one_of(tasks::foods(), rng));
    out.documents.push_back({towns[i], text});
  }
  out.question = fmt::format("Who found the {}?", things[0]);
  out.begin = fmt::format("The {} was found by", things[0]);
  out.wanted = first[0] + " " + last[0];
  return out;
}

Asked judged_pair(size_t i) {
  const std::array<std::string, 2> names = {i % 2 ? "Ada" : "Ben", i % 2 ? "Ben" : "Ada"};
  return {{{names[0], kClaims.at(i).first}, {names[1], kClaims.at(i).second}},
          "One file tells the truth and the other is wrong. Which one tells the truth?",
          "The truth is told by",
          names[0]};
}

Result<Prompt> make_prompt(Run& run, const Asked& asked, const std::vector<size_t>& order) {
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, run.model()->tokenizer());
  const auto of = [&](const std::vector<size_t>& in_order) -> Result<Prompt> {
    std::vector<Document> documents;
    for (const size_t i : in_order) documents.push_back(asked.documents[i]);
    FOVEA_ASSIGN_OR_RETURN(auto made,
                           engine::make_document_prompt(run.model()->source(), *tokenizer, documents, asked.question));
    FOVEA_ASSIGN_OR_RETURN(const auto begin, tokenizer->encode(asked.begin, {.add_special = false, .continues = true}));
    made.tokens.insert(made.tokens.end(), begin.begin(), begin.end());
    return Prompt{std::move(made.tokens), std::move(made.segments)};
  };
  std::vector<size_t> plain(asked.documents.size());
  for (size_t i = 0; i < plain.size(); ++i) plain[i] = i;
  FOVEA_ASSIGN_OR_RETURN(Prompt out, of(order));
  FOVEA_ASSIGN_OR_RETURN(const Prompt as_drawn, of(plain));
  for (size_t at = 0; at < order.size(); ++at) {
    const attention::Span &here = out.segments[at], &there = as_drawn.segments[order[at]];
    if (!std::equal(out.tokens.begin() + here.begin, out.tokens.begin() + here.end,
                    as_drawn.tokens.begin() + there.begin, as_drawn.tokens.begin() + there.end))
      return make_error(ErrorCode::kData, "pine: document {} is read as other tokens at place {}", order[at], at);
  }
  return out;
}

}  // namespace fovea::papers::pine

#include "apps/cli/looks.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/cli/documents.h"
#include "fovea/base/bytes.h"

namespace fovea::cli {
namespace {

constexpr const char* kDoesNotSay = "The text does not say.";

}  // namespace

void add_look_flag(CommandLine& sub, std::string& look) {
  sub.add_option("--look", look,
                 "read again what the answer came from, and choose among the answers: once does not, twice does, auto "
                 "does where it costs no more than a tenth of the first reading")
      .one_of({"once", "twice", "auto"})
      .show_default();
}

probe::LookOptions look_options(const std::string& look) {
  probe::LookOptions options;
  if (look == "twice") options.least = probe::LookOptions::kWhole;
  return options;
}

std::string answer_text(const probe::Looked& looked) {
  return looked.supported ? looked.looks[looked.chosen].answer : kDoesNotSay;
}

nlohmann::json looks_json(const probe::Looked& looked, const std::vector<engine::Document>& documents) {
  nlohmann::json rows = nlohmann::json::array();
  for (const probe::Look& look : looked.looks) {
    nlohmann::json row = {{"view", probe::name_of(look.view)}, {"answer", nullptr}, {"logprob", nullptr}};
    if (!look.tokens.empty()) {
      row["answer"] = look.answer;
      row["logprob"] = look.logprob;
      row["logprob_passage"] = look.within, row["logprob_without"] = look.without;
    }
    if (look.view == probe::View::kPassage) {
      row["file"] = documents[static_cast<size_t>(look.passage.document)].name;
      row["line_start"] = look.passage.line_start, row["line_end"] = look.passage.line_end;
      row["question_gain"] = look.question;
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string looks_text(const probe::Looked& looked, const std::vector<engine::Document>& documents) {
  if (looked.looks.size() < 2) return "";
  const probe::Look& first = looked.looks[0];
  const probe::Look& passage = looked.looks[1];
  const probe::Passage& lines = passage.passage;
  const std::string place =
      place_text(documents[static_cast<size_t>(lines.document)], lines.line_start, lines.line_end);
  if (!looked.supported) return fmt::format("\nread again  {} does not support this: the text does not say\n", place);
  if (!looked.disagree) return fmt::format("\nread again  {} says the same\n", place);
  const auto shown = [](const probe::Look& look) { return escaped_text(look.answer); };
  if (looked.chosen == 0)
    return fmt::format("\nread again  {} alone says otherwise, and is believed less: {}\n", place, shown(passage));
  return fmt::format("\nread again  {} says otherwise, and is believed:\n{}\n(the whole text gave: {})\n", place,
                     shown(passage), shown(first));
}

}  // namespace fovea::cli

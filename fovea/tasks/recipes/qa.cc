// Questions about people of whom the text tells one after the other, each in a paragraph of its own. Fovea's own: the
// facts are drawn and written into prose, so that no model can know an answer but from the text.
#include <fmt/format.h>

#include <memory>
#include <set>

#include "fovea/tasks/task.h"
#include "fovea/tasks/words.h"

namespace fovea::tasks {
namespace {

struct Person {
  std::string name, trade, home, born, liked, found, met;
};

// Nobody twice.
class People {
 public:
  Person next(Rng& rng) {
    Person p;
    do {
      // A third name once the pairs grow scarce.
      p.name = one_of(first_names(), rng) + " " + (seen_.size() > 1000 ? one_of(first_names(), rng) + " " : "") +
               one_of(family_names(), rng);
    } while (!seen_.insert(p.name).second);
    p.trade = one_of(trades(), rng);
    p.home = one_of(towns(), rng);
    p.born = one_of(months(), rng);
    p.liked = one_of(foods(), rng);
    p.found = one_of(adjectives(), rng) + " " + one_of(nouns(), rng);
    p.met = one_of(first_names(), rng);
    return p;
  }

 private:
  std::set<std::string> seen_;
};

std::string tell(const Person& p, Rng& rng) {
  const char* first = rng.below(2) == 0 ? "{0} lived in {2} and worked as a {1}." : "{0} was a {1} in {2}.";
  std::vector<std::string> facts = {fmt::format("{} was born in {}.", p.name, p.born),
                                    fmt::format("What {} liked to eat above all was {}.", p.name, p.liked),
                                    fmt::format("One day {} found a {} and gave it to {}.", p.name, p.found, p.met)};
  shuffle(facts, rng);
  std::string out = "\n" + fmt::format(fmt::runtime(first), p.name, p.trade, p.home);
  for (const std::string& fact : facts) out += " " + fact;
  return out;
}

Question ask_about(const Person& p, uint64_t kind) {
  switch (kind) {
    case 0: return {fmt::format("In which town did {} live?", p.name), "", {p.home}};
    case 1: return {fmt::format("What was the trade of {}?", p.name), "", {p.trade}};
    case 2: return {fmt::format("In which month was {} born?", p.name), "", {p.born}};
    case 3: return {fmt::format("What did {} like to eat above all?", p.name), "", {p.liked}};
    case 4: return {fmt::format("What did {} find one day?", p.name), "", {p.found}};
    default: return {fmt::format("To whom did {} give what was found?", p.name), "", {p.met}};
  }
}

class Qa final : public Task {
 public:
  static constexpr TaskInfo kInfo{
      .name = "qa", .summary = "a fact about one of many people of a text", .source = "Fovea"};
  const TaskInfo& info() const override { return kInfo; }

  Writing write(Draw& draw) const override {
    Writing out;
    out.before = "Read about these people. Then answer a question in one short sentence.\n";
    const auto people = std::make_shared<People>();
    out.next = [&draw, people] { return tell(people->next(draw.rng), draw.rng); };
    for (int i = 0; i < draw.n_questions; ++i) {
      const Person person = people->next(draw.rng);
      out.hidden.push_back({tell(person, draw.rng), draw.depth_of(i), i});
      out.questions.push_back(ask_about(person, draw.rng.below(6)));
      out.questions.back().text = "Question: " + out.questions.back().text;
    }
    return out;
  }
};
FOVEA_REGISTER_TASK(Qa)

}  // namespace
}  // namespace fovea::tasks

#include "fovea/tasks/recipes/magic_numbers.h"

#include <fmt/format.h>

#include "fovea/tasks/words.h"

namespace fovea::tasks {

Writing hide_magic_numbers(Draw& draw, const MagicNumbers& numbers) {
  const bool one = numbers.n_values == 1;
  const auto n_keys = static_cast<size_t>(numbers.n_asked + numbers.n_others);
  const auto n_values = static_cast<size_t>(numbers.n_values);
  const auto keys = draw_keys(n_keys, draw.rng);
  const auto values = draw_numbers(n_keys * n_values, numbers.digits, draw.rng);
  Writing out;
  out.before = fmt::format(
      "{} hidden within the following text. Make sure to memorize {}. I will quiz you about the {} afterwards.",
      n_keys * n_values == 1 ? "A special magic number is" : "Some special magic numbers are",
      n_keys * n_values == 1 ? "it" : "them", n_keys * n_values == 1 ? "number" : "numbers");
  out.next = [&draw] { return draw.haystack.next(); };
  for (size_t k = 0; k < n_keys; ++k) {
    const bool asked = k < static_cast<size_t>(numbers.n_asked);
    std::vector<std::string> expected;
    for (size_t v = 0; v < n_values; ++v) {
      const std::string& value = expected.emplace_back(values[k * n_values + v]);
      const bool first = asked && v == 0;
      out.hidden.push_back({fmt::format(" One of the special magic numbers for {} is: {}.", keys[k], value),
                            first ? draw.depth_of(static_cast<int>(k)) : draw.rng.uniform(),
                            first ? static_cast<int>(k) : -1});
    }
    if (!asked) continue;
    out.questions.push_back(
        {one ? fmt::format("What is the special magic number for {} mentioned in the provided text?", keys[k])
             : fmt::format("What are all the special magic numbers for {} mentioned in the provided text?", keys[k]),
         one ? fmt::format("The special magic number for {} mentioned in the provided text is", keys[k])
             : fmt::format("The special magic numbers for {} mentioned in the provided text are", keys[k]),
         std::move(expected)});
  }
  return out;
}

}  // namespace fovea::tasks

// A JSON object of random keys and values, both UUIDs; the value of one key is asked for.
// Liu et al., "Lost in the Middle: How Language Models Use Long Contexts", arXiv:2307.03172, sec. 3. The last value of
// the object is as long as makes the prompt's length exact.
#include <fmt/format.h>

#include "fovea/tasks/task.h"

namespace fovea::tasks {
namespace {

std::string draw_uuid(Rng& rng) {
  const uint64_t a = rng.next(), b = rng.next();
  return fmt::format("{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", a >> 32, (a >> 16) & 0xffff, a & 0xffff, b >> 48,
                     b & 0xffff'ffff'ffff);
}
std::string pair_line(const std::string& key, const std::string& value) {
  return fmt::format("\n \"{}\": \"{}\",", key, value);
}

class KvRetrieval final : public Task {
 public:
  static constexpr TaskInfo kInfo{.name = "kv-retrieval",
                                  .summary = "the value of a key in a JSON object of UUIDs",
                                  .source = "Liu et al., arXiv:2307.03172, sec. 3"};
  const TaskInfo& info() const override { return kInfo; }

  Writing write(Draw& draw) const override {
    Writing out;
    out.before = "Extract the value corresponding to the specified key in the JSON object below.\n\nJSON data:\n{";
    out.after = "\"\n}";
    out.next = [&draw] { return pair_line(draw_uuid(draw.rng), draw_uuid(draw.rng)); };
    out.last = [&draw] {
      std::string text = fmt::format("\n \"{}\": \"{}", draw_uuid(draw.rng), draw_uuid(draw.rng));
      for (int i = 0; i < 5; ++i) text += "-" + draw_uuid(draw.rng);
      return text;
    };
    for (int i = 0; i < draw.n_questions; ++i) {
      const std::string key = draw_uuid(draw.rng), value = draw_uuid(draw.rng);
      out.hidden.push_back({pair_line(key, value), draw.depth_of(i), i});
      out.questions.push_back({fmt::format("Key: \"{}\"", key), "Corresponding value:", {value}});
    }
    return out;
  }
};
FOVEA_REGISTER_TASK(KvRetrieval)

}  // namespace
}  // namespace fovea::tasks

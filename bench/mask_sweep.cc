// What masking K heads does to what a model can do, the best retrieval heads against as many random ones
// (after Wu et al., arXiv:2404.15574, sec. 4): answering a question whose answer stands in the text; saying what is
// known without any text; word problems answered at once, and step by step. Finding a needle is a check of
// `fovea reproduce retrieval-heads`.
// The masks hold while decoding; --attention retrieval-heads is what runs.
//
//   bench_mask_sweep MODEL [KEY=VALUE ...]
//     tasks=extract,known,direct,chain   k=0,5,10,20,30,50,100   modes=uniform (zero, mean)
//     draws=1      random draws of K heads outside the best 100, averaged (0: none)
//     problems=12  word problems
//     show=0       1: every answer as well
//     seed=7       of the problems; the head profile is the stored or the shipped one
//
// A task is shown as one row per setting. Ends with 1 only if a mask of no head changes an answer; what
// the masks do is a measurement.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "bench/must.h"
#include "fovea/base/file.h"
#include "fovea/base/random.h"
#include "fovea/base/split.h"
#include "fovea/engine/chat.h"
#include "fovea/engine/document_prompt.h"
#include "fovea/engine/session.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/kernels/isa.h"
#include "fovea/kernels/vector.h"
#include "fovea/probe/measures/profile.h"
#include "fovea/store/model_store.h"

namespace fovea {
namespace {

using bench::must;
using Model = std::shared_ptr<const engine::Model>;
using Tokenizer = std::shared_ptr<const tokenizers::Tokenizer>;

std::vector<std::string> words(const std::string& list) {
  const auto parts = split(list, ',');
  return {parts.begin(), parts.end()};
}

[[noreturn]] void stop(ErrorCode code, const std::string& why) {
  fmt::print(stderr, "bench_mask_sweep: {}\n", why);
  std::exit(exit_code(code));
}

int number(const std::string& key, const std::string& text, int min, int max) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < min || value > max)
    stop(ErrorCode::kUsage, fmt::format("{}={}: a number in {} to {} should stand there", key, text, min, max));
  return value;
}

struct Options {
  std::vector<std::string> tasks = {"extract", "known", "direct", "chain"}, modes = {"uniform"};
  std::vector<int> k = {0, 5, 10, 20, 30, 50, 100};
  int draws = 1, problems = 12, show = 0, seed = 7;
};

Options read_options(int argc, char** argv) {
  Options options;
  const auto check = [](const std::string& key, const std::string& value, std::initializer_list<const char*> known) {
    if (std::find(known.begin(), known.end(), value) == known.end())
      stop(ErrorCode::kUsage, fmt::format("{}: {} is none of {}", key, value, fmt::join(known, ", ")));
  };
  for (int i = 2; i < argc; ++i) {
    const std::string argument = argv[i];
    const size_t equals = argument.find('=');
    const std::string key = argument.substr(0, equals),
                      value = equals < argument.size() ? argument.substr(equals + 1) : "";
    if (key == "tasks") {
      options.tasks = words(value);
      for (const std::string& task : options.tasks) check(key, task, {"extract", "known", "direct", "chain"});
    } else if (key == "modes") {
      options.modes = words(value);
      for (const std::string& mode : options.modes) check(key, mode, {"uniform", "zero", "mean"});
    } else if (key == "k") {
      options.k.clear();
      for (const std::string& k : words(value)) options.k.push_back(number(key, k, 0, 1 << 20));
    } else if (key == "draws") {
      options.draws = number(key, value, 0, 100);
    } else if (key == "problems") {
      options.problems = number(key, value, 1, 1000);
    } else if (key == "show") {
      options.show = number(key, value, 0, 1);
    } else if (key == "seed") {
      options.seed = number(key, value, 0, 1 << 30);
    } else {
      stop(ErrorCode::kUsage, argument + ": the keys are tasks, k, modes, draws, problems, show and seed");
    }
  }
  return options;
}

// One thing that can be asked of a model, and what an answer is worth.
struct Question {
  std::vector<int32_t> tokens;
  int most_tokens = 0;
  bool one_line = true;  // the answer ends with its first line
  struct Verdict {
    double score;  // 0 to 1
    std::string label;
  };
  std::function<Verdict(const std::string& answer)> judge;
};
struct Task {
  std::string name, what;
  std::vector<Question> questions;
};

// Without case, and with every run of spaces and line ends as one space.
std::string plain(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (!std::isspace(static_cast<unsigned char>(c))) {
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!out.empty() && out.back() != ' ') {
      out += ' ';
    }
  }
  return out;
}

// Questions about the licences that Debian installs. `fact` finds the place; an answer is right if it
// holds `answer`, or the other way to write it.
struct Fact {
  const char *file, *fact, *question, *answer, *or_answer;
};
constexpr Fact kFacts[] = {
    {"GPL-2", "valid for at least three", "For how many years must the written offer be valid?", "three", "3"},
    {"GPL-2", "51 Franklin", "In which city is the Free Software Foundation?", "Boston", nullptr},
    {"GPL-3", "\"The Program\" refers", "What does \"The Program\" refer to?", "copyrightable work", nullptr},
    {"GPL-3", "semiconductor masks", "To which kind of works do copyright-like laws apply, for example?",
     "semiconductor masks", nullptr},
    {"GPL-3", "or household purposes", "For which purposes is a consumer product normally used?", "household", nullptr},
    {"GPL-3", "preferred form of the work", "What does the \"source code\" for a work mean?", "preferred form",
     nullptr},
    {"Apache-2.0", "fifty percent", "The ownership of which share of the outstanding shares means control?", "fifty",
     "50"},
    {"Apache-2.0", "granting the License", "Who is the Licensor?", "copyright owner", nullptr},
    {"MPL-2.0", "is the license steward", "Who is the license steward?", "Mozilla Foundation", nullptr},
    {"GFDL-1.3", "at least one year after",
     "How long after the last Opaque copy must the Transparent copy remain accessible?", "one year", "1 year"},
    {"LGPL-2.1", "software library or work", "What does the \"Library\" refer to?", "software library", nullptr},
    {"Artistic", "can justify", "What does \"Reasonable copying fee\" mean?", "justify", nullptr},
};

Task extract_task(const Model& model, const Tokenizer& tokenizer) {
  constexpr size_t kAround = 700;  // bytes of text before and after the fact: some 350 tokens
  Task task{"extract", "answers that hold the fact of the text", {}};
  for (const Fact& fact : kFacts) {
    const auto text = read_file(std::string("/usr/share/common-licenses/") + fact.file);
    const size_t at = text ? text->find(fact.fact) : std::string::npos;
    if (at == std::string::npos) {
      fmt::print("  {} is not on this machine, or reads otherwise: left out\n", fact.file);
      continue;
    }
    size_t begin = text->rfind('\n', at > kAround ? at - kAround : 0);
    begin = begin == std::string::npos ? 0 : begin + 1;
    const size_t end = text->find('\n', std::min(at + kAround, text->size()));
    const engine::Document passage{fact.file, text->substr(begin, end - begin)};
    task.questions.push_back(
        {must(engine::make_document_prompt(model->source(), *tokenizer, {&passage, 1}, fact.question)).tokens, 40, true,
         [&fact](const std::string& answer) {
           const bool right = plain(answer).find(plain(fact.answer)) != std::string::npos ||
                              (fact.or_answer && plain(answer).find(plain(fact.or_answer)) != std::string::npos);
           return Question::Verdict{right ? 1.0 : 0.0, right ? "right" : "wrong"};
         }});
  }
  return task;
}

// What stands in the weights alone, so that there is nothing to copy from.
Task known_task(const Model& model, const Tokenizer& tokenizer) {
  constexpr const char* kCapitals[][2] = {{"France", "Paris"},  {"Japan", "Tokyo"},     {"Italy", "Rome"},
                                          {"Egypt", "Cairo"},   {"Russia", "Moscow"},   {"Germany", "Berlin"},
                                          {"Spain", "Madrid"},  {"China", "Beijing"},   {"Greece", "Athens"},
                                          {"Canada", "Ottawa"}, {"Portugal", "Lisbon"}, {"Austria", "Vienna"}};
  Task task{"known", "capitals named without a text", {}};
  for (const auto& [country, capital] : kCapitals) {
    const nlohmann::ordered_json messages = {
        {{"role", "user"}, {"content", fmt::format("What is the capital of {}?", country)}}};
    task.questions.push_back({must(engine::encode_chat(model->source(), *tokenizer, messages)).tokens, 24, true,
                              [wanted = std::string(capital)](const std::string& answer) {
                                const bool right = plain(answer).find(plain(wanted)) != std::string::npos;
                                return Question::Verdict{right ? 1.0 : 0.0, right ? "right" : "wrong"};
                              }});
  }
  return task;
}

struct Problem {
  std::string text;
  int answer;
};
std::vector<Problem> make_problems(const Options& options) {
  Rng random(static_cast<uint64_t>(options.seed));
  const auto from = [&](int min, int max) {
    return min + static_cast<int>(random.below(static_cast<uint64_t>(max - min + 1)));
  };
  std::vector<Problem> out;
  for (int i = 0; i < options.problems; ++i) {
    const int a = from(6, 20), b = from(2, 5), c = from(2, 6), d = from(2, 6);
    switch (i % 4) {
      case 0:
        out.push_back({fmt::format("Anna has {} apples. She buys {} bags with {} apples in each bag. How many apples "
                                   "does she have now?",
                                   a, b, c),
                       a + b * c});
        break;
      case 1:
        out.push_back({fmt::format("A train has {} wagons with {} seats each. {} seats are broken. How many seats are "
                                   "good?",
                                   b, a, c),
                       a * b - c});
        break;
      case 2:
        out.push_back(
            {fmt::format("Tom reads {} pages on each of {} days and {} pages on the day after. How many pages "
                         "does he read?",
                         a, b, c),
             a * b + c});
        break;
      default:
        out.push_back({fmt::format("A shop sells {} boxes with {} pens each and {} boxes with {} pens each. How many "
                                   "pens does it sell?",
                                   b, a, c, d),
                       a * b + c * d});
    }
  }
  return out;
}

// The last number of a text ("12", "12.0"; "1,200" counts as one); -1 without any or if it is no whole one.
int last_number(const std::string& text) {
  double last = -1;
  for (size_t i = 0; i < text.size(); ++i) {
    if (!std::isdigit(static_cast<unsigned char>(text[i]))) continue;
    std::string digits;
    for (; i < text.size(); ++i) {
      const bool inside = i + 1 < text.size() && std::isdigit(static_cast<unsigned char>(text[i + 1]));
      if (std::isdigit(static_cast<unsigned char>(text[i])) || (text[i] == '.' && inside)) {
        digits += text[i];
      } else if (text[i] != ',' || !inside) {
        break;
      }
    }
    last = std::strtod(digits.c_str(), nullptr);
  }
  return last == static_cast<int>(last) ? static_cast<int>(last) : -1;
}

Task problem_task(const Model& model, const Tokenizer& tokenizer, const Options& options, bool chain) {
  Task task = chain ? Task{"chain", "word problems solved step by step", {}}
                    : Task{"direct", "the same word problems answered at once", {}};
  // Two worked examples show the form; they share no noun with the problems.
  const auto says = [](const char* role, const std::string& text) {
    return nlohmann::ordered_json{{"role", role}, {"content", text}};
  };
  nlohmann::ordered_json examples = nlohmann::ordered_json::array(
      {says("system", "You solve word problems."),
       says(
           "user",
           "Ben has 20 coins. He finds 4 boxes with 5 coins in each box and then loses 7 coins. How many coins does he "
           "have now?"),
       says("assistant",
            chain ? "4 boxes with 5 coins are 4 * 5 = 20 coins. 20 + 20 = 40 coins. 40 - 7 = 33 coins. Answer: 33"
                  : "Answer: 33"),
       says("user", "A hall has 6 rows with 12 chairs each. 4 chairs are broken. How many chairs are good?"),
       says("assistant",
            chain ? "6 rows with 12 chairs are 6 * 12 = 72 chairs. 72 - 4 = 68 chairs. Answer: 68" : "Answer: 68")});
  for (const Problem& problem : make_problems(options)) {
    nlohmann::ordered_json messages = examples;
    messages.push_back(says("user", problem.text));
    task.questions.push_back({must(engine::encode_chat(model->source(), *tokenizer, messages)).tokens, chain ? 100 : 12,
                              true, [answer = problem.answer](const std::string& text) {
                                const int got = last_number(text);
                                return Question::Verdict{got == answer ? 1.0 : 0.0, got == answer ? "right"
                                                                                    : got < 0     ? "no number"
                                                                                                  : "wrong"};
                              }});
  }
  return task;
}

// Greedy answers under one --attention, decoded side by side: a batch equals its sequences alone.
std::vector<std::string> answers(const Model& model, const Tokenizer& tokenizer,
                                 const std::shared_ptr<const attention::HeadProfile>& profile,
                                 const std::vector<Question>& questions, const std::string& attention) {
  const auto session = must(engine::Session::create(model, {.attention = attention, .profile = profile}));
  std::vector<std::vector<int32_t>> given(questions.size());
  std::vector<engine::Session::Step> steps;
  std::vector<size_t> live;  // whose step it is
  // What a method remembers of a prompt cannot be cut back: such prompts are read in full.
  const auto& methods = session->pipeline().methods();
  const bool shares = std::all_of(methods.begin(), methods.end(), [](const auto& m) { return !m->begin_sequence(); });
  for (size_t i = 0; i < questions.size(); ++i) {
    const std::span<const int32_t> tokens = questions[i].tokens;
    size_t same = 0;  // tokens that the prompt before begins with as well
    if (i > 0 && shares) {
      const std::vector<int32_t>& before = questions[i - 1].tokens;
      while (same + 2 < std::min(tokens.size(), before.size()) && tokens[same] == before[same]) ++same;
    }
    const engine::SequenceId sequence = same > 0 ? session->fork(steps.back().sequence) : session->begin();
    session->truncate(sequence, static_cast<int32_t>(same));
    must(session->prefill(sequence, tokens.subspan(same, tokens.size() - 1 - same)));
    steps.push_back({sequence, tokens.back()});  // the last token is decoded: masks hold for it
    live.push_back(i);
  }
  while (!live.empty()) {
    const tensor::Tensor logits = must(session->decode(steps));
    std::vector<engine::Session::Step> next;
    std::vector<size_t> still;
    for (size_t s = 0; s < live.size(); ++s) {
      const Question& question = questions[live[s]];
      const auto token =
          static_cast<int32_t>(kernels::argmax(logits.data() + static_cast<int64_t>(s) * logits.dim(1), logits.dim(1)));
      if (tokenizer->ends_text(token)) continue;
      if (question.one_line && tokenizer->piece(token).find('\n') != std::string_view::npos) continue;
      given[live[s]].push_back(token);
      if (static_cast<int>(given[live[s]].size()) == question.most_tokens) continue;
      next.push_back({steps[s].sequence, token});
      still.push_back(live[s]);
    }
    steps = std::move(next), live = std::move(still);
  }
  std::vector<std::string> out;
  for (const auto& tokens : given) out.push_back(must(tokenizer->decode(tokens)));
  return out;
}

struct Row {
  double score = 0;
  std::map<std::string, int> labels;
  int n = 0;
};
void add(Row& row, const std::vector<Question>& questions, const std::vector<std::string>& texts) {
  for (size_t i = 0; i < texts.size(); ++i) {
    const Question::Verdict verdict = questions[i].judge(texts[i]);
    row.score += verdict.score;
    ++row.labels[verdict.label];
    ++row.n;
  }
}
void show(const std::string& mode, const std::string& heads, const Row& row) {
  std::string labels;
  for (const auto& [label, n] : row.labels) labels += fmt::format("{}{} {}", labels.empty() ? "" : ", ", n, label);
  fmt::print("  {:8} {:12} {:5.1f}   {}\n", mode, heads, 100 * row.score / row.n, labels);
  std::fflush(stdout);
}

// False if masking no head changed an answer.
bool sweep(const Model& model, const Tokenizer& tokenizer, const std::shared_ptr<const attention::HeadProfile>& profile,
           const Task& task, const Options& options) {
  if (task.questions.empty()) return true;
  fmt::print("{}: {}, {} prompts\n", task.name, task.what, task.questions.size());
  const auto run = [&](const std::string& attention, Row& row) {
    auto texts = answers(model, tokenizer, profile, task.questions, attention);
    add(row, task.questions, texts);
    for (size_t i = 0; options.show && i < texts.size(); ++i)
      fmt::print("    {:16} {}\n", task.questions[i].judge(texts[i]).label, plain(texts[i]));
    return texts;
  };
  Row plain_row;
  const auto unmasked = run("dense", plain_row);
  show("-", "none", plain_row);
  bool same = true;
  for (const std::string& mode : options.modes) {
    for (const int k : options.k) {
      if (k == 0 && mode != options.modes[0]) continue;  // no head is masked in any way
      const std::string spec = fmt::format(":mask_mode={}", mode);
      Row top, random;
      const auto texts = run(fmt::format("retrieval-heads:mask_top={}{}", k, spec), top);
      if (k == 0) {
        same = same && texts == unmasked;
        if (texts != unmasked) fmt::print("  a mask of no head changed an answer: BROKEN\n");
        continue;
      }
      show(mode, fmt::format("top {}", k), top);
      for (int draw = 0; draw < options.draws; ++draw)
        run(fmt::format("retrieval-heads:mask_top={}:seed={}{}", -k, draw, spec), random);
      if (options.draws > 0) show(mode, fmt::format("random {}", k), random);
    }
  }
  return same;
}

int run(int argc, char** argv) {
  if (argc < 2) {
    fmt::print("mask sweep: takes minutes; run bench_mask_sweep qwen2.5-coder-0.5b [KEY=VALUE ...]\n");
    return 0;
  }
  const Options options = read_options(argc, argv);
  const Model model = must(engine::Model::load(must(store::resolve_model(argv[1]))));
  const Tokenizer tokenizer = must(engine::load_tokenizer(model->source()));
  const auto profile = must(probe::find_profile(*model));
  fmt::print("{}, sha256 {}, {} kernels, numerics fast, seed {}; heads ranked by {}\n", argv[1],
             must(model->sha256()).substr(0, 16), kernels::name_of(kernels::active_isa()), options.seed, profile.name);
  bool good = true;
  for (const std::string& name : options.tasks) {
    const Task task = name == "extract" ? extract_task(model, tokenizer)
                      : name == "known" ? known_task(model, tokenizer)
                                        : problem_task(model, tokenizer, options, name == "chain");
    good = sweep(model, tokenizer, profile.heads, task, options) && good;
  }
  return good ? 0 : 1;
}

}  // namespace
}  // namespace fovea

int main(int argc, char** argv) { return fovea::run(argc, argv); }

// Lookup decoding against plain decoding on 50 prompts: questions about the licences that Debian ships, with evidence
// collected as `ask` does, and prompts without a text, some of which ask for a copy; every fifth is sampled as well.
// Ends with 1 if a text, a finish reason or an evidence differs. Prints the speed of both, each the faster of ROUNDS
// (2) in turns.
//
//   bench_lookup [MODEL [N_PREDICT [ROUNDS]]]       FOVEA_LOOKUP=N in the environment: tokens drafted at most
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>

#include "bench/must.h"
#include "fovea/base/threads.h"
#include "fovea/engine/chat.h"
#include "fovea/engine/generate.h"
#include "fovea/kernels/isa.h"
#include "fovea/probe/evidence/evidence.h"
#include "fovea/probe/measures/profile.h"
#include "fovea/store/model_store.h"

namespace fovea {
namespace {

using bench::must;

struct Prompt {
  const char* file;  // of /usr/share/common-licenses; empty: none
  const char* text;
};

const Prompt kPrompts[] = {
    {"Artistic", "What does \"Reasonable copying fee\" mean?"},
    {"Artistic", "Quote the paragraph about the warranty."},
    {"Artistic", "Who is the Copyright Holder?"},
    {"Artistic", "List the conditions under which a modified package may be distributed."},
    {"BSD", "Under which conditions may this be redistributed?"},
    {"BSD", "Repeat the whole disclaimer word for word."},
    {"BSD", "Who holds the copyright?"},
    {"CC0-1.0", "What kind of firm is Creative Commons not?"},
    {"CC0-1.0", "What is waived by this document?"},
    {"CC0-1.0", "Quote section 3."},
    {"Apache-2.0", "What happens to the patent licenses of someone who institutes patent litigation?"},
    {"Apache-2.0", "Give the definition of \"Derivative Works\" in the words of the text."},
    {"Apache-2.0", "Write the boilerplate notice that a file should carry."},
    {"Apache-2.0", "What must be in a copy of the NOTICE file?"},
    {"LGPL-3", "What is a Combined Work?"},
    {"LGPL-3", "Quote the section about revised versions of this licence."},
    {"LGPL-3", "What does the Minimal Corresponding Source mean?"},
    {"GPL-1", "Under what terms may I copy and distribute the program?"},
    {"GPL-1", "How do I apply these terms to my new programs? Give the notice to attach."},
    {"GPL-2", "In which city is the Free Software Foundation?"},
    {"GPL-2", "Quote the NO WARRANTY section."},
    {"GPL-2", "What does section 7 say about patents?"},
    {"MPL-2.0", "Within how many days after receiving the first notice must the licensee become compliant?"},
    {"MPL-2.0", "Give the definitions of Contributor, Contribution and Covered Software."},
    {"MPL-2.0", "What does Exhibit A say?"},
    {"GPL-3", "Who published this licence?"},
    {"GPL-3", "How many days does a first-time violator have to cure a violation?"},
    {"GPL-3", "Quote the definition of \"propagate\"."},
    {"", "Name three colours."},
    {"", "Why is the sky blue?"},
    {"", "Write a short poem about a river."},
    {"", "Tell me a story about a fox and a crow."},
    {"", "Explain how a hash table works."},
    {"", "What is the capital of France, and what is it known for?"},
    {"", "Write a Python function that returns the n-th Fibonacci number, then the same with memoization."},
    {"", "Write a C++ class for a stack of integers with push, pop, top and empty."},
    {"", "Write an HTML page with a table of three countries and their capitals."},
    {"", "List the numbers from 1 to 40, one per line."},
    {"", "Write a JSON array of five people, each with name, age and city."},
    {"", "Give a recipe for pancakes."},
    {"", "Translate to French: The book is on the table. The book is under the table. The cat is on the table."},
    {"", "Repeat this sentence three times: The quick brown fox jumps over the lazy dog near the quiet river bank."},
    {"",
     "Correct the spelling and give the whole text: The comittee recieved the adress of the goverment, and it "
     "beleived that the comittee was definately seperate from the goverment."},
    {"",
     "Rename the variable x to total, and give the whole program:\n\ndef add(values):\n    x = 0\n    for value in "
     "values:\n        x = x + value\n    if x < 0:\n        x = 0\n    return x\n"},
    {"",
     "Add a comment to every line of this program:\n\nint gcd(int a, int b) {\n  while (b != 0) {\n    int rest = a "
     "% b;\n    a = b;\n    b = rest;\n  }\n  return a;\n}\n"},
    {"",
     "Turn this into a bullet list: apples cost two euros, pears cost three euros, plums cost four euros, grapes "
     "cost five euros, melons cost six euros."},
    {"",
     "Summarise: Lighthouses were built on headlands and reefs. Their keepers lit the lamp at dusk and wound the "
     "clockwork that turned the lens. Most lighthouses have no keepers today."},
    {"", "Write unit tests in Python for a function add(a, b)."},
    {"", "Write a SQL schema for a library with books, authors and loans."},
    {"", "What is the difference between a process and a thread?"},
};

std::string_view first_line(std::string_view text) { return text.substr(0, text.find('\n')); }

struct Sum {
  int n = 0;
  int64_t tokens = 0, drafted = 0, accepted = 0;
  double plain = 0, lookup = 0;
  std::vector<double> gains;  // of each prompt
};

class Bench {
 public:
  Bench(std::shared_ptr<const engine::Model> model, int n_predict, int rounds, int max_drafted)
      : model_(std::move(model)),
        session_(must(engine::Session::create(model_, {}))),
        tokenizer_(must(model_->tokenizer())),
        n_predict_(n_predict),
        rounds_(rounds),
        max_drafted_(max_drafted) {
    if (auto found = probe::find_profile(*model_)) heads_ = std::move(found->heads);
  }

  // False if a text differs.
  bool run(const Prompt& prompt, bool sampled) {
    engine::DocumentPrompt tokens;
    std::vector<engine::Document> documents;
    if (*prompt.file != '\0') {
      const std::string path = std::string("/usr/share/common-licenses/") + prompt.file;
      documents.push_back(must(engine::read_document(path)));
      tokens = must(engine::make_document_prompt(model_->source(), *tokenizer_, documents, prompt.text));
    } else {
      nlohmann::ordered_json messages = nlohmann::ordered_json::array();
      messages.push_back({{"role", "user"}, {"content", prompt.text}});
      tokens.tokens = must(engine::encode_chat(model_->source(), *tokenizer_, messages)).tokens;
    }
    if (static_cast<int>(tokens.tokens.size()) + n_predict_ > session_->n_ctx()) {
      fmt::print("-- {} does not fit this model\n", prompt.file);
      return true;
    }
    const engine::SequenceId read = read_all_but_the_last(prompt, tokens);
    Answer plain, lookup;
    bool repeats = true;
    for (int round = 0; round < rounds_; ++round) {
      for (const bool drafted : {round % 2 == n_run_ % 2, round % 2 != n_run_ % 2}) {
        Answer now = answer(read, tokens, sampled, drafted ? max_drafted_ : 0);
        Answer& kept = drafted ? lookup : plain;
        if (round > 0) {
          repeats = repeats && now.made.tokens == kept.made.tokens && now.evidence == kept.evidence;
          if (now.made.predicted_seconds >= kept.made.predicted_seconds) continue;
        }
        kept = std::move(now);
      }
    }
    ++n_run_;
    session_->remove(read);

    const bool same = repeats && plain.made.text == lookup.made.text && plain.made.tokens == lookup.made.tokens &&
                      plain.made.finish == lookup.made.finish && plain.evidence == lookup.evidence;
    const double gain = plain.made.predicted_seconds / lookup.made.predicted_seconds;
    fmt::print("{}  {:6}  {:3} tokens  {:6.2f} s -> {:6.2f} s  {:5.2f}x  {:3} of {:3} drafted kept  {} {:.50}\n",
               same ? "same     " : "DIFFERENT", sampled ? "sample" : "greedy", plain.made.tokens.size(),
               plain.made.predicted_seconds, lookup.made.predicted_seconds, gain, lookup.made.n_accepted,
               lookup.made.n_drafted, prompt.file, first_line(prompt.text));
    std::fflush(stdout);
    Sum& sum = sums_[sampled ? "sampled" : documents.empty() ? "without a text" : "about a text"];
    ++sum.n;
    sum.tokens += static_cast<int64_t>(plain.made.tokens.size());
    sum.drafted += lookup.made.n_drafted, sum.accepted += lookup.made.n_accepted;
    sum.plain += plain.made.predicted_seconds, sum.lookup += lookup.made.predicted_seconds;
    sum.gains.push_back(gain);
    return same;
  }

  void print_sums() {
    fmt::print("\n{:15} {:>7} {:>6}  {:>11} {:>12} {:>8}  {:24} {:>7} {:>5} {:>13}\n", "", "prompts", "tokens",
               "plain tok/s", "lookup tok/s", "speed-up", "of a prompt", "drafted", "kept", "tokens a pass");
    for (auto& [name, sum] : sums_) {
      const auto n = static_cast<double>(sum.tokens);
      std::sort(sum.gains.begin(), sum.gains.end());
      // The first token comes of the prompt, and the last is not fed.
      const auto passes = static_cast<double>(sum.tokens - sum.n - sum.accepted);
      fmt::print("{:15} {:7} {:6}  {:11.1f} {:12.1f} {:7.2f}x  {:24} {:7} {:5} {:13.2f}\n", name, sum.n, sum.tokens,
                 n / sum.plain, n / sum.lookup, sum.plain / sum.lookup,
                 fmt::format("{:.2f}-{:.2f}, median {:.2f}", sum.gains.front(), sum.gains.back(),
                             sum.gains[sum.gains.size() / 2]),
                 sum.drafted, sum.accepted, static_cast<double>(sum.tokens - sum.n) / passes);
    }
  }

 private:
  struct Answer {
    engine::Generation made;
    std::vector<double> evidence;
  };

  // What prompts about one text share is read once.
  engine::SequenceId read_all_but_the_last(const Prompt& prompt, const engine::DocumentPrompt& tokens) {
    const std::span<const int32_t> all = tokens.tokens;
    if (*prompt.file == '\0') {
      const engine::SequenceId sequence = session_->begin();
      must(session_->prefill(sequence, all.first(all.size() - 1)));
      return sequence;
    }
    if (text_ != prompt.file) {
      if (!text_.empty()) session_->remove(text_sequence_);
      text_ = prompt.file;
      text_sequence_ = session_->begin();
      must(session_->prefill(text_sequence_, all.first(tokens.n_shared)));
    }
    const engine::SequenceId sequence = session_->fork(text_sequence_);
    must(session_->prefill(sequence, all.subspan(tokens.n_shared, all.size() - 1 - tokens.n_shared)));
    return sequence;
  }

  Answer answer(engine::SequenceId read, const engine::DocumentPrompt& tokens, bool sampled, int max_drafted) {
    const std::span<const int32_t> all = tokens.tokens;
    engine::GenerateOptions options;
    options.n_predict = n_predict_;
    options.sampling.temperature = 0;
    if (sampled) options.sampling = {.temperature = 0.8f, .repeat_penalty = 1.1f, .seed = 1};
    options.lookup.max_drafted = max_drafted;
    options.before = all.first(all.size() - 1);
    std::optional<probe::Evidence> evidence;
    if (!tokens.places.empty()) {
      evidence.emplace(session_->shape(), heads_.get(), tokens);
      session_->observe(&*evidence);
      options.on_token = [&](int32_t token) { evidence->take(token); };
    }
    const engine::SequenceId sequence = session_->fork(read);
    Answer out;
    out.made = must(engine::generate(*session_, sequence, all.last(1), options));
    session_->remove(sequence);
    if (evidence) {
      session_->stop_observing(&*evidence);
      out.evidence = evidence->mass();
    }
    return out;
  }

  std::shared_ptr<const engine::Model> model_;
  std::unique_ptr<engine::Session> session_;
  std::shared_ptr<const tokenizers::Tokenizer> tokenizer_;
  std::shared_ptr<const attention::HeadProfile> heads_;
  int n_predict_, rounds_, max_drafted_, n_run_ = 0;
  std::string text_;  // whose sequence is kept
  engine::SequenceId text_sequence_ = 0;
  std::map<std::string, Sum> sums_;
};

int run(const std::string& name, int n_predict, int rounds, int max_drafted) {
  const std::string path = must(store::resolve_model(name));
  const auto model = must(engine::Model::load(path));
  fmt::print(
      "{}  sha256 {}\n{} kernels, {} threads; {} tokens of answer and {} drafted at most; the faster of {} rounds\n\n",
      path, must(model->sha256()), kernels::name_of(kernels::active_isa()), pool().size(), n_predict, max_drafted,
      rounds);
  Bench bench(model, n_predict, rounds, max_drafted);
  int different = 0, n = 0;
  for (const Prompt& prompt : kPrompts) {
    different += bench.run(prompt, false) ? 0 : 1;
    if (n++ % 5 == 0) different += bench.run(prompt, true) ? 0 : 1;
  }
  bench.print_sums();
  fmt::print("\n{} of {} answers differ\n", different, n + (n + 4) / 5);
  return different > 0 ? 1 : 0;
}

}  // namespace
}  // namespace fovea

int main(int argc, char** argv) {
  const char* most = std::getenv("FOVEA_LOOKUP");
  return fovea::run(argc > 1 ? argv[1] : "smollm2-135m", argc > 2 ? std::max(1, std::atoi(argv[2])) : 96,
                    argc > 3 ? std::max(1, std::atoi(argv[3])) : 2,
                    most ? std::atoi(most) : fovea::engine::LookupOptions::kMost);
}

#include "fovea/tasks/needle.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <utility>

#include "fovea/base/file.h"
#include "fovea/base/random.h"

namespace fovea::tasks {
namespace {

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (std::isalnum(static_cast<unsigned char>(c)) || (c & 0x80)) {
      words.back() += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    } else if (!words.back().empty()) {
      words.emplace_back();
    }
  }
  if (words.back().empty()) words.pop_back();
  return words;
}

// The end of the last sentence of `text` that ends at or before `at`; 0 if none does.
size_t sentence_end_before(std::string_view text, size_t at) {
  for (size_t i = std::min(at, text.size()); i-- > 1;) {
    const char mark = text[i - 1];
    if ((mark == '.' || mark == '?' || mark == '!') && std::isspace(static_cast<unsigned char>(text[i]))) return i;
  }
  return 0;
}

// Where paragraphs start, as far as `n_bytes` follow.
std::vector<size_t> starts_with_room(std::string_view text, size_t n_bytes) {
  std::vector<size_t> starts;
  if (text.size() >= n_bytes) starts.push_back(0);
  for (size_t i = text.find("\n\n"); i != std::string_view::npos; i = text.find("\n\n", i + 1)) {
    const size_t start = text.find_first_not_of(" \n\t\r", i);
    if (start == std::string_view::npos || text.size() - start < n_bytes) break;
    if (start != starts.back()) starts.push_back(start);
  }
  return starts;
}

class PromptMaker {
 public:
  PromptMaker(const formats::ModelSource& source, const tokenizers::Tokenizer& tokenizer,
              std::span<const engine::Document> haystacks, const NeedleOptions& options)
      : source_(source), tokenizer_(tokenizer), haystacks_(haystacks), options_(options), random_(options.seed) {}

  // The prompts of one needle and length, deepest first: then each shares its prefix with the one before.
  Status make(size_t needle_index, int length, std::vector<NeedlePrompt>& out) {
    const Needle& needle = options_.needles[needle_index];
    FOVEA_ASSIGN_OR_RETURN(const engine::DocumentPrompt empty, prompt_of(" " + needle.sentence, needle));
    const int room = length - static_cast<int>(empty.tokens.size());
    if (room < 32) {
      return make_error(ErrorCode::kUsage,
                        "a needle prompt of {} tokens is too short: the needle and its question take {}", length,
                        empty.tokens.size());
    }
    FOVEA_ASSIGN_OR_RETURN(const std::string hay, cut_haystack(room));
    for (int d = options_.n_depths - 1; d >= 0; --d) {
      const double depth = options_.n_depths == 1 ? 0.5 : static_cast<double>(d) / (options_.n_depths - 1);
      const size_t at = sentence_end_before(hay, static_cast<size_t>(depth * static_cast<double>(hay.size())));
      const std::string text =
          hay.substr(0, at) + (at > 0 ? " " : "") + needle.sentence + (at > 0 ? "" : " ") + hay.substr(at);
      FOVEA_ASSIGN_OR_RETURN(engine::DocumentPrompt prompt, prompt_of(text, needle));
      FOVEA_ASSIGN_OR_RETURN(const auto answer,
                             tokenizer_.encode(" " + needle.answer, {.add_special = false, .parse_special = false}));
      const auto span = locate_needle(prompt.tokens, answer);
      if (!span)
        return make_error(ErrorCode::kFailed, "the needle \"{}\" cannot be found in its prompt's tokens",
                          needle.answer);
      out.push_back({length, depth, needle_index, std::move(prompt.tokens), *span});
    }
    return {};
  }

 private:
  Result<engine::DocumentPrompt> prompt_of(std::string text, const Needle& needle) const {
    const engine::Document document{"text", std::move(text)};
    return engine::make_document_prompt(source_, tokenizer_, {&document, 1}, needle.question);
  }

  // About `n_tokens` of a text, from the start of a paragraph; both drawn by the seed.
  Result<std::string> cut_haystack(int n_tokens) {
    const size_t first = random_.below(haystacks_.size());
    for (size_t i = 0; i < haystacks_.size(); ++i) {
      const std::string_view text = haystacks_[(first + i) % haystacks_.size()].text;
      // A token of English is four or five bytes; six make sure that the cut is by tokens.
      const auto starts = starts_with_room(text, static_cast<size_t>(n_tokens) * 6);
      if (starts.empty()) continue;
      const std::string_view rest =
          text.substr(starts[random_.below(starts.size())], static_cast<size_t>(n_tokens) * 12);
      std::vector<uint32_t> offsets;
      FOVEA_ASSIGN_OR_RETURN(const auto ids,
                             tokenizer_.encode(rest, {.add_special = false, .parse_special = false}, &offsets));
      return std::string(rest.substr(
          0, ids.size() > static_cast<size_t>(n_tokens) ? offsets[static_cast<size_t>(n_tokens)] : rest.size()));
    }
    return make_error(ErrorCode::kUsage, "none of the texts is long enough to hide a needle in {} tokens", n_tokens);
  }

  const formats::ModelSource& source_;
  const tokenizers::Tokenizer& tokenizer_;
  std::span<const engine::Document> haystacks_;
  const NeedleOptions& options_;
  Rng random_;
};

}  // namespace

std::optional<TokenSpan> locate_needle(std::span<const int32_t> prompt, std::span<const int32_t> needle, double cover) {
  if (needle.empty() || needle.size() > prompt.size()) return std::nullopt;
  std::map<int32_t, int> in_window;  // only the needle's tokens; how often the window holds each
  for (const int32_t token : needle) in_window[token] = 0;
  const double wanted = cover * static_cast<double>(in_window.size());
  int present = 0;
  for (size_t end = 1; end <= prompt.size(); ++end) {
    if (const auto in = in_window.find(prompt[end - 1]); in != in_window.end() && in->second++ == 0) ++present;
    if (end > needle.size()) {
      if (const auto out = in_window.find(prompt[end - 1 - needle.size()]);
          out != in_window.end() && --out->second == 0)
        --present;
    }
    if (end >= needle.size() && present > wanted) {
      return TokenSpan{static_cast<int32_t>(end - needle.size()), static_cast<int32_t>(end)};
    }
  }
  return std::nullopt;
}

const std::vector<Needle>& shipped_needles() {
  static const std::vector<Needle> needles = {
      {"The secret ingredient of Marlow's blueberry pancakes is a spoonful of smoked paprika and crushed pine needles.",
       "What is the secret ingredient of Marlow's blueberry pancakes?",
       "a spoonful of smoked paprika and crushed pine needles"},
      {"The violin teacher Ottoline Brask hid her silver compass under the third cherry tree behind the old bakery.",
       "Where did the violin teacher Ottoline Brask hide her silver compass?",
       "under the third cherry tree behind the old bakery"},
      {"Every Tuesday the lighthouse keeper of Veldra feeds the geese with boiled chestnuts, honey and stale "
       "gingerbread.",
       "What does the lighthouse keeper of Veldra feed the geese with every Tuesday?",
       "boiled chestnuts, honey and stale gingerbread"},
      {"The winter coat of the clockmaker Ruiz was sewn from orange sailcloth and lined with the feathers of two "
       "hundred owls.",
       "What was the winter coat of the clockmaker Ruiz sewn from and lined with?",
       "orange sailcloth and lined with the feathers of two hundred owls"},
  };
  return needles;
}

double rouge1_recall(std::string_view text, std::string_view reference) {
  std::map<std::string, int> there;
  for (const std::string& word : words_of(text)) ++there[word];
  const std::vector<std::string> wanted = words_of(reference);
  int found = 0;
  for (const std::string& word : wanted) {
    if (const auto it = there.find(word); it != there.end() && it->second-- > 0) ++found;
  }
  return wanted.empty() ? 0 : static_cast<double>(found) / static_cast<double>(wanted.size());
}

std::string_view name_of(NeedleOutcome outcome) {
  switch (outcome) {
    case NeedleOutcome::kFound: return "found";
    case NeedleOutcome::kNoAnswer: return "no answer";
    case NeedleOutcome::kIncomplete: return "incomplete";
    case NeedleOutcome::kWrongExtraction: return "wrong extraction";
    case NeedleOutcome::kHallucination: return "hallucination";
  }
  return "?";
}

NeedleOutcome label_answer(std::string_view answer, const Needle& needle, std::string_view prompt, double accept) {
  if (rouge1_recall(answer, needle.answer) > accept) return NeedleOutcome::kFound;
  const std::vector<std::string> words = words_of(answer);
  if (words.empty()) return NeedleOutcome::kNoAnswer;
  std::string rest(prompt);
  for (const std::string& part : {needle.sentence, needle.question}) {
    if (const size_t at = rest.find(part); at != std::string::npos) rest.replace(at, part.size(), " \n ");
  }
  const std::vector<std::string> around = words_of(rest), asked = words_of(needle.question);
  const auto holds = [](const std::vector<std::string>& in, const std::string& word) {
    return std::find(in.begin(), in.end(), word) != in.end();
  };
  for (const std::string& key : words_of(needle.answer)) {
    if (holds(words, key) && !holds(around, key) && !holds(asked, key)) return NeedleOutcome::kIncomplete;
  }
  constexpr size_t kRun = 4;
  for (size_t i = 0; i + kRun <= words.size(); ++i) {
    const auto run = words.begin() + static_cast<ptrdiff_t>(i);
    if (std::search(around.begin(), around.end(), run, run + kRun) != around.end())
      return NeedleOutcome::kWrongExtraction;
  }
  return NeedleOutcome::kHallucination;
}

Result<std::vector<engine::Document>> default_haystacks() {
  std::vector<engine::Document> out;
  for (const char* name : {"GPL-2", "LGPL-2.1", "GFDL-1.3", "MPL-2.0", "Apache-2.0"}) {
    auto text = read_file(std::string("/usr/share/common-licenses/") + name);
    if (text)
      out.push_back({name, std::move(text).value()});
    else if (text.error().code != ErrorCode::kNotFound)
      return text.error();
  }
  if (out.empty()) {
    return make_error(
        ErrorCode::kNotFound,
        "this machine has no texts in /usr/share/common-licenses to hide needles in; name some with --file");
  }
  return out;
}

Result<std::vector<NeedlePrompt>> make_needle_prompts(const formats::ModelSource& source,
                                                      const tokenizers::Tokenizer& tokenizer,
                                                      std::span<const engine::Document> haystacks,
                                                      const NeedleOptions& options) {
  PromptMaker maker(source, tokenizer, haystacks, options);
  std::vector<NeedlePrompt> out;
  for (const int length : options.lengths) {
    for (size_t needle = 0; needle < options.needles.size(); ++needle)
      FOVEA_RETURN_IF_ERROR(maker.make(needle, length, out));
  }
  return out;
}

}  // namespace fovea::tasks

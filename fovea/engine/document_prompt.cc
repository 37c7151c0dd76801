#include "fovea/engine/document_prompt.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/check.h"
#include "fovea/engine/chat.h"

namespace fovea::engine {
namespace {

using Json = nlohmann::ordered_json;

// Chosen by trial on texts of up to 7,500 tokens: a model of half a billion parameters keeps to the text
// and to one sentence with this, and without further rules.
constexpr const char* kSystem =
    "You answer questions about the text that the user gives. Answer in one short sentence, with the words of the "
    "text.";

struct Content {
  std::string text;
  std::vector<std::pair<size_t, size_t>> documents;  // bytes of `text`
  std::vector<size_t> begins;                        // where each begins, with its name
  size_t question = 0;                               // where it begins
};

Content write_content(std::span<const Document> documents, const std::string& question) {
  Content out;
  for (const Document& document : documents) {
    out.begins.push_back(out.text.size());
    // Names tell files apart; one alone reads better without.
    if (documents.size() > 1) out.text += fmt::format("File {}:\n", document.name);
    out.documents.emplace_back(out.text.size(), out.text.size() + document.text.size());
    out.text += document.text;
    out.text += "\n\n";
  }
  out.question = out.text.size();
  out.text += "Question: " + question;
  return out;
}

// `offsets`: where each token starts in the whole prompt, of which the content begins at `content_begin`.
std::vector<DocumentPrompt::Place> place_tokens(std::span<const uint32_t> offsets, size_t size, size_t content_begin,
                                                const std::vector<std::pair<size_t, size_t>>& documents) {
  std::vector<DocumentPrompt::Place> places(offsets.size());
  for (size_t d = 0; d < documents.size(); ++d) {
    const size_t first = content_begin + documents[d].first, last = content_begin + documents[d].second;
    for (size_t i = 0; i < offsets.size(); ++i) {
      const size_t begin = std::max<size_t>(offsets[i], first);
      const size_t end = std::min<size_t>(i + 1 < offsets.size() ? offsets[i + 1] : size, last);
      if (begin >= end) continue;
      places[i] = {static_cast<int32_t>(d), static_cast<uint32_t>(begin - first), static_cast<uint32_t>(end - first)};
    }
  }
  return places;
}

// How many tokens end at or before this byte.
size_t tokens_before(std::span<const uint32_t> offsets, size_t byte) {
  const auto next = std::upper_bound(offsets.begin(), offsets.end(), byte);
  return next == offsets.begin() ? 0 : static_cast<size_t>(next - offsets.begin()) - 1;
}

std::vector<attention::Span> segments_of(std::span<const uint32_t> offsets, size_t content_begin,
                                         const Content& content) {
  std::vector<attention::Span> out;
  for (size_t d = 0; d < content.begins.size(); ++d) {
    const size_t end = d + 1 < content.begins.size() ? content.begins[d + 1] : content.question;
    out.push_back({fmt::format("segment {}", d),
                   static_cast<int32_t>(tokens_before(offsets, content_begin + content.begins[d])),
                   static_cast<int32_t>(tokens_before(offsets, content_begin + end))});
  }
  return out;
}

}  // namespace

Result<DocumentPrompt> make_document_prompt(const formats::ModelSource& source, const tokenizers::Tokenizer& tokenizer,
                                            std::span<const Document> documents, const std::string& question) {
  return make_document_prompt(source, tokenizer, documents, {&question, 1}, "");
}

Result<DocumentPrompt> make_document_prompt(const formats::ModelSource& source, const tokenizers::Tokenizer& tokenizer,
                                            std::span<const Document> documents, std::span<const std::string> turns,
                                            const std::string& system, const engine::ChatOptions& options) {
  FOVEA_CHECK(turns.size() % 2 == 1, "make_document_prompt: {} turns do not end with a question", turns.size());
  const std::string rules = system.empty() ? kSystem : system;
  const Content content = write_content(documents, turns[0]);
  Json messages = {{{"role", "system"}, {"content", rules}}, {{"role", "user"}, {"content", content.text}}};
  for (size_t i = 1; i < turns.size(); ++i)
    messages.push_back({{"role", i % 2 ? "assistant" : "user"}, {"content", turns[i]}});
  DocumentPrompt out;
  auto chat = engine::encode_chat(source, tokenizer, messages, options);
  const bool asked = !options.source.empty() || !options.tools.is_null() || !options.documents.is_null() ||
                     (options.variables.is_object() && !options.variables.empty());
  if (!chat && (asked || chat.error().code == ErrorCode::kLimit)) return std::move(chat.error());
  if (chat && chat->contents[1].first != std::string::npos) {
    out.places = place_tokens(chat->offsets, chat->text.size(), chat->contents[1].first, content.documents);
    out.segments = segments_of(chat->offsets, chat->contents[1].first, content);
    out.n_shared = tokens_before(chat->offsets, chat->contents[1].first + content.question);
    out.tokens = std::move(chat->tokens);
    return out;
  }
  const std::string before = rules + "\n\n";
  std::string text = before + content.text + "\nAnswer:";
  for (size_t i = 1; i + 1 < turns.size(); i += 2)
    text += fmt::format(" {}\n\nQuestion: {}\nAnswer:", turns[i], turns[i + 1]);
  std::vector<uint32_t> offsets;
  FOVEA_ASSIGN_OR_RETURN(out.tokens, tokenizer.encode(text, {}, &offsets));
  out.places = place_tokens(offsets, text.size(), before.size(), content.documents);
  out.segments = segments_of(offsets, before.size(), content);
  out.n_shared = tokens_before(offsets, before.size() + content.question);
  return out;
}

}  // namespace fovea::engine

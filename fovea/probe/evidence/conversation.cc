#include "fovea/probe/evidence/conversation.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/probe/evidence/answer.h"

namespace fovea::probe {

Conversation::Conversation(engine::Session& session, engine::PrefixStore store, ConversationOptions options)
    : session_(session), store_(std::move(store)), options_(std::move(options)), sequence_(session.begin()) {}

Conversation::~Conversation() {
  store_.forget(session_);
  session_.remove(sequence_);
}

void Conversation::clear() {
  turns_.clear();
  spans_.clear();
}

Result<engine::Generation> Conversation::answer(const std::string& text, engine::GenerateOptions options) {
  turns_.push_back(text);
  spans_.clear();
  auto answer = answer_last(options);
  if (answer) {
    turns_.push_back(answer->text);
  } else {
    turns_.pop_back();
  }
  return answer;
}

// All turns as the model reads them. Where no documents are, no token has a place in one.
Result<engine::DocumentPrompt> Conversation::prompt() const {
  const formats::ModelSource& source = session_.model().source();
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, session_.model().tokenizer());
  if (!options_.documents.empty())
    return engine::make_document_prompt(source, *tokenizer, options_.documents, turns_, options_.system, options_.chat);
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  if (!options_.system.empty()) messages.push_back({{"role", "system"}, {"content", options_.system}});
  for (size_t i = 0; i < turns_.size(); ++i)
    messages.push_back({{"role", i % 2 ? "assistant" : "user"}, {"content", turns_[i]}});
  FOVEA_ASSIGN_OR_RETURN(engine::ChatPrompt chat, engine::encode_chat(source, *tokenizer, messages, options_.chat));
  const size_t n_tokens = chat.tokens.size();
  return engine::DocumentPrompt{std::move(chat.tokens), {}, n_tokens};
}

Result<engine::Generation> Conversation::answer_last(engine::GenerateOptions& options) {
  FOVEA_ASSIGN_OR_RETURN(const engine::DocumentPrompt prompt, this->prompt());
  const std::span<const int32_t> tokens = prompt.tokens;
  if (static_cast<int64_t>(tokens.size()) > session_.n_ctx()) {
    return make_error(ErrorCode::kLimit, "the conversation is {} tokens long and the context holds {}{}", tokens.size(),
                      session_.n_ctx(), options_.when_full);
  }
  size_t kept = keep_prefix(tokens);
  n_stored_ = 0;
  // Where a turn ends is where no other prompt is cut: methods that remember cuts have no use for the store.
  const bool storable = session_.pipeline().dense();
  if (storable && kept < engine::PrefixStore::kLeastTokens) {
    if (const auto found = store_.find(session_, tokens, tokens.size())) {
      session_.remove(sequence_);
      sequence_ = found->sequence;
      n_stored_ = found->n_tokens;
      kept = static_cast<size_t>(n_stored_);
    }
  }
  const bool about_documents = !options_.documents.empty();
  options.before = tokens.first(kept);
  auto answer = about_documents ? answer_about_documents(prompt, options)
                                : engine::generate(session_, sequence_, tokens.subspan(kept), options);
  // Of documents what any other question about them shares: a single question about them finds it too.
  const size_t n_kept = about_documents ? prompt.n_shared : tokens.size();
  if (answer && storable && n_kept >= kept + engine::PrefixStore::kLeastTokens)
    store_.remember(session_, sequence_, tokens.first(n_kept));
  fed_.assign(tokens.begin(), tokens.end());
  if (answer) fed_.insert(fed_.end(), answer->tokens.begin(), answer->tokens.end());
  fed_.resize(static_cast<size_t>(session_.length(sequence_)));
  return answer;
}

Result<engine::Generation> Conversation::answer_about_documents(const engine::DocumentPrompt& prompt,
                                                                const engine::GenerateOptions& options) {
  session_.set_spans(sequence_, prompt.segments);
  Evidence evidence(session_.shape(), options_.profile.get(), prompt);
  auto answer = answer_with_evidence(session_, sequence_, prompt, evidence, options);
  if (answer) spans_ = evidence.spans(options_.documents);
  return answer;
}

// Cuts the sequence back to what it shares with `tokens`, but for the last, whose logits are needed.
size_t Conversation::keep_prefix(std::span<const int32_t> tokens) {
  const auto differ = std::mismatch(fed_.begin(), fed_.end(), tokens.begin(), tokens.end()).first;
  const size_t same = std::min(static_cast<size_t>(differ - fed_.begin()), tokens.size() - 1);
  // Where a method dropped keys, or cannot take back what it remembers, the sequence is read again.
  const bool possible = session_.can_truncate(sequence_, static_cast<int32_t>(same));
  session_.truncate(sequence_, possible ? static_cast<int32_t>(same) : 0);
  return possible ? same : 0;
}

}  // namespace fovea::probe

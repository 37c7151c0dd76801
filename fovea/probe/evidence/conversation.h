// A conversation, about documents or about nothing in particular: its turns, what the cache holds of them already,
// and where the last answer came from.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fovea/engine/chat.h"
#include "fovea/engine/document_prompt.h"
#include "fovea/engine/generate.h"
#include "fovea/engine/prefix_store.h"
#include "fovea/probe/evidence/evidence.h"

namespace fovea::probe {

struct ConversationOptions {
  std::string system = {};                       // the system message; empty: none, or the one that documents have
  engine::ChatOptions chat = {};                 // what the chat template gets beside the messages
  std::vector<engine::Document> documents = {};  // what the conversation is about
  std::shared_ptr<const attention::HeadProfile> profile = nullptr;  // or null: whose rows are the evidence
  std::string when_full = {};  // ends the sentence that says that the context is too short
};

// One sequence of a session that must outlive it; another conversation may take turns with it there.
class Conversation {
 public:
  Conversation(engine::Session& session, engine::PrefixStore store, ConversationOptions options);
  ~Conversation();
  Conversation(const Conversation&) = delete;
  Conversation& operator=(const Conversation&) = delete;

  // Answers `text`; only what the cache does not hold yet is read. After an error the turn is as if it had not been.
  // Of `options`, before is set here, and where documents are, on_token. kLimit: the context is full. Else errors as
  // engine::generate; cancelled in the answer: the answer so far, which is then a turn.
  Result<engine::Generation> answer(const std::string& text, engine::GenerateOptions options);
  void clear();  // a new conversation: no turn was said

  const std::vector<std::string>& turns() const { return turns_; }  // question, answer, question, ...
  const std::vector<engine::Document>& documents() const { return options_.documents; }
  const std::vector<EvidenceSpan>& evidence() const { return spans_; }  // of the last answer
  int32_t n_stored() const { return n_stored_; }  // tokens of the last turn that an earlier run had read
  // Keeps a long text that the last turn brought, for another run. Takes time: call it when nobody waits.
  void flush() { store_.flush(session_); }

 private:
  Result<engine::DocumentPrompt> prompt() const;
  Result<engine::Generation> answer_last(engine::GenerateOptions& options);
  Result<engine::Generation> answer_about_documents(const engine::DocumentPrompt& prompt,
                                                    const engine::GenerateOptions& options);
  size_t keep_prefix(std::span<const int32_t> tokens);

  engine::Session& session_;
  engine::PrefixStore store_;
  ConversationOptions options_;
  std::vector<std::string> turns_;
  std::vector<EvidenceSpan> spans_;
  int32_t n_stored_ = 0;
  engine::SequenceId sequence_;
  std::vector<int32_t> fed_;  // what the sequence holds
};

}  // namespace fovea::probe

// fovea chat -m MODEL: a conversation, one line a turn.
#include "fovea/engine/chat.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "apps/cli/answer.h"
#include "apps/cli/chat_flags.h"
#include "apps/cli/documents.h"
#include "apps/cli/model_session.h"
#include "apps/cli/prefix_cache.h"
#include "fovea/base/bytes.h"
#include "fovea/base/text_file.h"
#include "fovea/probe/evidence/answer.h"

namespace fovea::cli {
namespace {

constexpr size_t kMaxLine = size_t{64} << 20;

struct Options {
  ModelFlags model;
  PrefixFlags prefix;
  SamplingFlags sampling;
  ChatFlags chat;
  std::string system;
  std::vector<std::string> named, words;  // what stands behind each --file, and what follows that
  std::vector<std::string> files() const {
    std::vector<std::string> all = named;
    all.insert(all.end(), words.begin(), words.end());
    return all;
  }
};

// Lines of stdin, read so that Ctrl+C ends the wait.
class Lines {
 public:
  // False at the end of the input. kCancelled after Ctrl+C.
  Result<bool> next(std::string& line) {
    for (;;) {
      const size_t newline = buffer_.find('\n');
      if (newline != std::string::npos || (ended_ && !buffer_.empty())) {
        line = buffer_.substr(0, newline);
        buffer_.erase(0, newline == std::string::npos ? buffer_.size() : newline + 1);
        if (!line.empty() && line.back() == '\r') line.pop_back();
        line = argument_text(std::move(line), "standard input");
        return true;
      }
      if (ended_) return false;
      if (Interrupt::requested()) return make_error(ErrorCode::kCancelled, "interrupted");
      char chunk[65536];
      const ssize_t n = ::read(STDIN_FILENO, chunk, sizeof(chunk));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) {  // another program that shares the pipe made it so
        pollfd ready{STDIN_FILENO, POLLIN, 0};
        (void)poll(&ready, 1, -1);
        continue;
      }
      if (n < 0) return make_error(ErrorCode::kIo, "reading standard input: {}", std::strerror(errno));
      ended_ = n == 0;
      if (!begun_) {
        begun_ = true;
        FOVEA_RETURN_IF_ERROR(refuse_known_kinds({chunk, static_cast<size_t>(n)}, "standard input"));
        if (std::string_view(chunk, static_cast<size_t>(n)).starts_with("\xEF\xBB\xBF")) {
          buffer_.assign(chunk + 3, static_cast<size_t>(n) - 3);
          continue;
        }
      }
      buffer_.append(chunk, static_cast<size_t>(n));
      if (buffer_.size() > kMaxLine)
        return make_error(ErrorCode::kLimit, "a line of standard input is longer than {} bytes", kMaxLine);
    }
  }

 private:
  std::string buffer_;
  bool begun_ = false, ended_ = false;
};

class Conversation {
 public:
  // With documents the conversation is about them, and `profile` (or null) says whose rows are the evidence.
  Conversation(std::shared_ptr<const engine::Model> model, engine::Session& session, engine::PrefixStore store,
               std::string system, std::vector<engine::Document> documents,
               std::shared_ptr<const attention::HeadProfile> profile)
      : model_(std::move(model)),
        session_(session),
        store_(std::move(store)),
        system_(std::move(system)),
        documents_(std::move(documents)),
        profile_(std::move(profile)) {}

  void use(engine::ChatOptions chat) { chat_ = std::move(chat); }  // for the chat template
  void clear() {
    turns_.clear();
    spans_.clear();
  }

  // Answers `text`; only what the cache does not hold yet is read. After an error the turn is as if
  // it had not been.
  Result<engine::Generation> answer(const std::string& text, engine::GenerateOptions options) {
    turns_.push_back(text);
    spans_.clear();
    auto answer = answer_last(options);
    if (answer) {
      turns_.push_back(answer.value().text);
    } else {
      turns_.pop_back();
    }
    return answer;
  }
  const std::vector<engine::Document>& documents() const { return documents_; }
  const std::vector<probe::EvidenceSpan>& evidence() const { return spans_; }  // of the last answer
  int32_t n_stored() const { return n_stored_; }  // tokens of the last turn that an earlier run had read
  // Keeps a long text that this turn brought, for another run.
  void flush() { store_.flush(session_); }

 private:
  // All turns as the model reads them. Where no documents are, no token has a place in one.
  Result<engine::DocumentPrompt> prompt() const {
    FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, model_->tokenizer());
    if (!documents_.empty())
      return engine::make_document_prompt(model_->source(), *tokenizer, documents_, turns_, system_, chat_);
    nlohmann::ordered_json messages = nlohmann::ordered_json::array();
    if (!system_.empty()) messages.push_back({{"role", "system"}, {"content", system_}});
    for (size_t i = 0; i < turns_.size(); ++i)
      messages.push_back({{"role", i % 2 ? "assistant" : "user"}, {"content", turns_[i]}});
    FOVEA_ASSIGN_OR_RETURN(engine::ChatPrompt chat, engine::encode_chat(model_->source(), *tokenizer, messages, chat_));
    const size_t n_tokens = chat.tokens.size();
    return engine::DocumentPrompt{std::move(chat.tokens), {}, n_tokens};
  }

  Result<engine::Generation> answer_last(engine::GenerateOptions& options) {
    FOVEA_ASSIGN_OR_RETURN(const engine::DocumentPrompt prompt, this->prompt());
    const std::vector<int32_t>& tokens = prompt.tokens;
    if (static_cast<int64_t>(tokens.size()) > session_.n_ctx()) {
      return make_error(ErrorCode::kLimit,
                        "the conversation is {} tokens long and the context holds {}; /clear begins a new one",
                        tokens.size(), session_.n_ctx());
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
    const std::span<const int32_t> fresh = std::span(tokens).subspan(kept);
    options.before = std::span(tokens).first(kept);
    auto answer = documents_.empty() ? engine::generate(session_, sequence_, fresh, options)
                                     : answer_about_documents(prompt, options);
    // Of documents what any other question about them shares: `ask` finds it too.
    const size_t n_kept = documents_.empty() ? tokens.size() : prompt.n_shared;
    if (answer && storable && n_kept >= kept + engine::PrefixStore::kLeastTokens)
      store_.remember(session_, sequence_, std::span(tokens).first(n_kept));
    fed_ = tokens;
    if (answer) fed_.insert(fed_.end(), answer.value().tokens.begin(), answer.value().tokens.end());
    fed_.resize(static_cast<size_t>(session_.length(sequence_)));
    return answer;
  }

  Result<engine::Generation> answer_about_documents(const engine::DocumentPrompt& prompt,
                                                    const engine::GenerateOptions& options) {
    probe::Evidence evidence(session_.shape(), profile_.get(), prompt);
    auto answer = probe::answer_with_evidence(session_, sequence_, prompt, evidence, options);
    if (answer) spans_ = evidence.spans(documents_);
    return answer;
  }

  // Cuts the sequence back to what it shares with `tokens`, but for the last, whose logits are needed.
  size_t keep_prefix(const std::vector<int32_t>& tokens) {
    const auto differ = std::mismatch(fed_.begin(), fed_.end(), tokens.begin(), tokens.end()).first;
    const size_t same = std::min(static_cast<size_t>(differ - fed_.begin()), tokens.size() - 1);
    // Where a method dropped keys, or cannot take back what it remembers, the sequence is read again.
    const bool possible = session_.can_truncate(sequence_, static_cast<int32_t>(same));
    session_.truncate(sequence_, possible ? static_cast<int32_t>(same) : 0);
    return possible ? same : 0;
  }

  std::shared_ptr<const engine::Model> model_;
  engine::Session& session_;
  engine::PrefixStore store_;
  int32_t n_stored_ = 0;
  std::string system_;
  engine::ChatOptions chat_;
  std::vector<engine::Document> documents_;
  std::shared_ptr<const attention::HeadProfile> profile_;
  std::vector<std::string> turns_;  // question, answer, question, ...
  std::vector<probe::EvidenceSpan> spans_;
  engine::SequenceId sequence_ = session_.begin();
  std::vector<int32_t> fed_;  // what the sequence holds
};

void say(const Common& common, std::string_view text) {
  if (!common.quiet) tell_line(text);
}

constexpr const char* kCommands =
    "/evidence shows where the last answer came from (with --file), /clear begins a new conversation, /help says this, "
    "/exit ends";

// With --json every turn carries its own.
Status show_evidence(const Conversation& conversation, const Common& common) {
  if (conversation.documents().empty()) {
    say(common, "there is no text to show evidence from: fovea chat --file FILE");
    return {};
  }
  if (common.json) return {};
  return print(evidence_text(conversation.evidence(), conversation.documents()) + "\n");
}

Status chat(const Options& options, const Common& common) {
  const Interrupt interrupt;
  FOVEA_ASSIGN_OR_RETURN(engine::ChatOptions prompt_options, chat_options(options.chat));
  std::vector<engine::Document> documents;
  if (!options.named.empty()) {
    FOVEA_ASSIGN_OR_RETURN(documents, read_documents(options.files()));
    FOVEA_RETURN_IF_ERROR(fetch_if_absent(common));
  }
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const auto session, open_session(model, common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const engine::GenerateOptions generate, generate_options(options.sampling, *model));
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, model->tokenizer());
  std::shared_ptr<const attention::HeadProfile> profile;
  if (!documents.empty()) {
    FOVEA_ASSIGN_OR_RETURN(profile, profile_of(*session, common));
  }
  Conversation conversation(model, *session, open_prefix_store(options.prefix), options.system, std::move(documents),
                            std::move(profile));
  conversation.use(std::move(prompt_options));
  const bool by_hand = isatty(STDIN_FILENO) != 0;
  show_seed(common, options.sampling.seed);
  if (by_hand) say(common, fmt::format("{}; Ctrl+C stops an answer", kCommands));

  nlohmann::json turns = nlohmann::json::array();
  Lines lines;
  Status result;
  for (std::string line;;) {
    if (by_hand) to_stderr("> ");
    const Result<bool> more = lines.next(line);
    if (!more || !more.value()) {
      if (by_hand) to_stderr("\n");
      if (!more) result = more.error();
      break;
    }
    if (line == "/exit" || line == "/quit") break;
    if (line == "/clear") {
      conversation.clear();
      say(common, "a new conversation");
      continue;
    }
    if (line == "/help") {
      say(common, kCommands);
      continue;
    }
    if (line == "/evidence") {
      FOVEA_RETURN_IF_ERROR(show_evidence(conversation, common));
      continue;
    }
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    if (line[0] == '/') {
      say(common, fmt::format("unknown command {}; {}", fovea::quoted(line, 40), kCommands));
      continue;
    }
    engine::GenerateOptions turn = generate;
    AnswerStream stream(common, turn);
    const auto answer = conversation.answer(line, turn);
    FOVEA_RETURN_IF_ERROR(stream.end());
    if (!answer) {
      // A person reads the sentence and goes on; a script must not take the next answer for this one's.
      const ErrorCode code = answer.error().code;
      const bool stopped = code == ErrorCode::kCancelled;
      if (!by_hand || code == ErrorCode::kClosedPipe || code == ErrorCode::kIo || (stopped && !Interrupt::forgive())) {
        result = answer.error();
        break;
      }
      say(common, stopped ? "stopped" : answer.error().message);
      continue;
    }
    nlohmann::json row = answer_json(answer.value(), *tokenizer);
    row["user"] = line;
    row["prefix_tokens"] = conversation.n_stored();
    if (!conversation.documents().empty())
      row["evidence"] = evidence_json(conversation.evidence(), conversation.documents());
    turns.push_back(row);
    if (common.verbose > 0) say(common, timings_line(answer.value()));
    conversation.flush();
    if (answer.value().finish == engine::Finish::kCancelled && !(by_hand && Interrupt::forgive())) {
      result = make_error(ErrorCode::kCancelled, "interrupted");
      break;
    }
    if (answer.value().finish == engine::Finish::kLength && options.sampling.n_predict < 0) {
      say(common, "the context is full; /clear begins a new conversation");
    }
  }
  if (common.json) {
    nlohmann::json out = setting_json(*session);
    out["turns"] = turns;
    out["seed"] = options.sampling.seed.value;
    FOVEA_RETURN_IF_ERROR(print_json(out));
  }
  return result;
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  sub.add_option("FILE", options->words, "further files behind --file");
  sub.add_option("-f,--file", options->named,
                 "texts that the conversation is about: files, a folder of them, a pattern ('*.txt'); several may "
                 "follow one flag, which may be repeated")
      .one_value_each_time();
  add_model_flags(sub, common, options->model, /*model_required=*/false);
  add_prefix_flags(sub, options->prefix);
  add_sampling_flags(sub, options->sampling);
  sub.add_option("--system", options->system, "the system message of the conversation");
  add_chat_flags(sub, options->chat);
  return [options, &common]() -> Status {
    if (options->named.empty() && !options->words.empty())
      return make_error(ErrorCode::kUsage,
                        "unexpected argument {}; a text to talk about is named by --file (fovea chat --help)",
                        fovea::quoted(options->words[0], 40));
    if (common.model.empty() && options->named.empty()) return make_error(ErrorCode::kUsage, "--model is required");
    if (common.model.empty()) common.model = kDefaultModel;
    for (const std::string& name : options->files()) {
      if (name == "-") return make_error(ErrorCode::kUsage, "--file -: standard input brings the questions");
    }
    return chat(*options, common);
  };
}

FOVEA_COMMAND("chat", "a conversation with a model, one line a turn", "fovea chat -m smollm2-135m", setup)

}  // namespace
}  // namespace fovea::cli

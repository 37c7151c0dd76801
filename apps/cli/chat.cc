// fovea chat -m MODEL: a conversation, one line a turn.
#include "fovea/engine/chat.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "apps/cli/answer.h"
#include "apps/cli/model_session.h"
#include "apps/cli/prefix_cache.h"
#include "fovea/base/bytes.h"
#include "fovea/base/text_file.h"

namespace fovea::cli {
namespace {

constexpr size_t kMaxLine = size_t{64} << 20;

struct Options {
  ModelFlags model;
  PrefixFlags prefix;
  SamplingFlags sampling;
  std::string system;
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
  Conversation(std::shared_ptr<const engine::Model> model, engine::Session& session, engine::PrefixStore store,
               std::string system)
      : model_(std::move(model)), session_(session), store_(std::move(store)), system_(std::move(system)) {
    clear();
  }

  void clear() {
    messages_ = nlohmann::ordered_json::array();
    if (!system_.empty()) messages_.push_back({{"role", "system"}, {"content", system_}});
  }

  // Answers `text`; only what the cache does not hold yet is read. After an error the turn is as if
  // it had not been.
  Result<engine::Generation> answer(const std::string& text, engine::GenerateOptions options) {
    messages_.push_back({{"role", "user"}, {"content", text}});
    auto answer = answer_last(options);
    if (answer) {
      messages_.push_back({{"role", "assistant"}, {"content", answer.value().text}});
    } else {
      messages_.erase(messages_.size() - 1);
    }
    return answer;
  }
  int32_t n_stored() const { return n_stored_; }  // tokens of the last turn that an earlier run had read
  // Keeps a long text that this turn brought, for another run.
  void flush() { store_.flush(session_); }

 private:
  Result<engine::Generation> answer_last(engine::GenerateOptions& options) {
    FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, model_->tokenizer());
    FOVEA_ASSIGN_OR_RETURN(const engine::ChatPrompt prompt, engine::encode_chat(model_->gguf(), *tokenizer, messages_));
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
    auto answer = engine::generate(session_, sequence_, fresh, options);
    if (answer && storable && fresh.size() >= engine::PrefixStore::kLeastTokens)
      store_.remember(session_, sequence_, tokens);
    fed_ = tokens;
    if (answer) fed_.insert(fed_.end(), answer.value().tokens.begin(), answer.value().tokens.end());
    fed_.resize(static_cast<size_t>(session_.length(sequence_)));
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
  nlohmann::ordered_json messages_;
  engine::SequenceId sequence_ = session_.begin();
  std::vector<int32_t> fed_;  // what the sequence holds
};

void say(const Common& common, std::string_view text) {
  if (!common.quiet) tell_line(text);
}

Status chat(const Options& options, const Common& common) {
  const Interrupt interrupt;
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const auto session, open_session(model, common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const engine::GenerateOptions generate, generate_options(options.sampling, *model));
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, model->tokenizer());
  Conversation conversation(model, *session, open_prefix_store(options.prefix), options.system);
  const bool by_hand = isatty(STDIN_FILENO) != 0;
  if (by_hand) say(common, "/clear begins a new conversation, /exit ends; Ctrl+C stops an answer");

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
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    if (line[0] == '/') {
      say(common, fmt::format("unknown command {}; there are /clear and /exit", fovea::quoted(line, 40)));
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
    out["seed"] = options.sampling.sampling.seed;
    FOVEA_RETURN_IF_ERROR(print_json(out));
  }
  return result;
}

std::function<Status()> setup(CLI::App& sub, Common& common) {
  auto options = std::make_shared<Options>();
  add_model_flags(sub, common, options->model);
  add_prefix_flags(sub, options->prefix);
  add_sampling_flags(sub, options->sampling);
  sub.add_option("--system", options->system, "the system message of the conversation");
  return [options, &common] { return chat(*options, common); };
}

FOVEA_COMMAND("chat", "a conversation with a model, one line a turn", "fovea chat -m smollm2-135m", setup)

}  // namespace
}  // namespace fovea::cli

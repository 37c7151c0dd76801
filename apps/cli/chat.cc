// fovea chat -m MODEL: a conversation, one line a turn.
#include <poll.h>
#include <unistd.h>

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
#include "fovea/probe/evidence/conversation.h"

namespace fovea::cli {
namespace chat_command {

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

void say(const Common& common, std::string_view text) {
  if (!common.quiet) tell_line(text);
}

constexpr const char* kCommands =
    "/evidence shows where the last answer came from (with --file), /clear begins a new conversation, /help says this, "
    "/exit ends";

// With --json every turn carries its own.
Status show_evidence(const probe::Conversation& conversation, const Common& common) {
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
  probe::Conversation conversation(*session, open_prefix_store(options.prefix),
                                   {.system = options.system,
                                    .chat = std::move(prompt_options),
                                    .documents = std::move(documents),
                                    .profile = std::move(profile),
                                    .when_full = "; /clear begins a new one"});
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
      say(common, fmt::format("unknown command {}; {}", quote(line, 40), kCommands));
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
    nlohmann::json row = answer_json(answer.value(), *model);
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
                        quote(options->words[0], 40));
    if (common.model.empty() && options->named.empty()) return make_error(ErrorCode::kUsage, "--model is required");
    if (common.model.empty()) common.model = kDefaultModel;
    for (const std::string& name : options->files()) {
      if (name == "-") return make_error(ErrorCode::kUsage, "--file -: standard input brings the questions");
    }
    return chat(*options, common);
  };
}

FOVEA_COMMAND("chat", "a conversation with a model, one line a turn", "fovea chat -m smollm2-135m", setup)

}  // namespace chat_command
}  // namespace fovea::cli

// fovea: the command line. Each command is a file of its own beside this one; see command.h.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <set>
#include <utility>

#include "apps/cli/arguments.h"
#include "apps/cli/command.h"
#include "apps/cli/log_file.h"
#include "fovea/base/bytes.h"
#include "fovea/base/log.h"
#include "fovea/base/nearest.h"
#include "fovea/base/threads.h"

namespace fovea::cli {
namespace {

int fail(const Error& error) {
  if (error.code == ErrorCode::kClosedPipe) return 0;  // nobody is there to read more
  tell_line(error.message, LogLevel::kError);
  return error.code == ErrorCode::kCancelled ? Interrupt::exit_code() : exit_code(error.code);
}

int usage(const std::string& message) { return fail(Error{ErrorCode::kUsage, message, {}}); }

std::string did_you_mean(std::string_view name, const std::vector<std::string>& candidates) {
  const auto meant = meant_name(name, candidates);
  return meant ? fmt::format("; did you mean {}?", *meant) : "";
}

// An error names the option but not the variable that a value came from.
std::string with_variable(const std::string& message, const CommandLine& sub, const std::vector<std::string>& args) {
  for (const Option option : sub.options()) {
    const auto names = option.long_names();
    if (names.empty() || option.variable().empty()) continue;
    const char* value = std::getenv(option.variable().c_str());
    const std::string& flag = names[0];
    if (!value || !*value || message.find(flag) == std::string::npos) continue;
    const bool given = std::any_of(args.begin(), args.end(), [&](const std::string& arg) {
      return arg == flag || arg.starts_with(flag + "=") ||
             (!option.short_name().empty() && arg.starts_with(option.short_name()));
    });
    if (!given) return fmt::format("environment variable {}={}: {}", option.variable(), quote(value), message);
  }
  return message;
}

int run(int argc, char** argv) {
  CommandLine app("Fovea runs open language models on the CPU, with attention you can look into and change.", "fovea");
  app.set_version("fovea " FOVEA_VERSION);
  app.set_footer("Example:\n  fovea pull smollm2-135m\n  fovea COMMAND --help says more of each command.");

  const auto found = find_command({argv + 1, argv + argc});
  if (!found) return fail(found.error());
  Arguments arguments = *found;
  const std::string& wanted = arguments.command;
  for (const std::string& arg : arguments.words) {
    if (arg == "--") break;
    if (arg.size() > 3 && arg.starts_with("--") && arg.ends_with("=") && arg.find('=') == arg.size() - 1) {
      return usage(fmt::format("{} has no value", quote(arg)));
    }
  }
  // Only the command that was asked for gets its options: two commands that bind the same
  // variable would otherwise both read the environment.
  Common common;
  std::optional<CommandLine> chosen;
  std::function<Status()> go;
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    names.push_back(command.name);
    CommandLine sub = app.add_command(command.name, command.description);
    if (wanted != command.name) continue;
    chosen = std::move(sub);
    go = set_up(command, *chosen, common);
  }
  if (!wanted.empty() && !chosen) {
    return usage(fmt::format("unknown command {}{}", quote(wanted), did_you_mean(wanted, names)));
  }
  if (chosen) {
    if (const Status adopted = adopt_foreign_flags(*chosen, arguments); !adopted) return fail(adopted.error());
  }
  const std::vector<std::string>& args = arguments.words;
  const auto is_about_the_program = [](const std::string& word) {
    return word == "--help" || word == "-h" || word == "--version";
  };
  if (!chosen && !args.empty() && std::none_of(args.begin(), args.end(), is_about_the_program))
    return usage("no command given; fovea --help lists them");
  const Parsed parsed = app.parse(args);
  if (!parsed.help.empty()) {
    const Status printed = print(parsed.help);
    return printed ? 0 : fail(printed.error());
  }
  if (!parsed.unknown.empty()) {
    const std::string& first = parsed.unknown.front();
    if (!first.starts_with("-"))
      return usage(fmt::format("unexpected argument {}; see fovea {} --help", quote(first), wanted));
    const std::string name = first.substr(0, first.find('='));
    const auto names_here = (chosen ? *chosen : app).long_names();
    return usage(fmt::format("unknown option {}{}", quote(name), did_you_mean(name, names_here)));
  }
  if (!parsed.error.empty()) return usage(chosen ? with_variable(parsed.error, *chosen, args) : parsed.error);
  if (!chosen) return usage("no command given; fovea --help lists them");

  if (!common.log_file.empty()) {
    if (const Status opened = open_log_file(common.log_file); !opened) return fail(opened.error());
  }
  std::set<std::string, std::less<>> warned;
  set_log_sink([&](LogLevel level, std::string_view text) {
    if (level == LogLevel::kWarning && !warned.emplace(text).second) return;  // said already, by another reader of it
    if (level != LogLevel::kDebug || common.verbose > 1) write_log_file(level, text);
    const int needed = level == LogLevel::kDebug ? 2 : level == LogLevel::kInfo ? 1 : 0;
    if (common.verbose < needed || (common.quiet && level != LogLevel::kError)) return;
    show_line(fmt::format("{}{}", level == LogLevel::kWarning ? "warning: " : "", text));
  });
  // Said before the work, not after it.
  if ((fcntl(STDOUT_FILENO, F_GETFL) & O_ACCMODE) == O_RDONLY)
    return fail(make_error(ErrorCode::kIo, "standard output is closed: there is no place for the answer"));
  for (const std::string& warning : arguments.warnings) log_line(LogLevel::kWarning, warning);
  if (common.threads > 0) set_threads(common.threads);
  Status status = go();
  if (!status && status.error().code == ErrorCode::kUsage)
    status.error().message = with_variable(status.error().message, *chosen, args);
  // Some file systems say only here that the disk is full.
  if (status && close(STDOUT_FILENO) != 0 && errno != EBADF && errno != EINTR)
    status = make_error(ErrorCode::kIo, "writing to standard output: {}", std::strerror(errno));
  return status ? 0 : fail(status.error());
}

}  // namespace
}  // namespace fovea::cli

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);  // print() sees EPIPE instead
  signal(SIGXFSZ, SIG_IGN);  // and every writer EFBIG
  fovea::cli::Interrupt::install();
  for (int fd = 0; fd < 3; ++fd) {
    // A file opened later must not become stdin, stdout or stderr. What is printed to a stdout that is closed must
    // fail, so that no answer is lost in silence.
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 2 ? O_WRONLY : O_RDONLY) < 0) return 74;
  }
  try {
    return fovea::cli::run(argc, argv);
  } catch (const std::bad_alloc&) {
    return fovea::cli::fail(fovea::Error{
        fovea::ErrorCode::kOutOfMemory,
        "out of memory; a smaller model or file, a shorter context (--ctx-size) or a smaller batch needs less",
        {}});
  } catch (const std::exception& error) {
    return fovea::cli::fail(
        fovea::Error{fovea::ErrorCode::kInternal, fmt::format("internal error: {}", error.what()), {}});
  }
}

// The contract of a command, one file each:
//
//   std::function<Status()> setup_list(CommandLine& sub, Common& common) {
//     auto opts = std::make_shared<Options>();            // lives as long as the returned function
//     sub.add_flag("--long", opts->long_form, "...");
//     return [opts, &common]() -> Status { ...; return print("..."); };
//   }
//   FOVEA_COMMAND("list", "what is in the model store", "fovea list --json", setup_list)
//
// Every option also reads FOVEA_ARG_<NAME> from the environment (the flag wins). The answer goes
// to stdout by print() or print_json(), all else to stderr by tell(); an Error becomes one sentence
// there and its exit code.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "apps/cli/options.h"
#include "fovea/base/file_writer.h"
#include "fovea/base/log.h"
#include "fovea/base/registry.h"
#include "fovea/base/result.h"

namespace fovea::cli {

// What the flags that commands share were set to.
struct Common {
  bool json = false, quiet = false;
  int verbose = 0;                // -v: 1, -vv: 2
  int threads = 0;                // 0 = one per physical core
  std::string log_file;           // lines of the log go there too
  std::string model;              // -m NAME|PATH; only where add_model_options was called
  std::string numerics = "fast";  // fast|exact; likewise
};

using Setup = std::function<Status()> (*)(CommandLine& sub, Common& common);

struct Command {
  const char* name;
  const char* description;  // a phrase without a full stop
  const char* example;      // one line that works as it stands; shown by --help
  Setup setup;
};
const std::vector<Command>& commands();  // by name
// Adds what every command takes (--json, -t, -q, -v, --log-file, --no-color), its example, then its own options.
std::function<Status()> set_up(const Command& command, CommandLine& sub, Common& common);
// -m/--model and --numerics, for commands that run a model.
void add_model_options(CommandLine& sub, Common& common, bool required = true);

inline std::map<std::string, Command>& command_registry() {
  static std::map<std::string, Command> commands;
  return commands;
}
struct CommandRegistrar {
  explicit CommandRegistrar(const Command& command) { add_once(command_registry(), "commands", command.name, command); }
};
#define FOVEA_COMMAND(name, description, example, setup) \
  static const ::fovea::cli::CommandRegistrar g_registrar{{name, description, example, setup}};

// Status to hand on: kIo if stdout cannot be written; kClosedPipe, with which the program ends quietly, if its reader
// went away. What came from a file or an argument goes through escaped_line() or escaped_text() of base first, but for
// the answer itself: that is printed as it is where a program reads it, and with printable() for both.
Status print(std::string_view text);
Status print_json(const nlohmann::json& document);  // invalid UTF-8 is replaced, a newline follows
std::string printable(std::string_view text);       // without control characters when stdout is a terminal
bool stdout_is_terminal();

// One line on stderr: "fovea: SENTENCE". Control characters in it, newlines too, are escaped. A stderr that cannot be
// written loses it and nothing else.
void tell_line(std::string_view sentence, LogLevel level = LogLevel::kInfo);  // to --log-file as well
void show_line(std::string_view sentence);                                    // to stderr alone
template <typename... Args>
void tell(fmt::format_string<Args...> format, Args&&... args) {
  tell_line(fmt::format(format, std::forward<Args>(args)...));
}
void to_stderr(std::string_view raw);  // a prompt, a bar: as it is

// The file of an option -o. "-" is stdout, which must then be free of the rest and no terminal for bytes: kUsage.
enum class OutputIs { kText, kBytes };
Result<FileWriter> open_output(const std::string& path, const Common& common, OutputIs what);
bool use_color();  // stderr is a terminal, NO_COLOR is unset or empty, TERM is not dumb

// While it lives, the first Ctrl+C, SIGTERM or SIGHUP only sets the flag; a second Ctrl+C or SIGTERM ends the program,
// as the first does where none lives. Nothing half-written is left behind either way. The exit code is 128 + signal.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  static bool requested() { return flag().load(std::memory_order_relaxed); }
  static std::atomic<bool>& flag();
  // After a Ctrl+C that was for the work alone: true, and the flag is down. Any other signal stays.
  static bool forgive();
  static int exit_code();  // of a command that ended with kCancelled
  static void install();   // once, at the start of the program
};

}  // namespace fovea::cli

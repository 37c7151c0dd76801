// The contract of a command, one file each:
//
//   std::function<Status()> setup_list(CLI::App& sub, Common& common) {
//     auto opts = std::make_shared<Options>();            // lives as long as the returned function
//     sub.add_flag("--long", opts->long_form, "...");
//     return [opts, &common]() -> Status { ...; return print("..."); };
//   }
//   FOVEA_COMMAND("list", "what is in the model store", "fovea list --json", setup_list)
//
// Every option also reads FOVEA_ARG_<NAME> from the environment (the flag wins). The answer goes
// to stdout by print() or print_json(), all else to stderr; an Error becomes one sentence there
// and its exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

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

using Setup = std::function<Status()> (*)(CLI::App& sub, Common& common);

struct Command {
  const char* name;
  const char* description;  // a phrase without a full stop
  const char* example;      // one line that works as it stands; shown by --help
  Setup setup;
};
const std::vector<Command>& commands();  // by name
// Adds what every command takes (--json, -t, -q, -v, --log-file, --no-color), its example, then its own options.
std::function<Status()> set_up(const Command& command, CLI::App& sub, Common& common);
// -m/--model and --numerics, for commands that run a model.
void add_model_options(CLI::App& sub, Common& common, bool required = true);

struct CommandRegistrar {
  explicit CommandRegistrar(const Command& command);
};
#define FOVEA_COMMAND(name, description, example, setup) \
  static const ::fovea::cli::CommandRegistrar g_registrar{{name, description, example, setup}};

// Status to hand on: kIo if stdout cannot be written. A reader that went away (EPIPE) ends the
// program quietly with 0.
Status print(std::string_view text);
Status print_json(const nlohmann::json& document);  // invalid UTF-8 is replaced, a newline follows
// Text that came from a file (names, pieces, answers), safe for a terminal: control characters
// other than newline and tab are dropped when stdout is one. JSON needs no such care.
std::string printable(std::string_view text);
bool stdout_is_terminal();
bool use_color();  // stderr is a terminal, NO_COLOR is unset or empty, TERM is not dumb

// While it lives, the first Ctrl+C (or SIGTERM) only sets the flag and the second exits with 130.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  static bool requested() { return flag().load(std::memory_order_relaxed); }
  static std::atomic<bool>& flag();
};

}  // namespace fovea::cli

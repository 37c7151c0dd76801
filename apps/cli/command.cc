#include "apps/cli/command.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "apps/cli/ranges.h"
#include "fovea/base/bytes.h"
#include "fovea/base/temporary_files.h"

namespace fovea::cli {
namespace {

std::vector<Command>& registry() {
  static std::vector<Command> list;
  return list;
}

std::string env_name(std::string option) {
  for (char& c : option) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return "FOVEA_ARG_" + option;
}

// Variables of the environment give a flag a value.
CLI::Validator switch_value(int most) {
  return CLI::Validator(
      [most](std::string& value) {
        if (value == "true" || value == "false") return std::string();
        const bool yes = value == "1" || value == "on" || value == "yes",
                   no = value == "0" || value == "off" || value == "no";
        if (most > 1 && value == "2") return std::string();
        if (!yes && !no)
          return fmt::format("{} is not {}", quoted(value, 40),
                             most > 1 ? "a whole number in 0 to 2" : "true or false");
        value = yes ? "true" : "false";
        return std::string();
      },
      "");
}

struct sigaction g_old_int, g_old_term;

void on_interrupt(int) {
  if (!Interrupt::flag().exchange(true)) return;
  remove_temporary_files();
  _exit(130);
}

}  // namespace

CommandRegistrar::CommandRegistrar(const Command& command) { registry().push_back(command); }

const std::vector<Command>& commands() {
  std::vector<Command>& list = registry();
  std::sort(list.begin(), list.end(),
            [](const Command& a, const Command& b) { return std::string_view(a.name) < b.name; });
  return list;
}

std::function<Status()> set_up(const Command& command, CLI::App& sub, Common& common) {
  sub.footer(std::string("Example:\n  ") + command.example);
  std::function<Status()> run = command.setup(sub, common);
  sub.add_flag("--json", common.json, "print one JSON document on stdout, nothing else there");
  sub.add_option("-t,--threads", common.threads, "threads; default: one per physical core")
      ->transform(in_range(int64_t{1}, int64_t{1024}));
  sub.add_flag("-q,--quiet", common.quiet, "no progress, no warnings");
  sub.add_flag("-v,--verbose", common.verbose, "say more; -vv: debug lines");
  sub.add_option("--log-file", common.log_file, "add warnings, what -v says and the error of a run to a file");
  sub.add_flag_callback(
      "--no-color", [] { setenv("NO_COLOR", "1", 1); }, "no colours, as with NO_COLOR=1");
  for (CLI::Option* option : sub.get_options()) {
    if (option->get_items_expected_max() == 0 && !option->check_name("--help"))
      option->transform(switch_value(option->check_name("--verbose") ? 2 : 1));
    // Given twice, the last one counts; what may be repeated says so.
    const bool one_value = !option->get_positional() && option->get_items_expected_max() == 1;
    if (one_value && option->get_multi_option_policy() == CLI::MultiOptionPolicy::Throw) option->take_last();
    const auto& names = option->get_lnames();
    if (!names.empty() && names[0] != "help" && option->get_envname().empty()) option->envname(env_name(names[0]));
  }
  return run;
}

void add_model_options(CLI::App& sub, Common& common, bool required) {
  sub.add_option("-m,--model", common.model, "a name from `fovea list` or the path of a .gguf file")
      ->required(required);
  sub.add_option("--numerics", common.numerics,
                 "fast: int8 products, 16-bit keys and values; exact: float32 throughout")
      ->check(CLI::IsMember({"fast", "exact"}))
      ->capture_default_str();
}

Status print(std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EPIPE) {
      remove_temporary_files();
      std::exit(0);
    }
    if (n < 0) return make_error(ErrorCode::kIo, "writing to standard output: {}", std::strerror(errno));
    text.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

Status print_json(const nlohmann::json& document) {
  return print(document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

bool stdout_is_terminal() {
  static const bool is = isatty(STDOUT_FILENO) != 0;
  return is;
}

std::string printable(std::string_view text) {
  std::string out(text);
  if (!stdout_is_terminal()) return out;
  const auto is_control = [](unsigned char c) { return (c < 0x20 && c != '\n' && c != '\t') || c == 0x7F; };
  out.erase(std::remove_if(out.begin(), out.end(), is_control), out.end());
  return out;
}

bool use_color() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) && !(no_color && *no_color) && !(term && std::strcmp(term, "dumb") == 0);
}

std::atomic<bool>& Interrupt::flag() {
  static std::atomic<bool> requested{false};
  return requested;
}

Interrupt::Interrupt() {
  flag() = false;
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);  // no SA_RESTART: a blocking read returns
  sigaction(SIGINT, &action, &g_old_int);
  sigaction(SIGTERM, &action, &g_old_term);
}

Interrupt::~Interrupt() {
  sigaction(SIGINT, &g_old_int, nullptr);
  sigaction(SIGTERM, &g_old_term, nullptr);
}

}  // namespace fovea::cli

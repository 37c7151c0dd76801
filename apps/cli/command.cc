#include "apps/cli/command.h"

#include <signal.h>
#include <time.h>  // clock_gettime
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>

#include "apps/cli/log_file.h"
#include "apps/cli/ranges.h"
#include "fovea/base/bytes.h"
#include "fovea/base/interrupt.h"
#include "fovea/base/temporary_files.h"
#include "fovea/base/utf8.h"

namespace fovea::cli {
namespace {

// Characters that JSON leaves as they are and a terminal obeys or the eye does not see.
bool hidden(uint32_t c) {
  return (c >= 0x7F && c < 0xA0) || c == 0x200E || c == 0x200F || (c >= 0x2028 && c <= 0x202E) ||
         (c >= 0x2066 && c <= 0x2069);
}

std::atomic<int> g_signal{0};    // the first that came
std::atomic<int> g_polled{0};    // Interrupts that live: somebody looks at the flag
std::atomic<int64_t> g_when{0};  // ms of a steady clock at the first
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<int64_t>::is_always_lock_free,
              "a signal handler uses them");

int64_t steady_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);  // async-signal-safe
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

void on_interrupt(int signal) {
  constexpr int64_t kOnceMs = 1000;
  const int64_t now = steady_ms();
  int64_t never = 0;
  g_when.compare_exchange_strong(never, now);
  int none = 0;
  const bool first = g_signal.compare_exchange_strong(none, signal);
  interrupt_flag().store(true);
  if (first && g_polled.load() > 0) return;
  // A terminal that closes says so twice, by its kernel and by its shell; so do `timeout` and schedulers, which end a
  // process and then its group.
  if (!first && signal == SIGHUP) return;
  if (!first && signal == SIGTERM && none == SIGTERM && now - g_when.load() < kOnceMs) return;
  remove_temporary_files();
  _exit(128 + signal);
}

// Signals that nobody waits out: they end the program as ever, but leave nothing behind.
void on_end(int signal) {
  remove_temporary_files();
  ::signal(signal, SIG_DFL);
  raise(signal);
}

// A hangup that is ignored stays ignored: that is what nohup is for.
void handle(int signal, void (*handler)(int)) {
  struct sigaction old {};
  sigaction(signal, nullptr, &old);
  if (signal == SIGHUP && old.sa_handler == SIG_IGN) return;
  struct sigaction action {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);  // no SA_RESTART: a blocking read returns
  sigaction(signal, &action, nullptr);
}

}  // namespace

const std::vector<Command>& commands() {
  static const std::vector<Command> list = [] {
    std::vector<Command> all;
    for (const auto& entry : command_registry()) all.push_back(entry.second);
    return all;
  }();
  return list;
}

std::function<Status()> set_up(const Command& command, CommandLine& sub, Common& common) {
  sub.set_footer(std::string("Example:\n  ") + command.example);
  std::function<Status()> run = command.setup(sub, common);
  sub.add_flag("--json", common.json, "print one JSON document on stdout, nothing else there");
  sub.add_option("-t,--threads", common.threads, "threads; default: one per physical core")
      .transform(in_range(int64_t{1}, int64_t{1024}));
  sub.add_flag("-q,--quiet", common.quiet, "no progress, no warnings");
  sub.add_counted_flag("-v,--verbose", common.verbose, "say more; -vv: debug lines");
  sub.add_option("--log-file", common.log_file, "add warnings, what -v says and the error of a run to a file");
  sub.add_flag_function(
      "--no-color", [] { setenv("NO_COLOR", "1", 1); }, "no colours, as with NO_COLOR=1");
  sub.finish();
  return run;
}

void add_model_options(CommandLine& sub, Common& common, bool required) {
  sub.add_option("-m,--model", common.model, "a name from `fovea list --all`, a .gguf file or a Hugging Face folder")
      .required(required);
  sub.add_option("--numerics", common.numerics,
                 "fast: integer products, 16-bit keys and values; exact: float32 throughout")
      .one_of({"fast", "exact"})
      .show_default();
}

Status print(std::string_view text) { return write_stdout(text); }

Status print_json(const nlohmann::json& document) {
  const std::string text = document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
  std::string out;
  out.reserve(text.size() + 1);
  // Only strings hold such characters, and there \u says the same.
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const CodePoint c = code_point_at(p, end);
    if (hidden(c.value)) {
      out += fmt::format("\\u{:04x}", c.value);
    } else {
      out.append(p, c.bytes);
    }
    p += c.bytes;
  }
  return print(out += '\n');
}

void to_stderr(std::string_view raw) {
  while (!raw.empty()) {
    const ssize_t n = ::write(STDERR_FILENO, raw.data(), raw.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return;
    raw.remove_prefix(static_cast<size_t>(n));
  }
}

void show_line(std::string_view sentence) { to_stderr("fovea: " + escaped_line(sentence) + "\n"); }

void tell_line(std::string_view sentence, LogLevel level) {
  show_line(sentence);
  write_log_file(level, sentence);
}

Result<FileWriter> open_output(const std::string& path, const Common& common, OutputIs what) {
  if (path == "-" && common.json)
    return make_error(ErrorCode::kUsage, "--output - and --json both want standard output: give one of them");
  if (path == "-" && what == OutputIs::kBytes && stdout_is_terminal())
    return make_error(ErrorCode::kUsage, "--output -: standard output is a terminal, and what comes is no text");
  auto file = FileWriter::create(path);
  if (!file) file.error().message = "--output: " + file.error().message;
  return file;
}

bool stdout_is_terminal() {
  static const bool is = isatty(STDOUT_FILENO) != 0;
  return is;
}

std::string printable(std::string_view text) {
  std::string out;
  if (!stdout_is_terminal()) return out = text;
  for (const char *p = text.data(), *end = p + text.size(); p < end;) {
    const CodePoint c = code_point_at(p, end);
    const bool control =
        c.bytes == 0 || (c.value < 0x20 && c.value != '\n' && c.value != '\t') || (c.value >= 0x7F && c.value < 0xA0);
    const uint32_t n = std::max<uint32_t>(c.bytes, 1);
    if (!control) out.append(p, n);
    p += n;
  }
  return out;
}

bool use_color() {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) && !(no_color && *no_color) && !(term && std::strcmp(term, "dumb") == 0);
}

std::atomic<bool>& Interrupt::flag() { return interrupt_flag(); }

void Interrupt::install() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) handle(signal, on_interrupt);
  for (const int signal : {SIGQUIT, SIGXCPU}) handle(signal, on_end);
}

bool Interrupt::forgive() {
  int expected = SIGINT;
  if (!g_signal.compare_exchange_strong(expected, 0) && expected != 0) return false;
  g_when = 0;
  flag() = false;
  return true;
}

int Interrupt::exit_code() {
  const int signal = g_signal.load();
  return 128 + (signal > 0 ? signal : SIGINT);
}

Interrupt::Interrupt() { ++g_polled; }
Interrupt::~Interrupt() { --g_polled; }

}  // namespace fovea::cli

#include "apps/cli/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdint>
#include <sstream>
#include <utility>

#include "fovea/base/bytes.h"

namespace fovea::cli {
namespace {

std::string variable_name(std::string option) {
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
          return fmt::format("{} is not {}", quote(value, 40), most > 1 ? "a whole number in 0 to 2" : "true or false");
        value = yes ? "true" : "false";
        return std::string();
      },
      "");
}

std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

Option Option::required(bool yes) const { return Option(option_->required(yes)); }
Option Option::show_default() const { return Option(option_->capture_default_str()); }
Option Option::show_default(const std::string& text) const { return Option(option_->default_str(text)); }
Option Option::describe(const std::string& text) const { return Option(option_->description(text)); }
Option Option::split_at(char delimiter) const { return Option(option_->delimiter(delimiter)); }
Option Option::one_value_each_time() const { return Option(option_->allow_extra_args(false)); }
Option Option::collect() const {
  return Option(option_->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll));
}
Option Option::excludes(Option other) const { return Option(option_->excludes(other.option_)); }
Option Option::one_of(std::initializer_list<const char*> values) const {
  return Option(option_->check(CLI::IsMember(std::vector<std::string>(values.begin(), values.end()))));
}
Option Option::check(Test test) const { return Option(option_->check(CLI::Validator(std::move(test), ""))); }
Option Option::transform(Test test) const { return Option(option_->transform(CLI::Validator(std::move(test), ""))); }

int Option::count() const { return static_cast<int>(option_->count()); }
bool Option::takes_value() const { return option_->get_items_expected_max() > 0; }
std::string Option::name() const {
  return option_->get_lnames().empty() ? option_->get_name(true) : "--" + option_->get_lnames()[0];
}
std::vector<std::string> Option::long_names() const {
  std::vector<std::string> out;
  for (const std::string& name : option_->get_lnames()) out.push_back("--" + name);
  return out;
}
std::string Option::short_name() const { return option_->get_snames().empty() ? "" : "-" + option_->get_snames()[0]; }
std::string Option::variable() const { return option_->get_envname(); }

CommandLine::CommandLine(const std::string& description, const std::string& name)
    : owned_(std::make_unique<CLI::App>(description, name)), app_(owned_.get()) {
  app_->require_subcommand(0, 1);
}
CommandLine::CommandLine(CLI::App* part) : app_(part) {}
CommandLine::~CommandLine() = default;
CommandLine::CommandLine(CommandLine&&) noexcept = default;
CommandLine& CommandLine::operator=(CommandLine&&) noexcept = default;

CommandLine CommandLine::add_command(const std::string& name, const std::string& description) {
  return CommandLine(app_->add_subcommand(name, description));
}
void CommandLine::set_version(const std::string& text) { app_->set_version_flag("--version", text); }
void CommandLine::set_footer(const std::string& text) { app_->footer(text); }
void CommandLine::extend_footer(const std::string& text) { app_->footer(app_->get_footer() + "\n\n" + text); }

template <typename T>
Option CommandLine::add_option(const std::string& names, T& variable, const std::string& help) {
  return Option(app_->add_option(names, variable, help));
}
template Option CommandLine::add_option(const std::string&, std::string&, const std::string&);
template Option CommandLine::add_option(const std::string&, int&, const std::string&);
template Option CommandLine::add_option(const std::string&, uint64_t&, const std::string&);
template Option CommandLine::add_option(const std::string&, float&, const std::string&);
template Option CommandLine::add_option(const std::string&, std::vector<std::string>&, const std::string&);
template Option CommandLine::add_option(const std::string&, std::vector<int>&, const std::string&);

Option CommandLine::add_option_function(const std::string& names,
                                        std::function<std::string(const std::string& value)> take,
                                        const std::string& help) {
  const auto refuse = [take = std::move(take), flag = names.substr(names.find("--"))](const std::string& value) {
    if (const std::string wrong = take(value); !wrong.empty()) throw CLI::ValidationError(flag, wrong);
  };
  return Option(app_->add_option_function<std::string>(names, refuse, help));
}
Option CommandLine::add_flag(const std::string& names, bool& variable, const std::string& help) {
  return Option(app_->add_flag(names, variable, help));
}
Option CommandLine::add_counted_flag(const std::string& names, int& variable, const std::string& help) {
  return Option(app_->add_flag(names, variable, help));
}
Option CommandLine::add_flag_function(const std::string& names, std::function<void()> act, const std::string& help) {
  return Option(app_->add_flag_callback(names, std::move(act), help));
}

void CommandLine::finish() {
  for (CLI::Option* option : app_->get_options()) {
    if (option->get_items_expected_max() == 0 && !option->check_name("--help"))
      option->transform(switch_value(option->check_name("--verbose") ? 2 : 1));
    // What may be repeated says so.
    const bool one_value = !option->get_positional() && option->get_items_expected_max() == 1;
    if (one_value && option->get_multi_option_policy() == CLI::MultiOptionPolicy::Throw) option->take_last();
    const auto& names = option->get_lnames();
    constexpr std::string_view kFiles[] = {"output",   "file",       "ids",  "profile",   "messages",
                                           "log-file", "importance", "html", "documents", "chat-template-file",
                                           "against",  "gates"};
    constexpr std::string_view kFileArguments[] = {"CONFIG", "FILE", "PATH", "OUT"};
    const bool is_file = std::any_of(std::begin(kFiles), std::end(kFiles),
                                     [&](auto file) { return !names.empty() && names[0] == file; }) ||
                         std::any_of(std::begin(kFileArguments), std::end(kFileArguments), [&](auto file) {
                           return option->get_positional() && option->get_name(true) == file;
                         });
    if (is_file)
      option->check(CLI::Validator(
          [](std::string& value) { return std::string(value.empty() ? "the name of the file is empty" : ""); }, ""));
    if (!names.empty() && names[0] != "help" && option->get_envname().empty()) option->envname(variable_name(names[0]));
  }
}

Option CommandLine::find(const std::string& name) const { return Option(app_->get_option_no_throw(name)); }

std::vector<Option> CommandLine::options() const {
  std::vector<Option> out;
  for (CLI::Option* option : app_->get_options()) out.emplace_back(option);
  return out;
}

std::vector<std::string> CommandLine::long_names() const {
  std::vector<std::string> out;
  for (const Option& option : options()) {
    for (std::string& name : option.long_names()) out.push_back(std::move(name));
  }
  return out;
}

std::vector<Option> CommandLine::order() const {
  std::vector<Option> out;
  for (CLI::Option* option : app_->parse_order()) out.emplace_back(option);
  return out;
}

Parsed CommandLine::parse(const std::vector<std::string>& words) {
  Parsed out;
  try {
    app_->parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::Success& help) {
    std::ostringstream text, none;
    app_->exit(help, text, none);
    out.help = text.str();
  } catch (const CLI::ExtrasError& error) {
    out.error = one_line(error.what());
    out.unknown = app_->remaining(true);
  } catch (const CLI::RequiredError& error) {  // what is missing may stand there under a wrong name
    out.error = one_line(error.what());
    out.unknown = app_->remaining(true);
  } catch (const CLI::ParseError& error) {
    out.error = one_line(error.what());
  }
  return out;
}

}  // namespace fovea::cli

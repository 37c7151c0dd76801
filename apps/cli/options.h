// The options of a command. CLI11 does the work, and options.cc alone includes it: a file that does takes seconds
// longer to compile.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace fovea::cli {

// What is wrong with a value, empty if nothing is; it may write the value in another form.
using Test = std::function<std::string(std::string& value)>;

// A handle of an option, or none; as cheap to copy as a pointer. Setters return it, to be chained.
class Option {
 public:
  Option() = default;
  explicit Option(CLI::Option* option) : option_(option) {}
  explicit operator bool() const { return option_ != nullptr; }
  bool operator==(const Option&) const = default;

  Option required(bool yes = true) const;
  Option show_default() const;  // the help says what the variable holds now
  Option show_default(const std::string& text) const;
  Option describe(const std::string& text) const;
  Option split_at(char delimiter) const;  // one word holds several values
  Option one_value_each_time() const;     // of a list: the flag is repeated
  Option collect() const;                 // likewise, and the help shows one value
  Option excludes(Option other) const;
  Option one_of(std::initializer_list<const char*> values) const;
  Option check(Test test) const;      // the value stays as it was given
  Option transform(Test test) const;  // the value becomes what the test made of it

  int count() const;  // how often it was given, on the command line or in the environment
  bool takes_value() const;
  std::string name() const;                     // "--file", of an argument "TEXT"
  std::vector<std::string> long_names() const;  // "--temp", "--temperature"
  std::string short_name() const;               // "-f" or empty
  std::string variable() const;                 // FOVEA_ARG_FILE or empty

 private:
  CLI::Option* option_ = nullptr;
};

// What the words of a command line came to. All empty: the command may run.
struct Parsed {
  std::string help;                  // to be printed instead
  std::string error;                 // one sentence
  std::vector<std::string> unknown;  // words that nothing takes
};

// The options of a program or of one of its commands.
class CommandLine {
 public:
  explicit CommandLine(const std::string& description = "", const std::string& name = "");
  ~CommandLine();
  CommandLine(CommandLine&&) noexcept;
  CommandLine& operator=(CommandLine&&) noexcept;

  CommandLine add_command(const std::string& name, const std::string& description);  // a part of this one
  void set_version(const std::string& text);                                         // for --version
  void set_footer(const std::string& text);                                          // below the help
  void extend_footer(const std::string& text);  // below that, an empty line between

  // `names`: "-f,--file", or "TEXT" of what stands without a flag. T: std::string, int, uint64_t, float, or a vector
  // of the first two.
  template <typename T>
  Option add_option(const std::string& names, T& variable, const std::string& help);
  Option add_option_function(const std::string& names, std::function<std::string(const std::string& value)> take,
                             const std::string& help);
  Option add_flag(const std::string& names, bool& variable, const std::string& help);
  Option add_counted_flag(const std::string& names, int& variable, const std::string& help);
  Option add_flag_function(const std::string& names, std::function<void()> act, const std::string& help);
  // The last step: each option also reads FOVEA_ARG_<NAME>, a switch takes true and false from there, and of one given
  // twice the last counts.
  void finish();

  Option find(const std::string& name) const;  // "-f" or "--file"
  std::vector<Option> options() const;
  std::vector<std::string> long_names() const;  // of all of them
  std::vector<Option> order() const;            // as they were given, once for each value
  Parsed parse(const std::vector<std::string>& words);

 private:
  explicit CommandLine(CLI::App* part);
  std::unique_ptr<CLI::App> owned_;
  CLI::App* app_;
};

}  // namespace fovea::cli

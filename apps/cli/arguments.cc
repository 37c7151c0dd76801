#include "apps/cli/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <optional>

#include "apps/cli/foreign_flags.h"
#include "fovea/base/bytes.h"
#include "fovea/base/split.h"

namespace fovea::cli {
namespace {

bool contains(std::string_view list, std::string_view item) {
  const auto parts = split(list, ',');
  return std::find(parts.begin(), parts.end(), item) != parts.end();
}

bool is_flag(std::string_view word) { return word.size() > 1 && word[0] == '-'; }

const ForeignFlag* find_foreign(std::string_view name) {
  for (const ForeignFlag& flag : foreign_flag_table()) {
    if (contains(flag.names, name)) return &flag;
  }
  return nullptr;
}

bool is_switch_value(std::string_view word) { return contains("on,off,auto,true,false,enabled,disabled,0,1", word); }

// Goes through a command's words once and writes what CLI11 is to see.
class Adoption {
 public:
  Adoption(const CommandLine& sub, Arguments& arguments) : sub_(sub), arguments_(arguments) {}

  Status run() {
    const std::vector<std::string> words = std::move(arguments_.words);
    out_.push_back(words[0]);
    for (at_ = 1; at_ < words.size(); ++at_) {
      const std::string& word = words[at_];
      if (word == "--") {
        out_.insert(out_.end(), words.begin() + static_cast<ptrdiff_t>(at_), words.end());
        break;
      }
      FOVEA_RETURN_IF_ERROR(is_flag(word) ? flag(words, word) : keep(word));
    }
    arguments_.words = std::move(out_);
    return {};
  }

 private:
  Status keep(const std::string& word) {
    out_.push_back(word);
    return {};
  }

  Status flag(const std::vector<std::string>& words, const std::string& word) {
    const bool letters = word.size() > 2 && word[2] != '=';  // -ngl=5, and not -n=5
    const size_t equals = letters ? std::min(word.find('='), word.size()) : word.size();
    const std::string name = word.substr(0, equals);
    if (const Option own = sub_.find(name)) {
      // The value goes with it, whatever it looks like.
      out_.push_back(word);
      const bool apart = equals == word.size() && own.takes_value();
      if (apart && at_ + 1 < words.size()) out_.push_back(words[++at_]);
      return {};
    }
    const bool runs_models = sub_.find("--model") || sub_.find("OUT");  // or makes some
    const bool conversation = contains("-cnv,--conversation,-no-cnv,--no-conversation,-st,--single-turn", name);
    const ForeignFlag* known = find_foreign(name);
    if (!runs_models || (!known && !conversation)) return unknown(word);
    if (conversation) return converse(name);
    std::optional<std::string> value;
    if (equals < word.size()) value = word.substr(equals + 1);
    const Takes takes = known->takes;
    const bool follows = !value && at_ + 1 < words.size() &&
                         (takes == Takes::kValue || (takes == Takes::kSwitch && is_switch_value(words[at_ + 1])));
    if (follows) value = words[++at_];
    if (takes == Takes::kValue && !value) return make_error(ErrorCode::kUsage, "{} needs a value", name);
    if (takes == Takes::kNothing && value) return make_error(ErrorCode::kUsage, "{} takes no value", name);
    return adopt(*known, name, value);
  }

  Status adopt(const ForeignFlag& known, const std::string& name, const std::optional<std::string>& value) {
    if (!known.anyway.empty() && contains(known.anyway, value.value_or(""))) return {};
    switch (known.becomes) {
      case Becomes::kSilent: return {};
      case Becomes::kWarning:
        arguments_.warnings.push_back(fmt::format("{} is not needed here: {}", name, known.text));
        return {};
      case Becomes::kRefused: return make_error(ErrorCode::kUsage, "{}: {}", name, known.text);
      case Becomes::kOption: {
        const std::string option(known.text.substr(0, known.text.find('=')));
        if (!sub_.find(option)) return unknown(name);
        out_.push_back(value ? fmt::format("{}={}", option, *value) : std::string(known.text));
        return {};
      }
    }
    return {};
  }

  // llama.cpp has one program for both, with a conversation as the default.
  Status converse(const std::string& name) {
    const bool single = contains("-no-cnv,--no-conversation,-st,--single-turn", name);
    const std::string& command = arguments_.command;
    if (command == "chat") {
      if (!single) return {};
      return make_error(ErrorCode::kUsage, "{}: chat is a conversation; fovea run answers one prompt", name);
    }
    if (command != "run") return unknown(name);
    if (!single) return make_error(ErrorCode::kUsage, "{}: fovea chat holds a conversation", name);
    const bool raw = contains("-no-cnv,--no-conversation", name);  // without the chat template, too
    if (raw && std::find(out_.begin(), out_.end(), "--raw") == out_.end()) out_.push_back("--raw");
    return {};
  }

  // What the command itself may make of a word: a cluster of flags, a number behind its flag; else it is named whole.
  Status unknown(const std::string& word) {
    const bool one_dash = !word.starts_with("--") && word.size() > 2;
    if (!one_dash || std::isdigit(static_cast<unsigned char>(word[1])) || word[1] == '.') return keep(word);
    for (size_t i = 1; i < word.size(); ++i) {
      const Option option = sub_.find(fmt::format("-{}", word[i]));
      if (!option) break;
      if (!option.takes_value()) {
        if (i + 1 == word.size()) return keep(word);
        continue;
      }
      const std::string rest = word.substr(i + 1);
      // Letters alone are more likely a flag of another program than a value without its space.
      if (std::all_of(rest.begin(), rest.end(), [](unsigned char c) { return std::isalpha(c); }) && !rest.empty())
        break;
      return keep(word);
    }
    const std::string head = word.substr(0, 2);
    if (const Option option = sub_.find(head); option && option.takes_value()) {
      return make_error(ErrorCode::kUsage, "unknown option {}; a value stands apart from its flag: {} {}",
                        quote(word, 40), head, word.substr(2, 40));
    }
    return make_error(ErrorCode::kUsage, "unknown option {}; see fovea {} --help", quote(word, 40), arguments_.command);
  }

  const CommandLine& sub_;
  Arguments& arguments_;
  std::vector<std::string> out_;
  size_t at_ = 0;
};

bool is_command(const std::string& name) {
  const auto& all = commands();
  return std::any_of(all.begin(), all.end(), [&](const Command& command) { return name == command.name; });
}

}  // namespace

Result<Arguments> find_command(const std::vector<std::string>& args) {
  constexpr std::string_view kWithValue = "-t,--threads,--log-file";
  constexpr std::string_view kAlone = "--json,-q,--quiet,-v,-vv,-qv,-vq,--verbose,--no-color,-h,--help";
  Arguments out;
  std::vector<std::string> before;
  size_t at = 0;
  for (; at < args.size() && is_flag(args[at]) && args[at] != "--"; ++at) {
    const std::string& word = args[at];
    if (word == "--version") {
      out.words.push_back(word);
      return out;
    }
    const size_t equals = std::min(word.find('='), word.size());
    const std::string name = word.substr(0, word.starts_with("--") ? equals : std::string::npos);
    const bool attached =
        word.starts_with("-t") && word.size() > 2 && std::isdigit(static_cast<unsigned char>(word[2]));
    if (!attached && !contains(kWithValue, name) && !contains(kAlone, name)) {
      const auto later = std::find_if(args.begin() + static_cast<ptrdiff_t>(at), args.end(), is_command);
      if (later == args.end())
        return make_error(ErrorCode::kUsage, "unknown option {}; fovea --help lists the commands", quote(name, 40));
      return make_error(ErrorCode::kUsage, "{} belongs behind the command: fovea {} {} ...", quote(name, 40), *later,
                        name);
    }
    before.push_back(word);
    if (contains(kWithValue, word)) {
      if (at + 1 == args.size()) return make_error(ErrorCode::kUsage, "{} needs a value", name);
      before.push_back(args[++at]);
    }
  }
  const auto take_command = [&] {
    out.command = at < args.size() && args[at] != "--" ? args[at++] : "";
    if (out.command == "ls") out.command = "list";
  };
  take_command();
  if (out.command == "help") {
    before.emplace_back("--help");
    take_command();
    if (out.command == "help") out.command.clear();  // of itself: the overview
  }
  if (!out.command.empty()) out.words.push_back(out.command);
  out.words.insert(out.words.end(), before.begin(), before.end());
  out.words.insert(out.words.end(), args.begin() + static_cast<ptrdiff_t>(at), args.end());
  return out;
}

Status adopt_foreign_flags(const CommandLine& sub, Arguments& arguments) { return Adoption(sub, arguments).run(); }

}  // namespace fovea::cli

// fovea completion bash|zsh|fish: a script for the shell, made from the commands themselves.
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"

namespace fovea::cli {
namespace completion_command {

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : " ") + word;
  return out;
}

struct Words {
  std::string name, description;
  std::vector<std::string> options;
};

std::vector<Words> all_words() {
  std::vector<Words> out;
  for (const Command& command : commands()) {
    CommandLine app;
    Common common;
    set_up(command, app, common);
    out.push_back({command.name, command.description, app.long_names()});
  }
  return out;
}

std::string bash_script() {
  std::string names, cases;
  for (const Words& w : all_words()) {
    names += w.name + " ";
    cases += fmt::format("    {}) words='{}' ;;\n", w.name, join(w.options));
  }
  return "_fovea() {\n  local words current=${COMP_WORDS[COMP_CWORD]}\n  case ${COMP_WORDS[1]} in\n" + cases +
         "  esac\n  if [ \"$COMP_CWORD\" -eq 1 ]; then words='" + names +
         "--help --version'; fi\n"
         "  if [[ $COMP_CWORD -eq 1 || $current == -* ]]; then\n    COMPREPLY=($(compgen -W \"$words\" -- "
         "\"$current\"))\n"
         "  else\n    COMPREPLY=($(compgen -f -- \"$current\"))\n  fi\n}\ncomplete -o filenames -F _fovea fovea\n";
}

std::string zsh_script() {
  std::string names, cases;
  for (const Words& w : all_words()) {
    names += fmt::format(" '{}:{}'", w.name, w.description);
    cases += fmt::format("    {}) compadd -- {} ;;\n", w.name, join(w.options));
  }
  return "#compdef fovea\n_fovea() {\n  local -a names\n  names=(" + names +
         " )\n"
         "  if (( CURRENT == 2 )); then _describe command names; return; fi\n"
         "  if [[ $words[CURRENT] != -* ]]; then _files; return; fi\n  case $words[2] in\n" +
         cases + "  esac\n}\ncompdef _fovea fovea\n";
}

std::string fish_script() {
  std::string out;
  for (const Words& w : all_words()) {
    out += fmt::format("complete -c fovea -n __fish_use_subcommand -a {} -d '{}'\n", w.name, w.description);
    for (const std::string& option : w.options) {
      out += fmt::format("complete -c fovea -n '__fish_seen_subcommand_from {}' -l {}\n", w.name, option.substr(2));
    }
  }
  return out;
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto shell = std::make_shared<std::string>();
  sub.add_option("SHELL", *shell, "bash, zsh or fish").required().one_of({"bash", "zsh", "fish"});
  return [shell, &common]() -> Status {
    const std::string script = *shell == "bash" ? bash_script() : *shell == "zsh" ? zsh_script() : fish_script();
    if (common.json) return print_json({{"shell", *shell}, {"script", script}});
    return print(script);
  };
}

FOVEA_COMMAND("completion", "a completion script for a shell",
              "fovea completion bash > ~/.local/share/bash-completion/completions/fovea", setup)

}  // namespace completion_command
}  // namespace fovea::cli

// The flags of llama.cpp's programs that are known here without being options of a command.
#pragma once

#include <span>
#include <string_view>

namespace fovea::cli {

enum class Takes {
  kNothing,
  kValue,
  kSwitch,  // on, off, auto or a number may follow
};
enum class Becomes {
  kOption,   // `text`: the option here that means the same; --switch=VALUE stands for the flag alone
  kSilent,   // what it asks for happens anyway
  kWarning,  // has no effect, `text` says why
  kRefused,  // the answer would be another one, `text` says what there is instead
};
struct ForeignFlag {
  std::string_view names;  // joined by commas
  Takes takes;
  Becomes becomes;
  std::string_view text;
  std::string_view anyway = "";  // values, joined by commas, that ask for what happens anyway
};
std::span<const ForeignFlag> foreign_flag_table();

}  // namespace fovea::cli

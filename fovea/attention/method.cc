#include "fovea/attention/method.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <tuple>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/nearest.h"
#include "fovea/base/registry.h"

namespace fovea::attention {
namespace {

std::map<std::string, MethodFactory, std::less<>>& registry() {
  static std::map<std::string, MethodFactory, std::less<>> methods;
  return methods;
}

std::string slug(std::string_view name) {
  std::string out(name);
  std::replace(out.begin(), out.end(), '_', '-');
  return out;
}

bool lists(std::string_view words, std::string_view word) {
  for (size_t at = words.find(word); at != std::string_view::npos; at = words.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || words[at - 1] == ' ') && (end == words.size() || words[end] == ' ')) return true;
  }
  return false;
}

std::vector<std::string_view> names_of_bits(uint32_t bits, std::initializer_list<std::string_view> names) {
  std::vector<std::string_view> out;
  for (const std::string_view name : names) {
    if (bits & 1) out.push_back(name);
    bits >>= 1;
  }
  return out;
}

}  // namespace

std::vector<std::string_view> stage_names(uint32_t stages) {
  return names_of_bits(stages, {"inputs", "choose", "score", "reweight", "gate", "keep", "join"});
}

std::vector<Need> needs_of(const MethodInfo& info) {
  const auto cut = [](std::string_view text, char at) {  // what stands before and behind
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == at) return std::pair(text.substr(0, i), text.substr(i + 1));
    }
    return std::pair(text, std::string_view());
  };
  std::vector<Need> out;
  for (auto [word, rest] = cut(info.needs, ' '); !word.empty(); std::tie(word, rest) = cut(rest, ' ')) {
    const auto [column, when] = cut(word, ':');
    const auto [knob, value] = cut(when, '=');
    out.push_back({column, knob, value});
  }
  return out;
}

bool can_compose(const MethodInfo& a, const MethodInfo& b) {
  return !lists(a.excludes, b.name) && !lists(b.excludes, a.name);
}

double allowed_distance(const MethodInfo& info, std::string_view law) {
  std::string_view rest = info.exceptions;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(';'), rest.size());
    std::string_view entry = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    entry.remove_prefix(std::min(entry.find_first_not_of(' '), entry.size()));
    const std::string_view head = entry.substr(0, entry.find(':'));
    const size_t tilde = head.find('~');
    if (head.substr(0, tilde) != law) continue;
    if (tilde == std::string_view::npos) return std::numeric_limits<double>::infinity();
    return std::strtod(std::string(head.substr(tilde + 1)).c_str(), nullptr);
  }
  return 0;
}

std::string tensor_name(const MethodInfo& method, std::string_view parameter) {
  return fmt::format("{}.{}", method.name, parameter);
}

bool register_method(std::string_view name, MethodFactory make) {
  return add_once(registry(), "attention methods", name, make);
}

std::unique_ptr<Method> make_method(std::string_view name) {
  const auto it = registry().find(slug(name));
  return it == registry().end() ? nullptr : it->second();
}

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const auto& entry : registry()) names.push_back(entry.first);
  return names;
}

Error no_such_method(std::string_view name) {
  return make_error(ErrorCode::kUsage, "no attention method is called {}; nearest: {} (all: fovea methods)",
                    quote(name), fmt::join(nearest_names(slug(name), method_names()), ", "));
}

}  // namespace fovea::attention

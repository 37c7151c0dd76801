// A chat template as a whole: the data that it gets, who wrote what of it, and the prompt that comes out.
#include <algorithm>
#include <new>
#include <stdexcept>

#include "fovea/tokenizers/chat_template.h"
#include "fovea/tokenizers/template/interpreter.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::tokenizers {
namespace jinja {
namespace {

constexpr int kMaxContextDepth = 64;

Value from_json(const nlohmann::ordered_json& j, Owner owner, int depth = 0) {
  if (depth > kMaxContextDepth)
    fail_limit(fmt::format("chat template: its input is nested deeper than {}", kMaxContextDepth));
  switch (j.type()) {
    case nlohmann::ordered_json::value_t::boolean: return Value::boolean(j.get<bool>()).owned(owner);
    case nlohmann::ordered_json::value_t::number_integer: return Value::integer(j.get<int64_t>()).owned(owner);
    case nlohmann::ordered_json::value_t::number_unsigned:
      if (j.get<uint64_t>() > INT64_MAX) fail_limit("chat template: an integer of its input does not fit 64 bits");
      return Value::integer(j.get<int64_t>()).owned(owner);
    case nlohmann::ordered_json::value_t::number_float: return Value::number(j.get<double>()).owned(owner);
    case nlohmann::ordered_json::value_t::string: return Value::string(Str(j.get_ref<const std::string&>(), owner));
    case nlohmann::ordered_json::value_t::array: {
      List l;
      l.reserve(j.size());
      for (const auto& e : j) l.push_back(from_json(e, owner, depth + 1));
      return Value::make_list(std::move(l)).owned(owner);
    }
    case nlohmann::ordered_json::value_t::object: {
      Dict d;
      d.reserve(j.size());
      for (const auto& [k, e] : j.items()) d.emplace_back(Value::string(Str(k, owner)), from_json(e, owner, depth + 1));
      return Value::make_dict(std::move(d)).owned(owner);
    }
    default: return Value::none().owned(owner);
  }
}

// Templates write '<|' + role + '|>' and mean a token, so the words that they know are theirs.
bool usual_role(const nlohmann::ordered_json& role) {
  static constexpr std::string_view kRoles[] = {"system",      "user",        "assistant", "tool",
                                                "developer",   "function",    "model",     "ipython",
                                                "environment", "observation", "context"};
  return role.is_string() &&
         std::find(std::begin(kRoles), std::end(kRoles), role.get_ref<const std::string&>()) != std::end(kRoles);
}

Value messages_from(const nlohmann::ordered_json& messages) {
  List l;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!messages[i].is_object()) {
      l.push_back(from_json(messages[i], kData, 1));
      continue;
    }
    Dict d;
    for (const auto& [key, value] : messages[i].items()) {
      const Owner owner = key == "content"                     ? kContent + static_cast<Owner>(i)
                          : key == "role" && usual_role(value) ? kTemplate
                                                               : kData;
      d.emplace_back(Value::string(Str(key, kData)), from_json(value, owner, 2));
      if (owner >= kContent && value.is_array()) d.back().second.seq().label = kParts;
    }
    l.push_back(Value::make_dict(std::move(d)).owned(kData));
  }
  return Value::make_list(std::move(l)).owned(kData);
}

// What a template can make the interpreter throw, as an error.
template <typename F>
auto guarded(const F& f) -> Result<decltype(f())> {
  try {
    return f();
  } catch (const Failure& failure) {
    return Error{failure.code, replace_invalid_utf8(failure.message), {}};
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kLimit, "chat template: it takes more memory than there is", {}};
  } catch (const std::length_error&) {
    return Error{ErrorCode::kLimit, "chat template: it makes too long a text", {}};
  }
}

}  // namespace

Interpreter::~Interpreter() {  // what may hold itself is emptied
  for (const auto& mapping : namespaces_) mapping->items.clear();
  for (const auto& weak : changed_loops_) {
    if (const auto loop = weak.lock()) loop->last_changed.clear();
  }
}

Rendered Interpreter::run(const Template& t, const nlohmann::ordered_json& data, const nlohmann::ordered_json& own) {
  for (const char* name : {"range", "namespace", "raise_exception", "strftime_now", "dict", "cycler", "joiner"})
    root_->vars[name] = Value::global(name);
  for (const auto& [name, value] : own.items()) root_->vars[name] = from_json(value, kTemplate);
  for (const auto& [name, value] : data.items())
    root_->vars[name] = name == "messages" && value.is_array() ? messages_from(value) : from_json(value, kData);
  for (const std::string& name : t.unset) root_->vars.erase(name);
  Text out(meter);
  exec(t.body, *root_, out);
  const Str text = out.take();
  Rendered rendered{text.bytes(), text.runs(), {}};
  for (const Owner list : meter.printed) {
    rendered.printed_parts.resize(std::max<size_t>(rendered.printed_parts.size(), list - kContent + 1));
    rendered.printed_parts[list - kContent] = true;
  }
  return rendered;
}

}  // namespace jinja

Result<ChatTemplate> ChatTemplate::parse(std::string source) {
  if (source.size() > kMaxSourceBytes)
    return make_error(ErrorCode::kLimit, "chat template: it has {} bytes, the most is {}", source.size(),
                      kMaxSourceBytes);
  return jinja::guarded([&] {
    ChatTemplate t;
    t.template_ = std::make_shared<const jinja::Template>(jinja::parse_template(source));
    return t;
  });
}
Result<Rendered> ChatTemplate::render(const nlohmann::ordered_json& data, const nlohmann::ordered_json& own,
                                      Budget budget) const {
  return jinja::guarded([&] { return jinja::Interpreter(budget).run(*template_, data, own); });
}

}  // namespace fovea::tokenizers

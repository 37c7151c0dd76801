#include "fovea/engine/chat.h"

#include <algorithm>

#include "fovea/base/log.h"
#include "fovea/tokenizers/chat_template.h"

namespace fovea::engine {
namespace {

using Json = nlohmann::ordered_json;
using tokenizers::ChatTemplate;
using tokenizers::Rendered;
using tokenizers::Tokenizer;

constexpr size_t kNone = std::string::npos;
constexpr size_t kMaxMessages = 10'000;

struct Span {
  size_t begin = 0, end = 0;
};

std::string_view kind_of(const Json& j) {
  return j.is_null()      ? "null"
         : j.is_boolean() ? "a boolean"
         : j.is_number()  ? "a number"
         : j.is_string()  ? "a string"
         : j.is_array()   ? "a list"
                          : "an object";
}

Error wrong(std::string where, std::string_view wanted, const Json* got) {
  Error e = make_error(ErrorCode::kData, "{} {} {}", where, wanted,
                       got ? fmt::format("and is {}", kind_of(*got)) : "and is missing");
  e.where = std::move(where);
  return e;
}

Status check_content(const Json& content, const std::string& where) {
  if (content.is_string() || content.is_null()) return {};
  if (!content.is_array()) return wrong(where, "must be a string, a list of parts or null", &content);
  for (size_t i = 0; i < content.size(); ++i) {
    const std::string part = fmt::format("{}[{}]", where, i);
    if (!content[i].is_object()) return wrong(part, "must be an object", &content[i]);
    const auto type = content[i].find("type");
    if (type == content[i].end() || !type->is_string())
      return wrong(part + ".type", "must be a string", type == content[i].end() ? nullptr : &*type);
    const auto text = content[i].find("text");
    if (*type == "text" && (text == content[i].end() || !text->is_string()))
      return wrong(part + ".text", "must be a string", text == content[i].end() ? nullptr : &*text);
  }
  return {};
}

bool only_texts(const Json& content) {
  return content.is_array() && !content.empty() &&
         std::all_of(content.begin(), content.end(), [](const Json& part) { return part["type"] == "text"; });
}
// The content as one text, a line for each part.
Json joined(const Json& message) {
  Json out = message;
  std::string text;
  for (const Json& part : message["content"]) {
    if (!text.empty()) text += '\n';
    text += part["text"].get_ref<const std::string&>();
  }
  out["content"] = std::move(text);
  return out;
}
Json without_nulls(const Json& message) {
  Json out = Json::object();
  for (const auto& [key, value] : message.items()) {
    if (!value.is_null()) out[key] = value;
  }
  return out;
}

// A conversation and the template that it goes through.
class Prompt {
 public:
  static Result<Prompt> create(const formats::ModelSource& model, const Tokenizer& tokenizer, const Json& messages,
                               const ChatOptions& options) {
    if (options.source.empty() && !model.has("tokenizer.chat_template"))
      return make_error(ErrorCode::kNotFound, "{}: it has no chat template (tokenizer.chat_template)", model.name());
    FOVEA_RETURN_IF_ERROR(check_messages(messages));
    FOVEA_RETURN_IF_ERROR(check_chat_options(options));
    Prompt p;
    p.name_ = options.source.empty() ? model.name() : "the chat template given";
    std::string source = options.source;
    if (source.empty()) {
      FOVEA_ASSIGN_OR_RETURN(source, model.get_string("tokenizer.chat_template"));
    }
    for (const auto& [name, given] :
         {std::pair("tools", !options.tools.is_null()), std::pair("documents", !options.documents.is_null())}) {
      if (given && source.find(name) == std::string::npos)
        log_warning("{}: its chat template does not look at {}: the model will not see them", p.name_, name);
    }
    auto parsed = ChatTemplate::parse(std::move(source));
    if (!parsed) return p.named(parsed.error());
    p.template_ = std::move(*parsed);
    p.data_ = {{"messages", messages},
               {"tools", options.tools},
               {"documents", options.documents},
               {"add_generation_prompt", options.add_generation_prompt}};
    if (options.variables.is_object()) p.data_.update(options.variables);
    p.own_ = Json::object();
    auto token = [&](const char* variable, int64_t id) {
      if (id >= 0 && id < tokenizer.vocab_size())
        p.own_[variable] = std::string(tokenizer.piece(static_cast<int32_t>(id)));
    };
    token("bos_token", tokenizer.bos());
    token("eos_token", tokenizer.eos());
    token("unk_token", tokenizer.unknown());
    token("pad_token", tokenizer.padding());
    return p;
  }

  const Json& messages() const { return data_["messages"]; }  // as they were rendered last
  Result<Rendered> render() {
    auto first = template_.render(data_, own_);
    if (first) return with_texts(std::move(*first));
    if (first.error().code == ErrorCode::kLimit) return named(first.error());
    for (const auto& change : {&Prompt::join_all, &Prompt::leave_nulls_out}) {
      if (!(this->*change)()) continue;
      if (auto again = template_.render(data_, own_)) return with_texts(std::move(*again));
    }
    return named(first.error());
  }

 private:
  Error named(const Error& e) const {
    const char* said = e.message.starts_with("chat template") ? "" : "its chat template refuses these messages: ";
    return Error{e.code, fmt::format("{}: {}{}", name_, said, e.message), "tokenizer.chat_template"};
  }
  // A template that takes texts prints a list of parts as one: it gets their texts instead.
  Result<Rendered> with_texts(Rendered rendered) {
    Json& all = data_["messages"];
    bool changed = false;
    for (size_t i = 0; i < rendered.printed_parts.size(); ++i) {
      if (!rendered.printed_parts[i]) continue;
      if (!only_texts(all[i]["content"]))
        return make_error(ErrorCode::kData,
                          "messages[{}].content has parts that are no text, and the chat template "
                          "takes texts only",
                          i);
      all[i] = joined(all[i]);
      changed = true;
    }
    if (!changed) return rendered;
    auto again = template_.render(data_, own_);
    if (!again) return named(again.error());
    return again;
  }
  bool join_all() {
    bool changed = false;
    for (Json& message : data_["messages"]) {
      if (!message.contains("content") || !only_texts(message["content"])) continue;
      message = joined(message);
      changed = true;
    }
    return changed;
  }
  bool leave_nulls_out() {
    bool changed = false;
    for (Json& message : data_["messages"]) {
      Json kept = without_nulls(message);
      changed = changed || kept.size() != message.size();
      message = std::move(kept);
    }
    return changed;
  }

  std::string name_;
  ChatTemplate template_;
  Json data_, own_;
};

// What is not the template's: no special tokens there.
std::vector<Span> data_of(const Rendered& rendered) {
  std::vector<Span> out;
  size_t begin = 0;
  for (const tokenizers::Run& run : rendered.runs) {
    if (run.owner != tokenizers::kTemplate) {
      if (!out.empty() && out.back().end == begin)
        out.back().end = run.end;
      else
        out.push_back({begin, run.end});
    }
    begin = run.end;
  }
  return out;
}

// The one text of a message's content; null if there is none, or several.
const std::string* only_text(const Json& message) {
  const auto content = message.find("content");
  if (content == message.end()) return nullptr;
  if (content->is_string()) return content->get_ptr<const std::string*>();
  const std::string* text = nullptr;
  if (!content->is_array()) return nullptr;
  for (const Json& part : *content) {
    if (part["type"] != "text") continue;
    if (text) return nullptr;
    text = part["text"].get_ptr<const std::string*>();
  }
  return text;
}
std::vector<std::pair<size_t, size_t>> contents_of(const Rendered& rendered, const Json& messages) {
  std::vector<std::pair<size_t, size_t>> out(messages.size(), {kNone, kNone});
  size_t begin = 0;
  for (const tokenizers::Run& run : rendered.runs) {
    const size_t at = std::exchange(begin, run.end), i = run.owner - tokenizers::kContent;
    if (run.owner < tokenizers::kContent || out[i].first != kNone) continue;
    const std::string* text = only_text(messages[i]);
    if (text && !text->empty() && run.end - at >= text->size() && rendered.text.compare(at, text->size(), *text) == 0)
      out[i] = {at, at + text->size()};
  }
  return out;
}

// The special tokens that the template itself wrote: found in the text with every stretch of data
// reduced to one NUL, which no special token's spelling crosses.
struct Special {
  Span at;
  int32_t id;
};
std::vector<Special> own_specials(const Tokenizer& tokenizer, const std::string& text, const std::vector<Span>& data) {
  std::string masked;
  std::vector<std::pair<size_t, size_t>> runs;  // where each stretch of template text starts: masked, real
  size_t at = 0;
  for (const Span& s : data) {
    runs.emplace_back(masked.size(), at);
    masked.append(text, at, s.begin - at);
    masked += '\0';
    at = s.end;
  }
  runs.emplace_back(masked.size(), at);
  masked.append(text, at);
  std::vector<Special> out;
  size_t run = 0;
  for (const tokenizers::SpecialAt& found : tokenizer.find_special(masked)) {
    while (run + 1 < runs.size() && runs[run + 1].first <= found.begin) ++run;
    const size_t begin = runs[run].second + found.begin - runs[run].first;
    out.push_back({{begin, begin + found.end - found.begin}, found.id});
  }
  return out;
}

}  // namespace

Status check_messages(const Json& messages) {
  if (!messages.is_array()) return wrong("messages", "must be a list", &messages);
  if (messages.empty()) return make_error(ErrorCode::kData, "messages is empty: it needs at least one message");
  if (messages.size() > kMaxMessages)
    return make_error(ErrorCode::kLimit, "messages has {} messages, the most is {}", messages.size(), kMaxMessages);
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string where = fmt::format("messages[{}]", i);
    const Json& message = messages[i];
    if (!message.is_object()) return wrong(where, "must be an object", &message);
    const auto role = message.find("role");
    if (role == message.end() || !role->is_string())
      return wrong(where + ".role", "must be a string", role == message.end() ? nullptr : &*role);
    if (const auto content = message.find("content"); content != message.end())
      FOVEA_RETURN_IF_ERROR(check_content(*content, where + ".content"));
  }
  return {};
}

Status check_chat_options(const ChatOptions& options) {
  for (const auto& [name, value] : {std::pair{"tools", &options.tools}, std::pair{"documents", &options.documents}}) {
    if (!value->is_null() && !value->is_array()) return wrong(name, "must be a list", value);
  }
  if (!options.variables.is_null() && !options.variables.is_object())
    return wrong("variables", "must be an object", &options.variables);
  for (const char* taken : {"messages", "tools", "documents", "add_generation_prompt"}) {
    if (options.variables.contains(taken))
      return make_error(ErrorCode::kUsage, "a template variable cannot be called {}: that is set otherwise", taken);
  }
  return {};
}

Result<std::string> render_chat(const formats::ModelSource& model, const Tokenizer& tokenizer, const Json& messages,
                                const ChatOptions& options) {
  FOVEA_ASSIGN_OR_RETURN(Prompt prompt, Prompt::create(model, tokenizer, messages, options));
  FOVEA_ASSIGN_OR_RETURN(Rendered rendered, prompt.render());
  return std::move(rendered.text);
}

Result<ChatPrompt> encode_chat(const formats::ModelSource& model, const Tokenizer& tokenizer, const Json& messages,
                               const ChatOptions& options) {
  FOVEA_ASSIGN_OR_RETURN(Prompt prompt, Prompt::create(model, tokenizer, messages, options));
  FOVEA_ASSIGN_OR_RETURN(Rendered rendered, prompt.render());
  ChatPrompt out;
  out.contents = contents_of(rendered, prompt.messages());
  std::vector<Special> specials = own_specials(tokenizer, rendered.text, data_of(rendered));
  out.text = std::move(rendered.text);
  // Between two special tokens template and contents are read as one text, so that tokens form
  // across their seams just as they do when the whole prompt is read at once.
  specials.push_back({{out.text.size(), out.text.size()}, -1});
  size_t at = 0;
  for (const Special& special : specials) {
    if (special.at.begin > at) {
      std::vector<uint32_t> offsets;
      FOVEA_ASSIGN_OR_RETURN(
          const auto ids,
          tokenizer.encode(std::string_view(out.text).substr(at, special.at.begin - at),
                           {.add_special = false, .parse_special = false, .continues = at > 0}, &offsets));
      out.tokens.insert(out.tokens.end(), ids.begin(), ids.end());
      for (const uint32_t offset : offsets) out.offsets.push_back(static_cast<uint32_t>(at) + offset);
    }
    if (special.id >= 0) {
      out.tokens.push_back(special.id);
      out.offsets.push_back(static_cast<uint32_t>(special.at.begin));
    }
    at = special.at.end;
  }
  // A template that writes the first token itself must not get it twice; no end token follows a prompt.
  FOVEA_ASSIGN_OR_RETURN(const auto probe, tokenizer.encode("a", {.add_special = true, .parse_special = false}));
  const bool wants_bos = tokenizer.bos() >= 0 && probe.size() > 1 && probe.front() == tokenizer.bos();
  if (wants_bos && (out.tokens.empty() || out.tokens.front() != tokenizer.bos())) {
    out.tokens.insert(out.tokens.begin(), tokenizer.bos());
    out.offsets.insert(out.offsets.begin(), 0);
  }
  return out;
}

}  // namespace fovea::engine

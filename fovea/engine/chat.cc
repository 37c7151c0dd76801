#include "fovea/engine/chat.h"

#include <algorithm>
#include <array>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>

#include "fovea/tokenizers/chat_template.h"

namespace fovea::engine {
namespace {

using Json = nlohmann::ordered_json;
using tokenizers::ChatTemplate;
using tokenizers::Tokenizer;

constexpr size_t kNone = std::string::npos;
constexpr size_t kMaxMessages = 10'000;
constexpr size_t kMaxAlone = 64;  // messages that are rendered once each when the template looks into texts
constexpr std::string_view kSpace = " \t\n\r\f\v";

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

// A render of one conversation, as often as needed.
class Prompt {
 public:
  static Result<Prompt> create(const formats::Gguf& gguf, const Tokenizer& tokenizer, const Json& messages,
                               bool add_generation_prompt) {
    if (!gguf.has("tokenizer.chat_template"))
      return make_error(ErrorCode::kNotFound, "{}: it has no chat template (tokenizer.chat_template)", gguf.name());
    FOVEA_RETURN_IF_ERROR(check_messages(messages));
    FOVEA_ASSIGN_OR_RETURN(std::string source, gguf.get_string("tokenizer.chat_template"));
    Prompt p;
    p.name_ = gguf.name();
    auto parsed = ChatTemplate::parse(std::move(source));
    if (!parsed) return p.named(parsed.error());
    p.template_ = std::move(*parsed);
    // Null stands for "absent" in what programs send; templates know only the latter.
    Json plain = Json::array();
    for (const Json& message : messages) {
      Json kept = Json::object();
      for (const auto& [key, value] : message.items()) {
        if (!value.is_null()) kept[key] = value;
      }
      plain.push_back(std::move(kept));
    }
    p.context_ = {{"messages", std::move(plain)},
                  {"tools", nullptr},
                  {"documents", nullptr},
                  {"add_generation_prompt", add_generation_prompt}};
    auto token = [&](const char* variable, int64_t id) {
      if (id >= 0 && id < tokenizer.vocab_size())
        p.context_[variable] = std::string(tokenizer.piece(static_cast<int32_t>(id)));
    };
    token("bos_token", tokenizer.bos());
    token("eos_token", tokenizer.eos());
    for (const auto& [variable, key] : {std::pair{"unk_token", "tokenizer.ggml.unknown_token_id"},
                                        std::pair{"pad_token", "tokenizer.ggml.padding_token_id"}}) {
      if (const auto id = gguf.get_i64(key)) token(variable, *id);
    }
    return p;
  }

  const Json& messages() const { return context_["messages"]; }
  Result<std::string> render() const { return render(messages()); }
  Result<std::string> render(Json messages) const {
    Json context = context_;
    context["messages"] = std::move(messages);
    auto text = template_.render(context);
    if (!text) return named(text.error());
    return text;
  }

 private:
  Error named(const Error& e) const {
    const char* said = e.message.starts_with("chat template") ? "" : "its chat template refuses these messages: ";
    return Error{e.code, fmt::format("{}: {}{}", name_, said, e.message), "tokenizer.chat_template"};
  }

  std::string name_;
  ChatTemplate template_;
  Json context_;
};

// The texts that a message's author wrote: its content, or the text parts of it.
template <typename J, typename F>
void for_each_text(J& message, const F& f) {
  using Text = std::conditional_t<std::is_const_v<J>, const std::string, std::string>;
  const auto content = message.find("content");
  if (content == message.end()) return;
  if (content->is_string()) f(content->template get_ref<Text&>());
  if (!content->is_array()) return;
  for (auto& part : *content) {
    const auto text = part.find("text");
    if (text != part.end() && text->is_string()) f(text->template get_ref<Text&>());
  }
}

// Without the white space around it, which templates like to trim.
Span core_of(std::string_view text) {
  const size_t begin = text.find_first_not_of(kSpace);
  return begin == kNone ? Span{0, 0} : Span{begin, text.find_last_not_of(kSpace) + 1};
}

// Finds the authors' texts in a prompt: each is put between two characters that occur nowhere else,
// and these are taken out of the result. White space stays outside of them, so that trimming is seen.
class Marker {
 public:
  explicit Marker(const std::string& everything) {
    size_t found = 0;
    for (unsigned c = 0x90; c < 0xB0 && found < 2; ++c) {  // U+FDD0 to U+FDEF are no characters of any text
      const std::string mark = {'\xEF', '\xB7', static_cast<char>(c)};
      if (everything.find(mark) == kNone) marks_[found++] = mark;
    }
    usable_ = found == 2;
  }
  bool usable() const { return usable_; }
  void mark(std::string& text) const {
    const Span core = core_of(text);
    if (core.begin == core.end) return;  // an empty text must stay so: templates ask
    text.insert(core.end, marks_[1]);
    text.insert(core.begin, marks_[0]);
  }
  struct Found {
    std::string text;         // without marks
    std::vector<Span> spans;  // in it; kNone for an end that the template cut off
  };
  Found unmark(const std::string& marked) const {
    Found out;
    bool open = false;
    for (size_t at = 0; at < marked.size();) {
      const size_t next = marked.find(marks_[0].substr(0, 2), at);
      out.text.append(marked, at, next == kNone ? next : next - at);
      if (next == kNone) break;
      const std::string_view mark(marked.data() + next, std::min<size_t>(3, marked.size() - next));
      at = next + mark.size();
      if (mark == marks_[0]) {
        out.spans.push_back({out.text.size(), kNone});
        open = true;
      } else if (mark == marks_[1]) {
        if (!open) out.spans.push_back({kNone, 0});
        out.spans.back().end = out.text.size();
        open = false;
      } else {
        out.text += mark;
      }
    }
    return out;
  }

 private:
  std::array<std::string, 2> marks_;
  bool usable_ = false;
};

// A special token's spelling at `offset` of `text`.
bool is_special_at(const Tokenizer& tokenizer, int32_t id, std::string_view text, size_t offset) {
  const std::string_view piece = tokenizer.piece(id);
  return !piece.empty() && tokenizer.find(piece) == id && text.substr(offset, piece.size()) == piece;
}

Result<bool> holds_special(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<uint32_t> offsets;
  FOVEA_ASSIGN_OR_RETURN(const auto ids,
                         tokenizer.encode(text, {.add_special = false, .parse_special = true}, &offsets));
  for (size_t i = 0; i < ids.size(); ++i) {
    if (is_special_at(tokenizer, ids[i], text, offsets[i])) return true;
  }
  return false;
}

struct Located {
  std::vector<Span> authored;  // sorted: no special tokens here
  std::vector<std::pair<size_t, size_t>> contents;
};

std::vector<std::string> texts_of(const Json& message) {
  std::vector<std::string> out;
  for_each_text(message, [&](const std::string& text) { out.push_back(text); });
  return out;
}

// The spans of the messages for which `chosen` holds; nothing if the marks change what the template makes.
std::optional<std::vector<Span>> marked_spans(const Prompt& prompt, const Marker& marker, const std::string& rendered,
                                              const std::function<bool(size_t)>& chosen) {
  Json messages = prompt.messages();
  for (size_t i = 0; i < messages.size(); ++i) {
    if (chosen(i)) for_each_text(messages[i], [&](std::string& text) { marker.mark(text); });
  }
  const auto text = prompt.render(std::move(messages));
  if (!text) return std::nullopt;
  Marker::Found found = marker.unmark(*text);
  if (found.text != rendered) return std::nullopt;
  // Where the template cut one end off, the span reaches as far as the prompt and a text agree.
  for (Span& s : found.spans) {
    if (s.begin != kNone && s.end != kNone) continue;
    size_t longest = 0;
    for (size_t i = 0; i < prompt.messages().size(); ++i) {
      for (const std::string& whole : texts_of(prompt.messages()[i])) {
        const Span core = core_of(whole);
        const std::string_view t = std::string_view(whole).substr(core.begin, core.end - core.begin);
        size_t n = 0;
        if (s.begin == kNone)
          while (n < t.size() && n < s.end && t[t.size() - 1 - n] == rendered[s.end - 1 - n]) ++n;
        else
          while (n < t.size() && s.begin + n < rendered.size() && t[n] == rendered[s.begin + n]) ++n;
        longest = std::max(longest, n);
      }
    }
    if (s.begin == kNone)
      s.begin = s.end - longest;
    else
      s.end = s.begin + longest;
  }
  return std::move(found.spans);
}

Result<Located> locate(const Tokenizer& tokenizer, const Prompt& prompt, const std::string& rendered) {
  const Json& messages = prompt.messages();
  std::string everything = rendered;
  for (const Json& message : messages) {
    for (const std::string& text : texts_of(message)) everything += text;
  }
  Located out;
  const Marker marker(everything);
  std::vector<size_t> unknown;
  auto together = marker.usable() ? marked_spans(prompt, marker, rendered, [](size_t) { return true; }) : std::nullopt;
  if (together) {
    out.authored = std::move(*together);
  } else {  // the template looks into some of the texts: find out which
    for (size_t i = 0; i < messages.size(); ++i) {
      auto alone = marker.usable() && i < kMaxAlone
                       ? marked_spans(prompt, marker, rendered, [i](size_t k) { return k == i; })
                       : std::nullopt;
      if (alone)
        out.authored.insert(out.authored.end(), alone->begin(), alone->end());
      else
        unknown.push_back(i);
    }
  }
  for (const size_t i : unknown) {
    for (const std::string& whole : texts_of(messages[i])) {
      const Span core = core_of(whole);
      const std::string text = whole.substr(core.begin, core.end - core.begin);
      if (text.empty()) continue;
      const size_t at = rendered.find(text);
      FOVEA_ASSIGN_OR_RETURN(const bool special, holds_special(tokenizer, text));
      if (at == kNone && special) {
        return make_error(
            ErrorCode::kData,
            "messages[{}].content spells a special token, and the chat template changes that text: what is "
            "text and what is a token cannot be told apart",
            i);
      }
      // A text without a special token needs no protection, and where it lies is certain only if it lies once.
      if (at == kNone || (!special && rendered.find(text, at + 1) != kNone)) continue;
      for (size_t k = at; k != kNone; k = rendered.find(text, k + text.size()))
        out.authored.push_back({k, k + text.size()});
    }
  }
  std::sort(out.authored.begin(), out.authored.end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
  out.contents.assign(messages.size(), {kNone, kNone});
  std::vector<bool> used(out.authored.size());
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::vector<std::string> texts = texts_of(messages[i]);
    if (texts.size() != 1) continue;
    const std::string& text = texts[0];
    const Span core = core_of(text);
    if (core.begin == core.end) continue;
    for (size_t k = 0; k < used.size(); ++k) {
      const Span& s = out.authored[k];
      if (used[k] || s.end - s.begin != core.end - core.begin || s.begin < core.begin) continue;
      if (rendered.compare(s.begin - core.begin, text.size(), text) != 0) continue;
      used[k] = true;
      out.contents[i] = {s.begin - core.begin, s.begin - core.begin + text.size()};
      break;
    }
  }
  return out;
}

// The special tokens that the template itself wrote: found in the text with every authored span
// reduced to one NUL, which no special token's spelling crosses.
struct Special {
  Span at;
  int32_t id;
};
Result<std::vector<Special>> own_specials(const Tokenizer& tokenizer, const std::string& text,
                                          const std::vector<Span>& authored) {
  std::string masked;
  std::vector<std::pair<size_t, size_t>> runs;  // where each stretch of template text starts: masked, real
  size_t at = 0;
  for (const Span& s : authored) {
    if (s.end <= at) continue;  // inside the one before
    const size_t begin = std::max(s.begin, at);
    runs.emplace_back(masked.size(), at);
    masked.append(text, at, begin - at);
    masked += '\0';
    at = s.end;
  }
  runs.emplace_back(masked.size(), at);
  masked.append(text, at);
  std::vector<uint32_t> offsets;
  FOVEA_ASSIGN_OR_RETURN(const auto ids,
                         tokenizer.encode(masked, {.add_special = false, .parse_special = true}, &offsets));
  std::vector<Special> out;
  size_t run = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    while (run + 1 < runs.size() && runs[run + 1].first <= offsets[i]) ++run;
    if (!is_special_at(tokenizer, ids[i], masked, offsets[i])) continue;
    const size_t begin = runs[run].second + offsets[i] - runs[run].first;
    out.push_back({{begin, begin + tokenizer.piece(ids[i]).size()}, ids[i]});
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

Result<std::string> render_chat(const formats::Gguf& gguf, const Tokenizer& tokenizer, const Json& messages,
                                bool add_generation_prompt) {
  FOVEA_ASSIGN_OR_RETURN(const Prompt prompt, Prompt::create(gguf, tokenizer, messages, add_generation_prompt));
  return prompt.render();
}

Result<ChatPrompt> encode_chat(const formats::Gguf& gguf, const Tokenizer& tokenizer, const Json& messages,
                               bool add_generation_prompt) {
  FOVEA_ASSIGN_OR_RETURN(const Prompt prompt, Prompt::create(gguf, tokenizer, messages, add_generation_prompt));
  ChatPrompt out;
  FOVEA_ASSIGN_OR_RETURN(out.text, prompt.render());
  FOVEA_ASSIGN_OR_RETURN(Located located, locate(tokenizer, prompt, out.text));
  out.contents = std::move(located.contents);
  FOVEA_ASSIGN_OR_RETURN(std::vector<Special> specials, own_specials(tokenizer, out.text, located.authored));
  // Between two special tokens template and contents are read as one text, so that tokens form
  // across their seams just as they do when the whole prompt is read at once.
  specials.push_back({{out.text.size(), out.text.size()}, -1});
  size_t at = 0;
  for (const Special& special : specials) {
    if (special.at.begin > at) {
      std::vector<uint32_t> offsets;
      FOVEA_ASSIGN_OR_RETURN(const auto ids,
                             tokenizer.encode(std::string_view(out.text).substr(at, special.at.begin - at),
                                              {.add_special = false, .parse_special = false}, &offsets));
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

// {"jsonl": FILE}: an example a line. {"prompt", "answer"}: only the answer, and the end token behind it, is learned;
// {"messages": [...]}, with "tools" or without: a chat by the model's template, of which what the assistant says is
// learned, and the token behind each of its messages; {"text"}: all of it; {"tokens": [...]}, with "targets" of as many
// ids (-100: none) or without: ids as they are. What is longer than the context is cut at its end.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "fovea/base/bytes.h"
#include "fovea/base/json.h"
#include "fovea/base/text_file.h"
#include "fovea/engine/chat.h"
#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

using Json = nlohmann::ordered_json;

class Jsonl final : public ExampleList {
 public:
  Jsonl(Settings& settings, const Context& context) : context_(context) { read(settings); }

 private:
  void read(Settings& settings) {
    const std::string path = settings.text("jsonl", std::nullopt);
    if (!settings.good()) return;
    const auto text = read_text_file(path);
    if (!text) return settings.refuse(text.error());
    size_t number = 0;
    for (size_t at = 0; at < text->size();) {
      const size_t end = std::min(text->find('\n', at), text->size());
      const std::string_view line = std::string_view(*text).substr(at, end - at);
      at = end + 1;
      ++number;
      if (line.find_first_not_of(" \r\t") == line.npos) continue;
      if (const Status added = add(line, fmt::format("{}, line {}", quote(path, 4096), number)); !added)
        return settings.refuse(added.error());
    }
    if (examples_.empty()) settings.wrong("jsonl", "has no line with something to learn");
    summary_ = fmt::format("{} examples of {}{}", examples_.size(), path,
                           n_cut_ > 0 ? fmt::format(", {} cut to the context", n_cut_) : "");
  }
  Status add(std::string_view line, const std::string& where) {
    FOVEA_ASSIGN_OR_RETURN(const Json json, parse_json(line, where));
    if (!json.is_object()) return make_error(ErrorCode::kData, "{}: it is no object", where);
    for (const auto& [key, value] : json.items()) {
      const bool ids = key == "tokens" || key == "targets", text = key == "prompt" || key == "answer" || key == "text";
      if (text && !value.is_string()) return make_error(ErrorCode::kData, "{}: {} is no text", where, key);
      if (ids && !value.is_array()) return make_error(ErrorCode::kData, "{}: {} is no list of ids", where, key);
    }
    if (json.contains("tokens")) return add_ids(json, where);
    if (!context_.tokenizer)
      return make_error(ErrorCode::kUsage, "{}: texts need a tokenizer, and {}", where, context_.no_tokenizer);
    if (json.contains("messages")) return add_chat(json, where);
    if (json.contains("text")) {
      FOVEA_ASSIGN_OR_RETURN(std::vector<int32_t> ids, encode(json["text"], true));
      end(ids);
      return keep(std::move(ids), 0, where);
    }
    if (!json.contains("prompt") || !json.contains("answer"))
      return make_error(ErrorCode::kData, "{}: it has neither messages, nor prompt and answer, nor text, nor tokens",
                        where);
    FOVEA_ASSIGN_OR_RETURN(std::vector<int32_t> ids, encode(json["prompt"], true));
    // The marks that some models put at an end of a text do not belong between the two.
    if (!ids.empty() && ids.back() == context_.tokenizer->eos() && context_.tokenizer->eos() >= 0) ids.pop_back();
    const size_t n_prompt = ids.size();
    FOVEA_ASSIGN_OR_RETURN(const std::vector<int32_t> answer, encode(json["answer"], false));
    ids.insert(ids.end(), answer.begin(), answer.end());
    end(ids);
    return keep(std::move(ids), n_prompt, where);
  }
  Result<std::vector<int32_t>> encode(const Json& text, bool begins) const {
    return context_.tokenizer->encode(text.get_ref<const std::string&>(),
                                      {.add_special = begins, .continues = !begins});
  }
  void end(std::vector<int32_t>& ids) const {
    const int32_t eos = context_.tokenizer->eos();
    if (eos >= 0 && (ids.empty() || ids.back() != eos)) ids.push_back(eos);
  }
  Status add_chat(const Json& json, const std::string& where) {
    const Json& messages = json["messages"];
    const auto at_line = [&](Error e) {
      e.message = fmt::format("{}: {}", where, e.message);
      return e;
    };
    if (!context_.source) return make_error(ErrorCode::kUsage, "{}: messages need a model with a chat template", where);
    if (const Status good = engine::check_messages(messages); !good) return at_line(good.error());
    engine::ChatOptions options{
        .add_generation_prompt = false, .tools = {}, .documents = {}, .variables = {}, .source = {}};
    if (const auto tools = json.find("tools"); tools != json.end()) options.tools = *tools;
    if (const Status good = engine::check_chat_options(options); !good) return at_line(good.error());
    const auto chat = engine::encode_chat(*context_.source, *context_.tokenizer, messages, options);
    if (!chat) return at_line(chat.error());
    std::vector<bool> learnt(chat->tokens.size());
    for (size_t i = 0; i < messages.size(); ++i) {
      if (messages[i]["role"] != "assistant") continue;
      const auto [begin, end] = chat->contents[i];
      if (begin == std::string::npos)
        return make_error(ErrorCode::kData,
                          "{}: the model's chat template does not write messages[{}].content as it is", where, i);
      for (size_t token = 0, behind = 0; token < learnt.size() && behind < 1; ++token) {
        if (chat->offsets[token] < begin) continue;
        learnt[token] = true;
        behind += chat->offsets[token] >= end;
      }
    }
    Sample sample = Sample::next_token(chat->tokens);
    for (size_t i = 0; i < sample.targets.size(); ++i) {
      if (!learnt[i + 1]) sample.targets[i] = kNoTarget;
    }
    if (sample.n_targets() == 0) return make_error(ErrorCode::kData, "{}: the assistant says nothing in it", where);
    cut(std::move(sample));
    return {};
  }
  // The first `n_prompt` tokens are only read.
  Status keep(std::vector<int32_t> ids, size_t n_prompt, const std::string& where) {
    if (ids.size() < 2) return make_error(ErrorCode::kData, "{}: two tokens or more are needed", where);
    Sample sample = Sample::next_token(std::move(ids));
    for (size_t i = 0; i + 1 < n_prompt && i < sample.targets.size(); ++i) sample.targets[i] = kNoTarget;
    cut(std::move(sample));
    return {};
  }
  void cut(Sample sample) {
    const auto most = static_cast<size_t>(context_.context);
    if (sample.tokens.size() > most) sample.tokens.resize(most), sample.targets.resize(most), ++n_cut_;
    if (sample.n_targets() > 0) examples_.push_back(std::move(sample));
  }
  Status add_ids(const Json& json, const std::string& where) {
    const auto list = [&](const char* key, int64_t least) -> Result<std::vector<int32_t>> {
      std::vector<int32_t> out;
      for (const Json& one : json[key]) {
        const bool good = one.is_number_integer() && (one.get<int64_t>() >= 0 || one.get<int64_t>() == least) &&
                          one.get<int64_t>() < context_.vocab_size;
        if (!good)
          return make_error(ErrorCode::kData, "{}: {}[{}] is {}; ids are 0 to {}", where, key, out.size(), one.dump(),
                            context_.vocab_size - 1);
        out.push_back(one.get<int32_t>());
      }
      return out;
    };
    FOVEA_ASSIGN_OR_RETURN(std::vector<int32_t> tokens, list("tokens", 0));
    if (!json.contains("targets")) return keep(std::move(tokens), 0, where);
    FOVEA_ASSIGN_OR_RETURN(std::vector<int32_t> targets, list("targets", kNoTarget));
    if (tokens.size() != targets.size() || tokens.empty())
      return make_error(ErrorCode::kData, "{}: {} tokens and {} targets; as many, and one or more, are needed", where,
                        tokens.size(), targets.size());
    cut({std::move(tokens), std::move(targets)});
    return {};
  }

  const Context& context_;
  size_t n_cut_ = 0;
};
FOVEA_TRAIN_PART(Data, "jsonl", Jsonl);

}  // namespace
}  // namespace fovea::train

// fovea detokenize -m MODEL (-f FILE or ID...)
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "fovea/base/bytes.h"
#include "fovea/base/json.h"
#include "fovea/base/numbers.h"
#include "fovea/base/text_file.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/store/model_store.h"
#include "fovea/tokenizers/utf8.h"

namespace fovea::cli {
namespace detokenize_command {

constexpr uint64_t kMaxFileBytes = uint64_t{1} << 30;

struct Options {
  std::vector<std::string> ids;
  std::string file;
  bool no_special = false;
};

Error bad_id(size_t index, std::string_view text) {
  return make_error(ErrorCode::kUsage, "token {} of the list is {}, which is no token id", index, quote(text));
}

// Ids are kept within int32: what is larger is no token of any model.
Status add_id(std::string_view word, std::vector<int32_t>& ids) {
  int32_t id = 0;
  if (!parse_number(word, id)) return bad_id(ids.size(), word);
  ids.push_back(id);
  return {};
}

// [1, 2], [{"id": 1}, ...], {"tokens": either}, or numbers with white space or commas between.
Result<std::vector<int32_t>> parse_ids(std::string_view text, const std::string& name) {
  std::vector<int32_t> ids;
  constexpr std::string_view kBetween = " \t\r\n,";
  const size_t first = text.find_first_not_of(kBetween);
  if (first != text.npos && (text[first] == '[' || text[first] == '{')) {
    FOVEA_ASSIGN_OR_RETURN(nlohmann::ordered_json document, parse_json(text, name));
    if (document.is_object()) {
      const auto tokens = document.find("tokens");
      document = tokens == document.end() ? nlohmann::ordered_json() : nlohmann::ordered_json(*tokens);
    }
    if (!document.is_array())
      return make_error(ErrorCode::kData, "{}: no list of token ids, nor an object with \"tokens\"", name);
    for (const nlohmann::ordered_json& element : document) {
      const bool object = element.is_object() && element.contains("id");
      FOVEA_RETURN_IF_ERROR(add_id(
          (object ? element["id"] : element).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), ids));
    }
    return ids;
  }
  for (size_t at = first; at != text.npos;) {
    const size_t end = std::min(text.find_first_of(kBetween, at), text.size());
    FOVEA_RETURN_IF_ERROR(add_id(text.substr(at, end - at), ids));
    at = text.find_first_not_of(kBetween, end);
  }
  return ids;
}

Status detokenize(const Options& options, const Common& common) {
  if (options.ids.empty() == options.file.empty())
    return make_error(ErrorCode::kUsage, "give either token ids or --file");
  FOVEA_ASSIGN_OR_RETURN(const std::string path, store::resolve_model(common.model));
  FOVEA_ASSIGN_OR_RETURN(const auto source, formats::open_model(path));
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, engine::load_tokenizer(*source));
  std::vector<int32_t> ids;
  if (options.file.empty()) {
    FOVEA_ASSIGN_OR_RETURN(ids, parse_ids(fmt::format("{}", fmt::join(options.ids, " ")), "the arguments"));
  } else {
    FOVEA_ASSIGN_OR_RETURN(const std::string content, read_text_file(options.file, {.max_bytes = kMaxFileBytes}));
    FOVEA_ASSIGN_OR_RETURN(ids, parse_ids(content, options.file == "-" ? "standard input" : quote(options.file, 4096)));
  }
  FOVEA_ASSIGN_OR_RETURN(const std::string text, tokenizer->decode(ids, !options.no_special));
  if (!common.json) return print(stdout_is_terminal() ? printable(text) + "\n" : text);
  nlohmann::json out = {{"text", tokenizers::replace_invalid_utf8(text)}};
  if (!tokenizers::is_utf8(text)) out["bytes"] = std::vector<uint8_t>(text.begin(), text.end());
  return print_json(out);
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  sub.add_option("ID", options->ids, "token ids");
  sub.add_option("-m,--model", common.model, "a name from `fovea list --all`, a .gguf file or a Hugging Face folder")
      .required();
  sub.add_option(
      "-f,--file", options->file,
      "read the ids from a file, as numbers or JSON (also what `fovea tokenize --json` prints); - is standard input");
  sub.add_flag("--no-special", options->no_special, "control tokens give no text");
  return [options, &common] { return detokenize(*options, common); };
}

FOVEA_COMMAND("detokenize", "the text of token ids, byte for byte", "fovea detokenize -m smollm2-135m 19556 28 905",
              setup)

}  // namespace detokenize_command
}  // namespace fovea::cli

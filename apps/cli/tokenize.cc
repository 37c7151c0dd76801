// fovea tokenize -m MODEL (-f FILE or TEXT)
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "apps/cli/answer.h"
#include "apps/cli/command.h"
#include "fovea/base/bytes.h"
#include "fovea/base/text_file.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/store/model_store.h"

namespace fovea::cli {
namespace tokenize_command {

struct Options {
  std::string text, file;
  bool no_special = false, parse_special = false;
};

Status tokenize(const Options& options, bool has_text, const Common& common) {
  if (has_text != options.file.empty()) return make_error(ErrorCode::kUsage, "give either TEXT or --file");
  FOVEA_ASSIGN_OR_RETURN(const std::string path, store::resolve_model(common.model));
  FOVEA_ASSIGN_OR_RETURN(const auto source, formats::open_model(path));
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, engine::load_tokenizer(*source));
  std::string text = options.text;
  if (!options.file.empty()) {
    FOVEA_ASSIGN_OR_RETURN(
        text, read_text_file(options.file, {.max_bytes = tokenizers::Tokenizer::kMaxTextBytes, .keep_bytes = true}));
  }
  FOVEA_ASSIGN_OR_RETURN(const auto ids, tokenizer->encode(text, {.add_special = !options.no_special,
                                                                  .parse_special = options.parse_special}));
  if (!common.json) {
    std::string out;
    for (const int32_t id : ids) out += fmt::format("{:>7}  {}\n", id, quote(tokenizer->piece(id), SIZE_MAX));
    return print(out);
  }
  return print_json({{"tokens", tokens_json(ids, *tokenizer)}});
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  const Option text = sub.add_option("TEXT", options->text, "the text");
  sub.add_option("-m,--model", common.model, "a name from `fovea list --all`, a .gguf file or a Hugging Face folder")
      .required();
  sub.add_option("-f,--file", options->file, "read the text from a file; - is standard input");
  sub.add_flag("--no-special", options->no_special,
               "add no token at the beginning or the end, even where the model wants one");
  sub.add_flag("--parse-special", options->parse_special,
               "control tokens that the text spells, such as <|im_end|>, become tokens");
  return [options, text, &common] { return tokenize(*options, text.count() > 0, common); };
}

FOVEA_COMMAND("tokenize", "the token ids of a text, and the piece of text that each stands for",
              "fovea tokenize -m smollm2-135m \"Hello, world\"", setup)

}  // namespace tokenize_command
}  // namespace fovea::cli

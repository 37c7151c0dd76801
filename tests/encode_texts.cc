// encode_texts FOLDER|FILE < TEXTS: for tools/compare_tokenizers.py. TEXTS is a JSON list of strings; gives a line for
// each:
// {"ids": [...], "offsets": [...], "text": what they decode to, "stream": what they decode to one by one}, or {"error":
// ...} once. FOLDER holds files of a tokenizer; FILE is a GGUF.
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "fovea/engine/vocabulary.h"
#include "fovea/tokenizers/testing/folder.h"
#include "fovea/tokenizers/tokenizer.h"
#include "fovea/tokenizers/utf8.h"

int main(int argc, char** argv) {
  using namespace fovea;
  using Json = nlohmann::json;
  if (argc < 2) return 2;
  const std::string path = argv[1];
  const auto answer = [](const Json& json) {
    std::cout << json.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
  };
  const auto make = [&]() -> Result<std::shared_ptr<const tokenizers::Tokenizer>> {
    if (!std::filesystem::is_directory(path)) {
      FOVEA_ASSIGN_OR_RETURN(const auto source, formats::open_model(path));
      return engine::load_tokenizer(*source);
    }
    return tokenizers::tokenizer_of_folder(path);
  };
  const auto tokenizer = make();
  if (!tokenizer) {
    answer({{"error", tokenizer.error().message}});
    return 1;
  }
  const Json texts = Json::parse(std::cin);
  const bool special = argc > 2;  // control tokens in the texts are tokens
  for (const Json& text : texts) {
    std::vector<uint32_t> offsets;
    const auto ids =
        (*tokenizer)->encode(text.get<std::string>(), {.add_special = true, .parse_special = special}, &offsets);
    if (!ids) {
      answer({{"error", ids.error().message}});
      continue;
    }
    tokenizers::StreamDecoder stream(**tokenizer);
    std::string streamed;
    for (const int32_t id : *ids) streamed += stream.push(id);
    streamed += stream.finish();
    answer({{"ids", *ids},
            {"offsets", offsets},
            {"text", tokenizers::replace_invalid_utf8(*(*tokenizer)->decode(*ids))},
            {"stream", streamed}});
  }
}

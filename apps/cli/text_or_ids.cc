#include "apps/cli/text_or_ids.h"

#include <nlohmann/json.hpp>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/json.h"
#include "fovea/base/npy.h"

namespace fovea::cli {
namespace {

constexpr uint64_t kMaxBytes = uint64_t{256} << 20;

Result<std::vector<int64_t>> read_ids(const std::string& path) {
  FOVEA_ASSIGN_OR_RETURN(const std::string bytes, read_file(path, kMaxBytes));
  const std::string name = path == "-" ? "standard input" : quote(path, 4096);
  if (is_npy(bytes)) return parse_npy_integers(bytes, name);
  FOVEA_ASSIGN_OR_RETURN(const auto list, parse_json(bytes, name));
  if (!list.is_array()) return make_error(ErrorCode::kData, "{}: it is no list of ids", name);
  if (list.empty()) return make_error(ErrorCode::kData, "{}: the list of ids is empty", name);
  std::vector<int64_t> ids;
  for (const auto& id : list) {
    if (!id.is_number_integer() || (id.is_number_unsigned() && id.get<uint64_t>() > INT64_MAX))
      return make_error(ErrorCode::kData, "{}: id {} is no whole number", name, ids.size());
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

}  // namespace

void add_text_or_ids_flags(CommandLine& sub, TextOrIdsFlags& flags, const std::string& what, bool with_prompt_flag) {
  add_text_flags(sub, flags.text, what, with_prompt_flag);
  flags.ids =
      sub.add_option("--ids", flags.ids_file,
                     "ids instead of a text, nothing added: a JSON list or a NumPy file of one dimension; - is stdin");
  flags.text.options.insert(flags.text.options.end() - 1, flags.ids);  // the last is -f
}

Result<TextOrIds> read_text_or_ids(const TextOrIdsFlags& flags) {
  TextOrIds out;
  FOVEA_ASSIGN_OR_RETURN(const Option given, the_one_given(flags.text));
  if (given == flags.ids) {
    FOVEA_ASSIGN_OR_RETURN(out.ids, read_ids(flags.ids_file));
  } else {
    FOVEA_ASSIGN_OR_RETURN(out.text, read_text(flags.text));
  }
  return out;
}

Result<std::vector<int32_t>> TextOrIds::checked_ids(int64_t vocab_size) const {
  std::vector<int32_t> out;
  for (const int64_t id : *ids) {
    if (id < 0 || id >= vocab_size)
      return make_error(ErrorCode::kUsage, "--ids: id {} is {}; the vocabulary has {} tokens", out.size(), id,
                        vocab_size);
    out.push_back(static_cast<int32_t>(id));
  }
  return out;
}

Result<std::vector<int32_t>> TextOrIds::tokens(const engine::Model& model,
                                               const tokenizers::EncodeOptions& encode) const {
  if (ids) return checked_ids(model.shape().vocab_size);
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, model.tokenizer());
  return tokenizer->encode(text, encode);
}

}  // namespace fovea::cli

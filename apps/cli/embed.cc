// fovea embed -m MODEL (-f FILE, TEXT or --ids FILE) [--pooling mean|cls|last] [--no-normalize] [-o OUT.npy]
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string_view>

#include "apps/cli/answer.h"
#include "apps/cli/model_session.h"
#include "fovea/base/bytes.h"
#include "fovea/base/file_writer.h"
#include "fovea/base/json.h"
#include "fovea/base/npy.h"
#include "fovea/engine/embedder.h"

namespace fovea::cli {
namespace embed_command {

constexpr size_t kTextsAtOnce = 1'024;  // read, made into vectors and written before the next
constexpr uint64_t kMaxIdsBytes = uint64_t{256} << 20;

struct Options {
  ModelFlags model;
  TextFlags text;
  std::string ids_file, pooling, out;
  Option ids;
  bool no_normalize = false;
};

// What is to be made into vectors: lines, or lists of ids.
struct Texts {
  std::unique_ptr<const std::string> bytes;  // where it is, so that the lines stay when this is moved
  std::vector<std::string_view> lines;
  std::vector<std::vector<int32_t>> ids;
  size_t size() const { return ids.empty() ? lines.size() : ids.size(); }
};

// A line each; the last needs no end.
std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

Result<std::vector<int32_t>> ids_of(const nlohmann::ordered_json& list, const std::string& name) {
  std::vector<int32_t> ids;
  for (const auto& id : list) {
    if (!id.is_number_integer() || id < 0 || id > INT32_MAX)
      return make_error(ErrorCode::kData, "{}: {} is no id of a token", name, quote(id.dump(), 40));
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

// A list of ids, or a list of such lists.
Result<std::vector<std::vector<int32_t>>> read_ids(const std::string& path) {
  FOVEA_ASSIGN_OR_RETURN(const auto json, read_json(path, kMaxIdsBytes));
  const std::string name = path == "-" ? "standard input" : quote(path, 4096);
  if (!json.is_array() || json.empty()) return make_error(ErrorCode::kData, "{}: it is no list of ids", name);
  std::vector<std::vector<int32_t>> out;
  if (!json[0].is_array()) {
    FOVEA_ASSIGN_OR_RETURN(auto ids, ids_of(json, name));
    out.push_back(std::move(ids));
    return out;
  }
  for (const auto& list : json) {
    if (!list.is_array()) return make_error(ErrorCode::kData, "{}: text {} is no list of ids", name, out.size() + 1);
    FOVEA_ASSIGN_OR_RETURN(auto ids, ids_of(list, name));
    out.push_back(std::move(ids));
  }
  return out;
}

Result<Texts> read_texts(const Options& options) {
  Texts out;
  FOVEA_ASSIGN_OR_RETURN(const Option given, the_one_given(options.text));
  if (given == options.ids) {
    FOVEA_ASSIGN_OR_RETURN(out.ids, read_ids(options.ids_file));
    return out;
  }
  FOVEA_ASSIGN_OR_RETURN(std::string bytes, read_text(options.text));
  out.bytes = std::make_unique<const std::string>(std::move(bytes));
  if (options.text.file.empty()) {
    out.lines = {*out.bytes};
  } else {
    out.lines = lines_of(*out.bytes);
  }
  if (out.lines.empty()) return make_error(ErrorCode::kUsage, "{}: it has no line", quote(options.text.file, 4096));
  return out;
}

// The ids of texts [begin, end), cut to what the model reads.
Result<std::vector<std::vector<int32_t>>> tokens_of(const Texts& texts, size_t begin, size_t end,
                                                    const engine::Embedder& embedder, const engine::Model& model,
                                                    size_t& n_cut) {
  std::vector<std::vector<int32_t>> out;
  for (size_t i = begin; i < end; ++i) {
    if (!texts.ids.empty()) {
      out.push_back(texts.ids[i]);
      const auto most = static_cast<size_t>(embedder.max_tokens());
      if (out.back().size() > most) out.back().resize(most), ++n_cut;
    } else {
      FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, model.tokenizer());
      FOVEA_ASSIGN_OR_RETURN(auto tokens, embedder.tokens(*tokenizer, texts.lines[i]));
      n_cut += tokens.cut;
      out.push_back(std::move(tokens.ids));
    }
    if (out.back().empty())
      return make_error(ErrorCode::kData, "text {} is empty, and this model adds no token to it", i + 1);
  }
  return out;
}

Status embed(const Options& options, const Common& common) {
  const Interrupt interrupt;
  FOVEA_ASSIGN_OR_RETURN(const Texts texts, read_texts(options));
  std::optional<FileWriter> file;
  if (!options.out.empty()) {
    FOVEA_ASSIGN_OR_RETURN(FileWriter opened, open_output(options.out, common, OutputIs::kBytes));
    file.emplace(std::move(opened));
  }
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const auto session, open_session(model, common, options.model));
  FOVEA_ASSIGN_OR_RETURN(
      engine::Embedder embedder,
      engine::Embedder::create(*session, {engine::pooling_of(options.pooling), !options.no_normalize}));
  const auto n = texts.size(), dim = static_cast<size_t>(embedder.dim());
  if (file) {
    const std::string header = npy_header(static_cast<int64_t>(n), embedder.dim());
    FOVEA_RETURN_IF_ERROR(file->check_space(header.size() + n * dim * sizeof(float)));
    FOVEA_RETURN_IF_ERROR(file->write(header));
  }
  nlohmann::json rows = nlohmann::json::array();
  size_t n_cut = 0;
  Progress bar("embedding", n, "texts", 1.0, common.quiet);
  for (size_t begin = 0; begin < n; begin += kTextsAtOnce) {
    const size_t end = std::min(n, begin + kTextsAtOnce);
    FOVEA_ASSIGN_OR_RETURN(const auto ids, tokens_of(texts, begin, end, embedder, *model, n_cut));
    FOVEA_ASSIGN_OR_RETURN(const auto vectors,
                           embedder.embed(ids, &Interrupt::flag(), [&](size_t done) { bar.update(begin + done); }));
    if (file) FOVEA_RETURN_IF_ERROR(file->write(std::as_bytes(std::span(vectors))));
    for (size_t i = 0; !file && i < end - begin; ++i)
      rows.push_back(std::vector<float>(vectors.begin() + static_cast<std::ptrdiff_t>(i * dim),
                                        vectors.begin() + static_cast<std::ptrdiff_t>((i + 1) * dim)));
  }
  bar.clear();
  if (Interrupt::requested()) return make_error(ErrorCode::kCancelled, "interrupted");
  if (n_cut > 0 && !common.quiet)
    tell("{} of {} texts had more than the {} tokens that the model reads; their ends were left out", n_cut, n,
         embedder.max_tokens());
  if (file) {
    FOVEA_RETURN_IF_ERROR(file->commit());
    if (file->to_stdout()) return {};
    if (!common.json) return print(printable(options.out) + "\n");
  } else if (!common.json) {
    for (const auto& row : rows) FOVEA_RETURN_IF_ERROR(print(row.dump() + "\n"));
    return {};
  }
  nlohmann::json out = setting_json(*session);
  out.update({{"dim", dim},
              {"n", n},
              {"pooling", engine::name_of(embedder.pooling())},
              {"normalized", embedder.normalizes()},
              {"n_cut", n_cut},
              {"max_tokens", embedder.max_tokens()}});
  if (file) {
    out["path"] = options.out;
  } else {
    out["embeddings"] = std::move(rows);
  }
  return print_json(out);
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  options->model.decodes = false;
  options->model.repack_late = false;
  add_text_flags(sub, options->text, "TEXT", /*with_prompt_flag=*/false);
  sub.find("--file").describe("a file with a text a line; - is stdin");
  options->ids = sub.add_option("--ids", options->ids_file,
                                "ids instead of texts, nothing added: a JSON list, or a list of lists; - is stdin");
  options->text.options.insert(options->text.options.end() - 1, options->ids);  // the last is -f
  sub.add_option("--pooling", options->pooling,
                 "of the rows of a text: their mean, the first (cls) or the last; default: as the model's files say, "
                 "else the mean of encoders and the last of decoders")
      .one_of({"mean", "cls", "last"});
  sub.add_flag("--no-normalize", options->no_normalize, "vectors as they come, not of length 1");
  sub.add_option("-o,--output", options->out,
                 "the NumPy file to write: float32 [n, dim], a row a line of the file; - is stdout");
  add_model_flags(sub, common, options->model);
  return [options, &common] { return embed(*options, common); };
}

FOVEA_COMMAND("embed", "vectors of texts, one for each line of a file",
              "fovea embed -m minilm-l6 \"A cat sat on the mat\" --json", setup)

}  // namespace embed_command
}  // namespace fovea::cli

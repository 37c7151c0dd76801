#include "fovea/store/model_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>

#include "fovea/base/bytes.h"
#include "fovea/base/environment.h"
#include "fovea/base/file.h"
#include "fovea/base/log.h"
#include "fovea/base/nearest.h"
#include "fovea/formats/hf_folder.h"
#include "fovea/store/elsewhere.h"

namespace fovea::store {
namespace {

namespace fs = std::filesystem;

// "x-00002-of-00005" is shard 2 of x; 0 if the stem names no shard.
struct Shard {
  std::string model;
  int number = 0, count = 0;
};
Shard shard_of(const std::string& stem) {
  constexpr size_t kTail = 15;  // "-00002-of-00005"
  if (stem.size() <= kTail) return {stem};
  const std::string tail = stem.substr(stem.size() - kTail);
  const auto digits = [&](size_t at) { return tail.find_first_not_of("0123456789", at) >= at + 5; };
  if (tail[0] != '-' || tail.compare(6, 4, "-of-") != 0 || !digits(1) || !digits(10)) return {stem};
  return {stem.substr(0, stem.size() - kTail), std::stoi(tail.substr(1, 5)), std::stoi(tail.substr(10, 5))};
}

// llama.cpp's file types by number, where a file says so; otherwise what most of its bytes are.
std::string quantization_of(const formats::ModelSource& source) {
  static const std::map<uint64_t, const char*> names = {
      {0, "F32"},     {1, "F16"},     {2, "Q4_0"},    {3, "Q4_1"},    {7, "Q8_0"},    {8, "Q5_0"},    {9, "Q5_1"},
      {10, "Q2_K"},   {11, "Q3_K_S"}, {12, "Q3_K_M"}, {13, "Q3_K_L"}, {14, "Q4_K_S"}, {15, "Q4_K_M"}, {16, "Q5_K_S"},
      {17, "Q5_K_M"}, {18, "Q6_K"},   {25, "IQ4_NL"}, {30, "IQ4_XS"}, {32, "BF16"},   {38, "MXFP4"}};
  if (const auto type = source.get_u64("general.file_type")) {
    if (const auto it = names.find(type.value()); it != names.end()) return it->second;
  }
  std::map<std::string, uint64_t> bytes;
  for (const auto& tensor : source.tensors())
    bytes[std::string(kernels::dtype_info(tensor.dtype).name)] += tensor.bytes;
  const auto most =
      std::max_element(bytes.begin(), bytes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == bytes.end() ? "" : most->first;
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// Name to path of every model in the store (of a sharded GGUF: its first shard). A folder that is not there
// holds none; one that cannot be looked into is no empty one.
Result<std::map<std::string, std::string>> files_in(const std::string& dir) {
  std::map<std::string, std::string> out;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    const fs::path& path = it->path();
    if (path.filename().string()[0] != '.' && is_file(path / "config.json"))
      out.emplace(path.filename().string(), path.string());
    if (path.extension() != ".gguf" || path.filename().string()[0] == '.' || !is_file(path)) continue;
    const Shard shard = shard_of(path.stem().string());
    if (shard.number <= 1) out.emplace(shard.model, path.string());
  }
  if (!error && faccessat(AT_FDCWD, dir.c_str(), X_OK, AT_EACCESS) != 0) error.assign(errno, std::generic_category());
  if (error && error != std::errc::no_such_file_or_directory) return file_error(dir, "read", error.value());
  return out;
}

// kNotFound with the model in that folder whose name is nearest.
Result<std::string> path_that_is_there(const std::string& path) {
  std::error_code error;
  const fs::path folder = fs::path(path).parent_path();
  if (fs::exists(path, error) || error) return path;  // what is wrong with it, its reader says
  std::vector<std::string> names;
  for (fs::directory_iterator it(folder.empty() ? "." : folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".gguf" || is_file(it->path() / "config.json"))
      names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  const std::string wanted = fs::path(path).filename().string();
  const auto meant = meant_name(wanted, names);
  if (!meant) return path;
  return make_error(ErrorCode::kNotFound, "{}: there is no such file; did you mean {}?", quote(path, 4096),
                    quote((folder / *meant).string(), 4096));
}

}  // namespace

std::string model_name(const std::string& path) {
  const auto folder = formats::HfFolder::folder_of(path);
  if (!folder) {
    const fs::path file = fs::path(path).filename();
    return shard_of(file.extension() == ".gguf" ? file.stem().string() : file.string()).model;
  }
  std::error_code ignored;
  const fs::path real = fs::weakly_canonical(*folder, ignored);
  return (real.has_filename() ? real : real.parent_path()).filename().string();
}

Result<std::string> models_dir() {
  if (const std::string dir = environment("FOVEA_MODELS"); !dir.empty()) return dir;
  if (const std::string dir = environment("XDG_DATA_HOME"); dir.starts_with("/")) return dir + "/fovea/models";
  if (const std::string home = environment("HOME"); !home.empty()) return home + "/.local/share/fovea/models";
  return make_error(ErrorCode::kUsage,
                    "where the models are is not known: neither FOVEA_MODELS nor HOME is set in the environment");
}

StoredModel describe_model(const std::string& path, const formats::ModelSource& source) {
  StoredModel model;
  model.name = model_name(path);
  model.path = path;
  for (const auto& file : source.files()) model.bytes += file->bytes().size();
  model.architecture =
      source.get_string("general.architecture").has_value() ? source.get_string("general.architecture").value() : "";
  model.quantization = quantization_of(source);
  for (const auto& tensor : source.tensors()) {
    uint64_t n = 1;
    for (const int64_t dim : tensor.dims) n *= static_cast<uint64_t>(dim);
    model.n_params += n;
  }
  if (const auto n = source.get_u64(model.architecture + ".context_length")) model.n_ctx = n.value();
  return model;
}

Result<std::vector<StoredModel>> list_models(bool elsewhere) {
  FOVEA_ASSIGN_OR_RETURN(const std::string dir, models_dir());
  std::vector<StoredModel> out;
  const auto add = [&out](const std::string& name, const std::string& path) {
    const auto source = formats::open_model(path);
    if (!source) return log_warning("{}", source.error().message);
    out.push_back(describe_model(path, *source.value()));
    out.back().name = name;
  };
  FOVEA_ASSIGN_OR_RETURN(const auto files, files_in(dir));
  for (const auto& [name, path] : files) add(name, path);
  if (!elsewhere) return out;
  std::vector<std::string> problems;
  for (const ModelElsewhere& model : models_elsewhere(&problems)) add(model.name, model.path);
  for (const std::string& problem : problems) log_warning("{}", problem);
  return out;
}

Result<std::string> resolve_model(const std::string& name) {
  if (name.empty()) return make_error(ErrorCode::kUsage, "the model's name is empty");
  if (name.find('\0') != std::string::npos)
    return make_error(ErrorCode::kUsage, "the model's name {} holds a NUL byte", quote(name));
  if (is_elsewhere(name)) return find_elsewhere(name);
  if (name.find('/') != std::string::npos || name.ends_with(".gguf")) return path_that_is_there(name);
  const Result<std::string> dir = models_dir();
  std::map<std::string, std::string> files;
  Status looked = dir ? Status() : Status(dir.error());
  if (dir) {
    auto found = files_in(*dir);
    if (found) files = std::move(*found);
    if (!found) looked = std::move(found.error());
  }
  if (const auto it = files.find(name); it != files.end()) return it->second;
  std::error_code ignored;
  if (fs::exists(name, ignored)) return name;
  FOVEA_RETURN_IF_ERROR(std::move(looked));

  std::vector<std::string> names;
  names.reserve(files.size());
  for (const auto& [known, path] : files) names.push_back(known);
  std::string message = fmt::format("no model {} in {}", quote(name), quote(dir.value(), 4096));
  if (!names.empty()) message += fmt::format("; nearest there: {}", fmt::join(nearest_names(name, names, 2), ", "));
  if (const auto known = find_in_catalogue(name); known && !can_run(**known)) {
    message += fmt::format("; {}", why_not(**known));
  }
  if (const auto nearest = nearest_names(name, runnable_names(), 1); !nearest.empty())
    message += fmt::format("; to fetch one: fovea pull {}", nearest[0]);
  return Error{ErrorCode::kNotFound, message, {}};
}

}  // namespace fovea::store

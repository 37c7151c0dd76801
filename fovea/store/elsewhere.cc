#include "fovea/store/elsewhere.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "fovea/base/bytes.h"
#include "fovea/base/environment.h"
#include "fovea/base/file.h"
#include "fovea/base/json.h"
#include "fovea/base/nearest.h"

namespace fovea::store {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kHf = "hf:", kOllama = "ollama:", kLmStudio = "lmstudio:";
constexpr uint64_t kMaxManifestBytes = 1 << 20;
constexpr size_t kMaxEntries = 100'000;  // that are looked at in one folder

// The first of these folders that is there; names of variables, then what is below them.
struct Place {
  const char* variable;
  const char* below;
};
std::vector<fs::path> folders(std::initializer_list<Place> places) {
  std::vector<fs::path> out;
  std::error_code ignored;
  for (const Place& place : places) {
    const std::string value = environment(place.variable);
    if (value.empty()) continue;
    fs::path path = fs::path(value) / place.below;
    if (fs::is_directory(path, ignored)) out.push_back(std::move(path));
  }
  return out;
}
// A variable that is set decides, whether or not its folder is there.
std::optional<fs::path> hub() {
  for (const auto& [variable, below] :
       {Place{"HF_HUB_CACHE", ""}, {"HF_HOME", "hub"}, {"XDG_CACHE_HOME", "huggingface/hub"}}) {
    if (const std::string value = environment(variable); !value.empty()) return fs::path(value) / below;
  }
  const std::string home = environment("HOME");
  return home.empty() ? std::nullopt : std::optional(fs::path(home) / ".cache/huggingface/hub");
}
std::optional<fs::path> ollama() {
  if (const std::string value = environment("OLLAMA_MODELS"); !value.empty()) return fs::path(value);
  const std::string home = environment("HOME");
  return home.empty() ? std::nullopt : std::optional(fs::path(home) / ".ollama/models");
}
std::vector<fs::path> lm_studio() {
  return folders(
      {{"HOME", ".lmstudio/models"}, {"XDG_CACHE_HOME", "lm-studio/models"}, {"HOME", ".cache/lm-studio/models"}});
}

// One name of a path: none that leads elsewhere or is hidden.
bool is_plain(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name[0] != '.' &&
         std::none_of(name.begin(), name.end(),
                      [](unsigned char c) { return c < 0x20 || c == 0x7F || c == '/' || c == '\\'; });
}

struct Entry {
  std::string name;
  fs::path path;
};
// Plain names in a folder, sorted, and of its folders alone those that are no links.
std::vector<Entry> entries(const fs::path& folder, bool folders_only) {
  std::vector<Entry> out;
  std::error_code error;
  size_t n = 0;
  for (fs::directory_iterator it(folder, error), end; !error && it != end && ++n < kMaxEntries; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    const fs::file_status status = it->symlink_status(ignored);
    if (!is_plain(name) || (folders_only && status.type() != fs::file_type::directory)) continue;
    out.push_back({name, it->path()});
  }
  std::sort(out.begin(), out.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
  return out;
}

bool is_within(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}
// A regular file, or a link to one below `allowed`.
bool is_file_of(const fs::path& path, const fs::path& allowed) {
  std::error_code error;
  const fs::file_status status = fs::symlink_status(path, error);
  if (status.type() == fs::file_type::regular) return true;
  if (status.type() != fs::file_type::symlink) return false;
  const fs::path real = fs::canonical(path, error), root = error ? fs::path() : fs::canonical(allowed, error);
  return !error && is_within(real, root) && fs::is_regular_file(real, error);
}

// "-00002-of-00005" and on: opened with the first shard.
bool is_later_shard(const std::string& name) {
  constexpr std::string_view kFirst = "00001-of-";
  const size_t of = name.rfind("-of-");
  return of != name.npos && of >= 5 && name.ends_with(".gguf") && name.size() - of == 4 + 5 + 5 &&
         name.find_first_not_of("0123456789", of - 5) == of && name.substr(of - 5, 9) != kFirst;
}
bool is_model_file(const std::string& name) {
  return name.ends_with(".gguf") && !is_later_shard(name) && name.find("mmproj") == name.npos;
}

Error not_found(const std::string& name, const std::string& where) {
  std::vector<std::string> names;
  for (const ModelElsewhere& model : models_elsewhere(nullptr)) names.push_back(model.name);
  std::string message = fmt::format("no model {} in {}", quote(name), quote(where, 4096));
  if (!names.empty()) message += fmt::format("; nearest: {}", fmt::join(nearest_names(name, names, 2), ", "));
  return Error{ErrorCode::kNotFound, message, {}};
}

// --- The hub's cache: models--ORG--NAME/{refs/main, snapshots/REVISION/, blobs/}.

std::string hub_name(std::string_view folder) {  // "ORG/NAME" of "models--ORG--NAME"; empty for another
  constexpr std::string_view kModels = "models--";
  if (!folder.starts_with(kModels)) return {};
  std::string name(folder.substr(kModels.size()));
  const size_t slash = name.find("--");
  if (slash != name.npos) name.replace(slash, 2, "/");
  return name;
}

// The snapshot of a branch, a tag or a revision.
Result<fs::path> snapshot_of(const fs::path& model, const std::string& revision) {
  const fs::path reference = model / "refs" / revision;
  std::error_code error;
  std::string hash = revision;
  if (fs::symlink_status(reference, error).type() == fs::file_type::regular) {
    FOVEA_ASSIGN_OR_RETURN(hash, read_file(reference.string(), 4096));
    while (!hash.empty() && (hash.back() == '\n' || hash.back() == '\r')) hash.pop_back();
    if (!is_plain(hash))
      return make_error(ErrorCode::kData, "{}: it names the revision {}, which is none",
                        quote(reference.string(), 4096), quote(hash));
  } else if (const auto only = entries(model / "snapshots", true); revision == "main" && only.size() == 1) {
    hash = only[0].name;
  }
  const fs::path snapshot = model / "snapshots" / hash;
  if (fs::symlink_status(snapshot, error).type() == fs::file_type::directory) return snapshot;
  return make_error(ErrorCode::kNotFound, "{}: revision {} is not there", quote(model.string(), 4096), quote(hash));
}

// The folder itself where it is a model; else its GGUF files.
std::vector<ModelElsewhere> models_in(const std::string& name, const fs::path& folder, const fs::path& blobs) {
  std::vector<ModelElsewhere> out;
  if (is_file_of(folder / "config.json", blobs)) {
    const bool weights =
        is_file_of(folder / "model.safetensors", blobs) || is_file_of(folder / "model.safetensors.index.json", blobs);
    if (weights) out.push_back({name, folder.string()});
  }
  for (const Entry& file : entries(folder, false)) {
    if (is_model_file(file.name) && is_file_of(file.path, blobs))
      out.push_back({fmt::format("{}/{}", name, file.name), file.path.string()});
  }
  return out;
}

void add_hub(std::vector<ModelElsewhere>& out, std::vector<std::string>* problems) {
  const auto root = hub();
  if (!root) return;
  for (const Entry& model : entries(*root, true)) {
    const std::string name = hub_name(model.name);
    if (name.empty()) continue;
    const auto snapshot = snapshot_of(model.path, "main");
    if (!snapshot) {
      if (problems) problems->push_back(snapshot.error().message);
      continue;
    }
    for (ModelElsewhere& found : models_in(std::string(kHf) + name, *snapshot, model.path / "blobs"))
      out.push_back(std::move(found));
  }
}

Result<std::string> one_of(const std::string& name, const std::vector<ModelElsewhere>& found, const fs::path& where) {
  if (found.size() == 1) return found[0].path;
  for (const ModelElsewhere& model : found) {
    if (model.name == name) return model.path;
  }
  if (found.empty())
    return make_error(ErrorCode::kNotFound, "{}: there is neither a folder of safetensors nor a GGUF file",
                      quote(where.string(), 4096));
  std::vector<std::string> names;
  for (const ModelElsewhere& model : found) names.push_back(model.name);
  return make_error(ErrorCode::kUsage, "{} has several models: {}", quote(name),
                    escaped_line(fmt::format("{}", fmt::join(names, ", "))));
}

Result<std::string> find_in_hub(const std::string& name) {
  const std::string asked = name.substr(kHf.size());
  std::string repository = asked, revision = "main", file;
  if (const size_t at = repository.find('@'); at != repository.npos) {
    revision = repository.substr(at + 1);
    repository.resize(at);
  }
  const size_t slash = repository.find('/');
  if (const size_t second = slash == repository.npos ? slash : repository.find('/', slash + 1);
      second != repository.npos) {
    file = repository.substr(second + 1);
    repository.resize(second);
  }
  const std::string org = repository.substr(0, slash),
                    base = slash == repository.npos ? "" : repository.substr(slash + 1);
  if (!is_plain(org) || (slash != repository.npos && !is_plain(base)) || !is_plain(revision) ||
      (!file.empty() && !is_plain(file)))
    return make_error(ErrorCode::kUsage, "{} is no name of the hub; hf:ORG/NAME is", quote(name));
  const auto root = hub();
  if (!root) return make_error(ErrorCode::kNotFound, "where the hub's cache is is not known: HOME is not set");
  const fs::path model = *root / (base.empty() ? "models--" + org : fmt::format("models--{}--{}", org, base));
  std::error_code ignored;
  if (fs::symlink_status(model, ignored).type() != fs::file_type::directory) return not_found(name, root->string());
  FOVEA_ASSIGN_OR_RETURN(const fs::path snapshot, snapshot_of(model, revision));
  if (!file.empty()) {
    if (is_file_of(snapshot / file, model / "blobs")) return (snapshot / file).string();
    return not_found(name, snapshot.string());
  }
  return one_of(name, models_in(name, snapshot, model / "blobs"), snapshot);
}

// --- Ollama: manifests/HOST/NAMESPACE/NAME/TAG say by its hash which file of blobs/ the model is.

Result<fs::path> blob_of(const fs::path& root, const fs::path& manifest) {
  const std::string name = quote(manifest.string(), 4096);
  std::error_code error;
  if (fs::symlink_status(manifest, error).type() != fs::file_type::regular)
    return make_error(ErrorCode::kData, "{}: not a regular file", name);
  FOVEA_ASSIGN_OR_RETURN(const std::string text, read_file(manifest.string(), kMaxManifestBytes));
  FOVEA_ASSIGN_OR_RETURN(const auto json, parse_json(text, name));
  const auto layers = json.is_object() ? json.find("layers") : json.end();
  if (!json.is_object() || layers == json.end() || !layers->is_array())
    return make_error(ErrorCode::kData, "{}: it has no list of layers", name);
  std::optional<fs::path> found;
  for (const auto& layer : *layers) {
    const auto text_of = [&](const char* field) {
      const auto it = layer.is_object() ? layer.find(field) : layer.end();
      return layer.is_object() && it != layer.end() && it->is_string() ? it->get<std::string>() : std::string();
    };
    const std::string type = text_of("mediaType"), digest = text_of("digest");
    if (type.ends_with(".image.adapter"))
      return make_error(ErrorCode::kUnsupported, "{}: it lays an adapter over a model, which is not done here", name);
    if (!type.ends_with(".image.model")) continue;
    if (found) return make_error(ErrorCode::kUnsupported, "{}: it has more than one model", name);
    constexpr std::string_view kHash = "sha256:";
    const std::string hash = digest.starts_with(kHash) ? digest.substr(kHash.size()) : "";
    if (hash.size() != 64 || hash.find_first_not_of("0123456789abcdef") != hash.npos)
      return make_error(ErrorCode::kData, "{}: the digest of its model is {}, no SHA-256", name, quote(digest));
    const fs::path blob = root / "blobs" / ("sha256-" + hash);
    if (fs::symlink_status(blob, error).type() != fs::file_type::regular)
      return make_error(ErrorCode::kNotFound, "{}: its model is not there: {}", name, quote(blob.string(), 4096));
    const auto size = layer.find("size");
    const uint64_t bytes = fs::file_size(blob, error);
    if (size != layer.end() && (!size->is_number_unsigned() || size->get<uint64_t>() != bytes))
      return make_error(ErrorCode::kData, "{}: its model is to have {} bytes, but {} has {}", name, size->dump(),
                        quote(blob.string(), 4096), bytes);
    found = blob;
  }
  if (!found) return make_error(ErrorCode::kData, "{}: none of its layers is a model", name);
  return *found;
}

void add_ollama(std::vector<ModelElsewhere>& out, std::vector<std::string>* problems) {
  const auto root = ollama();
  if (!root) return;
  for (const Entry& host : entries(*root / "manifests", true)) {
    for (const Entry& space : entries(host.path, true)) {
      for (const Entry& model : entries(space.path, true)) {
        for (const Entry& tag : entries(model.path, false)) {
          const auto blob = blob_of(*root, tag.path);
          const std::string prefix = space.name == "library" ? "" : space.name + "/";
          if (blob) out.push_back({fmt::format("{}{}{}:{}", kOllama, prefix, model.name, tag.name), blob->string()});
          if (!blob && problems) problems->push_back(blob.error().message);
        }
      }
    }
  }
}

Result<std::string> find_in_ollama(const std::string& name) {
  std::string model = name.substr(kOllama.size()), space = "library", tag = "latest";
  if (const size_t colon = model.find(':'); colon != model.npos) {
    tag = model.substr(colon + 1);
    model.resize(colon);
  }
  if (const size_t slash = model.find('/'); slash != model.npos) {
    space = model.substr(0, slash);
    model.erase(0, slash + 1);
  }
  if (!is_plain(model) || !is_plain(space) || !is_plain(tag))
    return make_error(ErrorCode::kUsage, "{} is no name of Ollama; ollama:NAME:TAG is", quote(name));
  const auto root = ollama();
  if (!root) return make_error(ErrorCode::kNotFound, "where Ollama's models are is not known: HOME is not set");
  std::error_code ignored;
  for (const Entry& host : entries(*root / "manifests", true)) {
    const fs::path manifest = host.path / space / model / tag;
    if (!fs::exists(fs::symlink_status(manifest, ignored))) continue;
    FOVEA_ASSIGN_OR_RETURN(const fs::path blob, blob_of(*root, manifest));
    return blob.string();
  }
  return not_found(name, root->string());
}

// --- LM Studio: PUBLISHER/NAME/ with GGUF files or a folder of safetensors.

void add_lm_studio(std::vector<ModelElsewhere>& out) {
  for (const fs::path& root : lm_studio()) {
    for (const Entry& publisher : entries(root, true)) {
      for (const Entry& model : entries(publisher.path, true)) {
        const std::string name = fmt::format("{}{}/{}", kLmStudio, publisher.name, model.name);
        for (ModelElsewhere& found : models_in(name, model.path, model.path)) out.push_back(std::move(found));
      }
    }
  }
}

Result<std::string> find_in_lm_studio(const std::string& name) {
  std::vector<ModelElsewhere> all, found;
  add_lm_studio(all);
  for (const ModelElsewhere& model : all) {
    if (model.name == name) return model.path;
    if (model.name.starts_with(name + "/")) found.push_back(model);
  }
  if (found.empty()) return not_found(name, "LM Studio's folder");
  return one_of(name, found, fs::path(found[0].path).parent_path());
}

}  // namespace

bool is_elsewhere(const std::string& name) {
  return name.starts_with(kHf) || name.starts_with(kOllama) || name.starts_with(kLmStudio);
}

std::vector<ModelElsewhere> models_elsewhere(std::vector<std::string>* problems) {
  std::vector<ModelElsewhere> out;
  add_hub(out, problems);
  add_lm_studio(out);
  add_ollama(out, problems);
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return out;
}

Result<std::string> find_elsewhere(const std::string& name) {
  if (name.starts_with(kHf)) return find_in_hub(name);
  if (name.starts_with(kOllama)) return find_in_ollama(name);
  if (name.starts_with(kLmStudio)) return find_in_lm_studio(name);
  return make_error(ErrorCode::kUsage, "{}: hf:, ollama: and lmstudio: are known", quote(name));
}

}  // namespace fovea::store

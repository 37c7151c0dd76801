#include "papers/support/shuffled_model.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "fovea/base/file_writer.h"
#include "fovea/base/random.h"
#include "fovea/base/temporary_files.h"
#include "fovea/store/user_cache.h"

namespace fovea::papers {
namespace {

// Its rows in random order; of a vector its numbers.
std::vector<std::byte> shuffled(const formats::TensorInfo& tensor, Rng& random) {
  int64_t n_rows = std::accumulate(tensor.dims.begin(), tensor.dims.end(), int64_t{1}, std::multiplies<>());
  if (tensor.dims.size() > 1) n_rows /= tensor.dims[0];
  const size_t n = static_cast<size_t>(n_rows), row = n > 0 ? tensor.data.size() / n : 0;
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  for (size_t i = n; i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  std::vector<std::byte> out(tensor.data.begin(), tensor.data.end());
  for (size_t i = 0; i < n; ++i)
    std::copy_n(tensor.data.begin() + static_cast<ptrdiff_t>(order[i] * row), row,
                out.begin() + static_cast<ptrdiff_t>(i * row));
  return out;
}

Status write_shuffled(const formats::ModelSource& source, uint64_t seed, const std::string& path,
                      const std::atomic<bool>* cancel) {
  const std::span<const std::byte> file = source.files()[0]->bytes();
  FOVEA_ASSIGN_OR_RETURN(FileWriter writer, FileWriter::create(path, WriteTo::kOwnFile, 0600));
  FOVEA_RETURN_IF_ERROR(writer.check_space(file.size()));
  std::vector<const formats::TensorInfo*> tensors;
  for (const formats::TensorInfo& tensor : source.tensors()) tensors.push_back(&tensor);
  std::sort(tensors.begin(), tensors.end(), [](auto* a, auto* b) { return a->data.data() < b->data.data(); });
  Rng random(seed);
  size_t at = 0;
  for (const formats::TensorInfo* tensor : tensors) {
    if (cancel && cancel->load()) return make_error(ErrorCode::kCancelled, "interrupted");
    const auto begin = static_cast<size_t>(tensor->data.data() - file.data());
    FOVEA_RETURN_IF_ERROR(writer.write(file.subspan(at, begin - at)));
    FOVEA_RETURN_IF_ERROR(writer.write(shuffled(*tensor, random)));
    source.release(tensor->data);
    at = begin + tensor->data.size();
  }
  FOVEA_RETURN_IF_ERROR(writer.write(file.subspan(at)));
  FOVEA_RETURN_IF_ERROR(source.check_intact());
  return writer.commit(/*durable=*/false);
}

}  // namespace

Result<std::shared_ptr<const engine::Model>> shuffled_model(const engine::Model& model, uint64_t seed,
                                                            const std::atomic<bool>* cancel) {
  if (model.source().files().size() != 1)
    return make_error(ErrorCode::kUnsupported, "{}: only a model in one file can be shuffled", model.source().name());
  const std::string cache = store::user_cache_dir();
  std::string dir = cache + "/papers";
  if (cache.empty() || !store::make_private_folder(dir)) dir = std::filesystem::temp_directory_path().string();
  const std::string path = fmt::format("{}/shuffled-{}.gguf", dir, getpid());
  // Removed when the last user of the model is gone, and when a signal ends the program.
  add_temporary_file(path);
  const std::shared_ptr<void> file(nullptr, [path](void*) {
    unlink(path.c_str());
    forget_temporary_file(path);
  });
  FOVEA_RETURN_IF_ERROR(write_shuffled(model.source(), seed, path, cancel));
  FOVEA_ASSIGN_OR_RETURN(const auto loaded,
                         engine::Model::load(path, {.repack_late = true, .progress = nullptr, .cancel = cancel}));
  using Both = std::pair<std::shared_ptr<void>, std::shared_ptr<const engine::Model>>;
  const auto both = std::make_shared<Both>(file, loaded);
  return std::shared_ptr<const engine::Model>(both, both->second.get());
}

}  // namespace fovea::papers

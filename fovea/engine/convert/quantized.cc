#include "fovea/engine/convert/quantized.h"

#include <errno.h>
#include <sys/mman.h>  // memfd_create
#include <unistd.h>    // close

#include <functional>
#include <utility>

#include "fovea/base/file.h"
#include "fovea/base/file_writer.h"
#include "fovea/engine/convert/convert.h"
#include "fovea/formats/hf_folder.h"
#include "fovea/formats/requantize.h"

namespace fovea::engine {
namespace {

using formats::Gguf;

// A file without a place on a disk, and the model in it: there as long as somebody holds the model.
struct InMemory {
  int fd = -1;
  std::shared_ptr<const Gguf> model;
  InMemory() = default;
  InMemory(const InMemory&) = delete;
  InMemory& operator=(const InMemory&) = delete;
  ~InMemory() {
    model.reset();
    if (fd >= 0) close(fd);
  }
};

Result<std::shared_ptr<const Gguf>> in_memory(const std::string& path,
                                              const std::function<Status(FileWriter file)>& write) {
  auto held = std::make_shared<InMemory>();
  held->fd = memfd_create("fovea-model", MFD_CLOEXEC);
  if (held->fd < 0) return file_error(path, "convert", errno);
  const std::string name = "/proc/self/fd/" + std::to_string(held->fd);
  FOVEA_ASSIGN_OR_RETURN(FileWriter file, FileWriter::create(name));
  file.call(path + " in memory");
  FOVEA_RETURN_IF_ERROR(write(std::move(file)));
  FOVEA_ASSIGN_OR_RETURN(held->model, Gguf::open(name, {.strict = false, .called = path}));
  return std::shared_ptr<const Gguf>(held, held->model.get());
}

}  // namespace

Result<std::shared_ptr<const Gguf>> open_as_gguf(const std::string& path, const std::atomic<bool>* cancel) {
  if (!formats::HfFolder::folder_of(path)) return Gguf::open(path);
  FOVEA_ASSIGN_OR_RETURN(const auto source, formats::open_model(path));
  FOVEA_ASSIGN_OR_RETURN(const auto conversion, Conversion::plan(source));
  return in_memory(path, [&](FileWriter file) -> Status {
    FOVEA_RETURN_IF_ERROR(conversion->write_gguf(std::move(file), {.progress = {}, .cancel = cancel}));
    return {};
  });
}

Result<std::shared_ptr<const Gguf>> open_quantized(const std::string& path, kernels::DType type,
                                                   const std::atomic<bool>* cancel) {
  FOVEA_ASSIGN_OR_RETURN(const auto in, open_as_gguf(path, cancel));
  return in_memory(path, [&](FileWriter file) -> Status {
    formats::RequantizeOptions options;
    options.cancel = cancel;
    FOVEA_RETURN_IF_ERROR(formats::requantize(*in, type, formats::plan_types(*in, type), std::move(file), options));
    return {};
  });
}

}  // namespace fovea::engine

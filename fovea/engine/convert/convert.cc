#include "fovea/engine/convert/convert.h"

#include <unistd.h>  // getpid

#include <algorithm>
#include <filesystem>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/formats/gguf.h"
#include "fovea/models/support/weights.h"

namespace fovea::engine {

namespace fs = std::filesystem;

namespace {

struct Cleared {
  fs::path path;
  ~Cleared() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

}  // namespace

Result<std::unique_ptr<Conversion>> Conversion::plan(std::shared_ptr<const formats::ModelSource> source) {
  std::unique_ptr<Conversion> out(new Conversion);
  out->source_ = std::move(source);
  out->form_ = dynamic_cast<const formats::Gguf*>(out->source_.get()) ? Form::kFolder : Form::kGguf;
  FOVEA_ASSIGN_OR_RETURN(const models::Config config, models::read_config(*out->source_));
  out->family_ = models::make_family(config);
  if (auto problems = models::bind_weights(*out->source_, *out->family_); !problems.empty())
    return std::move(problems[0]);
  FOVEA_RETURN_IF_ERROR(out->to_folder() ? out->plan_folder() : out->plan_gguf());
  FOVEA_RETURN_IF_ERROR(out->source_->check_intact());
  return out;
}

uint64_t Conversion::bytes() const {
  uint64_t sum = 0;
  for (const Piece& piece : pieces()) sum += piece.bytes();
  return sum;
}

Status Conversion::write_pieces(const ConvertOptions& options,
                                const std::function<Status(std::span<const std::byte>)>& write) const {
  uint64_t done = 0;
  for (const Piece& piece : pieces()) {
    std::vector<std::byte> made;
    FOVEA_ASSIGN_OR_RETURN(const auto bytes, pieces_->bytes_of(piece, made));
    constexpr size_t kStep = size_t{16} << 20;
    for (size_t at = 0; at < bytes.size(); at += kStep) {
      if (options.cancel && options.cancel->load(std::memory_order_relaxed))
        return Error{ErrorCode::kCancelled, "cancelled", {}};
      const auto part = bytes.subspan(at, std::min(kStep, bytes.size() - at));
      FOVEA_RETURN_IF_ERROR(write(part));
      done += part.size();
      if (options.progress) options.progress(done);
    }
    source_->release(bytes);
    FOVEA_RETURN_IF_ERROR(source_->check_intact());
  }
  return {};
}

Status replace_folder(const std::string& path, const std::function<Status(const std::string& folder)>& write) {
  std::string to = path;
  while (to.size() > 1 && to.ends_with('/')) to.pop_back();
  const std::string name = fovea::quoted(path, 4096);
  std::error_code error;
  const auto status = fs::status(to, error);
  const bool had = fs::exists(status);
  if (had && !fs::is_directory(status)) return make_error(ErrorCode::kUsage, "{}: is there, and is no folder", name);
  const fs::path fresh = fmt::format("{}.part-{}", to, getpid()), old = fmt::format("{}.old-{}", to, getpid());
  if (!fs::create_directory(fresh, error))
    return make_error(error == std::errc::no_such_file_or_directory ? ErrorCode::kNotFound : ErrorCode::kIo,
                      "{}: cannot be made: {}", name, error ? error.message() : "something like it is there");
  const Cleared cleared{fresh};
  FOVEA_RETURN_IF_ERROR(write(fresh.string()));
  // What is not written anew would be lost.
  if (had) {
    for (const auto& entry : fs::directory_iterator(to, error)) {
      if (!fs::exists(fresh / entry.path().filename(), error))
        return make_error(ErrorCode::kUsage, "{}: holds {} besides a model; name a folder that is not there", name,
                          fovea::quoted(entry.path().filename().string(), 4096));
    }
  }
  if (had) fs::rename(to, old, error);
  if (!error) fs::rename(fresh, to, error);
  if (error) {
    std::error_code ignored;
    if (had && !fs::exists(to, ignored)) fs::rename(old, to, ignored);
    return make_error(ErrorCode::kIo, "{}: cannot be put in place: {}", name, error.message());
  }
  if (had) fs::remove_all(old, error);
  return {};
}

}  // namespace fovea::engine

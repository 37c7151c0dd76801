#include "fovea/engine/convert/convert.h"

#include <algorithm>
#include <utility>

#include "fovea/formats/gguf.h"
#include "fovea/models/support/weights.h"

namespace fovea::engine {

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

}  // namespace fovea::engine

#include "fovea/engine/model.h"

#include <algorithm>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/mapped_file.h"
#include "fovea/engine/convert/quantized.h"
#include "fovea/models/support/weights.h"
#include "fovea/store/user_cache.h"

namespace fovea::engine {

Result<std::shared_ptr<const Model>> Model::load(const std::string& path, const ModelOptions& options) {
  auto model = std::make_shared<Model>();
  model->path_ = path;
  model->repack_budget_ = options.repack_bytes;
  if (options.quantize) {
    FOVEA_ASSIGN_OR_RETURN(model->source_, open_quantized(path, *options.quantize, options.cancel));
  } else {
    FOVEA_ASSIGN_OR_RETURN(model->source_, formats::open_model(path));
  }
  const formats::ModelSource& source = *model->source_;
  FOVEA_ASSIGN_OR_RETURN(model->family_, models::make_family(source));
  if (auto problems = models::bind_weights(source, *model->family_); !problems.empty()) return std::move(problems[0]);

  const auto table = model->family_->weights();
  uint64_t total = 0, done = 0;
  for (const auto& spec : table)
    total += spec.target->defined() ? kernels::row_bytes(spec.target->view.dtype, spec.target->cols()) *
                                          static_cast<uint64_t>(spec.target->rows())
                                    : 0;
  const bool tied =
      model->family_->makes_text() && std::none_of(table.begin(), table.end(), [](const tensor::Parameter& p) {
        return p.name == "output.weight" && p.target->defined();
      });
  for (const auto& spec : table) {
    tensor::Weight& w = *spec.target;
    if (options.cancel && options.cancel->load()) return make_error(ErrorCode::kCancelled, "interrupted");
    if (!w.defined()) continue;
    if (w.rows() == 1) {  // read in every pass: in the file that would keep all around it resident
      const auto* from = static_cast<const std::byte*>(w.view.data);
      w.view.data = model->vectors_.emplace_back(from, from + kernels::row_bytes(w.view.dtype, w.cols())).data();
      continue;
    }
    const uint64_t bytes = kernels::row_bytes(w.view.dtype, w.cols()) * static_cast<uint64_t>(w.rows());
    const bool multiplied = spec.name != "token_embd.weight" || tied;  // else only looked up
    const kernels::WeightForm fast = kernels::form_of(w.view.dtype, w.cols(), kernels::Numerics::kFast);
    if (kernels::takes_codes(fast) && model->form_ != kernels::WeightForm::kInt8) model->form_ = fast;
    if (multiplied &&
        model->packed_bytes_ + kernels::packed_bytes(w.view, options.repack_for) <= options.repack_bytes) {
      // The file's own copy is not read again, but for the rows of a tied embedding.
      model->packed_bytes_ += tensor::pack_weight_later(
          w, [file = model->source_](std::span<const std::byte> rows) { file->release(rows); }, options.repack_for);
      if (!options.repack_late) tensor::pack_weight(w);
    }
    done += bytes;
    if (options.progress) options.progress(done, total);
  }
  FOVEA_RETURN_IF_ERROR(source.check_intact());
  return std::shared_ptr<const Model>(std::move(model));
}

Result<const tensor::Weight*> Model::weight(std::string_view name) const {
  for (const tensor::Parameter& p : family_->weights()) {
    if (p.target->defined() && (p.name == name || p.hf_name == name)) return p.target;
  }
  return make_error(ErrorCode::kUsage, "{}: there is no weight called {}", source_->name(), quote(name));
}

Result<std::string> Model::sha256() const {
  std::string hashes;
  for (const auto& file : source_->files()) {
    FOVEA_ASSIGN_OR_RETURN(const std::string hash, store::cached_sha256(file->path()));
    FOVEA_ASSIGN_OR_RETURN(const FileIdentity now, identity_of(file->path()));
    if (!(now == file->identity()))
      return make_error(ErrorCode::kIo, "{}: not the file that was loaded any more", quote(file->path(), 4096));
    hashes += hash;
  }
  return source_->files().size() == 1 ? hashes : sha256_of(std::as_bytes(std::span(hashes)));
}

}  // namespace fovea::engine

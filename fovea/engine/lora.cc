#include "fovea/engine/lora.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <utility>
#include <vector>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/log.h"
#include "fovea/engine/masks.h"
#include "fovea/formats/lora_file.h"
#include "fovea/models/family.h"
#include "fovea/models/support/pairing.h"
#include "fovea/store/model_store.h"
#include "fovea/store/user_cache.h"

namespace fovea::engine {
namespace {

using formats::LoraBase;
using formats::LoraFile;
using formats::LoraPair;
using tensor::Adapters;
using tensor::Lora;
using tensor::Parameter;
using tensor::Tensor;

constexpr std::string_view kWeight = ".weight";

// One file's pairs, bound to one model.
class Binding {
 public:
  Binding(const Model& model, const LoraFile& file, double scale, Adapters& out)
      : model_(model), file_(file), scale_(scale), out_(out), table_(model.parameters()) {
    // PEFT names modules of the model with its head, or of the bare one.
    const auto is_there = [&](const LoraPair& pair) { return !find(pair.weight, /*bare=*/false).empty(); };
    bare_ = std::none_of(file.pairs.begin(), file.pairs.end(), is_there);
  }

  Status run() const {
    if (!file_.architecture.empty() && file_.architecture != model_.config().architecture)
      return Error{ErrorCode::kData,
                   fmt::format("{}: it is for models of the architecture {}, and {} is {}", file_.name,
                               quote(file_.architecture), model_.source().name(), model_.config().architecture),
                   "general.architecture"};
    for (const LoraPair& pair : file_.pairs) FOVEA_RETURN_IF_ERROR(add(pair));
    for (const LoraBase& base : file_.bases) FOVEA_RETURN_IF_ERROR(add(base));
    return {};
  }

 private:
  bool peft() const { return file_.kind == LoraFile::Kind::kPeft; }

  // The weights that a tensor of this name holds: several where it is fused.
  std::vector<const Parameter*> find(std::string_view name, bool bare) const {
    std::vector<const Parameter*> found;
    for (const Parameter& p : table_) {
      std::string_view own = peft() ? p.hf_name : p.name;
      if (peft() && own.ends_with(kWeight)) own.remove_suffix(kWeight.size());
      if (bare) own.remove_prefix(std::min(own.size(), own.find('.') + 1));
      if (own == name) found.push_back(&p);
    }
    return found;
  }

  Error wrong(const std::string& tensor, const std::string& what) const {
    return {ErrorCode::kData, fmt::format("{}: tensor {} {}", file_.name, quote(tensor), what), "tensor " + tensor};
  }

  // The weight behind a row of the table, and where it is used; null: this model has none. Logits without a weight of
  // their own are made with the embedding.
  std::pair<const tensor::Weight*, Lora::Use> weight_of(const Parameter& p, bool embedding) const {
    if (p.target->defined()) return {p.target, embedding ? Lora::Use::kLookUps : Lora::Use::kProducts};
    if (p.name != "output.weight") return {nullptr, Lora::Use::kAll};
    const auto table = model_.weight("token_embd.weight");
    return {table ? *table : nullptr, Lora::Use::kProducts};
  }

  Status add(const LoraPair& pair) const {
    const auto found = find(pair.weight, bare_);
    if (found.empty())
      return wrong(pair.a_name,
                   fmt::format("changes {}, which {} does not have", quote(pair.weight), model_.source().name()));
    for (const Parameter* p : found) {
      if (p->gguf.n_slices > 0)  // its rows are no longer those of the batch
        return Error{ErrorCode::kUnsupported,
                     fmt::format("{}: tensor {} changes an expert ({}), which adapters here do not", file_.name,
                                 quote(pair.a_name), p->name),
                     "tensor " + pair.a_name};
      const auto [weight, use] = weight_of(*p, pair.embedding);
      if (!weight) return wrong(pair.a_name, fmt::format("changes {}, which this model does not have", p->name));
      FOVEA_ASSIGN_OR_RETURN(Tensor b, rows_of(pair, *p, *weight));
      if (scale_ == 0) continue;
      const auto factor = static_cast<float>(scale_ * pair.scale);
      for (int64_t i = 0; i < b.elements(); ++i) b.data()[i] *= factor;
      FOVEA_RETURN_IF_ERROR(out_.add(*weight, Lora{.a = pair.a, .b = std::move(b), .use = use, .frozen = true}));
    }
    return {};
  }

  // The rows of b for this weight, in the order of the model's file.
  Result<Tensor> rows_of(const LoraPair& pair, const Parameter& p, const tensor::Weight& weight) const {
    const tensor::Stored& how = peft() ? p.hf : p.gguf;
    const int64_t all = how.fused_rows > 0 ? how.fused_rows : weight.rows(), rank = pair.b.dim(1);
    if (p.shape.size() != 2 || pair.a.dim(1) != weight.cols() || pair.b.dim(0) != all)
      return wrong(pair.a_name,
                   fmt::format("and {} change a weight [{}, {}], and {} of {} is [{}, {}]", quote(pair.b_name),
                               pair.b.dim(0), pair.a.dim(1), pair.weight, model_.source().name(), all, weight.cols()));
    const int64_t begin = how.row_begin, kept = (how.row_end > 0 ? how.row_end : all) - begin;
    const int64_t period = how.row_period > 0 ? how.row_period : all;
    Tensor out = Tensor::empty({weight.rows(), rank});
    for (int64_t r = 0; r < weight.rows(); ++r) {
      const int64_t logical = row_in_adapter(r, p, model_.source(), model_.config(), peft());
      const int64_t from = logical / kept * period + begin + logical % kept;
      std::copy_n(pair.b.data() + from * rank, rank, out.data() + r * rank);
    }
    return out;
  }

  // A weight that was saved whole takes the model's place where it is another.
  Status add(const LoraBase& base) const {
    const auto found = find(base.weight, bare_);
    const tensor::Weight* weight = found.size() == 1 ? weight_of(*found[0], false).first : nullptr;
    if (!weight)
      return wrong(base.name, fmt::format("is a weight saved whole that {} does not have", model_.source().name()));
    if (base.values.dim(0) != weight->rows() || base.values.dim(1) != weight->cols())
      return wrong(base.name, fmt::format("is [{}, {}], and {} of {} is [{}, {}]: its vocabulary is another",
                                          base.values.dim(0), base.values.dim(1), base.weight, model_.source().name(),
                                          weight->rows(), weight->cols()));
    const Tensor own = tensor::weight_values(*weight);
    if (scale_ == 0 || std::ranges::equal(own.values(), base.values.values())) return {};
    return out_.add(*weight, tensor::Rows{.values = base.values, .begin = 0, .replace = true});
  }

  const Model& model_;
  const LoraFile& file_;
  double scale_;
  Adapters& out_;
  std::vector<Parameter> table_;
  bool bare_ = false;
};

// Letters and digits of the last part of a name or a path, in lower case, without what says how it is stored.
std::string bare_name(std::string_view path) {
  while (path.ends_with('/')) path.remove_suffix(1);
  if (path.ends_with(".gguf")) path.remove_suffix(5);
  path.remove_prefix(path.rfind('/') == path.npos ? 0 : path.rfind('/') + 1);
  std::string out;
  for (const char c : path) {
    if (std::isalnum(static_cast<unsigned char>(c)))
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return out;
}

// Whether the model can be the one that an adapter names: files are renamed, so a part of a name is enough.
bool may_be(const Model& model, const std::string& base) {
  const std::string wanted = bare_name(base);
  for (const std::string& name : {model.path(), store::model_name(model.path()), model.source().text_of("general.name"),
                                  model.source().text_of("general.basename")}) {
    const std::string own = bare_name(name);
    if (!own.empty() && (own.find(wanted) != own.npos || wanted.find(own) != wanted.npos)) return true;
  }
  return wanted.empty();
}

}  // namespace

int64_t row_in_adapter(int64_t row, const Parameter& p, const formats::ModelSource& source,
                       const models::Config& config, bool peft) {
  const auto& pairing = models::family_registry().at(config.architecture).traits.pairing;
  return models::paired_row(row, p, source.rope_pairing(pairing), peft ? pairing.hf : pairing.gguf, config);
}

Result<std::shared_ptr<const Adapters>> load_adapters(const Model& model, std::span<const LoraRequest> loras,
                                                      const std::string& masks) {
  auto adapters = std::make_shared<Adapters>();
  Sha256 hash;
  bool any = false;
  for (const LoraRequest& request : loras) {
    if (!std::isfinite(request.scale))
      return make_error(ErrorCode::kUsage, "{}: a scale of {}", quote(request.path, 4096), request.scale);
    FOVEA_ASSIGN_OR_RETURN(const LoraFile file, LoraFile::open(request.path));
    FOVEA_RETURN_IF_ERROR(Binding(model, file, request.scale, *adapters).run());
    if (!file.base_model.empty() && !may_be(model, file.base_model))
      log_warning("{}: it was made for the model {}, and this one is {}", file.name, quote(file.base_model),
                  model.source().name());
    if (request.scale == 0) continue;
    any = true;
    std::string entry = fmt::format("lora {:a}\n", request.scale);
    for (const auto& part : file.files) {
      FOVEA_ASSIGN_OR_RETURN(const std::string own, store::cached_sha256(part->path()));
      FOVEA_ASSIGN_OR_RETURN(const FileIdentity now, identity_of(part->path()));
      if (!(now == part->identity()))
        return make_error(ErrorCode::kIo, "{}: it changed while it was read", quote(part->path(), 4096));
      entry += own + "\n";
    }
    hash.add(std::as_bytes(std::span(entry)));
  }
  if (!masks.empty()) {
    FOVEA_RETURN_IF_ERROR(add_masks(model, masks, *adapters));
    any = true;
    FOVEA_ASSIGN_OR_RETURN(const std::string own, store::cached_sha256(masks));
    const std::string entry = "masks\n" + own + "\n";
    hash.add(std::as_bytes(std::span(entry)));
  }
  if (!any) return std::shared_ptr<const Adapters>();
  adapters->set_sha256(hash.hex());
  return std::shared_ptr<const Adapters>(std::move(adapters));
}

Result<std::string> weights_sha256(const Model& model, const Adapters* adapters) {
  FOVEA_ASSIGN_OR_RETURN(const std::string own, model.sha256());
  if (!adapters) return own;
  if (adapters->sha256().empty())
    return make_error(ErrorCode::kUnsupported, "{}: adapters that come from no file", model.source().name());
  const std::string both = own + "\n" + adapters->sha256();
  return sha256_of(std::as_bytes(std::span(both)));
}

}  // namespace fovea::engine

#include "fovea/train/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "fovea/base/bytes.h"
#include "fovea/base/random.h"
#include "fovea/engine/lora.h"
#include "fovea/engine/method_weights.h"
#include "fovea/engine/soft_prompt.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/formats/lora_file.h"
#include "fovea/kernels/dtype.h"
#include "fovea/models/support/forward.h"
#include "fovea/models/support/weights.h"
#include "fovea/store/model_store.h"
#include "fovea/tensor/exec.h"

namespace fovea::train {
namespace {

using tensor::Parameter;
using tensor::Tensor;
using tensor::Weight;

bool is_float(kernels::DType type) {
  return type == kernels::DType::kF32 || type == kernels::DType::kF16 || type == kernels::DType::kBF16;
}

bool is_table(std::string_view name) {
  return name == "token_embd.weight" || name == "output.weight" || name == "position_embd.weight" ||
         name == "token_types.weight";
}

std::string module_of(const Parameter& p) {
  const std::string_view name = p.hf_name.empty() ? p.name : p.hf_name;
  return std::string(name.ends_with(".weight") ? name.substr(0, name.size() - 7) : name);
}

Status check_trains(const attention::Pipeline& pipeline, const attention::ModelShape& shape) {
  for (const auto& method : pipeline.methods()) {
    for (int layer = 0; layer < shape.n_layers; ++layer) {
      for (int head = 0; head < shape.site(layer).n_heads; ++head) {
        if (method->edits_rows(layer, head, /*decoding=*/false))
          return make_error(ErrorCode::kUnsupported, "attention: {} edits single scores, and those have no gradient",
                            method->info().name);
      }
    }
  }
  return {};
}

}  // namespace

MicroBatch::MicroBatch(const std::vector<Sample>& samples) {
  int32_t row = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    batch.add(samples[i].tokens, 0, static_cast<attention::SequenceId>(i));
    for (const int32_t target : samples[i].targets) {
      if (target >= 0) batch.logit_rows.push_back(row), targets.push_back(target);
      ++row;
    }
  }
}

Result<std::unique_ptr<TrainedModel>> TrainedModel::open(Settings& config, int64_t context) {
  std::unique_ptr<TrainedModel> model(new TrainedModel());
  model->context_ = context;
  const auto seed = static_cast<uint64_t>(config.integer("init_seed", 0, 0, INT64_MAX));
  const nlohmann::ordered_json* which = config.any("model");
  if (!which) {
    config.wrong("model", "is missing; a folder, a GGUF file, or {\"net\": \"llama\", ...} is needed");
  } else if (which->is_object()) {
    Settings net = config.object("model");
    FOVEA_RETURN_IF_ERROR(model->open_net(net, context, seed));
  } else {
    const std::string name = config.text("model", std::nullopt);
    if (config.good()) FOVEA_RETURN_IF_ERROR(model->open_files(name));
  }
  if (!config.good()) return config.finish().error();
  if (!model->family_->makes_text())
    return make_error(ErrorCode::kUnsupported, "{}: an encoder gives no logits to train on", model->source_->name());
  const attention::ModelShape& shape = model->config().shape;
  if (context > shape.n_ctx)
    config.wrong("context", fmt::format("is {}; the model has {} positions", context, shape.n_ctx));
  const std::string attention = config.text("attention", "dense");
  if (!config.good()) return config.finish().error();
  FOVEA_ASSIGN_OR_RETURN(model->pipeline_, attention::Pipeline::parse(attention, shape));
  FOVEA_RETURN_IF_ERROR(check_trains(model->pipeline_, shape));
  if (model->pipeline_.keeps_state() && config.flag("recompute", false))
    config.wrong("recompute", "is true with a method that keeps state, which blocks that run again cannot have");
  FOVEA_RETURN_IF_ERROR(engine::bind_method_weights(*model->source_, model->pipeline_));
  FOVEA_RETURN_IF_ERROR(model->open_tokenizer());
  FOVEA_RETURN_IF_ERROR(model->choose(config));
  return model;
}

Result<std::unique_ptr<TrainedModel>> TrainedModel::open_frozen(const std::string& path, int64_t context) {
  std::unique_ptr<TrainedModel> model(new TrainedModel());
  model->context_ = context;
  FOVEA_RETURN_IF_ERROR(model->open_files(path));
  if (!model->family_->makes_text())
    return make_error(ErrorCode::kUnsupported, "{}: an encoder gives no logits to learn from", model->source_->name());
  return model;
}

Status TrainedModel::open_files(const std::string& name) {
  FOVEA_ASSIGN_OR_RETURN(path_, store::resolve_model(name));
  FOVEA_ASSIGN_OR_RETURN(source_, formats::open_model(path_));
  FOVEA_ASSIGN_OR_RETURN(family_, models::make_family(*source_));
  if (auto problems = models::bind_weights(*source_, *family_); !problems.empty()) return std::move(problems[0]);
  return {};
}

Status TrainedModel::open_net(Settings& net, int64_t context, uint64_t seed) {
  const std::string tokenizer = net.text("tokenizer", "");
  Net::Context sizes{.context = context};
  if (!tokenizer.empty()) {
    FOVEA_ASSIGN_OR_RETURN(net_files_, tokenizer_files(tokenizer));
    tokenizers::Vocabulary vocabulary;
    FOVEA_ASSIGN_OR_RETURN(const auto bare, source_of({{"model_type", "llama"}}, net_files_, quote(tokenizer, 4096)));
    std::vector<std::string> said_later;  // by open_tokenizer()
    FOVEA_ASSIGN_OR_RETURN(const auto words, engine::load_tokenizer(*bare, &said_later));
    sizes.vocab_size = words->vocab_size();
  }
  const auto made = make_part<Net>(net, "net", net.text("net", std::nullopt), sizes);
  if (!made || !net.good()) return net.finish();
  net_config_ = made->config();
  const int64_t vocab_size = net_config_["vocab_size"];
  if (vocab_size < sizes.vocab_size)
    net.wrong("vocab_size", fmt::format("is {}; the tokenizer has {}", vocab_size, sizes.vocab_size));
  FOVEA_ASSIGN_OR_RETURN(source_, source_of(net_config_, net_files_, "model"));
  FOVEA_ASSIGN_OR_RETURN(family_, models::make_family(*source_));
  models::init_weights(*family_, seed);
  for (const Parameter& p : family_->weights()) {  // what else is optional stays away
    if (p.name != "output.weight" || net_config_["tie_word_embeddings"]) continue;
    *p.target = Weight::from(p.name, tensor::draw(p.init, {p.shape[1], p.shape[0]}, seed, p.name));
  }
  return {};
}

Status TrainedModel::open_tokenizer() {
  if (path_.empty() && net_files_.empty()) {
    no_tokenizer_ = "a net has one only where \"tokenizer\" says so";
    return {};
  }
  auto loaded = engine::load_tokenizer(*source_);
  if (loaded) {
    tokenizer_ = *loaded;
  } else {
    no_tokenizer_ = loaded.error().message;
  }
  return {};
}

std::vector<Parameter> TrainedModel::table() const {
  std::vector<Parameter> out = family_->weights();
  for (const auto& method : pipeline_.methods()) {
    for (Parameter p : method->parameters()) {
      p.name = p.hf_name = attention::tensor_name(method->info(), p.name);
      out.push_back(std::move(p));
    }
  }
  std::erase_if(out, [](const Parameter& p) { return !p.target->defined(); });
  return out;
}

Status TrainedModel::choose(Settings& config) {
  const nlohmann::ordered_json* which = config.any("trainable");
  if (which && which->is_object()) {
    Settings all = config.object("trainable");
    const auto seed = static_cast<uint64_t>(config.integer("init_seed", 0, 0, INT64_MAX));
    std::string kind;
    for (const char* one : {"lora", "masks", "soft_prompt"}) {
      if (all.has(one) && !kind.empty()) all.wrong(one, fmt::format("is there beside {}; one is trained", kind));
      if (all.has(one)) kind = one;
    }
    if (kind.empty()) all.wrong("lora", "is missing; trainable is a list of globs, or has lora, masks or soft_prompt");
    if (!config.good()) return config.finish();
    if (kind == "masks") {
      Settings masks = all.object("masks");
      return choose_masks(masks);
    }
    if (kind == "soft_prompt") {
      Settings prompt = all.object("soft_prompt");
      return choose_soft_prompt(prompt, seed);
    }
    Settings lora = all.object("lora");
    return choose_loras(lora, seed);
  }
  std::vector<std::string> globs = config.texts("trainable", {"*"});
  for (std::string& glob : globs) glob = glob == "all" ? "*" : glob;
  if (!config.good()) return config.finish();
  return train_values(globs, config.path_of("trainable"));
}

Status TrainedModel::train_values(const std::vector<std::string>& globs, const std::string& what) {
  std::vector<std::pair<std::string, std::string>> names;
  std::vector<Parameter> all = table();
  std::erase_if(all, [](const Parameter& p) { return p.fixed; });
  for (const Parameter& p : all) names.emplace_back(p.name, p.hf_name);
  FOVEA_RETURN_IF_ERROR(check_globs(globs, names, what));
  for (const Parameter& p : all) {
    if (!globs_choose(globs, p.name, p.hf_name)) continue;
    if (!is_float(p.target->view.dtype))
      return make_error(ErrorCode::kUnsupported,
                        "{}: {} is {}, and what is trained must be float: fovea quantize IN OUT --type f32 makes such "
                        "a model, and a LoRA can be trained as it is",
                        what, p.name, kernels::dtype_info(p.target->view.dtype).name);
    const Tensor value = p.target->value.defined() ? p.target->value : tensor::weight_values(*p.target);
    *p.target = Weight::from(p.name, value);
    params_.push_back({.name = p.name,
                       .hf_name = p.hf_name,
                       .value = value,
                       .table = is_table(p.name),
                       .least = p.least,
                       .most = p.most});
  }
  if (params_.empty()) return make_error(ErrorCode::kUsage, "{}: no parameter is left to train", what);
  return {};
}

Status TrainedModel::choose_loras(Settings& lora, uint64_t seed) {
  const int64_t rank = lora.integer("rank", 8, 1, static_cast<int64_t>(formats::LoraFile::kMaxRank));
  const double alpha = lora.number("alpha", static_cast<double>(rank), 1e-6, 1e9);
  const std::vector<std::string> targets = lora.texts("targets", {"q_proj", "v_proj"});
  const std::string init = lora.text("init", "");
  if (!lora.good()) return lora.finish();
  lora_scale_ = alpha / static_cast<double>(rank);
  std::set<std::string> unused(targets.begin(), targets.end());
  std::vector<std::string> modules;
  for (const Parameter& p : table()) {
    if (p.shape.size() != 2 || is_table(p.name)) continue;
    const std::string module = module_of(p);
    modules.push_back(module.substr(module.rfind('.') + 1));
    bool wanted = false;
    for (const std::string& target : targets) {
      if (module != target && !module.ends_with("." + target) && !names_param(target, p.name, module)) continue;
      unused.erase(target);
      wanted = true;
    }
    if (!wanted) continue;
    if (p.hf.row_end > 0 || p.hf.n_slices > 0)
      return make_error(ErrorCode::kUnsupported,
                        "{}: {} is a part of a fused tensor, of which a PEFT folder holds no LoRA of its own",
                        lora.path_of("targets"), p.name);
    // As PEFT draws them: a from Kaiming's uniform distribution with the gain of a leaky ReLU of sqrt(5), b zero.
    TrainedLora one{.of = p, .module = module};
    one.a =
        tensor::draw(tensor::Init::kaiming_uniform(0.57735027f), {rank, p.target->cols()}, seed, p.name + ".lora_a");
    one.b = Tensor::zeros({p.target->rows(), rank});
    loras_.push_back(std::move(one));
  }
  if (!unused.empty()) {
    lora.unknown_name("targets", *unused.begin(), [&] {
      const std::set<std::string> once(modules.begin(), modules.end());
      return std::vector<std::string>(once.begin(), once.end());
    }());
    return lora.finish();
  }
  if (!init.empty()) FOVEA_RETURN_IF_ERROR(begin_from(init));
  for (const TrainedLora& one : loras_) {
    FOVEA_RETURN_IF_ERROR(
        adapters_.add(*one.of.target, tensor::Lora{.a = one.a, .b = one.b, .scale = static_cast<float>(lora_scale_)}));
    params_.push_back({.name = one.of.name + ".lora_a", .hf_name = one.module + ".lora_A.weight", .value = one.a});
    params_.push_back({.name = one.of.name + ".lora_b", .hf_name = one.module + ".lora_B.weight", .value = one.b});
  }
  return {};
}

// The values of a PEFT folder in place of those drawn; all that it has must fit.
Status TrainedModel::begin_from(const std::string& folder) {
  FOVEA_ASSIGN_OR_RETURN(const formats::LoraFile file, formats::LoraFile::open(folder));
  size_t n = 0;
  for (TrainedLora& one : loras_) {
    const auto found = std::find_if(file.pairs.begin(), file.pairs.end(), [&](const formats::LoraPair& pair) {
      return pair.weight == one.module || one.module.ends_with("." + pair.weight);
    });
    if (found == file.pairs.end())
      return make_error(ErrorCode::kData, "{}: it has no LoRA of {}, which is to be trained", file.name, one.module);
    ++n;
    if (!(found->a.shape() == one.a.shape()) || !(found->b.shape() == one.b.shape()))
      return make_error(ErrorCode::kData, "{}: the LoRA of {} is {} and {}, and the config asks for {} and {}",
                        file.name, one.module, found->a.shape().to_string(), found->b.shape().to_string(),
                        one.a.shape().to_string(), one.b.shape().to_string());
    if (std::abs(found->scale - lora_scale_) > 1e-6 * lora_scale_)
      return make_error(ErrorCode::kData, "{}: the LoRA of {} counts {} times, and alpha / rank is {}", file.name,
                        one.module, found->scale, lora_scale_);
    std::copy_n(found->a.data(), one.a.elements(), one.a.data());
    const int64_t rank = one.a.dim(0);
    for (int64_t r = 0; r < one.b.dim(0); ++r)
      std::copy_n(found->b.data() + engine::row_in_adapter(r, one.of, *source_, config(), /*peft=*/true) * rank, rank,
                  one.b.data() + r * rank);
  }
  if (n != file.pairs.size())
    return make_error(ErrorCode::kData, "{}: it has LoRAs of {} weights, and {} are to be trained", file.name,
                      file.pairs.size(), n);
  return {};
}

Status TrainedModel::choose_masks(Settings& masks) {
  const bool heads = masks.flag("heads", false);
  const std::vector<std::string> targets =
      masks.texts("targets", heads ? std::vector<std::string>{"*.attn_output.weight"} : std::vector<std::string>());
  const double init = masks.number("init", 0.9, 1e-6, 1 - 1e-6);
  mask_temperature_ = masks.number("temperature", 1, 1e-3, 1e3);
  if (targets.empty()) masks.wrong("targets", "is missing; globs over the matrices of the model are needed");
  if (!masks.good()) return masks.finish();
  std::vector<Parameter> matrices = table();
  std::erase_if(matrices, [](const Parameter& p) { return p.target->rows() < 2 || is_table(p.name); });
  std::vector<std::pair<std::string, std::string>> names;
  for (const Parameter& p : matrices) names.emplace_back(p.name, p.hf_name);
  FOVEA_RETURN_IF_ERROR(check_globs(targets, names, masks.path_of("targets")));
  const auto begin = static_cast<float>(mask_temperature_ * std::log(init / (1 - init)));
  for (const Parameter& p : matrices) {
    if (!globs_choose(targets, p.name, p.hf_name)) continue;
    if (p.hf.row_end > 0 || p.hf.n_slices > 0 || p.gguf.n_slices > 0)
      return make_error(ErrorCode::kUnsupported, "{}: {} is a part of a larger tensor, and such have no masks",
                        masks.path_of("targets"), p.name);
    tensor::Shape shape = {p.target->rows(), p.target->cols()};
    if (heads) {
      int layer = 0;
      while (layer < config().shape.n_layers && p.name != fmt::format("blk.{}.attn_output.weight", layer)) ++layer;
      if (layer == config().shape.n_layers)
        return make_error(ErrorCode::kUsage, "{}: {} does not multiply what heads give", masks.path_of("targets"),
                          p.name);
      shape = {1, config().shape.site(layer).n_heads};
    }
    TrainedMask one{.of = p, .scores = Tensor::empty(shape)};
    std::fill_n(one.scores.data(), one.scores.elements(), begin);
    FOVEA_RETURN_IF_ERROR(adapters_.add(
        *p.target,
        tensor::Mask{.values = one.scores, .scores = true, .temperature = static_cast<float>(mask_temperature_)}));
    params_.push_back({.name = p.name + ".mask",
                       .hf_name = p.hf_name.empty() ? "" : p.hf_name + ".mask",
                       .value = one.scores,
                       .table = true});
    masks_.push_back(std::move(one));
  }
  if (masks_.empty()) masks.wrong("targets", "leaves no matrix to mask");
  return masks.good() ? Status() : masks.finish();
}

// They begin as what the model makes of tokens: those of a text, over and over where it is too short, or any.
Status TrainedModel::choose_soft_prompt(Settings& prompt, uint64_t seed) {
  const int64_t most = config().shape.n_ctx - context_;
  const std::string text = prompt.text("text", ""), init = prompt.text("init", "");
  const bool known = !text.empty() || !init.empty();
  int64_t n = prompt.integer("tokens", known ? std::optional<int64_t>(0) : std::nullopt, 1, INT32_MAX);
  if (!text.empty() && !init.empty()) prompt.wrong("init", "is there beside text; the rows begin as one of them");
  if (!text.empty() && !tokenizer_) prompt.wrong("text", "needs a tokenizer, and " + no_tokenizer_);
  if (!prompt.good()) return prompt.finish();
  if (!init.empty()) {
    FOVEA_ASSIGN_OR_RETURN(soft_prompt_, engine::read_soft_prompt(init, config().shape));
    if (n > 0 && n != soft_prompt_.dim(0))
      prompt.wrong("tokens", fmt::format("is {}; the soft prompt of init has {}", n, soft_prompt_.dim(0)));
    n = soft_prompt_.dim(0);
  }
  std::vector<int32_t> ids;
  if (!text.empty()) {
    FOVEA_ASSIGN_OR_RETURN(ids, tokenizer_->encode(text, {.add_special = false}));
    if (n == 0) n = static_cast<int64_t>(ids.size());
  }
  if (n > most)
    prompt.wrong("tokens", fmt::format("is {}; with a context of {} the model has room for {}", n, context_, most));
  if (!prompt.good()) return prompt.finish();
  if (!soft_prompt_.defined()) {
    Rng rng(seed);
    const auto n_ids = static_cast<uint64_t>(tokenizer_ ? std::min(tokenizer_->vocab_size(), config().shape.vocab_size)
                                                        : config().shape.vocab_size);
    const std::vector<int32_t> of_text = ids;
    ids.clear();
    for (size_t i = 0; i < static_cast<size_t>(n); ++i)
      ids.push_back(of_text.empty() ? static_cast<int32_t>(rng.below(n_ids)) : of_text[i % of_text.size()]);
    attention::Batch rows;
    rows.add(ids, 0, 0);
    attention::Hooks none(hooks());
    tensor::Exec exec{.numerics = tensor::Numerics::kExact};
    const tensor::ExecScope scope(exec);
    const Tensor x = family_->embed(rows, none);
    soft_prompt_ = Tensor::from(x.shape(), x.values());
  }
  params_.push_back({.name = "soft_prompt", .hf_name = "prompt_embeddings", .value = soft_prompt_, .table = true});
  return {};
}

namespace {

// The same with the rows of a soft prompt before each sequence, under ids that name nothing.
attention::Batch behind(const Tensor& soft_prompt, const attention::Batch& batch,
                        std::vector<models::GivenRows>& given) {
  const std::vector<int32_t> names(static_cast<size_t>(soft_prompt.dim(0)), 0);
  attention::Batch out;
  size_t wanted = 0;
  for (size_t begin = 0, end = 0; begin < batch.tokens.size(); begin = end) {
    while (end < batch.tokens.size() && batch.sequences[end] == batch.sequences[begin]) ++end;
    given.push_back({out.size(), soft_prompt});
    out.add(names, 0, batch.sequences[begin]);
    const auto later = static_cast<int32_t>(out.size()) - static_cast<int32_t>(begin);
    for (; wanted < batch.logit_rows.size() && batch.logit_rows[wanted] < static_cast<int32_t>(end); ++wanted)
      out.logit_rows.push_back(batch.logit_rows[wanted] + later);
    out.add(std::span(batch.tokens).subspan(begin, end - begin), static_cast<int32_t>(names.size()),
            batch.sequences[begin]);
  }
  return out;
}

}  // namespace

Tensor TrainedModel::forward(const MicroBatch& batch, attention::Hooks& hooks, const Pass& pass) const {
  const models::Config& config = family_->config();
  if (!pipeline_.dense()) {
    for (const attention::SequenceId sequence : batch.batch.sequences) pipeline_.remove(sequence);
  }
  const int64_t n_before = soft_prompt_.defined() ? soft_prompt_.dim(0) : 0;
  std::vector<models::GivenRows> given;
  const attention::Batch rows = n_before > 0 ? behind(soft_prompt_, batch.batch, given) : attention::Batch();
  return models::forward(*family_,
                         {.model = config.shape,
                          .ropes = config.ropes_for(static_cast<int>(context_ + n_before)),
                          .batch = n_before > 0 ? rows : batch.batch,
                          .pipeline = pipeline_.dense() ? nullptr : &pipeline_,
                          .cancel = pass.cancel},
                         hooks, {.given = given, .recompute = pass.recompute});
}

}  // namespace fovea::train

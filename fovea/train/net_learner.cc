#include "fovea/train/net_learner.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/mapped_file.h"
#include "fovea/base/replace_folder.h"
#include "fovea/formats/safetensors.h"
#include "fovea/formats/safetensors_writer.h"
#include "fovea/tensor/tape.h"
#include "fovea/train/nets/net.h"
#include "fovea/train/trained_net.h"

namespace fovea::train {
namespace {

using Json = nlohmann::ordered_json;
using tensor::Tensor;

// "init" of a net: a folder, or {"folder", "tensors"} for some of them.
struct InitFrom {
  std::string folder;
  std::vector<std::string> tensors;  // globs; none: all, and no other
};

InitFrom read_init(Settings& net) {
  const Json* init = net.any("init");
  if (!init || !init->is_object()) return {net.text("init", ""), {}};
  Settings some = net.object("init");
  InitFrom out{some.text("folder", std::nullopt), some.texts("tensors", {})};
  if (out.tensors.empty()) some.wrong("tensors", "is missing; globs over the net's parameters are needed");
  return out;
}

Status begin_from(const InitFrom& init, const TaskNet& net, const std::string& what) {
  if (init.tensors.empty()) return load_net_weights(init.folder, net);
  std::vector<std::pair<std::string, std::string>> names;
  for (const Param& param : net.params()) names.emplace_back(param.name, param.hf_name);
  FOVEA_RETURN_IF_ERROR(check_globs(init.tensors, names, what));
  return load_net_weights(init.folder, net, &init.tensors);
}

}  // namespace

bool is_task_net(Settings& settings) {
  const Json* model = settings.any("model");
  if (!model || !model->is_object()) return false;
  Settings net = settings.object("model");
  const std::string name = net.text("net", "");
  if (parts<TaskNet>().count(name) > 0) return true;
  if (!name.empty() && parts<Net>().count(name) == 0) {
    std::vector<std::string> all = part_names<TaskNet>();
    for (const std::string& one : part_names<Net>()) all.push_back(one);
    std::sort(all.begin(), all.end());
    net.unknown_name("net", name, all);
  }
  return false;
}

Result<std::unique_ptr<Learner>> NetLearner::open(Settings& settings, const TrainConfig& config) {
  std::unique_ptr<NetLearner> out(new NetLearner());
  const auto seed = static_cast<uint64_t>(settings.integer("init_seed", 0, 0, INT64_MAX));
  Settings net = settings.object("model");
  out->config_ = net.json();
  const InitFrom init = read_init(net);
  out->net_ = make_part<TaskNet>(net, "net", net.text("net", std::nullopt), {.seed = seed});
  if (settings.has("losses")) settings.wrong("losses", "is for models of text; this net has a loss of its own");
  if (config.recompute) settings.wrong("recompute", "is for models of text");
  if (!settings.good()) return settings.finish().error();
  if (!init.folder.empty()) FOVEA_RETURN_IF_ERROR(begin_from(init, *out->net_, net.path_of("init.tensors")));
  FOVEA_RETURN_IF_ERROR(out->choose(settings));
  const std::string methods = settings.text("attention", "dense");
  if (methods != "dense" && out->net_->shape().n_layers == 0) settings.wrong("attention", "needs a net that has some");
  if (!settings.good()) return settings.finish().error();
  if (methods != "dense") {
    FOVEA_ASSIGN_OR_RETURN(out->pipeline_, attention::Pipeline::parse(methods, out->net_->shape()));
  }
  for (const auto& method : out->pipeline_.methods()) {
    if (!method->parameters().empty())
      return make_error(ErrorCode::kUnsupported, "attention: {} has weights of its own, which this net cannot train",
                        method->info().name);
  }
  const TaskNet::Wants wants = out->net_->wants();
  if (wants.vocab_size > 0 && config.context == 0)
    settings.wrong("context", "is missing: the tokens of a sample at most");
  if (config.batch < wants.batch)
    settings.wrong("batch", fmt::format("is {}; this net tells the samples of a pass apart, and needs {} or more",
                                        config.batch, wants.batch));
  if (!settings.good()) return settings.finish().error();
  FOVEA_ASSIGN_OR_RETURN(out->data_, read_data(settings, config,
                                               {.no_tokenizer = "this net has none",
                                                .vocab_size = wants.vocab_size,
                                                .context = config.context > 0 ? config.context : 1 << 20,
                                                .seed = config.seed,
                                                .n_labels = wants.n_labels,
                                                .channels = wants.channels,
                                                .height = wants.height,
                                                .width = wants.width}));
  if (out->data_.eval && out->data_.n_eval < wants.batch)
    settings.wrong("eval", fmt::format("has {} sample, and this net tells {} or more of a pass apart",
                                       out->data_.n_eval, wants.batch));
  FOVEA_RETURN_IF_ERROR(settings.finish());
  const TaskNet& task = *out->net_;
  for (const Data* data : {out->data_.train.get(), out->data_.eval.get()}) {
    if (!data) continue;
    const std::string what = settings.path_of(data == out->data_.train.get() ? "data" : "eval");
    for (const Data* part : data->parts()) {
      FOVEA_RETURN_IF_ERROR(check_sample(task, part->sample(0), what));
      FOVEA_RETURN_IF_ERROR(out->check_targets(*part, what));
      FOVEA_RETURN_IF_ERROR(check_wanted(*part, what, [&](const Sample& sample) { return task.count({sample}); }));
    }
  }
  out->order_ = std::make_unique<Order>(*out->data_.train, config.shuffled, config.seed);
  out->batch_ = config.batch, out->accumulate_ = config.accumulate, out->seed_ = config.seed;
  return std::unique_ptr<Learner>(std::move(out));
}

// Ids of the vocabulary may be more than the net has outputs.
Status NetLearner::check_targets(const Data& data, const std::string& what) const {
  constexpr uint64_t kOfEndless = 1 << 10;  // what is drawn is all of one kind
  const TaskNet::Wants wants = net_->wants();
  if (wants.vocab_size == 0 || wants.n_labels == 0 || wants.n_labels >= wants.vocab_size) return {};
  const uint64_t n = data.size() == Data::kEndless ? kOfEndless : data.size();
  for (uint64_t i = 0; i < n; ++i) {
    for (const int32_t target : data.sample(i).targets) {
      if (target >= wants.n_labels)
        return make_error(ErrorCode::kData, "{}: sample {} wants {}, and the net has {} outputs", what, i, target,
                          wants.n_labels);
    }
  }
  return {};
}

Status NetLearner::choose(Settings& settings) {
  std::vector<std::string> globs = settings.texts("trainable", {"*"});
  for (std::string& glob : globs) glob = glob == "all" ? "*" : glob;
  if (!settings.good()) return settings.finish();
  std::vector<std::pair<std::string, std::string>> names;
  for (const Param& param : net_->params()) names.emplace_back(param.name, param.hf_name);
  FOVEA_RETURN_IF_ERROR(check_globs(globs, names, settings.path_of("trainable")));
  for (const Param& param : net_->params()) {
    if (globs_choose(globs, param.name, param.hf_name)) params_.push_back(param);
  }
  if (params_.empty())
    return make_error(ErrorCode::kUsage, "{}: no parameter is left to train", settings.path_of("trainable"));
  return {};
}

uint64_t NetLearner::key(int64_t step, size_t micro) const {
  return (seed_ + 1) * 0x9e3779b97f4a7c15u ^ static_cast<uint64_t>(step) << 20 ^ micro;
}

Trainer::Outcome NetLearner::step(Trainer& trainer, int64_t number, const std::atomic<bool>* cancel) {
  step_ = number;
  batches_ = samples_of_step(*order_, number, batch_, accumulate_);
  int64_t count = 0;
  for (const std::vector<Sample>& samples : batches_) count += net_->count(samples);
  attention::Hooks none(net_->hooks());
  return trainer.step(static_cast<int>(batches_.size()), [&](int micro) {
    const auto at = static_cast<size_t>(micro);
    if (cancel && cancel->load()) throw attention::Cancelled();
    if (net_->count(batches_[at]) == 0) return Tensor();
    const Tensor sum =
        net_->loss_sum(batches_[at], {none, pipeline_.dense() ? nullptr : &pipeline_, key(number, at), cancel});
    return tensor::affine(sum, 1 / static_cast<float>(count));
  });
}

int64_t NetLearner::tokens_of_step() const {
  int64_t n = 0;
  for (const auto& batch : batches_) {
    for (const Sample& sample : batch) n += sample.picture ? 1 : static_cast<int64_t>(sample.tokens.size());
  }
  return n;
}

double NetLearner::evaluate(Trainer& trainer, const std::atomic<bool>* cancel) {
  const Trainer::Averaged averaged(trainer);
  attention::Hooks none(net_->hooks());
  double sum = 0;
  int64_t count = 0, right = -1;
  for (int64_t begin = 0; begin < data_.n_eval; begin += batch_) {
    std::vector<Sample> samples;
    for (int64_t i = begin; i < std::min(data_.n_eval, begin + batch_); ++i)
      samples.push_back(data_.eval->sample(static_cast<uint64_t>(i)));
    const int64_t here = net_->count(samples);
    if (here == 0 || static_cast<int64_t>(samples.size()) < net_->wants().batch) continue;
    if (cancel && cancel->load()) throw attention::Cancelled();
    tensor::Exec exec{.arena = &trainer.arena(), .numerics = tensor::Numerics::kExact};
    const tensor::ExecScope scope(exec);
    // What is drawn on the way is the same at every evaluation.
    const auto loss = net_->loss_sum(samples, {.hooks = none,
                                               .pipeline = pipeline_.dense() ? nullptr : &pipeline_,
                                               .key = key(begin, 0) ^ 0x5deece66du,
                                               .cancel = cancel,
                                               .n_right = &right});
    sum += double{loss.data()[0]};
    count += here;
  }
  eval_accuracy_.reset();
  if (right >= 0 && count > 0) eval_accuracy_ = static_cast<double>(right) / static_cast<double>(count);
  return count > 0 ? sum / static_cast<double>(count) : 0;
}

std::string NetLearner::first_bad(Trainer& trainer) const {
  for (const Param& param : net_->params()) {
    if (!all_finite(param.value)) return "parameter " + param.name;
  }
  std::string found;
  attention::Hooks hooks(net_->hooks());
  for (const std::string& name : hooks.model().names()) {
    if (name.ends_with("hook_attn_scores") || name.ends_with("hook_pattern")) continue;  // made where there is a cache
    (void)hooks.attach(name, [&found](const std::string& site, Tensor& x) {
      if (found.empty() && !all_finite(x)) found = site;
    });
  }
  for (size_t i = 0; i < batches_.size() && found.empty(); ++i) {
    tensor::Exec exec{.arena = &trainer.arena(), .numerics = tensor::Numerics::kExact};
    const tensor::ExecScope scope(exec);
    if (net_->count(batches_[i]) > 0)
      (void)net_->loss_sum(batches_[i], {hooks, pipeline_.dense() ? nullptr : &pipeline_, key(step_, i), nullptr});
  }
  return found;
}

Result<std::string> NetLearner::save(const std::string& out, const Json& training) const {
  const std::string to = out + "/model";
  const auto write = [&](const std::string& folder) -> Status {
    std::vector<formats::SafeTensor> header;
    for (const Param& param : net_->params())
      header.push_back({param.name, formats::SafeDtype::kF32, dims_of(param.value)});
    FOVEA_ASSIGN_OR_RETURN(
        auto file, formats::SafetensorsWriter::create(folder + "/model.safetensors", header, {{"format", "pt"}}));
    for (const Param& param : net_->params()) FOVEA_RETURN_IF_ERROR(file.write(param.value.values()));
    FOVEA_RETURN_IF_ERROR(file.commit());
    const Json config = {{"model_type", "fovea-net"}, {"net", config_}, {"fovea", training}};
    return write_file_atomic(folder + "/config.json", config.dump(2) + "\n");
  };
  FOVEA_RETURN_IF_ERROR(replace_folder(to, OldFiles::kLost, write));
  return to;
}

}  // namespace fovea::train

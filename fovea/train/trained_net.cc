#include "fovea/train/trained_net.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>

#include "fovea/attention/kv_cache.h"
#include "fovea/base/bytes.h"
#include "fovea/base/json.h"
#include "fovea/base/mapped_file.h"
#include "fovea/base/numbers.h"
#include "fovea/formats/safetensors.h"
#include "fovea/tensor/exec.h"

namespace fovea::train {
namespace {

using Json = nlohmann::ordered_json;
using tensor::Tensor;

constexpr uint64_t kMaxNetConfigBytes = uint64_t{16} << 20;

Result<Json> net_config(const std::string& folder) {
  FOVEA_ASSIGN_OR_RETURN(Json config, read_json(folder + "/config.json", kMaxNetConfigBytes));
  if (!config.is_object() || config.value("model_type", Json()) != "fovea-net" || !config["net"].is_object())
    return make_error(ErrorCode::kData, "{}: it is no net that was trained here", quote(folder + "/config.json", 4096));
  return config;
}

Result<std::unique_ptr<TaskNet>> net_of(const std::string& folder, const Json& config) {
  const std::string name = quote(folder + "/config.json", 4096);
  Settings settings(config["net"], name);
  (void)settings.any("init");
  auto net = make_part<TaskNet>(settings, "net", settings.text("net", std::nullopt), {.seed = 0});
  if (const Status read = settings.finish(); !read) return Error{ErrorCode::kData, read.error().message, {}};
  FOVEA_RETURN_IF_ERROR(load_net_weights(folder, *net));
  return net;
}

// The data of its training that it did not learn from, or all of them.
Result<std::pair<Json, int64_t>> own_data(const std::string& folder, const Json& config) {
  const Json& training = config.contains("fovea") ? config["fovea"] : Json();
  const Json run = training.is_object() ? training.value("config", Json()) : Json();
  if (!run.is_object() || !run.contains("data"))
    return make_error(ErrorCode::kUsage,
                      "{}: it does not say what it was trained on; --data says what it is to look at",
                      quote(folder, 4096));
  const bool held_out = run.contains("eval") && run["eval"].is_object() && run["eval"].contains("data");
  const Json context = run.value("context", Json());
  return std::pair(held_out ? run["eval"]["data"] : run["data"],
                   context.is_number_integer() ? std::clamp<int64_t>(context.get<int64_t>(), 1, 1 << 24) : 0);
}

bool has_rows(const attention::HookPoint& point) {
  return point.site == attention::Site::kScores || point.site == attention::Site::kPattern;
}

// Rows of attention show where it goes through a cache, as with any model.
struct Look {
  Look(const TaskNet& net, bool rows) : hooks(net.hooks()) {
    if (rows) cache.emplace(attention::CacheShape::of(net.shape(), kernels::KvType::kF32));
  }
  attention::Hooks hooks;
  std::optional<attention::KvCache> cache;
};

}  // namespace

bool is_net_folder(const std::string& folder) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(folder + "/config.json", ignored)) return false;
  const auto config = read_json(folder + "/config.json", kMaxNetConfigBytes);
  return config && config->is_object() && config->value("model_type", Json()) == "fovea-net";
}

Status load_net_weights(const std::string& folder, const TaskNet& net, const std::vector<std::string>* globs) {
  const std::string path = folder + "/model.safetensors", where = quote(path, 4096);
  FOVEA_ASSIGN_OR_RETURN(const auto file, MappedFile::open(path));
  FOVEA_ASSIGN_OR_RETURN(const formats::Safetensors read, formats::parse_safetensors(file->bytes(), path));
  for (const Param& param : net.params()) {
    if (globs && !globs_choose(*globs, param.name, param.hf_name)) continue;
    const auto found = std::find_if(read.tensors.begin(), read.tensors.end(),
                                    [&](const formats::TensorInfo& tensor) { return tensor.name == param.name; });
    if (found == read.tensors.end())
      return make_error(ErrorCode::kData, "{}: it has no {}, which the net has", where, param.name);
    std::vector<int64_t> dims(found->dims.rbegin(), found->dims.rend());
    if (dims != dims_of(param.value) || found->dtype != kernels::DType::kF32)
      return make_error(ErrorCode::kData, "{}: {} is [{}] of {}, and the net has {} of F32", where, param.name,
                        fmt::join(dims, ", "), kernels::dtype_info(found->dtype).name, param.value.shape().to_string());
    Tensor value = param.value;
    std::memcpy(value.data(), found->data.data(), found->data.size());
  }
  if (!globs && read.tensors.size() != net.params().size())
    return make_error(ErrorCode::kData, "{}: it has {} tensors, and the net {}", where, read.tensors.size(),
                      net.params().size());
  return file->check_intact();
}

Status check_sample(const TaskNet& net, const Sample& sample, const std::string& what) {
  const TaskNet::Wants wants = net.wants();
  const Picture* picture = sample.picture.get();
  if (wants.channels > 0 && !picture)
    return make_error(ErrorCode::kUsage, "{}: it has no pictures, which this net looks at", what);
  if (wants.channels > 0 && (picture->channels != wants.channels ||
                             (wants.height > 0 && picture->height != wants.height) || picture->width != wants.width))
    return make_error(ErrorCode::kUsage, "{}: its pictures are {} x {} x {}, and the net looks at {} x {} x {}", what,
                      picture->channels, picture->height, picture->width, wants.channels,
                      wants.height > 0 ? std::to_string(wants.height) : "any", wants.width);
  if (wants.channels > 0 && wants.n_labels > 0 && picture->label < 0)
    return make_error(ErrorCode::kUsage, "{}: its pictures have no labels, which this net learns", what);
  if (wants.vocab_size > 0 && sample.tokens.empty())
    return make_error(ErrorCode::kUsage, "{}: its samples have no tokens, which this net reads", what);
  if (const std::string wrong = net.misfit(sample); !wrong.empty())
    return make_error(ErrorCode::kUsage, "{}: its first sample {}", what, wrong);
  return {};
}

Result<std::unique_ptr<TaskNet>> open_net(const std::string& folder) {
  FOVEA_ASSIGN_OR_RETURN(const Json config, net_config(folder));
  return net_of(folder, config);
}

Result<TrainedNet> open_net(const std::string& folder, const std::string& data) {
  FOVEA_ASSIGN_OR_RETURN(const Json config, net_config(folder));
  TrainedNet out;
  FOVEA_ASSIGN_OR_RETURN(out.net, net_of(folder, config));
  Json wanted;
  int64_t context = 0;
  if (const auto own = own_data(folder, config); own) {
    std::tie(wanted, context) = *own;
  } else if (data.empty()) {
    return own.error();
  }
  if (!data.empty()) {
    FOVEA_ASSIGN_OR_RETURN(wanted, parse_json(data, "--data"));
  }
  Settings settings(wanted, data.empty() ? quote(folder, 4096) + ": data" : "--data");
  const TaskNet::Wants wants = out.net->wants();
  out.data = make_data(settings, {.no_tokenizer = "this net has none",
                                  .vocab_size = wants.vocab_size,
                                  .context = context > 0 ? context : 1 << 20,
                                  .n_labels = wants.n_labels,
                                  .channels = wants.channels,
                                  .height = wants.height,
                                  .width = wants.width});
  FOVEA_RETURN_IF_ERROR(settings.finish());
  return out;
}

Result<std::vector<std::pair<std::string, Tensor>>> capture(const TrainedNet& trained,
                                                            const std::vector<std::string>& hooks, int64_t n,
                                                            const std::string& attention, uint64_t max_bytes,
                                                            const std::atomic<bool>* cancel) {
  const TaskNet& net = *trained.net;
  attention::Pipeline pipeline;
  if (attention != "dense" && net.shape().n_layers == 0)
    return make_error(ErrorCode::kUsage, "--attention: this net has none");
  if (attention != "dense") {
    FOVEA_ASSIGN_OR_RETURN(pipeline, attention::Pipeline::parse(attention, net.shape()));
  }
  if (hooks.empty()) return make_error(ErrorCode::kUsage, "no hook was named; fovea show MODEL --hooks lists them");
  std::vector<std::string> names;
  bool rows = false;
  const attention::HookMap map = net.hooks();
  for (const std::string& one : hooks) {
    FOVEA_ASSIGN_OR_RETURN(const auto points, attention::find_hooks(one, map));
    for (const attention::HookPoint& point : points) {
      rows = rows || has_rows(point);
      if (has_rows(point) && net.shape().site(point.layer).k_dim % 8 != 0)
        return make_error(ErrorCode::kUnsupported,
                          "{}: the heads are {} wide, and rows are shown of widths in steps of 8", map.name(point),
                          net.shape().site(point.layer).k_dim);
      if (std::find(names.begin(), names.end(), map.name(point)) == names.end()) names.push_back(map.name(point));
    }
  }
  if (static_cast<uint64_t>(n) > trained.data->size())
    return make_error(ErrorCode::kUsage, "--samples {}: the data have {}", n, trained.data->size());
  std::map<std::string, std::vector<Tensor>> found;
  uint64_t bytes = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (cancel && cancel->load()) return make_error(ErrorCode::kCancelled, "interrupted");
    const Sample sample = trained.data->sample(static_cast<uint64_t>(i));
    FOVEA_RETURN_IF_ERROR(check_sample(net, sample, "the data"));
    Look look(net, rows);
    for (const std::string& name : names) {
      FOVEA_RETURN_IF_ERROR(look.hooks.attach(name, [&found, &bytes, i](const std::string& fired, Tensor& value) {
        std::vector<Tensor>& all = found[fired];
        if (static_cast<int64_t>(all.size()) > i) return;  // the first time of a sample
        all.push_back(Tensor::from(value.shape(), value.values()));
        bytes += static_cast<uint64_t>(value.elements()) * sizeof(float);
      }));
    }
    tensor::Exec exec{.numerics = tensor::Numerics::kExact};
    const tensor::ExecScope scope(exec);
    try {
      (void)net.loss_sum({sample}, {look.hooks, pipeline.dense() ? nullptr : &pipeline, static_cast<uint64_t>(i),
                                    cancel, look.cache ? &*look.cache : nullptr});
    } catch (const attention::Cancelled&) {
      return make_error(ErrorCode::kCancelled, "interrupted");
    }
    FOVEA_RETURN_IF_ERROR(look.hooks.check_fired());
    if (max_bytes > 0 && bytes > max_bytes)
      return make_error(ErrorCode::kLimit,
                        "{} samples take more than the limit of {}; name fewer hooks or --samples, or "
                        "raise --max-bytes",
                        n, size_text(static_cast<double>(max_bytes)));
  }
  std::vector<std::pair<std::string, Tensor>> out;
  for (const std::string& name : names) {
    const std::vector<Tensor>& all = found[name];
    std::vector<int64_t> dims = dims_of(all[0]);
    for (const Tensor& one : all) {
      if (dims_of(one) != dims)
        return make_error(ErrorCode::kUsage,
                          "{}: its values differ in shape from sample to sample: {} and {}; take one "
                          "(--samples 1)",
                          name, all[0].shape().to_string(), one.shape().to_string());
    }
    if (dims.size() == 4 && dims[0] == 1) {
      dims[0] = n;  // a batch of one picture
    } else {
      dims.insert(dims.begin(), n);
    }
    Tensor together = Tensor::empty(tensor::Shape(std::span<const int64_t>(dims)));
    for (size_t i = 0; i < all.size(); ++i)
      std::copy_n(all[i].data(), all[i].elements(), together.data() + static_cast<int64_t>(i) * all[i].elements());
    out.emplace_back(name, together);
  }
  return out;
}

}  // namespace fovea::train

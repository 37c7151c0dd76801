#include "apps/cli/show_parts.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "fovea/base/bytes.h"
#include "fovea/base/json.h"
#include "fovea/base/mapped_file.h"
#include "fovea/base/numbers.h"
#include "fovea/formats/gguf.h"
#include "fovea/formats/hf_folder.h"
#include "fovea/formats/lora_file.h"
#include "fovea/formats/safetensors.h"
#include "fovea/train/trained_net.h"

namespace fovea::cli {
namespace show_parts {

namespace fs = std::filesystem;
using nlohmann::json;

uint64_t bytes_of(const std::vector<std::shared_ptr<const MappedFile>>& files) {
  uint64_t bytes = 0;
  for (const auto& file : files) bytes += file->bytes().size();
  return bytes;
}

// fovea.json beside an adapter that was trained here.
json training_of(const std::string& folder) {
  std::error_code error;
  if (!fs::exists(folder + "/fovea.json", error)) return {};
  auto training = read_json(folder + "/fovea.json", uint64_t{1} << 24);
  return training ? json(*training) : json();
}

Status show_lora(const std::string& path, const std::string& folder, const Common& common) {
  FOVEA_ASSIGN_OR_RETURN(const formats::LoraFile lora, formats::LoraFile::open(path));
  json pairs = json::array();
  int64_t n_params = 0;
  std::set<int64_t> ranks;
  for (const formats::LoraPair& pair : lora.pairs) {
    n_params += pair.a.elements() + pair.b.elements();
    ranks.insert(pair.a.dim(0));
    pairs.push_back({{"weight", pair.weight},
                     {"shape", {pair.b.dim(0), pair.a.dim(1)}},
                     {"rank", pair.a.dim(0)},
                     {"scale", pair.scale}});
  }
  for (const formats::LoraBase& base : lora.bases) n_params += base.values.elements();
  const char* format = lora.kind == formats::LoraFile::Kind::kPeft ? "PEFT" : "GGUF";
  const json training = folder.empty() ? json() : training_of(folder);
  if (common.json) {
    json out = {{"kind", "lora"},
                {"path", path},
                {"format", format},
                {"bytes", bytes_of(lora.files)},
                {"architecture", lora.architecture.empty() ? json() : json(lora.architecture)},
                {"base_model", lora.base_model.empty() ? json() : json(lora.base_model)},
                {"n_params", n_params},
                {"pairs", pairs}};
    if (!training.is_null()) out["training"] = training;
    return print_json(out);
  }
  std::string of = lora.base_model.empty() ? lora.architecture : lora.base_model;
  std::string out = fmt::format(
      "path        {}\nkind        LoRA adapter ({}), {}\nmade for    {}\nparameters  {}\nrank        {}\npairs       "
      "{}\n",
      escaped_line(path), format, size_text(static_cast<double>(bytes_of(lora.files))),
      of.empty() ? "it does not say" : escaped_line(of), n_params, fmt::join(ranks, ", "), lora.pairs.size());
  for (const json& pair : pairs)
    out += fmt::format("  {} [{} x {}], rank {}, times {:.4g}\n", escaped_line(pair["weight"].get<std::string>()),
                       pair["shape"][0].get<int64_t>(), pair["shape"][1].get<int64_t>(), pair["rank"].get<int64_t>(),
                       pair["scale"].get<double>());
  if (!training.is_null()) out += fmt::format("training\n{}\n", escaped_text(training.dump(2)));
  return print(out + fmt::format("used by     fovea run -m MODEL --lora {}\n", escaped_line(path)));
}

Status show_net(const std::string& folder, const json& config, bool list_hooks, const Common& common) {
  const std::string path = folder + "/model.safetensors";
  FOVEA_ASSIGN_OR_RETURN(const auto file, MappedFile::open(path));
  FOVEA_ASSIGN_OR_RETURN(const formats::Safetensors read, formats::parse_safetensors(file->bytes(), path));
  json tensors = json::array();
  int64_t n_params = 0;
  for (const formats::TensorInfo& t : read.tensors) {
    int64_t n = 1;
    for (const int64_t dim : t.dims) n *= dim;
    n_params += n;
    tensors.push_back({{"name", t.name},
                       {"dtype", kernels::dtype_info(t.dtype).name},
                       {"shape", std::vector<int64_t>(t.dims.rbegin(), t.dims.rend())},
                       {"bytes", t.bytes}});
  }
  FOVEA_RETURN_IF_ERROR(file->check_intact());
  // A file of another build may have parts that this one does not know: all else is shown.
  std::vector<std::string> hooks;
  if (const auto opened = train::open_net(folder); opened) hooks = (*opened)->hooks().names();
  if (list_hooks && !common.json) return print(fmt::format("{}\n", fmt::join(hooks, "\n")));
  const json net = config.value("net", json::object()), training = config.value("fovea", json());
  const std::string name = net.is_object() && net.contains("net") && net["net"].is_string()
                               ? net["net"].get<std::string>()
                               : std::string("a net without a name");
  if (common.json) {
    json out = {{"kind", "net"},
                {"path", folder},
                {"net", name},
                {"settings", net},
                {"bytes", file->bytes().size()},
                {"n_params", n_params},
                {"tensors", tensors},
                {"hooks", hooks}};
    if (!training.is_null()) out["training"] = training;
    return print_json(out);
  }
  std::string out = fmt::format(
      "path        {}\nkind        {}, a net trained here, {}\nparameters  {}\nsettings    {}\n", escaped_line(folder),
      escaped_line(name), size_text(static_cast<double>(file->bytes().size())), n_params, escaped_line(net.dump()));
  if (!hooks.empty())
    out += fmt::format("hooks       {} names, such as {}; all of them: fovea show {} --hooks\n", hooks.size(),
                       hooks.back(), escaped_line(folder));
  out += "tensors\n";
  for (const json& t : tensors)
    out += fmt::format("  {} [{}] {}\n", escaped_line(t["name"].get<std::string>()),
                       fmt::join(t["shape"].get<std::vector<int64_t>>(), ", "), t["dtype"].get<std::string>());
  if (!training.is_null()) out += fmt::format("training\n{}\n", escaped_text(training.dump(2)));
  return print(out);
}

// A soft prompt or masks, as `fovea train` writes them; false if the file is neither.
Result<bool> show_learned(const std::string& path, const Common& common) {
  FOVEA_ASSIGN_OR_RETURN(const auto file, MappedFile::open(path));
  FOVEA_ASSIGN_OR_RETURN(const formats::Safetensors read, formats::parse_safetensors(file->bytes(), path));
  const bool is_prompt = read.tensors.size() == 1 && read.tensors[0].name == "prompt_embeddings";
  const auto found = read.metadata.find("fovea.training"), base = read.metadata.find("base_model_name_or_path");
  if (!is_prompt && found == read.metadata.end()) return false;
  json training, tensors = json::array();
  if (found != read.metadata.end()) {
    if (auto parsed = parse_json(found->second, "fovea.training"); parsed) training = json(*parsed);
  }
  for (const formats::TensorInfo& t : read.tensors) {
    json one = {{"name", t.name}, {"shape", std::vector<int64_t>(t.dims.rbegin(), t.dims.rend())}};
    if (!is_prompt && t.dtype == kernels::DType::kF32) {
      std::vector<float> values(t.data.size() / sizeof(float));
      std::memcpy(values.data(), t.data.data(), values.size() * sizeof(float));
      const auto kept = std::count_if(values.begin(), values.end(), [](float x) { return x != 0; });
      one["kept"] = static_cast<double>(kept) / static_cast<double>(std::max<size_t>(1, values.size()));
    }
    tensors.push_back(std::move(one));
  }
  FOVEA_RETURN_IF_ERROR(file->check_intact());
  const char* kind = is_prompt ? "soft prompt" : "masks";
  if (common.json) {
    json out = {{"kind", kind}, {"path", path}, {"bytes", file->bytes().size()}, {"tensors", tensors}};
    if (base != read.metadata.end()) out["base_model"] = base->second;
    if (!training.is_null()) out["training"] = training;
    FOVEA_RETURN_IF_ERROR(print_json(out));
    return true;
  }
  std::string out = fmt::format("path        {}\nkind        {}\n", escaped_line(path), kind);
  if (base != read.metadata.end()) out += fmt::format("base model  {}\n", escaped_line(base->second));
  for (const json& t : tensors) {
    out += fmt::format("  {} [{}]", escaped_line(t["name"].get<std::string>()),
                       fmt::join(t["shape"].get<std::vector<int64_t>>(), ", "));
    out += t.contains("kept") ? fmt::format(" keeps {:.1f} %\n", 100 * t["kept"].get<double>()) : "\n";
  }
  if (!training.is_null()) out += fmt::format("training\n{}\n", escaped_text(training.dump(2)));
  out +=
      fmt::format("used by     fovea run -m MODEL --{} {}\n", is_prompt ? "soft-prompt" : "masks", escaped_line(path));
  FOVEA_RETURN_IF_ERROR(print(out));
  return true;
}

}  // namespace show_parts

Result<bool> show_part(const std::string& path, bool list_hooks, const Common& common) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (fs::path(path).extension() == ".gguf") {
    const auto file = formats::Gguf::open(path);
    if (!file || file.value()->text_of("general.type") != "adapter") return false;
    FOVEA_RETURN_IF_ERROR(show_parts::show_lora(path, "", common));
    return true;
  }
  const std::string name = fs::path(path).filename().string();
  const bool in_folder = name == "adapter_config.json";
  const std::optional<std::string> folder =
      in_folder ? fs::path(path).parent_path().string() : formats::HfFolder::folder_of(path);
  if (!folder) return false;
  const std::string at = folder->empty() ? "." : *folder;
  if (!fs::exists(at + "/config.json", ignored)) {
    if (!fs::exists(at + "/adapter_config.json", ignored))
      return fs::is_regular_file(path, ignored) ? show_parts::show_learned(path, common) : Result<bool>(false);
    FOVEA_RETURN_IF_ERROR(show_parts::show_lora(path, at, common));
    return true;
  }
  const auto config = read_json(at + "/config.json", formats::HfFolder::kMaxConfigBytes);
  if (!config || !config->is_object() || config->value("model_type", nlohmann::ordered_json()) != "fovea-net")
    return false;
  FOVEA_RETURN_IF_ERROR(show_parts::show_net(at, nlohmann::json(*config), list_hooks, common));
  return true;
}

}  // namespace fovea::cli

// fovea show MODEL
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "apps/cli/show_parts.h"
#include "fovea/base/bytes.h"
#include "fovea/base/json.h"
#include "fovea/engine/model_check.h"
#include "fovea/kernels/matmul.h"
#include "fovea/kernels/wide_form.h"
#include "fovea/models/family.h"
#include "fovea/store/model_store.h"

namespace fovea::cli {
namespace show_command {

// What products read of a matrix that is packed: types without a kernel of their own take a wider form.
uint64_t packed_bytes(const formats::TensorInfo& t) {
  return t.dims.size() == 2 ? kernels::packed_bytes({t.dtype, t.dims[1], t.dims[0], nullptr}, kernels::Numerics::kFast)
                            : 0;
}

nlohmann::json tensors_json(const formats::ModelSource& source) {
  nlohmann::json rows = nlohmann::json::array();
  for (const auto& t : source.tensors()) {
    // Row-major, as the rest of the program says it: the file has the fastest dimension first.
    const std::vector<int64_t> shape(t.dims.rbegin(), t.dims.rend());
    rows.push_back({{"name", t.name},
                    {"dtype", kernels::dtype_info(t.dtype).name},
                    {"shape", shape},
                    {"bytes", t.bytes},
                    {"packed_bytes", packed_bytes(t)}});
  }
  return rows;
}

// How many tensors of each type, their bytes, and where those are many more in products, how many.
std::string tensor_summary(const formats::ModelSource& source) {
  struct Sum {
    int n = 0;
    uint64_t bytes = 0, matrices = 0, packed = 0;
  };
  std::map<std::string, Sum> by_type;
  for (const auto& t : source.tensors()) {
    Sum& sum = by_type[std::string(kernels::dtype_info(t.dtype).name)];
    ++sum.n, sum.bytes += t.bytes;
    if (packed_bytes(t) > 0) sum.matrices += t.bytes, sum.packed += packed_bytes(t);
  }
  std::string out;
  for (const auto& [type, sum] : by_type) {
    out += fmt::format("  {:8} {:5} tensors {:10.1f} MB", type, sum.n, static_cast<double>(sum.bytes) / 1e6);
    if (kernels::is_widened(sum.matrices, sum.packed))
      out += fmt::format(", multiplied in a wider form of {:.1f} MB", static_cast<double>(sum.packed) / 1e6);
    out += "\n";
  }
  return out;
}

Status show(const std::string& name, bool list_hooks, const Common& common) {
  FOVEA_ASSIGN_OR_RETURN(const std::string path, store::resolve_model(name));
  FOVEA_ASSIGN_OR_RETURN(const bool shown, show_part(path, list_hooks, common));
  if (shown) return {};
  FOVEA_ASSIGN_OR_RETURN(const auto source, formats::open_model(path));
  FOVEA_ASSIGN_OR_RETURN(const engine::ModelSizes s, engine::read_sizes(*source));
  const store::StoredModel model = store::describe_model(path, *source);
  const auto chat_template = source->get_string("tokenizer.chat_template");
  const auto config = models::read_config(*source);  // a model that is refused has sizes to show all the same
  const auto family =
      models::make_family(config ? *config : models::Config{.architecture = s.architecture, .shape = s.shape()});
  const std::vector<std::string> hooks = family->hooks().names();
  const auto pattern =
      std::find_if(hooks.begin(), hooks.end(), [](const auto& h) { return h.ends_with("hook_pattern"); });
  const std::string& such_as = pattern == hooks.end() ? hooks.front() : *pattern;
  // How it was trained, where this program did.
  nlohmann::json training;
  if (const auto text = source->get_string("fovea.training"); text) {
    if (auto parsed = parse_json(*text, "fovea.training"); parsed) training = *parsed;
  }
  FOVEA_RETURN_IF_ERROR(source->check_intact());
  if (common.json) {
    nlohmann::json out = {{"name", model.name},
                          {"path", path},
                          {"bytes", model.bytes},
                          {"architecture", s.architecture},
                          {"quantization", model.quantization},
                          {"n_layers", s.n_layers},
                          {"n_heads", s.n_heads},
                          {"n_kv_heads", s.n_kv_heads},
                          {"head_dim", s.head_dim},
                          {"d_model", s.d_model},
                          {"d_ff", s.d_ff},
                          {"vocab_size", s.vocab_size},
                          {"n_ctx", s.n_ctx},
                          {"n_params", model.n_params},
                          {"tensors", tensors_json(*source)},
                          {"hooks", hooks}};
    if (!training.is_null()) out["training"] = training;
    out["chat_template"] = chat_template ? nlohmann::json(chat_template.value()) : nlohmann::json();
    return print_json(out);
  }
  if (list_hooks) return print(fmt::format("{}\n", fmt::join(hooks, "\n")));
  std::string out = fmt::format(
      "path          {}\narchitecture  {}, {} parameters, {}\nlayers        {}\nheads         {} of {}, {} KV "
      "heads\nwidth         {}, {} in the MLP\n"
      "vocabulary    {}\ncontext       {}\ntensors\n{}hooks         {} names, such as {}; all of them: fovea show {} "
      "--hooks\n",
      escaped_line(path), escaped_line(s.architecture), model.n_params, escaped_line(model.quantization), s.n_layers,
      s.n_heads, s.head_dim, s.n_kv_heads, s.d_model, s.d_ff, s.vocab_size, s.n_ctx, tensor_summary(*source),
      hooks.size(), such_as, escaped_line(name));
  if (!training.is_null()) out += fmt::format("training\n{}\n", escaped_text(training.dump(2)));
  out +=
      chat_template ? fmt::format("chat template\n{}\n", escaped_text(chat_template.value())) : "chat template none\n";
  return print(out);
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto name = std::make_shared<std::string>();
  auto hooks = std::make_shared<bool>(false);
  sub.add_option("MODEL", *name,
                 "a name from `fovea list --all`, a .gguf file or a Hugging Face folder; a LoRA adapter, a net, a soft "
                 "prompt or masks "
                 "of `fovea train`, too")
      .required();
  sub.add_flag("--hooks", *hooks, "print the name of every hook, one a line");
  return [name, hooks, &common] { return show(*name, *hooks, common); };
}

FOVEA_COMMAND("show", "one model's sizes, tensors, chat template and hooks", "fovea show smollm2-135m", setup)

}  // namespace show_command
}  // namespace fovea::cli

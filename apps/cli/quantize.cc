// fovea quantize IN OUT --type T
#include <fmt/ranges.h>

#include <map>
#include <nlohmann/json.hpp>

#include "apps/cli/inputs.h"
#include "apps/cli/model_session.h"
#include "fovea/base/bytes.h"
#include "fovea/base/text_file.h"
#include "fovea/engine/convert/quantized.h"
#include "fovea/formats/hf_folder.h"
#include "fovea/formats/requantize.h"
#include "fovea/store/model_store.h"
#include "fovea/tasks/kl.h"

namespace fovea::cli {
namespace quantize_command {

struct Options {
  std::string in, out, type, importance, text;
  bool dry_run = false;
  int window = 512;
};

// How far the new model is from the old one on a text, both in float32.
Result<tasks::Divergence> divergence(const Common& common, const Options& options, const std::string& in,
                                     const std::string& text) {
  Common of_in = common, of_out = common;
  of_in.model = in, of_out.model = options.out;
  of_in.numerics = of_out.numerics = "exact";
  ModelFlags flags;
  flags.n_ctx = options.window;
  FOVEA_ASSIGN_OR_RETURN(const auto before, load_model(of_in, flags));
  FOVEA_ASSIGN_OR_RETURN(const auto after, load_model(of_out, flags));
  FOVEA_ASSIGN_OR_RETURN(const tasks::Windows windows, tasks::cut_windows(text, *before, options.window, 0));
  FOVEA_ASSIGN_OR_RETURN(const auto reference, open_session(before, of_in, flags));
  FOVEA_ASSIGN_OR_RETURN(const auto other, open_session(after, of_out, flags));
  Progress bar("comparing", windows.tokens.size(), "tokens", 1.0, common.quiet);
  return tasks::measure_divergence(
      *reference, *other, windows,
      {.progress = [&bar](size_t done) { bar.update(done); }, .cancel = &Interrupt::flag()});
}

Status quantize(const Options& options, const Common& common) {
  const Interrupt interrupt;
  FOVEA_ASSIGN_OR_RETURN(const kernels::DType type, formats::parse_type(options.type));
  std::string text;
  if (!options.text.empty()) {
    FOVEA_ASSIGN_OR_RETURN(text, read_text_file(options.text));
    if (text.empty()) return make_error(ErrorCode::kUsage, "--file {}: the text is empty", quote(options.text, 4096));
  }
  FOVEA_ASSIGN_OR_RETURN(const std::string path, store::resolve_model(options.in));
  // A file of a folder too: the folder as GGUF is in memory by the time that it is written.
  const std::string folder = formats::HfFolder::folder_of(path).value_or("");
  FOVEA_RETURN_IF_ERROR(check_not_an_input(options.out, {folder, options.importance, options.text}));
  FOVEA_ASSIGN_OR_RETURN(const auto in, engine::open_as_gguf(path, &Interrupt::flag()));
  formats::Importance importance;
  if (!options.importance.empty()) {
    FOVEA_ASSIGN_OR_RETURN(importance, formats::Importance::open(options.importance));
  }
  const std::vector<formats::PlannedTensor> plan = formats::plan_types(*in, type);
  uint64_t bytes = 0, bytes_in = 0;
  int n_made = 0, n_weighted = 0;
  std::map<std::string, std::pair<int, uint64_t>> by_type;
  for (const formats::PlannedTensor& planned : plan) {
    bytes += planned.bytes, bytes_in += planned.from->bytes;
    auto& [n, sum] = by_type[std::string(kernels::dtype_info(planned.to).name)];
    ++n, sum += planned.bytes;
    if (planned.to == planned.from->dtype) continue;
    ++n_made, n_weighted += importance.of(planned.from->name).empty() ? 0 : 1;
  }
  nlohmann::json out = {{"path", options.out},  {"type", options.type},       {"bytes", bytes},
                        {"bytes_in", bytes_in}, {"dry_run", options.dry_run}, {"types", nlohmann::json::object()},
                        {"kl", nullptr}};
  std::string summary;
  for (const auto& [name, sum] : by_type) {
    out["types"][name] = {{"n_tensors", sum.first}, {"bytes", sum.second}};
    summary += fmt::format("  {:8} {:5} tensors {:10.1f} MB\n", name, sum.first, static_cast<double>(sum.second) / 1e6);
  }
  if (!options.importance.empty()) {
    out["n_weighted"] = n_weighted;
    summary += fmt::format("  importance of {} of {} tensors that change\n", n_weighted, n_made);
  }
  if (!options.dry_run) {
    FOVEA_ASSIGN_OR_RETURN(FileWriter file, open_output(options.out, common, OutputIs::kBytes));
    const bool on_disk = !file.to_stdout();
    if (!on_disk && !text.empty())
      return make_error(ErrorCode::kUsage,
                        "--file compares models, and one that goes to standard output cannot be read");
    Progress bar("quantising", bytes_in, "MB", 1e6, common.quiet);
    const auto written = formats::requantize(*in, type, plan, std::move(file),
                                             {.importance = options.importance.empty() ? nullptr : &importance,
                                              .progress = [&bar](uint64_t done) { bar.update(done); },
                                              .cancel = &Interrupt::flag()});
    bar.clear();
    if (!written) return written.error();
    out["bytes"] = bytes = written.value();
    if (!on_disk) return {};
  }
  std::string measured;
  if (!options.dry_run && !text.empty()) {
    FOVEA_ASSIGN_OR_RETURN(const tasks::Divergence found, divergence(common, options, path, text));
    out["kl"] = found.mean, out["same_top"] = found.same_top, out["n_scored_tokens"] = found.n_scored;
    measured = fmt::format("mean KL   {:.6f} to {}, same top token {:.2f} %, {} tokens\n", found.mean,
                           escaped_line(options.in), found.same_top * 100, found.n_scored);
  }
  if (common.json) return print_json(out);
  return print(fmt::format("{} {:.1f} MB of {:.1f}\n{}{}", options.dry_run ? "would be" : escaped_line(options.out),
                           static_cast<double>(bytes) / 1e6, static_cast<double>(bytes_in) / 1e6, summary, measured));
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  sub.add_option("IN", options->in,
                 "a name from `fovea list`, the path of a .gguf file, of any architecture, or of a Hugging Face folder")
      .required();
  sub.add_option("OUT", options->out, "the .gguf file to write").required();
  sub.add_option("--type", options->type, fmt::format("{}", fmt::join(formats::quantizable_types(), ", "))).required();
  sub.add_option("--importance", options->importance, "weights of the columns, from `fovea importance` or llama.cpp");
  sub.add_option("-f,--file", options->text, "a text on which the new model is compared with the old one");
  sub.add_option("-c,--ctx-size", options->window, "tokens of a window of the text")
      .show_default()
      .transform(in_range(int64_t{4}, int64_t{1} << 20));
  sub.add_flag("--dry-run", options->dry_run, "say what would be written, and write nothing");
  return [options, &common] { return quantize(*options, common); };
}

FOVEA_COMMAND("quantize", "write a GGUF model with weights of another type",
              "fovea quantize smollm2-135m smollm2-q4_0.gguf --type q4_0", setup)

}  // namespace quantize_command
}  // namespace fovea::cli

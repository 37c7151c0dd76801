// fovea importance -m MODEL -f TEXT -o FILE
#include "fovea/formats/importance.h"

#include <map>
#include <nlohmann/json.hpp>

#include "apps/cli/inputs.h"
#include "apps/cli/model_session.h"
#include "fovea/base/bytes.h"
#include "fovea/base/threads.h"
#include "fovea/tasks/windows.h"
#include "fovea/tensor/product_watch.h"

namespace fovea::cli {
namespace importance_command {

struct Options {
  ModelFlags model;
  TextFlags text;
  std::string out;
  int max_windows = 0;
};

Status importance(const Options& options, const Common& common) {
  const Interrupt interrupt;
  FOVEA_RETURN_IF_ERROR(check_not_an_input(options.out, {options.text.file}));
  if (options.model.n_ctx > 0 && options.model.n_ctx < 4)
    return make_error(ErrorCode::kUsage, "--ctx-size: windows of {} tokens; 4 are the least", options.model.n_ctx);
  FOVEA_ASSIGN_OR_RETURN(const std::string text, read_text(options.text));
  FOVEA_ASSIGN_OR_RETURN(FileWriter file, open_output(options.out, common, OutputIs::kBytes));
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const auto session, open_session(model, common, options.model));
  const int window = options.model.n_ctx > 0 ? options.model.n_ctx : std::min(512, model->shape().n_ctx);
  FOVEA_ASSIGN_OR_RETURN(const tasks::Windows windows, tasks::cut_windows(text, *model, window, options.max_windows));
  formats::Importance found;
  std::map<const tensor::Weight*, tensor::Stored> experts;  // those that share a tensor with others
  for (const tensor::Parameter& p : model->parameters()) {
    if (p.gguf.n_slices > 0) experts.emplace(p.target, p.gguf);
  }
  const tensor::ProductWatch watch([&](const tensor::Weight& w, const tensor::Tensor& x) {
    const auto expert = experts.find(&w);
    const bool one = expert == experts.end();
    for (int64_t row = 0; row < x.dim(0); ++row)
      found.add(w.name, x.data() + row * w.cols(), w.cols(), one ? 0 : expert->second.slice,
                one ? 1 : expert->second.n_slices);
  });
  Progress bar("reading the text", windows.tokens.size(), "tokens", 1.0, common.quiet);
  for (size_t w = 0; w < windows.count(); ++w) {
    FOVEA_RETURN_IF_ERROR(tasks::score_window(*session, windows, w, &Interrupt::flag(),
                                              [](size_t, const tensor::Tensor&) { return Status(); }));
    bar.update((w + 1) * windows.size);
  }
  bar.clear();
  const bool on_disk = !file.to_stdout();
  const std::string source = options.text.file.empty() ? "an argument" : options.text.file;
  FOVEA_RETURN_IF_ERROR(
      found.write(std::move(file), source, static_cast<uint32_t>(windows.count()), static_cast<uint32_t>(window)));
  if (!on_disk) return {};
  if (common.json)
    return print_json({{"path", options.out}, {"n_tokens", windows.tokens.size()}, {"n_tensors", found.size()}});
  return print(printable(options.out) + "\n");
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  options->model.decodes = false;
  common.numerics = "exact";
  add_text_flags(sub, options->text, "TEXT", /*with_prompt_flag=*/false);
  sub.add_option("-o,--output", options->out, "the file to write, for `fovea quantize --importance`; - is stdout")
      .required();
  sub.add_option("--chunks", options->max_windows, "windows at most; 0: all")
      .transform(in_range(int64_t{0}, int64_t{1} << 30));
  add_model_flags(sub, common, options->model);
  return [options, &common] { return importance(*options, common); };
}

FOVEA_COMMAND("importance", "measure on a text how much each column of each weight matters",
              "fovea importance -m smollm2-135m -f /usr/share/common-licenses/BSD -o smollm2.imatrix", setup)

}  // namespace importance_command
}  // namespace fovea::cli

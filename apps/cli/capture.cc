// fovea capture -m M (-f FILE or TEXT) --hooks NAME,... -o OUT.safetensors
#include "fovea/probe/capture/capture.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "apps/cli/capture_net.h"
#include "apps/cli/command.h"
#include "apps/cli/model_session.h"
#include "apps/cli/text_or_ids.h"
#include "fovea/base/bytes.h"
#include "fovea/base/file_writer.h"
#include "fovea/base/utf8.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/models/support/config.h"
#include "fovea/store/model_store.h"
#include "fovea/train/trained_net.h"

namespace fovea::cli {
namespace capture_command {

struct Options {
  ModelFlags model;
  TextOrIdsFlags text;
  std::vector<std::string> hooks;
  std::string out, reduce = "full", heads = "all";
  uint64_t max_bytes = 0;
  bool estimate = false, no_special = false, parse_special = false;
  int n_samples = 0;  // 0: not said
  std::string data;   // of a net
};

Result<std::vector<std::string>> hook_names(const std::vector<std::string>& lists) {
  std::vector<std::string> names;
  for (const std::string& list : lists) {
    for (size_t begin = 0; begin <= list.size();) {
      const size_t end = std::min(list.find(',', begin), list.size());
      if (begin == end)
        return make_error(ErrorCode::kUsage,
                          "--hooks {}: a name between the commas is empty; fovea show MODEL --hooks "
                          "lists the names",
                          quote(list, 80));
      names.push_back(list.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  return names;
}

nlohmann::json hooks_json(const probe::CapturePlan& plan) {
  nlohmann::json rows = nlohmann::json::array();
  for (const formats::SafeTensor& tensor : plan.tensors()) {
    uint64_t bytes = formats::bytes_of(tensor.dtype);
    for (const int64_t dim : tensor.shape) bytes *= static_cast<uint64_t>(dim);
    rows.push_back(
        {{"name", tensor.name}, {"shape", tensor.shape}, {"dtype", formats::name_of(tensor.dtype)}, {"bytes", bytes}});
    const auto heads = plan.heads().find(tensor.name);
    if (heads != plan.heads().end()) rows.back()["heads"] = heads->second;
  }
  return rows;
}

Status report(const probe::CapturePlan& plan, size_t n_tokens, const Options& options, const Common& common) {
  if (common.json) {
    nlohmann::json out = {
        {"hooks", hooks_json(plan)}, {"n_tokens", n_tokens}, {"bytes", plan.bytes()}, {"max_bytes", plan.max_bytes()}};
    out["path"] = options.estimate ? nlohmann::json() : nlohmann::json(options.out);
    if (options.estimate) out["fits"] = plan.check_limit().has_value();
    return print_json(out);
  }
  std::string out;
  for (const formats::SafeTensor& tensor : plan.tensors()) {
    out += fmt::format("{:50} {:4} [{}]\n", tensor.name, formats::name_of(tensor.dtype), fmt::join(tensor.shape, ", "));
  }
  const double mega = static_cast<double>(plan.bytes()) / 1e6;
  if (options.estimate) {
    out += fmt::format("{} tokens, {} tensors, {:.1f} MB; the limit is {:.1f} MB (--max-bytes)\n", n_tokens,
                       plan.tensors().size(), mega, static_cast<double>(plan.max_bytes()) / 1e6);
  } else {
    out += fmt::format("{} tokens, {} tensors, {:.1f} MB in {}\n", n_tokens, plan.tensors().size(), mega,
                       escaped_line(options.out));
  }
  return print(out);
}

// Nothing, if the model is no net of those.
Result<bool> is_captured_net(const Options& options, const Common& common) {
  FOVEA_ASSIGN_OR_RETURN(const std::string path, store::resolve_model(common.model));
  if (!train::is_net_folder(path)) {
    if (options.n_samples > 0 || !options.data.empty())
      return make_error(ErrorCode::kUsage, "--samples and --data are for nets that were trained here; {} reads a text",
                        quote(common.model, 4096));
    return false;
  }
  const auto& texts = options.text.text.options;
  const bool any_text =
      options.text.ids.count() > 0 || std::any_of(texts.begin(), texts.end(), [](Option o) { return o.count() > 0; });
  if (any_text || options.reduce != "full" || options.heads != "all" || options.estimate)
    return make_error(ErrorCode::kUsage,
                      "{} is a net that looks at samples of its data (--data, --samples): no text, "
                      "--reduce, --heads or --estimate goes with it",
                      quote(common.model, 4096));
  NetCapture wanted{.folder = path,
                    .data = options.data,
                    .attention = options.model.attention,
                    .out = options.out,
                    .hooks = {},
                    .n_samples = std::max(1, options.n_samples),
                    .max_bytes = options.max_bytes};
  FOVEA_ASSIGN_OR_RETURN(wanted.hooks, hook_names(options.hooks));
  FOVEA_RETURN_IF_ERROR(capture_net(wanted, common));
  return true;
}

Status capture(const Options& options, const Common& common) {
  FOVEA_ASSIGN_OR_RETURN(const bool done_already, is_captured_net(options, common));
  if (done_already) return {};
  const Interrupt interrupt;
  std::optional<FileWriter> file;
  if (!options.estimate) {
    if (options.out.empty()) return make_error(ErrorCode::kUsage, "--output is needed: the .safetensors file to write");
    FOVEA_ASSIGN_OR_RETURN(FileWriter opened, open_output(options.out, common, OutputIs::kBytes));
    file.emplace(std::move(opened));
  }
  probe::CaptureOptions wanted;
  FOVEA_ASSIGN_OR_RETURN(wanted.hooks, hook_names(options.hooks));
  wanted.max_bytes = options.max_bytes;
  FOVEA_ASSIGN_OR_RETURN(wanted.reduction, probe::Reduction::parse(options.reduce));
  FOVEA_ASSIGN_OR_RETURN(wanted.heads, attention::HeadSet::parse(options.heads));
  FOVEA_ASSIGN_OR_RETURN(const TextOrIds text, read_text_or_ids(options.text));

  // The file's metadata say how large everything will be: refused before the weights are read.
  FOVEA_ASSIGN_OR_RETURN(const std::string path, store::resolve_model(common.model));
  FOVEA_ASSIGN_OR_RETURN(const auto source, formats::open_model(path));
  FOVEA_ASSIGN_OR_RETURN(const models::Config config, models::read_config(*source));
  std::vector<int32_t> tokens;
  if (text.ids) {
    FOVEA_ASSIGN_OR_RETURN(tokens, text.checked_ids(config.shape.vocab_size));
  } else {
    FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, engine::load_tokenizer(*source));
    tokenizers::EncodeOptions encode;
    encode.add_special = !options.no_special;
    encode.parse_special = options.parse_special;
    FOVEA_ASSIGN_OR_RETURN(tokens, tokenizer->encode(text.text, encode));
  }
  if (tokens.empty()) return make_error(ErrorCode::kUsage, "the text has no tokens");
  const auto n_tokens = static_cast<int64_t>(tokens.size());
  FOVEA_ASSIGN_OR_RETURN(
      const probe::CapturePlan plan,
      probe::CapturePlan::estimate(config.shape, models::make_family(config)->hooks(), n_tokens, wanted));
  if (options.estimate) return report(plan, tokens.size(), options, common);
  FOVEA_RETURN_IF_ERROR(plan.check_limit());

  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, options.model));
  FOVEA_ASSIGN_OR_RETURN(const auto session, open_session(model, common, options.model));
  FOVEA_RETURN_IF_ERROR(check_prompt_fits(*session, n_tokens));
  probe::Capture run(plan);
  PrefillProgress bar(common, "capture");
  engine::PrefillOptions prefill;
  prefill.cancel = &Interrupt::flag();
  prefill.progress = [&bar](int64_t done, int64_t total) { bar.update(done, total); };
  const Status done = run.run(*session, tokens, prefill);
  bar.clear();
  FOVEA_RETURN_IF_ERROR(done);
  if (Interrupt::requested()) return make_error(ErrorCode::kCancelled, "interrupted");
  const bool to_stdout = file->to_stdout();
  FOVEA_RETURN_IF_ERROR(run.write(std::move(*file), options.out,
                                  {{"fovea_version", FOVEA_VERSION},
                                   {"model", replace_invalid_utf8(store::model_name(path))},
                                   {"numerics", common.numerics},
                                   {"attention", session->pipeline().spec()},
                                   {"reduce", wanted.reduction.to_string()},
                                   {"tokens", nlohmann::json(tokens).dump()}}));
  if (to_stdout) return {};
  return report(plan, tokens.size(), options, common);
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  options->model.decodes = false;
  add_model_flags(sub, common, options->model);
  add_text_or_ids_flags(sub, options->text, "TEXT", false);
  sub.add_option("--hooks", options->hooks,
                 "names, globs or other tools' names, joined by commas: blocks.*.attn.hook_pattern,q5")
      .required()
      .one_value_each_time();
  sub.add_option("-o,--output", options->out, "the .safetensors file to write; - is stdout");
  sub.add_option(
         "--reduce", options->reduce,
         fmt::format("what to keep of each row of attn.hook_pattern; {}", fmt::join(probe::Reduction::help(), "; ")))
      .show_default();
  sub.add_option("--heads", options->heads,
                 "whose patterns and scores: all, or 5 (a layer), 3-9, 4.11 (layer 4, head 11), joined by +")
      .show_default();
  sub.add_option("--max-bytes", options->max_bytes,
                 "refuse to hold more than this (500MB, 2GiB); 0: a quarter of this machine's memory")
      .transform(size_in_bytes())
      .show_default();
  sub.add_option("--samples", options->n_samples, "of a net that was trained here: how many samples of its data")
      .transform(in_range(int64_t{1}, int64_t{1} << 20));
  sub.add_option("--data", options->data,
                 "of such a net: other data than those it was trained with, as in a training config: '{\"generator\": "
                 "\"scenes\"}'");
  sub.add_flag("--estimate", options->estimate, "only print names, shapes and sizes");
  sub.add_flag("--no-special", options->no_special,
               "add no token at the beginning or the end, even where the model wants one");
  sub.add_flag("--parse-special", options->parse_special,
               "control tokens that the text spells, such as <|im_end|>, become tokens");
  return [options, &common] { return capture(*options, common); };
}

FOVEA_COMMAND("capture", "named values of a prompt's forward pass, to a .safetensors file",
              "fovea capture -m smollm2-135m \"Hello, world\" --hooks 'blocks.*.attn.hook_pattern' --reduce topk:4 -o "
              "out.safetensors",
              setup)

}  // namespace capture_command
}  // namespace fovea::cli

// fovea profile -m MODEL [-o FILE] [--against FILE], fovea profile -m MODEL --measure moa [-o FILE], fovea profile
// --run RUN [-o PAGE]
#include "fovea/probe/measures/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "apps/cli/command.h"
#include "apps/cli/model_session.h"
#include "apps/cli/profile_moa.h"
#include "apps/cli/profile_run.h"
#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/interrupt.h"
#include "fovea/base/json.h"
#include "fovea/base/log.h"
#include "fovea/base/text_file.h"
#include "fovea/engine/head_profile.h"
#include "fovea/engine/vocabulary.h"
#include "fovea/formats/source.h"
#include "fovea/probe/measures/compare_profiles.h"
#include "fovea/probe/measures/trained_columns.h"
#include "fovea/store/model_store.h"

namespace fovea::cli {
namespace profile_command {

struct Options {
  ModelFlags model;
  std::vector<int> lengths;
  std::vector<std::string> files;
  int n_depths = 6;
  Seed seed;
  std::string output, against, run, gates, measure = "heads";
  probe::MoaOptions moa;
  float density = 0.5f;
  bool again = false;
  bool measures = false;  // an option that only a measurement can follow was given
};

std::string summary(const attention::HeadProfile& profile) {
  const std::vector<double>* retrieval = profile.find("retrieval");
  const std::vector<double>* induction = profile.find("induction");
  std::string out;
  if (induction && !induction->empty()) {
    const auto best = std::max_element(induction->begin(), induction->end());
    const auto id = best - induction->begin();
    out = fmt::format("induction  {:.2f} at most, in head {}.{}\n", *best, id / profile.n_heads, id % profile.n_heads);
  }
  if (!retrieval)
    return out + "retrieval  no data: the model found no needle, so nothing is known of what its heads copy\n";
  const std::vector<double>& scores = *retrieval;
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  const auto over = std::count_if(scores.begin(), scores.end(), [](double score) { return score >= 0.1; });
  const auto zero = std::count(scores.begin(), scores.end(), 0.0);
  out += fmt::format(
      "heads      {}; {} with a retrieval score of 0.1 or more ({:.1f} %), {} with none\nbest       layer.head score\n",
      scores.size(), over, 100.0 * static_cast<double>(over) / static_cast<double>(scores.size()), zero);
  for (size_t i = 0; i < std::min<size_t>(12, order.size()); ++i) {
    const auto n_heads = static_cast<size_t>(profile.n_heads);
    out += fmt::format("           {}.{} {:.2f}\n", order[i] / n_heads, order[i] % n_heads, scores[order[i]]);
  }
  return out;
}

// The command that repeats the measurement.
std::string command_line(const Options& options, const Common& common, const probe::ProfileOptions& profile) {
  std::string out = fmt::format("fovea profile -m {} --again --lengths {} --depths {} --seed {} --numerics {}",
                                store::model_name(common.model), fmt::join(profile.needle.lengths, ","),
                                profile.needle.n_depths, profile.needle.seed, common.numerics);
  for (const std::string& lora : options.model.loras) out += " --lora " + lora;
  if (!options.model.masks.empty()) out += " --masks " + options.model.masks;
  for (const std::string& file : options.files) out += " --file " + std::filesystem::path(file).filename().string();
  return out;
}

// The lengths asked for, each of which must fit; or those of the defaults that do.
Result<std::vector<int>> lengths_that_fit(const std::vector<int>& asked, const tasks::NeedleOptions& task, int n_ctx) {
  std::vector<int> out;
  for (const int length : asked.empty() ? task.lengths : asked) {
    if (length + task.decode_max <= n_ctx) {
      out.push_back(length);
    } else if (!asked.empty()) {
      return make_error(ErrorCode::kUsage,
                        "--lengths: {} and {} tokens of answer are more than the {} that this model was trained for",
                        length, task.decode_max, n_ctx);
    }
  }
  if (out.empty()) out.push_back(n_ctx - task.decode_max);
  return out;
}

// How many samples the profile in a file was measured with; 0 if there is none that can be read.
int64_t samples_in(const std::string& path) {
  const auto text = read_file(path);
  const auto profile = text ? parse_json(*text, path) : Result<nlohmann::ordered_json>(text.error());
  if (!profile || !profile->is_object() || !(*profile)["measured"].is_object()) return 0;
  const auto& samples = (*profile)["measured"]["samples"];
  return samples.is_number_integer() ? samples.get<int64_t>() : 0;
}

Result<std::string> measure(const std::shared_ptr<const engine::Model>& model, const Options& options,
                            const Common& common) {
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, engine::load_tokenizer(model->source()));
  probe::ProfileOptions profile;
  FOVEA_ASSIGN_OR_RETURN(profile.needle.lengths,
                         lengths_that_fit(options.lengths, profile.needle, model->shape().n_ctx));
  profile.needle.n_depths = options.n_depths;
  profile.needle.seed = options.seed.value;
  for (const std::string& file : options.files) {
    FOVEA_ASSIGN_OR_RETURN(std::string text, read_text_file(file));
    profile.haystacks.push_back({std::filesystem::path(file).filename().string(), std::move(text)});
  }
  FOVEA_ASSIGN_OR_RETURN(profile.adapters, load_adapters(*model, options.model));
  profile.numerics = common.numerics == "exact" ? kernels::Numerics::kExact : kernels::Numerics::kFast;
  profile.engine_version = FOVEA_VERSION;
  profile.command = command_line(options, common, profile);
  profile.cancel = &Interrupt::flag();
  Progress bar("hiding needles", 0, "samples", 1, common.quiet);
  profile.progress = [&bar](int64_t done, int64_t total, int64_t accepted) {
    bar.set_total(static_cast<uint64_t>(total));
    bar.set_label(fmt::format("hiding needles, {} found", accepted));
    bar.update(static_cast<uint64_t>(done));
  };
  if (auto before = probe::find_profile(*model, profile.adapters.get())) profile.before = std::move(before->heads);
  FOVEA_ASSIGN_OR_RETURN(probe::MeasuredProfile measured, probe::measure_profile(model, *tokenizer, profile));
  bar.clear();
  FOVEA_ASSIGN_OR_RETURN(const std::string path, probe::profile_cache_path(measured.heads.model_sha256));
  const int64_t before = samples_in(path);
  if (interrupted()) return interrupted_error();  // and what is there was perhaps not read
  if (!options.again && before > std::ssize(measured.samples)) {
    log_warning("the profile in {} has {} samples and stays, this one of {} is not kept; --again puts it there",
                quote(path, 4096), before, measured.samples.size());
    return std::move(measured.json);
  }
  std::error_code ignored;  // write_file_atomic says why if the folder is not there
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  const Status kept = write_file_atomic(path, measured.json);
  // Minutes of work: where it also goes elsewhere, a store that cannot be written does not lose it.
  if (!kept && options.output.empty() && !common.json) return kept.error();
  if (!kept) log_warning("the profile is not kept: {}", kept.error().message);
  if (kept && !common.quiet) tell("kept in {}", quote(path, 4096));
  return std::move(measured.json);
}

// Puts the gates of a trained copy of the model into the model's profile.
Result<std::string> take_gates(const engine::Model& model, const Options& options, const Common& common) {
  FOVEA_ASSIGN_OR_RETURN(const auto adapters, load_adapters(model, options.model));
  FOVEA_ASSIGN_OR_RETURN(const probe::FoundProfile found, probe::find_profile(model, adapters.get()));
  FOVEA_ASSIGN_OR_RETURN(const auto trained, formats::open_model(options.gates));
  FOVEA_ASSIGN_OR_RETURN(std::string json, probe::with_trained_columns(found, *trained));
  FOVEA_ASSIGN_OR_RETURN(const std::string path, probe::profile_cache_path(found.heads->model_sha256));
  std::error_code ignored;  // write_file_atomic says why if the folder is not there
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  FOVEA_RETURN_IF_ERROR(write_file_atomic(path, json));
  if (!common.quiet) tell("kept in {}", quote(path, 4096));
  return json;
}

// How far the profile agrees with the one in a file, of this model or of another of its architecture.
Status compare(const attention::HeadProfile& mine, const std::string& path, const Common& common) {
  FOVEA_ASSIGN_OR_RETURN(const attention::HeadProfile other, probe::read_any_profile(path));
  const auto found = probe::compare_profiles(mine, other, "retrieval");
  if (!found)
    return make_error(found.error().code, "this model's profile against {}: {}", quote(path, 4096),
                      found.error().message);
  const bool same_file = mine.model_sha256 == other.model_sha256;
  if (common.json) {
    return print_json(
        {{"against", path},
         {"same_model_file", same_file},
         {"column", "retrieval"},
         {"heads", found->n},
         {"pearson", found->pearson},
         {"spearman", found->spearman},
         {"top", found->n_top},
         {"top_in_common", found->common},
         {"retrieval_heads", {{"this", found->over_a}, {"other", found->over_b}, {"both", found->over_both}}}});
  }
  return print(fmt::format(
      "against    {}: {}\nretrieval  Pearson {:.3f}, Spearman {:.3f} over {} heads\nbest {:<5} {} in common\n0.1 or "
      "more {} here, {} there, {} in both\n",
      escaped_line(path), same_file ? "the same model file" : "another model file", found->pearson, found->spearman,
      found->n, found->n_top, found->common, found->over_a, found->over_b, found->over_both));
}

Status profile(const Options& options, const Common& common) {
  const Interrupt interrupt;
  std::optional<FileWriter> file;
  if (!options.output.empty()) {
    FOVEA_ASSIGN_OR_RETURN(FileWriter opened, open_output(options.output, common, OutputIs::kText));
    file.emplace(std::move(opened));
  }
  FOVEA_ASSIGN_OR_RETURN(const auto model, load_model(common, options.model));
  std::string json;
  if (!options.gates.empty()) {
    FOVEA_ASSIGN_OR_RETURN(json, take_gates(*model, options, common));
  } else if (!options.again && !options.measures) {
    FOVEA_ASSIGN_OR_RETURN(const auto adapters, load_adapters(*model, options.model));
    auto found = probe::find_profile(*model, adapters.get());
    if (!found && found.error().code != ErrorCode::kNotFound) return found.error();
    if (found) {
      json = std::move(found->json);
      if (!common.quiet) tell("measured before ({}); --again measures it anew", found->name);
    }
  }
  if (json.empty()) {
    FOVEA_ASSIGN_OR_RETURN(json, measure(model, options, common));
  }
  if (file) {
    FOVEA_RETURN_IF_ERROR(file->write(json));
    FOVEA_RETURN_IF_ERROR(file->commit());
    if (file->to_stdout()) return {};
  }
  if (common.json && options.against.empty()) return print(json);
  FOVEA_ASSIGN_OR_RETURN(const auto heads, engine::parse_head_profile(json, "the profile", model->shape()));
  if (!options.against.empty()) return compare(heads, options.against, common);
  FOVEA_ASSIGN_OR_RETURN(const nlohmann::ordered_json document, parse_json(json, "the profile"));
  const auto how_many = [&document](const char* key) {  // "?" for a file that does not say it
    const auto& measured = document.value("measured", nlohmann::ordered_json());
    const auto it = measured.is_object() ? measured.find(key) : measured.end();
    return it != measured.end() && it->is_number() ? it->dump() : "?";
  };
  return print(fmt::format("samples    {} asked, {} answered with the needle\n{}", how_many("samples"),
                           how_many("accepted"), summary(heads)));
}

// The plan of spans, with the options that it shares with the needle task.
Status moa(const Options& options, const Common& common) {
  if (options.again || !options.against.empty() || !options.model.loras.empty() || !options.model.masks.empty())
    return make_error(ErrorCode::kUsage, "--again, --against, --lora and --masks do not go with --measure moa");
  probe::MoaOptions moa = options.moa;
  if (!options.lengths.empty()) moa.lengths = options.lengths;
  std::sort(moa.lengths.begin(), moa.lengths.end());
  moa.seed = options.seed.value;
  moa.density = static_cast<double>(options.density);
  for (const std::string& path : options.files) {
    FOVEA_ASSIGN_OR_RETURN(std::string text, read_text_file(path));
    moa.haystacks.push_back({std::filesystem::path(path).filename().string(), std::move(text)});
  }
  return profile_moa(options.model, moa, options.output, common);
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  add_model_options(sub, common, false);
  const Option run = sub.add_option("--run", options->run,
                                    "instead of -m: the folder of a training that kept models (\"keep_every\"), or a "
                                    "rig; says how its heads formed");
  add_adapter_flags(sub, options->model);
  sub.add_option("-o,--output", options->output,
                 "write the profile there too, of a run a page with plots; - is stdout, and nothing else goes there");
  sub.add_option("--against", options->against,
                 "compare the retrieval scores with those of this profile: correlation, best heads in common")
      .excludes(run);
  std::vector<Option> measuring = {
      sub.add_option("--lengths", options->lengths, "tokens of the prompts; default: 512,1024,2048")
          .split_at(',')
          .transform(in_range(int64_t{128}, int64_t{1} << 20))
          .excludes(run),
      sub.add_option("--depths", options->n_depths, "how many places of the needle, from the text's start to its end")
          .transform(in_range(int64_t{1}, int64_t{100}))
          .show_default()
          .excludes(run),
      add_seed_option(sub, options->seed, "which texts, and where in them"),
      sub.add_option("--file", options->files,
                     "a text to hide needles in, may be repeated; default: this machine's licences")
          .one_value_each_time()};
  sub.add_option("--gates", options->gates,
                 "put the gates of duo-attention that this trained copy of the model has into the model's profile")
      .excludes(run);
  sub.add_option(
         "--measure", options->measure,
         "heads: what each head does. moa: a plan of spans for --attention moa:plan=profile, by gradients and an "
         "integer program, which becomes part of the profile (--lengths; default: 512,1024)")
      .one_of({"heads", "moa"})
      .show_default()
      .excludes(run);
  sub.add_option("--density", options->density, "of --measure moa: mean span over the length")
      .transform(in_range(0.01, 1.0))
      .show_default()
      .excludes(run);
  sub.add_option("--block", options->moa.block, "of --measure moa: tokens that spans are multiples of")
      .transform(in_range(int64_t{1}, int64_t{1024}))
      .show_default()
      .excludes(run);
  sub.add_option("--samples", options->moa.samples, "of --measure moa: prompts of each length")
      .transform(in_range(int64_t{1}, int64_t{1000}))
      .show_default()
      .excludes(run);
  sub.add_flag("--shuffled", options->moa.shuffled,
               "of --measure moa: a control, in which each head has another's influence")
      .excludes(run);
  sub.add_flag("--again", options->again, "measure though this model file has been measured before").excludes(run);
  return [options, measuring, run, &common]() -> Status {
    for (const Option option : measuring) options->measures = options->measures || option.count() > 0;
    if (common.model.empty() == options->run.empty())
      return make_error(ErrorCode::kUsage, "one of -m MODEL and --run RUN is needed");
    if (run.count() == 0) return options->measure == "moa" ? moa(*options, common) : profile(*options, common);
    if (options->files.size() > 1) return make_error(ErrorCode::kUsage, "--run reads one --file");
    if (!options->model.loras.empty() || !options->model.masks.empty())
      return make_error(ErrorCode::kUsage, "--lora and --masks are of one model; --run has several");
    // The seed of the random tokens is that of a profile.
    return profile_run(options->run, options->files.empty() ? "" : options->files[0], options->seed.value + 2,
                       options->output, common);
  };
}

FOVEA_COMMAND("profile", "measure what every head does, once per model file", "fovea profile -m smollm2-135m", setup)

}  // namespace profile_command
}  // namespace fovea::cli

// fovea data NAME, fovea data CONFIG.json
#include "fovea/train/data/data.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "apps/cli/ranges.h"
#include "fovea/base/bytes.h"
#include "fovea/base/json.h"
#include "fovea/train/config.h"
#include "fovea/train/learner.h"

namespace fovea::cli {
namespace data_command {

constexpr uint64_t kMaxConfigBytes = uint64_t{16} << 20;

struct Options {
  std::string name, out;
  int show = 4, context = 32, vocab_size = 64;
  uint64_t seed = 0;
  std::vector<std::string> settings;
};

// "pairs=4": JSON, or else a text.
Status put(nlohmann::ordered_json& config, const std::string& setting) {
  const size_t equals = setting.find('=');
  if (equals == setting.npos || equals == 0)
    return make_error(ErrorCode::kUsage, "--set {}: NAME=VALUE is needed", quote(setting));
  const std::string name = setting.substr(0, equals), value = setting.substr(equals + 1);
  const auto parsed = parse_json(value, "--set");
  config[name] = parsed ? *parsed : nlohmann::ordered_json(value);
  return {};
}

nlohmann::json json_of(const train::Sample& sample) {
  nlohmann::json one = {{"tokens", sample.tokens}, {"targets", sample.targets}};
  if (const train::Picture* picture = sample.picture.get()) {
    one["picture"] = {{"channels", picture->channels}, {"height", picture->height}, {"width", picture->width},
                      {"label", picture->label},       {"mask", picture->mask},     {"pixels", picture->pixels}};
    if (!picture->noise.empty()) one["picture"]["noise"] = picture->noise;
  }
  return one;
}

// Rows of numbers; "?" stands before those that are wanted.
std::string rows(const nlohmann::json& picture) {
  const auto pixels = picture["pixels"].get<std::vector<float>>();
  const auto wanted = picture.value("noise", std::vector<float>());
  const auto mask = picture["mask"].get<std::vector<int>>();
  const auto width = picture["width"].get<size_t>();
  std::string text;
  for (size_t i = 0; i < pixels.size(); ++i) {
    const bool asked = !wanted.empty() && i < mask.size() && mask[i] != 0;
    text += fmt::format("{:>9}", fmt::format("{}{:.4f}", asked ? "? " : "", asked ? wanted[i] : pixels[i]));
    if ((i + 1) % width == 0) text += "\n";
  }
  return text;
}

// The mean of the channels at each pixel, from the darkest to the lightest.
std::string shades(const nlohmann::json& picture) {
  constexpr std::string_view kLevels = " .:-=+*#%@";
  const auto pixels = picture["pixels"].get<std::vector<float>>();
  const auto width = picture["width"].get<size_t>(), area = width * picture["height"].get<size_t>();
  std::string text;
  for (size_t i = 0; i < area; ++i) {
    float sum = 0;
    for (size_t at = i; at < pixels.size(); at += area) sum += pixels[at];
    const float mean = sum / (static_cast<float>(pixels.size()) / static_cast<float>(area));
    text += kLevels[static_cast<size_t>(std::clamp((mean + 1) * 5, 0.0f, 9.0f))];
    if ((i + 1) % width == 0) text += "\n";
  }
  return text;
}

// The mask of a picture: a dot where nothing is, else the number of what is there. Of one with a single channel, its
// numbers.
std::string drawing(const nlohmann::json& picture) {
  if (picture["channels"].get<int>() == 1) return rows(picture);
  const auto mask = picture["mask"].get<std::vector<int>>();
  const auto width = picture["width"].get<size_t>();
  std::string text;
  if (const int label = picture["label"].get<int>(); label >= 0) text = fmt::format("label   {}\n", label);
  if (mask.empty()) return text + shades(picture);
  for (size_t i = 0; i < mask.size(); ++i) {
    text += mask[i] == 0 ? "." : std::to_string(mask[i]);
    if ((i + 1) % width == 0) text += "\n";
  }
  return text;
}

struct Samples {
  std::vector<train::Sample> all = {};
  std::vector<std::string> read = {}, wanted = {};  // the texts of each, where there is a tokenizer
};
// What is read, and what of it is wanted: "..." stands where nothing is in between.
Status add_texts(Samples& samples, const tokenizers::Tokenizer& tokenizer) {
  for (const train::Sample& sample : samples.all) {
    FOVEA_ASSIGN_OR_RETURN(const std::string read, tokenizer.decode(sample.tokens, true));
    std::string wanted;
    std::vector<int32_t> part;
    for (size_t i = 0; i <= sample.targets.size(); ++i) {
      const bool learned = i < sample.targets.size() && sample.targets[i] >= 0;
      if (learned) part.push_back(sample.targets[i]);
      if (learned || part.empty()) continue;
      FOVEA_ASSIGN_OR_RETURN(const std::string text, tokenizer.decode(part, true));
      wanted += (wanted.empty() ? "" : " ... ") + text;
      part.clear();
    }
    samples.read.push_back(read), samples.wanted.push_back(wanted);
  }
  return {};
}

Result<Samples> of_generator(const Options& options) {
  nlohmann::ordered_json config = {{"generator", options.name}, {"seed", options.seed}};
  for (const std::string& setting : options.settings) FOVEA_RETURN_IF_ERROR(put(config, setting));
  train::Settings settings(config, "data");
  const auto data =
      train::make_data(settings, {.vocab_size = options.vocab_size, .context = options.context, .seed = options.seed});
  FOVEA_RETURN_IF_ERROR(settings.finish());
  Samples out;
  for (int i = 0; i < options.show; ++i) out.all.push_back(data->sample(static_cast<uint64_t>(i)));
  return out;
}

// Those that a training reads first.
Result<Samples> of_config(const Options& options) {
  FOVEA_ASSIGN_OR_RETURN(const auto config, read_json(options.name, kMaxConfigBytes));
  train::Settings settings(config, quote(options.name, 4096));
  const train::TrainConfig numbers(settings);
  for (const char* other : {"optimizer", "schedule"}) (void)settings.any(other);
  FOVEA_ASSIGN_OR_RETURN(const auto learner, train::make_learner(settings, numbers));
  train::Order order(learner->data(), numbers.shuffled, numbers.seed);
  Samples out;
  for (int i = 0; i < options.show; ++i) out.all.push_back(order(static_cast<uint64_t>(i)));
  if (const auto* tokenizer = learner->tokenizer()) FOVEA_RETURN_IF_ERROR(add_texts(out, *tokenizer));
  return out;
}

bool is_config(const std::string& name) { return name.ends_with(".json"); }

Status run(const Options& options, const Common& common) {
  if (options.name.empty()) {
    const std::vector<std::string> names = train::generator_names();
    return common.json ? print_json({{"generators", names}}) : print(fmt::format("{}\n", fmt::join(names, "\n")));
  }
  FOVEA_ASSIGN_OR_RETURN(const auto drawn, is_config(options.name) ? of_config(options) : of_generator(options));
  nlohmann::json samples = nlohmann::json::array();
  std::string lines;
  for (const train::Sample& sample : drawn.all) {
    const nlohmann::json one = json_of(sample);
    lines += one.dump() + "\n";
    samples.push_back(one);
  }
  if (!options.out.empty()) {
    FOVEA_ASSIGN_OR_RETURN(FileWriter file, open_output(options.out, common, OutputIs::kText));
    const bool on_disk = !file.to_stdout();
    FOVEA_RETURN_IF_ERROR(file.write(lines));
    FOVEA_RETURN_IF_ERROR(file.commit());
    if (!on_disk) return {};
  }
  if (common.json) return print_json({{"name", options.name}, {"samples", samples}});
  if (!options.out.empty())
    return print(
        fmt::format("{} sample{} in {}\n", options.show, options.show == 1 ? "" : "s", escaped_line(options.out)));
  std::string text;
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto& sample = samples[i];
    if (i < drawn.read.size())
      text += fmt::format("reads   {}\nlearns  {}\n", escaped_line(drawn.read[i]), escaped_line(drawn.wanted[i]));
    if (!sample["tokens"].empty()) {
      text += fmt::format("tokens  {}\ntargets", fmt::join(sample["tokens"].get<std::vector<int32_t>>(), " "));
      for (const int32_t id : sample["targets"].get<std::vector<int32_t>>())
        text += id < 0 ? " ." : fmt::format(" {}", id);
      text += "\n";
    }
    if (sample.contains("picture")) text += drawing(sample["picture"]);
  }
  return print(text);
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  sub.add_option("NAME", options->name,
                 fmt::format("{}; or the config of a training, CONFIG.json: what it reads first; without it: which "
                             "generators there are",
                             fmt::join(train::generator_names(), ", ")));
  sub.add_option("--show", options->show, "samples").show_default().transform(in_range(int64_t{0}, int64_t{1} << 24));
  const std::vector<Option> of_generators = {
      sub.add_option("-s,--seed", options->seed, "of the samples").show_default(),
      sub.add_option("-c,--ctx-size", options->context, "tokens of a sample at most")
          .show_default()
          .transform(in_range(int64_t{1}, int64_t{1} << 24)),
      sub.add_option("--vocab-size", options->vocab_size, "ids are below this")
          .show_default()
          .transform(in_range(int64_t{2}, int64_t{1} << 24)),
      sub.add_option("--set", options->settings, "NAME=VALUE, a setting of the generator").one_value_each_time()};
  sub.add_option("-o,--output", options->out, "write them to this file, a line of JSON each, which \"jsonl\" reads");
  return [options, of_generators, &common]() -> Status {
    for (const Option option : of_generators) {
      if (is_config(options->name) && option.count() > 0)
        return make_error(ErrorCode::kUsage, "{} is for generators; a config says it itself", option.name());
    }
    return run(*options, common);
  };
}

FOVEA_COMMAND("data", "samples of training data", "fovea data induction --show 2", setup)

}  // namespace data_command
}  // namespace fovea::cli

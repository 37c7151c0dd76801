#include "fovea/probe/measures/profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/file.h"
#include "fovea/base/random.h"
#include "fovea/engine/head_profile.h"
#include "fovea/probe/capture/pattern_statistics.h"
#include "fovea/probe/measures/needle_reader.h"
#include "fovea/store/model_store.h"

namespace fovea::probe {
namespace {

using Json = nlohmann::ordered_json;
using attention::HeadProfile;

constexpr uint64_t kMaxBytes = uint64_t{64} << 20;

// A place for the needle's label that does not touch the needle.
tasks::TokenSpan moved(const tasks::NeedlePrompt& prompt, Rng& random) {
  const auto size = prompt.answer.size();
  const auto n_places = static_cast<uint64_t>(static_cast<int64_t>(prompt.tokens.size()) - size + 1);
  for (;;) {
    const auto begin = static_cast<int32_t>(random.below(n_places));
    if (begin + size <= prompt.answer.begin || begin >= prompt.answer.end) return {begin, begin + size};
  }
}

// Runs the prompts; fills the samples and, if one was accepted, the retrieval columns.
Status measure_retrieval(engine::Session& session, const tokenizers::Tokenizer& tokenizer,
                         const ProfileOptions& options, MeasuredProfile& out) {
  NeedleReader reader(session, tokenizer);
  Rng random(options.needle.seed + 1);
  const auto n_all = head_id(out.heads.n_layers, 0, out.heads.n_heads);
  std::vector<double> paper(n_all), code(n_all), active(n_all);
  int64_t accepted = 0;
  for (size_t i = 0; i < out.prompts.size(); ++i) {
    const tasks::NeedlePrompt& prompt = out.prompts[i];
    FOVEA_ASSIGN_OR_RETURN(const NeedleSample answer,
                           reader.answer(prompt, options.needle, /*with_trace=*/true, options.cancel));
    ProfileSample sample{i, answer.text, answer.recall, answer.accepted, {}, {}};
    if (answer.accepted) {
      ++accepted;
      sample.scores = retrieval_scores(answer.trace, prompt.tokens, prompt.answer);
      sample.scores_moved = retrieval_scores(answer.trace, prompt.tokens, moved(prompt, random));
      const auto by_code = retrieval_scores(answer.trace, prompt.tokens, prompt.answer, ScoreVariant::kCode);
      for (size_t head = 0; head < n_all; ++head) {
        paper[head] += sample.scores[head];
        code[head] += by_code[head];
        active[head] += sample.scores[head] > 0 ? 1 : 0;
      }
    }
    out.samples.push_back(std::move(sample));
    if (options.progress)
      options.progress(static_cast<int64_t>(i + 1), static_cast<int64_t>(out.prompts.size()), accepted);
    if (options.cancel && options.cancel->load()) return make_error(ErrorCode::kCancelled, "interrupted");
  }
  if (accepted == 0) return {};
  const int group = session.shape().group(), n_heads = out.heads.n_heads;
  std::vector<double> group_max(n_all);
  for (auto* values : {&paper, &code, &active}) {
    for (double& value : *values) value /= static_cast<double>(accepted);
  }
  for (size_t head = 0; head < n_all; ++head) {
    const size_t layer = head / static_cast<size_t>(n_heads),
                 kv = head % static_cast<size_t>(n_heads) / static_cast<size_t>(group);
    const size_t first = layer * static_cast<size_t>(n_heads) + kv * static_cast<size_t>(group);
    group_max[head] = *std::max_element(paper.begin() + static_cast<ptrdiff_t>(first),
                                        paper.begin() + static_cast<ptrdiff_t>(first) + group);
  }
  out.heads.values["retrieval"] = std::move(paper);
  out.heads.values["retrieval_code"] = std::move(code);
  out.heads.values["activation_frequency"] = std::move(active);
  out.heads.values["kv_group_max"] = std::move(group_max);
  return {};
}

Status measure_patterns(engine::Session& session, const tokenizers::Tokenizer& tokenizer, const ProfileOptions& options,
                        const std::string& text, MeasuredProfile& out) {
  constexpr size_t kTextTokens = 512, kRepeated = 64;
  const attention::ModelShape& shape = session.shape();
  FOVEA_ASSIGN_OR_RETURN(std::vector<int32_t> tokens,
                         tokenizer.encode(std::string_view(text).substr(0, kTextTokens * 12)));
  tokens.resize(std::min({tokens.size(), kTextTokens, static_cast<size_t>(session.n_ctx())}));
  const auto run = [&](PatternStatistics& statistics, std::span<const int32_t> prompt) -> Status {
    session.observe(&statistics);
    const engine::SequenceId sequence = session.begin();
    auto done = session.prefill(sequence, prompt);
    session.stop_observing(&statistics);
    session.remove(sequence);
    return done ? Status() : Status(std::move(done.error()));
  };
  PatternStatistics natural(shape.n_layers, shape.n_heads, 2 * PatternStatistics::kLocal, 0);
  FOVEA_RETURN_IF_ERROR(run(natural, tokens));
  out.heads.values["sink_mass"] = natural.sink();
  out.heads.values["local_mass"] = natural.local();
  out.heads.values["previous_token"] = natural.previous();

  Rng random(options.needle.seed + 2);
  std::vector<int32_t> repeated;
  while (repeated.size() < kRepeated) {
    const auto id =
        static_cast<int32_t>(random.below(static_cast<uint64_t>(std::min(shape.vocab_size, tokenizer.vocab_size()))));
    if (!tokenizer.is_control(id)) repeated.push_back(id);
  }
  repeated.reserve(2 * kRepeated);
  for (size_t i = 0; i < kRepeated; ++i) repeated.push_back(repeated[i]);
  PatternStatistics twice(shape.n_layers, shape.n_heads, kRepeated, kRepeated);
  FOVEA_RETURN_IF_ERROR(run(twice, repeated));
  out.heads.values["induction"] = twice.induction();
  return {};
}

double rounded(double value) { return std::round(value * 1e4) / 1e4; }

// One head a line, so that two profiles can be compared by eye.
std::string to_json(const MeasuredProfile& profile, const ProfileOptions& options,
                    const std::vector<engine::Document>& haystacks) {
  Json names = Json::array();
  for (const engine::Document& text : haystacks) names.push_back(text.name);
  int64_t accepted = 0;
  for (const ProfileSample& sample : profile.samples) accepted += sample.accepted ? 1 : 0;
  const tasks::NeedleOptions& needle = options.needle;
  const auto dumped = [](const Json& json) {  // names of files need not be UTF-8
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  const Json how = {{"samples", profile.samples.size()},
                    {"accepted", accepted},
                    {"lengths", needle.lengths},
                    {"n_depths", needle.n_depths},
                    {"n_needles", needle.needles.size()},
                    {"texts", names},
                    {"decode_max", needle.decode_max},
                    {"top_k", needle.top_k},
                    {"success", fmt::format("ROUGE-1 recall of the answer > {}", needle.accept)},
                    {"seed", needle.seed},
                    {"attention", "dense"},
                    {"numerics", options.numerics == kernels::Numerics::kExact ? "exact" : "fast"},
                    {"engine", "fovea " + options.engine_version},
                    {"command", options.command}};
  std::string out = fmt::format(
      "{{\n\"version\": 1,\n\"model_sha256\": {},\n\"n_layers\": {},\n\"n_heads\": {},\n\"measured\": {},\n\"heads\": "
      "[\n",
      dumped(profile.heads.model_sha256), profile.heads.n_layers, profile.heads.n_heads, dumped(how));
  const int n_all = profile.heads.n_layers * profile.heads.n_heads;
  for (int head = 0; head < n_all; ++head) {
    Json row = {{"layer", head / profile.heads.n_heads}, {"head", head % profile.heads.n_heads}};
    // Without an accepted sample nothing is known: null, not zero.
    for (const char* name : {"retrieval", "retrieval_code", "activation_frequency", "kv_group_max"})
      row[name] = nullptr;
    for (const auto& [name, values] : profile.heads.values) row[name] = rounded(values[static_cast<size_t>(head)]);
    out += dumped(row) + (head + 1 < n_all ? ",\n" : "\n");
  }
  return out + "]\n}\n";
}

Result<FoundProfile> checked(std::string name, std::string json, const engine::Model& model,
                             const std::string& sha256) {
  FOVEA_ASSIGN_OR_RETURN(HeadProfile heads, engine::parse_head_profile(json, name, model.shape()));
  if (heads.model_sha256 != sha256)
    return make_error(ErrorCode::kData, "{}: it was measured on another model file", name);
  return FoundProfile{std::move(name), std::move(json), std::make_shared<const HeadProfile>(std::move(heads))};
}

}  // namespace

Result<MeasuredProfile> measure_profile(std::shared_ptr<const engine::Model> model,
                                        const tokenizers::Tokenizer& tokenizer, const ProfileOptions& options) {
  std::vector<engine::Document> haystacks = options.haystacks;
  if (haystacks.empty()) {
    FOVEA_ASSIGN_OR_RETURN(haystacks, tasks::default_haystacks());
  }
  MeasuredProfile out;
  FOVEA_ASSIGN_OR_RETURN(out.prompts,
                         tasks::make_needle_prompts(model->source(), tokenizer, haystacks, options.needle));
  // Always dense: a score taken through a sparse or compressed cache tells about the cache.
  FOVEA_ASSIGN_OR_RETURN(const auto session, engine::Session::create(model, {.numerics = options.numerics}));
  FOVEA_ASSIGN_OR_RETURN(out.heads.model_sha256, model->sha256());
  out.heads.n_layers = model->shape().n_layers;
  out.heads.n_heads = model->shape().n_heads;
  FOVEA_RETURN_IF_ERROR(measure_retrieval(*session, tokenizer, options, out));
  FOVEA_RETURN_IF_ERROR(measure_patterns(*session, tokenizer, options, haystacks[0].text, out));
  out.json = to_json(out, options, haystacks);
  return out;
}

Result<std::string> profile_cache_path(std::string_view model_sha256) {
  FOVEA_ASSIGN_OR_RETURN(const std::string dir, store::models_dir());
  return fmt::format("{}/profiles/{}.json", dir, model_sha256);
}

Result<FoundProfile> find_profile(const engine::Model& model) {
  FOVEA_ASSIGN_OR_RETURN(const std::string sha256, model.sha256());
  FOVEA_ASSIGN_OR_RETURN(const std::string path, profile_cache_path(sha256));
  auto cached = read_file(path, kMaxBytes);
  if (cached) return checked(path, std::move(*cached), model, sha256);
  if (cached.error().code != ErrorCode::kNotFound) return cached.error();
  for (const ShippedProfile& shipped : shipped_profiles()) {
    if (shipped.json.find(sha256) == std::string_view::npos) continue;
    return checked(fmt::format("the shipped {}", shipped.file_name), std::string(shipped.json), model, sha256);
  }
  return make_error(ErrorCode::kNotFound, "there is no head profile of {}; make one with: fovea profile -m {}",
                    model.path(), model.path());
}

}  // namespace fovea::probe

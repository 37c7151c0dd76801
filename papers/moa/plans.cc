#include <algorithm>
#include <cmath>
#include <utility>

#include "fovea/kernels/attention.h"
#include "papers/moa/measure.h"
#include "papers/support/task_run.h"

namespace fovea::papers::moa {
namespace {

probe::MoaOptions options_of(const Run& run) {
  probe::MoaOptions out;
  out.lengths = run.numbers("lengths"), out.validate = run.number("validate");
  out.block = run.number("block"), out.samples = run.number("profiled"), out.seed = run.seed();
  out.numerics = run.numerics(), out.cancel = run.cancel();
  return out;
}
Json setting_of(const Run& run) {
  return {{"lengths", run.word("lengths")}, {"block", run.number("block")}, {"samples", run.number("profiled")}};
}

Result<probe::Influences> influences(Run& run) {
  probe::Influences out;
  const probe::MoaOptions all = options_of(run);
  for (const int length : all.lengths) {
    const Json setting = {{"length", length}, {"block", all.block}, {"samples", all.samples}};
    FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell("influence", setting, [&]() -> Result<Json> {
      probe::MoaOptions options = all;
      options.lengths = {length}, options.validate = length;
      options.progress = [&](int64_t done, int64_t total, const char* what) { run.progress(what, done, total); };
      FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, run.model()->tokenizer());
      FOVEA_ASSIGN_OR_RETURN(const auto measured, probe::measure_influences(run.model(), *tokenizer, options));
      Json samples = Json::array();
      for (const probe::Influence& one : measured[0])
        samples.push_back({{"loss", one.loss}, {"by_distance", one.by_distance}});
      return Json{{"samples measured", samples}};
    }));
    out.emplace_back();
    for (const Json& one : cell.at("samples measured"))
      out.back().push_back(
          {one.at("by_distance").get<std::vector<std::vector<double>>>(), one.at("loss").get<double>()});
  }
  return out;
}

}  // namespace

Result<Plan> plan(Run& run, int percent, bool shuffled) {
  const attention::ModelShape& shape = run.model()->shape();
  probe::MoaOptions options = options_of(run);
  options.density = percent / 100.0, options.shuffled = shuffled;
  FOVEA_ASSIGN_OR_RETURN(const probe::Influences influence, influences(run));
  Json setting = setting_of(run);
  setting["density"] = percent, setting["validate"] = options.validate;
  FOVEA_ASSIGN_OR_RETURN(
      const Json cell, run.cell(shuffled ? "plan of shuffled influence" : "plan", setting, [&]() -> Result<Json> {
        options.progress = [&](int64_t done, int64_t total, const char* what) { run.progress(what, done, total); };
        FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, run.model()->tokenizer());
        FOVEA_ASSIGN_OR_RETURN(const auto found, probe::plan_moa(run.model(), *tokenizer, options, influence));
        std::vector<double> alphas, betas;
        for (const probe::SpanRule& rule : found.rules) alphas.push_back(rule.alpha), betas.push_back(rule.beta);
        return Json{{"alphas", alphas},
                    {"betas", betas},
                    {"densities", found.densities},
                    {"validated at", found.options.validate},
                    {"loss", found.loss},
                    {"dense loss", found.dense_loss},
                    {"loss, one span for all", found.uniform_loss}};
      }));
  Plan out;
  const auto alphas = cell.at("alphas").get<std::vector<double>>(), betas = cell.at("betas").get<std::vector<double>>();
  for (size_t i = 0; i < alphas.size(); ++i) out.rules.push_back({static_cast<int>(alphas[i]), betas[i]});
  out.lengths = options.lengths, out.lengths.push_back(cell.at("validated at").get<int>());
  out.densities = cell.at("densities").get<std::vector<double>>();
  out.wanted = options.density, out.block = options.block;
  auto profile = std::make_shared<attention::HeadProfile>();
  profile->n_layers = shape.n_layers, profile->n_heads = shape.n_heads, profile->n_kv_heads = shape.n_kv_heads;
  probe::set_spans(*profile, out.rules, out.block);
  out.profile = std::move(profile);
  return out;
}

Result<Losses> losses(Run& run, int percent, int length) {
  FOVEA_ASSIGN_OR_RETURN(const Plan mine, plan(run, percent));
  FOVEA_ASSIGN_OR_RETURN(const Plan other, plan(run, percent, /*shuffled=*/true));
  const int draws = run.number("draws");
  Json setting = setting_of(run);
  setting["density"] = percent, setting["length"] = length, setting["draws"] = draws;
  setting["prompts"] = run.number("answers");
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell("losses of answers", setting, [&]() -> Result<Json> {
    probe::MoaOptions options = options_of(run);
    options.samples = run.number("answers"), options.seed += 1;  // other prompts than the plan's
    options.progress = [&](int64_t done, int64_t total, const char* what) { run.progress(what, done, total); };
    std::vector<probe::Reading> readings = {{"dense", nullptr},
                                            {kPlan, mine.profile},
                                            {std::string(kPlan) + ":control=uniform", mine.profile},
                                            {kPlan, other.profile}};
    for (int draw = 0; draw < draws; ++draw)
      readings.push_back({std::string(kPlan) + ":control=shuffle:seed=" + std::to_string(draw), mine.profile});
    FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, run.model()->tokenizer());
    FOVEA_ASSIGN_OR_RETURN(const std::vector<double> lost,
                           probe::answer_losses(run.model(), *tokenizer, options, length, readings));
    double shuffled = 0;
    for (size_t i = 4; i < lost.size(); ++i) shuffled += lost[i] / draws;
    return Json{{"dense", lost[0]},
                {"plan", lost[1]},
                {"one span for all", lost[2]},
                {"shuffled within layers", shuffled},
                {"of shuffled influence", lost[3]}};
  }));
  return Losses{length,
                run.number("answers"),
                draws,
                cell.at("dense").get<double>(),
                cell.at("plan").get<double>(),
                cell.at("one span for all").get<double>(),
                cell.at("shuffled within layers").get<double>(),
                cell.at("of shuffled influence").get<double>()};
}

Result<Kept> kept(Run& run, const Plan& of) {
  DecodeOptions options{.attention = kPlan, .n_decoded = 2, .profile = of.profile};
  options.n_prompt = run.lengths("memory-length", options.n_decoded)[0];
  FOVEA_ASSIGN_OR_RETURN(const DecodeRun got, decode_run(run, options));
  Kept out{got.n_keys - options.n_decoded, true};
  const auto pages = [](int64_t n) { return (n + kernels::kPageKeys - 1) / kernels::kPageKeys; };
  const int64_t n_heads = std::ssize(got.kept);
  int64_t of_plan = 0;
  for (size_t id = 0; id < got.kept.size(); ++id) {
    const probe::SpanRule& rule = of.rules[id];
    const int64_t span = probe::span_blocks(rule, out.n_prompt, of.block) * of.block;
    // The next row sees its own key too.
    const int64_t keys = rule.beta >= 1 && rule.alpha >= 0 ? got.n_keys : std::min<int64_t>(got.n_keys, span - 1);
    out.keys_equal = out.keys_equal && got.kept[id] == keys;
    of_plan += pages(keys);
  }
  const auto all = static_cast<double>(n_heads * pages(got.n_keys));
  out.bytes = static_cast<double>(got.bytes.kept) / static_cast<double>(got.bytes.dense);
  out.of_plan = static_cast<double>(of_plan) / all, out.slack = static_cast<double>(n_heads) / all;
  return out;
}

}  // namespace fovea::papers::moa

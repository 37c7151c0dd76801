#include "papers/retrieval-heads/measure.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "fovea/probe/measures/needle_reader.h"
#include "fovea/probe/measures/profile.h"

namespace fovea::papers::retrieval_heads {
namespace {

using Model = std::shared_ptr<const engine::Model>;

void add(Scores& sum, const Scores& more) {
  sum.resize(std::max(sum.size(), more.size()));
  for (size_t head = 0; head < more.size(); ++head) sum[head] += more[head];
}

// How short prompts are answered under one --attention, with the ways to fail counted.
Result<Json> answer(Run& run, const std::string& attention, const Scores& ranked) {
  tasks::NeedleOptions options;
  options.lengths = run.lengths("mask-length", options.decode_max), options.n_depths = run.number("mask-depths");
  options.seed = run.seed() + 7;  // other places of the texts than the detection's
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, run.model()->tokenizer());
  FOVEA_ASSIGN_OR_RETURN(const auto texts, tasks::default_haystacks());
  FOVEA_ASSIGN_OR_RETURN(const auto prompts,
                         tasks::make_needle_prompts(run.model()->source(), *tokenizer, texts, options));
  std::shared_ptr<const attention::HeadProfile> profile;
  if (!ranked.empty()) profile = std::make_shared<attention::HeadProfile>(profile_of(run, ranked));
  FOVEA_ASSIGN_OR_RETURN(
      const auto session,
      engine::Session::create(run.model(), {.numerics = run.numerics(), .attention = attention, .profile = profile}));
  probe::NeedleReader reader(*session, *tokenizer);
  Json out = {{"recall", 0.0},         {"found", 0},        {"no answer", 0}, {"incomplete", 0},
              {"wrong extraction", 0}, {"hallucination", 0}};
  double recall = 0;
  for (const auto& prompt : prompts) {
    FOVEA_ASSIGN_OR_RETURN(const auto sample, reader.answer(prompt, options, /*with_trace=*/false, run.cancel()));
    FOVEA_ASSIGN_OR_RETURN(const std::string read, tokenizer->decode(prompt.tokens));
    Json& n =
        out[tasks::name_of(tasks::label_answer(sample.text, options.needles[prompt.needle], read, options.accept))];
    n = n.get<int>() + 1;
    recall += 100 * sample.recall / static_cast<double>(prompts.size());
  }
  out["recall"] = recall;
  return out;
}

}  // namespace

Scores planted_scores(tasks::TokenSpan label) {
  const attention::ModelShape shape{.n_layers = 6, .n_heads = 4, .n_kv_heads = 2};
  std::vector<int32_t> prompt(20), positions(26);
  std::iota(prompt.begin(), prompt.end(), 100);
  std::iota(positions.begin(), positions.end(), 0);
  probe::TopKeys keys(shape.n_layers, shape.n_heads);
  probe::CopyTrace trace = keys.new_trace();
  for (int32_t step = 0; step < 6; ++step) {
    const std::vector<int32_t> q_pos = {19 + step};
    for (int head = 0; head < kPlantedHeads; ++head) {
      int32_t peak = 0;
      if (head == kEveryStep || (head == kEverySecondStep && step % 2 == 0)) peak = 8 + step;
      if (head == kWrongToken) peak = 8 + (step + 1) % 6;
      std::vector<float> row(static_cast<size_t>(q_pos[0]) + 1, 0.1f / 26);
      row[static_cast<size_t>(peak)] = 0.9f;
      const attention::Call call{shape, head / shape.n_heads, 0, q_pos, attention::Phase::kDecode, nullptr};
      keys.see({call, head % shape.n_heads, q_pos[0], std::span(positions).first(row.size())}, row);
    }
    keys.take(108 + step, trace);
  }
  return probe::retrieval_scores(trace, prompt, label);
}

double Detected::share(const std::function<bool(double)>& of_score) const {
  const auto n = std::count_if(scores.begin(), scores.end(), of_score);
  return 100.0 * static_cast<double>(n) / static_cast<double>(scores.size());
}

Result<Json> detect(Run& run, const Model& model, int length) {
  probe::ProfileOptions options;
  options.needle.lengths = {length}, options.needle.n_depths = run.number("depths"), options.needle.seed = run.seed();
  options.numerics = run.numerics(), options.cancel = run.cancel();
  options.progress = [&](int64_t done, int64_t total, int64_t) { run.progress("hiding needles", done, total); };
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, model->tokenizer());
  FOVEA_ASSIGN_OR_RETURN(const auto profile, probe::measure_profile(model, *tokenizer, options));
  std::map<std::string, Scores> sums;
  int accepted = 0;
  for (const auto& sample : profile.samples) {
    if (!sample.accepted) continue;
    add(sums[accepted++ % 2 == 0 ? "even" : "odd"], sample.scores);
    add(sums["moved"], sample.scores_moved);
  }
  return Json{{"samples", profile.samples.size()},
              {"accepted", accepted},
              {"scored", profile.heads.find("retrieval") != nullptr},
              {"sums", sums}};
}

Result<Detected> detected(Run& run) {
  Detected out;
  for (const int length : run.lengths("lengths", tasks::NeedleOptions().decode_max)) {
    const Json setting = {{"length", length}, {"depths", run.number("depths")}};
    FOVEA_ASSIGN_OR_RETURN(const Json cell,
                           run.cell("detection", setting, [&] { return detect(run, run.model(), length); }));
    out.samples += cell.at("samples").get<size_t>();
    out.accepted += cell.at("accepted").get<size_t>();
    const Json& sums = cell.at("sums");
    if (sums.contains("even")) add(out.even, sums.at("even").get<Scores>());
    if (sums.contains("odd")) add(out.odd, sums.at("odd").get<Scores>());
    if (sums.contains("moved")) add(out.moved, sums.at("moved").get<Scores>());
  }
  const attention::ModelShape& shape = run.model()->shape();
  const auto n_heads = static_cast<size_t>(shape.n_layers) * static_cast<size_t>(shape.n_heads);
  for (Scores* scores : {&out.even, &out.odd, &out.moved}) {  // empty where no sample fell to them
    if (!scores->empty() && scores->size() != n_heads)
      return make_error(ErrorCode::kData, "a detection was kept that has {} heads, this model {}; measure with --again",
                        scores->size(), n_heads);
    scores->resize(n_heads);
  }
  add(out.scores, out.even);
  add(out.scores, out.odd);
  for (Scores* mean : {&out.scores, &out.moved}) {
    for (double& score : *mean) score /= static_cast<double>(out.accepted);
  }
  return out;
}

Result<double> recall(Run& run, const Detected& ranked, int k, int draw) {
  std::string attention =
      k == 0 ? "dense" : fmt::format("retrieval-heads:mask_top={}:mask_mode={}", k, run.word("mode"));
  if (k < 0) attention += fmt::format(":seed={}", draw);
  Json setting = {{"length", run.word("mask-length")}, {"depths", run.number("mask-depths")}};
  if (k != 0) setting["ranked by lengths"] = run.word("lengths"), setting["and depths"] = run.word("depths");
  FOVEA_ASSIGN_OR_RETURN(const Json cell,
                         run.cell(attention, setting, [&] { return answer(run, attention, ranked.scores); }));
  return cell.at("recall").get<double>();
}

Result<Masked> masked(Run& run, const Detected& ranked) {
  Masked out{};
  FOVEA_ASSIGN_OR_RETURN(const double plain, recall(run, ranked, 0));
  for (const int k : run.numbers("masked")) {
    FOVEA_ASSIGN_OR_RETURN(const double best, recall(run, ranked, k));
    Masked of_k{plain, best, 0, 100};
    for (int draw = 0; draw < run.number("draws"); ++draw) {
      FOVEA_ASSIGN_OR_RETURN(const double random, recall(run, ranked, -k, draw));
      of_k.random += random / run.number("draws");
      of_k.worst = std::min(of_k.worst, random);
    }
    if (k == run.number("masked")) out = of_k;
  }
  return out;
}

Result<Watched> watched(Run& run, DecodeOptions options) {
  const attention::ModelShape& shape = run.model()->shape();
  probe::TopKeys keys(shape.n_layers, shape.n_heads);
  probe::CopyTrace trace = keys.new_trace();
  options.observer = &keys;
  options.on_step = [&](int32_t token) { keys.take(token, trace); };
  FOVEA_ASSIGN_OR_RETURN(DecodeRun out, decode_run(run, options));
  return Watched{std::move(out), std::move(trace)};
}

attention::HeadProfile profile_of(const Run& run, const Scores& scores) {
  const attention::ModelShape& shape = run.model()->shape();
  return {
      "", shape.n_layers, shape.n_heads, shape.n_kv_heads, {{"retrieval", {attention::Granularity::kHead, scores}}}};
}

}  // namespace fovea::papers::retrieval_heads

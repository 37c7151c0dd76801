#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "fovea/base/random.h"
#include "fovea/tasks/words.h"
#include "papers/act-attention-calibration/measure.h"

namespace fovea::papers::act {
namespace {

struct Written {
  std::string text;
  std::vector<std::string> labels;
  size_t right = 0;
};

const std::array<std::string, 4> kKinds = {"food", "town", "month", "trade"};
const std::vector<std::string>& words_of(size_t kind) {
  switch (kind) {
    case 0: return tasks::foods();
    case 1: return tasks::towns();
    case 2: return tasks::months();
    default: return tasks::trades();
  }
}

Written which_kind(Rng& rng) {
  const size_t kind = rng.below(4);
  return {fmt::format("Word: {}\nIs this word a food, a town, a month or a trade?\nAnswer: It is a",
                      tasks::one_of(words_of(kind), rng)),
          {kKinds.begin(), kKinds.end()},
          kind};
}
Written which_word(Rng& rng) {
  const size_t kind = rng.below(4), place = rng.below(4);
  std::vector<size_t> others = {0, 1, 2, 3};
  std::erase(others, kind);
  tasks::shuffle(others, rng);
  others.insert(others.begin() + static_cast<ptrdiff_t>(place), kind);
  Written out{fmt::format("Question: Which of these is a {}?\n", kKinds[kind]), {"A", "B", "C", "D"}, place};
  for (size_t i = 0; i < 4; ++i)
    out.text += fmt::format("{}. {}\n", out.labels[i], tasks::one_of(words_of(others[i]), rng));
  out.text += "Answer:";
  return out;
}
Written is_it(Rng& rng) {
  const size_t kind = rng.below(4), asked = rng.below(2) ? kind : (kind + 1 + rng.below(3)) % 4;
  return {fmt::format("Question: Is the word \"{}\" the name of a {}?\nAnswer (yes or no):",
                      tasks::one_of(words_of(kind), rng), kKinds[asked]),
          {"yes", "no"},
          kind == asked ? 0u : 1u};
}
Written which_mood(Rng& rng) {
  static const std::vector<std::string> things = {"food", "film",  "hotel",  "service",
                                                  "book", "music", "garden", "tour"};
  static const std::vector<std::string> good = {"wonderful", "delightful", "charming", "excellent", "lovely", "superb"};
  static const std::vector<std::string> bad = {"awful", "terrible", "boring", "horrible", "dull", "nasty"};
  static const std::vector<std::string> glad = {"I would come again", "everyone was happy", "it was worth the price",
                                                "I told all my friends"};
  static const std::vector<std::string> sorry = {"I want my money back", "nobody was happy", "we left early",
                                                 "I will never return"};
  const bool is_bad = rng.below(2) != 0;
  // Every other one begins with the other mood.
  const bool turns = rng.below(2) != 0;
  return {fmt::format("Review: The {} was {}, {} {}.\nSentiment (positive or negative):", tasks::one_of(things, rng),
                      tasks::one_of(is_bad != turns ? bad : good, rng), turns ? "but in the end" : "and",
                      tasks::one_of(is_bad ? sorry : glad, rng)),
          {"positive", "negative"},
          is_bad ? 1u : 0u};
}

}  // namespace

Result<std::vector<Labelled>> labelled(Run& run, int n) {
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, run.model()->tokenizer());
  Rng rng(run.seed() + 17);
  std::vector<Labelled> out;
  for (int i = 0; i < n; ++i) {
    const Written written = i % 4 == 0   ? which_kind(rng)
                            : i % 4 == 1 ? which_word(rng)
                            : i % 4 == 2 ? is_it(rng)
                                         : which_mood(rng);
    Labelled one;
    one.right = written.right;
    FOVEA_ASSIGN_OR_RETURN(one.tokens, tokenizer->encode(written.text));
    for (const std::string& label : written.labels) {
      FOVEA_ASSIGN_OR_RETURN(const auto ids, tokenizer->encode(" " + label, {.add_special = false, .continues = true}));
      one.labels.push_back(ids[0]);
    }
    out.push_back(std::move(one));
  }
  return out;
}

Result<std::vector<double>> answered(Run& run, const std::string& attention, const std::vector<size_t>& samples,
                                     const std::string& what) {
  const Json setting = {{"samples", run.number("samples")}, {"which", what}};
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell(attention, setting, [&]() -> Result<Json> {
    FOVEA_ASSIGN_OR_RETURN(const auto all, labelled(run, run.number("samples")));
    FOVEA_ASSIGN_OR_RETURN(const auto session,
                           engine::Session::create(run.model(), {.numerics = run.numerics(), .attention = attention}));
    constexpr size_t kTogether = 8;  // prompts of a pass
    std::vector<double> right;
    for (size_t first = 0; first < samples.size(); first += kTogether) {
      run.progress("answers", static_cast<int64_t>(first), std::ssize(samples));
      std::vector<engine::Session::Feed> feeds;
      for (size_t i = first; i < std::min(samples.size(), first + kTogether); ++i) {
        feeds.push_back({.sequence = session->begin(), .tokens = all[samples[i]].tokens});
        feeds.back().phase = attention::Phase::kPromptEnd;
      }
      FOVEA_ASSIGN_OR_RETURN(const tensor::Tensor logits, session->step(feeds, run.cancel()));
      for (size_t i = 0; i < feeds.size(); ++i) {
        const Labelled& sample = all[samples[first + i]];
        const float* row = logits.data() + static_cast<int64_t>(i) * logits.dim(1);
        const auto best = std::max_element(sample.labels.begin(), sample.labels.end(),
                                           [row](int32_t a, int32_t b) { return row[a] < row[b]; });
        right.push_back(static_cast<size_t>(best - sample.labels.begin()) == sample.right ? 1 : 0);
        session->remove(feeds[i].sequence);
      }
    }
    return Json{{"accuracy", 100 * tasks::mean_of(right)}, {"right", right}};
  }));
  return cell.at("right").get<std::vector<double>>();
}

Result<std::vector<Split>> filtered(Run& run) {
  const auto n = static_cast<size_t>(run.number("samples"));
  std::vector<size_t> all(n);
  std::iota(all.begin(), all.end(), size_t{0});
  FOVEA_ASSIGN_OR_RETURN(const std::vector<int> heads, candidates(run));
  FOVEA_ASSIGN_OR_RETURN(const std::vector<double> dense, answered(run, "dense", all, "all"));
  std::vector<std::vector<double>> alone;
  for (const int head : heads) {
    FOVEA_ASSIGN_OR_RETURN(std::vector<double> right, answered(run, calibrating(run, {head}), all, "all"));
    alone.push_back(std::move(right));
  }
  const attention::ModelShape& shape = run.model()->shape();
  std::vector<Split> out;
  for (int split = 0; split < run.number("splits"); ++split) {
    Rng rng(run.seed() * 1'000'003 + static_cast<uint64_t>(split) + 29);
    std::vector<size_t> order = all;
    tasks::shuffle(order, rng);
    const std::vector<size_t> search(order.begin(), order.begin() + static_cast<ptrdiff_t>(n / 2)),
        test(order.begin() + static_cast<ptrdiff_t>(n / 2), order.end());
    const auto of = [](const std::vector<double>& right, const std::vector<size_t>& samples) {
      double sum = 0;
      for (const size_t i : samples) sum += right[i];
      return sum;
    };
    std::vector<int> chosen, others;
    for (size_t i = 0; i < heads.size(); ++i) {
      if (of(alone[i], search) > of(dense, search)) chosen.push_back(heads[i]);
    }
    for (int id = skipped_layers(run) * shape.n_heads; id < (shape.n_layers - skipped_layers(run)) * shape.n_heads;
         ++id) {
      if (std::find(chosen.begin(), chosen.end(), id) == chosen.end()) others.push_back(id);
    }
    tasks::shuffle(others, rng);
    others.resize(std::min(others.size(), chosen.size()));
    Split one;
    one.n_heads = chosen.size(), one.dense = of(dense, test) / static_cast<double>(test.size());
    const auto by_dense = [&](const std::string& attention) -> Result<std::vector<double>> {
      std::vector<double> gains(test.size(), 0.0);
      if (chosen.empty()) return gains;
      FOVEA_ASSIGN_OR_RETURN(const std::vector<double> right,
                             answered(run, attention, test, fmt::format("the other half of split {}", split)));
      for (size_t i = 0; i < test.size(); ++i) gains[i] = right[i] - dense[test[i]];
      return gains;
    };
    FOVEA_ASSIGN_OR_RETURN(one.gains, by_dense(calibrating(run, chosen)));
    FOVEA_ASSIGN_OR_RETURN(one.random, by_dense(calibrating(run, others)));
    FOVEA_ASSIGN_OR_RETURN(one.elsewhere,
                           by_dense(calibrating(run, chosen, fmt::format(":control=sinks:seed={}", split))));
    out.push_back(std::move(one));
  }
  return out;
}

Gain gain_of(const std::vector<Split>& splits, std::vector<double> Split::*which, uint64_t seed) {
  Gain out;
  std::vector<double> all;
  for (const Split& split : splits) {
    all.insert(all.end(), (split.*which).begin(), (split.*which).end());
    out.dense += 100 * split.dense / static_cast<double>(splits.size());
    out.heads += static_cast<double>(split.n_heads) / static_cast<double>(splits.size());
  }
  out.mean = 100 * tasks::mean_of(all);
  out.interval = tasks::bootstrap_interval(all, seed);
  return out;
}
}  // namespace fovea::papers::act

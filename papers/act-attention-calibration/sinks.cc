#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <numeric>
#include <utility>

#include "fovea/base/bytes.h"
#include "papers/act-attention-calibration/measure.h"

namespace fovea::papers::act {
namespace {

// What the rows of a prompt give to each of its keys, in every head.
class Columns final : public attention::RowObserver {
 public:
  Columns(const attention::ModelShape& shape, size_t n_tokens)
      : n_heads_(static_cast<size_t>(shape.n_heads)),
        sums(static_cast<size_t>(shape.n_layers) * n_heads_, std::vector<double>(n_tokens, 0.0)) {}
  bool wants(int, int, bool) const override { return true; }
  void see(const attention::RowView& row, std::span<const float> pattern) override {
    std::vector<double>& mine = sums[static_cast<size_t>(row.call.layer) * n_heads_ + static_cast<size_t>(row.head)];
    for (size_t i = 0; i < pattern.size(); ++i) {
      if (row.key_positions[i] >= 0) mine[static_cast<size_t>(row.key_positions[i])] += double{pattern[i]};
    }
  }

 private:
  size_t n_heads_;

 public:
  std::vector<std::vector<double>> sums;  // of each head, by position of the key
};

bool is_mark(const tokenizers::Tokenizer& tokenizer, int32_t token) {
  const std::string_view piece = tokenizer.piece(token);
  return tokenizer.is_control(token) || std::none_of(piece.begin(), piece.end(), [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) || static_cast<unsigned char>(c) >= 0x80;
         });
}

}  // namespace

Result<Sinks> hidden_sinks(Run& run) {
  const attention::ModelShape& shape = run.model()->shape();
  const int length = run.lengths("text", 0)[0], n_texts = run.number("texts");
  const Json setting = {{"texts", n_texts}, {"tokens", length}};
  FOVEA_ASSIGN_OR_RETURN(const Json cell, run.cell("hidden sinks", setting, [&]() -> Result<Json> {
    FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, run.model()->tokenizer());
    FOVEA_ASSIGN_OR_RETURN(const auto texts,
                           task_samples(run, {.task = "nll", .length = length, .n_samples = n_texts}));
    FOVEA_ASSIGN_OR_RETURN(const auto session, engine::Session::create(run.model(), {.numerics = run.numerics()}));
    const auto n_heads = static_cast<size_t>(shape.n_layers) * static_cast<size_t>(shape.n_heads);
    std::vector<double> of_heads(n_heads, 0.0), first(n_heads, 0.0);
    std::map<std::string, int> at_tokens;
    double weight = 0, marks = 0, all_marks = 0, n_keys = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
      run.progress("hidden sinks", static_cast<int64_t>(i), n_texts);
      std::vector<int32_t> tokens = texts[i].context;
      const std::vector<int32_t>& rest = texts[i].questions[0].tokens;
      tokens.insert(tokens.end(), rest.begin(), rest.end());
      Columns columns(shape, tokens.size());
      session->observe(&columns);
      const engine::SequenceId sequence = session->begin();
      engine::PrefillOptions options;
      options.cancel = run.cancel();
      const auto read = session->prefill(sequence, tokens, options);
      session->stop_observing(&columns);
      session->remove(sequence);
      if (!read) return read.error();
      for (size_t t = 1; t + kLeastRows <= tokens.size(); ++t) n_keys += 1, all_marks += is_mark(*tokenizer, tokens[t]);
      for (size_t head = 0; head < n_heads; ++head) {
        first[head] += columns.sums[head][0] / static_cast<double>(tokens.size() * texts.size());
        for (size_t t = 1; t + kLeastRows <= tokens.size(); ++t) {
          const double mean = columns.sums[head][t] / static_cast<double>(tokens.size() - t);
          if (mean <= kThreshold) continue;
          of_heads[head] += 1, weight += mean, marks += is_mark(*tokenizer, tokens[t]);
          ++at_tokens[std::string(tokenizer->piece(tokens[t]))];
        }
      }
    }
    std::vector<std::pair<int, std::string>> most;
    for (const auto& [token, n] : at_tokens) most.emplace_back(-n, token);
    std::sort(most.begin(), most.end());
    std::string names;
    for (size_t i = 0; i < std::min<size_t>(5, most.size()); ++i)
      names += fmt::format("{}\"{}\" {}", i > 0 ? ", " : "", escaped_line(most[i].second), -most[i].first);
    double first_sum = 0, n_having = 0;
    for (size_t head = 0; head < n_heads; ++head) {
      if (of_heads[head] > 0) first_sum += first[head], n_having += 1;
    }
    const double n = std::accumulate(of_heads.begin(), of_heads.end(), 0.0);
    return Json{{"of_heads", of_heads},
                {"sinks", n},
                {"share at marks", n > 0 ? marks / n : 0},
                {"marks among keys", n_keys > 0 ? all_marks / n_keys : 0},
                {"mean weight", n > 0 ? weight / n : 0},
                {"first key's", n_having > 0 ? first_sum / n_having : 0},
                {"most often", names}};
  }));
  Sinks out;
  out.texts = n_texts, out.of_heads = cell.at("of_heads").get<std::vector<double>>();
  out.n = cell.at("sinks").get<double>(), out.marks = cell.at("share at marks").get<double>();
  out.marks_all = cell.at("marks among keys").get<double>(), out.weight = cell.at("mean weight").get<double>();
  out.first = cell.at("first key's").get<double>();
  out.most = cell.at("most often").get<std::string>();
  return out;
}

int skipped_layers(const Run& run) { return run.model()->shape().n_layers > 4 ? 2 : 0; }

std::string calibrating(const Run& run, const std::vector<int>& heads, const std::string& knobs) {
  const int n_heads = run.model()->shape().n_heads;
  std::string names;
  for (const int id : heads) names += fmt::format("{}{}.{}", names.empty() ? "" : "+", id / n_heads, id % n_heads);
  return fmt::format("act-attention-calibration:skip={}:heads={}{}", skipped_layers(run),
                     names.empty() ? "none" : names, knobs);
}

Result<std::vector<int>> candidates(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Sinks sinks, hidden_sinks(run));
  const attention::ModelShape& shape = run.model()->shape();
  std::vector<int> out;
  for (int id = skipped_layers(run) * shape.n_heads; id < (shape.n_layers - skipped_layers(run)) * shape.n_heads; ++id)
    out.push_back(id);
  std::stable_sort(out.begin(), out.end(), [&](int a, int b) {
    return sinks.of_heads[static_cast<size_t>(a)] > sinks.of_heads[static_cast<size_t>(b)];
  });
  out.resize(std::min(out.size(), static_cast<size_t>(run.number("candidates"))));
  return out;
}

}  // namespace fovea::papers::act

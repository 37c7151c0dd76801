// Lee et al., "HiP Attention: Sparse Sub-Quadratic Attention with Hierarchical Attention Pruning", arXiv:2406.09827: a
// tree search over blocks of keys finds the k that a block of queries reads (sec. 3), by about k log2(n / k) scores.
#include <fmt/format.h>

#include "papers/hip-attention/measure.h"

namespace fovea::papers::hip_attention {
namespace {
using enum Kind;

Result<Outcome> exact_on_made_up(Run&) {
  const Planted found = planted();
  return Outcome{found.n_alike == found.n_rows, fmt::format("{} of {} rows", found.n_alike, found.n_rows)};
}
Result<Outcome> keys_alike(Run& run, bool exact) {
  FOVEA_ASSIGN_OR_RETURN(const Compared found, compared(run, exact));
  return Outcome{found.worst < 1e-4, fmt::format("alike in {} of {} rows of heads, else {:.1g} of the weight apart",
                                                 found.n_alike, found.n_rows, found.worst)};
}
Result<Outcome> sparse_kernel(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Compared found, compared(run, false));
  return Outcome{found.weights < 1e-4 && found.z < 1e-4,
                 fmt::format("weights {:.1g}, z {:.1g} of its largest number apart", found.weights, found.z)};
}

using OfFound = Outcome (*)(const Run&, const Found&);
std::function<Result<Outcome>(Run&)> of_found(OfFound judge) {
  return [judge](Run& run) -> Result<Outcome> {
    FOVEA_ASSIGN_OR_RETURN(const Found of, found(run));
    if (of.n_rows == 0) return no_data("the text is too short to be searched");
    return judge(run, of);
  };
}
Outcome recall(const Run&, const Found& of) {
  const Recall& r = of.recall;
  return {r.center > r.random && r.center > r.window,
          fmt::format("{:.3f} of the k highest keys' weight; random {:.3f}, window {:.3f}, first {:.3f}, blocks of 2 "
                      "{:.3f}; the best blocks {:.3f}",
                      r.center, r.random, r.window, r.first, r.fine, r.blocks)};
}
// Where the search finds no more than chance there is nothing that a control could lose.
bool finds(const Recall& r) { return r.center > 1.5 * r.random; }
Outcome no_better_than_chance(const Run&, const Found& of, double Recall::*changed) {
  const Recall& r = of.recall;
  if (!finds(r)) return no_data(fmt::format("the search finds {:.3f}, chance {:.3f}", r.center, r.random));
  return {r.*changed < r.random + 0.1 * (r.center - r.random),
          fmt::format("{:.3f}, random blocks {:.3f}, the search {:.3f}", r.*changed, r.random, r.center)};
}
Outcome shuffled(const Run&, const Found& of) {
  constexpr double kLocal = 0.4;  // random weights reach 0.34
  const Recall& r = of.recall;
  if (!finds(r)) return no_data(fmt::format("the search finds {:.3f}, chance {:.3f}", r.center, r.random));
  if (r.locality < kLocal)
    return no_data(fmt::format("scores of neighbouring blocks correlate by {:.2f}, under {}", r.locality, kLocal));
  return {r.shuffled < 0.8 * r.center,
          fmt::format(
              "{:.3f}, in order {:.3f}; blocks of 2 {:.3f} and {:.3f}; the k highest 1; neighbours correlate by {:.2f}",
              r.shuffled, r.center, r.fine_shuffled, r.fine, r.locality)};
}
Outcome scores_made(const Run& run, const Found& of) {
  std::string text;
  bool within = !of.scored.empty();
  for (const auto& [n, scored] : of.scored) {
    within = within && scored <= of.bound.at(n);
    text += fmt::format("{}{:.0f} of {} (at most {:.0f})", text.empty() ? "" : ", ", scored, n, of.bound.at(n));
  }
  if (of.scored.empty()) return no_data(fmt::format("{} keys are found in any length here", run.number("k")));
  return {within, text};
}

Result<Outcome> needles(Run& run, double dense) {
  FOVEA_ASSIGN_OR_RETURN(const double searched, needle_score(run, with_keys(run)));
  FOVEA_ASSIGN_OR_RETURN(const double window_only, needle_score(run, window(run)));
  return Outcome{searched >= 0.9 * dense && window_only < searched,
                 fmt::format("{:.0f} %, dense {:.0f}, window {:.0f}", searched, dense, window_only)};
}

FOVEA_REPRODUCTION(Paper{
    .slug = "hip-attention",
    .title = "HiP Attention: Sparse Sub-Quadratic Attention with Hierarchical Attention Pruning",
    .source = "arXiv:2406.09827",
    .n_items = 5,
    .model = "qwen2.5-coder-0.5b",
    .settings = {{"task", "niah", "niah", "what is asked", 0, -1, {"niah", "passkey"}},
                 {"length", "4096", "400", "tokens of its prompts, and of the text whose weights and loss are taken",
                  128, 1 << 20},
                 {"samples", "10", "2", "prompts", 1, 1000},
                 {"k", "256", "64", "keys that are found", 1, 1 << 20},
                 {"block", "32", "8", "keys of a block: 1, 2, 4, 8, 16 or 32", 1, 32},
                 {"window", "256", "64", "last keys", 1, 1 << 20},
                 {"sinks", "16", "4", "first keys", 0, 1 << 20},
                 {"scored", "128", "32", "last tokens of the text, whose loss is taken", 8, 1 << 20},
                 {"prompt-lengths", "2048,8192", "448", "tokens of prompts that are timed", 64, 1 << 20}},
    .checks = {
        {1, kExact, "logits with k of all keys", "the same bits",
         [](Run& run) {
           return same_bits_throughout(run, "hip-attention:k=160:window=1:n_sink=0:dense_layers=0", 160);
         }},
        {1, kExact, "keys by exact representatives, made-up heads", "the k highest", exact_on_made_up},
        {1, kExact, "keys by exact representatives, the model's heads", "the k highest to 1e-4 of their weight",
         [](Run& run) { return keys_alike(run, true); }},
        {2, kExact, "weights and z of the keys that are read", "masked dense attention to 1e-4", sparse_kernel},
        {3, kExact, "keys that the model's heads find", "those of the search by dense weights, to 1e-4 of their weight",
         [](Run& run) { return keys_alike(run, false); }},
        {3, kExact, "keys that are scored", "2 k in each round of halving at most", of_found(scores_made)},
        {3, kShape, "weight of keys that are found", "more than of random and of last ones", of_found(recall)},
        {3, kShape, "perplexity of the end of a text", "5 % over dense at most", perplexity},
        {3, kShape, "needles", ">= 0.9 of dense, more than the window", needle_check(needles)},
        {3, kShape, "time of a prompt, the longest", "less than dense", prompt_time},
        {4, kControl, "weight found by random scores", "that of random blocks",
         of_found([](const Run& run, const Found& of) { return no_better_than_chance(run, of, &Recall::noise); })},
        {4, kControl, "weight found by scores of other blocks", "that of random blocks",
         of_found([](const Run& run, const Found& of) { return no_better_than_chance(run, of, &Recall::elsewhere); })},
        {4, kControl, "weight found where keys changed places", "0.8 of what is found in order at most",
         of_found(shuffled)},
        {5, kShape, "time of a decoded token, refreshed every 8", "less than every token", refresh_time},
        {5, kShape, "perplexity, refreshed every 8", "2 % over every token at most, less than once", refresh_loss}}});

}  // namespace
}  // namespace fovea::papers::hip_attention

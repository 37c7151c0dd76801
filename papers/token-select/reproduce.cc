// Wu et al., "TokenSelect: Efficient Long-Context Inference and Length Extrapolation for LLMs via Dynamic Token-Level
// KV Cache Selection", arXiv:2411.02886: heads vote for the keys that a layer reads (sec. 4.2), a selection serves
// while queries stay alike (sec. 4.3), and positions that are compacted let texts be longer than those trained on.
#include <fmt/format.h>

#include "papers/support/text_loss.h"
#include "papers/token-select/measure.h"

namespace fovea::papers::token_select {
namespace {
using enum Kind;

Result<Outcome> identity(Run&) {
  const Planted found = planted();
  return Outcome{found.apart < 1e-4, fmt::format("{:.1g} without {} keys", found.apart, found.n_left_out)};
}
Result<Outcome> one_head(Run&) {
  const Planted found = planted();
  return Outcome{found.n_alike == found.n_rows, fmt::format("{} of {} rows", found.n_alike, found.n_rows)};
}
Result<Outcome> spike(Run&) {
  const bool found = planted().spike;
  return Outcome{found, found ? "read by both" : "not read"};
}
Result<Outcome> votes(Run& run, const std::string& vote) {
  FOVEA_ASSIGN_OR_RETURN(const Voted found, voted(run, vote));
  return Outcome{found.worst > 1 - 1e-4, fmt::format("alike in {} of {}, else at least {:.6f} of the votes",
                                                     found.n_alike, found.n_rows, found.worst)};
}

Result<Outcome> weight(Run& run, const std::string& attention) {
  FOVEA_ASSIGN_OR_RETURN(const Mass found, mass(run, attention));
  return Outcome{found.voted > found.window,
                 fmt::format("{:.4f}, the window {:.4f}, each head's highest {:.4f}; beside {:.3f} on what both read",
                             found.voted, found.window, found.highest, found.always)};
}
Result<Outcome> weight_of_random(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Mass random, mass(run, best_votes(run, ":vote=random")));
  if (random.highest < 2 * random.voted)
    return no_data(fmt::format("the highest keys hold {:.3f}, random ones {:.3f}", random.highest, random.voted));
  FOVEA_ASSIGN_OR_RETURN(const Mass found, mass(run, best_votes(run)));
  return Outcome{random.voted < 0.5 * found.voted, fmt::format("{:.4f}, voted {:.4f}", random.voted, found.voted)};
}

Result<Outcome> found_and_lost(Run& run, double dense) {
  FOVEA_ASSIGN_OR_RETURN(const double selected, needle_score(run, best_votes(run)));
  FOVEA_ASSIGN_OR_RETURN(const double window_only, needle_score(run, window(run)));
  return Outcome{selected >= 0.9 * dense && window_only <= selected - 50,
                 fmt::format("{:.0f} %, dense {:.0f}, window {:.0f}", selected, dense, window_only)};
}
Result<Outcome> found_by_local(Run& run, double dense) {
  FOVEA_ASSIGN_OR_RETURN(const double selected, needle_score(run, with_keys(run, ":score_rope=local")));
  return Outcome{selected >= 0.9 * dense, fmt::format("{:.0f} %, dense {:.0f}", selected, dense)};
}
Result<Outcome> lost_by_random(Run& run, double) {
  FOVEA_ASSIGN_OR_RETURN(const double selected, needle_score(run, best_votes(run)));
  FOVEA_ASSIGN_OR_RETURN(const double random, needle_score(run, best_votes(run, ":vote=random")));
  return Outcome{random <= selected - 50, fmt::format("{:.0f} %, voted {:.0f}", random, selected)};
}

FOVEA_REPRODUCTION(Paper{
    .slug = "token-select",
    .title = "TokenSelect: Efficient Long-Context Inference and Length Extrapolation for LLMs via Dynamic Token-Level "
             "KV Cache Selection",
    .source = "arXiv:2411.02886",
    .n_items = 6,
    .model = "qwen2.5-coder-0.5b",
    .settings = {{"task", "niah", "niah", "what is asked", 0, -1, {"niah", "passkey"}},
                 {"length", "4096", "400", "tokens of its prompts, and of the text whose weights are summed", 128,
                  1 << 20},
                 {"samples", "10", "2", "prompts", 1, 1000},
                 {"init", "16", "4", "first keys", 0, 1 << 20},
                 {"local", "128", "32", "last keys", 1, 1 << 20},
                 {"top-k", "256", "64", "keys that are voted for", 1, 1 << 20},
                 {"chunk", "128", "32", "rows of a prompt that share a selection", 1, 1 << 16},
                 {"score-rope", "true", "true", "where queries stand when they vote", 0, -1, {"local", "none", "true"}},
                 {"beyond", "4096", "128", "tokens past those that the model was trained for", 1, 1 << 20},
                 {"longest", "16384", "16384", "texts that are read at most, for that", 1, 1 << 20},
                 {"reuse-length", "2048", "300", "tokens of the text for the Selection Cache", 128, 1 << 20},
                 {"scored", "128", "32", "last tokens of texts, whose loss is taken", 8, 1 << 20},
                 {"decode-length", "8192", "448", "keys of the steps that are timed", 64, 1 << 20}},
    .checks = {
        {1, kExact, "logits while every candidate is voted for", "the same bits",
         [](Run& run) { return same_bits_throughout(run, "token-select:n_init=16:n_local=64:top_k=80", 160); }},
        {1, kExact, "z where the list lacks weightless first keys alone", "dense to 1e-4", identity},
        {1, kExact, "keys of one head", "those with the highest q.k", one_head},
        {2, kExact, "keys of a layer, by plain loops over dense weights", "the highest votes to 1e-4",
         [](Run& run) { return votes(run, "soft"); }},
        {2, kExact, "keys of a KV head that votes alone, by plain loops", "the highest votes to 1e-4",
         [](Run& run) { return votes(run, "kv-head"); }},
        {2, kExact, "a spike of KV head 1 alone", "read by both KV heads", spike},
        {3, kShape, "weight on voted keys", "more than on as many last ones",
         [](Run& run) { return weight(run, best_votes(run)); }},
        {3, kShape, "weight on voted keys, queries local", "more than on as many last ones",
         [](Run& run) { return weight(run, with_keys(run, ":score_rope=local")); }},
        {3, kShape, "needles", ">= 0.9 of dense, the window 50 points below", needle_check(found_and_lost)},
        {3, kShape, "needles, queries local", ">= 0.9 of dense", needle_check(found_by_local)},
        {3, kShape, "time of a decoded token", "less than dense", step_time},
        {4, kShape, "perplexity past the trained length", "< 5 % more than within it, dense > 50 %",
         [](Run& run) { return loss_beyond(run, best_votes(run), window(run), 5); }},
        {5, kExact, "logits with theta above 1", "the bits of a selection for every row", never_reused},
        {5, kShape, "selections reused, by theta", "1 at -1, falling, 0 above 1", hits},
        {5, kShape, "perplexity with one selection for all tokens", "1 % more than with fresh ones or more", staleness},
        {6, kControl, "needles, random keys", "50 points below voted or more",
         needle_check(lost_by_random, kEnoughPrompts)},
        {6, kControl, "weight on random keys", "under half of that on voted ones", weight_of_random}}});

}  // namespace
}  // namespace fovea::papers::token_select

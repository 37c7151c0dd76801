// Lu et al., "LongHeads: Multi-Head Attention is Secretly a Long Context Processor", arXiv:2402.10685: every head reads
// the few chunks of a text that are most like its query (sec. 3.1), by a key that attention pools for each chunk
// (sec. 3.2), at positions that the model was trained on.
#include <fmt/format.h>

#include "papers/longheads/measure.h"

namespace fovea::papers::longheads {
namespace {
using enum Kind;

Result<Outcome> identity(Run&) {
  const double apart = planted().apart;
  return Outcome{apart < 1e-4, fmt::format("{:.1g}", apart)};
}
Result<Outcome> own_key(Run&) {
  const double own = planted().own;
  return Outcome{own > 0.99, fmt::format("{:.4f} at least, prompt and decoded", own)};
}
Result<Outcome> closed_form(Run&) {
  const Planted found = planted();
  return Outcome{found.n_alike == found.n_rows, fmt::format("{} of {} rows", found.n_alike, found.n_rows)};
}
Result<Outcome> plain_loops(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Picked found, picked(run));
  return Outcome{found.worst < 1e-4,
                 fmt::format("alike in {} of {} rows of heads, else {:.1g} of the scores' range less", found.n_alike,
                             found.n_rows, found.worst)};
}

Result<Outcome> found_and_lost(Run& run, double dense) {
  FOVEA_ASSIGN_OR_RETURN(const double chunks, needle_score(run, with_chunks(run)));
  FOVEA_ASSIGN_OR_RETURN(const double window_only, needle_score(run, window(budget(run))));
  return Outcome{chunks >= 0.9 * dense && window_only <= chunks - 50,
                 fmt::format("{:.0f} %, dense {:.0f}, window {:.0f}", chunks, dense, window_only)};
}
Result<Outcome> random_chunks(Run& run, double) {
  FOVEA_ASSIGN_OR_RETURN(const double window_only, needle_score(run, window(budget(run))));
  FOVEA_ASSIGN_OR_RETURN(const double random, needle_score(run, with_chunks(run, ":key=random")));
  FOVEA_ASSIGN_OR_RETURN(const double chunks, needle_score(run, with_chunks(run)));
  return Outcome{random <= window_only + 20 && random < chunks,
                 fmt::format("{:.0f} %, window {:.0f}, picked {:.0f}", random, window_only, chunks)};
}
Result<Outcome> reach(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Coverage found, coverage(run));
  const int read = run.number("chunks");
  if (found.of <= read) return no_data(fmt::format("the text has {} chunks", found.of));
  return Outcome{found.distinct > read, fmt::format("{} of {}, a head {}", found.distinct, found.of, read)};
}

FOVEA_REPRODUCTION(Paper{
    .slug = "longheads",
    .title = "LongHeads: Multi-Head Attention is Secretly a Long Context Processor",
    .source = "arXiv:2402.10685",
    .n_items = 5,
    .model = "qwen2.5-coder-0.5b",
    .settings = {{"task", "niah", "niah", "what is asked", 0, -1, {"niah", "passkey"}},
                 {"length", "4096", "400", "tokens of its prompts, and of the text whose chunks are counted", 128,
                  1 << 20},
                 {"samples", "10", "2", "prompts", 1, 1000},
                 {"chunk", "128", "32", "keys of a chunk", 32, 1 << 16},
                 {"chunks", "8", "4", "chunks that a row reads", 3, 1 << 16},
                 {"share", "tile", "row", "rows of a prompt that pick together", 0, -1, {"row", "tile"}},
                 {"beyond", "4096", "128", "tokens past those that the model was trained for", 1, 1 << 20},
                 {"beyond-chunks", "16", "8", "chunks that a row reads there", 3, 1 << 16},
                 {"beyond-samples", "5", "1", "prompts there", 1, 1000},
                 {"longest", "16384", "16384", "texts that are read at most, for that", 1, 1 << 20},
                 {"scored", "128", "32", "last tokens of the text, whose loss is taken", 8, 1 << 20},
                 {"decode-lengths", "2048,4096,8192", "448", "keys of the steps that are timed", 64, 1 << 20}},
    .checks = {
        {1, kExact, "logits before selection begins", "the same bits",
         [](Run& run) { return same_bits_throughout(run, "longheads:chunk=32:n_chunks=4:begin=160", 160); }},
        {1, kExact, "logits of a text of no more chunks than are read", "the same bits",
         [](Run& run) { return same_bits_throughout(run, "longheads:chunk=32:n_chunks=5:begin=0", 160); }},
        {1, kExact, "z where only weightless chunks are not read", "dense to 1e-4", identity},
        {1, kExact, "weight of a row's own key where it is like the query", "> 0.99", own_key},
        {2, kExact, "chunks by the closed form of their keys", "those that rank first", closed_form},
        {2, kExact, "chunks that the model's heads pick, by plain loops", "the best by 1e-4 of the range", plain_loops},
        {3, kShape, "perplexity past the trained length", "< 10 % more than within it, dense > 50 %", text_beyond},
        {3, kShape, "needles past the trained length", "70 % or more, the window 50 points below", needles_beyond},
        {4, kShape, "needles", ">= 0.9 of dense, the window 50 points below", needle_check(found_and_lost)},
        {4, kShape, "time of attention in a step, longest by shortest text", "1.5 times at most", step_time},
        {5, kControl, "needles, random chunks", "the window's level (20 points more at most), below picked ones",
         needle_check(random_chunks, kEnoughPrompts)},
        {5, kControl, "distinct chunks that all heads read", "more than one head reads", reach}}});

}  // namespace
}  // namespace fovea::papers::longheads

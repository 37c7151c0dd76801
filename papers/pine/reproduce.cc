// Wang et al., "Eliminating Position Bias of Language Models: A Mechanistic Approach", arXiv:2407.01100: documents of a
// prompt see one another, and each query orders them by its own attention (sec. 3), so that their order in the prompt
// changes no answer (sec. 4).
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "papers/pine/measure.h"

namespace fovea::papers::pine {
namespace {
using enum Kind;

constexpr double kSame = 1e-3;  // logits of float32 sums in another order, as the card has it

Result<Outcome> one_document(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const bool same, one_document_is_dense(run));
  return Outcome{same, same ? "the same bits" : "other bits"};
}
Result<Outcome> no_order_shows(Run& run) {
  Outcome out{true, {}};
  for (const int n : run.numbers("orders")) {
    FOVEA_ASSIGN_OR_RETURN(const Orders same, over_orders(run, "pine", n, /*all=*/true));
    FOVEA_ASSIGN_OR_RETURN(const Orders plain, over_orders(run, "dense", n, /*all=*/false));
    out.passed = out.passed && same.spread <= kSame && same.same_text && plain.spread > kSame;
    out.measured +=
        fmt::format("{}{} documents, {} orders: {:.1g} apart, {}; dense {:.2g}", out.measured.empty() ? "" : "; ", n,
                    same.n, same.spread, same.same_text ? "one text" : "other texts", plain.spread);
  }
  return out;
}
Result<Outcome> turned_literally(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Literal found, literal_turns(run));
  return Outcome{found.rows > 0 && found.worst < 1e-4,
                 fmt::format("{:.1g} of the row's largest at most, over {} rows; {} near ties left out", found.worst,
                             found.rows, found.near_ties)};
}
Result<Outcome> copies(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const double apart, copies_apart(run, "pine"));
  FOVEA_ASSIGN_OR_RETURN(const double by_place, copies_apart(run, "pine:order=prompt"));
  return Outcome{apart < 1e-4 && by_place > 1e-2,
                 fmt::format("{:.2g} apart at most; {:.2g} where places are the prompt's", apart, by_place)};
}

// A check of the answers with the document that tells at each place: of dense attention, and of the method.
std::function<Result<Outcome>(Run&)> of_places(Outcome (*judge)(Run&, const Places& dense, const Places& method)) {
  return [judge](Run& run) -> Result<Outcome> {
    FOVEA_ASSIGN_OR_RETURN(const Places dense, by_place(run, "dense"));
    FOVEA_ASSIGN_OR_RETURN(const Places method, by_place(run, "pine"));
    return judge(run, dense, method);
  };
}
Series by_index(const std::string& name, const std::vector<double>& values) {
  Series out{name, {}};
  for (const double value : values) out.points.emplace_back(out.points.size(), value);
  return out;
}
Outcome flat_score(Run& run, const Places& dense, const Places& method) {
  run.plot({"Right answers",
            "place of the document that tells",
            "%",
            {by_index("dense", dense.score), by_index("pine", method.score)}});
  return {method.score_spread() < 0.5 && dense.score_spread() >= 10,
          fmt::format("{:.0f} points ({:.0f} %); dense {:.0f} ({:.0f} %)", method.score_spread(),
                      fmt::join(method.score, ", "), dense.score_spread(), fmt::join(dense.score, ", "))};
}
Outcome flat_loss(Run& run, const Places& dense, const Places& method) {
  run.plot({"Loss of the right answer",
            "place of the document that tells",
            "nats",
            {by_index("dense", dense.loss), by_index("pine", method.loss)}});
  return {method.loss_spread() <= 0.05 && dense.loss_spread() >= 0.1,
          fmt::format("{:.3f} nats; dense {:.3f} ({:.2f})", method.loss_spread(), dense.loss_spread(),
                      fmt::join(dense.loss, ", "))};
}
Outcome mean_score(Run&, const Places& dense, const Places& method) {
  if (dense.mean_score() + method.mean_score() == 0) return no_data("no answer is right, with it and without");
  return {method.mean_score() >= dense.mean_score(),
          fmt::format("{:.1f} %, dense {:.1f}; loss {:.3f} nats, dense {:.3f}", method.mean_score(), dense.mean_score(),
                      method.mean_loss(), dense.mean_loss())};
}
Result<Outcome> swapped(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Verdicts dense, verdicts(run, "dense"));
  FOVEA_ASSIGN_OR_RETURN(const Verdicts method, verdicts(run, "pine"));
  return Outcome{method.stayed == method.n && dense.stayed < dense.n,
                 fmt::format("{} of {} stay, {:.0f} % right; dense {}, {:.0f} % right", method.stayed, method.n,
                             100 * method.right, dense.stayed, 100 * dense.right)};
}

// Whether the order of three documents shows under these knobs.
std::function<Result<Outcome>(Run&)> order_shows(const std::string& knobs, bool wanted) {
  return [knobs, wanted](Run& run) -> Result<Outcome> {
    FOVEA_ASSIGN_OR_RETURN(const Orders found, over_orders(run, "pine:" + knobs, 3, /*all=*/!wanted));
    return Outcome{wanted ? found.spread > 10 * kSame : found.spread <= kSame && found.same_text,
                   fmt::format("{:.1g} apart over {} orders", found.spread, found.n)};
  };
}
Result<Outcome> reversed_hurts(Run& run) {
  FOVEA_ASSIGN_OR_RETURN(const Places method, by_place(run, "pine"));
  FOVEA_ASSIGN_OR_RETURN(const Places reversed, by_place(run, "pine:order=reverse"));
  return Outcome{reversed.mean_loss() > method.mean_loss(),
                 fmt::format("{:.3f} nats, {:.1f} % right; most important nearest {:.3f}, {:.1f} %",
                             reversed.mean_loss(), reversed.mean_score(), method.mean_loss(), method.mean_score())};
}

Result<Outcome> cost(Run& run) {
  static constexpr int kDocuments = 4, kBefore = 16, kBehind = 32;  // tokens
  std::vector<int> n_keys;
  for (const int region : run.lengths("regions", kBefore + kBehind)) n_keys.push_back(region + kBefore + kBehind);
  const auto cut = [](int n) {
    return fmt::format("pine:begin={}:count={}:length={}", kBefore, kDocuments, (n - kBefore - kBehind) / kDocuments);
  };
  return cost_by_dense(run, n_keys, cut, /*most_prompt=*/6, /*most_step=*/3);
}

FOVEA_REPRODUCTION(Paper{
    .slug = "pine",
    .title = "Eliminating Position Bias of Language Models: A Mechanistic Approach",
    .source = "arXiv:2407.01100",
    .n_items = 5,
    .model = "qwen2.5-coder-0.5b",
    .settings = {{"orders", "3,4", "3", "documents whose orders are all tried", 2, 5},
                 {"documents", "5", "3", "documents of a prompt, of which one tells", 2, 40},
                 {"facts", "4", "1", "sentences of a document", 1, 4},
                 {"samples", "16", "2", "questions, each asked with the answer at every place", 1, 1000},
                 {"judged", "24", "3", "pairs that are judged in both orders", 1, kPairs},
                 {"regions", "512,1024,2048", "256", "tokens of all documents together whose cost is measured", 64,
                  1 << 20}},
    .checks = {
        {1, kExact, "logits with one document", "the same bits as dense", one_document},
        {1, kExact, "logits over all orders, 20 tokens", "1e-3 at most and one text; dense over 1e-3", no_order_shows},
        {1, kExact, "rows by keys that are turned to their places", "1e-4 at most", turned_literally},
        {2, kExact, "attention to two copies of a document", "1e-4 apart at most, over 1e-2 by places of the prompt",
         copies},
        {3, kShape, "right answers by place, spread", "0 points, dense 10 or more", of_places(flat_score)},
        {3, kShape, "loss of the right answer by place, spread", "0.05 nats at most, dense 0.1 or more",
         of_places(flat_loss)},
        {3, kShape, "right answers, mean over places", ">= dense", of_places(mean_score)},
        {3, kShape, "verdicts on pairs in both orders", "all stay, of dense fewer", swapped},
        {4, kControl, "logits over orders, places as in the prompt", "over 1e-2", order_shows("order=prompt", true)},
        {4, kControl, "logits over orders, places drawn by index", "over 1e-2", order_shows("order=random", true)},
        {4, kControl, "logits over orders, least important nearest", "1e-3 at most",
         order_shows("order=reverse", false)},
        {4, kShape, "loss of the right answer, least important nearest", "more", reversed_hurts},
        {5, kShape, "time of prompt and step, by dense", "6x and 3x at most", cost}}});

}  // namespace
}  // namespace fovea::papers::pine

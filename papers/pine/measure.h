// What the checks of pine measure: documents in one prompt in some order, and what the model makes of them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/engine/document.h"
#include "papers/support/decode_run.h"

namespace fovea::papers::pine {

using engine::Document;

// Tokens of a prompt and which of them are segments, one a document: what `fovea ask` makes of several files.
struct Prompt {
  std::vector<int32_t> tokens;
  std::vector<attention::Span> segments;
};

// Documents about people, a question that one of them answers, and the answer: its first words, and what must be in it.
struct Asked {
  std::vector<Document> documents;  // [0] answers
  std::string question, begin, wanted;
};
Asked draw_documents(int n_documents, int n_facts, uint64_t seed);
// Two files, one of them wrong: which? The one that is right is the first.
constexpr size_t kPairs = 24;
Asked judged_pair(size_t i);

// `order`: of the documents. kData if a document is read as other tokens in another order.
Result<Prompt> make_prompt(Run& run, const Asked& asked, const std::vector<size_t>& order);

// What is said in every order: the furthest that logits of the prompt's last token and of `n_tokens` greedy ones lie
// apart, and whether all say the same. Exact arithmetic. A cell.
struct Orders {
  double spread = 0;
  bool same_text = true;
  int n = 0;  // orders
};
// all: every order; else those that turn the documents round.
Result<Orders> over_orders(Run& run, const std::string& attention, int n_documents, bool all);

// Whether one document, named a segment, has dense attention's bits: of the last token and eight greedy ones.
Result<bool> one_document_is_dense(Run& run);

// z of rows and heads of three layers, by turning every key to the place that the row's order gives it: the largest
// distance from the method's, by the largest |z| of the row. In double, in plain loops.
struct Literal {
  double worst = 0;
  int rows = 0, near_ties = 0;  // rows left out: two segments are as important to 1e-6
};
Result<Literal> literal_turns(Run& run);

// Of two copies of a document beside a third: how much further apart the sums of attention that any row behind them
// gives to each are, at most. In one layer that is under 1e-5 (pine_test.cc); in a model the copies' own rows are apart
// by the roundings of all layers before.
Result<double> copies_apart(Run& run, const std::string& attention);

// Answers with the telling document at every place: of each place a mean over the samples, score 0 to 100, and the
// loss of the right answer in nats.
struct Places {
  std::vector<double> score, loss;
  double mean_score() const;
  double mean_loss() const;
  double score_spread() const;
  double loss_spread() const;
};
Result<Places> by_place(Run& run, const std::string& attention);

// Of pairs that were judged in both orders: how many verdicts stayed, and how many of all were right.
struct Verdicts {
  int stayed = 0, n = 0;
  double right = 0;  // share
};
Result<Verdicts> verdicts(Run& run, const std::string& attention);

}  // namespace fovea::papers::pine

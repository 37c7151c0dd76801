#include "fovea/probe/measures/repeat_columns.h"

#include <algorithm>
#include <span>
#include <vector>

#include "fovea/base/random.h"
#include "fovea/kernels/attention.h"
#include "fovea/probe/measures/column.h"
#include "fovea/probe/measures/retrieval.h"  // head_id

namespace fovea::probe {
namespace {

FOVEA_PROFILE_COLUMN(razor_echo, kHead,
                     "mean mass of all earlier occurrences of the current token, in random tokens repeated four times");
FOVEA_PROFILE_COLUMN(razor_induction, kHead,
                     "mean mass of the tokens after those occurrences, in random tokens repeated four times");

constexpr size_t kRepeats = 4;

class Repeats final : public attention::RowObserver {
 public:
  Repeats(const attention::ModelShape& shape, int32_t first, int32_t block)
      : n_heads_(shape.n_heads), first_(first), block_(block), sums_(head_id(shape.n_layers, 0, shape.n_heads)) {}
  bool wants(int, int, bool) const override { return true; }
  void see(const attention::RowView& row, std::span<const float> pattern) override {
    if (row.q_pos < first_ + block_) return;
    Sums& sums = sums_[head_id(row.call.layer, row.head, n_heads_)];
    ++sums.n;
    for (size_t j = 0; j < pattern.size(); ++j) {
      const int32_t key = row.key_positions[j], back = row.q_pos - key;
      if (key == kernels::kNoPosition || key < first_ || back <= 0) continue;
      if (back % block_ == 0) sums.echo += static_cast<double>(pattern[j]);
      if (back % block_ == block_ - 1) sums.induction += static_cast<double>(pattern[j]);
    }
  }
  struct Sums {
    int64_t n = 0;
    double echo = 0, induction = 0;
  };
  std::vector<double> mean(double Sums::*sum) const {
    std::vector<double> out;
    for (const Sums& sums : sums_) out.push_back(sums.n > 0 ? sums.*sum / static_cast<double>(sums.n) : 0);
    return out;
  }

 private:
  int n_heads_;
  int32_t first_, block_;
  std::vector<Sums> sums_;
};

}  // namespace

Status measure_repeats(engine::Session& session, const tokenizers::Tokenizer& tokenizer, uint64_t seed,
                       attention::HeadProfile& out) {
  const attention::ModelShape& shape = session.shape();
  FOVEA_ASSIGN_OR_RETURN(std::vector<int32_t> tokens, tokenizer.encode(""));  // what the model wants first, if anything
  const size_t n_first = tokens.size();
  const size_t room = static_cast<size_t>(session.n_ctx()) - std::min<size_t>(n_first, session.n_ctx());
  const size_t block = std::clamp<size_t>(room / kRepeats, 2, 256);
  Rng random(seed);
  const auto n_ids = static_cast<uint64_t>(std::min(shape.vocab_size, tokenizer.vocab_size()));
  while (tokens.size() < n_first + block) {
    const auto id = static_cast<int32_t>(random.below(n_ids));
    if (!tokenizer.is_control(id)) tokens.push_back(id);
  }
  while (tokens.size() < n_first + kRepeats * block) tokens.push_back(tokens[tokens.size() - block]);
  Repeats repeats(shape, static_cast<int32_t>(n_first), static_cast<int32_t>(block));
  session.observe(&repeats);
  const engine::SequenceId sequence = session.begin();
  auto done = session.prefill(sequence, tokens);
  session.stop_observing(&repeats);
  session.remove(sequence);
  if (!done) return std::move(done.error());
  set_column(out, "razor_echo", repeats.mean(&Repeats::Sums::echo));
  set_column(out, "razor_induction", repeats.mean(&Repeats::Sums::induction));
  return {};
}

}  // namespace fovea::probe

#include "papers/support/beside_dense.h"

#include <algorithm>
#include <utility>

namespace fovea::papers {
namespace {

using tensor::Tensor;

// Keeps the rows of one decoded token, of every layer and head.
class LastRows final : public attention::RowObserver {
 public:
  explicit LastRows(const attention::ModelShape& shape)
      : n_heads_(shape.n_heads), rows_(static_cast<size_t>(shape.n_layers * shape.n_heads)) {}
  bool wants(int, int, bool decoding) const override { return decoding; }
  void see(const attention::RowView& row, std::span<const float> pattern) override {
    std::vector<ReadKey>& to = of(row.call.layer, row.head);
    to.clear();
    for (size_t i = 0; i < pattern.size(); ++i) {
      if (pattern[i] > 0) to.push_back({row.key_positions[i], pattern[i]});
    }
    std::sort(to.begin(), to.end(), [](const ReadKey& a, const ReadKey& b) { return a.position < b.position; });
  }
  std::vector<ReadKey>& of(int layer, int head) { return rows_[static_cast<size_t>(layer * n_heads_ + head)]; }

 private:
  int n_heads_;
  std::vector<std::vector<ReadKey>> rows_;
};

// "blocks.12.attn.hook_z" -> 12.
int layer_of(const std::string& hook) { return std::stoi(hook.substr(hook.find('.') + 1)); }

// Hooks that give the method's sequence dense attention's z in each layer, and keep both's and the values.
struct Values {
  std::vector<std::vector<float>> dense_z, z, v;  // of each layer; v of all tokens so far

  Status attach(engine::Session& session, engine::SequenceId dense, engine::SequenceId method, bool with_v) {
    const auto n = static_cast<size_t>(session.shape().n_layers);
    dense_z.resize(n), z.resize(n), v.resize(n);
    FOVEA_RETURN_IF_ERROR(
        session.hooks().attach("blocks.*.attn.hook_z", dense, [this](const std::string& name, Tensor& x) {
          dense_z[static_cast<size_t>(layer_of(name))].assign(x.values().begin(), x.values().end());
        }));
    FOVEA_RETURN_IF_ERROR(
        session.hooks().attach("blocks.*.attn.hook_z", method, [this](const std::string& name, Tensor& x) {
          const auto layer = static_cast<size_t>(layer_of(name));
          z[layer].assign(x.values().begin(), x.values().end());
          std::copy(dense_z[layer].begin(), dense_z[layer].end(), x.data());
        }));
    if (!with_v) return {};
    return session.hooks().attach("blocks.*.attn.hook_v", dense, [this](const std::string& name, Tensor& x) {
      std::vector<float>& to = v[static_cast<size_t>(layer_of(name))];
      to.insert(to.end(), x.values().begin(), x.values().end());
    });
  }
};

}  // namespace

double RowBeside::mass() const {
  double out = 0;
  for (const ReadKey& key : read) out += double{dense[static_cast<size_t>(key.position)]};
  return out;
}

double sum_of_largest(std::vector<float> values, size_t n) {
  n = std::min(n, values.size());
  std::partial_sort(values.begin(), values.begin() + static_cast<ptrdiff_t>(n), values.end(), std::greater<>());
  double out = 0;
  for (size_t i = 0; i < n; ++i) out += double{values[i]};
  return out;
}

Status beside_dense(Run& run, const std::vector<int32_t>& tokens, const BesideOptions& options,
                    const std::function<void(const RowBeside&)>& see) {
  FOVEA_ASSIGN_OR_RETURN(const auto session, engine::Session::create(run.model(), {.numerics = options.numerics}));
  const attention::ModelShape& shape = session->shape();
  std::vector<engine::SequenceId> sequences = {session->begin()};
  Values values;
  if (options.attention != "dense") {
    sequences.push_back(session->begin());
    FOVEA_RETURN_IF_ERROR(session->set_attention(sequences[1], options.attention));
    FOVEA_RETURN_IF_ERROR(values.attach(*session, sequences[0], sequences[1], options.with_values));
  }
  std::vector<LastRows> rows(sequences.size(), LastRows(shape));
  const auto feed = [&](std::span<const int32_t> part, attention::Phase phase) -> Status {
    std::vector<engine::Session::Feed> feeds;
    for (const engine::SequenceId sequence : sequences)
      feeds.push_back({sequence, part, engine::Session::Logits::kNone, phase});
    FOVEA_RETURN_IF_ERROR(session->step(feeds, run.cancel()));
    run.progress(options.attention + " beside dense", session->length(sequences[0]), std::ssize(tokens));
    return {};
  };
  const size_t n_prompt = tokens.size() - static_cast<size_t>(options.n_decoded);
  for (size_t at = 0; at < n_prompt; at += 512) {
    const auto part = std::span(tokens).subspan(at, std::min<size_t>(512, n_prompt - at));
    FOVEA_RETURN_IF_ERROR(
        feed(part, at + part.size() < n_prompt ? attention::Phase::kPrompt : attention::Phase::kPromptEnd));
  }
  for (size_t i = 0; i < sequences.size(); ++i) session->observe(&rows[i], sequences[i]);
  for (size_t at = n_prompt; at < tokens.size(); ++at) {
    FOVEA_RETURN_IF_ERROR(feed(std::span(tokens).subspan(at, 1), attention::Phase::kDecode));
    for (int layer = 0; layer < shape.n_layers; ++layer) {
      const attention::AttentionShape site = shape.site(layer);
      const auto dim = static_cast<size_t>(site.v_dim), width = static_cast<size_t>(site.n_v_heads) * dim;
      for (int head = 0; head < site.n_heads; ++head) {
        RowBeside row{layer, head, static_cast<int32_t>(at)};
        row.dense.assign(at + 1, 0.0f);
        for (const ReadKey& key : rows[0].of(layer, head)) row.dense[static_cast<size_t>(key.position)] = key.weight;
        if (sequences.size() > 1) row.read = rows[1].of(layer, head);
        if (options.with_values && sequences.size() > 1) {
          const float* z = values.z[static_cast<size_t>(layer)].data() + static_cast<size_t>(head) * dim;
          row.z.assign(z, z + dim);
          row.z_of_read.assign(dim, 0.0f);
          const size_t v_head = static_cast<size_t>(head * site.n_v_heads / site.n_heads);
          for (const ReadKey& key : row.read) {
            const float* v =
                values.v[static_cast<size_t>(layer)].data() + static_cast<size_t>(key.position) * width + v_head * dim;
            for (size_t d = 0; d < dim; ++d) row.z_of_read[d] += key.weight * v[d];
          }
        }
        see(row);
      }
    }
  }
  return {};
}

}  // namespace fovea::papers

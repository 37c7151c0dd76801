// A session: one model, one attention pipeline, any number of sequences. Prefill in chunks, decode
// many sequences at once, fork, go back to a prefix. One session belongs to one thread at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fovea/attention/attend.h"
#include "fovea/attention/pipeline.h"
#include "fovea/base/result.h"
#include "fovea/engine/model.h"
#include "fovea/models/support/forward.h"
#include "fovea/tensor/adapters.h"
#include "fovea/tensor/exec.h"

namespace fovea::engine {

using attention::SequenceId;
using tensor::Tensor;

// How many tokens a sequence of this attention may have: as many as the model was trained for, or no limit to speak of
// where no row looks back further than that (Method::reach).
int context_of(const attention::Pipeline& pipeline, const attention::ModelShape& model);

struct SessionOptions {
  kernels::Numerics numerics = kernels::Numerics::kFast;
  std::optional<attention::CacheTypes> cache_type = {};  // none: f32 in exact, i16 in fast
  int n_ctx = 0;  // tokens of one sequence; 0: as many as the model was trained for, or no limit where no row looks
                  // back further than that (Method::reach). A model with angles for long contexts reads by those where
                  // more is asked for than its short ones serve (Config::short_context), which is what 0 gives.
  bool beyond_training = false;  // n_ctx may be more than that: for timing, not for answers
  int chunk = 512;               // tokens of a prefill step
  std::string attention = "dense";
  std::shared_ptr<const attention::HeadProfile> profile = nullptr;  // for methods that need one
  std::shared_ptr<const tensor::Adapters> adapters = nullptr;       // of the model's weights (Model::weight)
};

struct PrefillOptions {
  std::function<void(int64_t done, int64_t total)> progress;  // after every chunk
  const std::atomic<bool>* cancel = nullptr;                  // looked at in every layer: kCancelled
  bool more = false;  // the prompt goes on in another call: no row of this one is of its last part
  // If set, logits of every token, [rows, vocab_size] from row `first` on, chunk by chunk.
  std::function<Status(int64_t first, const Tensor& logits)> on_logits;
};

class Session {
 public:
  static Result<std::unique_ptr<Session>> create(std::shared_ptr<const Model> model, const SessionOptions& options);

  SequenceId begin() { return next_id_++; }  // an empty sequence
  SequenceId fork(SequenceId sequence);      // shares the cache until one of them writes
  // A sequence of `n_tokens` that were fed elsewhere, with the keys and values that `fill` puts into the cache;
  // `keys`: what that had read. An error of `fill` leaves nothing behind. Not for methods with state.
  Result<SequenceId> adopt(int32_t n_tokens, const attention::KeyCount& keys,
                           const std::function<Status(attention::KvCache& cache, SequenceId sequence)>& fill);
  void remove(SequenceId sequence);
  int32_t length(SequenceId sequence) const;  // tokens fed so far
  // Whether truncate() to n leaves what feeding n tokens would have: no method has dropped a key, and each can take
  // its state back. To 0 and to the whole length it always does.
  bool can_truncate(SequenceId sequence, int32_t n) const;
  void truncate(SequenceId sequence, int32_t n);  // forgets everything from position n on; can_truncate() must hold

  // What a sequence has of its own: an attention program (while it is empty), named spans. A fork inherits both.
  Status set_attention(SequenceId sequence, std::string_view spec);
  void set_spans(SequenceId sequence, std::vector<attention::Span> spans);
  const attention::Pipeline& pipeline(SequenceId sequence) const;
  // Adapters of its own in place of SessionOptions::adapters, while it is empty; null: the weights as they are. Each
  // sequence of a pass gets the bits that it has alone. A fork inherits them.
  void set_adapters(SequenceId sequence, std::shared_ptr<const tensor::Adapters> adapters);
  const tensor::Adapters* adapters(SequenceId sequence) const;

  // One forward pass over the tokens of several different sequences -> the logits asked for, in the order of the feeds,
  // [rows, vocab_size]. A pass that fails (an error, or a hook that throws) leaves every sequence as it was; one whose
  // program lets keys go is emptied. Errors as prefill.
  enum class Logits { kNone, kLast, kAll };
  struct Feed {
    SequenceId sequence;
    std::span<const int32_t> tokens;
    Logits logits = Logits::kLast;
    attention::Phase phase = attention::Phase::kDecode;
    Tensor x = {};  // [tokens, d_model]: rows of the residual stream in place of the tokens', which count as names only
  };
  Result<Tensor> step(std::span<const Feed> feeds, const std::atomic<bool>* cancel = nullptr);
  // The same pass, but -> what is behind the last norm of every row, [rows, d_model]. An encoder has no other: its
  // texts are fed whole (kUsage for a sequence that has tokens), and what asks it for logits is kUnsupported.
  Result<Tensor> hidden(std::span<const Feed> feeds, const std::atomic<bool>* cancel = nullptr);
  bool makes_text() const { return model_->family().makes_text(); }  // else it is an encoder's

  // Feeds prompt tokens in chunks -> logits of the last one, [vocab_size]. Errors: kUsage for an id outside
  // the vocabulary (with its index) or no token at all, kLimit over n_ctx (with both numbers, before
  // any work), kCancelled (what was fed stays fed), kData if the model gives NaN. Any other failure takes back all
  // chunks of the call, as a failed step() takes back its own: NaN shows in the last one only.
  Result<std::vector<float>> prefill(SequenceId sequence, std::span<const int32_t> tokens,
                                     const PrefillOptions& options = {});
  struct Step {
    SequenceId sequence;
    int32_t token;
  };
  // One token for each of several different sequences in one pass -> logits [steps.size(), vocab_size].
  Result<Tensor> decode(std::span<const Step> steps);
  // Whether verify() is decode() bit for bit and truncate() can take all of it back: no hook sees the rows, and no
  // method keeps state, drops keys, or lets the rows of one pass touch one another.
  bool can_verify(SequenceId sequence) const;
  // Several tokens of one sequence in one pass as if decoded one by one -> logits [tokens.size(), vocab_size].
  // can_verify() must hold. Observers see the rows of tokens that may be taken back.
  Result<Tensor> verify(SequenceId sequence, std::span<const int32_t> tokens);

  attention::Hooks& hooks() { return hooks_; }
  // Rows for an observer are made until it is taken out again: of every sequence, or of one.
  void observe(attention::RowObserver* observer) { observers_.push_back(observer); }
  void observe(attention::RowObserver* observer, SequenceId sequence) { own_[sequence].observers.push_back(observer); }
  void stop_observing(attention::RowObserver* observer);

  const Model& model() const { return *model_; }
  const attention::ModelShape& shape() const { return shape_; }
  const attention::KvCache& cache() const { return cache_; }
  const attention::Pipeline& pipeline() const { return pipeline_; }
  size_t activation_bytes() const { return arena_.bytes_held(); }  // kept for the next step
  const attention::KeyCount& key_count() const { return keys_; }
  int n_ctx() const { return n_ctx_; }
  int chunk() const { return options_.chunk; }
  kernels::Numerics numerics() const { return options_.numerics; }
  const tensor::Adapters* adapters() const { return options_.adapters.get(); }

 private:
  Session(std::shared_ptr<const Model> model, const SessionOptions& options);
  Result<attention::Pipeline> make_pipeline(std::string_view spec) const;
  Status check_tokens(std::span<const int32_t> tokens) const;
  Status check_room(SequenceId sequence, int64_t n_tokens) const;
  int context_of(const attention::Pipeline& pipeline) const;
  attention::Pipeline& pipeline_of(SequenceId sequence);
  bool drops_keys(SequenceId sequence) const;
  Status check_makes_text() const;
  Result<Tensor> pass(std::span<const Feed> feeds, bool to_hidden, const std::atomic<bool>* cancel);
  Result<Tensor> forward(const attention::Batch& batch, std::span<const models::GivenRows> given, bool to_hidden,
                         const std::atomic<bool>* cancel);
  Result<attention::Together> read_together(SequenceId sequence) const;
  Status check_together(const Feed& feed) const;
  Result<Tensor> prefill_chunks(SequenceId sequence, std::span<const int32_t> tokens, const PrefillOptions& options);
  void roll_back(std::span<const Feed> feeds, std::vector<attention::Pipeline::States>& states);

  std::shared_ptr<const Model> model_;
  SessionOptions options_;
  attention::ModelShape shape_;
  int n_ctx_;
  tensor::Arena arena_;
  attention::KvCache cache_;
  attention::AttendMemory attend_memory_;
  bool in_pass_ = false;     // a hook may not begin another: it would write over what this one works on
  attention::Batch step_;    // of step(), for its memory
  std::vector<Feed> feeds_;  // of decode(), likewise
  std::vector<attention::SequenceContext> contexts_;
  struct Own {
    std::shared_ptr<attention::Pipeline> pipeline;  // null: the session's
    std::vector<attention::RowObserver*> observers;
    std::vector<attention::Span> spans;
    int32_t n_prompt = 0;                                             // of attention::Call
    std::optional<std::shared_ptr<const tensor::Adapters>> adapters;  // none: the session's
  };
  std::map<SequenceId, Own> own_;
  attention::Pipeline pipeline_;
  attention::Hooks hooks_;
  std::vector<attention::RowObserver*> observers_;
  std::map<SequenceId, int32_t> lengths_;
  attention::KeyCount keys_;
  SequenceId next_id_ = 0;
  std::vector<models::SequenceAdapters> adapters_;  // of step(); empty: the session's for all
};

}  // namespace fovea::engine

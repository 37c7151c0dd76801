// Vectors of texts: the mean, the first or the last of what is behind a model's last norm, of encoders and decoders.
// Many short texts are the sequences of one pass, each as long as it is: nothing is padded.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "fovea/engine/session.h"
#include "fovea/tokenizers/tokenizer.h"

namespace fovea::engine {

// Over the tokens of a text, those that its tokenizer adds among them.
enum class Pooling { kMean, kCls, kLast };
std::string_view name_of(Pooling pooling);
std::optional<Pooling> pooling_of(std::string_view name);  // "mean", "cls", "last"

struct EmbedderOptions {
  std::optional<Pooling> pooling = {};  // none: as the files say, else the mean of encoders and the last of decoders
  bool normalize = true;                // vectors of length 1
};

class Embedder {
 public:
  static constexpr int64_t kPassTokens = 1'024;  // texts go together up to so many; a longer one goes alone
  static constexpr size_t kPassTexts = 64;

  // `session` has no sequence. kUnsupported if the files say of the model's vectors what does not run here (a
  // projection, another pooling) and no pooling was asked for.
  static Result<Embedder> create(Session& session, const EmbedderOptions& options = {});

  Pooling pooling() const { return pooling_; }
  bool normalizes() const { return normalize_; }
  int64_t dim() const { return session_->shape().d_model; }
  int64_t max_tokens() const { return max_tokens_; }  // of a text

  // The ids of a text; one of more than max_tokens() loses the end of its words, not what is added behind them.
  struct Tokens {
    std::vector<int32_t> ids;
    bool cut = false;
  };
  Result<Tokens> tokens(const tokenizers::Tokenizer& tokenizer, std::string_view text) const;

  // One row [dim] for each text, in their order. kUsage for a text without tokens (with its number) or an id that the
  // vocabulary does not have, kLimit for one of more than max_tokens(), kCancelled, kData if the model gives NaN. The
  // session is left without a sequence. `progress` is told how many are done after each pass.
  Result<std::vector<float>> embed(std::span<const std::vector<int32_t>> texts,
                                   const std::atomic<bool>* cancel = nullptr,
                                   const std::function<void(size_t done)>& progress = {});

 private:
  explicit Embedder(Session& session) : session_(&session) {}
  Status embed_together(std::span<const std::vector<int32_t>> texts, const std::atomic<bool>* cancel, float* out);
  Status embed_in_chunks(std::span<const int32_t> text, const std::atomic<bool>* cancel, float* out);
  void finish(std::span<const double> sum, int64_t n_rows, float* out) const;

  Session* session_;
  Pooling pooling_ = Pooling::kMean;
  bool normalize_ = true;
  int64_t max_tokens_ = 0;
};

}  // namespace fovea::engine

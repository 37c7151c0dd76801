// A text cut into windows of the context that do not overlap, the second half of each scored: how
// perplexity and the quality of fast arithmetic are measured. As llama.cpp does it: the text is
// tokenised as one, and where the model wants a first token, it takes the place of each window's first.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "fovea/engine/session.h"

namespace fovea::tasks {

struct Windows {
  std::vector<int32_t> tokens;  // whole windows only
  size_t size = 0;              // tokens of one
  size_t count() const { return tokens.size() / size; }
  std::span<const int32_t> operator[](size_t i) const { return std::span(tokens).subspan(i * size, size); }
  // The rows whose logits are scored: row i predicts token i + 1.
  size_t first_scored() const { return size / 2; }
  size_t n_scored() const { return size - 1 - first_scored(); }
};

// At most `max_windows` (0: all) of `window` tokens, 4 or more. kUsage if the text does not fill one, with both
// numbers.
Result<Windows> cut_windows(const std::string& text, const engine::Model& model, int window, int max_windows);

// Feeds a window to a new sequence of the session; `see` gets the scored rows, chunk by chunk, with
// the place of the first of them in the window. kCancelled once `cancel` (or null) is set.
Status score_window(engine::Session& session, const Windows& windows, size_t i, const std::atomic<bool>* cancel,
                    const std::function<Status(size_t first, const tensor::Tensor& logits)>& see);

}  // namespace fovea::tasks

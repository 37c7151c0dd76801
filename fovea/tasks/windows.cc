#include "fovea/tasks/windows.h"

#include <algorithm>

#include "fovea/base/check.h"

namespace fovea::tasks {

Result<Windows> cut_windows(const std::string& text, const engine::Model& model, int window, int max_windows) {
  FOVEA_CHECK(window >= 4, "windows of {} tokens", window);
  FOVEA_ASSIGN_OR_RETURN(const auto tokenizer, model.tokenizer());
  Windows out;
  out.size = static_cast<size_t>(window);
  FOVEA_ASSIGN_OR_RETURN(out.tokens, tokenizer->encode(text));
  const size_t n = out.tokens.size();
  size_t count = n / out.size;
  if (count == 0)
    return make_error(ErrorCode::kUsage, "the text is {} tokens long and one window takes {} (--ctx-size)", n, window);
  if (max_windows > 0) count = std::min(count, static_cast<size_t>(max_windows));
  // Where a first token is added at all, the text got one.
  const bool has_bos = tokenizer->bos() >= 0 && out.tokens[0] == tokenizer->bos();
  out.tokens.resize(count * out.size);
  for (size_t i = 0; has_bos && i < count; ++i) out.tokens[i * out.size] = tokenizer->bos();
  return out;
}

Status score_window(engine::Session& session, const Windows& windows, size_t i, const std::atomic<bool>* cancel,
                    const std::function<Status(size_t first, const tensor::Tensor& logits)>& see) {
  const engine::SequenceId sequence = session.begin();
  const std::span<const int32_t> tokens = windows[i];
  engine::PrefillOptions options;
  options.cancel = cancel;
  auto done = session.prefill(sequence, tokens.first(windows.first_scored()), options);
  if (done) {
    options.on_logits = [&](int64_t first, const tensor::Tensor& logits) {
      return see(windows.first_scored() + static_cast<size_t>(first), logits);
    };
    done = session.prefill(sequence, tokens.subspan(windows.first_scored(), windows.n_scored()), options);
  }
  session.remove(sequence);
  return done ? Status() : done.error();
}

}  // namespace fovea::tasks

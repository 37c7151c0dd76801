// Collects named tensors over a prefill: chunks are joined along the tokens, patterns put at the
// positions of their keys. Sizes are known, and held against a limit, before anything runs.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "fovea/attention/hooks.h"
#include "fovea/base/file_writer.h"
#include "fovea/engine/session.h"
#include "fovea/formats/safetensors_writer.h"
#include "fovea/probe/capture/reducers.h"

namespace fovea::probe {

struct CaptureOptions {
  std::vector<std::string> hooks;                        // names, globs or aliases (attention/hook_names.h)
  Reduction reduction;                                   // of hook_pattern
  attention::HeadSet heads = attention::HeadSet::all();  // of hook_pattern and hook_attn_scores
  uint64_t max_bytes = 0;                                // 0: a quarter of this machine's memory
};

uint64_t memory_bytes();  // of this machine, or what its control group may use; 0: not known

// What a capture of `n_tokens` will hold, in the order of the file.
class CapturePlan {
 public:
  // kUsage: a hook that matches nothing (A1), no hook, heads that are not there, a reducer without a
  // pattern. kLimit: over max_bytes, with the estimate and what would fit (A3).
  static Result<CapturePlan> make(const attention::ModelShape& model, const attention::HookMap& hooks, int64_t n_tokens,
                                  const CaptureOptions& options);
  // The same without the limit, for an estimate.
  static Result<CapturePlan> estimate(const attention::ModelShape& model, const attention::HookMap& hooks,
                                      int64_t n_tokens, const CaptureOptions& options);

  const std::vector<formats::SafeTensor>& tensors() const { return tensors_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t max_bytes() const { return max_bytes_; }
  Status check_limit() const;
  // Which heads a tensor of scores or patterns holds, where not all of them.
  const std::map<std::string, std::vector<int>>& heads() const { return heads_; }

 private:
  friend class Capture;
  explicit CapturePlan(const attention::HookMap& hooks) : hooks_(hooks) {}

  attention::ModelShape model_;
  attention::HookMap hooks_;
  int64_t n_tokens_ = 0;
  CaptureOptions options_;
  uint64_t bytes_ = 0, max_bytes_ = 0;
  std::vector<attention::HookPoint> points_;
  std::vector<formats::SafeTensor> tensors_;
  std::map<std::string, std::vector<int>> heads_;
};

class Capture {
 public:
  explicit Capture(CapturePlan plan) : plan_(std::move(plan)) {}

  // Prefills `tokens` as a new sequence of the session, which is removed again. `options.on_logits` is
  // the caller's to use. Errors of Session::prefill, and kUsage for a hook that never fired (A2).
  Status run(engine::Session& session, std::span<const int32_t> tokens, engine::PrefillOptions options = {});

  const CapturePlan& plan() const { return plan_; }
  std::span<const float> values(const std::string& name) const;  // after run(); empty for a name not there
  std::span<const int32_t> integers(const std::string& name) const;
  // Atomic. `metadata` goes into the file with the heads of each tensor.
  Status write(const std::string& path, std::map<std::string, std::string> metadata = {}) const;
  // Into a file that was opened before; `path` names it in messages.
  Status write(FileWriter file, const std::string& path, std::map<std::string, std::string> metadata) const;

 private:
  struct Buffer {
    std::vector<float> values;
    int64_t rows = 0;  // tokens collected
  };
  void collect(const std::string& name, const attention::HookPoint& point, const tensor::Tensor& value);

  CapturePlan plan_;
  std::map<std::string, Buffer> buffers_;
  std::unique_ptr<RowReducer> reducer_;
  Status failed_;
};

}  // namespace fovea::probe

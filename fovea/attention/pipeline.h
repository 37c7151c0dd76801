// The methods of one session, in the order given, and their state per sequence.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/attention/method.h"

namespace fovea::attention {

class Pipeline {
 public:
  Pipeline() = default;  // dense

  // "dense", or methods with knobs ("auto" is chosen for a prompt before, tasks/auto_attention.h; here it is dense):
  // "streaming-llm:n_sink=4:window=1020,scale:heads=3.1:value=0". A comma before name=value also
  // separates knobs. "@policy.json" reads [{"method": NAME, knob: value, ...}, ...].
  // kUsage: unknown method (with the nearest), unknown or bad knob, a knob twice, a method twice (but for one that acts
  // on chosen heads, on others each time), a pair that cannot compose. Of a file with its line and column.
  static Result<Pipeline> parse(std::string_view spec, const ModelShape& model);

  const std::string& spec() const { return spec_; }  // with every knob that was set
  bool dense() const { return methods_.empty(); }
  bool keeps_state() const;  // whether a method keeps state of a sequence beside the cache
  const std::vector<std::unique_ptr<Method>>& methods() const { return methods_; }

  // The state of method i for a sequence; made at first use. Null if the method keeps none.
  SequenceState* state(size_t method, SequenceId sequence);
  void fork(SequenceId from, SequenceId to);
  bool can_truncate(SequenceId sequence, int32_t n_tokens) const;  // whether every state of it can
  void truncate(SequenceId sequence, int32_t n_tokens);
  uint64_t state_bytes(SequenceId sequence) const;  // SequenceState::bytes of all
  void remove(SequenceId sequence) { states_.erase(sequence); }
  using States = std::vector<std::unique_ptr<SequenceState>>;
  States copy_states(SequenceId sequence) const;
  void restore(SequenceId sequence, States states);
  // The furthest that a row looks back (Method::reach): what every row sees lies within the least of them.
  int64_t reach() const;
  // What its methods want read in one pass (Method::read_together): from the first row of any to the last.
  Result<Together> read_together(std::span<const Span> spans) const;
  // The methods that do something only while tokens are decoded one by one, by name.
  std::vector<std::string_view> only_while_decoding(const ModelShape& model) const;

 private:
  Status add(std::string_view name, const std::vector<std::pair<std::string, std::string>>& knobs,
             const ModelShape& model);
  Status add_policy_file(const std::string& path, const ModelShape& model);

  std::string spec_ = "dense";
  std::vector<std::unique_ptr<Method>> methods_;
  std::map<SequenceId, States> states_;
  // By a method's name, the heads that its entries act on; of one that acts on no chosen heads, none.
  std::map<std::string_view, std::vector<bool>> claimed_;
};

}  // namespace fovea::attention

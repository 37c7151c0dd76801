// Prefixes that were read before, kept on disk, so that a second question about a document reads the question
// only. A stored prefix is used only where it gives the very bits that reading it again would give; anything else
// (damage, another model, another build) is logged and passed over. Files: docs/prefix-cache.md.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fovea/engine/session.h"

namespace fovea::engine {

// $XDG_CACHE_HOME/fovea/prefix, else ~/.cache/fovea/prefix; empty if the environment names neither.
std::string default_prefix_dir();

struct PrefixStoreOptions {
  std::string dir;                               // made at need; empty: nothing is stored or found
  uint64_t max_bytes = uint64_t{2'000'000'000};  // of all files; the longest unused go first
};

class PrefixStore {
 public:
  static constexpr size_t kLeastTokens = 64;  // fewer are read again as fast as they are looked up

  explicit PrefixStore(PrefixStoreOptions options) : options_(std::move(options)) {}

  // A sequence that holds the first n tokens of `prompt`, at most all but one. With dense attention any stored
  // sequence serves that begins as `prompt` does. Other methods may remember where a prompt was cut: there only
  // prompt[0, n_shared) as a whole is taken, and those who use the store cut there with and without it.
  struct Found {
    SequenceId sequence;
    int32_t n_tokens;
  };
  std::optional<Found> find(Session& session, std::span<const int32_t> prompt, size_t n_shared);

  // Sets `tokens`, all that the sequence was fed (with dense attention: what it was fed first), aside for flush(),
  // as they are now; replaces what was set aside before. Not where a method keeps state of its own, a hook is at
  // work, weights have adapters that come from no file or are the sequence's own, or it is so far ahead that a layer's
  // window has left them.
  void remember(Session& session, SequenceId sequence, std::span<const int32_t> tokens);
  // Writes what was set aside, when there is time for it. Only a complete file ever has its name.
  void flush(Session& session);
  void forget(Session& session);  // instead of flush()

 private:
  bool usable(Session& session) const;
  Result<std::string> setting_of(const Session& session) const;
  Status write(Session& session, const std::string& setting);

  struct Pending {
    SequenceId sequence;
    std::vector<int32_t> tokens;
    attention::KeyCount keys;
  };
  PrefixStoreOptions options_;
  std::optional<Pending> pending_;
};

}  // namespace fovea::engine

// The file of a stored prefix: the tokens of a sequence and the keys and values that came of them, with checksums
// of every part. The bytes are described in docs/prefix-cache.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fovea/attention/attend.h"
#include "fovea/attention/kv_cache.h"
#include "fovea/base/file.h"
#include "fovea/base/result.h"

namespace fovea::engine {

struct PrefixHead {
  std::string setting;  // all that the keys and values depend on beside the tokens
  std::vector<int32_t> tokens;
  attention::KeyCount keys;  // what computing them read
};

uint64_t prefix_file_bytes(const PrefixHead& head, const attention::KvCache& cache, attention::SequenceId sequence);
// Readable by its owner only: the tokens are the user's text.
Status write_prefix_file(const std::string& path, const PrefixHead& head, const attention::KvCache& cache,
                         attention::SequenceId sequence);

class PrefixFile {
 public:
  static constexpr uint32_t kVersion = 3;
  enum class Checksums { kVerify, kIgnore };  // kIgnore: for fuzzing, which cannot guess them

  // Reads and checks the head alone. `bytes` must outlive this; `name` starts every message. kData.
  static Result<PrefixFile> parse(std::span<const std::byte> bytes, const std::string& name,
                                  Checksums checksums = Checksums::kVerify);
  const PrefixHead& head() const { return head_; }
  // Checks the rest and fills a sequence that was created and is empty. kData leaves some of it filled.
  Status restore(attention::KvCache& cache, attention::SequenceId sequence) const;

 private:
  struct Section {
    std::span<const std::byte> bytes;
    std::array<std::byte, 32> sha256;
  };
  std::string name_;
  Checksums checksums_ = Checksums::kVerify;
  PrefixHead head_;
  attention::CacheShape shape_;
  std::vector<Section> sections_;  // [n_layers]
};

}  // namespace fovea::engine

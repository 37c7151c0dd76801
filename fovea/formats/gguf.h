// GGUF v2 and v3: bytes to named tensors and metadata; knows no model family. Everything is
// checked before it is handed out, and no allocation is sized by an unchecked field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/base/result.h"
#include "fovea/formats/source.h"

namespace fovea::formats {

class Gguf final : public ModelSource {
 public:
  static constexpr uint64_t kMaxKeyBytes = 65'535, kMaxStringBytes = uint64_t{64} << 20, kMaxTemplateBytes = 1 << 20;
  static constexpr uint64_t kMaxMetadataBytes = uint64_t{512} << 20, kMaxKeys = 1'000'000, kMaxTensors = 1'000'000;
  static constexpr uint64_t kMaxNameBytes = 63, kMaxArchitectureBytes = 64, kMaxShards = 99'999;

  using Options = SourceOptions;

  // The first shard opens the others beside it.
  static Result<std::shared_ptr<const Gguf>> open(const std::string& path) { return open(path, Options()); }
  static Result<std::shared_ptr<const Gguf>> open(const std::string& path, Options options);
  // Borrows `bytes`; one file only, shards are not followed.
  static Result<Gguf> parse(std::span<const std::byte> bytes, const std::string& name) {
    return parse(bytes, name, Options());
  }
  static Result<Gguf> parse(std::span<const std::byte> bytes, const std::string& name, Options options);

  bool has(std::string_view key) const override { return values_.find(key) != values_.end(); }
  std::vector<std::string> keys_under(std::string_view prefix) const override;
  Result<uint64_t> get_u64(std::string_view key) const override;
  Result<int64_t> get_i64(std::string_view key) const override;
  Result<double> get_f64(std::string_view key) const override;
  Result<bool> get_bool(std::string_view key) const override;
  Result<std::string> get_string(std::string_view key) const override;
  Result<std::vector<std::string_view>> get_strings(std::string_view key) const override;
  Result<std::vector<double>> get_f64s(std::string_view key) const override;
  Result<std::vector<int64_t>> get_i64s(std::string_view key) const override;
  std::string text_of(std::string_view key) const override;

  // A key as it lies in the file, for who copies it: numbers of the value types of docs/gguf.md; a string without its
  // length; the elements of an array.
  struct RawKey {
    std::string name;
    uint32_t type, element;
    uint64_t count;
    std::span<const std::byte> payload;
  };
  std::vector<RawKey> raw_keys() const;  // in the order of the file

  bool has_vocabulary() const override;
  Result<tokenizers::Vocabulary> vocabulary() const override;
  tensor::RopePairing rope_pairing(const tensor::StoredPairing& of_family) const override { return of_family.gguf; }
  int64_t block_of(std::string_view tensor) const override;
  const std::string& name_of(const tensor::Parameter& p) const override { return p.name; }
  const tensor::Stored& stored(const tensor::Parameter& p) const override { return p.gguf; }

 private:
  struct Value {
    uint32_t type = 0, element = 0;
    uint64_t count = 1, index = 0;
    std::span<const std::byte> payload;  // a string without its length; the elements of an array
  };
  friend class GgufParser;
  Result<std::string_view> get_bytes(std::string_view key) const;  // an array of them
  Result<const Value*> find(std::string_view key, bool array, std::string_view wanted) const;
  Error wrong_kind(std::string_view key, const Value& value, std::string_view wanted) const;

  std::map<std::string, Value, std::less<>> values_;
};

}  // namespace fovea::formats

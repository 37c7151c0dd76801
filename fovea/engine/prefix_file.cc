#include "fovea/engine/prefix_file.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "fovea/attention/kv_snapshot.h"
#include "fovea/base/bytes.h"
#include "fovea/base/threads.h"

namespace fovea::engine {
namespace {

using attention::KvCache;
using attention::SequenceId;
using kernels::KvType;
using Digest = Sha256::Digest;

constexpr std::string_view kMagic = "FOVEAPFX";
constexpr uint64_t kFixedBytes = 60;  // before the setting
constexpr uint64_t kSectionBytes = 4 * sizeof(uint32_t) + sizeof(uint64_t) + sizeof(Digest);
constexpr uint32_t kMaxSetting = 1 << 16, kMaxTokens = 1 << 24, kMaxLayers = 1 << 12, kMaxHeads = 1 << 12,
                   kMaxHeadDim = 256;

uint64_t head_bytes(uint64_t n_setting, uint64_t n_tokens, uint64_t n_layers) {
  return kFixedBytes + n_setting + n_tokens * sizeof(int32_t) + n_layers * kSectionBytes + sizeof(Digest);
}

Digest digest_of(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.add(bytes);
  return hash.digest();
}

class Bytes {
 public:
  template <typename T>
  void number(T value) {
    append(std::as_bytes(std::span(&value, 1)));
  }
  void append(std::span<const std::byte> more) {
    bytes_.append(reinterpret_cast<const char*>(more.data()), more.size());
  }
  std::span<const std::byte> all() const { return std::as_bytes(std::span(bytes_)); }
  void clear() { bytes_.clear(); }

 private:
  std::string bytes_;
};

}  // namespace

uint64_t prefix_file_bytes(const PrefixHead& head, const KvCache& cache, SequenceId sequence) {
  uint64_t bytes = head_bytes(head.setting.size(), head.tokens.size(), static_cast<uint64_t>(cache.shape().n_layers()));
  for (int layer = 0; layer < cache.shape().n_layers(); ++layer)
    bytes += attention::layer_bytes(cache, sequence, layer);
  return bytes;
}

Status write_prefix_file(const std::string& path, const PrefixHead& head, const KvCache& cache, SequenceId sequence) {
  const attention::CacheShape& shape = cache.shape();
  const auto n_layers = static_cast<size_t>(shape.n_layers());
  std::vector<Digest> digests(n_layers);
  pool().for_each(shape.n_layers(), [&](int64_t layer, int) {
    Sha256 hash;
    (void)attention::write_layer(cache, sequence, static_cast<int>(layer), [&](std::span<const std::byte> part) {
      hash.add(part);
      return Status();
    });
    digests[static_cast<size_t>(layer)] = hash.digest();
  });

  Bytes out;
  out.append(std::as_bytes(std::span(kMagic)));
  out.number(PrefixFile::kVersion);
  out.number(static_cast<uint32_t>(head_bytes(head.setting.size(), head.tokens.size(), n_layers)));
  out.number(prefix_file_bytes(head, cache, sequence));
  out.number(static_cast<uint32_t>(head.tokens.size()));
  out.number(static_cast<uint32_t>(head.setting.size()));
  for (const int number : {shape.n_layers(), static_cast<int>(shape.k_type), static_cast<int>(shape.v_type)})
    out.number(static_cast<uint32_t>(number));
  out.number(head.keys.seen);
  out.number(head.keys.dense);
  out.append(std::as_bytes(std::span(head.setting)));
  out.append(std::as_bytes(std::span(head.tokens)));
  for (size_t layer = 0; layer < n_layers; ++layer) {
    const attention::CacheShape::Layer& heads = shape.layers[layer];
    for (const int number : {heads.n_k_heads, heads.n_v_heads, heads.k_dim, heads.v_dim})
      out.number(static_cast<uint32_t>(number));
    out.number(attention::layer_bytes(cache, sequence, static_cast<int>(layer)));
    out.append(digests[layer]);
  }
  out.append(digest_of(out.all()));

  FOVEA_ASSIGN_OR_RETURN(FileWriter file, FileWriter::create(path, WriteTo::kOwnFile, 0600));
  const auto put = [&](std::span<const std::byte> part) -> Status {
    out.append(part);
    if (out.all().size() < (1 << 20)) return {};
    FOVEA_RETURN_IF_ERROR(file.write(out.all()));
    out.clear();
    return {};
  };
  for (int layer = 0; layer < shape.n_layers(); ++layer)
    FOVEA_RETURN_IF_ERROR(attention::write_layer(cache, sequence, layer, put));
  FOVEA_RETURN_IF_ERROR(file.write(out.all()));
  return file.commit(/*durable=*/false);
}

Result<PrefixFile> PrefixFile::parse(std::span<const std::byte> bytes, const std::string& name, Checksums checksums) {
  const auto wrong = [&](const char* what) { return make_error(ErrorCode::kData, "{}: {}", name, what); };
  PrefixFile out;
  out.name_ = name;
  out.checksums_ = checksums;
  ByteReader reader(bytes, name);
  FOVEA_ASSIGN_OR_RETURN(const auto magic, reader.read_chars(kMagic.size(), "the magic"));
  if (magic != kMagic) return wrong("not a stored prefix");
  FOVEA_ASSIGN_OR_RETURN(const auto version, reader.read<uint32_t>("the version"));
  if (version != kVersion) {
    return make_error(ErrorCode::kData, "{}: version {}; this program reads version {}", name, version, kVersion);
  }
  FOVEA_ASSIGN_OR_RETURN(const auto n_head, reader.read<uint32_t>("the size of the head"));
  FOVEA_ASSIGN_OR_RETURN(const auto n_file, reader.read<uint64_t>("the size of the file"));
  if (n_file != bytes.size())
    return make_error(ErrorCode::kData, "{}: {} bytes instead of {}", name, bytes.size(), n_file);
  if (n_head < kFixedBytes + sizeof(Digest) || n_head > bytes.size()) return wrong("a head of an impossible size");
  const auto head = bytes.first(n_head - sizeof(Digest));
  if (checksums == Checksums::kVerify) {
    const Digest digest = digest_of(head);
    if (!std::equal(digest.begin(), digest.end(), bytes.begin() + static_cast<ptrdiff_t>(head.size())))
      return wrong("the head does not match its checksum");
  }

  uint32_t n_tokens = 0, n_setting = 0, shape[3] = {};
  FOVEA_ASSIGN_OR_RETURN(n_tokens, reader.read<uint32_t>("the number of tokens"));
  FOVEA_ASSIGN_OR_RETURN(n_setting, reader.read<uint32_t>("the size of the setting"));
  for (uint32_t& number : shape) {
    FOVEA_ASSIGN_OR_RETURN(number, reader.read<uint32_t>("the shape"));
  }
  FOVEA_ASSIGN_OR_RETURN(out.head_.keys.seen, reader.read<uint64_t>("the keys seen"));
  FOVEA_ASSIGN_OR_RETURN(out.head_.keys.dense, reader.read<uint64_t>("the keys of dense attention"));
  if (n_tokens == 0 || n_tokens > kMaxTokens || n_setting > kMaxSetting) return wrong("counts out of range");
  constexpr auto kMaxType = static_cast<uint32_t>(KvType::kQ8_0);
  if (shape[0] == 0 || shape[0] > kMaxLayers || shape[1] > kMaxType || shape[2] > kMaxType)
    return wrong("an impossible shape");
  out.shape_.k_type = static_cast<KvType>(shape[1]);
  out.shape_.v_type = static_cast<KvType>(shape[2]);
  if (n_head != head_bytes(n_setting, n_tokens, shape[0])) return wrong("the head's size does not match its counts");
  FOVEA_ASSIGN_OR_RETURN(const auto setting, reader.read_chars(n_setting, "the setting"));
  out.head_.setting = setting;
  FOVEA_ASSIGN_OR_RETURN(const auto tokens, reader.read_bytes(uint64_t{n_tokens} * sizeof(int32_t), "the tokens"));
  out.head_.tokens.resize(n_tokens);
  std::memcpy(out.head_.tokens.data(), tokens.data(), tokens.size());
  uint64_t at = n_head;
  for (uint32_t layer = 0; layer < shape[0]; ++layer) {
    uint32_t heads[4] = {};
    for (uint32_t& number : heads) {
      FOVEA_ASSIGN_OR_RETURN(number, reader.read<uint32_t>("the heads of a layer"));
    }
    for (int i = 0; i < 4; ++i) {
      if (heads[i] == 0 || heads[i] > (i < 2 ? kMaxHeads : kMaxHeadDim)) return wrong("an impossible shape");
    }
    out.shape_.layers.push_back({static_cast<int>(heads[0]), static_cast<int>(heads[1]), static_cast<int>(heads[2]),
                                 static_cast<int>(heads[3])});
    FOVEA_ASSIGN_OR_RETURN(const auto n_layer, reader.read<uint64_t>("the size of a layer"));
    FOVEA_ASSIGN_OR_RETURN(const auto digest, reader.read_bytes(sizeof(Digest), "the checksum of a layer"));
    if (n_layer > bytes.size() - at) return wrong("a layer lies past the end");
    Section section{bytes.subspan(at, n_layer), {}};
    std::copy(digest.begin(), digest.end(), section.sha256.begin());
    out.sections_.push_back(section);
    at += n_layer;
  }
  if (at != bytes.size()) return wrong("the layers do not fill the file");
  return out;
}

Status PrefixFile::restore(KvCache& cache, SequenceId sequence) const {
  if (shape_ != cache.shape()) return make_error(ErrorCode::kData, "{}: a cache of another shape", name_);
  std::vector<Status> done(sections_.size());
  pool().for_each(static_cast<int64_t>(sections_.size()), [&](int64_t i, int) {
    const Section& section = sections_[static_cast<size_t>(i)];
    Status& status = done[static_cast<size_t>(i)];
    if (checksums_ == Checksums::kVerify && digest_of(section.bytes) != section.sha256) {
      status = make_error(ErrorCode::kData, "{}: layer {} does not match its checksum", name_, i);
    } else {
      status = attention::read_layer(cache, sequence, static_cast<int>(i), section.bytes,
                                     static_cast<int32_t>(head_.tokens.size()), name_);
    }
  });
  for (Status& status : done) FOVEA_RETURN_IF_ERROR(std::move(status));
  return {};
}

}  // namespace fovea::engine

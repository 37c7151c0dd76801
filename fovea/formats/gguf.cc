#include "fovea/formats/gguf.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "fovea/base/bytes.h"
#include "fovea/formats/gguf_value_types.h"

namespace fovea::formats {
namespace {

using namespace gguf_value;

constexpr const char* kTypeNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                      "bool", "string", "array", "u64", "i64", "f64"};
constexpr uint64_t kTypeBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
constexpr uint64_t kMinKeyEntry = 8 + 1 + 4 + 1;             // length, key, type, value
constexpr uint64_t kMinTensorEntry = 8 + 1 + 4 + 8 + 4 + 8;  // length, name, n_dims, dim, type, offset

bool is_integer(uint32_t type) { return type <= kI32 || type == kU64 || type == kI64; }

template <typename T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

template <typename T>
T number(uint32_t type, const std::byte* at) {
  switch (type) {
    case kU8:
    case kBool: return static_cast<T>(load<uint8_t>(at));
    case kI8: return static_cast<T>(load<int8_t>(at));
    case kU16: return static_cast<T>(load<uint16_t>(at));
    case kI16: return static_cast<T>(load<int16_t>(at));
    case kU32: return static_cast<T>(load<uint32_t>(at));
    case kI32: return static_cast<T>(load<int32_t>(at));
    case kF32: return static_cast<T>(load<float>(at));
    case kU64: return static_cast<T>(load<uint64_t>(at));
    case kI64: return static_cast<T>(load<int64_t>(at));
    default: return static_cast<T>(load<double>(at));
  }
}

std::string_view recognised(std::string_view head) {
  if (head.starts_with("version https://git-lfs")) return "a Git LFS pointer; fetch the real file with git lfs pull";
  if (head.starts_with("PK\x03\x04")) return "a zip archive (perhaps a PyTorch checkpoint)";
  if (head.starts_with("\x80\x02") || head.starts_with("\x80\x04")) return "a Python pickle";
  if (head.starts_with("FUGG")) return "a big-endian GGUF";
  if (head.starts_with("ggml") || head.starts_with("lmgg") || head.starts_with("tjgg"))
    return "an old GGML file, from before GGUF";
  std::string lower(head.substr(0, 64));
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  if (lower.find("<!doctype") != lower.npos || lower.find("<html") != lower.npos)
    return "an HTML page (perhaps a failed download)";
  if (head.size() > 8 && head[8] == '{') return "a safetensors file";
  return "";
}

}  // namespace

class GgufParser {
 public:
  GgufParser(std::span<const std::byte> bytes, const std::string& name, Gguf::Options options)
      : in_(bytes, name), all_(bytes), options_(options) {
    out_.name_ = name;
  }

  Result<Gguf> parse() {
    FOVEA_RETURN_IF_ERROR(header());
    for (uint64_t i = 0; i < n_keys_; ++i) FOVEA_RETURN_IF_ERROR(key_value(i));
    FOVEA_RETURN_IF_ERROR(general_keys());
    for (uint64_t i = 0; i < n_tensors_; ++i) FOVEA_RETURN_IF_ERROR(tensor(i));
    FOVEA_RETURN_IF_ERROR(data());
    return std::move(out_);
  }

  static Status merge(Gguf& into, Gguf&& shard) {
    for (TensorInfo& t : shard.tensors_) {
      if (!into.tensor_index_.emplace(t.name, into.tensors_.size()).second) {
        return make_error(ErrorCode::kData, "{}: tensor {} is also in another shard", shard.name_, quote(t.name));
      }
      into.tensors_.push_back(std::move(t));
    }
    for (auto& w : shard.warnings_) into.warnings_.push_back(std::move(w));
    return {};
  }
  static void keep(Gguf& gguf, std::shared_ptr<const MappedFile> file) { gguf.files_.push_back(std::move(file)); }

 private:
  template <typename... Args>
  Error bad(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) const {
    return Error{code, fmt::format("{}: ", in_.name()) + fmt::format(format, std::forward<Args>(args)...),
                 fmt::format("offset {}", in_.offset())};
  }

  Status header() {
    const std::string_view head(reinterpret_cast<const char*>(all_.data()), std::min<size_t>(all_.size(), 256));
    if (!head.starts_with("GGUF")) {
      const std::string_view real = recognised(head);
      if (!real.empty()) return bad(ErrorCode::kData, "not a model: at offset 0 this is {}", real);
      if (all_.empty()) return bad(ErrorCode::kData, "not a model: the file is empty");
      return bad(ErrorCode::kData, "not a model: {} bytes that start with {} at offset 0, not \"GGUF\"", all_.size(),
                 quote(head.substr(0, 4)));
    }
    FOVEA_RETURN_IF_ERROR(in_.seek(4, "the version"));
    FOVEA_ASSIGN_OR_RETURN(const auto version, in_.read<uint32_t>("the version"));
    if (version != 0 && (version & 0xFFFF) == 0)
      return bad(ErrorCode::kUnsupported,
                 "this is a big-endian GGUF (version bytes {:#010x} at offset 4); only little-endian is read", version);
    if (version != 2 && version != 3)
      return bad(ErrorCode::kUnsupported, "GGUF version {} at offset 4; versions 2 and 3 are read", version);
    FOVEA_ASSIGN_OR_RETURN(n_tensors_, in_.read<uint64_t>("the tensor count"));
    FOVEA_ASSIGN_OR_RETURN(n_keys_, in_.read<uint64_t>("the key count"));
    const uint64_t left = in_.remaining();
    if (n_tensors_ > left / kMinTensorEntry)
      return bad(ErrorCode::kData, "tensor count {} at offset 8 cannot fit in the {} bytes left", n_tensors_, left);
    if (n_keys_ > left / kMinKeyEntry)
      return bad(ErrorCode::kData, "key count {} at offset 16 cannot fit in the {} bytes left", n_keys_, left);
    if (n_tensors_ > Gguf::kMaxTensors)
      return bad(ErrorCode::kLimit, "tensor count {}; the cap is {}", n_tensors_, Gguf::kMaxTensors);
    if (n_keys_ > Gguf::kMaxKeys) return bad(ErrorCode::kLimit, "key count {}; the cap is {}", n_keys_, Gguf::kMaxKeys);
    return {};
  }

  Result<std::string_view> string(const std::string& what, uint64_t cap) {
    FOVEA_ASSIGN_OR_RETURN(const auto n, in_.read<uint64_t>(what));
    if (n > in_.remaining())
      return bad(ErrorCode::kData, "{} is {} bytes long at offset {}, but {} are left", what, n, in_.offset(),
                 in_.remaining());
    if (n > cap)
      return bad(ErrorCode::kLimit, "{} is {} bytes long at offset {}; the cap is {}", what, n, in_.offset(), cap);
    return in_.read_chars(n, what);
  }

  Status check_bools(std::span<const std::byte> bytes, const std::string& what) {
    for (const std::byte b : bytes) {
      if (b <= std::byte{1}) continue;
      if (options_.strict)
        return bad(ErrorCode::kData, "{} holds the bool byte {}; 0 or 1 is allowed", what, static_cast<int>(b));
      out_.warnings_.push_back(
          fmt::format("{}: {} holds the bool byte {}, read as true", in_.name(), what, static_cast<int>(b)));
      break;
    }
    return {};
  }

  Status key_value(uint64_t i) {
    const uint64_t at = in_.offset();
    FOVEA_ASSIGN_OR_RETURN(const auto n, in_.read<uint64_t>("a key's length"));
    if (n == 0 || n > Gguf::kMaxKeyBytes)
      return bad(ErrorCode::kData, "key {} at offset {} is {} bytes long; 1 to {} are allowed", i, at, n,
                 Gguf::kMaxKeyBytes);
    FOVEA_ASSIGN_OR_RETURN(const auto key, in_.read_chars(n, "a key"));
    for (const char c : key) {
      if (c < 0x20 || c > 0x7E)
        return bad(ErrorCode::kData, "key {} {} at offset {} holds a byte that is not printable ASCII", i, quote(key),
                   at);
    }
    const std::string what = "key " + quote(key);
    Gguf::Value value;
    value.index = i;
    FOVEA_ASSIGN_OR_RETURN(value.type, in_.read<uint32_t>(what));
    if (value.type >= kTypes)
      return bad(ErrorCode::kUnsupported, "{} has value type {}; 0 to 12 are known", what, value.type);
    if (value.type == kString) {
      const bool is_template = key.starts_with("tokenizer.chat_template");
      FOVEA_ASSIGN_OR_RETURN(const auto text,
                             string(what, is_template ? Gguf::kMaxTemplateBytes : Gguf::kMaxStringBytes));
      value.payload = std::as_bytes(std::span(text.data(), text.size()));
    } else if (value.type == kArray) {
      FOVEA_RETURN_IF_ERROR(array(value, what));
    } else {
      FOVEA_ASSIGN_OR_RETURN(value.payload, in_.read_bytes(kTypeBytes[value.type], what));
      if (value.type == kBool) FOVEA_RETURN_IF_ERROR(check_bools(value.payload, what));
    }
    if (in_.offset() > Gguf::kMaxMetadataBytes)
      return bad(ErrorCode::kLimit, "{} ends at offset {}; metadata may take {} bytes", what, in_.offset(),
                 Gguf::kMaxMetadataBytes);
    const auto [old, is_new] = out_.values_.emplace(key, value);
    if (!is_new) return bad(ErrorCode::kData, "{} is there twice, at index {} and {}", what, old->second.index, i);
    return {};
  }

  Status array(Gguf::Value& value, const std::string& what) {
    FOVEA_ASSIGN_OR_RETURN(value.element, in_.read<uint32_t>(what));
    FOVEA_ASSIGN_OR_RETURN(value.count, in_.read<uint64_t>(what));
    if (value.element == kArray || value.element >= kTypes)
      return bad(ErrorCode::kUnsupported, "{} is an array of type {}; arrays of numbers, bools and strings are read",
                 what, value.element);
    const uint64_t size = value.element == kString ? 8 : kTypeBytes[value.element];
    if (value.count > in_.remaining() / size)
      return bad(ErrorCode::kData, "{} has {} array elements of at least {} bytes at offset {}, but {} bytes are left",
                 what, value.count, size, in_.offset(), in_.remaining());
    if (value.count * size > Gguf::kMaxMetadataBytes)
      return bad(ErrorCode::kLimit, "{} has {} array elements; metadata may take {} bytes", what, value.count,
                 Gguf::kMaxMetadataBytes);
    const size_t start = in_.offset();
    if (value.element != kString) {
      FOVEA_ASSIGN_OR_RETURN(value.payload, in_.read_bytes(value.count * size, what));
      return value.element == kBool ? check_bools(value.payload, what) : Status();
    }
    for (uint64_t i = 0; i < value.count; ++i) {
      FOVEA_RETURN_IF_ERROR(string(what, Gguf::kMaxStringBytes));
      if (in_.offset() > Gguf::kMaxMetadataBytes)
        return bad(ErrorCode::kLimit, "{} ends past offset {}, the cap on metadata", what, Gguf::kMaxMetadataBytes);
    }
    value.payload = all_.subspan(start, in_.offset() - start);
    return {};
  }

  Status general_keys() {
    if (const auto it = out_.values_.find("general.alignment"); it != out_.values_.end()) {
      if (it->second.type != kU32)
        return bad(ErrorCode::kData, "key \"general.alignment\" is {}; it must be u32", kTypeNames[it->second.type]);
      alignment_ = load<uint32_t>(it->second.payload.data());
      if (alignment_ < 8 || alignment_ > (1u << 20) || (alignment_ & (alignment_ - 1)) != 0) {
        return bad(ErrorCode::kData, "key \"general.alignment\" is {}; a power of two from 8 to 1048576 is allowed",
                   alignment_);
      }
    }
    if (out_.has("general.architecture")) {
      FOVEA_ASSIGN_OR_RETURN(const auto arch, out_.get_string("general.architecture"));
      if (arch.empty() || arch.size() > Gguf::kMaxArchitectureBytes)
        return bad(ErrorCode::kData, "key \"general.architecture\" is {} bytes long; 1 to {} are allowed", arch.size(),
                   Gguf::kMaxArchitectureBytes);
    }
    return {};
  }

  Status tensor(uint64_t i) {
    TensorInfo t;
    const uint64_t at = in_.offset();
    FOVEA_ASSIGN_OR_RETURN(const auto n, in_.read<uint64_t>("a tensor name's length"));
    if (n == 0 || n > Gguf::kMaxNameBytes)
      return bad(ErrorCode::kData, "the name of tensor {} at offset {} is {} bytes long; 1 to {} are allowed", i, at, n,
                 Gguf::kMaxNameBytes);
    FOVEA_ASSIGN_OR_RETURN(t.name, in_.read_chars(n, "a tensor name"));
    const std::string what = fmt::format("tensor {} {}", i, quote(t.name));
    const bool printable = std::all_of(t.name.begin(), t.name.end(), [](char c) { return c >= 0x20 && c <= 0x7E; });
    if (!printable || t.name.find("..") != std::string::npos)
      return bad(ErrorCode::kData, "{} at offset {} has a name with \"..\" or a byte that is not printable ASCII", what,
                 at);
    FOVEA_ASSIGN_OR_RETURN(const auto n_dims, in_.read<uint32_t>(what));
    if (n_dims < 1 || n_dims > 4)
      return bad(ErrorCode::kData, "{} has {} dimensions; 1 to 4 are allowed", what, n_dims);
    uint64_t elements = 1, nonzero = 1;
    constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
    for (uint32_t d = 0; d < n_dims; ++d) {
      FOVEA_ASSIGN_OR_RETURN(const auto dim, in_.read<int64_t>(what));
      if (dim < 0) return bad(ErrorCode::kData, "{} has dimension {} = {}, which is negative", what, d, dim);
      const auto size = static_cast<uint64_t>(dim);
      if (size != 0 && nonzero > kMost / size)
        return bad(ErrorCode::kData, "{} has more than 2^63 elements at dimension {} = {}", what, d, dim);
      if (size != 0) nonzero *= size;
      elements = size == 0 ? 0 : elements * size;
      t.dims.push_back(dim);
    }
    FOVEA_ASSIGN_OR_RETURN(const auto type, in_.read<int32_t>(what));
    const kernels::DTypeInfo* info = kernels::dtype_info(type);
    if (!info)
      return bad(ErrorCode::kUnsupported, "{} has type {}, which is unknown or was removed from ggml", what, type);
    t.dtype = static_cast<kernels::DType>(type);
    const auto block = static_cast<uint64_t>(info->block_elements),
               block_bytes = static_cast<uint64_t>(info->block_bytes);
    if (static_cast<uint64_t>(t.dims[0]) % block != 0)
      return bad(ErrorCode::kData, "{} has rows of {} elements, which is not a multiple of the {} block of {}", what,
                 t.dims[0], info->name, block);
    if (elements / block > kMost / block_bytes)
      return bad(ErrorCode::kData, "{} has {} elements of {}: its bytes overflow 2^63", what, elements, info->name);
    t.bytes = elements / block * block_bytes;
    FOVEA_ASSIGN_OR_RETURN(t.offset, in_.read<uint64_t>(what));
    if (t.offset % alignment_ != 0)
      return bad(ErrorCode::kData, "{} has offset {}, which is not a multiple of the alignment {}", what, t.offset,
                 alignment_);
    if (t.offset != next_)
      return bad(ErrorCode::kData, "{} has offset {}, but the tensors before it end at {}", what, t.offset, next_);
    if (t.bytes > kMost - alignment_ || next_ > kMost - alignment_ - t.bytes)
      return bad(ErrorCode::kData, "{} of {} bytes at offset {} overflows 2^63", what, t.bytes, t.offset);
    next_ = (next_ + t.bytes + alignment_ - 1) / alignment_ * alignment_;
    const auto [old, is_new] = out_.tensor_index_.emplace(t.name, out_.tensors_.size());
    if (!is_new)
      return bad(ErrorCode::kData, "tensor {} is there twice, at index {} and {}", quote(t.name), old->second, i);
    out_.tensors_.push_back(std::move(t));
    return {};
  }

  Status data() {
    if (out_.tensors_.empty()) return {};
    const uint64_t size = all_.size();
    const uint64_t start = (in_.offset() + alignment_ - 1) / alignment_ * alignment_;
    for (TensorInfo& t : out_.tensors_) {
      if (t.bytes == 0) continue;  // nothing of it is in the file, which may end before its offset
      if (start > size || t.offset > size - start || t.bytes > size - start - t.offset) {
        const TensorInfo& last = out_.tensors_.back();
        return bad(ErrorCode::kData,
                   "the file is {} bytes short: tensor {} needs {} bytes at offset {}, and the file ends at {}",
                   start + last.offset + last.bytes - size, quote(t.name), t.bytes, start + t.offset, size);
      }
      t.data = all_.subspan(static_cast<size_t>(start + t.offset), static_cast<size_t>(t.bytes));
    }
    if (size > start && size - start > next_) {
      if (options_.strict)
        return bad(ErrorCode::kData, "{} bytes follow the last tensor, which ends at offset {}", size - start - next_,
                   start + next_);
      out_.warnings_.push_back(fmt::format("{}: {} bytes follow the last tensor, which ends at offset {}", in_.name(),
                                           size - start - next_, start + next_));
    }
    return {};
  }

  ByteReader in_;
  std::span<const std::byte> all_;
  Gguf::Options options_;
  Gguf out_;
  uint64_t n_tensors_ = 0, n_keys_ = 0, alignment_ = 32, next_ = 0;
};

Result<Gguf> Gguf::parse(std::span<const std::byte> bytes, const std::string& name, Options options) {
  return GgufParser(bytes, quote(name, 4096), options).parse();
}

Result<std::shared_ptr<const Gguf>> Gguf::open(const std::string& path, Options options) {
  FOVEA_ASSIGN_OR_RETURN(auto file, MappedFile::open(path));
  FOVEA_ASSIGN_OR_RETURN(Gguf first, parse(file->bytes(), options.called.empty() ? path : options.called, options));
  GgufParser::keep(first, file);
  uint64_t n_shards = 1;
  if (first.has("split.count")) {
    FOVEA_ASSIGN_OR_RETURN(n_shards, first.get_u64("split.count"));
  }
  if (n_shards > 1) {
    if (n_shards > kMaxShards)
      return make_error(ErrorCode::kLimit, "{}: key \"split.count\" is {}; the cap is {}", first.name_, n_shards,
                        kMaxShards);
    FOVEA_ASSIGN_OR_RETURN(const auto no, first.get_u64("split.no"));
    const std::string tail = fmt::format("-{:05}-of-{:05}.gguf", no + 1, n_shards);
    if (!path.ends_with(tail))
      return make_error(ErrorCode::kData, "{}: shard {} of {} must have a name that ends in {}", first.name_, no + 1,
                        n_shards, quote(tail));
    const std::string stem = path.substr(0, path.size() - tail.size());
    if (no != 0)
      return make_error(ErrorCode::kData, "{}: this is shard {} of {}; open the first, {}", first.name_, no + 1,
                        n_shards, quote(fmt::format("{}-00001-of-{:05}.gguf", stem, n_shards)));
    for (uint64_t i = 1; i < n_shards; ++i) {
      const std::string next = fmt::format("{}-{:05}-of-{:05}.gguf", stem, i + 1, n_shards);
      auto opened = MappedFile::open(next);
      if (!opened && opened.error().code == ErrorCode::kNotFound)
        return make_error(ErrorCode::kNotFound, "{}: shard {} of {} is missing: there is no {}", first.name_, i + 1,
                          n_shards, quote(next, 4096));
      FOVEA_ASSIGN_OR_RETURN(auto shard_file, std::move(opened));
      FOVEA_ASSIGN_OR_RETURN(Gguf shard, parse(shard_file->bytes(), next, options));
      FOVEA_ASSIGN_OR_RETURN(const auto shard_no, shard.get_u64("split.no"));
      FOVEA_ASSIGN_OR_RETURN(const auto shard_count, shard.get_u64("split.count"));
      if (shard_no != i || shard_count != n_shards)
        return make_error(ErrorCode::kData, "{}: it says it is shard {} of {}, not {} of {}", shard.name_, shard_no + 1,
                          shard_count, i + 1, n_shards);
      // gguf-split writes the model's keys into the first shard only; others may repeat them.
      const auto ours = first.get_string("general.architecture"), theirs = shard.get_string("general.architecture");
      if (ours && theirs && ours.value() != theirs.value())
        return make_error(ErrorCode::kData, "{}: a shard of another model: its architecture is {}, not {}", shard.name_,
                          quote(theirs.value()), quote(ours.value()));
      FOVEA_RETURN_IF_ERROR(GgufParser::merge(first, std::move(shard)));
      GgufParser::keep(first, shard_file);
    }
    if (first.has("split.tensors.count")) {
      FOVEA_ASSIGN_OR_RETURN(const auto n, first.get_u64("split.tensors.count"));
      if (n != first.tensors_.size())
        return make_error(ErrorCode::kData, "{}: key \"split.tensors.count\" is {}, but the shards hold {} tensors",
                          first.name_, n, first.tensors_.size());
    }
  }
  FOVEA_RETURN_IF_ERROR(first.check_intact());
  return std::shared_ptr<const Gguf>(std::make_shared<Gguf>(std::move(first)));
}

Error Gguf::wrong_kind(std::string_view key, const Value& value, std::string_view wanted) const {
  const bool array = value.type == kArray;
  return Error{ErrorCode::kData,
               fmt::format("{}: key {} is {}{}, not {}", name_, quote(key), array ? "an array of " : "",
                           kTypeNames[array ? value.element : value.type], wanted),
               std::string(key)};
}

Result<const Gguf::Value*> Gguf::find(std::string_view key, bool array, std::string_view wanted) const {
  const auto it = values_.find(key);
  if (it == values_.end())
    return Error{ErrorCode::kData, fmt::format("{}: key {} is missing ({})", name_, quote(key), wanted),
                 std::string(key)};
  if ((it->second.type == kArray) != array) return wrong_kind(key, it->second, wanted);
  return &it->second;
}

std::vector<std::string> Gguf::keys_under(std::string_view prefix) const {
  std::vector<std::string> keys;
  for (auto it = values_.lower_bound(prefix); it != values_.end() && it->first.starts_with(prefix); ++it)
    keys.push_back(it->first);
  return keys;
}

std::vector<Gguf::RawKey> Gguf::raw_keys() const {
  std::vector<RawKey> keys(values_.size());
  for (const auto& [name, value] : values_)
    keys[value.index] = {name, value.type, value.element, value.count, value.payload};
  return keys;
}

std::string Gguf::text_of(std::string_view key) const {
  const auto it = values_.find(key);
  if (it == values_.end()) return {};
  switch (it->second.type) {
    case kArray: return "an array";
    case kString: return get_string(key).value();
    case kBool: return get_bool(key).value() ? "true" : "false";
    case kU64: return fmt::format("{}", get_u64(key).value());
    default:
      return is_integer(it->second.type) ? fmt::format("{}", get_i64(key).value())
                                         : fmt::format("{}", get_f64(key).value());
  }
}

Result<uint64_t> Gguf::get_u64(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Value* v, find(key, false, "an integer"));
  if (v->type == kU64) return number<uint64_t>(kU64, v->payload.data());
  FOVEA_ASSIGN_OR_RETURN(const int64_t n, get_i64(key));
  if (n < 0) {
    return Error{ErrorCode::kData, fmt::format("{}: key {} is {}, which is negative", name_, quote(key), n),
                 std::string(key)};
  }
  return static_cast<uint64_t>(n);
}

Result<int64_t> Gguf::get_i64(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Value* v, find(key, false, "an integer"));
  if (!is_integer(v->type)) return wrong_kind(key, *v, "an integer");
  return number<int64_t>(v->type, v->payload.data());
}

Result<double> Gguf::get_f64(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Value* v, find(key, false, "a number"));
  if (v->type == kString || v->type == kBool) return wrong_kind(key, *v, "a number");
  return number<double>(v->type, v->payload.data());
}

Result<bool> Gguf::get_bool(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Value* v, find(key, false, "a bool"));
  if (v->type != kBool) return wrong_kind(key, *v, "a bool");
  return v->payload[0] != std::byte{0};
}

Result<std::string> Gguf::get_string(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Value* v, find(key, false, "a string"));
  if (v->type != kString) return wrong_kind(key, *v, "a string");
  return std::string(reinterpret_cast<const char*>(v->payload.data()), v->payload.size());
}

Result<std::vector<std::string_view>> Gguf::get_strings(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Value* v, find(key, true, "an array of strings"));
  if (v->element != kString) return wrong_kind(key, *v, "an array of strings");
  ByteReader in(v->payload, name_);  // checked again: the file may have changed underneath
  std::vector<std::string_view> out;
  out.reserve(v->count);
  for (uint64_t i = 0; i < v->count; ++i) {
    FOVEA_ASSIGN_OR_RETURN(const auto n, in.read<uint64_t>("a string"));
    FOVEA_ASSIGN_OR_RETURN(const auto text, in.read_chars(n, "a string"));
    out.push_back(text);
  }
  return out;
}

Result<std::string_view> Gguf::get_bytes(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Value* v, find(key, true, "an array of bytes"));
  if (!is_integer(v->element) || kTypeBytes[v->element] != 1) return wrong_kind(key, *v, "an array of bytes");
  return std::string_view(reinterpret_cast<const char*>(v->payload.data()), v->payload.size());
}

Result<std::vector<double>> Gguf::get_f64s(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Value* v, find(key, true, "an array of numbers"));
  if (v->element == kString || v->element == kBool) return wrong_kind(key, *v, "an array of numbers");
  std::vector<double> out(v->count);
  for (uint64_t i = 0; i < v->count; ++i)
    out[i] = number<double>(v->element, v->payload.data() + i * kTypeBytes[v->element]);
  return out;
}

Result<std::vector<int64_t>> Gguf::get_i64s(std::string_view key) const {
  FOVEA_ASSIGN_OR_RETURN(const Value* v, find(key, true, "an array of integers"));
  if (!is_integer(v->element) && v->element != kBool) return wrong_kind(key, *v, "an array of integers");
  std::vector<int64_t> out(v->count);
  for (uint64_t i = 0; i < v->count; ++i)
    out[i] = number<int64_t>(v->element, v->payload.data() + i * kTypeBytes[v->element]);
  return out;
}

}  // namespace fovea::formats

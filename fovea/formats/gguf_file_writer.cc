#include "fovea/formats/gguf_file_writer.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/check.h"
#include "fovea/formats/gguf_value_types.h"

namespace fovea::formats {
namespace {

using namespace gguf_value;

template <typename T>
std::string number(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
std::string text(std::string_view value) { return number<uint64_t>(value.size()) + std::string(value); }
std::string array_head(uint32_t type, uint64_t count) { return number(kArray) + number(type) + number(count); }
template <typename T>
std::string array(uint32_t type, std::span<const T> values) {
  return array_head(type, values.size()) +
         std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

uint64_t padded(uint64_t n, uint64_t alignment) { return (n + alignment - 1) / alignment * alignment; }

Result<uint64_t> bytes_of(const GgufTensor& tensor) {
  const std::string what = "tensor " + quote(tensor.name);
  if (tensor.name.empty() || tensor.name.size() > Gguf::kMaxNameBytes)
    return make_error(ErrorCode::kUsage, "{}: a name has 1 to {} bytes in a GGUF file", what, Gguf::kMaxNameBytes);
  if (tensor.dims.empty() || tensor.dims.size() > 4)
    return make_error(ErrorCode::kUsage, "{} has {} dimensions; 1 to 4 are possible", what, tensor.dims.size());
  const kernels::DTypeInfo& type = kernels::dtype_info(tensor.dtype);
  if (static_cast<int32_t>(tensor.dtype) < 0)
    return make_error(ErrorCode::kUsage, "{} is {}, which no GGUF file can hold", what, type.name);
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max() / 16;
  uint64_t n = 1;
  for (const int64_t dim : tensor.dims) {
    if (dim < 0 || (dim > 0 && n > kMost / static_cast<uint64_t>(dim)))
      return make_error(ErrorCode::kUsage, "{} has a dimension of {}", what, dim);
    n *= static_cast<uint64_t>(dim);
  }
  const auto block = static_cast<uint64_t>(type.block_elements);
  if (static_cast<uint64_t>(tensor.dims[0]) % block != 0)
    return make_error(ErrorCode::kUsage, "{} has rows of {} elements, which are no whole number of {} blocks of {}",
                      what, tensor.dims[0], type.name, block);
  return n / block * static_cast<uint64_t>(type.block_bytes);
}

}  // namespace

void GgufKeys::put_bytes(std::string_view name, std::string value) {
  const auto it = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.name == name; });
  if (it != entries_.end()) {
    it->value = std::move(value);
  } else {
    entries_.push_back({std::string(name), std::move(value)});
  }
}
void GgufKeys::put(std::string_view name, uint32_t value) { put_bytes(name, number(kU32) + number(value)); }
void GgufKeys::put(std::string_view name, int32_t value) { put_bytes(name, number(kI32) + number(value)); }
void GgufKeys::put(std::string_view name, float value) { put_bytes(name, number(kF32) + number(value)); }
void GgufKeys::put(std::string_view name, bool value) {
  put_bytes(name, number(kBool) + number<uint8_t>(value ? 1 : 0));
}
void GgufKeys::put(std::string_view name, std::string_view value) { put_bytes(name, number(kString) + text(value)); }
void GgufKeys::put(std::string_view name, std::span<const int32_t> values) { put_bytes(name, array(kI32, values)); }
void GgufKeys::put(std::string_view name, std::span<const float> values) { put_bytes(name, array(kF32, values)); }
void GgufKeys::put_chars(std::string_view name, std::string_view bytes) {
  put_bytes(name, array(kU8, std::span(bytes.data(), bytes.size())));
}
void GgufKeys::put(std::string_view name, std::span<const bool> values) {
  std::string bytes = array_head(kBool, values.size());
  for (const bool value : values) bytes += number<uint8_t>(value ? 1 : 0);
  put_bytes(name, std::move(bytes));
}
void GgufKeys::put(std::string_view name, std::span<const std::string> values) {
  std::string bytes = array_head(kString, values.size());
  for (const std::string& value : values) bytes += text(value);
  put_bytes(name, std::move(bytes));
}
void GgufKeys::put(const Gguf::RawKey& key) {
  const std::string_view payload(reinterpret_cast<const char*>(key.payload.data()), key.payload.size());
  std::string bytes = key.type == kArray ? array_head(key.element, key.count) : number(key.type);
  if (key.type == kString) bytes += number<uint64_t>(payload.size());
  put_bytes(key.name, bytes.append(payload));
}
void GgufKeys::erase(std::string_view name) {
  std::erase_if(entries_, [&](const Entry& e) { return e.name == name; });
}
std::string GgufKeys::bytes() const {
  std::string out;
  for (const Entry& entry : entries_) out += text(entry.name) + entry.value;
  return out;
}

Result<GgufFileWriter> GgufFileWriter::create(FileWriter file, const GgufKeys& keys,
                                              const std::vector<GgufTensor>& tensors, uint64_t alignment) {
  FOVEA_CHECK(alignment >= 8 && (alignment & (alignment - 1)) == 0, "gguf: an alignment of {}", alignment);
  GgufFileWriter writer(std::move(file), alignment);
  std::string head = "GGUF" + number<uint32_t>(3) + number<uint64_t>(tensors.size()) + number<uint64_t>(keys.count());
  head += keys.bytes();
  std::set<std::string_view> names;
  uint64_t offset = 0;
  for (const GgufTensor& tensor : tensors) {
    FOVEA_ASSIGN_OR_RETURN(const uint64_t bytes, bytes_of(tensor));
    if (!names.insert(tensor.name).second)
      return make_error(ErrorCode::kUsage, "tensor {} is there twice", quote(tensor.name));
    head += text(tensor.name) + number(static_cast<uint32_t>(tensor.dims.size()));
    for (const int64_t dim : tensor.dims) head += number(dim);
    head += number(static_cast<int32_t>(tensor.dtype)) + number(offset);
    writer.sizes_.push_back(bytes);
    offset += padded(bytes, alignment);
    if (offset > uint64_t{1} << 62) return make_error(ErrorCode::kUsage, "the tensors take more than 2^62 bytes");
  }
  if (!tensors.empty()) head.resize(padded(head.size(), alignment));
  writer.total_ = head.size() + offset;
  FOVEA_RETURN_IF_ERROR(writer.file_.check_space(writer.total_));
  FOVEA_RETURN_IF_ERROR(writer.file_.write(head));
  FOVEA_RETURN_IF_ERROR(writer.end_tensors());
  return writer;
}

Status GgufFileWriter::end_tensors() {
  while (at_ < sizes_.size() && written_ == sizes_[at_]) {
    FOVEA_RETURN_IF_ERROR(file_.write(std::string(padded(written_, alignment_) - written_, '\0')));
    ++at_, written_ = 0;
  }
  return {};
}

Status GgufFileWriter::write(std::span<const std::byte> bytes) {
  FOVEA_CHECK(bytes.empty() || (at_ < sizes_.size() && bytes.size() <= sizes_[at_] - written_),
              "gguf: {} bytes are more than a tensor has left", bytes.size());
  FOVEA_RETURN_IF_ERROR(file_.write(bytes));
  written_ += bytes.size();
  return end_tensors();
}

Status GgufFileWriter::commit() {
  FOVEA_CHECK(at_ == sizes_.size(), "gguf: {} of {} tensors were written", at_, sizes_.size());
  return file_.commit();
}

}  // namespace fovea::formats

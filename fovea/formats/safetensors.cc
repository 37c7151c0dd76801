#include "fovea/formats/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/file_kind.h"
#include "fovea/base/json.h"

namespace fovea::formats {
namespace {

using Json = nlohmann::ordered_json;
using kernels::DType;

struct Name {
  std::string_view file;
  DType dtype;
};
constexpr Name kNames[] = {{"F64", DType::kF64},   {"F32", DType::kF32},         {"F16", DType::kF16},
                           {"BF16", DType::kBF16}, {"F8_E4M3", DType::kF8_E4M3}, {"F8_E5M2", DType::kF8_E5M2},
                           {"I64", DType::kI64},   {"I32", DType::kI32},         {"I16", DType::kI16},
                           {"I8", DType::kI8},     {"U64", DType::kU64},         {"U32", DType::kU32},
                           {"U16", DType::kU16},   {"U8", DType::kU8},           {"BOOL", DType::kBool}};

bool has_control_characters(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; });
}

// One entry of the header.
class Entry {
 public:
  Entry(const std::string& file, const std::string& tensor, const Json& json)
      : file_(file), tensor_(tensor), json_(json) {}

  Result<TensorInfo> parse(std::span<const std::byte> data) const {
    TensorInfo out;
    out.name = tensor_;
    if (tensor_.empty() || tensor_.size() > Safetensors::kMaxNameBytes || has_control_characters(tensor_))
      return bad(ErrorCode::kData, "must have a name of 1 to {} bytes without control characters",
                 Safetensors::kMaxNameBytes);
    if (!json_.is_object()) return bad(ErrorCode::kData, "is no object");
    for (const auto& [key, value] : json_.items()) {
      if (key != "dtype" && key != "shape" && key != "data_offsets")
        return bad(ErrorCode::kData, "has the field {}; dtype, shape and data_offsets are known", quote(key));
    }
    FOVEA_ASSIGN_OR_RETURN(out.dtype, dtype());
    FOVEA_ASSIGN_OR_RETURN(const auto shape, numbers("shape", Safetensors::kMaxDims));
    FOVEA_ASSIGN_OR_RETURN(const auto offsets, numbers("data_offsets", 2));
    uint64_t bytes = static_cast<uint64_t>(kernels::dtype_info(out.dtype).block_bytes);
    bool empty = false;
    for (const uint64_t n : shape) {
      if (n > static_cast<uint64_t>(INT64_MAX) || (n != 0 && bytes > static_cast<uint64_t>(INT64_MAX) / n))
        return bad(ErrorCode::kData, "has the shape [{}], which overflows", fmt::join(shape, ", "));
      empty = empty || n == 0;
      if (n != 0) bytes *= n;
      out.dims.insert(out.dims.begin(), static_cast<int64_t>(n));
    }
    if (empty) bytes = 0;
    if (out.dims.empty()) out.dims = {1};
    if (offsets.size() != 2 || offsets[0] > offsets[1])
      return bad(ErrorCode::kData, "has the data_offsets [{}]; a begin and an end not before it are needed",
                 fmt::join(offsets, ", "));
    if (offsets[1] > data.size())
      return bad(ErrorCode::kData, "ends at byte {} of the data, but the file has only {}: it is {} bytes short",
                 offsets[1], data.size(), offsets[1] - data.size());
    if (offsets[1] - offsets[0] != bytes)
      return bad(ErrorCode::kData, "has {} bytes, but {} [{}] needs {}", offsets[1] - offsets[0],
                 kernels::dtype_info(out.dtype).name, fmt::join(shape, ", "), bytes);
    out.offset = offsets[0];
    out.bytes = bytes;
    out.data = data.subspan(static_cast<size_t>(offsets[0]), static_cast<size_t>(bytes));
    return out;
  }

 private:
  template <typename... Args>
  Error bad(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) const {
    return Error{
        code, fmt::format("{}: tensor {} {}", file_, quote(tensor_), fmt::format(format, std::forward<Args>(args)...)),
        "tensor " + escaped_line(tensor_)};
  }
  Result<DType> dtype() const {
    const auto it = json_.find("dtype");
    if (it == json_.end() || !it->is_string()) return bad(ErrorCode::kData, "has no dtype");
    const auto& text = it->get_ref<const std::string&>();
    const auto* name =
        std::find_if(std::begin(kNames), std::end(kNames), [&](const Name& n) { return n.file == text; });
    if (name != std::end(kNames)) return name->dtype;
    std::vector<std::string_view> known;
    for (const Name& n : kNames) known.push_back(n.file);
    return bad(ErrorCode::kUnsupported, "has the dtype {}; {} are known", quote(text), fmt::join(known, ", "));
  }
  Result<std::vector<uint64_t>> numbers(const char* field, uint64_t at_most) const {
    const auto it = json_.find(field);
    if (it == json_.end() || !it->is_array()) return bad(ErrorCode::kData, "has no list {}", field);
    if (it->size() > at_most)
      return bad(ErrorCode::kLimit, "has {} numbers in {}; up to {} are allowed", it->size(), field, at_most);
    std::vector<uint64_t> out;
    for (const Json& n : *it) {
      if (!n.is_number_unsigned())
        return bad(ErrorCode::kData, "has {} in {}; whole numbers from 0 on are allowed", quote(n.dump()), field);
      out.push_back(n.get<uint64_t>());
    }
    return out;
  }

  const std::string& file_;
  const std::string& tensor_;
  const Json& json_;
};

}  // namespace

Result<Safetensors> parse_safetensors(std::span<const std::byte> bytes, const std::string& file_name) {
  const std::string name = quote(file_name, 4096);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const FileKind* kind = file_kind(text.substr(0, kFileKindBytes));
  if (kind && kind->name.find("safetensors") == kind->name.npos)
    return make_error(ErrorCode::kData, "{}: this is {}, not a safetensors file", name, kind->name);
  if (is_html(text)) return make_error(ErrorCode::kData, "{}: this is an HTML page (perhaps a failed download)", name);
  ByteReader in(bytes, name);
  FOVEA_ASSIGN_OR_RETURN(const auto header_bytes, in.read<uint64_t>("the length of the header"));
  if (header_bytes > in.remaining())
    return make_error(ErrorCode::kData, "{}: the header is to have {} bytes, but the file has only {} after offset 8",
                      name, header_bytes, in.remaining());
  if (header_bytes > Safetensors::kMaxHeaderBytes)
    return make_error(ErrorCode::kLimit, "{}: the header has {} bytes; up to {} are allowed", name, header_bytes,
                      Safetensors::kMaxHeaderBytes);
  FOVEA_ASSIGN_OR_RETURN(const auto header_text, in.read_chars(header_bytes, "the header"));
  if (!header_text.starts_with('{'))
    return make_error(ErrorCode::kData, "{}: the header (offset 8) does not begin with \"{{\": no safetensors file",
                      name);
  FOVEA_ASSIGN_OR_RETURN(const Json header, parse_json(header_text, name + ", header"));

  const std::span<const std::byte> data = bytes.subspan(in.offset());
  Safetensors out;
  for (const auto& [key, value] : header.items()) {
    if (key == "__metadata__") {
      if (!value.is_object()) return make_error(ErrorCode::kData, "{}: __metadata__ is no object", name);
      for (const auto& [field, text_of] : value.items()) {
        if (!text_of.is_string())
          return make_error(ErrorCode::kData, "{}: __metadata__: {} is no string", name, quote(field));
        out.metadata.emplace(field, text_of.get<std::string>());
      }
      continue;
    }
    FOVEA_ASSIGN_OR_RETURN(TensorInfo tensor, Entry(name, key, value).parse(data));
    out.tensors.push_back(std::move(tensor));
  }
  std::stable_sort(out.tensors.begin(), out.tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
  });
  uint64_t reached = 0;
  for (const TensorInfo& t : out.tensors) {
    if (t.offset != reached)
      return Error{ErrorCode::kData,
                   fmt::format("{}: tensor {} begins at byte {} of the data, and what is before it ends at {}", name,
                               t.name, t.offset, reached),
                   "tensor " + t.name};
    reached += t.bytes;
  }
  if (reached != data.size())
    return make_error(ErrorCode::kData, "{}: {} bytes follow the last tensor, which ends at offset {}", name,
                      data.size() - reached, in.offset() + reached);
  return out;
}

}  // namespace fovea::formats

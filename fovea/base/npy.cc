#include "fovea/base/npy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "fovea/base/bytes.h"
#include "fovea/base/numbers.h"

namespace fovea {
namespace {

constexpr std::string_view kNpyMagic = "\x93NUMPY";

// What follows "'key': " in the dictionary of the header, up to the comma that ends it.
std::string_view field(std::string_view header, std::string_view key, std::string_view end) {
  const size_t at = header.find("'" + std::string(key) + "':");
  if (at == header.npos) return {};
  std::string_view value = header.substr(at + key.size() + 3);
  value = value.substr(0, value.find(end));
  value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
  return value;
}

struct Array {
  char kind = 0;  // 'i', 'u' or 'f'
  uint64_t width = 0;
  std::string_view shape = {};  // "(3, 4": without its end
  std::vector<int64_t> dims = {};
  const char* data = nullptr;
  uint64_t n = 0;
};

// Whether the header's shape is a list of sizes whose product a number can hold.
bool read_dims(std::string_view shape, Array& array) {
  if (!shape.starts_with('(')) return false;
  shape.remove_prefix(1);
  array.n = 1;
  while (shape.find_first_not_of(' ') != shape.npos) {
    shape.remove_prefix(shape.find_first_not_of(' '));
    const std::string_view one = shape.substr(0, shape.find(','));
    uint64_t dim = 0;
    if (array.dims.size() == 8 || !parse_number(one, dim) || (dim != 0 && array.n > UINT64_MAX / dim)) return false;
    array.dims.push_back(static_cast<int64_t>(dim));
    array.n *= dim;
    shape.remove_prefix(std::min(one.size() + 1, shape.size()));
  }
  return true;
}

Result<Array> parse(std::string_view bytes, const std::string& name, std::string_view kinds, std::string_view wanted) {
  if (!is_npy(bytes)) return make_error(ErrorCode::kData, "{}: it is no NumPy file", name);
  ByteReader in(std::as_bytes(std::span(bytes.data(), bytes.size())), name);
  FOVEA_RETURN_IF_ERROR(in.seek(kNpyMagic.size(), "the version"));
  FOVEA_ASSIGN_OR_RETURN(const auto version, in.read<uint8_t>("the version"));
  (void)in.read<uint8_t>("the version");
  uint64_t length = 0;
  if (version == 1) {
    FOVEA_ASSIGN_OR_RETURN(length, in.read<uint16_t>("the length of the header"));
  } else if (version == 2 || version == 3) {
    FOVEA_ASSIGN_OR_RETURN(length, in.read<uint32_t>("the length of the header"));
  } else {
    return make_error(ErrorCode::kUnsupported, "{}: NumPy's format {} is not known; 1 to 3 are", name, version);
  }
  FOVEA_ASSIGN_OR_RETURN(const std::string_view header, in.read_chars(length, "the header"));
  const std::string_view type = field(header, "descr", ",");
  Array array;
  array.shape = field(header, "shape", ")");
  const bool known = type.size() == 5 && (type[1] == '<' || type[1] == '|') && kinds.find(type[2]) != kinds.npos &&
                     std::string_view(type[2] == 'f' ? "48" : "1248").find(type[3]) != std::string_view::npos;
  if (!known)
    return make_error(ErrorCode::kUnsupported, "{}: it holds {}; {} in little-endian order are read", name, quote(type),
                      wanted);
  array.kind = type[2], array.width = static_cast<uint64_t>(type[3] - '0');
  if (!read_dims(array.shape, array))
    return make_error(ErrorCode::kData, "{}: its shape is {}), which is none of its bytes", name, quote(array.shape));
  if (field(header, "fortran_order", ",").starts_with("True") && array.dims.size() > 1)
    return make_error(ErrorCode::kUnsupported, "{}: it lies in Fortran's order; numpy.ascontiguousarray turns it",
                      name);
  if (in.remaining() % array.width != 0 || in.remaining() / array.width != array.n)
    return make_error(ErrorCode::kData, "{}: {} bytes follow the header, but {} numbers of {} bytes are said to", name,
                      in.remaining(), array.n, array.width);
  array.data = bytes.data() + in.offset();
  return array;
}

// Number i of whole ones; of unsigned ones over 2^63 negative.
int64_t whole(const Array& array, uint64_t i) {
  const char* at = array.data + i * array.width;
  uint64_t bits = 0;
  for (size_t k = 0; k < array.width; ++k) bits |= uint64_t{static_cast<unsigned char>(at[k])} << (8 * k);
  const auto unused = static_cast<unsigned>(64 - 8 * array.width);
  return array.kind == 'i' ? static_cast<int64_t>(bits << unused) >> unused : static_cast<int64_t>(bits);
}

}  // namespace

bool is_npy(std::string_view bytes) { return bytes.starts_with(kNpyMagic); }

Result<std::vector<int64_t>> parse_npy_integers(std::string_view bytes, const std::string& name) {
  FOVEA_ASSIGN_OR_RETURN(const Array array, parse(bytes, name, "iu", "whole numbers"));
  if (array.dims.size() != 1)
    return make_error(ErrorCode::kData, "{}: its shape is {}); one dimension is needed", name, quote(array.shape));
  std::vector<int64_t> out(array.n);
  for (uint64_t i = 0; i < array.n; ++i) {
    out[i] = whole(array, i);
    if (array.kind == 'u' && out[i] < 0) return make_error(ErrorCode::kData, "{}: a number over 2^63", name);
  }
  return out;
}

Result<NpyFloats> parse_npy_floats(std::string_view bytes, const std::string& name) {
  FOVEA_ASSIGN_OR_RETURN(const Array array, parse(bytes, name, "fiu", "numbers"));
  NpyFloats out{array.dims, std::vector<float>(array.n), array.kind == 'u' && array.width == 1};
  if (array.kind == 'f' && array.width == 4) {
    if (array.n > 0) std::memcpy(out.values.data(), array.data, array.n * sizeof(float));
    return out;
  }
  for (uint64_t i = 0; i < array.n; ++i) {
    double value = 0;
    if (array.kind == 'f') {
      std::memcpy(&value, array.data + i * sizeof value, sizeof value);
    } else {
      value = static_cast<double>(whole(array, i));
    }
    out.values[i] = static_cast<float>(value);
  }
  return out;
}

std::string npy_header(int64_t rows, int64_t cols) {
  std::string dict = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, cols);
  constexpr size_t kBefore = 10;
  dict.append(63 - (kBefore + dict.size()) % 64, ' ');
  dict += '\n';
  std::string out(kNpyMagic);
  out += '\1';
  out += '\0';
  out += static_cast<char>(dict.size() & 0xFF);
  out += static_cast<char>(dict.size() >> 8);
  return out + dict;
}

}  // namespace fovea

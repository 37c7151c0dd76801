#include "fovea/base/npy.h"

#include <fmt/format.h>

#include <algorithm>

#include "fovea/base/bytes.h"
#include "fovea/base/numbers.h"

namespace fovea {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

// What follows "'key': " in the dictionary of the header, up to the comma that ends it.
std::string_view field(std::string_view header, std::string_view key, std::string_view end) {
  const size_t at = header.find("'" + std::string(key) + "':");
  if (at == header.npos) return {};
  std::string_view value = header.substr(at + key.size() + 3);
  value = value.substr(0, value.find(end));
  value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
  return value;
}

}  // namespace

bool is_npy(std::string_view bytes) { return bytes.starts_with(kMagic); }

Result<std::vector<int64_t>> parse_npy_integers(std::string_view bytes, const std::string& name) {
  if (!is_npy(bytes)) return make_error(ErrorCode::kData, "{}: it is no NumPy file", name);
  ByteReader in(std::as_bytes(std::span(bytes.data(), bytes.size())), name);
  FOVEA_RETURN_IF_ERROR(in.seek(kMagic.size(), "the version"));
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
  const std::string_view type = field(header, "descr", ","), shape = field(header, "shape", ")");
  const bool integers = type.size() == 5 && (type[1] == '<' || type[1] == '|') && (type[2] == 'i' || type[2] == 'u') &&
                        std::string_view("1248").find(type[3]) != std::string_view::npos;
  if (!integers)
    return make_error(ErrorCode::kUnsupported, "{}: it holds {}; whole numbers in little-endian order are read", name,
                      quoted(type));
  const size_t comma = shape.find(',');
  uint64_t n = 0;
  if (!shape.starts_with('(') || comma == shape.npos || shape.find_first_not_of(' ', comma + 1) != shape.npos ||
      !parse_number(shape.substr(1, comma - 1), n))
    return make_error(ErrorCode::kData, "{}: its shape is {}); one dimension is needed", name, quoted(shape));
  const auto width = static_cast<uint64_t>(type[3] - '0');
  if (in.remaining() % width != 0 || in.remaining() / width != n)
    return make_error(ErrorCode::kData, "{}: {} bytes follow the header, but {} numbers of {} bytes are said to", name,
                      in.remaining(), n, width);
  const bool is_signed = type[2] == 'i';
  std::vector<int64_t> out(n);
  const char* at = bytes.data() + in.offset();
  for (int64_t& value : out) {
    uint64_t bits = 0;
    for (size_t i = 0; i < width; ++i) bits |= uint64_t{static_cast<unsigned char>(*at++)} << (8 * i);
    const auto unused = static_cast<unsigned>(64 - 8 * width);
    value = is_signed ? static_cast<int64_t>(bits << unused) >> unused : static_cast<int64_t>(bits);
    if (!is_signed && value < 0) return make_error(ErrorCode::kData, "{}: a number over 2^63", name);
  }
  return out;
}

std::string npy_header(int64_t rows, int64_t cols) {
  std::string dict = fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {}), }}", rows, cols);
  constexpr size_t kBefore = 10;
  dict.append(63 - (kBefore + dict.size()) % 64, ' ');
  dict += '\n';
  std::string out(kMagic);
  out += '\1';
  out += '\0';
  out += static_cast<char>(dict.size() & 0xFF);
  out += static_cast<char>(dict.size() >> 8);
  return out + dict;
}

}  // namespace fovea

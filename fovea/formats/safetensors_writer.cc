#include "fovea/formats/safetensors_writer.h"

#include <fmt/format.h>

#include <bit>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "fovea/base/bytes.h"
#include "fovea/base/check.h"

namespace fovea::formats {

static_assert(std::endian::native == std::endian::little, "values are written as they lie in memory");

std::string_view name_of(SafeDtype dtype) {
  switch (dtype) {
    case SafeDtype::kF32: return "F32";
    case SafeDtype::kF16: return "F16";
    case SafeDtype::kBF16: return "BF16";
    case SafeDtype::kI32: return "I32";
    case SafeDtype::kI64: return "I64";
    case SafeDtype::kU8: return "U8";
  }
  return "";
}

uint64_t bytes_of(SafeDtype dtype) {
  switch (dtype) {
    case SafeDtype::kF32:
    case SafeDtype::kI32: return 4;
    case SafeDtype::kF16:
    case SafeDtype::kBF16: return 2;
    case SafeDtype::kI64: return 8;
    case SafeDtype::kU8: return 1;
  }
  return 0;
}

namespace {

// What stands before the data: a length and a JSON object. Counts the data's bytes.
Result<std::string> header_of(const std::string& path, const std::vector<SafeTensor>& tensors,
                              const std::map<std::string, std::string>& metadata, uint64_t& total) {
  constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  total = 0;
  for (const SafeTensor& tensor : tensors) {
    if (tensor.name == "__metadata__" || header.contains(tensor.name)) {
      return make_error(ErrorCode::kUsage, "{}: a tensor cannot be called {}: {}", quote(path, 4096),
                        quote(tensor.name),
                        tensor.name == "__metadata__" ? "the format keeps that name" : "there is one already");
    }
    uint64_t bytes = bytes_of(tensor.dtype);
    for (const int64_t dim : tensor.shape) {
      if (dim < 0 || (dim > 0 && bytes > kMost / static_cast<uint64_t>(dim))) {
        return make_error(ErrorCode::kUsage, "{}: tensor {} has the impossible shape [{}]", quote(path, 4096),
                          quote(tensor.name), fmt::join(tensor.shape, ", "));
      }
      bytes *= static_cast<uint64_t>(dim);
    }
    if (bytes > kMost - total)
      return make_error(ErrorCode::kUsage, "{}: the tensors are too large together", quote(path, 4096));
    header[tensor.name] = {
        {"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {total, total + bytes}}};
    total += bytes;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::type_error&) {
    return make_error(ErrorCode::kUsage, "{}: a name or a metadata value is not UTF-8", quote(path, 4096));
  }
  text.append((8 - text.size() % 8) % 8, ' ');  // the data starts at a multiple of 8
  if (text.size() > SafetensorsWriter::kMaxHeaderBytes) {
    return make_error(ErrorCode::kLimit, "{}: names and metadata take {} bytes, over the {} that readers allow",
                      quote(path, 4096), text.size(), SafetensorsWriter::kMaxHeaderBytes);
  }
  const uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + text;
}

}  // namespace

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string& path, const std::vector<SafeTensor>& tensors,
                                                    const std::map<std::string, std::string>& metadata) {
  uint64_t total = 0;
  FOVEA_RETURN_IF_ERROR(header_of(path, tensors, metadata, total));  // nothing is made for what cannot be written
  FOVEA_ASSIGN_OR_RETURN(FileWriter file, FileWriter::create(path));
  return create(std::move(file), path, tensors, metadata);
}

Result<SafetensorsWriter> SafetensorsWriter::create(FileWriter file, const std::string& path,
                                                    const std::vector<SafeTensor>& tensors,
                                                    const std::map<std::string, std::string>& metadata) {
  uint64_t total = 0;
  FOVEA_ASSIGN_OR_RETURN(const std::string header, header_of(path, tensors, metadata, total));
  FOVEA_RETURN_IF_ERROR(file.write(header));
  return SafetensorsWriter(std::move(file), total);
}

Status SafetensorsWriter::write(std::span<const std::byte> bytes) {
  FOVEA_CHECK(bytes.size() <= due_, "safetensors: {} bytes where {} are left of what was announced", bytes.size(),
              due_);
  due_ -= bytes.size();
  return file_.write(bytes);
}

Status SafetensorsWriter::commit() {
  FOVEA_CHECK(due_ == 0, "safetensors: {} of the announced bytes were not written", due_);
  return file_.commit();
}

}  // namespace fovea::formats

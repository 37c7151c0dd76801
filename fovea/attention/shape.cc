#include "fovea/attention/shape.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <numeric>

#include "fovea/base/bytes.h"

namespace fovea::attention {
namespace {

bool parse_index(std::string_view text, int& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && out >= 0;
}

}  // namespace

HeadSet HeadSet::all() {
  HeadSet set;
  set.items_.push_back({0, kLastLayer, kAnyHead});
  return set;
}

Result<HeadSet> HeadSet::parse(std::string_view text) {
  if (text == "all") return all();
  if (text == "none") return none();
  HeadSet set;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('+', begin), text.size());
    const std::string_view item = text.substr(begin, end - begin);
    Item parsed{0, 0, kAnyHead};
    const size_t dot = item.find('.'), dash = item.find('-');
    bool ok;
    if (dot != std::string_view::npos) {
      ok = parse_index(item.substr(0, dot), parsed.first_layer) && parse_index(item.substr(dot + 1), parsed.head);
      parsed.last_layer = parsed.first_layer;
    } else if (dash != std::string_view::npos) {
      ok = parse_index(item.substr(0, dash), parsed.first_layer) &&
           parse_index(item.substr(dash + 1), parsed.last_layer) && parsed.first_layer <= parsed.last_layer;
    } else {
      ok = parse_index(item, parsed.first_layer);
      parsed.last_layer = parsed.first_layer;
    }
    if (!ok) {
      return make_error(ErrorCode::kUsage,
                        "{} names no heads; write all, none, or items joined by +: 5 (a layer), 3-9 (layers), 4.11 "
                        "(layer 4, head 11)",
                        quote(item));
    }
    set.items_.push_back(parsed);
    begin = end + 1;
  }
  return set;
}

bool HeadSet::contains(int layer, int head) const {
  return std::any_of(items_.begin(), items_.end(), [=](const Item& item) {
    return item.first_layer <= layer && layer <= item.last_layer && (item.head == kAnyHead || item.head == head);
  });
}

std::string HeadSet::to_string() const {
  if (items_.empty()) return "none";
  std::vector<std::string> parts;
  for (const Item& item : items_) {
    if (item.last_layer == kLastLayer) return "all";
    if (item.head != kAnyHead) {
      parts.push_back(fmt::format("{}.{}", item.first_layer, item.head));
    } else if (item.first_layer == item.last_layer) {
      parts.push_back(fmt::format("{}", item.first_layer));
    } else {
      parts.push_back(fmt::format("{}-{}", item.first_layer, item.last_layer));
    }
  }
  return fmt::format("{}", fmt::join(parts, "+"));
}

Status HeadSet::check(const ModelShape& model) const {
  for (const Item& item : items_) {
    if (item.last_layer != kLastLayer && item.last_layer >= model.n_layers) {
      return make_error(ErrorCode::kUsage, "layer {} is not in this model of {} layers (0 to {})", item.last_layer,
                        model.n_layers, model.n_layers - 1);
    }
    if (item.head >= model.n_heads) {
      return make_error(ErrorCode::kUsage, "head {} is not in this model of {} heads a layer (0 to {})", item.head,
                        model.n_heads, model.n_heads - 1);
    }
  }
  return {};
}

size_t HeadProfile::size(Granularity of) const {
  const auto layers = static_cast<size_t>(n_layers);
  switch (of) {
    case Granularity::kHead: return layers * static_cast<size_t>(n_heads);
    case Granularity::kKvHead: return layers * static_cast<size_t>(n_kv_heads);
    case Granularity::kLayer: return layers;
    case Granularity::kModel: break;
  }
  return 1;
}

const std::vector<double>* HeadProfile::find(std::string_view name, Granularity of) const {
  const auto it = columns.find(name);
  return it != columns.end() && it->second.of == of ? &it->second.values : nullptr;
}

Result<std::vector<int>> top_heads(const ModelShape& model, std::string_view column, int n, Granularity of) {
  if (!model.profile) {
    return make_error(ErrorCode::kUsage,
                      "this needs a head profile of the model; make one with: fovea profile -m MODEL");
  }
  constexpr const char* kWhat[] = {"heads", "KV heads", "layers", "model"};
  const HeadProfile sizes{.model_sha256 = "",
                          .n_layers = model.n_layers,
                          .n_heads = model.n_heads,
                          .n_kv_heads = model.n_kv_heads,
                          .columns = {}};
  const size_t n_all = sizes.size(of);
  const std::vector<double>* values = model.profile->find(column, of);
  if (!values || values->size() != n_all) {
    return make_error(ErrorCode::kUsage, "the head profile holds no {} values for the {} {} of this model", column,
                      n_all, kWhat[static_cast<size_t>(of)]);
  }
  std::vector<int> order(n_all);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return (*values)[static_cast<size_t>(a)] > (*values)[static_cast<size_t>(b)]; });
  order.resize(std::min(n_all, static_cast<size_t>(std::max(n, 0))));
  return order;
}

}  // namespace fovea::attention

#include "fovea/probe/measures/compare_profiles.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <vector>

#include "fovea/base/bytes.h"
#include "fovea/base/file.h"
#include "fovea/base/json.h"
#include "fovea/engine/head_profile.h"
#include "fovea/probe/measures/profile.h"

namespace fovea::probe {
namespace {

constexpr double kRetrievalHead = 0.1;
constexpr const char* kEvery[] = {"for every head", "for every KV head", "for every layer", "for the model"};

// Indices in falling order of value; equal ones in rising order.
std::vector<size_t> ranking(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] > values[b]; });
  return order;
}

// The rank of every value; equal values get the mean of theirs.
std::vector<double> ranks(const std::vector<double>& values) {
  const std::vector<size_t> order = ranking(values);
  std::vector<double> out(values.size());
  for (size_t begin = 0; begin < order.size();) {
    size_t end = begin + 1;
    while (end < order.size() && values[order[end]] == values[order[begin]]) ++end;
    for (size_t i = begin; i < end; ++i) out[order[i]] = static_cast<double>(begin + end - 1) / 2;
    begin = end;
  }
  return out;
}

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const auto n = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean_a) * (b[i] - mean_b);
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
  }
  return ab / std::sqrt(aa * bb);
}

}  // namespace

Result<Agreement> compare_profiles(const attention::HeadProfile& a, const attention::HeadProfile& b,
                                   std::string_view column, int n_top) {
  const auto column_of = [&](const attention::HeadProfile& profile) {
    const auto it = profile.columns.find(column);
    return it == profile.columns.end() ? nullptr : &it->second;
  };
  const auto *of_a = column_of(a), *of_b = column_of(b);
  if (a.n_layers != b.n_layers || a.n_heads != b.n_heads) {
    return make_error(ErrorCode::kUsage,
                      "{} layers of {} heads cannot be compared with {} layers of {}: head by head, only models of one "
                      "architecture can",
                      a.n_layers, a.n_heads, b.n_layers, b.n_heads);
  }
  const std::vector<double>* values[2] = {};
  for (int i = 0; i < 2; ++i) {
    const auto* of = i == 0 ? of_a : of_b;
    const char* which = i == 0 ? "first" : "second";
    if (!of)
      return make_error(ErrorCode::kUsage, "the {} profile holds no {} values: there is nothing to compare", which,
                        column);
    values[i] = &of->values;
    if (std::ranges::all_of(of->values, [of](double x) { return x == of->values[0]; }))
      return make_error(ErrorCode::kUsage, "the {} profile has the same {} {}: nothing is ranked", which, column,
                        kEvery[static_cast<size_t>(of->of)]);
  }
  if (of_a->of != of_b->of || of_a->values.size() != of_b->values.size()) {
    return make_error(ErrorCode::kUsage, "the profiles hold {} {} and {}: there is nothing to pair", column,
                      kEvery[static_cast<size_t>(of_a->of)], kEvery[static_cast<size_t>(of_b->of)]);
  }
  Agreement out;
  out.pearson = correlation(*values[0], *values[1]);
  out.spearman = correlation(ranks(*values[0]), ranks(*values[1]));
  out.n = static_cast<int>(values[0]->size());
  out.n_top = std::min(n_top, out.n);
  const std::vector<size_t> order_a = ranking(*values[0]), order_b = ranking(*values[1]);
  const auto end_b = order_b.begin() + out.n_top;
  for (int i = 0; i < out.n_top; ++i)
    out.common += std::find(order_b.begin(), end_b, order_a[static_cast<size_t>(i)]) != end_b ? 1 : 0;
  for (size_t head = 0; head < values[0]->size(); ++head) {
    const bool over_a = (*values[0])[head] >= kRetrievalHead, over_b = (*values[1])[head] >= kRetrievalHead;
    out.over_a += over_a ? 1 : 0;
    out.over_b += over_b ? 1 : 0;
    out.over_both += over_a && over_b ? 1 : 0;
  }
  return out;
}

Result<attention::HeadProfile> read_any_profile(const std::string& path) {
  FOVEA_ASSIGN_OR_RETURN(const std::string text, read_file(path, kMaxProfileBytes));
  const std::string name = quote(path, 4096);
  FOVEA_ASSIGN_OR_RETURN(const nlohmann::ordered_json json, parse_json(text, name));
  if (!json.is_object()) return make_error(ErrorCode::kData, "{}: not a head profile (no JSON object)", name);
  attention::ModelShape shape;
  for (const auto& [key, size] : {std::pair("n_layers", &shape.n_layers), std::pair("n_heads", &shape.n_heads)}) {
    constexpr int64_t kMost = 1 << 15;
    const auto it = json.find(key);
    if (it == json.end() || !it->is_number_integer() || it->get<int64_t>() < 1 || it->get<int64_t>() > kMost)
      return make_error(ErrorCode::kData, "{}: {} must be a whole number in 1 to {}", name, key, kMost);
    *size = it->get<int>();
  }
  if (const auto it = json.find("n_kv_heads"); it != json.end()) {
    if (!it->is_number_integer() || it->get<int64_t>() < 1 || it->get<int64_t>() > shape.n_heads)
      return make_error(ErrorCode::kData, "{}: n_kv_heads must be a whole number in 1 to {}", name, shape.n_heads);
    shape.n_kv_heads = it->get<int>();
  }
  return engine::parse_head_profile(text, name, shape);
}

}  // namespace fovea::probe

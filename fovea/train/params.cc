#include "fovea/train/params.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <utility>

#include "fovea/attention/hook_names.h"  // matches_glob
#include "fovea/base/bytes.h"
#include "fovea/base/nearest.h"
#include "fovea/base/threads.h"

namespace fovea::train {
namespace {

constexpr int64_t kChunk = 1 << 15;  // elements whose sum is one number, whoever makes it

}  // namespace

bool names_param(std::string_view glob, const std::string& name, const std::string& hf_name) {
  return attention::matches_glob(glob, name) || attention::matches_glob(glob, hf_name);
}

Status check_globs(const std::vector<std::string>& globs, const std::vector<std::pair<std::string, std::string>>& names,
                   const std::string& what) {
  for (const std::string& written : globs) {
    const std::string glob = written.starts_with('!') ? written.substr(1) : written;
    const bool found =
        std::any_of(names.begin(), names.end(), [&](const auto& n) { return names_param(glob, n.first, n.second); });
    if (found) continue;
    std::vector<std::string> all;
    for (const auto& [name, hf_name] : names) {
      all.push_back(name);
      if (!hf_name.empty() && hf_name != name) all.push_back(hf_name);
    }
    const auto nearest = nearest_names(glob, all, 1);
    return Error{ErrorCode::kUsage,
                 fmt::format("{}: {} fits no parameter{}", what, quote(glob),
                             nearest.empty() ? "" : fmt::format("; the nearest is {}", nearest[0])),
                 glob};
  }
  return {};
}

bool globs_choose(const std::vector<std::string>& globs, const std::string& name, const std::string& hf_name) {
  bool chosen = false;
  for (const std::string& glob : globs) {
    const bool takes_away = glob.starts_with('!');
    if (names_param(std::string_view(glob).substr(takes_away ? 1 : 0), name, hf_name)) chosen = !takes_away;
  }
  return chosen;
}

std::vector<int64_t> dims_of(const tensor::Tensor& x) {
  std::vector<int64_t> dims;
  for (int i = 0; i < x.shape().rank(); ++i) dims.push_back(x.dim(i));
  return dims;
}

double sum_of_squares(const tensor::Tensor& x) {
  const int64_t n = x.elements(), n_chunks = (n + kChunk - 1) / kChunk;
  std::vector<double> sums(static_cast<size_t>(n_chunks));
  pool().for_each(n_chunks, [&](int64_t chunk, int) {
    double sum = 0;
    for (int64_t i = chunk * kChunk; i < std::min(n, (chunk + 1) * kChunk); ++i)
      sum += static_cast<double>(x.data()[i]) * x.data()[i];
    sums[static_cast<size_t>(chunk)] = sum;
  });
  double sum = 0;
  for (const double one : sums) sum += one;
  return sum;
}

bool all_finite(const tensor::Tensor& x) {
  std::atomic<bool> good{true};
  const int64_t n = x.elements();
  pool().for_each((n + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    for (int64_t i = chunk * kChunk; i < std::min(n, (chunk + 1) * kChunk); ++i) {
      if (!std::isfinite(x.data()[i])) good = false;
    }
  });
  return good;
}

}  // namespace fovea::train

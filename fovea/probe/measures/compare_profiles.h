// Whether two head profiles rank the heads (KV heads, layers) alike: of one model measured twice, or of two checkpoints
// of one family (arXiv:2404.15574, sec. 3: high within a family, low across).
#pragma once

#include <string>
#include <string_view>

#include "fovea/attention/shape.h"
#include "fovea/base/result.h"

namespace fovea::probe {

struct Agreement {
  double pearson = 0, spearman = 0;           // -1 to 1; equal values share their mean rank
  int n = 0;                                  // values compared
  int n_top = 0, common = 0;                  // how many of the best n_top of either are best in both
  int over_a = 0, over_b = 0, over_both = 0;  // values of 0.1 or more
};
// Of the values called `column`. kUsage where they cannot be paired (another number of layers or of heads in a layer,
// or heads against layers), where a profile has no such values, or where all are equal: then nothing is ranked.
Result<Agreement> compare_profiles(const attention::HeadProfile& a, const attention::HeadProfile& b,
                                   std::string_view column, int n_top = 10);

// A profile file of any model, of the size that it says itself. kData as for every profile.
Result<attention::HeadProfile> read_any_profile(const std::string& path);

}  // namespace fovea::probe

// Whether two head profiles rank the heads alike: of one model measured twice, or of two checkpoints of
// one family (arXiv:2404.15574, sec. 3: high within a family, low across).
#pragma once

#include <string>
#include <string_view>

#include "fovea/attention/shape.h"
#include "fovea/base/result.h"

namespace fovea::probe {

struct HeadAgreement {
  double pearson = 0, spearman = 0;           // -1 to 1; equal values share their mean rank
  int n_heads = 0;                            // compared
  int n_top = 0, common = 0;                  // how many of the best n_top of either are best in both
  int over_a = 0, over_b = 0, over_both = 0;  // heads with 0.1 or more
};
// Of the values called `column`. kUsage where heads cannot be paired (another number of layers or of heads
// in a layer), where a profile has no such values, or where all are equal: then nothing is ranked.
Result<HeadAgreement> compare_heads(const attention::HeadProfile& a, const attention::HeadProfile& b,
                                    std::string_view column, int n_top = 10);

// A profile file of any model, of the size that it says itself. kData as for every profile.
Result<attention::HeadProfile> read_any_profile(const std::string& path);

}  // namespace fovea::probe

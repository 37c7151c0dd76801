#include "fovea/attention/head_pages.h"

#include <algorithm>
#include <utility>

#include "fovea/tensor/scratch.h"

namespace fovea::attention {
namespace {

using kernels::kNoPosition;
using kernels::kPageKeys;

// Of the part, for query head g alone; of all heads, where they read the same, by that of the first.
void narrow_part(const KeyPlan& plan, KeyPlan::Tile& tile, KeyPlan::Part& part, std::span<const int32_t> pages,
                 const std::vector<uint32_t>& keys) {
  size_t at = 0, kept = 0;
  for (KeyPlan::Page& page : part.pages) {
    while (at < pages.size() && pages[at] < page.index) ++at;
    const uint32_t bits = at < pages.size() && pages[at] == page.index ? keys[at] : ~uint32_t{0};
    if (bits == 0) continue;
    if (~bits != 0) {
      for (uint32_t& row : plan.own_mask(tile, page)) row &= bits;
    }
    part.pages[kept++] = page;
  }
  part.pages.resize(kept);
}

std::vector<int32_t> every(std::span<const int32_t> q_pos, int64_t first, int64_t n, int step) {
  std::vector<int32_t> out;
  for (int64_t i = (n - 1) % step; i < n; i += step) out.push_back(q_pos[static_cast<size_t>(first + i)]);
  return out;
}

}  // namespace

void cut_at_multiples(KeyPlan& plan, int32_t n_rows) {
  const std::span<const int32_t> positions = plan.positions();
  for (size_t row = 1; row < positions.size(); ++row) {
    if (positions[row] % n_rows == 0) plan.cut(static_cast<int64_t>(row));
  }
}

std::vector<int32_t> pages_within(const KeyPlan& plan, int kv_head, const KeyPlan::Tile& tile, int64_t begin,
                                  int64_t end) {
  const std::span<const KeyBlock> cached = plan.pages(kv_head);
  const int32_t q_pos = plan.positions()[static_cast<size_t>(tile.first)];  // the row whose window reaches furthest
  std::vector<int32_t> out;
  for (const KeyPlan::Part& part : tile.parts) {
    const bool windowed = std::all_of(part.rules.begin(), part.rules.end(),
                                      [](const KeyRule& rule) { return rule.window != KeyRule().window; });
    for (const KeyPlan::Page& page : part.pages) {
      if (static_cast<size_t>(page.index) >= cached.size()) continue;  // of a method's own
      const KeyBlock& keys = cached[static_cast<size_t>(page.index)];
      int32_t first = kNoPosition, last = -1;
      for (int slot = 0; slot < kPageKeys; ++slot) {
        const int32_t key = keys.positions[slot];
        first = std::min(first, key);
        last = std::max(last, key == kNoPosition ? -1 : key);
      }
      if (first < begin || last >= end || last < 0) continue;
      if (windowed && std::none_of(part.rules.begin(), part.rules.end(),
                                   [&](const KeyRule& rule) { return seen_slots(rule, q_pos, keys) != 0; }))
        continue;
      out.push_back(page.index);
    }
  }
  if (tile.parts.size() > 1) {
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
  }
  return out;
}

void keep_keys(const KeyPlan& plan, KeyPlan::Tile& tile, std::span<const int32_t> pages,
               std::span<const std::vector<uint32_t>> keys) {
  const bool same =
      std::all_of(keys.begin(), keys.end(), [&](const std::vector<uint32_t>& other) { return other == keys[0]; });
  std::vector<KeyPlan::Part> parts;
  for (KeyPlan::Part& part : tile.parts) {
    if (same || part.head != KeyPlan::kAllHeads) {
      narrow_part(plan, tile, part, pages, keys[part.head == KeyPlan::kAllHeads ? 0 : static_cast<size_t>(part.head)]);
      parts.push_back(std::move(part));
      continue;
    }
    for (size_t g = 0; g < keys.size(); ++g) {
      parts.push_back(part);
      parts.back().head = static_cast<int>(g);
      narrow_part(plan, tile, parts.back(), pages, keys[g]);
    }
  }
  tile.parts = std::move(parts);
}

RowScores::RowScores(const Call& call, const KeyPlan& plan, int kv_head, const float* q, int64_t ld_q,
                     std::vector<int32_t> q_pos)
    : plan_(plan), kv_head_(kv_head), q_pos_(std::move(q_pos)) {
  const AttentionShape site = call.model.site(call.layer);
  args_.k_type = plan.layout().k_type, args_.v_type = plan.layout().v_type;
  args_.k_dim = plan.layout().k_dim, args_.v_dim = plan.layout().v_dim;
  args_.group = plan.group();
  args_.scale = site.scale;
  args_.softcap = site.softcap;
  args_.n_queries = static_cast<int64_t>(q_pos_.size());
  args_.q = q;
  args_.ld_q = ld_q;
  args_.q_pos = q_pos_.data();
  args_.rule = {0, site.window, site.ahead()};
}

RowScores::RowScores(const Call& call, const Queries& queries, const KeyPlan& plan, int kv_head, int64_t first,
                     int64_t n, int step)
    : RowScores(
          call, plan, kv_head,
          queries.turned.data() + ((first + (n - 1) % step) * queries.turned.dim(1) + int64_t{kv_head} * plan.group()) *
                                      queries.turned.dim(2),
          queries.turned.dim(1) * queries.turned.dim(2) * step, every(call.q_pos, first, n, step)) {}

std::span<float> RowScores::of(int g, std::span<const int32_t> pages) const {
  thread_local tensor::Scratch bytes;
  thread_local std::vector<KeyBlock> blocks;
  blocks.clear();
  for (const int32_t page : pages) blocks.push_back(plan_.pages(kv_head_)[static_cast<size_t>(page)]);
  kernels::AttentionArgs args = args_;
  args.blocks = blocks.data();
  args.n_blocks = static_cast<int64_t>(blocks.size());
  const size_t in_row = blocks.size() * kPageKeys, n = in_row * q_pos_.size();
  const size_t scratch = (kernels::attention_scratch_bytes(args) + 63) / 64 * 64;
  std::byte* memory = bytes.at_least(scratch + n * sizeof(float));
  args.scratch = memory;
  auto* scores = reinterpret_cast<float*>(memory + scratch);
  kernels::attention_scores(args, g, scores, static_cast<int64_t>(in_row));
  return {scores, n};
}

}  // namespace fovea::attention

#include "fovea/kernels/antidiagonals.h"

#include <gtest/gtest.h>

#include <vector>

#include "fovea/base/check.h"
#include "fovea/kernels/testing/attention_problem.h"

namespace fovea::kernels {
namespace antidiagonals_test {

struct Room {
  std::unique_ptr<float, Freed> scratch;
  std::vector<float> sums;
};
AntidiagonalArgs args_of(const Problem& p, const float* q, int stride, Room& room) {
  AntidiagonalArgs args{.k_type = p.type,
                        .k_dim = p.head_dim,
                        .stride = stride,
                        .scale = 0.25f,
                        .n_queries = p.n_queries,
                        .q = q,
                        .ld_q = p.head_dim,
                        .blocks = p.blocks.data(),
                        .n_blocks = static_cast<int64_t>(p.blocks.size())};
  const size_t rows = static_cast<size_t>((p.n_queries + stride - 1) / stride);
  const size_t bytes = antidiagonal_scratch_bytes(args);
  room.scratch.reset(static_cast<float*>(::operator new (bytes, std::align_val_t{64})));
  room.sums.assign(rows * p.blocks.size() * static_cast<size_t>(kPageKeys / stride), kNan);
  args.scratch = room.scratch.get(), args.sums = room.sums.data();
  return args;
}

// In plain loops, of what the page holds: codes of queries and keys round by a quarter thousandth, of q8_0 by a
// hundredth, of numbers around 4.
void expect_sums(const Problem& p, const float* q, int stride) {
  Room room;
  const AntidiagonalArgs args = args_of(p, q, stride, room);
  antidiagonal_sums(args);
  const size_t in_page = static_cast<size_t>(kPageKeys / stride), cells = p.blocks.size() * in_page;
  std::vector<float> key(static_cast<size_t>(p.head_dim));
  for (size_t at = 0; at < room.sums.size(); ++at) {
    const size_t row = at / cells, cell = at % cells;
    double expected = 0, size = 0;
    for (int i = 0; i < stride; ++i) {
      const int64_t query = static_cast<int64_t>(row) * stride + stride - 1 - i;
      const int slot = static_cast<int>(cell % in_page) * stride + i;
      const KeyBlock& page = p.blocks[cell / in_page];
      if (query >= p.n_queries || page.positions[slot] == kNoPosition) continue;
      key_read(page.k, p.type, p.head_dim, slot, key.data());
      for (int d = 0; d < p.head_dim; ++d) {
        const double product =
            0.25 * static_cast<double>(q[query * p.head_dim + d]) * static_cast<double>(key[static_cast<size_t>(d)]);
        expected += product, size += std::abs(product);
      }
    }
    const double most = p.type == KvType::kF32 ? 1e-6 * size + 1e-6 : 1e-3 * size + 1e-4;
    ASSERT_NEAR(room.sums[at], expected, most) << "row " << row << " cell " << cell << " stride " << stride;
  }
}

TEST(Antidiagonals, AreThoseOfPlainLoops) {
  on_every_isa([] {
    for (const KvType type : {KvType::kF32, KvType::kI16, KvType::kQ8_0}) {
      for (const int dim : {8, 24, 64, 80, 128, 256}) {
        for (const int stride : {1, 2, 4, 8, 16, 32}) {
          for (const int queries : {1, 15, 64}) {
            const Problem p(type, dim, 1, queries, 150, static_cast<uint64_t>(dim + stride), 0.1);
            expect_sums(p, p.q.data(), stride);
          }
        }
      }
    }
    EXPECT_EQ(antidiagonal_sums.used(), active_isa());
  });
}

TEST(Antidiagonals, QueriesMayLieAnywhere) {
  on_every_isa([] {
    const Problem p(KvType::kI16, 40, 1, 33, 70, 4);
    std::vector<float> moved(p.q.size() + 1);
    std::copy(p.q.begin(), p.q.end(), moved.begin() + 1);
    expect_sums(p, moved.data() + 1, 8);
  });
}

TEST(Antidiagonals, OfNoRowsAreNone) {
  Problem p(KvType::kI16, 16, 1, 0, 40, 4);
  Room room;
  antidiagonal_sums(args_of(p, p.q.data(), 8, room));
}

TEST(Antidiagonals, AStrideThatCutsAPageIsRefused) {
  const Problem p(KvType::kI16, 16, 1, 4, 40, 4);
  Room room;
  AntidiagonalArgs args = args_of(p, p.q.data(), 8, room);
  args.stride = 12;
  EXPECT_THROW(antidiagonal_sums(args), CheckFailed);
}

}  // namespace antidiagonals_test
}  // namespace fovea::kernels

// Rows cut into blocks: the cut itself, and blocks held against the matrix they are of.
#include "jobs/row_blocks.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/random/philox.hpp"

namespace regroup {
namespace {

using testing::ElementsAre;
using Cuts = std::vector<std::uint64_t>;

TEST(RowBlocks, CutsShareTheEntriesEvenly) {
  EXPECT_THAT(cut_rows(std::vector<std::uint32_t>{1, 1, 1, 1, 1, 1}, 3), ElementsAre(0, 2, 4, 6));
  EXPECT_THAT(cut_rows(std::vector<std::uint32_t>{6, 1, 1, 1, 1, 2}, 2), ElementsAre(0, 1, 6));
  EXPECT_THAT(cut_rows(std::vector<std::uint32_t>{1, 1, 1, 1, 2, 6}, 2), ElementsAre(0, 5, 6));
  EXPECT_THAT(cut_rows(std::vector<std::uint32_t>{5}, 1), ElementsAre(0, 1));
  // Each block has a row, however heavy others are.
  EXPECT_THAT(cut_rows(std::vector<std::uint32_t>{100, 1, 1, 1}, 4), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(cut_rows(std::vector<std::uint32_t>{1, 1, 1, 100}, 4), ElementsAre(0, 1, 2, 3, 4));
  EXPECT_THAT(cut_rows(std::vector<std::uint32_t>{0, 0, 0}, 2), ElementsAre(0, 1, 3));
}

TEST(RowBlocks, EveryCutIsWholeAndNoBlockIsFarAboveItsShare) {
  kernels::Philox random(5, 5);
  std::vector<std::uint32_t> weights(1000);
  for (auto& weight : weights) weight = 1 + static_cast<std::uint32_t>(20 * random.uniform());
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (const std::uint32_t blocks : {1u, 2u, 7u, 64u, 999u, 1000u}) {
    const Cuts cuts = cut_rows(weights, blocks);
    ASSERT_EQ(cuts.size(), blocks + 1);
    EXPECT_EQ(cuts.front(), 0u);
    EXPECT_EQ(cuts.back(), weights.size());
    for (std::uint32_t block = 0; block < blocks; ++block) {
      ASSERT_LT(cuts[block], cuts[block + 1]);
      const auto begin = weights.begin() + static_cast<std::ptrdiff_t>(cuts[block]);
      const auto end = weights.begin() + static_cast<std::ptrdiff_t>(cuts[block + 1]);
      EXPECT_LE(std::accumulate(begin, end, 0.0), all / blocks + 40);
      for (std::uint64_t row = cuts[block]; row < cuts[block + 1]; ++row) {
        ASSERT_EQ(block_of(cuts, row), block);
      }
    }
  }
}

// Of 5 rows:  4 -1  .  . -2
//            -1  4  .  .  .
//             .  .  4  .  .
//             .  .  .  4 -3
//            -2  .  . -3  4
TEST(RowBlocks, ABlockKnowsWhatItNeedsAndShows) {
  const Cuts cuts = {0, 2, 3, 4, 5};
  const RowBlock first(cuts, 0, {{1, 0, -1}, {0, 4, -2}, {0, 1, -1}, {1, 1, 4}, {0, 0, 4}});
  EXPECT_EQ(first.first_row(), 0u);
  EXPECT_EQ(first.rows(), 2u);
  EXPECT_EQ(first.ghosts(), 1u);
  EXPECT_THAT(first.matrix().row_starts, ElementsAre(0, 3, 5));
  EXPECT_THAT(first.matrix().columns, ElementsAre(0, 1, 2, 0, 1));
  EXPECT_THAT(first.matrix().values, ElementsAre(4, -1, -2, -1, 4));
  EXPECT_THAT(first.diagonal(), ElementsAre(4, 4));
  ASSERT_EQ(first.neighbours().size(), 1u);
  EXPECT_EQ(first.neighbours()[0].block, 3u);
  EXPECT_THAT(first.neighbours()[0].shown, ElementsAre(0));

  EXPECT_TRUE(RowBlock(cuts, 1, {{2, 2, 4}}).neighbours().empty());

  const RowBlock last(cuts, 3, {{4, 0, -2}, {4, 3, -3}, {4, 4, 4}});
  EXPECT_THAT(last.matrix().columns, ElementsAre(1, 2, 0));  // in the order of the matrix's
  EXPECT_THAT(last.matrix().values, ElementsAre(-2, -3, 4));
  ASSERT_EQ(last.neighbours().size(), 2u);
  EXPECT_EQ(last.neighbours()[0].block, 0u);
  EXPECT_EQ(last.neighbours()[1].block, 2u);
  EXPECT_EQ(last.neighbours()[1].ghosts_begin, 1u);
  EXPECT_EQ(last.neighbours()[1].ghosts_end, 2u);
  EXPECT_THAT(last.neighbours()[1].shown, ElementsAre(0));
}

TEST(RowBlocks, EntriesInOnePlaceAreAddedUpInAnyOrderToTheSameBits) {
  const Cuts cuts = {0, 2};
  const std::vector<MatrixEntry> entries = {{0, 1, 0x1p53}, {0, 1, 1},  {0, 1, 1}, {0, 0, 0},
                                            {1, 1, 3},      {0, 1, -2}, {1, 0, 0}};
  std::vector<MatrixEntry> reversed(entries.rbegin(), entries.rend());
  for (const auto& order : {entries, reversed}) {
    const RowBlock block(cuts, 0, order);
    EXPECT_THAT(block.matrix().values, ElementsAre(0x1p53, 3));
    EXPECT_THAT(block.diagonal(), ElementsAre(0, 3));
    EXPECT_EQ(block.entries(), 2u);
  }
}

// With a symmetric pattern, what each shows is what the other has as ghosts.
TEST(RowBlocks, NeighboursShowWhatTheOthersNeed) {
  kernels::Philox random(6, 6);
  constexpr std::uint32_t kRows = 60;
  std::map<std::pair<std::uint32_t, std::uint32_t>, double> places;
  for (int i = 0; i < 150; ++i) {
    const auto row = static_cast<std::uint32_t>(random.uniform() * kRows);
    const auto column = static_cast<std::uint32_t>(random.uniform() * kRows);
    places[{row, column}] = places[{column, row}] = random.uniform();
  }
  const Cuts cuts = {0, 7, 8, 31, 45, kRows};
  std::vector<RowBlock> blocks;
  for (std::uint32_t block = 0; block + 1 < cuts.size(); ++block) {
    std::vector<MatrixEntry> entries;
    for (const auto& [place, value] : places) {
      if (block_of(cuts, place.first) == block)
        entries.push_back({place.first, place.second, value});
    }
    blocks.emplace_back(cuts, block, entries);
    EXPECT_EQ(kernels::why_invalid(blocks.back().matrix()), nullptr);
  }
  // The columns of ghosts, of which a block has only the numbers: one x for all tells them apart.
  for (std::uint32_t block = 0; block < blocks.size(); ++block) {
    for (const RowBlock::Neighbour& to : blocks[block].neighbours()) {
      const auto& back = blocks[to.block].neighbours();
      const auto from = std::ranges::find(back, block, &RowBlock::Neighbour::block);
      ASSERT_NE(from, back.end());
      ASSERT_EQ(to.shown.size(), from->ghosts_end - from->ghosts_begin);
    }
  }
  std::vector<double> x(kRows);
  for (double& element : x) element = random.uniform();
  for (std::uint32_t block = 0; block < blocks.size(); ++block) {
    const RowBlock& own = blocks[block];
    std::vector<double> local(x.begin() + static_cast<std::ptrdiff_t>(cuts[block]),
                              x.begin() + static_cast<std::ptrdiff_t>(cuts[block + 1]));
    for (const RowBlock::Neighbour& from : own.neighbours()) {
      const auto& back = blocks[from.block].neighbours();
      for (const std::uint32_t row :
           std::ranges::find(back, block, &RowBlock::Neighbour::block)->shown) {
        local.push_back(x[cuts[from.block] + row]);
      }
    }
    std::vector<double> y(own.rows());
    kernels::multiply(own.matrix(), 0, own.rows(), local, y);
    for (std::size_t row = 0; row < own.rows(); ++row) {
      double expected = 0;
      for (const auto& [place, value] : places) {
        if (place.first == cuts[block] + row) expected += value * x[place.second];
      }
      EXPECT_NEAR(y[row], expected, 1e-14);
    }
  }
}

}  // namespace
}  // namespace regroup

#include "jobs/grid_blocks.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/jobs/error_of.hpp"

namespace regroup {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Extents = GridBlocks::Extents;

TEST(GridBlocks, AGridIsTwoOrThreeNumbers) {
  EXPECT_EQ(GridBlocks::parse("512x256"), (Extents{512, 256, 0}));
  EXPECT_EQ(GridBlocks::parse("1x2x4294967296"), (Extents{1, 2, 4'294'967'296}));
  for (const char* text :
       {"", "x", "512", "512x", "x512", "1x2x3x4", "1x2x3x", "0x1", "1x0", "1x-1", "1 x2", "1x2 ",
        "1x4294967297", "99999999999999999999x1", "1X2"}) {
    EXPECT_THAT(error_of(GridBlocks::parse(text)), HasSubstr("is no grid")) << text;
  }
}

TEST(GridBlocks, AreCutWhereFacesAreSmallest) {
  const auto along = [](const Extents& extents, std::uint32_t blocks) {
    return GridBlocks::cut(extents, blocks)->along();
  };
  EXPECT_THAT(along({100, 100, 0}, 4), ElementsAre(2, 2, 1));
  EXPECT_THAT(along({400, 100, 0}, 4), ElementsAre(4, 1, 1));
  EXPECT_THAT(along({100, 400, 0}, 5), ElementsAre(1, 5, 1));
  EXPECT_THAT(along({64, 64, 64}, 8), ElementsAre(2, 2, 2));
  EXPECT_THAT(along({2, 2, 64}, 6), ElementsAre(1, 1, 6));
}

TEST(GridBlocks, NoneIsEmpty) {
  EXPECT_THAT(error_of(GridBlocks::cut({2, 3, 0}, 5)),
              "a grid of 2x3 cannot be cut into 5 blocks: give another number of them");
  EXPECT_THAT(error_of(GridBlocks::cut({2, 2, 2}, 9)), HasSubstr("2x2x2"));
  EXPECT_EQ(GridBlocks::cut({2, 3, 0}, 6)->count(), 6u);
}

TEST(GridBlocks, HaveEachCellOnceAndDifferByOneAtMost) {
  for (const Extents& extents : {Extents{17, 23, 0}, Extents{7, 5, 11}}) {
    for (const std::uint32_t count : {1u, 2u, 6u, 12u, 35u}) {
      const auto blocks = GridBlocks::cut(extents, count);
      ASSERT_TRUE(blocks) << blocks.error();
      std::set<std::vector<std::uint64_t>> cells;
      std::uint64_t all = 0, least = ~std::uint64_t{0}, most = 0;
      for (std::uint32_t block = 0; block < count; ++block) {
        const auto shape = blocks->shape(block);
        const Extents start = blocks->start(block);
        least = std::min<std::uint64_t>(least, shape.nx);
        most = std::max<std::uint64_t>(most, shape.nx);
        for (std::uint64_t z = 0; z < shape.planes(); ++z) {
          for (std::uint64_t y = 0; y < shape.ny; ++y) {
            for (std::uint64_t x = 0; x < shape.nx; ++x) {
              cells.insert({start[0] + x, start[1] + y, start[2] + z});
              ++all;
            }
          }
        }
      }
      EXPECT_LE(most - least, 1u);
      EXPECT_EQ(all, extents[0] * extents[1] * std::max<std::uint64_t>(1, extents[2]));
      EXPECT_EQ(cells.size(), all);
      EXPECT_THAT(*cells.rbegin(),
                  ElementsAre(extents[0] - 1, testing::Lt(extents[1]), testing::Le(extents[2])));
    }
  }
}

TEST(GridBlocks, TouchEachOtherAtOppositeSides) {
  const auto blocks = GridBlocks::cut({7, 5, 11}, 12);
  for (std::uint32_t block = 0; block < blocks->count(); ++block) {
    std::vector<std::uint32_t> touching;
    for (const kernels::Side side : kernels::kSides) {
      const auto other = blocks->at(block, side);
      if (!other) continue;
      touching.push_back(*other);
      EXPECT_EQ(blocks->at(*other, kernels::opposite(side)), block);
      EXPECT_EQ(kernels::face_cells(blocks->shape(block), side),
                kernels::face_cells(blocks->shape(*other), kernels::opposite(side)));
      const auto axis = static_cast<std::size_t>(side) / 2;
      const bool high = static_cast<std::size_t>(side) % 2 == 1;
      const auto upper = high ? *other : block, lower = high ? block : *other;
      const auto shape = blocks->shape(lower);
      const std::size_t extent = axis == 0 ? shape.nx : axis == 1 ? shape.ny : shape.nz;
      EXPECT_EQ(blocks->start(upper)[axis], blocks->start(lower)[axis] + extent);
    }
    std::ranges::sort(touching);
    EXPECT_EQ(blocks->neighbours(block), touching);
  }
}

}  // namespace
}  // namespace regroup

#include "jobs/grid_blocks.hpp"

#include <algorithm>
#include <functional>
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

TEST(GridBlocks, TouchEachOtherInOppositeDirections) {
  const auto blocks = GridBlocks::cut({7, 5, 11}, 12);
  ASSERT_EQ(blocks->along(), (std::array<std::uint32_t, 3>{2, 2, 3}));
  for (const bool corners : {false, true}) {
    for (std::uint32_t block = 0; block < blocks->count(); ++block) {
      const auto found = blocks->neighbours(block, corners);
      EXPECT_TRUE(std::ranges::is_sorted(found, std::less(), &GridBlocks::Neighbour::block));
      const std::size_t layers = block / 4 == 1 ? 3 : 2;  // of blocks along z that touch this one
      EXPECT_EQ(found.size(), corners ? 4 * layers - 1 : 2 + layers - 1);
      for (const auto& [other, direction] : found) {
        auto back = direction;
        for (int& along : back) along = -along;
        EXPECT_THAT(blocks->neighbours(other, corners),
                    testing::Contains(GridBlocks::Neighbour{block, back}));
        const auto here = blocks->shape(block), there = blocks->shape(other);
        const std::array<std::size_t, 3> extents = {here.nx, here.ny, here.nz};
        const std::array<std::size_t, 3> others = {there.nx, there.ny, there.nz};
        for (std::size_t axis = 0; axis < 3; ++axis) {
          const auto begin = blocks->start(block)[axis], begins = blocks->start(other)[axis];
          if (direction[axis] == 0) {
            EXPECT_EQ(begins, begin);
            EXPECT_EQ(others[axis], extents[axis]);
          } else if (direction[axis] > 0) {
            EXPECT_EQ(begins, begin + extents[axis]);
          } else {
            EXPECT_EQ(begin, begins + others[axis]);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace regroup

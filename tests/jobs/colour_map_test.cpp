#include "jobs/colour_map.hpp"

#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup {
namespace {

using testing::ElementsAre;

TEST(ColourMap, HasThePublishedColours) {
  EXPECT_THAT(viridis(0), ElementsAre(68, 1, 84));
  EXPECT_THAT(viridis(17.0 / 255), ElementsAre(72, 26, 108));
  EXPECT_THAT(viridis(1), ElementsAre(253, 231, 37));
  // Between two of them: number 128 of 0 to 255 is (33, 145, 140).
  const Colour middle = viridis(128.0 / 255);
  EXPECT_NEAR(middle[0], 33, 7);
  EXPECT_NEAR(middle[1], 145, 7);
  EXPECT_NEAR(middle[2], 140, 7);
}

TEST(ColourMap, EndsHoldOutside) {
  EXPECT_EQ(viridis(-1), viridis(0));
  EXPECT_EQ(viridis(7), viridis(1));
  EXPECT_EQ(viridis(std::numeric_limits<double>::infinity()), viridis(1));
  EXPECT_EQ(viridis(std::nan("")), viridis(0));
}

// Luminance, by the weights of ITU-R BT.709.
TEST(ColourMap, GrowsLighterAllTheWay) {
  double before = -1;
  for (int i = 0; i <= 1000; ++i) {
    const Colour colour = viridis(i / 1000.0);
    const double luminance = 0.2126 * colour[0] + 0.7152 * colour[1] + 0.0722 * colour[2];
    EXPECT_GE(luminance, before - 1) << i;
    before = luminance;
  }
  EXPECT_GT(before, 200);
}

}  // namespace
}  // namespace regroup

#include "jobs/progress_display.hpp"

#include <limits>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup {
namespace {

using testing::HasSubstr;

// Characters, of which each takes one column: bytes of UTF-8 but for those that continue one.
std::size_t columns_of(const std::string& text) {
  std::size_t columns = 0;
  for (const char byte : text) columns += (static_cast<unsigned char>(byte) & 0xc0) != 0x80;
  return columns;
}

TEST(ProgressText, IsNeverWiderThanTheTerminal) {
  constexpr std::uint64_t kMany = std::uint64_t{1} << 62;
  std::vector<RunProgress> pictures;
  for (const RunPhase phase : {RunPhase::kOpening, RunPhase::kRunning, RunPhase::kFinalizing,
                               RunPhase::kClosing, RunPhase::kOver}) {
    for (const std::uint64_t shards :
         {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{999}, std::uint64_t{123'456}, kMany}) {
      for (const std::uint64_t done : {std::uint64_t{0}, shards / 3, shards, 2 * shards}) {
        for (const std::uint64_t quarantined : {std::uint64_t{0}, done}) {
          pictures.push_back(
              {.phase = phase, .done = done, .shards = shards, .quarantined = quarantined});
          pictures.push_back({.phase = phase, .step = done, .steps = shards, .shards = 8});
          pictures.push_back({.phase = phase, .step = done, .shards = 8});
        }
      }
    }
  }
  for (int columns = 20; columns <= 200; ++columns) {
    for (const RunProgress& picture : pictures) {
      for (const ProgressStyle style : {ProgressStyle::kBar, ProgressStyle::kPlain}) {
        for (const double seconds : {0.0, 0.01, 59.7, 100'000.0, 1e9}) {
          const std::string text = progress_text(picture, seconds, style, columns);
          ASSERT_LE(columns_of(text), static_cast<std::size_t>(columns)) << text;
          ASSERT_FALSE(text.empty());
          ASSERT_EQ(text.find('\n'), std::string::npos);
        }
      }
    }
  }
}

TEST(ProgressText, TheBarGrowsWithWhatIsDone) {
  RunProgress picture{.phase = RunPhase::kRunning, .shards = 1000};
  const auto cells = [&](std::uint64_t done) {
    picture.done = done;
    const std::string text = progress_text(picture, 10, ProgressStyle::kBar, 120);
    std::size_t full = 0;
    for (std::size_t at = 0; (at = text.find("█", at)) != std::string::npos; ++at) ++full;
    return full;
  };
  EXPECT_EQ(cells(0), 0u);
  EXPECT_EQ(cells(500), 20u);
  EXPECT_EQ(cells(999), 39u);
  EXPECT_EQ(cells(1000), 40u);
}

TEST(ProgressText, TellsRateAndTimeLeft) {
  const RunProgress picture{
      .phase = RunPhase::kRunning, .done = 250'000, .shards = 1'000'000, .quarantined = 3};
  EXPECT_EQ(progress_text(picture, 60, ProgressStyle::kPlain, 200),
            "regroup: 1:00  25%  250k/1.00M shards  4.17k/s  3:00 left  3 given up");
  EXPECT_THAT(progress_text(picture, 60, ProgressStyle::kBar, 200),
              HasSubstr("│  25%  250k/1.00M shards  4.17k/s  3:00 left  3 given up"));
}

TEST(ProgressText, TellsTheStepsOfCells) {
  RunProgress picture{.phase = RunPhase::kRunning, .step = 2500, .steps = 10'000, .shards = 32};
  EXPECT_EQ(progress_text(picture, 60, ProgressStyle::kPlain, 200),
            "regroup: 1:00  25%  2.50k/10.0k steps  42/s  3:00 left");
  picture.steps = 0;
  EXPECT_EQ(progress_text(picture, 60, ProgressStyle::kPlain, 200),
            "regroup: 1:00   0%  0/32 shards  step 2.50k");
}

TEST(ProgressText, NamesThePhaseWhenNothingIsComputed) {
  const auto text = [](RunPhase phase) {
    return progress_text({.phase = phase}, 1, ProgressStyle::kPlain, 200);
  };
  EXPECT_THAT(text(RunPhase::kOpening), HasSubstr("opening"));
  EXPECT_THAT(text(RunPhase::kFinalizing), HasSubstr("writing the result"));
  EXPECT_THAT(text(RunPhase::kOver), HasSubstr("ending"));
}

TEST(ProgressText, NumbersAndTimesStayShort) {
  const auto text = [](std::uint64_t done, double seconds) {
    return progress_text({.phase = RunPhase::kRunning, .done = done, .shards = done}, seconds,
                         ProgressStyle::kPlain, 200);
  };
  EXPECT_THAT(text(999, 1), HasSubstr(" 999/999 shards"));
  EXPECT_THAT(text(1000, 1), HasSubstr(" 1.00k/1.00k shards"));
  EXPECT_THAT(text(9'999, 1), HasSubstr(" 10.0k/10.0k shards"));
  EXPECT_THAT(text(999'999, 1), HasSubstr(" 1.00M/1.00M shards"));
  EXPECT_THAT(text(1, 3599.6), HasSubstr("regroup: 1h00m "));
  EXPECT_THAT(text(1, 200'000), HasSubstr("regroup: 2d07h "));
}

class DisplayTest : public testing::Test {
 protected:
  std::string shown(ProgressStyle style, const std::vector<double>& at_seconds) {
    ProgressDisplay display(style, 80);
    testing::internal::CaptureStderr();
    for (const double seconds : at_seconds) {
      display.show({.phase = RunPhase::kRunning, .done = 1, .shards = 2}, seconds);
    }
    display.finish();
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(DisplayTest, ABarIsDrawnOverAndThenCleared) {
  const std::string text = shown(ProgressStyle::kBar, {0, 0.01, 0.02, 0.15});
  EXPECT_EQ(std::ranges::count(text, '\r'), 3) << "two drawings in 0.15 s, and the clearing";
  EXPECT_THAT(text, testing::EndsWith("\r\033[K"));
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

TEST_F(DisplayTest, PlainLinesBecomeRarer) {
  std::vector<double> seconds;
  for (int second = 0; second <= 30; ++second) seconds.push_back(second);
  const std::string text = shown(ProgressStyle::kPlain, seconds);
  EXPECT_EQ(std::ranges::count(text, '\n'), 4) << text;
  EXPECT_EQ(text.find('\r'), std::string::npos);
}

TEST_F(DisplayTest, NoneShowsNothing) {
  EXPECT_EQ(shown(ProgressStyle::kNone, {0, 10, 100}), "");
}

}  // namespace
}  // namespace regroup

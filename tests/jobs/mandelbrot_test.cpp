// mandelbrot, held against the plain kernel, the symmetry of the set, and its known area.
#include "kernels/mandelbrot/mandelbrot.hpp"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "jobs/colour_map.hpp"
#include "jobs/sample_jobs.hpp"
#include "tests/jobs/error_of.hpp"
#include "tests/jobs/program_run.hpp"

namespace regroup {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::unique_ptr<Program> make_mandelbrot() {
  JobRegistry registry;
  add_mandelbrot(registry);
  return registry.make("mandelbrot");
}

ReportPicture run_mandelbrot(const ProgramRun::Set& options,
                             const ProgramRun::Choices& choices = {}) {
  return ProgramRun(make_mandelbrot, options, {}, choices).run();
}

std::vector<std::uint64_t> counts_of(const ReportPicture& picture) {
  std::vector<std::uint64_t> counts(picture.arrays.at(1).elements.size() / sizeof(std::uint64_t));
  std::memcpy(counts.data(), picture.arrays[1].elements.data(), picture.arrays[1].elements.size());
  return counts;
}

Colour colour_at(const ReportPicture& picture, std::size_t pixel) {
  Colour colour{};
  std::memcpy(colour.data(), picture.arrays.at(0).elements.data() + 3 * pixel, colour.size());
  return colour;
}

TEST(MandelbrotJob, CountsWhatTheReferenceCounts) {
  const ReportPicture picture = run_mandelbrot({{"size", "33x21"},
                                                {"centre", "-0.5,0.25"},
                                                {"width", "3.3"},
                                                {"iterations", "70"},
                                                {"counts", "true"}});

  std::vector<std::uint64_t> expected;
  std::vector<std::uint32_t> row(33);
  for (int y = 0; y < 21; ++y) {
    const kernels::PlaneRow line{.left = -0.5 - 16 * (3.3 / 33),
                                 .imaginary = 0.25 + (10 - y) * (3.3 / 33),
                                 .spacing = 3.3 / 33};
    kernels::reference::escape_counts(line, 0, 70, row);
    expected.insert(expected.end(), row.begin(), row.end());
  }
  EXPECT_EQ(counts_of(picture), expected);
  EXPECT_EQ(picture.arrays[1].array, (ResultArray{"iterations", ElementType::kUint64, {21, 33}}));
  EXPECT_EQ(value_of<std::uint64_t>(picture, "pixels"), 33u * 21u);
  EXPECT_EQ(value_of<std::uint64_t>(picture, "inside"),
            static_cast<std::uint64_t>(std::ranges::count(expected, 70u)));
}

TEST(MandelbrotJob, HasTheSameBitsHoweverItIsSharedOut) {
  const ProgramRun::Set options = {{"size", "40x31"}, {"iterations", "50"}, {"counts", "true"}};
  const ReportPicture alone = run_mandelbrot(options);
  for (std::uint64_t order = 0; order < 4; ++order) {
    for (const char* shard_rows : {"1", "4", "31", "100"}) {
      ProgramRun::Set cut = options;
      cut.emplace_back("shard-rows", shard_rows);
      EXPECT_EQ(run_mandelbrot(cut, {.ranks = 3, .order_seed = order}), alone);
    }
  }
}

TEST(MandelbrotJob, PaintsInsideBlackAndLaterEscapesLighter) {
  const ReportPicture picture =
      run_mandelbrot({{"size", "40x30"}, {"iterations", "60"}, {"counts", "true"}});
  const auto counts = counts_of(picture);

  EXPECT_EQ(picture.arrays[0].array,
            (ResultArray{"mandelbrot", ElementType::kUint8, {30, 40, 3}, true}));
  const std::uint64_t fewest = std::ranges::min(counts);
  std::vector<Colour> colour_of(61);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    EXPECT_EQ(colour_at(picture, i) == viridis(0), counts[i] == fewest) << "pixel " << i;
    EXPECT_EQ(colour_at(picture, i) == Colour{}, counts[i] == 60) << "pixel " << i;
    auto& colour = colour_of[counts[i]];
    if (colour == Colour{}) colour = colour_at(picture, i);
    EXPECT_EQ(colour_at(picture, i), colour) << "one colour a count";
  }
  Colour before = viridis(0);
  for (const Colour& colour : std::span(colour_of).first(60)) {
    if (colour == Colour{}) continue;
    EXPECT_GE(colour[1], before[1]) << "viridis grows greener";
    before = colour;
  }
}

// The set is symmetric about the real axis: what is above it comes first.
TEST(MandelbrotJob, IsUpright) {
  const ReportPicture above = run_mandelbrot(
      {{"size", "20x20"}, {"centre", "-0.5,1"}, {"width", "2"}, {"iterations", "40"}});
  const ReportPicture below = run_mandelbrot(
      {{"size", "20x20"}, {"centre", "-0.5,-1"}, {"width", "2"}, {"iterations", "40"}});
  EXPECT_NE(colour_at(above, 390), colour_at(above, 10));
  EXPECT_EQ(colour_at(above, 390), Colour{}) << "the body is below this view's middle";
  EXPECT_EQ(colour_at(below, 10), Colour{});
}

// What has not escaped yet makes it somewhat too large.
TEST(MandelbrotJob, FindsTheKnownArea) {
  const ReportPicture picture = run_mandelbrot({{"size", "960x540"}, {"iterations", "3000"}});
  EXPECT_NEAR(value_of<double>(picture, "area"), 1.50659177, 0.004);
  EXPECT_EQ(value_of<double>(picture, "area_known"), 1.50659177);
  EXPECT_EQ(value_of<double>(picture, "area_error"),
            value_of<double>(picture, "area") - 1.50659177);
  // A view of a part has no known area.
  for (const char* centre : {"-0.2,0", "-0.75,0.3"}) {
    const ReportPicture part =
        run_mandelbrot({{"size", "16x9"}, {"centre", centre}, {"width", "2.9"}});
    EXPECT_EQ(part.values.size(), 4u);
  }
}

TEST(MandelbrotJob, RefusesWhatIsNoView) {
  const auto prepared = [](const char* name, const std::string& value) {
    const auto program = make_mandelbrot();
    auto set = program->options().find(name)->set(value);
    return error_of(set ? program->prepare() : set);
  };
  const auto refused = [&](const char* name, const std::string& value) {
    EXPECT_THAT(prepared(name, value),
                AllOf(HasSubstr(std::string("--") + name), Not(HasSubstr("\n"))))
        << value;
  };
  for (const char* size : {"", "10", "0x5", "5x0", "4x4x4", "4x", "x4", "-4x4", "5000x5000",
                           "4294967295x4294967295", "4 x4"}) {
    refused("size", size);
  }
  for (const char* centre : {"", "1", "1,", "nan,0", "0,inf", "1e7,0", "1,2,3", "a,b"}) {
    refused("centre", centre);
  }
  for (const char* width : {"0", "-1", "nan", "inf", "1e9", "1e-14"}) refused("width", width);
  for (const char* iterations : {"0", "-1", "1e10", "x"}) refused("iterations", iterations);
  EXPECT_EQ(prepared("size", "4096x4096"), "");
  EXPECT_EQ(prepared("width", "1e-10"), "");
}

}  // namespace
}  // namespace regroup

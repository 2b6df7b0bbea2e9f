// heat, held against what is known of its start: by how much a sine fades in a step of the scheme,
// and how fast the error against the equation itself shrinks.
#include <cmath>
#include <cstring>
#include <numbers>
#include <numeric>
#include <random>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "jobs/colour_map.hpp"
#include "jobs/grid_input.hpp"
#include "jobs/sample_jobs.hpp"
#include "tests/jobs/error_of.hpp"
#include "tests/jobs/temporary_folder.hpp"
#include "tests/jobs/threaded_run.hpp"
#include "tests/png_file.hpp"

namespace regroup {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using Options = ProgramRun::Set;

ReportPicture run_heat(const Options& options, std::uint32_t ranks = 1) {
  JobRegistry jobs;
  add_heat(jobs);
  return run_threaded(jobs, "heat", options, {}, ranks);
}

TEST(HeatJob, HasTheSameBitsOnAnyRanks) {
  for (const Options& options :
       {Options{{"grid", "40x30"}, {"steps", "50"}, {"blocks", "12"}},
        Options{{"grid", "12x10x9"}, {"steps", "20"}, {"blocks", "18"}, {"start", "spot"}}}) {
    const ReportPicture alone = run_heat(options);
    ASSERT_EQ(alone.values.size(), 8u);
    for (const std::uint32_t ranks : {2u, 3u}) EXPECT_EQ(run_heat(options, ranks), alone);
  }
}

TEST(HeatJob, TheCutChangesNoTemperature) {
  for (const char* grid : {"31x17", "9x11x7"}) {
    Options options{{"grid", grid}, {"steps", "40"}, {"blocks", "1"}, {"start", "spot"}};
    const ReportPicture whole = run_heat(options);
    for (const char* blocks : {"2", "6", "21"}) {
      options[2].second = blocks;
      const ReportPicture cut = run_heat(options);
      for (const char* name : {"least", "greatest", "error_max"}) {
        EXPECT_EQ(value_of<double>(cut, name), value_of<double>(whole, name))
            << name << " of " << grid;
      }
      EXPECT_NEAR(value_of<double>(cut, "mean"), value_of<double>(whole, "mean"), 1e-14);
    }
  }
}

TEST(HeatJob, StepsAtOnceChangeNothing) {
  for (const char* grid : {"31x27", "12x13x14"}) {
    Options options{{"grid", grid},
                    {"steps", "23"},
                    {"blocks", "1"},
                    {"start", "spot"},
                    {"steps-at-once", "1"}};
    for (const char* blocks : {"1", "2", "6", "8"}) {
      options[2].second = blocks;
      options[4].second = "1";
      const ReportPicture single = run_heat(options);
      for (const char* at_once : {"2", "3", "4"}) {
        options[4].second = at_once;
        EXPECT_EQ(run_heat(options, 2), single) << grid << ", " << blocks << ", " << at_once;
      }
    }
  }
}

// ---- The picture ----

Colour colour_at(const ReportPicture& picture, std::size_t pixel) {
  Colour colour{};
  std::memcpy(colour.data(), picture.arrays.at(0).elements.data() + 3 * pixel, colour.size());
  return colour;
}

TEST(HeatJob, ThePictureShowsEachCell) {
  const ReportPicture picture =
      run_heat({{"grid", "7x5"}, {"steps", "3"}, {"blocks", "1"}, {"start", "sine"}});
  ASSERT_EQ(picture.arrays.size(), 2u);
  EXPECT_EQ(picture.arrays[0].array, (ResultArray{"heat", ElementType::kUint8, {5, 7, 3}, true}));
  // A product of half waves at all times.
  const auto wave = [](double i, double n) { return std::sin(std::numbers::pi * i / (n + 1)); };
  const double least = wave(1, 7) * wave(1, 5);
  for (std::size_t pixel = 0; pixel < 35; ++pixel) {
    const double x = static_cast<double>(pixel % 7) + 1;
    const double y = static_cast<double>(pixel / 7) + 1;
    const Colour expected = viridis((wave(x, 7) * wave(y, 5) - least) / (1 - least));
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_NEAR(colour_at(picture, pixel)[i], expected[i], 1) << "pixel " << pixel;
    }
  }
}

TEST(HeatJob, OfASolidThePictureShowsTheMiddlePlane) {
  const ReportPicture picture = run_heat({{"grid", "7x5x9"}, {"steps", "3"}, {"blocks", "6"}});
  EXPECT_EQ(picture.arrays.at(0).array.shape, (std::vector<std::uint64_t>{5, 7, 3}));
  EXPECT_EQ(colour_at(picture, 2 * 7 + 3), viridis(1)) << "the hottest cell";
}

// Nor do blocks smaller than a pixel, and planes in which a block has no part.
TEST(HeatJob, TheCutChangesNoPixel) {
  for (const char* grid : {"31x17", "17x31", "9x11x7", "2100x6", "5x1025", "1100x3x4"}) {
    Options options{{"grid", grid}, {"steps", "5"}, {"blocks", "1"}, {"start", "spot"}};
    const ReportPicture whole = run_heat(options);
    for (const char* blocks : {"2", "6", "12"}) {
      options[2].second = blocks;
      EXPECT_EQ(run_heat(options).arrays, whole.arrays) << grid << " in " << blocks;
    }
  }
  const auto size = [](const char* grid) {
    return run_heat({{"grid", grid}, {"steps", "0"}, {"blocks", "2"}}).arrays.at(0).array.shape;
  };
  EXPECT_THAT(size("1024x6"), ElementsAre(6, 1024, 3));
  EXPECT_THAT(size("1025x6"), ElementsAre(3, 513, 3));
  EXPECT_THAT(size("2100x7"), ElementsAre(3, 700, 3));
  EXPECT_THAT(size("3x2x2000"), ElementsAre(2, 3, 3));
}

// A half wave along each axis is an eigenfunction of the scheme. With an odd number of cells one
// is at its crest.
TEST(HeatJob, ASineFadesByItsFactorEachStep) {
  const std::array<std::pair<const char*, std::vector<double>>, 2> grids = {
      {{"31x15", {31, 15}}, {"15x7x11", {15, 7, 11}}}};
  for (const auto& [grid, cells] : grids) {
    const ReportPicture picture = run_heat({{"grid", grid}, {"steps", "100"}, {"blocks", "4"}});
    const double number = 0.9 / (2 * static_cast<double>(cells.size()));
    double factor = 1;
    for (const double n : cells) {
      const double sine = std::sin(std::numbers::pi / (2 * (n + 1)));
      factor -= 4 * number * sine * sine;
    }
    EXPECT_NEAR(value_of<double>(picture, "greatest") / std::pow(factor, 100), 1, 1e-12) << grid;
    EXPECT_GT(value_of<double>(picture, "least"), 0);
  }
}

TEST(HeatJob, TheErrorShrinksWithTheSquareOfTheSpacing) {
  const auto error = [](const char* grid, const char* steps, const char* start) {
    return value_of<double>(run_heat({{"grid", grid}, {"steps", steps}, {"start", start}}),
                            "error_max");
  };
  EXPECT_NEAR(error("31x31", "40", "sine") / error("63x63", "160", "sine"), 4, 0.1);
  EXPECT_NEAR(error("15x15x15", "20", "sine") / error("31x31x31", "80", "sine"), 4, 0.2);
  EXPECT_NEAR(error("127x127", "80", "spot") / error("255x255", "320", "spot"), 4, 0.3);
}

// ---- The field ----

std::vector<double> field_of(const ReportPicture& picture) {
  std::vector<double> field(picture.arrays.at(1).elements.size() / sizeof(double));
  std::memcpy(field.data(), picture.arrays[1].elements.data(), picture.arrays[1].elements.size());
  return field;
}

// At step 0 it is the start: a half wave along each axis.
TEST(HeatJob, KeepsTheWholeField) {
  for (const char* blocks : {"1", "4", "12"}) {
    const ReportPicture picture =
        run_heat({{"grid", "7x5x4"}, {"steps", "0"}, {"blocks", blocks}}, 2);
    EXPECT_EQ(picture.arrays.at(1).array,
              (ResultArray{"temperature", ElementType::kFloat64, {4, 5, 7}}));
    const std::vector<double> field = field_of(picture);
    const auto wave = [](std::size_t i, double n) {
      return std::sin(std::numbers::pi * static_cast<double>(i + 1) / (n + 1));
    };
    for (std::size_t i = 0; i < field.size(); ++i) {
      EXPECT_NEAR(field[i], wave(i % 7, 7) * wave(i / 7 % 5, 5) * wave(i / 35, 4), 1e-14) << i;
    }
  }
}

TEST(HeatJob, KeepsTheFieldWhereItIsAskedTo) {
  const auto arrays = [](const char* grid, const char* field) {
    return run_heat({{"grid", grid}, {"steps", "0"}, {"field", field}}).arrays.size();
  };
  EXPECT_EQ(arrays("40x30", "no"), 1u);
  EXPECT_EQ(arrays("40x30", "yes"), 2u);
  EXPECT_EQ(arrays("4100x4100", "auto"), 1u) << "more than 2^24 cells";
}

// ---- A start from a file ----

// Noise, as a picture.
std::string noise(std::uint32_t width, std::uint32_t height) {
  std::mt19937 random(width);
  std::string pixels(std::size_t{width} * height, '\0');
  for (char& pixel : pixels) pixel = static_cast<char>(random());
  return test::png_file({.width = width, .height = height}, pixels);
}

TEST(HeatJob, TakesItsStartFromAPicture) {
  const TemporaryFolder folder;
  const std::string file = folder.write("start.png", noise(19, 13));
  const auto input = GridInput::open(file).value();
  const kernels::StencilShape shape{19, 13, 0};
  std::vector<double> now(kernels::block_cells(shape));
  std::vector<double> next(now.size());
  ASSERT_TRUE(input.read({}, shape, [&](std::size_t y, std::size_t, std::span<const double> row) {
    std::ranges::copy(row, now.begin() + static_cast<std::ptrdiff_t>(kernels::cell_index(
                                             shape, 0, static_cast<std::ptrdiff_t>(y))));
  }));
  for (int step = 0; step < 7; ++step) {
    kernels::reference::diffuse(shape, {0.225, 0.225, 0}, kernels::whole_box(shape), now, next);
    std::swap(now, next);
  }

  const ReportPicture picture = run_heat({{"input", file}, {"steps", "7"}, {"blocks", "6"}}, 2);

  const std::vector<double> field = field_of(picture);
  for (std::size_t i = 0; i < field.size(); ++i) {
    const auto x = static_cast<std::ptrdiff_t>(i % 19);
    const auto y = static_cast<std::ptrdiff_t>(i / 19);
    EXPECT_NEAR(field[i], now[kernels::cell_index(shape, x, y)], 1e-12) << "cell " << i;
  }

  EXPECT_NEAR(value_of<double>(picture, "greatest"), std::ranges::max(now), 1e-12);
  EXPECT_NEAR(value_of<double>(picture, "mean"),
              std::accumulate(now.begin(), now.end(), 0.0) / (19 * 13), 1e-12);
  EXPECT_EQ(value_of<double>(picture, "start_mean"), input.range().mean);
  EXPECT_EQ(value_of<double>(picture, "start_least"), input.range().least);
  EXPECT_EQ(value_of<double>(picture, "start_greatest"), input.range().greatest);
  EXPECT_EQ(value_of<double>(picture, "beyond_range"), 0);
  for (const NamedValue& value : picture.values) EXPECT_THAT(value.name, Not(HasSubstr("error")));
  EXPECT_EQ(picture.arrays.at(0).array.shape, (std::vector<std::uint64_t>{13, 19, 3}));
}

TEST(HeatJob, OfAPictureTheCutChangesNoPixel) {
  const TemporaryFolder folder;
  Options options{{"input", folder.write("start.png", noise(40, 31))}, {"steps", "9"}};
  const ReportPicture usual = run_heat(options);
  for (const char* blocks : {"1", "5", "24"}) {
    Options cut = options;
    cut.emplace_back("blocks", blocks);
    const ReportPicture picture = run_heat(cut, 3);
    EXPECT_EQ(picture.arrays, usual.arrays);
    for (const char* name : {"least", "greatest", "start_mean"}) {
      EXPECT_EQ(value_of<double>(picture, name), value_of<double>(usual, name)) << name;
    }
  }
}

TEST(HeatJob, RefusesWhatIsNoGridOrNotStable) {
  JobRegistry jobs;
  add_heat(jobs);
  const auto refusal = [&](const Options& options) {
    const auto program = jobs.make("heat");
    for (const auto& [name, value] : options) {
      EXPECT_EQ(error_of(program->options().find(name)->set(value)), "");
    }
    return error_of(program->prepare());
  };
  EXPECT_EQ(refusal({}), "");
  EXPECT_EQ(refusal({{"time-step", "9.4e-7"}}), "");
  EXPECT_EQ(refusal({{"grid", "16384x16384"}, {"field", "yes"}}), "");
  EXPECT_THAT(refusal({{"grid", "16385x16384"}, {"field", "yes"}}),
              HasSubstr("--field yes: the grid has more than 268435456 cells"));
  EXPECT_THAT(refusal({{"grid", "16384x16384"}, {"field", "yes"}, {"blocks", "7"}}),
              HasSubstr("--field yes: a block has more than"));
  EXPECT_THAT(refusal({{"grid", "512"}}), HasSubstr("--grid: '512' is no grid"));
  EXPECT_THAT(refusal({{"grid", "3x3"}, {"blocks", "10"}}), HasSubstr("--blocks: a grid of 3x3"));
  EXPECT_EQ(refusal({{"grid", "9x40"}, {"blocks", "4"}, {"steps-at-once", "10"}}), "");
  EXPECT_THAT(refusal({{"grid", "9x40"}, {"blocks", "4"}, {"steps-at-once", "11"}}),
              HasSubstr("--steps-at-once: the thinnest block has 10 cells across"));
  EXPECT_THAT(refusal({{"time-step", "9.6e-7"}}),
              HasSubstr("--time-step 9.6e-07 is not stable: with this grid and diffusivity give at "
                        "most 9.49"));

  const TemporaryFolder folder;
  const std::string file = folder.write("start.png", noise(9, 4));
  EXPECT_EQ(refusal({{"input", file}}), "");
  EXPECT_EQ(refusal({{"input", file}, {"grid", "9x4"}}), "");
  EXPECT_THAT(refusal({{"input", file}, {"grid", "4x9"}}),
              HasSubstr("--grid 4x9 is not the size of --input"));
  EXPECT_THAT(refusal({{"input", file}, {"start", "spot"}}), HasSubstr("give one of them"));
  EXPECT_THAT(refusal({{"input", file}, {"blocks", "37"}}), HasSubstr("--blocks: a grid of 9x4"));
  EXPECT_THAT(refusal({{"input", folder.path("none")}}), HasSubstr("--input: "));
}

TEST(HeatJob, ASavedBlockThatIsCutShortIsRefused) {
  JobRegistry jobs;
  add_heat(jobs);
  const auto program = jobs.make("heat");
  ASSERT_EQ(error_of(program->options().find("grid")->set("8x8")), "");
  ASSERT_EQ(error_of(program->options().find("blocks")->set("4")), "");
  Buffer nothing;
  Reader reader(nothing.view());
  ASSERT_EQ(error_of(program->load(reader)), "");
  WorkResult result;
  WorkOrder order{.kind = WorkKind::kBegin, .shards = {ShardId{1}, 1}};
  const RankResources resources{};
  ASSERT_EQ(error_of(program->compute_cell(order, 1, resources, result)), "");
  Buffer saved;
  ASSERT_EQ(error_of(program->save_partition(StageId{0}, 1, saved)), "");
  ASSERT_EQ(saved.size(), 3 * 8 + 4 * 4 * sizeof(double));
  order.kind = WorkKind::kRestore;
  order.input = Buffer(saved.view());
  EXPECT_EQ(error_of(program->compute_cell(order, 1, resources, result)), "");
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{23}, saved.size() - 8}) {
    order.input = Buffer(saved.view().first(bytes));
    EXPECT_THROW((void)program->compute_cell(order, 1, resources, result), std::runtime_error);
  }
}

}  // namespace
}  // namespace regroup

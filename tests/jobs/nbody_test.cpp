// nbody, held against what is known of gravity: a polygon that turns, and a sphere in equilibrium.
#include <cmath>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "jobs/sample_jobs.hpp"
#include "tests/jobs/error_of.hpp"
#include "tests/jobs/threaded_run.hpp"

namespace regroup {
namespace {

using testing::HasSubstr;
using Options = ProgramRun::Set;

ReportPicture run_nbody(const Options& options, std::uint32_t ranks = 1) {
  JobRegistry jobs;
  add_nbody(jobs);
  return run_threaded(jobs, "nbody", options, {}, ranks);
}

TEST(NbodyJob, HasTheSameBitsOnAnyRanks) {
  const Options options{{"bodies", "100"}, {"steps", "20"}, {"blocks", "7"}};
  const ReportPicture alone = run_nbody(options);
  ASSERT_EQ(alone.arrays.size(), 2u);
  for (const std::uint32_t ranks : {2u, 3u}) EXPECT_EQ(run_nbody(options, ranks), alone);
}

// Sums are taken in another order, which is all that the cut may change.
TEST(NbodyJob, TheCutChangesNoMoreThanTheLastPlaces) {
  Options options{{"bodies", "60"}, {"steps", "10"}, {"blocks", "1"}};
  const ReportPicture whole = run_nbody(options);
  for (const char* blocks : {"2", "3", "60"}) {
    options[2].second = blocks;
    const ReportPicture cut = run_nbody(options, 2);
    EXPECT_NEAR(value_of<double>(cut, "energy"), value_of<double>(whole, "energy"), 1e-6) << blocks;
    EXPECT_NEAR(value_of<double>(cut, "energy_drift"), value_of<double>(whole, "energy_drift"),
                1e-6)
        << blocks;
  }
}

TEST(NbodyJob, APolygonTurnsAsItShould) {
  for (const char* bodies : {"2", "3", "7", "40"}) {
    const auto error = [&](const char* steps, const char* time_step) {
      return value_of<double>(run_nbody({{"bodies", bodies},
                                         {"steps", steps},
                                         {"time-step", time_step},
                                         {"start", "polygon"},
                                         {"softening", "0.1"},
                                         {"blocks", "2"}}),
                              "error_max");
    };
    EXPECT_EQ(error("0", "0.1"), 0) << bodies;
    const double coarse = error("20", "0.1");
    EXPECT_LT(coarse, 0.02) << bodies;
    EXPECT_NEAR(coarse / error("40", "0.05"), 4, 0.1)
        << "the scheme is of second order, " << bodies;
  }
}

TEST(NbodyJob, APlummerSphereIsInEquilibriumAndKeepsItsEnergy) {
  const ReportPicture picture =
      run_nbody({{"bodies", "2000"}, {"steps", "100"}, {"blocks", "4"}}, 2);
  EXPECT_NEAR(value_of<double>(picture, "energy"), -0.25, 0.02);
  EXPECT_NEAR(value_of<double>(picture, "virial_ratio"), 1, 0.05);
  EXPECT_LT(std::abs(value_of<double>(picture, "energy_drift")), 1e-4);
  EXPECT_LT(value_of<double>(picture, "momentum_change"), 1e-6);
  EXPECT_LT(value_of<double>(picture, "angular_momentum_change"), 1e-6);
}

TEST(NbodyJob, RefusesWhatCannotBe) {
  JobRegistry jobs;
  add_nbody(jobs);
  const auto refusal = [&](const Options& options) {
    const auto program = jobs.make("nbody");
    for (const auto& [name, value] : options) {
      if (auto error = error_of(program->options().find(name)->set(value)); !error.empty()) {
        return error;
      }
    }
    return error_of(program->prepare());
  };
  EXPECT_EQ(refusal({}), "");
  EXPECT_EQ(refusal({{"bodies", "3"}, {"blocks", "3"}}), "");
  EXPECT_THAT(refusal({{"bodies", "3"}, {"blocks", "4"}}), HasSubstr("cut into 4 blocks"));
  EXPECT_THAT(refusal({{"bodies", "0"}}), HasSubstr("bodies"));
  EXPECT_THAT(refusal({{"softening", "0"}}), HasSubstr("softening"));
  EXPECT_THAT(refusal({{"time-step", "nan"}}), HasSubstr("time-step"));
  EXPECT_THAT(refusal({{"time-step", "-1"}}), HasSubstr("time-step"));
  EXPECT_THAT(refusal({{"start", "polygon"}, {"bodies", "1048577"}}), HasSubstr("polygon"));
}

TEST(NbodyJob, ASavedBlockThatIsCutShortIsRefused) {
  JobRegistry jobs;
  add_nbody(jobs);
  const auto program = jobs.make("nbody");
  ASSERT_EQ(error_of(program->options().find("bodies")->set("10")), "");
  ASSERT_EQ(error_of(program->options().find("blocks")->set("2")), "");
  Buffer nothing;
  Reader reader(nothing.view());
  ASSERT_EQ(error_of(program->load(reader)), "");
  WorkResult result;
  WorkOrder order{.kind = WorkKind::kBegin, .shards = {ShardId{1}, 1}};
  const RankResources resources{};
  ASSERT_EQ(error_of(program->compute_cell(order, 1, resources, result)), "");
  Buffer saved;
  ASSERT_EQ(error_of(program->save_partition(StageId{0}, 1, saved)), "");
  order.kind = WorkKind::kRestore;
  order.input = Buffer(saved.view());
  EXPECT_EQ(error_of(program->compute_cell(order, 1, resources, result)), "");
  for (std::size_t bytes = 0; bytes < saved.size(); bytes += 7) {
    order.input = Buffer(saved.view().first(bytes));
    EXPECT_THROW((void)program->compute_cell(order, 1, resources, result), std::runtime_error);
  }
}

}  // namespace
}  // namespace regroup

// Whole clusters on virtual time, under every invariant that the protocol has so far.
#include <fstream>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/sim/scenario.hpp"
#include "tests/sim/soak.hpp"

namespace regroup {
void PrintTo(Policy policy, std::ostream* out) {
  *out << name_of(policy);
}
}  // namespace regroup

namespace regroup::sim {
namespace {

constexpr std::uint64_t kSeeds = REGROUP_SIM_SEEDS;
// So many seeds take every rare path.
constexpr std::uint64_t kSeedsOfEveryProbe = 1000;
constexpr unsigned kWorkers = 2;

TEST(Simulation, KeepsItsInvariantsOverManySeeds) {
  // One bug often shows in many seeds.
  const SoakSummary summary =
      soak({.first = 1, .last = kSeeds, .workers = kWorkers, .failures_max = 10});
  ASSERT_EQ(summary.failures, 0u) << "the commands that run them again are above";
  EXPECT_EQ(summary.seeds, kSeeds);
  if (kSeeds < kSeedsOfEveryProbe) return;
  for (std::size_t i = 0; i < kProbes; ++i) {  // I15
    EXPECT_GT(summary.probes.count(static_cast<Probe>(i)), 0u)
        << "never happened: " << kProbeNames[i];
  }
}

TEST(Simulation, KeepsItsInvariantsForSeedsThatOnceFailed) {
  std::ifstream list(REGROUP_REGRESSION_SEEDS);
  ASSERT_TRUE(list) << "cannot read " << REGROUP_REGRESSION_SEEDS;
  for (std::string line; std::getline(list, line);) {
    if (line.empty() || line.front() == '#') continue;
    const std::uint64_t seed = std::stoull(line);
    const Report report = run_scenario(draw_scenario(seed), Repeat::kOnce);
    EXPECT_FALSE(report.violation) << reproduce(seed) << "  # " << *report.violation;
  }
}

WorldOptions large_world(std::uint32_t ranks, Policy policy) {
  WorldOptions options;
  options.seed = ranks;
  options.ranks = ranks;
  options.vector_clocks = ranks <= kVectorClockRanksDefaultMax;
  options.schedule.policy = policy;
  options.network = {
      .spread = Spread::kExponential, .reorders = true, .duplicate = 0.02, .damage = 0.5};
  options.job = {.kind = JobKind::kSmallBag,
                 .seed = ranks,
                 .shards = 20ull * ranks,
                 .cost_spread = Spread::kHeavyTail,
                 .cost = 300 * kMicrosecond,
                 .flaky = 0.01,
                 .hopeless = 0.001};
  return options;
}

class LargeSimulation : public testing::TestWithParam<std::tuple<std::uint32_t, Policy>> {};

TEST_P(LargeSimulation, KeepsItsInvariants) {
  const auto [ranks, policy] = GetParam();
  const Report report = run_scenario(large_world(ranks, policy), Repeat::kOnce);
  EXPECT_FALSE(report.violation) << *report.violation;
}

// A few die, one of them while it sends; some stand still; some are not heard for a while.
FailureOptions failures_of_large_world() {
  FailureOptions failures;
  failures.witnesses = 0.01;
  failures.suspect_after = 5 * kMillisecond;
  failures.faults = {
      {.kind = Fault::Kind::kKill, .rank = RankId{7}, .at = 2 * kMillisecond},
      {.kind = Fault::Kind::kKillSending, .rank = RankId{33}, .at = 3 * kMillisecond},
      {.kind = Fault::Kind::kPause,
       .rank = RankId{20},
       .at = 3 * kMillisecond,
       .duration = 30 * kMillisecond},
  };
  RankSet others;
  for (std::uint32_t rank = 0; rank < 64; ++rank) others.insert(RankId{rank});
  others.erase(RankId{50});
  failures.partitions = {
      {RankSet{RankId{50}}, others, 4 * kMillisecond, 40 * kMillisecond},
  };
  return failures;
}

TEST_P(LargeSimulation, KeepsItsInvariantsUnderFaults) {
  const auto [ranks, policy] = GetParam();
  WorldOptions options = large_world(ranks, policy);
  options.failures = failures_of_large_world();
  const Report report = run_scenario(options, Repeat::kOnce);
  EXPECT_FALSE(report.violation) << *report.violation;
  EXPECT_GT(report.probes.count(Probe::kViewInstalled), 0u);
}

TEST(Simulation, KeepsItsInvariantsOverManyFaultsOf64Ranks) {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    const Overrides overrides{.ranks = 64, .policy = {}, .deaths_in_tree = false};
    const Report report = run_scenario(draw_scenario(seed, overrides), Repeat::kOnce);
    EXPECT_FALSE(report.violation) << reproduce(seed, overrides) << "  # " << *report.violation;
  }
}

// Ranks die that have others agree, in every phase.
TEST(Simulation, KeepsItsInvariantsWhenRanksOfTheTreeDie) {
  Probes probes;
  const auto run = [&](std::uint64_t seed, std::uint32_t ranks) {
    const Overrides overrides{.ranks = ranks, .policy = {}, .deaths_in_tree = true};
    const Report report = run_scenario(draw_scenario(seed, overrides), Repeat::kOnce);
    EXPECT_FALSE(report.violation) << reproduce(seed, overrides) << "  # " << *report.violation;
    probes.add(report.probes);
  };
  for (std::uint64_t seed = 1; seed <= 8; ++seed) run(seed, 64);
  for (std::uint64_t seed = 1; seed <= 100; ++seed) run(seed, 9);
  run(1, World::kRanksMax);
  EXPECT_GT(probes.count(Probe::kKilledInTree), 20u);
}

INSTANTIATE_TEST_SUITE_P(Ranks, LargeSimulation,
                         testing::Combine(testing::Values(64u, 1000u),
                                          testing::Values(Policy::kDynamic, Policy::kAffinity,
                                                          Policy::kStatic, Policy::kPeer)),
                         [](const auto& instance) {
                           return fmt::format("{}ranks_{}", std::get<0>(instance.param),
                                              name_of(std::get<1>(instance.param)));
                         });

TEST(Simulation, GivesEveryTraceItsOwnHash) {
  const Report one = run_scenario(draw_scenario(1), Repeat::kOnce);
  const Report other = run_scenario(draw_scenario(2), Repeat::kOnce);
  EXPECT_NE(one.trace_hash, other.trace_hash);
}

}  // namespace
}  // namespace regroup::sim

// Whole clusters on virtual time, under every invariant that the protocol has so far.
#include <fstream>
#include <string>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/sim/scenario.hpp"

namespace regroup {
void PrintTo(Policy policy, std::ostream* out) {
  *out << name_of(policy);
}
}  // namespace regroup

namespace regroup::sim {
namespace {

constexpr std::uint64_t kSeeds = 1000;

// At most this many failures are printed; one bug often shows in many seeds.
constexpr int kFailuresMax = 10;

TEST(Simulation, KeepsItsInvariantsOverAThousandSeeds) {
  Probes probes;
  int failures = 0;
  for (std::uint64_t seed = 1; seed <= kSeeds && failures < kFailuresMax; ++seed) {
    const Report report = run_scenario(draw_scenario(seed), Repeat::kTwice);
    probes.add(report.probes);
    if (!report.violation) continue;
    ++failures;
    ADD_FAILURE() << reproduce(seed) << "  # " << *report.violation;
  }
  if (failures != 0) return;
  for (std::size_t i = 0; i < kProbes; ++i) {  // I15
    EXPECT_GT(probes.count(static_cast<Probe>(i)), 0u) << "never happened: " << kProbeNames[i];
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

// Proof that the simulator finds what it claims to find: each bug that is planted in the protocol
// or the scheduler breaks, within so many seeds, the invariant that it ought to break. This program
// links the second copy of both, in which bugs can be turned on.
#include "runtime/protocol/planted.hpp"

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>

#include <gtest/gtest.h>

#include "tests/sim/scenario.hpp"

namespace regroup::sim {
namespace {

constexpr std::uint64_t kSeedsMax = 10'000;

struct Planted {
  PlantedBug bug;
  std::string_view invariant;  // how the violation begins
  bool deaths_in_tree = false;
};

constexpr Planted kPlanted[] = {
    {PlantedBug::kVoteTwice, "I2 "},        {PlantedBug::kForgetAccepted, "I2 "},
    {PlantedBug::kIgnoreAccepted, "I5 "},   {PlantedBug::kSkipFence, "I5 "},
    {PlantedBug::kQuorumTooSmall, "I5 "},   {PlantedBug::kSuspicionIsDeath, "I5 "},
    {PlantedBug::kAdoptOldView, "I3 "},     {PlantedBug::kDeliverOldEpoch, "I6 "},
    {PlantedBug::kDeliverRevoked, "I6 "},   {PlantedBug::kDeliverDuplicates, "I7 "},
    {PlantedBug::kLoseEarlyFrame, "I7 "},   {PlantedBug::kIgnoreStamps, "I10 "},
    {PlantedBug::kKeepVectorBase, "I10 "},  {PlantedBug::kIgnoreStalls, "I13 "},
    {PlantedBug::kCommitTwice, "I7 "},      {PlantedBug::kWrongValue, "I8 "},
    {PlantedBug::kReuseAttempt, "I9 "},     {PlantedBug::kRetryForever, "I12 "},
    {PlantedBug::kKeepLeases, "I9 "},       {PlantedBug::kTakeTwice, "I7 "},
    {PlantedBug::kCountLost, "I8 "},        {PlantedBug::kReportBeforeParts, "I8 "},
    {PlantedBug::kAcknowledgeEarly, "I7 "}, {PlantedBug::kSkipCatchUp, "I7 "},
    {PlantedBug::kLoseRecords, "I7 "},      {PlantedBug::kSaveUsedUpState, "I8 "},
    {PlantedBug::kPutTwice, "I7 "},         {PlantedBug::kAnswerEarly, "I7 "},
    {PlantedBug::kReadAlone, "I7 "},        {PlantedBug::kIgnoreDeafness, "I13 "},
    {PlantedBug::kAnswerForOthers, "I2 "},  {PlantedBug::kForgetMerged, "I2 ", true},
    {PlantedBug::kSealUntold, "I11 "},      {PlantedBug::kLoseRestored, "I8 "},
    {PlantedBug::kKeepOldWrites, "I7 "},    {PlantedBug::kKeepHalfCopy, "I8 "},
    {PlantedBug::kClaimMore, "I8 "},        {PlantedBug::kSkipBulkHash, "I7 "},
    {PlantedBug::kKeepBulk, "I6 "},         {PlantedBug::kIgnoreBulkStalls, "I13 "},
    {PlantedBug::kKeepDeadLinks, "I13 "},   {PlantedBug::kMissHalo, "I8 "},
    {PlantedBug::kUseOldTotals, "I8 "},     {PlantedBug::kAddAsTheyCome, "I8 "},
    {PlantedBug::kGoBackUnevenly, "I8 "},
};
static_assert(std::size(kPlanted) == kPlantedBugNames.size() - 1, "a bug without a line here");

void PrintTo(const Planted& planted, std::ostream* out) {
  *out << name_of(planted.bug);
}

class PlantedBugs : public testing::TestWithParam<Planted> {
 protected:
  void TearDown() override { planted_bug = PlantedBug::kNone; }
};

TEST_P(PlantedBugs, AreFound) {
  planted_bug = GetParam().bug;
  for (std::uint64_t seed = 1; seed <= kSeedsMax; ++seed) {
    const Overrides overrides{.deaths_in_tree = GetParam().deaths_in_tree};
    const Report report = run_scenario(draw_scenario(seed, overrides), Repeat::kOnce);
    if (!report.violation || !report.violation->starts_with(GetParam().invariant)) continue;
    RecordProperty("seeds", static_cast<int>(seed));
    std::printf("%s: found by seed %llu: %s\n", std::string(name_of(planted_bug)).c_str(),
                static_cast<unsigned long long>(seed), report.violation->c_str());
    return;
  }
  ADD_FAILURE() << "no seed breaks " << GetParam().invariant << "with " << name_of(GetParam().bug);
}

INSTANTIATE_TEST_SUITE_P(Each, PlantedBugs, testing::ValuesIn(kPlanted), [](const auto& instance) {
  std::string name(name_of(instance.param.bug));
  std::ranges::replace(name, '-', '_');
  return name;
});

TEST(PlantedBugs, AreOffUnlessTurnedOn) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const Report report = run_scenario(draw_scenario(seed), Repeat::kOnce);
    EXPECT_FALSE(report.violation) << *report.violation;
  }
}

}  // namespace
}  // namespace regroup::sim

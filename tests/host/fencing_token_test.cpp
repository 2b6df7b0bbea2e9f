// Fencing tokens as files: made once, the same for all who look, and telling a coordinator that
// others have gone on.
#include "runtime/host/fencing_token.hpp"

#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using test::names_in;
using test::ScratchDirectory;
using testing::ElementsAre;
using Drafts = FencingTokens::Drafts;

FenceRequest request(std::uint64_t epoch, std::string_view content) {
  return {Epoch{epoch}, Buffer(std::as_bytes(std::span(content)))};
}
std::string content_of(const FenceAnswer& answer) {
  if (!answer.content) return "(none)";
  return {reinterpret_cast<const char*>(answer.content->data()), answer.content->size()};
}

class FencingTokensByDraft : public testing::TestWithParam<Drafts> {};

TEST_P(FencingTokensByDraft, TheFirstContentStays) {
  const ScratchDirectory scratch;
  const FencingTokens tokens(scratch.path() / "views", "run", FencingTokens::Readers::kThisNode,
                             GetParam());
  const FencingTokens others(scratch.path() / "views", "run", FencingTokens::Readers::kOtherNodes,
                             GetParam());
  EXPECT_EQ(content_of(tokens.take(request(2, "ours"))), "ours");
  EXPECT_EQ(content_of(others.take(request(2, "theirs"))), "ours");
  EXPECT_EQ(content_of(tokens.take(request(2, "ours again"))), "ours");
  EXPECT_EQ(others.take(request(2, "theirs")).epoch, Epoch{2});
  EXPECT_EQ(content_of(others.take(request(3, "theirs"))), "theirs");
  EXPECT_THAT(names_in(scratch.path() / "views"), ElementsAre("run-2.view", "run-3.view"))
      << "and no drafts";
}

INSTANTIATE_TEST_SUITE_P(Drafts, FencingTokensByDraft,
                         testing::Values(Drafts::kNameless, Drafts::kNamed));

TEST(FencingTokens, OfTwoAtOnceOneIsTheFirst) {
  constexpr std::uint64_t kEpochs = 50;
  const ScratchDirectory scratch;
  std::vector<std::string> seen[2];
  const auto race = [&](int who, const std::string& run_directory) {
    const FencingTokens tokens(run_directory, "run", FencingTokens::Readers::kThisNode,
                               who == 0 ? Drafts::kNameless : Drafts::kNamed);
    for (std::uint64_t epoch = 1; epoch <= kEpochs; ++epoch) {
      seen[who].push_back(content_of(tokens.take(request(epoch, who == 0 ? "one" : "another"))));
    }
  };
  std::thread other(race, 1, scratch.path().string());
  race(0, scratch.path().string());
  other.join();
  EXPECT_EQ(seen[0], seen[1]);
}

TEST(FencingTokens, WhereNoneCanBeMadeThereIsNoAnswer) {
  const ScratchDirectory scratch;
  test::write_file(scratch.path() / "views", "a file, where the directory should be");
  const FencingTokens tokens(scratch.path() / "views", "run", FencingTokens::Readers::kThisNode);
  EXPECT_FALSE(tokens.take(request(2, "ours")).content);
  EXPECT_FALSE(tokens.superseded(Epoch{1}));
}

// ---- who may seal ----

TEST(FencingTokens, ACoordinatorIsSupersededWhenTheTokenAfterItsEpochIsTaken) {
  const ScratchDirectory scratch;
  const FencingTokens tokens(scratch.path() / "views", "run", FencingTokens::Readers::kThisNode);
  const FencingTokens others(scratch.path() / "views", "run", FencingTokens::Readers::kThisNode);
  EXPECT_FALSE(tokens.superseded(Epoch{1})) << "there is not even a directory";
  tokens.take(request(2, "ours"));
  EXPECT_FALSE(tokens.superseded(Epoch{2})) << "the token of its own epoch is what it stands on";
  EXPECT_TRUE(tokens.superseded(Epoch{1}));
  others.take(request(3, "theirs"));
  EXPECT_TRUE(tokens.superseded(Epoch{2}));
  EXPECT_FALSE(others.superseded(Epoch{3}));
}

TEST(FencingTokens, ALaunchThatBeginsSupersedesThoseBeforeIt) {
  const ScratchDirectory scratch;
  const auto tokens_of = [&](const char* launch) {
    return FencingTokens(scratch.path() / "views", launch, FencingTokens::Readers::kOtherNodes);
  };
  const FencingTokens before = tokens_of("before");
  EXPECT_TRUE(before.begin());
  EXPECT_FALSE(before.superseded(Epoch{1}));
  EXPECT_EQ(content_of(before.take(request(2, "ours"))), "ours");

  const FencingTokens now = tokens_of("now");
  EXPECT_TRUE(now.begin());
  EXPECT_FALSE(now.superseded(Epoch{1}));
  EXPECT_TRUE(before.superseded(Epoch{2}));
  EXPECT_EQ(content_of(before.take(request(3, "ours"))), "(none)");
  EXPECT_EQ(content_of(before.take(request(2, "ours"))), "(none)");
  EXPECT_EQ(content_of(now.take(request(2, "theirs"))), "theirs");
  EXPECT_THAT(names_in(scratch.path() / "views"),
              ElementsAre("before-2.view", "newest", "now-2.view"));
}

TEST(FencingTokens, ThoseOfAnotherRunSupersedeNobody) {
  const ScratchDirectory scratch;
  const FencingTokens before(scratch.path(), "before", FencingTokens::Readers::kThisNode);
  const FencingTokens now(scratch.path(), "now", FencingTokens::Readers::kThisNode);
  before.take(request(2, "of an earlier launch"));
  EXPECT_FALSE(now.superseded(Epoch{1}));
  EXPECT_EQ(content_of(now.take(request(2, "ours"))), "ours");
}

}  // namespace
}  // namespace regroup

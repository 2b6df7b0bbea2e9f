// Doorbell: who is rung, and who is not.
#include "runtime/host/doorbell.hpp"

#include <array>
#include <optional>

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

namespace regroup {
namespace {

constexpr RankId kFirst{0};
constexpr RankId kSecond{1};
constexpr RankId kThird{2};
constexpr std::array<std::uint32_t, 2> kNear{0, 1};  // the third is of another node

// Of no other process of this machine.
std::uint64_t own_run() {
  return static_cast<std::uint64_t>(getpid()) << 32;
}

Doorbell hang(RankId rank, std::uint64_t run = own_run()) {
  auto bell = Doorbell::open(run, rank, kNear);
  EXPECT_TRUE(bell) << bell.error();
  return std::move(*bell);
}

bool is_readable(const Doorbell& bell) {
  pollfd source{bell.fd(), POLLIN, 0};
  return poll(&source, 1, 0) == 1;
}

TEST(Doorbell, ARingIsHeardOnceHoweverOftenItWasRung) {
  const Doorbell first = hang(kFirst);
  const Doorbell second = hang(kSecond);
  EXPECT_FALSE(second.answer());
  for (int i = 0; i < 3; ++i) first.ring(kSecond);
  EXPECT_TRUE(is_readable(second));
  EXPECT_TRUE(second.answer());
  EXPECT_FALSE(is_readable(second));
  EXPECT_FALSE(second.answer());
  EXPECT_FALSE(is_readable(first));
}

TEST(Doorbell, WhoIsOfAnotherNodeIsNotRung) {
  const Doorbell first = hang(kFirst);
  const Doorbell third = hang(kThird);
  first.ring(kThird);
  EXPECT_FALSE(third.answer());
}

TEST(Doorbell, RunsDoNotRingEachOther) {
  const Doorbell first = hang(kFirst);
  const Doorbell other = hang(kSecond, own_run() + 1);
  first.ring(kSecond);
  EXPECT_FALSE(other.answer());
}

TEST(Doorbell, WhoNeverAnswersHoldsNobodyUp) {
  const Doorbell first = hang(kFirst);
  const Doorbell second = hang(kSecond);
  for (int i = 0; i < 10'000; ++i) first.ring(kSecond);
  EXPECT_TRUE(second.answer());
}

TEST(Doorbell, WhoIsGoneCannotBeRungAndItsPlaceIsFree) {
  const Doorbell first = hang(kFirst);
  (void)hang(kSecond);
  first.ring(kSecond);
  EXPECT_FALSE(hang(kSecond).answer());
}

TEST(Doorbell, APlaceThatIsTakenIsAnError) {
  const Doorbell first = hang(kFirst);
  const auto again = Doorbell::open(own_run(), kFirst, kNear);
  ASSERT_FALSE(again);
  EXPECT_TRUE(again.error().starts_with("cannot name a socket: ")) << again.error();
}

}  // namespace
}  // namespace regroup

// LinkReceiver and LinkSender: exactly the frames that were sent, each once, in order, whatever the
// network does with order and copies; bounded; and messages in parts come whole or not at all.
#include "runtime/protocol/link.hpp"

#include <algorithm>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace regroup {
namespace {

using Verdict = LinkReceiver::Verdict;
using Assembly = LinkReceiver::Assembly;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string text_of(const Buffer& buffer) {
  return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};
}

// Feeds a frame whose bytes are its number, and appends the numbers of all that come out.
Verdict feed(LinkReceiver& link, std::uint64_t sequence, std::vector<std::uint64_t>& delivered) {
  const std::string text = std::to_string(sequence);
  const Verdict verdict = link.accept(sequence, bytes_of(text));
  if (verdict != Verdict::kDeliver) return verdict;
  delivered.push_back(sequence);
  for (Buffer early; link.take_early(early);) delivered.push_back(std::stoull(text_of(early)));
  return verdict;
}

std::vector<std::uint64_t> one_to(std::uint64_t last) {
  std::vector<std::uint64_t> numbers(last);
  std::iota(numbers.begin(), numbers.end(), 1);
  return numbers;
}

// ---- order ----

TEST(Link, DeliversInOrderTrafficAtOnce) {
  LinkReceiver link;
  std::vector<std::uint64_t> delivered;
  for (std::uint64_t i = 1; i <= 5; ++i) {
    EXPECT_EQ(feed(link, i, delivered), Verdict::kDeliver);
    EXPECT_FALSE(link.stalled());
  }
  EXPECT_EQ(delivered, one_to(5));
}

TEST(Link, HoldsEarlyFramesUntilTheGapFills) {
  LinkReceiver link;
  std::vector<std::uint64_t> delivered;
  EXPECT_EQ(feed(link, 3, delivered), Verdict::kEarly);
  EXPECT_EQ(feed(link, 2, delivered), Verdict::kEarly);
  EXPECT_TRUE(link.stalled());
  EXPECT_TRUE(delivered.empty());

  EXPECT_EQ(feed(link, 1, delivered), Verdict::kDeliver);

  EXPECT_EQ(delivered, one_to(3));
  EXPECT_FALSE(link.stalled());
}

TEST(Link, DropsCopiesOfDeliveredAndOfHeldFrames) {
  LinkReceiver link;
  std::vector<std::uint64_t> delivered;
  feed(link, 1, delivered);
  feed(link, 3, delivered);
  EXPECT_EQ(feed(link, 1, delivered), Verdict::kDuplicate);
  EXPECT_EQ(feed(link, 3, delivered), Verdict::kDuplicate);
  EXPECT_EQ(feed(link, 0, delivered), Verdict::kDuplicate) << "numbers begin with 1";
  feed(link, 2, delivered);
  EXPECT_EQ(delivered, one_to(3));
}

TEST(Link, AnyPermutationWithCopiesDeliversExactlyInOrder) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 200; ++round) {
    const std::uint64_t frames = 1 + random() % 60;
    std::vector<std::uint64_t> arrivals = one_to(frames);
    for (std::uint64_t copies = random() % 40; copies-- > 0;) {
      arrivals.push_back(1 + random() % frames);
    }
    std::ranges::shuffle(arrivals, random);
    LinkReceiver link;
    std::vector<std::uint64_t> delivered;
    for (const std::uint64_t sequence : arrivals) feed(link, sequence, delivered);
    ASSERT_EQ(delivered, one_to(frames)) << "round " << round;
    ASSERT_FALSE(link.stalled());
  }
}

TEST(Link, TheStoreOfEarlyFramesIsBounded) {
  LinkReceiver link;
  std::vector<std::uint64_t> delivered;
  const std::uint64_t last = 1 + LinkReceiver::kEarlyFramesMax;
  for (std::uint64_t i = 2; i <= last; ++i) ASSERT_EQ(feed(link, i, delivered), Verdict::kEarly);

  EXPECT_EQ(feed(link, last + 1, delivered), Verdict::kOverflow);
  EXPECT_EQ(feed(link, 5, delivered), Verdict::kDuplicate) << "known frames are still recognised";
  EXPECT_EQ(feed(link, 1, delivered), Verdict::kDeliver) << "the one that is missing is let in";
  EXPECT_EQ(delivered, one_to(last));
  EXPECT_EQ(feed(link, last + 1, delivered), Verdict::kDeliver);
}

TEST(Link, TheCopyOfAnEarlyFrameIsItsOwn) {
  LinkReceiver link;
  std::string text = "two";
  ASSERT_EQ(link.accept(2, bytes_of(text)), Verdict::kEarly);
  text = "gone";
  ASSERT_EQ(link.accept(1, bytes_of(text)), Verdict::kDeliver);
  Buffer early;
  ASSERT_TRUE(link.take_early(early));
  EXPECT_EQ(text_of(early), "two");
  EXPECT_FALSE(link.take_early(early));
}

// ---- messages in parts ----

TEST(Link, PutsPartsTogetherInOrder) {
  LinkReceiver link;
  EXPECT_FALSE(link.assembling());
  EXPECT_EQ(link.assemble(MessageKind::kOpen, bytes_of("ab"), true), Assembly::kPartial);
  EXPECT_TRUE(link.assembling());
  EXPECT_EQ(link.assemble(MessageKind::kOpen, bytes_of(""), true), Assembly::kPartial);
  EXPECT_EQ(link.assemble(MessageKind::kOpen, bytes_of("c"), false), Assembly::kWhole);
  EXPECT_EQ(text_of(link.take_message()), "abc");
  EXPECT_FALSE(link.assembling());

  EXPECT_EQ(link.assemble(MessageKind::kLease, bytes_of("d"), false), Assembly::kWhole);
  EXPECT_EQ(text_of(link.take_message()), "d");
}

TEST(Link, AMessageBeyondTheBoundIsDroppedWholeAndTheNextIsWelcome) {
  LinkReceiver link(4);
  EXPECT_EQ(link.assemble(MessageKind::kOpen, bytes_of("abc"), true), Assembly::kPartial);
  EXPECT_EQ(link.assemble(MessageKind::kOpen, bytes_of("de"), true), Assembly::kPartial);
  EXPECT_EQ(link.assemble(MessageKind::kOpen, bytes_of("f"), true), Assembly::kPartial);
  EXPECT_TRUE(link.assembling());
  EXPECT_EQ(link.assemble(MessageKind::kOpen, bytes_of("g"), false), Assembly::kSpoiled);
  EXPECT_FALSE(link.assembling());

  EXPECT_EQ(link.assemble(MessageKind::kOpen, bytes_of("full"), false), Assembly::kWhole);
  EXPECT_EQ(text_of(link.take_message()), "full") << "the bound itself is allowed";
}

TEST(Link, ASpoiledPartSpoilsItsMessageOnly) {
  LinkReceiver link;
  link.assemble(MessageKind::kOpen, bytes_of("a"), true);
  link.spoil();
  EXPECT_EQ(link.assemble(MessageKind::kOpen, {}, true), Assembly::kPartial);
  EXPECT_EQ(link.assemble(MessageKind::kOpen, bytes_of("c"), false), Assembly::kSpoiled);

  link.spoil();  // the first part of the next one
  EXPECT_EQ(link.assemble(MessageKind::kOpen, {}, false), Assembly::kSpoiled);
  EXPECT_EQ(link.assemble(MessageKind::kOpen, bytes_of("d"), false), Assembly::kWhole);
  EXPECT_EQ(text_of(link.take_message()), "d");
}

TEST(Link, PartsOfDifferentKindsAreNoMessage) {
  LinkReceiver link;
  link.assemble(MessageKind::kResults, bytes_of("a"), true);
  EXPECT_EQ(link.assemble(MessageKind::kFinish, bytes_of("b"), false), Assembly::kSpoiled);
}

// ---- the sending end ----

TEST(LinkSender, AReceiverThatHasAllLacksNothing) {
  LinkSender link;
  EXPECT_EQ(link.acknowledge(0, 1 * kSecond), 0);
  EXPECT_EQ(link.next(), 1u);
  EXPECT_EQ(link.next(), 2u);
  EXPECT_EQ(link.acknowledge(2, 2 * kSecond), 0);
  EXPECT_EQ(link.acknowledge(2, 99 * kSecond), 0);
}

TEST(LinkSender, SaysForHowLongAFrameHasBeenLacking) {
  LinkSender link;
  link.next();
  link.next();
  EXPECT_EQ(link.acknowledge(1, 5 * kSecond), 0) << "the second may be under way";
  EXPECT_EQ(link.acknowledge(1, 8 * kSecond), 3 * kSecond);
  EXPECT_EQ(link.acknowledge(0, 9 * kSecond), 4 * kSecond) << "an old word, late";
}

// With traffic all the time the receiver is always behind, by other frames each time.
TEST(LinkSender, AReceiverThatIsBehindAndMovesOnIsNotLacking) {
  LinkSender link;
  for (std::uint64_t time = 1; time < 100; ++time) {
    link.next();
    link.next();
    EXPECT_LE(link.acknowledge(2 * time - 1, static_cast<Nanoseconds>(time) * kSecond), kSecond);
  }
}

TEST(LinkSender, CountsSilenceOnceItHasSent) {
  LinkSender link;
  EXPECT_EQ(link.count_silence(), 0u);
  link.next();
  EXPECT_EQ(link.count_silence(), 1u);
  EXPECT_EQ(link.count_silence(), 2u);
  link.hear();
  EXPECT_EQ(link.count_silence(), 1u);
}

}  // namespace
}  // namespace regroup

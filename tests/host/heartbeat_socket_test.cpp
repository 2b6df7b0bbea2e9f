// Heartbeat datagrams: what was sealed opens again, and nothing else does; over loopback, whatever
// is foreign, forged, replayed or meant for another is dropped and counted.
#include "runtime/host/heartbeat_socket.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <vector>

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sodium.h>
#include <sys/socket.h>

namespace regroup {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const Heartbeat kSample{RankId{3}, RankId{4}, HeartbeatKind::kObserve, 0x1122334455667788};

std::uint64_t count_of(const HeartbeatSocket& socket, HeartbeatError error) {
  return socket.traffic().dropped[static_cast<std::size_t>(error)];
}

// ---- one datagram ----

TEST(HeartbeatDatagram, OpensAsItWasSealed) {
  const RunSecret secret = make_run_secret();
  const auto opened = open_heartbeat(seal_heartbeat(kSample, secret), secret);
  ASSERT_TRUE(opened.has_value());
  EXPECT_EQ(opened->from, kSample.from);
  EXPECT_EQ(opened->to, kSample.to);
  EXPECT_EQ(opened->kind, kSample.kind);
  EXPECT_EQ(opened->counter, kSample.counter);
}

TEST(HeartbeatDatagram, LiesAsTheFormatPageSays) {
  const RunSecret secret = make_run_secret();
  const HeartbeatBytes bytes = seal_heartbeat(kSample, secret);
  const std::vector<std::uint8_t> expected{'R', 'G', 'H', 'B', 1, 2, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0};
  EXPECT_EQ(std::memcmp(bytes.data(), expected.data(), expected.size()), 0);
  EXPECT_EQ(std::memcmp(bytes.data() + 24, &kSample.counter, 8), 0);
  unsigned char code[crypto_auth_BYTES];
  crypto_auth(code, reinterpret_cast<const unsigned char*>(bytes.data()), 32,
              reinterpret_cast<const unsigned char*>(secret.data()));
  EXPECT_EQ(std::memcmp(bytes.data() + 32, code, 32), 0);
}

TEST(HeartbeatDatagram, NoFlippedBitGoesUnseen) {
  const RunSecret secret = make_run_secret();
  const HeartbeatBytes sealed = seal_heartbeat(kSample, secret);
  for (std::size_t bit = 0; bit < 8 * sealed.size(); ++bit) {
    HeartbeatBytes damaged = sealed;
    damaged[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    const auto opened = open_heartbeat(damaged, secret);
    ASSERT_FALSE(opened.has_value()) << "bit " << bit;
    const std::size_t byte = bit / 8;
    const HeartbeatError expected = byte < 4                  ? HeartbeatError::kForeign
                                    : byte == 4               ? HeartbeatError::kDatagramVersion
                                    : byte >= 16 && byte < 24 ? HeartbeatError::kOtherRun
                                                              : HeartbeatError::kForged;
    EXPECT_EQ(opened.error(), expected) << "bit " << bit;
  }
}

TEST(HeartbeatDatagram, NoOtherLengthIsRead) {
  const RunSecret secret = make_run_secret();
  const HeartbeatBytes sealed = seal_heartbeat(kSample, secret);
  std::vector<std::byte> bytes(sealed.begin(), sealed.end());
  bytes.push_back(std::byte{0});
  for (std::size_t length = 0; length <= bytes.size(); ++length) {
    const auto opened = open_heartbeat(std::span(bytes).first(length), secret);
    ASSERT_EQ(opened.has_value(), length == kHeartbeatBytes) << length;
    EXPECT_TRUE(opened || opened.error() == HeartbeatError::kLength) << length;
  }
}

TEST(HeartbeatDatagram, AnotherSecretIsAnotherRun) {
  const auto opened = open_heartbeat(seal_heartbeat(kSample, make_run_secret()), make_run_secret());
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error(), HeartbeatError::kOtherRun);
}

TEST(HeartbeatDatagram, AnUnknownKindIsRefusedThoughGenuine) {
  const RunSecret secret = make_run_secret();
  for (const int kind : {0, 5, 255}) {
    Heartbeat strange = kSample;
    strange.kind = static_cast<HeartbeatKind>(kind);
    const auto opened = open_heartbeat(seal_heartbeat(strange, secret), secret);
    ASSERT_FALSE(opened.has_value());
    EXPECT_EQ(opened.error(), HeartbeatError::kKind);
  }
}

TEST(HeartbeatDatagram, EverySecretAndEveryReasonIsItsOwn) {
  EXPECT_NE(make_run_secret(), make_run_secret());
  std::vector<std::string> texts;
  for (std::size_t error = 0; error < kHeartbeatErrors; ++error) {
    texts.emplace_back(describe(static_cast<HeartbeatError>(error)));
  }
  std::ranges::sort(texts);
  EXPECT_EQ(std::ranges::adjacent_find(texts), texts.end());
}

// ---- over loopback ----

// Rank 0 listens; the test plays ranks 1 and 2, and strangers, from one socket.
class HeartbeatSocketTest : public ::testing::Test {
 protected:
  struct Heard {
    RankId from;
    HeartbeatKind kind;
    bool operator==(const Heard&) const = default;
  };

  HeartbeatSocketTest()
      : listener_(*HeartbeatSocket::open(INADDR_LOOPBACK)),
        sender_(*HeartbeatSocket::open(INADDR_LOOPBACK)) {
    listener_.join(RankId{0}, peers(), secret_);
    sender_.join(RankId{1}, peers(), secret_);
  }

  std::vector<UdpAddress> peers() const {
    return {listener_.address(), sender_.address(), sender_.address()};
  }
  void send_raw(std::span<const std::byte> bytes) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(listener_.address().port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::sendto(sender_.fd(), bytes.data(), bytes.size(), 0,
                       reinterpret_cast<const sockaddr*>(&to), sizeof to),
              static_cast<ssize_t>(bytes.size()));
  }
  void send_sealed(const Heartbeat& heartbeat) { send_raw(seal_heartbeat(heartbeat, secret_)); }
  // Loopback delivers before the sender's call returns.
  std::vector<Heard> receive() {
    std::vector<Heard> heard;
    listener_.receive([&](RankId from, HeartbeatKind kind) { heard.push_back({from, kind}); });
    return heard;
  }

  RunSecret secret_ = make_run_secret();
  HeartbeatSocket listener_;
  HeartbeatSocket sender_;
};

TEST_F(HeartbeatSocketTest, HandsOnWhatWasSent) {
  EXPECT_THAT(receive(), IsEmpty()) << "nothing there must not block";
  sender_.send(RankId{0}, HeartbeatKind::kHeartbeat);
  sender_.send(RankId{0}, HeartbeatKind::kLeaving);
  EXPECT_THAT(receive(), ElementsAre(Heard{RankId{1}, HeartbeatKind::kHeartbeat},
                                     Heard{RankId{1}, HeartbeatKind::kLeaving}));
  EXPECT_EQ(sender_.traffic().sent, 2U);
  EXPECT_EQ(listener_.traffic().taken, 2U);
  EXPECT_EQ(listener_.traffic().dropped_total(), 0U);
}

TEST_F(HeartbeatSocketTest, ListensOnItsOwnAddressAlone) {
  sockaddr_in bound{};
  socklen_t length = sizeof bound;
  ASSERT_EQ(::getsockname(listener_.fd(), reinterpret_cast<sockaddr*>(&bound), &length), 0);
  EXPECT_EQ(ntohl(bound.sin_addr.s_addr), INADDR_LOOPBACK);
  EXPECT_EQ(ntohs(bound.sin_port), listener_.address().port);
}

TEST_F(HeartbeatSocketTest, AReplayedOrOvertakenDatagramIsDropped) {
  const auto heartbeat = [](std::uint32_t from, std::uint64_t counter) {
    return Heartbeat{RankId{from}, RankId{0}, HeartbeatKind::kHeartbeat, counter};
  };
  send_sealed(heartbeat(1, 7));
  send_sealed(heartbeat(1, 7));
  send_sealed(heartbeat(1, 6));
  send_sealed(heartbeat(2, 1));  // counters are each sender's own
  send_sealed(heartbeat(1, 9));
  send_sealed(heartbeat(1, 0));
  EXPECT_EQ(receive().size(), 3U);
  EXPECT_EQ(count_of(listener_, HeartbeatError::kReplayed), 3U);
}

TEST_F(HeartbeatSocketTest, ADroppedDatagramDoesNotMoveTheCounter) {
  HeartbeatBytes forged =
      seal_heartbeat({RankId{1}, RankId{0}, HeartbeatKind::kHeartbeat, ~std::uint64_t{0}}, secret_);
  forged.back() ^= std::byte{1};
  send_raw(forged);
  send_sealed({RankId{1}, RankId{2}, HeartbeatKind::kHeartbeat, 1'000});
  send_sealed({RankId{1}, RankId{0}, HeartbeatKind::kHeartbeat, 1});
  EXPECT_EQ(receive().size(), 1U);
}

TEST_F(HeartbeatSocketTest, WhatIsForAnotherOrFromNoPeerIsDropped) {
  send_sealed({RankId{1}, RankId{2}, HeartbeatKind::kHeartbeat, 1});
  send_sealed({RankId{0}, RankId{0}, HeartbeatKind::kHeartbeat, 2});
  send_sealed({RankId{3}, RankId{0}, HeartbeatKind::kHeartbeat, 3});
  send_sealed({RankId{~0U}, RankId{0}, HeartbeatKind::kHeartbeat, 4});
  EXPECT_THAT(receive(), IsEmpty());
  EXPECT_EQ(count_of(listener_, HeartbeatError::kStranger), 4U);
}

TEST_F(HeartbeatSocketTest, GarbageIsDroppedAndCounted) {
  std::mt19937_64 random(5);
  constexpr std::uint64_t kRounds = 200;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    std::vector<std::byte> bytes(round % 2 == 0 ? kHeartbeatBytes : random() % 1400);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    send_raw(bytes);
    EXPECT_THAT(receive(), IsEmpty());
  }
  EXPECT_EQ(listener_.traffic().dropped_total(), kRounds);
  EXPECT_EQ(listener_.traffic().taken, 0U);
}

TEST_F(HeartbeatSocketTest, APeerThatIsGoneIsNoError) {
  UdpAddress gone;
  { gone = HeartbeatSocket::open(INADDR_LOOPBACK)->address(); }
  auto socket = HeartbeatSocket::open(INADDR_LOOPBACK);
  socket->join(RankId{0}, {socket->address(), gone}, secret_);
  for (int i = 0; i < 3; ++i) {
    socket->send(RankId{1}, HeartbeatKind::kHeartbeat);
    EXPECT_EQ(socket->receive([](RankId, HeartbeatKind) {}), 0U);
  }
  EXPECT_EQ(socket->traffic().sent, 3U);
}

TEST(HeartbeatSocket, AnAddressOfAnotherMachineIsOneLine) {
  const auto socket = HeartbeatSocket::open(0xc6336401);  // 198.51.100.1, for documentation
  ASSERT_FALSE(socket.has_value());
  EXPECT_THAT(socket.error(), HasSubstr("cannot bind a socket for heartbeats on 198.51.100.1: "));
}

}  // namespace
}  // namespace regroup

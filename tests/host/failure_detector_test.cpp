// The failure detector on real processes: killed, stopped and leaving ones on loopback; and one
// detector alone, whose peers the test plays, for what strangers and odd kernels can do to it.
#include "runtime/host/failure_detector.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/host/forked_ranks.hpp"
#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using namespace std::chrono_literals;
using test::ForkedRanks;
using test::monotonic_now;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// The machine may be busy: the time for what must happen, and the silence that means something.
constexpr auto kDeadline = 20s;
constexpr Nanoseconds kSuspectAfter = 500 * kMillisecond;

PeerEvidence confirmed(std::uint32_t rank) {
  return {RankId{rank}, EvidenceKind::kConfirmed};
}
PeerEvidence suspected(std::uint32_t rank) {
  return {RankId{rank}, EvidenceKind::kSuspected};
}
PeerEvidence trusted(std::uint32_t rank) {
  return {RankId{rank}, EvidenceKind::kTrusted};
}

// Until every rank has heard from another.
void wait_for_start(ForkedRanks& ranks, std::uint32_t count) {
  for (std::uint32_t rank = 0; rank < count; ++rank) {
    std::uint64_t taken = 0;
    while (taken == 0) {
      ranks.ask_for_statistics(rank);
      const auto report = ranks.next(kDeadline);
      ASSERT_TRUE(report.has_value());
      ASSERT_EQ(report->what, ForkedRanks::What::kStatistics);
      taken = report->taken;
    }
  }
}

int forbidden_pidfd(std::int32_t) {
  errno = EPERM;
  return -1;
}

// The next so many reports are of this death.
void expect_confirmed(ForkedRanks& ranks, std::uint32_t dead, int reports) {
  for (int i = 0; i < reports; ++i) {
    const auto report = ranks.next(kDeadline);
    ASSERT_TRUE(report.has_value());
    EXPECT_EQ(report->evidence, confirmed(dead));
  }
}

// ---- processes ----

TEST(FailureDetectorProcesses, AKilledRankIsConfirmedByAllOthersAtOnce) {
  ForkedRanks ranks({.ranks = 4});
  wait_for_start(ranks, 4);

  const Nanoseconds killed = ranks.kill(2);

  std::vector<std::uint32_t> by;
  Nanoseconds latest = 0;
  for (int i = 0; i < 3; ++i) {
    const auto report = ranks.next(kDeadline);
    ASSERT_TRUE(report.has_value());
    EXPECT_EQ(report->evidence, confirmed(2));
    by.push_back(report->by.value);
    latest = std::max(latest, report->time - killed);
  }
  EXPECT_THAT(by, ::testing::UnorderedElementsAre(0, 1, 3));
  std::printf("the last of three knew after %.2f ms\n", static_cast<double>(latest) / kMillisecond);
  EXPECT_LT(latest, 100 * kMillisecond);

  // By its notice and by the pidfd, but of each death there is evidence once.
  ranks.kill(3);
  expect_confirmed(ranks, 3, 2);
}

TEST(FailureDetectorProcesses, WithoutNoticesPidfdsTell) {
  ForkedRanks ranks({.ranks = 3, .notices = ForkedRanks::Notices::kNone});
  wait_for_start(ranks, 3);

  ranks.kill(0);

  expect_confirmed(ranks, 0, 2);
}

TEST(FailureDetectorProcesses, WithoutPidfdsNoticesTell) {
  if (problem_with_death_notices()) GTEST_SKIP() << *problem_with_death_notices();
  ForkedRanks ranks({.ranks = 3, .pidfd = forbidden_pidfd});
  wait_for_start(ranks, 3);

  ranks.kill(0);

  expect_confirmed(ranks, 0, 2);
}

TEST(FailureDetectorProcesses, AStoppedRankIsSuspectedAndTrustedAgain) {
  ForkedRanks ranks({.ranks = 3, .period = 20 * kMillisecond, .suspect_after = kSuspectAfter});
  wait_for_start(ranks, 3);

  ranks.signal(1, SIGSTOP);
  const auto first = ranks.next(kDeadline);
  ranks.signal(1, SIGCONT);
  const auto second = ranks.next(kDeadline);

  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->by, RankId{2});
  EXPECT_EQ(first->evidence, suspected(1));
  EXPECT_EQ(second->by, RankId{2});
  EXPECT_EQ(second->evidence, trusted(1));
}

TEST(FailureDetectorProcesses, WithoutEitherSilenceTells) {
  ForkedRanks ranks({.ranks = 3,
                     .period = 20 * kMillisecond,
                     .suspect_after = kSuspectAfter,
                     .pidfd = forbidden_pidfd,
                     .notices = ForkedRanks::Notices::kNone});
  wait_for_start(ranks, 3);

  const Nanoseconds killed = ranks.kill(0);
  const auto report = ranks.next(kDeadline);

  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->evidence, suspected(0));
  std::printf("suspected after %.1f ms, with 500 ms of silence asked for\n",
              static_cast<double>(report->time - killed) / kMillisecond);
}

TEST(FailureDetectorProcesses, WhoLeavesAndEndsIsNeitherSuspectedNorConfirmed) {
  ForkedRanks ranks({.ranks = 4, .period = 20 * kMillisecond, .suspect_after = kSuspectAfter});
  wait_for_start(ranks, 4);

  ranks.ask_to_leave(1);
  const auto left = ranks.next(kDeadline);
  ASSERT_TRUE(left.has_value());
  EXPECT_EQ(left->what, ForkedRanks::What::kLeft);
  ranks.let_end(1);
  ranks.signal(3, SIGSTOP);  // it takes longer to be noticed than rank 1's absence would
  const auto report = ranks.next(kDeadline);

  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->by, RankId{0});
  EXPECT_EQ(report->evidence, suspected(3));
}

TEST(FailureDetectorProcesses, AllLeaveTogetherWithoutAWordAboutDeath) {
  ForkedRanks ranks({.ranks = 8});
  wait_for_start(ranks, 8);

  const Nanoseconds asked = monotonic_now();
  for (std::uint32_t rank = 0; rank < 8; ++rank) ranks.ask_to_leave(rank);

  for (std::uint32_t rank = 0; rank < 8; ++rank) {
    const auto report = ranks.next(kDeadline);
    ASSERT_TRUE(report.has_value());
    EXPECT_EQ(report->what, ForkedRanks::What::kLeft);
    ranks.let_end(report->by.value);
  }
  EXPECT_LT(monotonic_now() - asked, 10 * kSecond);
  EXPECT_FALSE(ranks.next(0ms).has_value());
}

TEST(FailureDetectorProcesses, LeavingDoesNotWaitForTheDead) {
  ForkedRanks ranks({.ranks = 3});
  wait_for_start(ranks, 3);
  ranks.kill(2);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(ranks.next(kDeadline).has_value());

  const Nanoseconds asked = monotonic_now();
  ranks.ask_to_leave(0);
  const auto report = ranks.next(kDeadline);

  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->what, ForkedRanks::What::kLeft);
  EXPECT_LT(report->time - asked, kSecond) << "that is how long it would wait for a living one";
}

// ---- one alone ----

// Rank 0 of two; the test is rank 1, in the same process.
class FailureDetectorAlone : public ::testing::Test {
 protected:
  FailureDetectorAlone()
      : own_socket_(*HeartbeatSocket::open(INADDR_LOOPBACK)),
        peer_(*HeartbeatSocket::open(INADDR_LOOPBACK)),
        peers_{own_address(own_socket_), own_address(peer_)} {
    options_.secret = make_run_secret();
  }

  void start() {
    peer_.join(RankId{1}, {peers_[0].udp, peers_[1].udp}, options_.secret);
    const auto take = [this](PeerEvidence evidence) {
      const std::lock_guard lock(mutex_);
      evidence_.push_back(evidence);
    };
    detector_.emplace(options_, std::move(own_socket_), peers_, take, std::move(notices_));
  }
  std::vector<PeerEvidence> evidence() {
    const std::lock_guard lock(mutex_);
    return evidence_;
  }
  template <class Condition>
  bool eventually(Condition condition) {
    const auto until = std::chrono::steady_clock::now() + kDeadline;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > until) return false;
      std::this_thread::yield();
    }
    return true;
  }
  std::uint64_t dropped(HeartbeatError error) {
    return detector_->statistics().traffic.dropped[static_cast<std::size_t>(error)];
  }
  void send_raw(std::span<const std::byte> bytes) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(peers_[0].udp.port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::sendto(peer_.fd(), bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&to),
             sizeof to);
  }

  FailureDetectorOptions options_;
  HeartbeatSocket own_socket_;
  HeartbeatSocket peer_;
  std::vector<PeerAddress> peers_;
  std::expected<NoticeBoard, std::string> notices_;
  std::mutex mutex_;
  std::vector<PeerEvidence> evidence_;
  std::optional<FailureDetector> detector_;
};

TEST_F(FailureDetectorAlone, BadDatagramsAreCountedAndNotBelieved) {
  start();
  const HeartbeatBytes genuine =
      seal_heartbeat({RankId{1}, RankId{0}, HeartbeatKind::kLeaving, 5}, make_run_secret());
  send_raw(genuine);
  ASSERT_TRUE(eventually([&] { return dropped(HeartbeatError::kOtherRun) == 1; }));

  HeartbeatBytes forged =
      seal_heartbeat({RankId{1}, RankId{0}, HeartbeatKind::kLeaving, 6}, options_.secret);
  forged[40] ^= std::byte{4};
  send_raw(forged);
  ASSERT_TRUE(eventually([&] { return dropped(HeartbeatError::kForged) == 1; }));

  const HeartbeatBytes replayed =
      seal_heartbeat({RankId{1}, RankId{0}, HeartbeatKind::kHeartbeat, 7}, options_.secret);
  send_raw(replayed);
  send_raw(replayed);
  ASSERT_TRUE(eventually([&] { return dropped(HeartbeatError::kReplayed) == 1; }));

  std::mt19937_64 random(3);
  for (int i = 0; i < 100; ++i) {
    std::vector<std::byte> garbage(random() % 200);
    for (std::byte& byte : garbage) byte = static_cast<std::byte>(random());
    send_raw(garbage);
  }
  ASSERT_TRUE(eventually([&] { return detector_->statistics().traffic.dropped_total() == 103; }));
  EXPECT_EQ(detector_->statistics().traffic.taken, 1U);

  // Rank 1 has not left, whatever was said in its name: its death still counts.
  detector_->confirm(RankId{1});
  ASSERT_TRUE(eventually([&] { return !evidence().empty(); }));
  EXPECT_THAT(evidence(), ElementsAre(confirmed(1)));
}

TEST_F(FailureDetectorAlone, APeerWithAnotherSecretIsSilent) {
  options_.period = 10 * kMillisecond;
  options_.suspect_after = 50 * kMillisecond;
  const RunSecret secret = options_.secret;
  options_.secret = make_run_secret();
  start();
  peer_.join(RankId{1}, {peers_[0].udp, peers_[1].udp}, secret);
  ASSERT_TRUE(eventually([&] {
    peer_.send(RankId{0}, HeartbeatKind::kHeartbeat);
    return !evidence().empty();
  }));
  EXPECT_THAT(evidence(), ElementsAre(suspected(1)));
  EXPECT_GT(dropped(HeartbeatError::kOtherRun), 0U);
}

TEST_F(FailureDetectorAlone, APeerThatDiedBeforeTheStartIsConfirmed) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  peers_[1].pid = child;
  start();
  ASSERT_TRUE(eventually([&] { return !evidence().empty(); }));
  EXPECT_THAT(evidence(), ElementsAre(confirmed(1)));
  EXPECT_THAT(detector_->limitation(), IsEmpty());
}

TEST_F(FailureDetectorAlone, AProcessIdThatIsAnotherProcessNowIsADeath) {
  peers_[1].started -= 1;
  start();
  ASSERT_TRUE(eventually([&] { return !evidence().empty(); }));
  EXPECT_THAT(evidence(), ElementsAre(confirmed(1)));
}

TEST_F(FailureDetectorAlone, ProcessesOfOtherHostsAreNotLookedAt) {
  int opened = 0;
  options_.pidfd = [&](std::int32_t) {
    ++opened;
    return forbidden_pidfd(0);
  };
  peers_[1].host.hostname += "-not";
  start();
  EXPECT_EQ(opened, 0);
  EXPECT_THAT(detector_->limitation(), IsEmpty());
}

TEST_F(FailureDetectorAlone, SaysWhenTheKernelDoesNotTell) {
  options_.pidfd = forbidden_pidfd;
  start();
  EXPECT_THAT(detector_->limitation(), HasSubstr("pidfd_open: Operation not permitted"));
}

TEST_F(FailureDetectorAlone, SaysWhyThereAreNoNotices) {
  notices_ = std::unexpected("futex_waitv: Function not implemented");
  start();
  EXPECT_THAT(detector_->limitation(), HasSubstr("(futex_waitv: Function not implemented)"));
}

TEST_F(FailureDetectorAlone, SaysWhenThereAreNoticesOnly) {
  if (problem_with_death_notices()) GTEST_SKIP() << *problem_with_death_notices();
  notices_ = NoticeBoard::make(2);
  options_.pidfd = forbidden_pidfd;
  start();
  EXPECT_THAT(detector_->limitation(), HasSubstr("by death notices only"));
}

TEST_F(FailureDetectorAlone, WhoIsNotInTheViewIsNotObserved) {
  options_.period = 10 * kMillisecond;
  options_.suspect_after = 50 * kMillisecond;
  peers_.push_back(peers_[1]);
  start();
  detector_->set_members({RankId{0}, RankId{2}});
  ASSERT_TRUE(eventually([&] { return !evidence().empty(); }));
  const std::uint64_t sent = detector_->statistics().traffic.sent;
  // Heartbeats to rank 2 go on for several times suspect_after; rank 1 would be next.
  ASSERT_TRUE(eventually([&] { return detector_->statistics().traffic.sent > sent + 20; }));
  EXPECT_THAT(evidence(), ElementsAre(suspected(2)));
}

TEST_F(FailureDetectorAlone, LeavingIsBoundedAndCanBeRepeated) {
  start();
  const Nanoseconds asked = monotonic_now();
  detector_->leave();  // the peer never takes it
  EXPECT_GE(monotonic_now() - asked, kSecond / 2);
  EXPECT_LT(monotonic_now() - asked, 10 * kSecond);
  detector_->leave();
  detector_->set_members({RankId{0}});
}

TEST_F(FailureDetectorAlone, LooksAtSomethingElseInItsOwnTime) {
  constexpr Nanoseconds kPeriod = 5 * kMillisecond;
  std::mutex mutex;
  std::vector<Nanoseconds> looks;
  options_.look_period = kPeriod;
  options_.look = [&] {
    const std::lock_guard lock(mutex);
    looks.push_back(monotonic_now());
  };
  const auto looked = [&] {
    const std::lock_guard lock(mutex);
    return looks.size();
  };
  start();
  ASSERT_TRUE(eventually([&] { return looked() >= 5; }));
  detector_->set_members({RankId{0}});  // nobody is left to be watched
  detector_->leave();
  const std::size_t before = looked();
  ASSERT_TRUE(eventually([&] { return looked() >= before + 5; }));
  detector_.reset();
  for (std::size_t i = 1; i < looks.size(); ++i) EXPECT_GE(looks[i] - looks[i - 1], kPeriod);
}

TEST_F(FailureDetectorAlone, ItsThreadHasANameAndNoSignals) {
  start();
  const auto status_of_thread = [] {
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      if (test::contents_of(task.path() / "comm") == "regroup-beat\n") {
        return test::contents_of(task.path() / "status");
      }
    }
    return std::string();
  };
  ASSERT_TRUE(eventually([&] { return !status_of_thread().empty(); }));
  const std::string status = status_of_thread();
  const std::size_t line = status.find("SigBlk:\t");
  ASSERT_NE(line, std::string::npos);
  const unsigned long long blocked = std::stoull(status.substr(line + 8), nullptr, 16);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGCHLD, SIGPIPE, SIGALRM}) {
    EXPECT_TRUE(blocked >> (signal - 1) & 1) << signal;
  }
}

TEST_F(FailureDetectorAlone, TheCallersSignalMaskIsLeftAsItWas) {
  sigset_t before;
  sigset_t after;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  start();
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  for (int signal = 1; signal < 32; ++signal) {
    EXPECT_EQ(sigismember(&before, signal), sigismember(&after, signal)) << signal;
  }
}

TEST_F(FailureDetectorAlone, WakesNoMoreOftenThanItNeeds) {
  options_.period = 20 * kMillisecond;
  options_.suspect_after = 40 * kMillisecond;
  start();
  // One wake for its own heartbeat, one for each of the peer's, and some at the start.
  std::uint64_t beats = 0;
  Nanoseconds next_beat = monotonic_now();
  ASSERT_TRUE(eventually([&] {
    if (monotonic_now() >= next_beat) {
      peer_.send(RankId{0}, HeartbeatKind::kHeartbeat);
      ++beats;
      next_beat += options_.period;
    }
    return detector_->statistics().traffic.sent >= 30;
  }));
  EXPECT_LE(detector_->statistics().wakeups, 30 + beats + 10);
}

}  // namespace
}  // namespace regroup

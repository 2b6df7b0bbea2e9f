// Real processes on loopback, each with a failure detector, for tests and measurements: the parent
// starts them, tells them what to do, kills them, and reads what they report. Children end with
// their parent, however it ends.
#pragma once

#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <expected>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/host/failure_detector.hpp"

namespace regroup::test {

inline Nanoseconds monotonic_now() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

class ForkedRanks {
 public:
  enum class Notices : std::uint8_t { kNone, kShared };
  struct Options {
    std::uint32_t ranks = 4;
    Nanoseconds period = 100 * kMillisecond;
    Nanoseconds suspect_after = 0;
    std::function<int(std::int32_t)> pidfd = open_pidfd;
    Notices notices = Notices::kShared;
  };
  enum class What : std::uint8_t { kEvidence, kLeft, kStatistics };
  struct Report {
    What what{};
    RankId by;
    PeerEvidence evidence;
    Nanoseconds time = 0;      // on the clock that all processes of a machine share
    Nanoseconds cpu_time = 0;  // kStatistics: of the whole process
    std::uint64_t wakeups = 0;
    std::uint64_t taken = 0;
    std::uint64_t dropped = 0;
    Nanoseconds longest_stall = 0;
  };

  // Fork before the calling process has threads.
  explicit ForkedRanks(const Options& options) : options_(options), secret_(make_run_secret()) {
    make_channel(reports_);
    if (options.notices == Notices::kShared) notices_ = NoticeBoard::make(options.ranks);
    for (std::uint32_t rank = 0; rank < options.ranks; ++rank) {
      sockets_.push_back(std::move(*HeartbeatSocket::open(INADDR_LOOPBACK)));
    }
    for (std::uint32_t rank = 0; rank < options.ranks; ++rank) start(rank);
    std::vector<pid_t> pids;
    for (const Child& child : children_) pids.push_back(child.pid);
    for (const Child& child : children_) {
      must(::send(child.control, pids.data(), pids.size() * sizeof(pid_t), MSG_NOSIGNAL) > 0);
    }
    sockets_.clear();
    notices_ = {};  // each child has inherited it
  }
  ~ForkedRanks() {
    for (std::uint32_t rank = 0; rank < children_.size(); ++rank) {
      kill(rank);
      ::close(children_[rank].control);
    }
    ::close(reports_[0]);
    ::close(reports_[1]);
  }
  ForkedRanks(const ForkedRanks&) = delete;
  ForkedRanks& operator=(const ForkedRanks&) = delete;

  // Kills it, then reaps it; returns the time just before the kill.
  Nanoseconds kill(std::uint32_t rank) {
    Child& child = children_[rank];
    const Nanoseconds time = monotonic_now();
    if (child.pid == 0) return time;
    ::kill(child.pid, SIGKILL);
    ::waitpid(child.pid, nullptr, 0);
    child.pid = 0;
    return time;
  }
  void signal(std::uint32_t rank, int number) { ::kill(children_[rank].pid, number); }
  // Lets it end by itself, its detector destroyed; returns when it has.
  void let_end(std::uint32_t rank) {
    ::shutdown(children_[rank].control, SHUT_WR);
    ::waitpid(children_[rank].pid, nullptr, 0);
    children_[rank].pid = 0;
  }
  void ask_to_leave(std::uint32_t rank) { command(rank, kLeave); }
  void ask_for_statistics(std::uint32_t rank) { command(rank, kStatistics); }

  // The next report, or none by the deadline.
  std::optional<Report> next(std::chrono::milliseconds timeout) {
    pollfd wait{reports_[0], POLLIN, 0};
    if (::poll(&wait, 1, static_cast<int>(timeout.count())) <= 0) return std::nullopt;
    Report report;
    must(::read(reports_[0], &report, sizeof report) == sizeof report);
    return report;
  }

 private:
  static constexpr char kLeave = 'L';
  static constexpr char kStatistics = 'S';
  struct Child {
    pid_t pid = 0;
    int control = -1;
  };

  // In a helper of several processes: no way to go on, and none to tell a test framework of it.
  static void must(bool worked) {
    if (!worked) std::abort();
  }
  static void make_channel(std::array<int, 2>& ends) {
    must(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) == 0);
  }

  void command(std::uint32_t rank, char what) {
    must(::send(children_[rank].control, &what, 1, MSG_NOSIGNAL) == 1);
  }

  void start(std::uint32_t rank) {
    std::array<int, 2> control{};
    make_channel(control);
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    must(pid >= 0);
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(1);
      ::close(control[1]);
      for (const Child& sibling : children_) ::close(sibling.control);
      ::close(reports_[0]);
      be(rank, control[0]);
      ::_exit(0);
    }
    ::close(control[0]);
    children_.push_back({pid, control[1]});
  }

  // The life of a child.
  void be(std::uint32_t rank, int control) {
    std::vector<pid_t> pids(options_.ranks);
    const ssize_t size = static_cast<ssize_t>(pids.size() * sizeof(pid_t));
    if (::recv(control, pids.data(), static_cast<std::size_t>(size), 0) != size) return;
    std::vector<PeerAddress> peers;
    for (std::uint32_t peer = 0; peer < options_.ranks; ++peer) {
      peers.push_back({.host = own_host(),
                       .pid = pids[peer],
                       .started = process_start(pids[peer]),
                       .udp = sockets_[peer].address()});
    }
    HeartbeatSocket own = std::move(sockets_[rank]);
    sockets_.clear();
    FailureDetector detector(
        {.self = RankId{rank},
         .period = options_.period,
         .suspect_after = options_.suspect_after,
         .secret = secret_,
         .pidfd = options_.pidfd},
        std::move(own), peers,
        [&](PeerEvidence evidence) {
          if (evidence.kind == EvidenceKind::kLeft) return;
          send({.what = What::kEvidence,
                .by = RankId{rank},
                .evidence = evidence,
                .time = monotonic_now()});
        },
        std::move(notices_));
    for (char what = 0; ::recv(control, &what, 1, 0) == 1;) {
      if (what == kLeave) {
        detector.leave();
        send({.what = What::kLeft, .by = RankId{rank}, .time = monotonic_now()});
      } else {
        send(statistics_of(rank, detector));
      }
    }
  }

  static Report statistics_of(std::uint32_t rank, const FailureDetector& detector) {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto nanoseconds = [](const timeval& time) {
      return time.tv_sec * kSecond + time.tv_usec * kMicrosecond;
    };
    const FailureDetectorStatistics statistics = detector.statistics();
    return {.what = What::kStatistics,
            .by = RankId{rank},
            .time = monotonic_now(),
            .cpu_time = nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime),
            .wakeups = statistics.wakeups,
            .taken = statistics.traffic.taken,
            .dropped = statistics.traffic.dropped_total(),
            .longest_stall = statistics.longest_stall};
  }

  void send(const Report& report) {
    must(::send(reports_[1], &report, sizeof report, MSG_NOSIGNAL) == sizeof report);
  }

  Options options_;
  RunSecret secret_;
  std::vector<HeartbeatSocket> sockets_;
  std::expected<NoticeBoard, std::string> notices_;
  std::array<int, 2> reports_{};
  std::vector<Child> children_;
};

}  // namespace regroup::test

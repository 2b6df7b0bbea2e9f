#include "runtime/host/failure_detector.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "runtime/host/signals_blocked.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC, as the timer's

constexpr const char* kThreadName = "regroup-beat";
constexpr int kEventsMax = 64;
// What leave() waits beyond the time that the detector gives it: for a thread that is held up.
constexpr auto kLeaveMargin = std::chrono::milliseconds(500);

// What epoll hands back: a rank's number, or one of these.
constexpr std::uint64_t kSocketTag = std::uint64_t{1} << 32;
constexpr std::uint64_t kTimerTag = kSocketTag + 1;
constexpr std::uint64_t kMailTag = kSocketTag + 2;

FileDescriptor checked(int fd, const char* what) {
  if (fd < 0) throw std::system_error(errno, std::generic_category(), what);
  return {FileSystem::real(), fd};
}

DetectorOptions detector_options(const FailureDetectorOptions& options, std::size_t ranks) {
  return {.self = options.self,
          .ranks = static_cast<std::uint32_t>(ranks),
          .period = options.period,
          .suspect_after = options.suspect_after};
}

std::vector<UdpAddress> udp_addresses(const std::vector<PeerAddress>& peers) {
  std::vector<UdpAddress> addresses;
  for (const PeerAddress& peer : peers) addresses.push_back(peer.udp);
  return addresses;
}

// The process of a peer on this host: an open pidfd, or that it is dead, or why it cannot be
// watched.
struct ProcessWatch {
  FileDescriptor pidfd;
  bool dead = false;
  int error = 0;
};

ProcessWatch watch_process(const PeerAddress& peer, const FailureDetectorOptions& options) {
  ProcessWatch watch;
  const int fd = options.pidfd(peer.pid);
  if (fd < 0) {
    (errno == ESRCH) ? void(watch.dead = true) : void(watch.error = errno);
    return watch;
  }
  watch.pidfd = FileDescriptor(FileSystem::real(), fd);
  // The id may be another process's by now. Asked after the opening: a process that is still the
  // peer's then was it before.
  const std::uint64_t started = process_start(peer.pid);
  watch.dead = peer.started != 0 && started != 0 && started != peer.started;
  return watch;
}

}  // namespace

PeerAddress own_address(const HeartbeatSocket& socket) {
  const std::int32_t pid = ::getpid();
  return {.host = own_host(), .pid = pid, .started = process_start(pid), .udp = socket.address()};
}

int open_pidfd(std::int32_t pid) {
  return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
}

std::optional<std::string> problem_with(const FailureDetectorOptions& options) {
  return problem_with(detector_options(options, 1));
}

class FailureDetector::Implementation {
 public:
  Implementation(const FailureDetectorOptions& options, HeartbeatSocket socket,
                 const std::vector<PeerAddress>& peers, EvidenceHandler on_evidence,
                 std::expected<NoticeBoard, std::string> notices)
      : detector_(detector_options(options, peers.size())),
        ranks_(peers.size()),
        on_evidence_(std::move(on_evidence)),
        look_(options.look),
        look_period_(options.look_period),
        leave_timeout_(detector_options(options, 1).leave_timeout),
        socket_(std::move(socket)),
        epoll_(checked(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")),
        timer_(checked(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC),
                       "timerfd_create")),
        mail_signal_(checked(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd")),
        pidfds_(peers.size()) {
    socket_.join(options.self, udp_addresses(peers), options.secret);
    wait_on(socket_.fd(), kSocketTag);
    wait_on(timer_.get(), kTimerTag);
    wait_on(mail_signal_.get(), kMailTag);
    watch_node(options, peers, std::move(notices));
    const SignalsBlocked blocked;
    thread_ = std::thread([this, on_thread = options.on_thread] {
      if (on_thread) on_thread();
      run();
    });
  }

  ~Implementation() {
    post([](Mail& mail) { mail.stop = true; });
    thread_.join();
  }

  void set_members(std::vector<RankId> members) {
    post([&](Mail& mail) { mail.members = std::move(members); });
  }

  void confirm(RankId rank) {
    post([&](Mail& mail) { mail.confirmed.push_back(rank); });
  }

  void leave() {
    if (notices_) notices_->withdraw();
    post([](Mail& mail) { mail.leave = true; });
    std::unique_lock lock(mutex_);
    left_changed_.wait_for(lock, std::chrono::nanoseconds(leave_timeout_) + kLeaveMargin,
                           [this] { return left_; });
  }

  FailureDetectorStatistics statistics() const {
    const std::lock_guard lock(mutex_);
    return statistics_;
  }

  const std::string& limitation() const { return limitation_; }

 private:
  // What other threads want of the detector's.
  struct Mail {
    std::optional<std::vector<RankId>> members;
    std::vector<RankId> confirmed;
    bool leave = false;
    bool stop = false;
  };

  template <class Change>
  void post(Change change) {
    {
      const std::lock_guard lock(mutex_);
      change(mail_);
    }
    const std::uint64_t one = 1;
    const ssize_t written = ::write(mail_signal_.get(), &one, sizeof one);
    REGROUP_CHECK(written == sizeof one || errno == EAGAIN, "an eventfd takes a one");
  }

  void wait_on(int fd, std::uint64_t tag) {
    epoll_event event{.events = EPOLLIN, .data = {.u64 = tag}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      throw std::system_error(errno, std::generic_category(), "epoll_ctl");
    }
  }

  void watch_node(const FailureDetectorOptions& options, const std::vector<PeerAddress>& peers,
                  std::expected<NoticeBoard, std::string> notices) {
    std::vector<HostIdentity> hosts;
    for (const PeerAddress& peer : peers) hosts.push_back(peer.host);
    const std::vector<std::uint32_t> ranks = on_host_of(hosts, options.self.value);
    watch_notices(options, ranks, std::move(notices));
    watch_processes(options, peers, ranks);
  }

  void watch_notices(const FailureDetectorOptions& options, const std::vector<std::uint32_t>& ranks,
                     std::expected<NoticeBoard, std::string> notices) {
    if (!notices) {
      limitation_ = fmt::format(
          "no death notices ({}), so deaths on this node are noticed only once all of the "
          "process is gone",
          notices.error());
    } else if (notices->processes() > 1) {
      REGROUP_CHECK(notices->processes() == ranks.size(), "the ranks of a host share a board");
      const auto self = std::ranges::find(ranks, options.self.value) - ranks.begin();
      notices_.emplace(
          std::move(*notices), static_cast<std::uint32_t>(self),
          [this, ranks](std::uint32_t process) { confirm(RankId{ranks[process]}); },
          options.on_thread);
    }
  }

  void watch_processes(const FailureDetectorOptions& options, const std::vector<PeerAddress>& peers,
                       const std::vector<std::uint32_t>& ranks) {
    for (const std::uint32_t rank : ranks) {
      if (RankId{rank} == options.self) continue;
      ProcessWatch watch = watch_process(peers[rank], options);
      if (watch.dead) {
        confirm(RankId{rank});
      } else if (watch.error != 0) {
        limitation_ = fmt::format(
            "cannot watch processes (pidfd_open: {}), so deaths on this node are noticed {}",
            errno_text(watch.error), notices_ ? "by death notices only" : "by silence only");
      } else {
        pidfds_[rank] = std::move(watch.pidfd);
        wait_on(pidfds_[rank].get(), rank);
      }
    }
  }

  // ---- the thread ----

  Nanoseconds now() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start_).count();
  }

  void run() {
    ::prctl(PR_SET_NAME, kThreadName);
    std::vector<RankId> everybody;
    for (std::uint32_t rank = 0; rank < ranks_; ++rank) everybody.emplace_back(rank);
    detector_.start(now(), std::move(everybody), output_);
    take_mail();
    deliver();
    if (look_period_ != 0) look_at_ = now() + look_period_;
    while (!stopping_) {
      set_timer();
      wait();
      detector_.tick(now(), output_);
      deliver();
      look_if_due();
    }
  }

  void look_if_due() {
    if (now() < look_at_) return;
    look_();
    look_at_ = now() + look_period_;
  }

  // What has been said is heard before anything else is believed: the last words of a process that
  // leaves lie in the socket when the kernel tells of its end.
  void wait() {
    std::array<epoll_event, kEventsMax> events;
    const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsMax, -1);
    REGROUP_CHECK(count >= 0 || errno == EINTR, "epoll_wait takes its arguments");
    ++wakeups_;
    socket_.receive(
        [this](RankId from, HeartbeatKind kind) { detector_.heard(from, kind, now(), output_); });
    for (int i = 0; i < count; ++i) {
      const std::uint64_t tag = events[static_cast<std::size_t>(i)].data.u64;
      if (tag == kMailTag) {
        clear(mail_signal_);
        take_mail();
      } else if (tag == kTimerTag) {
        clear(timer_);
        timer_at_ = Detector::kNever;
      } else if (tag != kSocketTag) {
        pidfds_[tag].close();  // leaves the epoll set with it
        detector_.confirm(RankId{static_cast<std::uint32_t>(tag)}, now(), output_);
      }
    }
  }

  void take_mail() {
    Mail mail;
    {
      const std::lock_guard lock(mutex_);
      mail = std::exchange(mail_, {});
    }
    for (const RankId rank : mail.confirmed) detector_.confirm(rank, now(), output_);
    if (mail.members) detector_.set_members(std::move(*mail.members), now(), output_);
    if (mail.leave) detector_.leave(now(), output_);
    stopping_ = mail.stop;
  }

  void deliver() {
    for (const PeerEvidence& evidence : output_.evidence) on_evidence_(evidence);
    for (const auto& [to, kind] : output_.datagrams) socket_.send(to, kind);
    output_.clear();
    const std::lock_guard lock(mutex_);
    statistics_ = {.traffic = socket_.traffic(),
                   .wakeups = wakeups_,
                   .longest_stall = detector_.longest_stall()};
    if (detector_.left() && !left_) {
      left_ = true;
      left_changed_.notify_all();
    }
  }

  void set_timer() {
    const Nanoseconds next = std::min(detector_.next_tick(), look_at_);
    if (next == timer_at_) return;
    timer_at_ = next;
    itimerspec setting{};  // all zero: off
    if (next != Detector::kNever) {
      const Nanoseconds at = next + start_.time_since_epoch() / std::chrono::nanoseconds(1);
      setting.it_value = {.tv_sec = at / kSecond, .tv_nsec = at % kSecond};
    }
    const int status = ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &setting, nullptr);
    REGROUP_CHECK(status == 0, "a timer takes a time");
  }

  static void clear(const FileDescriptor& counter) {
    std::uint64_t count = 0;
    const ssize_t length = ::read(counter.get(), &count, sizeof count);
    REGROUP_CHECK(length == sizeof count || errno == EAGAIN, "a counter can be read");
  }

  Detector detector_;
  std::size_t ranks_;
  EvidenceHandler on_evidence_;
  std::function<void()> look_;
  Nanoseconds look_period_;  // 0: nothing to look at
  Nanoseconds leave_timeout_;
  HeartbeatSocket socket_;
  FileDescriptor epoll_;
  FileDescriptor timer_;
  FileDescriptor mail_signal_;
  std::vector<FileDescriptor> pidfds_;  // by rank; closed: not watched, or gone
  std::string limitation_;              // not changed once the thread runs

  const Clock::time_point start_ = Clock::now();
  DetectorOutput output_;
  Nanoseconds timer_at_ = Detector::kNever;
  Nanoseconds look_at_ = Detector::kNever;
  std::uint64_t wakeups_ = 0;
  bool stopping_ = false;

  mutable std::mutex mutex_;  // of what follows
  Mail mail_;
  FailureDetectorStatistics statistics_;
  bool left_ = false;
  std::condition_variable left_changed_;

  std::optional<DeathNotices> notices_;  // has a thread that posts
  std::thread thread_;                   // last: it uses the others
};

FailureDetector::FailureDetector(const FailureDetectorOptions& options, HeartbeatSocket socket,
                                 const std::vector<PeerAddress>& peers, EvidenceHandler on_evidence,
                                 std::expected<NoticeBoard, std::string> notices)
    : implementation_(std::make_unique<Implementation>(
          options, std::move(socket), peers, std::move(on_evidence), std::move(notices))) {}
FailureDetector::~FailureDetector() = default;
void FailureDetector::set_members(std::vector<RankId> members) {
  implementation_->set_members(std::move(members));
}
void FailureDetector::confirm(RankId rank) {
  implementation_->confirm(rank);
}
void FailureDetector::leave() {
  implementation_->leave();
}
FailureDetectorStatistics FailureDetector::statistics() const {
  return implementation_->statistics();
}
const std::string& FailureDetector::limitation() const {
  return implementation_->limitation();
}

}  // namespace regroup

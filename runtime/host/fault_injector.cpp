#include "runtime/host/fault_injector.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/host/checkpoint_files.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

template <class T>
bool read_all(int fd, T& value) {
  ssize_t got = 0;
  do got = read(fd, &value, sizeof value);
  while (got < 0 && errno == EINTR);
  return got == sizeof value;
}

template <class T>
bool write_all(int fd, const T& value) {
  return write(fd, &value, sizeof value) == sizeof value;
}

void sleep_for(Nanoseconds duration) {
  timespec left{.tv_sec = duration / kSecond, .tv_nsec = duration % kSecond};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
}

// All there is to the helper. After fork in a process that may have had threads, so nothing but
// system calls. Its end of the pipes alone stays open: not the run directory's lock, nor streams
// that somebody reads to their end.
[[noreturn]] void help(pid_t rank, int commands, int answers) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != rank) _exit(0);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}) std::signal(signal, SIG_IGN);
  dup2(commands, 0);
  dup2(answers, 1);
  syscall(SYS_close_range, 2U, ~0U, 0U);
  Nanoseconds duration = 0;
  while (read_all(0, duration)) {
    kill(rank, SIGSTOP);
    sleep_for(duration);
    kill(rank, SIGCONT);
    if (!write_all(1, duration)) break;
  }
  _exit(0);
}

std::string when(const Fault& fault) {
  switch (fault.point) {
    case FaultPoint::kAfterShards:
      return fmt::format("after {} shard{}", fault.shards, fault.shards == 1 ? "" : "s");
    case FaultPoint::kTime:
      return "at " + time_text(fault.time);
    case FaultPoint::kStart:
      return "at the start";
    case FaultPoint::kEnd:
      return "at the end";
    case FaultPoint::kElection:
      return "at an election";
    case FaultPoint::kAgreement:
      return "at an agreement";
    case FaultPoint::kShrink:
      return "at a shrink";
    case FaultPoint::kPart:
      return "at its part of a checkpoint";
    case FaultPoint::kManifest:
      return "at a checkpoint's manifest";
    case FaultPoint::kSeal:
      return "at a checkpoint's seal";
    case FaultPoint::kSealed:
      return "after a checkpoint's seal";
    case FaultPoint::kCheckpointWrites:
      return fmt::format("from checkpoint write {} on", fault.writes);
    case FaultPoint::kAlways:
      break;
  }
  return "from the start on";
}

// In one write, so that lines of several ranks do not mix.
void say(RankId rank, const std::string& what) {
  const std::string line = fmt::format("regroup: injected: rank {} {}\n", rank.value, what);
  (void)!write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

// ---- the process that wakes this one ----

StopHelper::StopHelper() {
  std::array<int, 2> commands{};
  std::array<int, 2> answers{};
  const auto fail = [] {
    throw std::system_error(errno, std::generic_category(), "the process that ends a stop");
  };
  if (pipe2(commands.data(), O_CLOEXEC) != 0 || pipe2(answers.data(), O_CLOEXEC) != 0) fail();
  const pid_t self = getpid();
  pid_ = fork();
  if (pid_ < 0) fail();
  if (pid_ == 0) help(self, commands[0], answers[1]);
  close(commands[0]);
  close(answers[1]);
  commands_ = commands[1];
  answers_ = answers[0];
}

StopHelper::~StopHelper() {
  close(commands_);
  close(answers_);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void StopHelper::stop_this_process(Nanoseconds duration) {
  Nanoseconds answer = 0;
  const bool woken = write_all(commands_, duration) && read_all(answers_, answer);
  REGROUP_CHECK(woken, "the process that ends a stop is gone");
}

// ---- whom and when ----

FaultInjector::FaultInjector(FaultPlan plan, RankId self)
    : plan_(std::move(plan)), self_(self), over_(plan_.faults.size(), false) {
  const bool may_stop = std::ranges::any_of(plan_.faults, [this](const Fault& fault) {
    return fault.action == FaultAction::kStop && (fault.is_floating() || hits_self(fault, View{}));
  });
  if (may_stop) stop_helper_.emplace();
}

FaultInjector::~FaultInjector() {
  stop_clock();
}

void FaultInjector::stop_clock() {
  {
    const std::lock_guard lock(timer_mutex_);
    timer_done_ = true;
  }
  timer_wake_.notify_one();
  if (timer_.joinable()) timer_.join();
}

bool FaultInjector::hits_self(const Fault& fault, const View& view) const {
  switch (fault.target) {
    case FaultTarget::kRank:
      return fault.rank == self_;
    case FaultTarget::kAllBut:
      return fault.rank != self_;
    case FaultTarget::kCoordinator:
      return view.coordinator == self_;
    case FaultTarget::kSuccessor:
      return view.members.size() > 1 && view.members.list()[1] == self_;
    case FaultTarget::kEvery:
      return true;
  }
  return false;
}

// True once a fault.
bool FaultInjector::take_chance(std::size_t fault) {
  const std::lock_guard lock(mutex_);
  if (over_[fault]) return false;
  over_[fault] = true;
  return true;
}

// A fault's time has come on this rank.
void FaultInjector::meet(std::size_t fault, const View& view) {
  const Fault& met = plan_.faults[fault];
  if (!take_chance(fault) || !hits_self(met, view)) return;
  if (met.is_floating() && first_to_strike_ && !first_to_strike_(fault)) return;
  strike(met);
}

void FaultInjector::strike(const Fault& fault) {
  const std::lock_guard lock(strike_mutex_);
  if (fault.action == FaultAction::kKill) {
    say(self_, "killed " + when(fault));
    kill(getpid(), SIGKILL);
    pause();
  }
  if (fault.action == FaultAction::kWedge) {
    say(self_, "wedged " + when(fault));
    stuck_.store(true, std::memory_order_relaxed);
    return;
  }
  if (fault.point == FaultPoint::kCheckpointWrites) return break_disk(fault);
  REGROUP_CHECK(fault.action == FaultAction::kStop && stop_helper_, "a fault that cannot strike");
  say(self_, fmt::format("stopped {} for {}", when(fault), time_text(fault.duration)));
  stop_helper_->stop_this_process(fault.duration);
}

void FaultInjector::break_disk(const Fault& fault) {
  const bool full = fault.action == FaultAction::kDiskFull;
  const bool ends = fault.duration != 0;
  say(self_, fmt::format("has a {} disk {}{}", full ? "full" : "broken", when(fault),
                         ends ? " for " + time_text(fault.duration) : ""));
  const auto over =
      ends ? Clock::now() + std::chrono::nanoseconds(fault.duration) : Clock::time_point::max();
  disk_faults_.push_back({full ? ENOSPC : EIO, over});
}

void FaultInjector::reached(FaultPoint point, const View& view) {
  for (std::size_t i = 0; i < plan_.faults.size(); ++i) {
    if (plan_.faults[i].point == point) meet(i, view);
  }
}

void FaultInjector::begin() {
  begun_at_ = Clock::now();
  reached(FaultPoint::kStart, view_now_());
  const auto is_timed = [](const Fault& fault) { return fault.point == FaultPoint::kTime; };
  if (std::ranges::any_of(plan_.faults, is_timed)) timer_ = std::thread([this] { keep_time(); });
  for (const Fault& fault : plan_.faults) {
    if (fault.is_single() || fault.is_floating() || !hits_self(fault, View{})) continue;
    if (fault.action == FaultAction::kSlow) {
      say(self_, fmt::format("slowed {:g} times", fault.factor));
    } else if (fault.action == FaultAction::kLateResults) {
      say(self_, "sends late by " + time_text(fault.duration));
    } else if (fault.action == FaultAction::kGpuError || fault.action == FaultAction::kGpuHang) {
      say(self_, fmt::format("has a GPU that {}{}",
                             fault.action == FaultAction::kGpuHang ? "hangs" : "fails",
                             fault.duration == 0 ? "" : " for " + time_text(fault.duration)));
    } else {
      say(self_, "sends everything twice");
    }
  }
}

void FaultInjector::end() {
  reached(FaultPoint::kEnd, view_now_());
}

void FaultInjector::keep_time() {
  const Clock::time_point begin = Clock::now();
  std::vector<std::size_t> timed;
  for (std::size_t i = 0; i < plan_.faults.size(); ++i) {
    if (plan_.faults[i].point == FaultPoint::kTime) timed.push_back(i);
  }
  std::ranges::stable_sort(timed, {}, [this](std::size_t i) { return plan_.faults[i].time; });
  for (const std::size_t fault : timed) {
    const auto due = begin + std::chrono::nanoseconds(plan_.faults[fault].time);
    std::unique_lock lock(timer_mutex_);
    if (timer_wake_.wait_until(lock, due, [this] { return timer_done_; })) return;
    lock.unlock();
    meet(fault, view_now_());
  }
}

// ---- counting, slowing, failing ----

void FaultInjector::computed(std::uint64_t shards) {
  computed_ += shards;
  for (std::size_t i = 0; i < plan_.faults.size(); ++i) {
    const Fault& fault = plan_.faults[i];
    if (fault.point == FaultPoint::kAfterShards && computed_ >= fault.shards) meet(i, View{});
  }
}

std::uint64_t FaultInjector::shards_to_next() const {
  std::uint64_t shards = std::numeric_limits<std::uint64_t>::max();
  for (const Fault& fault : plan_.faults) {
    if (fault.point != FaultPoint::kAfterShards || fault.shards <= computed_) continue;
    shards = std::min(shards, fault.shards - computed_);
  }
  return shards;
}

double FaultInjector::slowness() const {
  double slowness = 1;
  for (const Fault& fault : plan_.faults) {
    if (fault.action != FaultAction::kSlow) continue;
    if (hits_self(fault, fault.is_floating() ? view_now_() : View{})) slowness *= fault.factor;
  }
  return slowness;
}

bool FaultInjector::sends_twice() const {
  return std::ranges::any_of(plan_.faults, [this](const Fault& fault) {
    return fault.action == FaultAction::kDuplicateResults && hits_self(fault, View{});
  });
}

Nanoseconds FaultInjector::sends_late() const {
  Nanoseconds late = 0;
  for (const Fault& fault : plan_.faults) {
    if (fault.action == FaultAction::kLateResults && hits_self(fault, View{})) {
      late = std::max(late, fault.duration);
    }
  }
  return late;
}

DeviceFault FaultInjector::device_fault() const {
  const std::chrono::nanoseconds since = Clock::now() - begun_at_;
  for (const Fault& fault : plan_.faults) {
    const bool of_device =
        fault.action == FaultAction::kGpuError || fault.action == FaultAction::kGpuHang;
    if (!of_device || !hits_self(fault, View{})) continue;
    if (fault.duration != 0 && since.count() >= fault.duration) continue;
    return fault.action == FaultAction::kGpuHang ? DeviceFault::kHang : DeviceFault::kError;
  }
  return DeviceFault::kNone;
}

void FaultInjector::begin_checkpoint_write() {
  ++checkpoint_writes_;
  for (std::size_t i = 0; i < plan_.faults.size(); ++i) {
    const Fault& fault = plan_.faults[i];
    if (fault.point == FaultPoint::kCheckpointWrites && checkpoint_writes_ >= fault.writes) {
      meet(i, View{});
    }
  }
}

int FaultInjector::disk_error() const {
  const Clock::time_point now = Clock::now();
  const auto found =
      std::ranges::find_if(disk_faults_, [now](const DiskFault& ill) { return now < ill.over; });
  return found == disk_faults_.end() ? 0 : found->error_number;
}

// As a call of MPI's that waits for a peer that is dead.
void FaultInjector::enter_transport() const {
  while (stuck_.load(std::memory_order_relaxed)) pause();
}

void FaultyExecutor::execute(WorkOrder& order, WorkResult& result) {
  if (!std::exchange(begun_, true)) injector_->begin();
  const auto started = std::chrono::steady_clock::now();
  if (order.kind == WorkKind::kRun) {
    run_shards(order, result);
  } else {
    inner_->execute(order, result);
  }
  const double slowness = injector_->slowness();
  const bool computed = order.kind == WorkKind::kRun || order.kind == WorkKind::kStep;
  if (computed && slowness > 1) {
    const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - started;
    sleep_for(static_cast<Nanoseconds>(static_cast<double>(took.count()) * (slowness - 1)));
  }
  if (order.kind == WorkKind::kFinalize) injector_->end();
}

// In parts, so that a fault after a number of shards strikes between two shards of an order.
void FaultyExecutor::run_shards(WorkOrder& order, WorkResult& result) {
  const ShardRange whole = order.shards;
  ShardRange part{whole.first, 0};
  while (part.end() < whole.end()) {
    const std::uint64_t left = whole.end().value - part.end().value;
    part = {part.end(), std::min(left, injector_->shards_to_next())};
    order.shards = part;
    inner_->execute(order, result);
    injector_->computed(part.count);
  }
  order.shards = whole;
}

// ---- the files of checkpoints ----

bool FaultyFileSystem::writing_fails() const {
  const int error_number = injector_->disk_error();
  if (error_number != 0) errno = error_number;
  return error_number != 0;
}

int FaultyFileSystem::open(const char* path, int flags, mode_t mode) {
  if ((flags & O_CREAT) != 0) {
    const std::string name = std::filesystem::path(path).filename();
    if (name.starts_with("part-")) injector_->reached_in_checkpoint(FaultPoint::kPart);
    if (name.starts_with(checkpoint_files::kManifest))
      injector_->reached_in_checkpoint(FaultPoint::kManifest);
  }
  return FileSystem::open(path, flags, mode);
}

ssize_t FaultyFileSystem::write(int fd, const void* bytes, std::size_t count) {
  return writing_fails() ? -1 : FileSystem::write(fd, bytes, count);
}

ssize_t FaultyFileSystem::pwrite(int fd, const void* bytes, std::size_t count, off_t offset) {
  return writing_fails() ? -1 : FileSystem::pwrite(fd, bytes, count, offset);
}

// A disk that is full keeps what it has.
int FaultyFileSystem::fsync(int fd) {
  const bool broken = injector_->disk_error() == EIO;
  if (broken) errno = EIO;
  return broken ? -1 : FileSystem::fsync(fd);
}

int FaultyFileSystem::link(const char* from, const char* to) {
  if (std::filesystem::path(to).filename() != checkpoint_files::kManifest)
    return FileSystem::link(from, to);
  injector_->reached_in_checkpoint(FaultPoint::kSeal);
  const int result = FileSystem::link(from, to);
  if (result == 0) injector_->reached_in_checkpoint(FaultPoint::kSealed);
  return result;
}

// ---- sending ----

void FaultyTransport::pass(RankId to, Buffer frame) {
  if (twice_) inner_->send(to, Buffer(frame.view()));
  inner_->send(to, std::move(frame));
}

void FaultyTransport::send(RankId to, Buffer frame) {
  injector_->enter_transport();
  if (late_ == 0) {
    pass(to, std::move(frame));
    return;
  }
  held_bytes_ += frame.size();
  held_.push_back({Clock::now() + std::chrono::nanoseconds(late_), to, std::move(frame)});
}

void FaultyTransport::let_go() {
  if (held_.empty()) return;
  const Clock::time_point now = Clock::now();
  while (!held_.empty() && held_.front().due <= now) {
    Held due = std::move(held_.front());
    held_.pop_front();
    held_bytes_ -= due.frame.size();
    pass(due.to, std::move(due.frame));
  }
}

void FaultyTransport::flush() {
  injector_->enter_transport();
  let_go();
  inner_->flush();
}

std::size_t FaultyTransport::poll(const FrameHandler& handler, std::size_t frames_max) {
  injector_->enter_transport();
  let_go();
  return inner_->poll(handler, frames_max);
}

}  // namespace regroup

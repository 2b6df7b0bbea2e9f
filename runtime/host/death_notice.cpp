#include "runtime/host/death_notice.hpp"

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <type_traits>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/host/signals_blocked.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

// Linux 5.16. Kernel headers may be older than the kernel.
#ifdef SYS_futex_waitv
constexpr long kFutexWaitv = SYS_futex_waitv;
#else
constexpr long kFutexWaitv = 449;
#endif
constexpr std::uint32_t kWaitsMax = 128;     // FUTEX_WAITV_MAX
constexpr std::uint32_t kWaitForU32 = 0x02;  // FUTEX_32

constexpr const char* kMemoryName = "regroup-notices";
constexpr const char* kThreadName = "regroup-notice";

static_assert(NoticeBoard::kWatchedMax + 1 <= kWaitsMax, "and the word that ends the thread");
static_assert(NoticeBoard::kWatchedMax <= ROBUST_LIST_LIMIT, "the kernel marks no more");

std::unexpected<std::string> no_notices(std::string_view what, int error_number) {
  return std::unexpected(fmt::format("{}: {}", what, errno_text(error_number)));
}

}  // namespace

// Of the arguments nothing is right, so that a kernel which knows the call says EINVAL.
std::optional<std::string> problem_with_death_notices() {
  if (::syscall(kFutexWaitv, nullptr, 0, 0, nullptr, 0) == 0 || errno == EINVAL) return {};
  return no_notices("futex_waitv", errno).error();
}

// ---- the memory ----

std::expected<NoticeBoard, std::string> NoticeBoard::make(std::uint32_t processes) {
  if (processes < 2) return NoticeBoard();
  if (auto problem = problem_with_death_notices()) return std::unexpected(std::move(*problem));
  FileDescriptor memory(FileSystem::real(), ::memfd_create(kMemoryName, MFD_CLOEXEC));
  if (!memory.is_open()) return no_notices("memfd_create", errno);
  if (::ftruncate(memory.get(), static_cast<off_t>(bytes_for(processes))) != 0) {
    return no_notices("cannot make shared memory", errno);
  }
  return map(std::move(memory), processes);
}

std::expected<NoticeBoard, std::string> NoticeBoard::open(std::int32_t pid, const Place& place,
                                                          std::uint32_t processes) {
  if (processes < 2) return NoticeBoard();
  if (place.fd < 0) return std::unexpected(fmt::format("process {} shares no memory", pid));
  if (auto problem = problem_with_death_notices()) return std::unexpected(std::move(*problem));
  const std::string path = fmt::format("/proc/{}/fd/{}", pid, place.fd);
  FileDescriptor memory(FileSystem::real(), ::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!memory.is_open()) return no_notices("cannot open " + path, errno);
  auto board = map(std::move(memory), processes);
  // The process may be another one by now.
  if (board && board->place_.inode != place.inode) {
    return std::unexpected(path + " is not what was shared");
  }
  return board;
}

// Memory that is smaller than it should be would be found out by SIGBUS.
std::expected<NoticeBoard, std::string> NoticeBoard::map(FileDescriptor memory,
                                                         std::uint32_t processes) {
  const std::size_t bytes = bytes_for(processes);
  struct stat status {};
  if (::fstat(memory.get(), &status) != 0) return no_notices("fstat", errno);
  if (status.st_size != static_cast<off_t>(bytes)) {
    return std::unexpected(
        fmt::format("shared memory has {} bytes, not {}", status.st_size, bytes));
  }
  void* start = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), 0);
  if (start == MAP_FAILED) return no_notices("cannot map shared memory", errno);
  NoticeBoard board;
  board.place_ = {.fd = memory.get(), .inode = status.st_ino};
  board.memory_ = std::move(memory);
  board.processes_ = processes;
  board.notices_ = {static_cast<Notice*>(start), Unmap{bytes}};
  return board;
}

void NoticeBoard::Unmap::operator()(Notice* notices) const {
  ::munmap(notices, bytes);
}

std::uint32_t NoticeBoard::reach(std::uint32_t processes) {
  return std::min(processes - 1, kWatchedMax);
}

std::size_t NoticeBoard::bytes_for(std::uint32_t processes) {
  return std::size_t{processes} * reach(processes) * sizeof(Notice);
}

std::uint32_t NoticeBoard::predecessor(std::uint32_t process, std::uint32_t distance) const {
  return (process + processes_ - distance) % processes_;
}

NoticeBoard::Notice& NoticeBoard::notice(std::uint32_t holder, std::uint32_t distance) const {
  return notices_.get()[std::size_t{holder} * reach() + distance - 1];
}

// ---- a process ----

DeathNotices::DeathNotices(NoticeBoard board, std::uint32_t self, Handler on_death,
                           std::function<void()> on_thread)
    : board_(std::move(board)), self_(self), on_death_(std::move(on_death)) {
  REGROUP_CHECK(self < board_.processes(), "a process is one of the board's");
  const SignalsBlocked blocked;
  thread_ = std::thread([this, on_thread = std::move(on_thread)] {
    if (on_thread) on_thread();
    run();
  });
  holding_.wait();
}

DeathNotices::~DeathNotices() {
  withdraw();
  stop_.store(1);
  ::syscall(SYS_futex, &stop_, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, nullptr, nullptr, 0);
  thread_.join();
}

// Who waits for a word goes on waiting, in vain.
void DeathNotices::withdraw() {
  for (std::uint32_t distance = 1; distance <= board_.reach(); ++distance) {
    board_.notice(self_, distance).word.store(0);
  }
}

void DeathNotices::run() {
  ::prctl(PR_SET_NAME, kThreadName);
  for (std::uint32_t distance = 1; distance <= board_.reach(); ++distance) {
    watched_.push_back(distance);
  }
  hold();
  holding_.count_down();
  while (stop_.load() == 0) {
    look();
    wait();
  }
  let_go();
}

// The kernel knows all words before the first is held, so there is never one that it would miss.
void DeathNotices::hold() {
  static_assert(std::is_standard_layout_v<NoticeBoard::Notice> && Word::is_always_lock_free &&
                    sizeof(Word) == sizeof(std::uint32_t),
                "the kernel finds a word by its distance from the link");
  robust_list* last = &held_.list;
  for (std::uint32_t distance = 1; distance <= board_.reach(); ++distance) {
    last->next = &board_.notice(self_, distance).link;
    last = last->next;
  }
  last->next = &held_.list;
  held_.futex_offset = offsetof(NoticeBoard::Notice, word);
  if (::syscall(SYS_set_robust_list, &held_, sizeof held_) != 0) return;
  const std::uint32_t held = static_cast<std::uint32_t>(::gettid()) | FUTEX_WAITERS;
  for (std::uint32_t distance = 1; distance <= board_.reach(); ++distance) {
    board_.notice(self_, distance).word.store(held);
  }
}

// The list is about to be no memory of this thread's.
void DeathNotices::let_go() {
  ::syscall(SYS_set_robust_list, nullptr, sizeof held_);
}

// Tells of those that have ended, and notes what is to be waited for: a change of what was seen.
void DeathNotices::look() {
  const auto wait_for = [this](const Word& word, std::uint32_t seen, std::uint32_t flags) {
    waits_.push_back({seen, reinterpret_cast<std::uintptr_t>(&word), kWaitForU32 | flags, 0});
  };
  waits_.clear();
  wait_for(stop_, 0, FUTEX_PRIVATE_FLAG);
  std::erase_if(watched_, [&](std::uint32_t distance) {
    const std::uint32_t holder = board_.predecessor(self_, distance);
    const Word& word = board_.notice(holder, distance).word;
    const std::uint32_t seen = word.load();
    const bool ended = (seen & FUTEX_OWNER_DIED) != 0;
    ended ? on_death_(holder) : wait_for(word, seen, 0);
    return ended;
  });
}

void DeathNotices::wait() {
  if (::syscall(kFutexWaitv, waits_.data(), waits_.size(), 0, nullptr, 0) >= 0) return;
  if (errno != EAGAIN && errno != EINTR) wait_for_stop();
}

// When the system has no memory left to wait with: pidfds tell of the others, and this process's
// own words stay held.
void DeathNotices::wait_for_stop() {
  while (stop_.load() == 0) {
    ::syscall(SYS_futex, &stop_, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, nullptr, nullptr, 0);
  }
}

}  // namespace regroup

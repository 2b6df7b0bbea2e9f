// How the processes of one node learn of each other's end when it begins. A pidfd tells once all
// threads of a process have ended and its memory is torn down, which takes 10 to 30 ms where ranks
// compute on all cores. Before that, as each thread ends, the kernel marks the robust futexes that
// it holds and wakes who waits for them (Linux, Documentation/locking/robust-futexes.rst). So a
// thread of each process holds a word of shared memory for each one that watches it, and waits for
// the words of those it watches itself. Nothing is left behind however processes end, and a notice
// that fails to come is no loss: pidfds tell of the same deaths, only later.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <latch>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <linux/futex.h>

#include "runtime/host/file_system.hpp"

namespace regroup {

// Why this system gives no notices, on one line; empty when it does.
std::optional<std::string> problem_with_death_notices();

// The memory that the processes of a node share, numbered from 0. One makes it, the others open it.
// It has no name, and goes with the last process that has it. Each process watches its nearest
// predecessors, cyclically, as many as one call can wait for.
class NoticeBoard {
 public:
  // Others that a process watches, and is watched by.
  static constexpr std::uint32_t kWatchedMax = 127;

  // Where other processes find it: a descriptor of the process that made it.
  struct Place {
    std::int32_t fd = -1;  // none
    std::uint64_t inode = 0;
    friend bool operator==(const Place&, const Place&) = default;
  };

  // Of a process that is alone on its node: nothing.
  NoticeBoard() = default;
  // Errors are one line: the system gives no notices, or no memory.
  static std::expected<NoticeBoard, std::string> make(std::uint32_t processes);
  // That which process `pid` has made, as long as it has it. Errors are one line: the process is
  // gone, or will not be looked into.
  static std::expected<NoticeBoard, std::string> open(std::int32_t pid, const Place& place,
                                                      std::uint32_t processes);

  Place place() const { return place_; }
  std::uint32_t processes() const { return processes_; }

 private:
  friend class DeathNotices;

  // What the kernel reads. The link holds addresses of the process that holds the word.
  struct Notice {
    robust_list link{};
    std::atomic<std::uint32_t> word = 0;
  };
  struct Unmap {
    std::size_t bytes;
    void operator()(Notice* notices) const;
  };

  static std::size_t bytes_for(std::uint32_t processes);
  static std::expected<NoticeBoard, std::string> map(FileDescriptor memory,
                                                     std::uint32_t processes);
  static std::uint32_t reach(std::uint32_t processes);
  std::uint32_t reach() const { return reach(processes_); }
  std::uint32_t predecessor(std::uint32_t process, std::uint32_t distance) const;
  // The one that is for the process so far after its holder.
  Notice& notice(std::uint32_t holder, std::uint32_t distance) const;

  FileDescriptor memory_;
  Place place_;
  std::uint32_t processes_ = 1;
  std::unique_ptr<Notice, Unmap> notices_;
};

// One process's part in it, with a thread of its own that mostly sleeps.
//
// A notice is certain. The thread gives its words back before it returns, so it ends with them only
// where the kernel ends the whole process: by a fatal signal, an exit, or an exec, after which
// nothing of the program is left either. All threads are marked for their end before the first of
// them is gone. One that runs on another core may go on for microseconds, and one inside a system
// call until that returns, as in a process of another node that dies: what it sends is of an epoch
// that others revoke, a fencing token that it creates is the decision for all, and a file that it
// renames is whole. A forked child holds nothing: its end is not the process's.
class DeathNotices {
 public:
  // On the thread; must be quick.
  using Handler = std::function<void(std::uint32_t process)>;

  // Once it is there, the end of this process is told. `on_death` is called once for each process
  // of the board that has ended, among those that this one watches; `on_thread` on the
  // thread, first of all. Throws std::system_error if the system has no thread to give.
  DeathNotices(NoticeBoard board, std::uint32_t self, Handler on_death,
               std::function<void()> on_thread = {});
  // Withdraws.
  ~DeathNotices();
  DeathNotices(const DeathNotices&) = delete;
  DeathNotices& operator=(const DeathNotices&) = delete;

  // From now on the end of this process is not told. Others' still are. Any thread.
  void withdraw();

 private:
  using Word = std::atomic<std::uint32_t>;
  // struct futex_waitv, which kernel headers before 5.16 lack.
  struct Wait {
    std::uint64_t value = 0;
    std::uint64_t address = 0;
    std::uint32_t flags = 0;
    std::uint32_t reserved = 0;
  };

  void run();
  void hold();
  void let_go();
  void look();
  void wait();
  void wait_for_stop();

  NoticeBoard board_;
  std::uint32_t self_;
  Handler on_death_;
  robust_list_head held_{};
  Word stop_ = 0;
  std::latch holding_{1};

  // The thread's own.
  std::vector<std::uint32_t> watched_;  // by distance: those of which nothing was told
  std::vector<Wait> waits_;

  std::thread thread_;  // last: it uses the others
};

}  // namespace regroup

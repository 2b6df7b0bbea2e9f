// Death notices between real processes: killed, ending, leaving and replaced ones; and what becomes
// of a system that has no notices to give.
#include "runtime/host/death_notice.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <expected>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

// The machine may be busy: the time for what must happen.
constexpr auto kDeadline = 20s;
constexpr long kFutexWaitv = 449;

// In a helper of several processes: no way to go on, and none to tell a test framework of it.
void must(bool worked) {
  if (!worked) std::abort();
}

// Processes that share a board, and say what they are told. They end with the test.
class Processes {
 public:
  enum class What : std::uint8_t { kNothing, kDeath, kDone };
  enum class Command : std::uint8_t { kWithdraw, kDestroy, kForkAndLoseTheChild, kExec, kExit };
  struct Report {
    What what{};
    std::uint32_t by = 0;
    std::uint32_t of = 0;

    friend auto operator<=>(const Report&, const Report&) = default;
  };

  // Of a board for so many, the processes with these numbers. They wait for each other's words.
  Processes(std::uint32_t board_size, const std::vector<std::uint32_t>& numbers)
      : board_(NoticeBoard::make(board_size)) {
    must(board_.has_value());
    must(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, reports_.data()) == 0);
    for (const std::uint32_t number : numbers) start(number);
    for (std::size_t i = 0; i < numbers.size(); ++i) must(next().what == What::kDone);
  }
  ~Processes() {
    while (!children_.empty()) kill(children_.begin()->first);
    for (const int end : reports_) ::close(end);
  }
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  void kill(std::uint32_t number) {
    signal(number, SIGKILL);
    reap(number);
  }
  void signal(std::uint32_t number, int signal) { ::kill(children_.at(number).pid, signal); }
  void reap(std::uint32_t number) {
    ::waitpid(children_.at(number).pid, nullptr, 0);
    ::close(children_.at(number).control);
    children_.erase(number);
  }
  void tell(std::uint32_t number, Command command) {
    must(::send(children_.at(number).control, &command, sizeof command, MSG_NOSIGNAL) > 0);
  }
  // kNothing if there is none by the deadline.
  Report next() {
    pollfd wait{reports_[0], POLLIN, 0};
    Report report;
    if (::poll(&wait, 1, std::chrono::milliseconds(kDeadline).count()) != 1) return report;
    must(::read(reports_[0], &report, sizeof report) == sizeof report);
    return report;
  }
  std::vector<Report> next(std::size_t count) {
    std::vector<Report> reports;
    while (reports.size() < count) {
      reports.push_back(next());
      if (reports.back().what == What::kNothing) break;
    }
    return reports;
  }

 private:
  struct Child {
    pid_t pid = 0;
    int control = -1;
  };

  void start(std::uint32_t number) {
    std::array<int, 2> control{};
    must(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control.data()) == 0);
    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    must(pid >= 0);
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(1);
      ::close(control[1]);
      be(number, control[0]);
      ::_exit(0);
    }
    ::close(control[0]);
    children_[number] = {pid, control[1]};
  }

  // The life of a child.
  void be(std::uint32_t number, int control) {
    auto board = NoticeBoard::open(::getppid(), board_->place(), board_->processes());
    must(board.has_value());
    std::optional<DeathNotices> notices;
    notices.emplace(std::move(*board), number, [&](std::uint32_t of) {
      say({What::kDeath, number, of});
    });
    say({What::kDone, number, 0});
    for (Command command{}; ::recv(control, &command, sizeof command, 0) > 0;) {
      obey(command, notices);
      say({What::kDone, number, 0});
    }
  }

  static void obey(Command command, std::optional<DeathNotices>& notices) {
    switch (command) {
      case Command::kWithdraw:
        return notices->withdraw();
      case Command::kDestroy:
        return notices.reset();
      case Command::kForkAndLoseTheChild:
        if (const pid_t child = ::fork(); child != 0) {
          ::waitpid(child, nullptr, 0);
          return;
        }
        ::raise(SIGKILL);
        return;
      case Command::kExec:
        ::execlp("sleep", "sleep", "60", nullptr);
        return;
      case Command::kExit:
        ::_exit(0);
    }
  }

  void say(const Report& report) {
    must(::send(reports_[1], &report, sizeof report, MSG_NOSIGNAL) == sizeof report);
  }

  std::expected<NoticeBoard, std::string> board_;
  std::array<int, 2> reports_{};
  std::map<std::uint32_t, Child> children_;
};
using What = Processes::What;
using Command = Processes::Command;
using Report = Processes::Report;

Report death(std::uint32_t by, std::uint32_t of) {
  return {What::kDeath, by, of};
}
Report done(std::uint32_t by) {
  return {What::kDone, by, 0};
}

class DeathNoticeProcesses : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto problem = problem_with_death_notices()) GTEST_SKIP() << *problem;
  }
};

TEST_F(DeathNoticeProcesses, AKilledOneIsToldToEachOtherOnce) {
  Processes processes(4, {0, 1, 2, 3});

  processes.kill(2);
  EXPECT_THAT(processes.next(3), UnorderedElementsAre(death(0, 2), death(1, 2), death(3, 2)));

  processes.kill(1);
  EXPECT_THAT(processes.next(2), UnorderedElementsAre(death(0, 1), death(3, 1)));
}

// The parent reaps it only later: a zombie is dead.
TEST_F(DeathNoticeProcesses, AnyEndIsTold) {
  Processes processes(4, {0, 1, 2, 3});

  processes.tell(1, Command::kExit);
  EXPECT_THAT(processes.next(3), UnorderedElementsAre(death(0, 1), death(2, 1), death(3, 1)));
  processes.reap(1);

  processes.signal(2, SIGSTOP);
  processes.kill(2);
  EXPECT_THAT(processes.next(2), UnorderedElementsAre(death(0, 2), death(3, 2)));

  processes.tell(3, Command::kExec);
  EXPECT_EQ(processes.next(), death(0, 3)) << "of the program that it was, nothing is left";
}

TEST_F(DeathNoticeProcesses, WhoHasWithdrawnEndsUntold) {
  for (const Command command : {Command::kWithdraw, Command::kDestroy}) {
    Processes processes(4, {0, 1, 2, 3});
    processes.tell(1, command);
    ASSERT_EQ(processes.next(), done(1));

    processes.kill(1);
    processes.kill(3);

    EXPECT_THAT(processes.next(2), UnorderedElementsAre(death(0, 3), death(2, 3)));
  }
}

TEST_F(DeathNoticeProcesses, WhoHasWithdrawnIsStillTold) {
  Processes processes(3, {0, 1, 2});
  processes.tell(1, Command::kWithdraw);
  ASSERT_EQ(processes.next(), done(1));

  processes.kill(2);

  EXPECT_THAT(processes.next(2), UnorderedElementsAre(death(0, 2), death(1, 2)));
}

TEST_F(DeathNoticeProcesses, AForkedChildsEndIsNotTheProcesss) {
  Processes processes(3, {0, 1, 2});
  processes.tell(1, Command::kForkAndLoseTheChild);
  ASSERT_EQ(processes.next(), done(1));

  processes.kill(2);
  EXPECT_THAT(processes.next(2), UnorderedElementsAre(death(0, 2), death(1, 2)));

  processes.kill(1);
  EXPECT_EQ(processes.next(), death(0, 1));
}

TEST_F(DeathNoticeProcesses, ManyEndTogether) {
  constexpr std::uint32_t kAll = 16;
  constexpr std::uint32_t kKilled = 8;
  std::vector<std::uint32_t> numbers;
  for (std::uint32_t number = 0; number < kAll; ++number) numbers.push_back(number);
  Processes processes(kAll, numbers);

  for (std::uint32_t number = 0; number < kKilled; ++number) processes.signal(number, SIGKILL);
  for (std::uint32_t number = 0; number < kKilled; ++number) processes.reap(number);

  std::multiset<Report> told;
  while (told.size() < kKilled * (kAll - kKilled)) {
    const Report report = processes.next();
    ASSERT_EQ(report.what, What::kDeath);
    if (report.by >= kKilled) told.insert(report);
  }
  for (std::uint32_t by = kKilled; by < kAll; ++by) {
    for (std::uint32_t of = 0; of < kKilled; ++of) EXPECT_EQ(told.count(death(by, of)), 1U);
  }
}

TEST_F(DeathNoticeProcesses, EachWatchesTheNearestBeforeIt) {
  constexpr std::uint32_t kFar = NoticeBoard::kWatchedMax;
  Processes processes(kFar + 50, {0, kFar, kFar + 1});

  processes.kill(0);
  EXPECT_EQ(processes.next(), death(kFar, 0)) << "the last one is too far away";

  processes.kill(kFar);
  EXPECT_EQ(processes.next(), death(kFar + 1, kFar));
}

// ---- one process ----

template <class Call>
std::chrono::milliseconds time_of(Call call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                               start);
}

// For the calling thread, and those that it starts from now on, the system call fails so.
void forbid(long call, int error_number) {
  std::array<sock_filter, 4> filter{
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call), 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K,
                           SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error_number)),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const sock_fprog program{filter.size(), filter.data()};
  must(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  must(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

TEST(DeathNotice, AKernelWithoutTheCallIsNamed) {
  std::optional<std::string> problem;
  std::expected<NoticeBoard, std::string> board;
  std::thread([&] {
    forbid(kFutexWaitv, ENOSYS);
    problem = problem_with_death_notices();
    board = NoticeBoard::make(4);
  }).join();
  EXPECT_EQ(problem, "futex_waitv: Function not implemented");
  ASSERT_FALSE(board.has_value());
  EXPECT_EQ(board.error(), problem);
}

TEST(DeathNotice, WhoIsAloneNeedsNothing) {
  const auto made = NoticeBoard::make(1);
  const auto opened = NoticeBoard::open(::getpid(), {}, 1);
  ASSERT_TRUE(made && opened);
  EXPECT_EQ(made->processes(), 1U);
  EXPECT_EQ(made->place(), NoticeBoard::Place());
}

TEST_F(DeathNoticeProcesses, ABoardThatIsNotThereIsAnError) {
  const auto board = NoticeBoard::make(3);
  ASSERT_TRUE(board.has_value());
  const auto error = [](pid_t pid, NoticeBoard::Place place, std::uint32_t processes) {
    const auto opened = NoticeBoard::open(pid, place, processes);
    return opened ? std::string() : opened.error();
  };
  NoticeBoard::Place other = board->place();
  ++other.inode;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);

  EXPECT_THAT(error(::getpid(), board->place(), 3), IsEmpty());
  EXPECT_THAT(error(::getpid(), {}, 3), HasSubstr("shares no memory"));
  EXPECT_THAT(error(::getpid(), other, 3), HasSubstr("is not what was shared"));
  EXPECT_THAT(error(::getpid(), board->place(), 4), HasSubstr("bytes"));
  EXPECT_THAT(error(child, board->place(), 3), HasSubstr("No such file or directory"));
}

TEST_F(DeathNoticeProcesses, ABoardOfAnotherUserIsAnError) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  const auto board = NoticeBoard::make(2);
  ASSERT_TRUE(board.has_value());
  const pid_t child = ::fork();
  if (child == 0) {
    constexpr uid_t kNobody = 65534;
    must(::setuid(kNobody) == 0);
    const auto opened = NoticeBoard::open(::getppid(), board->place(), 2);
    ::_exit(!opened && opened.error().ends_with("Permission denied") ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_F(DeathNoticeProcesses, EndsPromptlyThoughNobodyElseCame) {
  std::optional<DeathNotices> notices;
  notices.emplace(*NoticeBoard::make(1000), 5, [](std::uint32_t) { FAIL(); });
  EXPECT_LT(time_of([&] { notices.reset(); }), 5s);
}

TEST_F(DeathNoticeProcesses, EndsPromptlyThoughItCannotWait) {
  std::thread([] {
    auto board = NoticeBoard::make(2);
    forbid(kFutexWaitv, ENOMEM);
    std::optional<DeathNotices> notices;
    notices.emplace(std::move(*board), 0, [](std::uint32_t) { FAIL(); });
    EXPECT_LT(time_of([&] { notices.reset(); }), 5s);
  }).join();
}

TEST_F(DeathNoticeProcesses, ItsThreadHasANameAndNoSignalsAndBeginsAsAsked) {
  bool begun = false;
  const DeathNotices notices(
      *NoticeBoard::make(2), 0, [](std::uint32_t) { FAIL(); }, [&] { begun = true; });
  EXPECT_TRUE(begun);
  std::vector<std::string> blocked;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    if (test::contents_of(task.path() / "comm") != "regroup-notice\n") continue;
    const std::string status = test::contents_of(task.path() / "status");
    blocked.push_back(status.substr(status.find("SigBlk:\t") + 8, 16));
  }
  ASSERT_EQ(blocked.size(), 1U);
  const unsigned long long mask = std::stoull(blocked[0], nullptr, 16);
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGCHLD, SIGPIPE, SIGALRM}) {
    EXPECT_TRUE(mask >> (signal - 1) & 1) << signal;
  }
}

}  // namespace
}  // namespace regroup

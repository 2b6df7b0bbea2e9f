// Faults strike forked children, one thread each when forked; the test is their parent and sees how
// they end. The children report through a pipe.
#include "runtime/host/fault_injector.hpp"

#include <atomic>
#include <csignal>
#include <functional>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/host/call_watch.hpp"
#include "tests/host/checkpoints.hpp"
#include "tests/host/memory_transport.hpp"
#include "tests/host/scratch.hpp"

namespace regroup {
namespace {

using test::MemoryNetwork;
using test::MemoryTransport;
using testing::ElementsAre;
using testing::HasSubstr;

FaultPlan plan_of(const std::string& text) {
  auto plan = parse_fault_plan({text});
  EXPECT_TRUE(plan) << plan.error();
  return plan.value_or(FaultPlan{});
}

View view_of(std::vector<std::uint32_t> members, std::uint64_t epoch = 1) {
  View view{.epoch = Epoch{epoch}};
  for (const std::uint32_t member : members) view.members.insert(RankId{member});
  view.coordinator = view.members.front();
  return view;
}

FaultInjector::ViewNow always(const View& view) {
  return [view] { return view; };
}

// Remembers which shards it was given, order by order.
struct CountingExecutor : Executor {
  void execute(WorkOrder& order, WorkResult&) override {
    if (order.kind == WorkKind::kRun) runs.push_back(order.shards);
    if (during) during();
  }
  std::vector<ShardRange> runs;
  std::function<void()> during;
};

TEST(FaultInjector, HasTheDeviceOfARankFailForItsTime) {
  FaultInjector injector(plan_of("gpu-error:rank=2,for=100ms,gpu-hang:all-but=2"), RankId{2});
  FaultInjector other(plan_of("gpu-error:rank=2,gpu-hang:all-but=2"), RankId{1});
  for (FaultInjector* const each : {&injector, &other}) {
    each->watch(always(view_of({0, 1, 2})));
    each->begin();
  }
  EXPECT_EQ(injector.device_fault(), DeviceFault::kError);
  EXPECT_EQ(other.device_fault(), DeviceFault::kHang);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (injector.device_fault() != DeviceFault::kNone) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    std::this_thread::yield();
  }
}

WorkOrder order_of(WorkKind kind, std::uint64_t first = 0, std::uint64_t count = 0) {
  WorkOrder order;
  order.kind = kind;
  order.shards = {ShardId{first}, count};
  return order;
}

void run(Executor& executor, WorkOrder order) {
  WorkResult result;
  result.restart(order);
  executor.execute(order, result);
}

struct Child {
  int status = 0;        // as waitpid has it
  bool stopped = false;  // was stopped, and continued, on its way
  std::string said;      // on standard error
};

// Runs `body` in a child; what it returns is the exit status.
Child in_child(const std::function<int()>& body) {
  int output[2];
  EXPECT_EQ(pipe(output), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(output[1], STDERR_FILENO);
    close(output[0]);
    close(output[1]);
    alarm(60);
    _exit(body());
  }
  close(output[1]);
  Child child;
  while (waitpid(pid, &child.status, WUNTRACED) == pid && WIFSTOPPED(child.status)) {
    child.stopped = true;
  }
  char bytes[512];
  for (ssize_t count = 0; (count = read(output[0], bytes, sizeof bytes)) > 0;) {
    child.said.append(bytes, static_cast<std::size_t>(count));
  }
  close(output[0]);
  return child;
}

bool was_killed(const Child& child) {
  return WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGKILL;
}
bool went_on(const Child& child) {
  return WIFEXITED(child.status) && WEXITSTATUS(child.status) == 7;
}

// Opens the job, computes `shards` in orders of 8, finalizes; then comes 7.
int whole_run(const std::string& faults, std::uint32_t self, std::uint64_t shards,
              const View& view = view_of({0, 1, 2, 3})) {
  CountingExecutor inner;
  FaultInjector injector(plan_of(faults), RankId{self});
  injector.watch(always(view));
  FaultyExecutor executor(inner, injector);
  run(executor, order_of(WorkKind::kOpen));
  for (std::uint64_t shard = 0; shard < shards; shard += 8) {
    run(executor, order_of(WorkKind::kRun, shard, 8));
  }
  run(executor, order_of(WorkKind::kFinalize));
  return 7;
}

TEST(FaultInjector, KillsTheRankAfterItsShards) {
  const Child child = in_child([] { return whole_run("kill:rank=2,after-shards=10", 2, 16); });
  EXPECT_TRUE(was_killed(child));
  EXPECT_EQ(child.said, "regroup: injected: rank 2 killed after 10 shards\n");
}

TEST(FaultInjector, LeavesOtherRanksAlone) {
  for (const char* faults :
       {"kill:rank=2,after-shards=10", "kill:all-but=1,at=start", "kill:coordinator,at=start",
        "kill:successor,at=end,stop:rank=3,at="
        "start,for=1s"}) {
    const std::uint32_t self = std::string(faults).starts_with("kill:successor") ? 2 : 1;
    const Child child = in_child([&] { return whole_run(faults, self, 16); });
    EXPECT_TRUE(went_on(child)) << faults << ": " << child.said;
    EXPECT_EQ(child.said, "");
  }
}

TEST(FaultInjector, WaitsForTheShards) {
  EXPECT_TRUE(went_on(in_child([] { return whole_run("kill:rank=2,after-shards=17", 2, 16); })));
  EXPECT_TRUE(was_killed(in_child([] { return whole_run("kill:rank=2,after-shards=16", 2, 16); })));
}

TEST(FaultInjector, StrikesBetweenTwoShardsOfAnOrder) {
  CountingExecutor inner;
  FaultInjector injector(plan_of("kill:rank=0,after-shards=100,kill:rank=1,after-shards=3"),
                         RankId{2});
  injector.watch(always(view_of({0, 1, 2})));
  FaultyExecutor executor(inner, injector);
  WorkOrder order = order_of(WorkKind::kRun, 40, 10);
  WorkResult result;
  executor.execute(order, result);
  EXPECT_THAT(inner.runs, ElementsAre(ShardRange{ShardId{40}, 3}, ShardRange{ShardId{43}, 7}));
  EXPECT_EQ(order.shards, (ShardRange{ShardId{40}, 10}));
}

TEST(FaultInjector, KillsAtTheStartBeforeTheJobIsOpened) {
  const Child child = in_child([] {
    CountingExecutor inner;
    inner.during = [] { _exit(8); };
    FaultInjector injector(plan_of("kill:all-but=0,at=start"), RankId{1});
    injector.watch(always(view_of({0, 1})));
    FaultyExecutor executor(inner, injector);
    run(executor, order_of(WorkKind::kOpen));
    return 7;
  });
  EXPECT_TRUE(was_killed(child)) << child.status;
  EXPECT_EQ(child.said, "regroup: injected: rank 1 killed at the start\n");
}

TEST(FaultInjector, KillsTheCoordinatorWhenItHasWrittenTheResult) {
  const Child child = in_child([] { return whole_run("kill:coordinator,at=end", 0, 16); });
  EXPECT_TRUE(was_killed(child));
  EXPECT_EQ(child.said, "regroup: injected: rank 0 killed at the end\n");
}

// The clock kills, whatever the rank is doing.
TEST(FaultInjector, KillsAtATime) {
  const Child child = in_child([] {
    CountingExecutor inner;
    inner.during = [] {
      for (;;) pause();
    };
    FaultInjector injector(plan_of("kill:coordinator,at=20ms"), RankId{1});
    injector.watch(always(view_of({1, 2}, 2)));
    FaultyExecutor executor(inner, injector);
    run(executor, order_of(WorkKind::kRun, 0, 1));
    return 7;
  });
  EXPECT_TRUE(was_killed(child));
  EXPECT_EQ(child.said, "regroup: injected: rank 1 killed at 20 ms\n");
}

TEST(FaultInjector, StopsItsClock) {
  const Child child = in_child([] {
    CountingExecutor inner;
    FaultInjector injector(plan_of("kill:rank=1,at=1000s"), RankId{1});
    injector.watch(always(view_of({0, 1})));
    FaultyExecutor executor(inner, injector);
    run(executor, order_of(WorkKind::kRun, 0, 1));
    injector.stop_clock();
    return 7;
  });
  EXPECT_TRUE(went_on(child)) << child.status;
}

TEST(FaultInjector, StopsTheRankAndWakesItAgain) {
  const Child child =
      in_child([] { return whole_run("stop:rank=2,after-shards=3,for=50ms", 2, 8); });
  EXPECT_TRUE(child.stopped);
  EXPECT_TRUE(went_on(child)) << child.status;
  EXPECT_EQ(child.said, "regroup: injected: rank 2 stopped after 3 shards for 50 ms\n");
}

// The reader of standard error sees its end, so no helper has it open.
TEST(FaultInjector, ItsHelperEndsWithTheRank) {
  const Child child = in_child([] {
    FaultInjector injector(plan_of("stop:rank=0,at=1s,for=50ms,kill:rank=0,at=election"),
                           RankId{0});
    injector.reached(FaultPoint::kElection, view_of({0}));
    return 7;
  });
  EXPECT_TRUE(was_killed(child));
}

TEST(FaultInjector, StrikesAtProtocolPoints) {
  for (const auto& [name, point] :
       std::vector<std::pair<std::string, FaultPoint>>{{"election", FaultPoint::kElection},
                                                       {"agreement", FaultPoint::kAgreement},
                                                       {"shrink", FaultPoint::kShrink}}) {
    const Child child = in_child([&, at = point] {
      FaultInjector injector(plan_of("kill:rank=3,at=" + name), RankId{3});
      for (const FaultPoint other : {FaultPoint::kStart, FaultPoint::kEnd, FaultPoint::kElection,
                                     FaultPoint::kAgreement, FaultPoint::kShrink}) {
        if (other != at) injector.reached(other, view_of({2, 3}));
      }
      (void)!write(STDERR_FILENO, "now ", 4);
      injector.reached(at, view_of({2, 3}));
      return 7;
    });
    EXPECT_TRUE(was_killed(child));
    EXPECT_THAT(child.said, HasSubstr("now regroup: injected: rank 3 killed at a"));
    EXPECT_THAT(child.said, HasSubstr(name));
  }
}

TEST(FaultInjector, CoordinatorAndSuccessorAreThoseOfTheView) {
  const auto meets = [](const std::string& who, std::uint32_t self) {
    return in_child([&] {
      FaultInjector injector(plan_of("kill:" + who + ",at=shrink"), RankId{self});
      injector.reached(FaultPoint::kShrink, view_of({1, 3}, 2));
      return 7;
    });
  };
  EXPECT_TRUE(was_killed(meets("coordinator", 1)));
  EXPECT_TRUE(went_on(meets("coordinator", 3)));
  EXPECT_TRUE(went_on(meets("coordinator", 0)));
  EXPECT_TRUE(was_killed(meets("successor", 3)));
  EXPECT_TRUE(went_on(meets("successor", 1)));
}

// Or the rank that takes over would be the next victim of a fault that was meant for one.
TEST(FaultInjector, AFaultHasOneChanceOnARank) {
  const Child child = in_child([] {
    FaultInjector injector(plan_of("kill:coordinator,at=election"), RankId{1});
    injector.reached(FaultPoint::kElection, view_of({0, 1}));
    injector.reached(FaultPoint::kElection, view_of({1}, 2));
    return 7;
  });
  EXPECT_TRUE(went_on(child));
}

TEST(FaultInjector, OnlyTheFirstOfAllRanksIsStruckWhereNoneIsNamed) {
  const auto meets = [](const std::string& faults, bool is_first) {
    return in_child([&] {
      FaultInjector injector(plan_of(faults), RankId{0});
      injector.ask_first([is_first](std::size_t fault) { return is_first && fault == 1; });
      injector.reached(FaultPoint::kEnd, view_of({0, 1}));
      return 7;
    });
  };
  const std::string coordinator = "slow:rank=3,factor=2,kill:coordinator,at=end";
  EXPECT_TRUE(was_killed(meets(coordinator, true)));
  EXPECT_TRUE(went_on(meets(coordinator, false)));
  EXPECT_TRUE(was_killed(meets("slow:rank=3,factor=2,kill:rank=0,at=end", false)));
}

TEST(FaultInjector, SlowsEachOrderByTheFactor) {
  using Clock = std::chrono::steady_clock;
  CountingExecutor inner;
  Clock::duration computing{};
  inner.during = [&] {
    const auto begin = Clock::now();
    while (Clock::now() - begin < std::chrono::milliseconds(5)) {
    }
    computing = Clock::now() - begin;
  };
  FaultInjector injector(plan_of("slow:rank=1,factor=4"), RankId{1});
  injector.watch(always(view_of({0, 1})));
  FaultyExecutor executor(inner, injector);
  for (const WorkKind kind : {WorkKind::kRun, WorkKind::kStep}) {
    const auto begin = Clock::now();
    run(executor, order_of(kind, 0, 4));
    EXPECT_GE(Clock::now() - begin, 4 * computing);
  }
}

TEST(FaultInjector, SlowsWhoeverCoordinates) {
  View view = view_of({0, 1});
  FaultInjector injector(plan_of("slow:coordinator,factor=4,slow:rank=1,factor=3"), RankId{1});
  injector.watch([&view] { return view; });
  EXPECT_EQ(injector.slowness(), 3);
  view = view_of({1}, 2);
  EXPECT_EQ(injector.slowness(), 12);
}

// Takes a checkpoint, as one rank does; what failed, or "sealed".
std::string take_checkpoint(FaultInjector& injector, const CheckpointStore& store,
                            std::uint64_t number) {
  injector.begin_checkpoint_write();
  const auto taken =
      test::take(store, {.checkpoint = test::number(number), .ranks = 1, .rows = 100});
  return taken ? "sealed" : taken.error();
}

TEST(FaultyFileSystem, FailsCheckpointsFromTheGivenOneOn) {
  for (const auto& [fault, text] : std::vector<std::pair<std::string, std::string>>{
           {"disk-full:after=2", errno_text(ENOSPC)}, {"disk-error:after=2", errno_text(EIO)}}) {
    const test::ScratchDirectory scratch;
    FaultInjector injector(plan_of(fault), RankId{0});
    FaultyFileSystem file_system(injector);
    injector.watch(always(view_of({0, 1})));
    const CheckpointStore store(scratch.path(), test::kRun, file_system);
    EXPECT_EQ(take_checkpoint(injector, store, 1), "sealed");
    for (const std::uint64_t number : {2, 3}) {
      EXPECT_THAT(take_checkpoint(injector, store, number), HasSubstr(text)) << fault;
    }
    EXPECT_EQ(store.open_newest_valid()->checkpoint->manifest().checkpoint, test::number(1));
  }
}

TEST(FaultyFileSystem, HasADiskThatIsWellAgain) {
  const test::ScratchDirectory scratch;
  FaultInjector injector(plan_of("disk-full:after=1,for=1ms"), RankId{0});
  FaultyFileSystem file_system(injector);
  injector.watch(always(view_of({0})));
  const CheckpointStore store(scratch.path(), test::kRun, file_system);
  injector.begin_checkpoint_write();
  while (injector.disk_error() != 0) {
  }
  EXPECT_EQ(take_checkpoint(injector, store, 1), "sealed");
}

TEST(FaultyFileSystem, IsThatOfTheRankThatIsNamed) {
  const test::ScratchDirectory scratch;
  FaultInjector injector(plan_of("disk-full:after=1,rank=1,disk-error:after=1,all-but=0"),
                         RankId{0});
  FaultyFileSystem file_system(injector);
  injector.watch(always(view_of({0, 1})));
  EXPECT_EQ(take_checkpoint(injector, CheckpointStore(scratch.path(), test::kRun, file_system), 1),
            "sealed");
}

// What the killed process leaves tells where it was.
TEST(FaultyFileSystem, StrikesAtTheStepsOfACheckpoint) {
  struct Step {
    std::string name;
    std::vector<std::string> left;
  };
  const std::string part = "part-0000.h5";
  for (const Step& step :
       std::vector<Step>{{"part", {}},
                         {"manifest", {part, "view.h5"}},
                         {"seal", {"manifest.json.tmp", part, "view.h5"}},
                         {"sealed", {"manifest.json", "manifest.json.tmp", part, "view.h5"}}}) {
    const test::ScratchDirectory scratch;
    const Child child = in_child([&] {
      FaultInjector injector(plan_of("kill:coordinator,at=" + step.name), RankId{0});
      injector.watch(always(view_of({0, 1})));
      FaultyFileSystem file_system(injector);
      take_checkpoint(injector, CheckpointStore(scratch.path(), test::kRun, file_system), 1);
      return 7;
    });
    EXPECT_TRUE(was_killed(child)) << step.name;
    EXPECT_EQ(test::names_in(scratch.path() / "checkpoints" / "000001"), step.left) << step.name;
  }
}

Buffer frame_of(const std::string& text) {
  return Buffer(std::as_bytes(std::span(text.data(), text.size())));
}

std::vector<std::string> arrived(MemoryNetwork& network, RankId rank) {
  std::vector<std::string> texts;
  for (const auto& [from, frame] : network.take(rank, 100)) {
    texts.emplace_back(reinterpret_cast<const char*>(frame.data()), frame.size());
  }
  return texts;
}

// The thread inside never comes back, so the child ends while it sleeps there.
TEST(FaultyTransport, NeverReturnsOnceItIsWedged) {
  for (const int call : {0, 1, 2}) {
    const Child child = in_child([call] {
      MemoryNetwork network(2);
      MemoryTransport wire(network, RankId{0});
      FaultInjector injector(plan_of("wedge:rank=0,after-shards=3"), RankId{0});
      FaultyTransport transport(wire, injector);
      const auto ignore = [](RankId, std::span<const std::byte>) {};
      injector.computed(2);
      if (transport.poll(ignore, 10) != 0 || wire.polls() != 1) return 1;
      injector.computed(1);
      std::atomic<pid_t> caller = 0;
      std::thread([&] {
        caller = gettid();
        if (call == 0) transport.poll(ignore, 10);
        if (call == 1) transport.flush();
        if (call == 2) transport.send(RankId{1}, frame_of("a"));
        _exit(2);
      }).detach();
      for (auto thread = activity_of(caller); !thread || thread->is_ready;) {
        thread = activity_of(caller);
      }
      _exit(wire.polls() == 1 ? 7 : 3);
    });
    EXPECT_TRUE(went_on(child)) << call << ": " << child.status;
    EXPECT_EQ(child.said, "regroup: injected: rank 0 wedged after 3 shards\n");
  }
}

TEST(FaultyTransport, SendsTwice) {
  MemoryNetwork network(2);
  MemoryTransport wire(network, RankId{0});
  const FaultInjector injector(plan_of("duplicate-results:rank=0"), RankId{0});
  FaultyTransport transport(wire, injector);
  transport.send(RankId{1}, frame_of("a"));
  transport.send(RankId{1}, frame_of("b"));
  EXPECT_THAT(arrived(network, RankId{1}), ElementsAre("a", "a", "b", "b"));
}

TEST(FaultyTransport, SendsLateAndInOrder) {
  MemoryNetwork network(2);
  MemoryTransport wire(network, RankId{0});
  const FaultInjector injector(plan_of("late-results:rank=0,by=30ms"), RankId{0});
  FaultyTransport transport(wire, injector);
  const auto begin = std::chrono::steady_clock::now();
  transport.send(RankId{1}, frame_of("first"));
  transport.send(RankId{1}, frame_of("next"));
  EXPECT_EQ(transport.backlog_bytes(), 9U);
  std::vector<std::string> texts;
  while (texts.size() < 2) {
    transport.poll([](RankId, std::span<const std::byte>) {}, 10);
    for (std::string& text : arrived(network, RankId{1})) texts.push_back(std::move(text));
    if (texts.empty()) continue;
    ASSERT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(30));
  }
  EXPECT_THAT(texts, ElementsAre("first", "next"));
  EXPECT_EQ(transport.backlog_bytes(), 0U);
}

TEST(FaultyTransport, LeavesOtherRanksAlone) {
  MemoryNetwork network(2);
  MemoryTransport wire(network, RankId{1});
  const FaultInjector injector(plan_of("late-results:rank=0,by=3s,duplicate-results:rank=0"),
                               RankId{1});
  FaultyTransport transport(wire, injector);
  transport.send(RankId{0}, frame_of("a"));
  EXPECT_THAT(arrived(network, RankId{0}), ElementsAre("a"));
  EXPECT_EQ(transport.self(), RankId{1});
  EXPECT_EQ(transport.ranks(), 2U);
}

}  // namespace
}  // namespace regroup

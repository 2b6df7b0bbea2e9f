// HostLoop in threads of one process, over MemoryTransport: a small service stands in for the
// scheduler, and orders that wait for each other stand in for user code. Nothing sleeps: whoever
// waits, waits for an event, with a deadline that only a broken loop meets.
#include "runtime/host/host_loop.hpp"

#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include "tests/host/memory_transport.hpp"

namespace regroup {
namespace {

using test::MemoryNetwork;
using test::MemoryTransport;

constexpr auto kDeadline = std::chrono::seconds(60);
constexpr RankId kFirst{0};
constexpr RankId kSecond{1};

// What a test has a rank do; a handler that is empty does nothing.
struct Script {
  std::function<void(Context&)> on_start;
  std::function<void(Context&)> on_view;
  std::function<void(Context&)> on_tick;
  std::function<void(Context&, RankId, MessageKind)> on_message;
  std::function<void(Context&, RankId, std::span<const std::byte>&, Buffer&)> on_bulk;
  std::function<void(Context&)> on_work_wanted;
  std::function<void(Context&, WorkResult&)> on_work_finished;
  std::function<void(Context&, RegistryCall&)> on_registry_call;
  std::function<void(Context&, DiskAnswer&)> on_disk;
  std::function<void(WorkOrder&)> execute;
};

class ScriptedService : public Service {
 public:
  explicit ScriptedService(const Script& script) : script_(&script) {}
  void on_start(Context& context) override { call(script_->on_start, context); }
  void on_view(Context& context) override { call(script_->on_view, context); }
  void on_left(Context&, RankId) override {}
  void on_tick(Context& context) override { call(script_->on_tick, context); }
  bool on_message(Context& context, RankId from, MessageKind kind,
                  std::span<const std::byte>) override {
    call(script_->on_message, context, from, kind);
    return true;
  }
  void on_bulk(Context& context, RankId from, MessageKind, std::span<const std::byte> header,
               Buffer bytes, const BulkHash&) override {
    call(script_->on_bulk, context, from, header, bytes);
  }
  void on_work_wanted(Context& context) override { call(script_->on_work_wanted, context); }
  void on_work_finished(Context& context, WorkResult& result) override {
    call(script_->on_work_finished, context, result);
  }
  void on_registry_call(Context& context, RegistryCall& asked) override {
    call(script_->on_registry_call, context, asked);
  }
  void on_wish(Context& context, Wish, const std::string& reason) override {
    context.finish({3, reason});
  }
  void on_disk(Context& context, DiskAnswer& answer) override {
    call(script_->on_disk, context, answer);
  }

 private:
  template <class Handler, class... Arguments>
  static void call(const Handler& handler, Arguments&... arguments) {
    if (handler) handler(arguments...);
  }
  const Script* script_;
};

class ScriptedExecutor : public Executor {
 public:
  explicit ScriptedExecutor(const Script& script) : script_(&script) {}
  void execute(WorkOrder& order, WorkResult&) override {
    if (script_->execute) script_->execute(order);
  }

 private:
  const Script* script_;
};

// One rank: everything that a HostLoop drives.
struct Rank {
  Rank(MemoryNetwork& network, RankId self, Script rank_script, HostHooks hooks = {})
      : script(std::move(rank_script)),
        transport(network, self),
        executor(script),
        node({.self = self, .ranks = network.ranks()}, std::make_unique<ScriptedService>(script),
             pool),
        loop(node, transport, executor, std::move(hooks)) {}

  Script script;
  BufferPool pool;
  MemoryTransport transport;
  ScriptedExecutor executor;
  Node node;
  HostLoop loop;
};

void send(Context& context, RankId to, MessageKind kind) {
  context.begin(to, kind);
  context.send();
}

// Gives the rank one order, once.
auto one_order() {
  return [given = false](Context& context) mutable {
    if (!std::exchange(given, true)) context.order({});
  };
}

void wait_for(std::future<void> event) {
  if (event.wait_for(kDeadline) == std::future_status::ready) return;
  std::fputs("the event that a test waits for did not come\n", stderr);
  std::abort();
}

TEST(HostLoop, RunsOrdersAndHandsTheirResultsBack) {
  constexpr int kOrders = 100;
  MemoryNetwork network(1);
  int wanted = 0;
  std::vector<std::uint64_t> computed;
  std::vector<std::uint64_t> finished;
  Rank rank(network, kFirst,
            {.on_work_wanted =
                 [&](Context& context) {
                   WorkOrder order;
                   order.shards = {ShardId{static_cast<std::uint64_t>(wanted++)}, 1};
                   context.order(std::move(order));
                 },
             .on_work_finished =
                 [&](Context& context, WorkResult& result) {
                   finished.push_back(result.shards.first.value);
                   EXPECT_GE(result.elapsed, 0);
                   if (finished.size() == kOrders) context.finish({0, "done"});
                 },
             .execute = [&](WorkOrder& order) { computed.push_back(order.shards.first.value); }});

  const Outcome outcome = rank.loop.run();

  EXPECT_EQ(outcome.exit_status, 0);
  EXPECT_EQ(outcome.message, "done");
  ASSERT_EQ(finished.size(), kOrders);
  EXPECT_EQ(computed, finished);
}

TEST(HostLoop, RanksTalkUntilEachHasItsOutcome) {
  constexpr int kRounds = 200;
  constexpr std::uint32_t kRanks = 3;
  MemoryNetwork network(kRanks);
  int rounds = 0;
  const auto next_of = [](const Context& context) {
    return RankId{(context.self().value + 1) % kRanks};
  };
  // A token goes round; the first rank counts and in the end sends the finish round.
  const auto pass_on = [&](Context& context, RankId, MessageKind kind) {
    if (kind == MessageKind::kFinish) {
      if (context.self() != kFirst) send(context, next_of(context), kind);
      context.finish({0, "round"});
      return;
    }
    const bool over = context.self() == kFirst && ++rounds == kRounds;
    send(context, next_of(context), over ? MessageKind::kFinish : kind);
  };
  std::vector<std::unique_ptr<Rank>> ranks;
  for (std::uint32_t i = 0; i < kRanks; ++i) {
    ranks.push_back(std::make_unique<Rank>(network, RankId{i}, Script{.on_message = pass_on}));
  }
  ranks[0]->script.on_start = [&](Context& context) {
    send(context, next_of(context), MessageKind::kLease);
  };

  std::vector<std::future<Outcome>> outcomes;
  for (auto& rank : ranks) {
    outcomes.push_back(std::async(std::launch::async, [&] { return rank->loop.run(); }));
  }

  for (auto& outcome : outcomes) EXPECT_EQ(outcome.get().message, "round");
  EXPECT_EQ(rounds, kRounds);
}

TEST(HostLoop, CompanionAnswersWhileAnOrderKeepsTheLeaderBusy) {
  constexpr int kAnswersWanted = 50;
  MemoryNetwork network(2);
  std::promise<void> order_began;
  std::promise<void> answered;
  int answers = 0;

  // The first rank's order ends only once the second has had its answers, one after the other.
  Rank busy(network, kFirst,
            {.on_message = [](Context& context, RankId from,
                              MessageKind) { send(context, from, MessageKind::kLease); },
             .on_work_wanted = one_order(),
             .on_work_finished =
                 [](Context& context, WorkResult&) {
                   send(context, kSecond, MessageKind::kFinish);
                   context.finish({0, "computed"});
                 },
             .execute =
                 [&](WorkOrder&) {
                   order_began.set_value();
                   wait_for(answered.get_future());
                 }});
  Rank asking(network, kSecond,
              {.on_message = [&](Context& context, RankId from, MessageKind kind) {
                if (kind == MessageKind::kFinish) return context.finish({0, "told"});
                if (++answers == kAnswersWanted) return answered.set_value();
                send(context, from, MessageKind::kReady);
              }});
  asking.script.on_start = [&](Context& context) {
    wait_for(order_began.get_future());
    send(context, kFirst, MessageKind::kReady);
  };

  auto told = std::async(std::launch::async, [&] { return asking.loop.run(); });
  const Outcome outcome = busy.loop.run();

  EXPECT_EQ(outcome.message, "computed");
  EXPECT_EQ(told.get().message, "told");
  EXPECT_EQ(answers, kAnswersWanted);
}

constexpr std::size_t kBulkBytes = 3'000'000;

void send_bulk(Context& context, RankId to) {
  auto bytes = std::make_shared<Buffer>();
  bytes->resize(kBulkBytes);
  std::ranges::fill(bytes->writable(), std::byte{7});
  context.begin(to, MessageKind::kPartitions).put(std::uint64_t{5});
  EXPECT_TRUE(context.send_bulk(std::move(bytes)));
}

TEST(HostLoop, BulkTransfersPassBetweenRanks) {
  MemoryNetwork network(2);
  Rank first(network, kFirst,
             {.on_start = [](Context& context) { send_bulk(context, kSecond); },
              .on_message =
                  [](Context& context, RankId, MessageKind) {
                    context.finish({0, "told"});
                  }});
  Rank second(network, kSecond,
              {.on_bulk = [](Context& context, RankId from, std::span<const std::byte>& header,
                             Buffer& bytes) {
                EXPECT_EQ(from, kFirst);
                EXPECT_EQ(header.size(), sizeof(std::uint64_t));
                ASSERT_EQ(bytes.size(), kBulkBytes);
                EXPECT_TRUE(std::ranges::all_of(
                    bytes.view(), [](std::byte byte) { return byte == std::byte{7}; }));
                send(context, from, MessageKind::kReady);
                context.finish({0, "received"});
              }});

  auto told = std::async(std::launch::async, [&] { return first.loop.run(); });

  EXPECT_EQ(second.loop.run().message, "received");
  EXPECT_EQ(told.get().message, "told");
}

TEST(HostLoop, CompanionMovesBulkTransfersWhileAnOrderKeepsTheLeaderBusy) {
  constexpr int kTransfers = 20;
  MemoryNetwork network(2);
  std::promise<void> order_began;
  std::promise<void> all_came;
  int came = 0;
  Rank busy(network, kFirst,
            {.on_bulk =
                 [&](Context& context, RankId from, std::span<const std::byte>&, Buffer&) {
                   if (++came == kTransfers) return all_came.set_value();
                   send(context, from, MessageKind::kReady);
                 },
             .on_work_wanted = one_order(),
             .on_work_finished =
                 [](Context& context, WorkResult&) {
                   send(context, kSecond, MessageKind::kFinish);
                   context.finish({0, "computed"});
                 },
             .execute =
                 [&](WorkOrder&) {
                   order_began.set_value();
                   wait_for(all_came.get_future());
                 }});
  Rank sending(network, kSecond, {.on_message = [](Context& context, RankId, MessageKind kind) {
                 if (kind == MessageKind::kFinish) return context.finish({0, "told"});
                 send_bulk(context, kFirst);
               }});
  sending.script.on_start = [&](Context& context) {
    wait_for(order_began.get_future());
    send_bulk(context, kFirst);
  };

  auto told = std::async(std::launch::async, [&] { return sending.loop.run(); });

  EXPECT_EQ(busy.loop.run().message, "computed");
  EXPECT_EQ(told.get().message, "told");
}

// Grants every token: there is nobody else.
FenceAnswer grant(const FenceRequest& request) {
  return {.epoch = request.epoch, .content = Buffer(request.content.view())};
}

class TransportEvidence : public testing::TestWithParam<EvidenceKind> {};
INSTANTIATE_TEST_SUITE_P(HostLoop, TransportEvidence,
                         testing::Values(EvidenceKind::kConfirmed, EvidenceKind::kUnreachable));

TEST_P(TransportEvidence, LeadsToAView) {
  MemoryNetwork network(2);
  Rank rank(network, kFirst,
            {.on_view =
                 [](Context& context) {
                   context.finish({0, "went on"});
                 }},
            {.take_fence = grant, .use_disk = {}, .on_revoked = {}, .on_view = {}, .on_death = {}});
  rank.transport.pretend({kSecond, GetParam()});

  EXPECT_EQ(rank.loop.run().message, "went on");
  EXPECT_GE(rank.transport.bulk_drops(), 2u) << "as the view ends, and with the next";
  ASSERT_TRUE(rank.transport.entered());
  EXPECT_EQ(rank.transport.entered()->members, RankSet{kFirst});
  ASSERT_EQ(rank.loop.recoveries().size(), 1u);
  EXPECT_EQ(rank.loop.recoveries().front().evidence, GetParam());
}

TEST(HostLoop, WhoKnowsWhichRanksHaveLeftDecidesWhetherADeathIsAFailure) {
  MemoryNetwork network(2);
  std::vector<RankId> deaths;
  HostLoop* loop = nullptr;
  HostHooks hooks{
      .take_fence = grant, .use_disk = {}, .on_revoked = {}, .on_view = {}, .on_death = {}};
  hooks.on_death = [&](RankId dead) {
    deaths.push_back(dead);
    loop->wish(Wish::kStop, SIGTERM);
  };
  Rank rank(network, kFirst, {}, std::move(hooks));
  loop = &rank.loop;
  rank.transport.pretend({kSecond, EvidenceKind::kConfirmed});

  const Outcome outcome = rank.loop.run();

  EXPECT_TRUE(outcome.message.starts_with(kStoppedBySignal)) << outcome.message;
  EXPECT_EQ(deaths, std::vector<RankId>{kSecond});
  EXPECT_FALSE(rank.transport.entered());
}

TEST(HostLoop, LooksAreTakenWhileAnOrderRuns) {
  MemoryNetwork network(1);
  std::promise<void> order_began;
  std::promise<void> looked;
  Rank rank(network, kFirst,
            {.on_work_wanted = one_order(),
             .on_work_finished =
                 [](Context& context, WorkResult&) {
                   context.finish({0, ""});
                 },
             .execute =
                 [&](WorkOrder&) {
                   order_began.set_value();
                   wait_for(looked.get_future());
                 }});

  auto outcome = std::async(std::launch::async, [&] { return rank.loop.run(); });
  wait_for(order_began.get_future());
  std::uint64_t epoch = 0;
  rank.loop.inspect([&](const Node& node) { epoch = node.view().epoch.value; });
  looked.set_value();

  EXPECT_EQ(outcome.get().exit_status, 0);
  EXPECT_EQ(epoch, 1u);
}

TEST(HostLoop, AnOutcomeDuringAnOrderWaitsForTheOrder) {
  MemoryNetwork network(2);
  std::promise<void> order_began;
  std::promise<void> outcome_known;
  bool order_ended = false;
  Rank busy(network, kFirst,
            {.on_message =
                 [&](Context& context, RankId, MessageKind) {
                   context.finish({3, "given up"});
                   outcome_known.set_value();
                 },
             .on_work_wanted = one_order(),
             .execute =
                 [&](WorkOrder&) {
                   order_began.set_value();
                   wait_for(outcome_known.get_future());
                   order_ended = true;
                 }});
  Rank ending(network, kSecond, {.on_start = [&](Context& context) {
                wait_for(order_began.get_future());
                send(context, kFirst, MessageKind::kFinish);
                context.finish({3, "mine"});
              }});

  auto other = std::async(std::launch::async, [&] { return ending.loop.run(); });
  const Outcome outcome = busy.loop.run();

  EXPECT_EQ(outcome.exit_status, 3);
  EXPECT_EQ(outcome.message, "given up");
  EXPECT_TRUE(order_ended);
  EXPECT_EQ(other.get().message, "mine");
}

// An order that never ends must not keep the rank, once it has its outcome.
void run_endless_order() {
  MemoryNetwork network(1);
  std::promise<void> never;
  Rank rank(network, kFirst, {.on_work_wanted = one_order()});
  rank.script.execute = [&](WorkOrder&) {
    rank.loop.wish(Wish::kStop, SIGTERM);
    never.get_future().wait();
  };
  (void)rank.loop.run();
}

TEST(HostLoopDeathTest, AnEndlessOrderIsCutOffAfterTheEnd) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run_endless_order(), testing::ExitedWithCode(3),
              "rank 0 ends in the middle of a shard");
}

HostLoop* signalled = nullptr;

TEST(HostLoop, ASignalHandlerMayStopIt) {
  MemoryNetwork network(1);
  bool raised = false;
  Rank rank(network, kFirst, {.on_tick = [&](Context&) {
              if (!std::exchange(raised, true)) std::raise(SIGUSR2);
            }});
  signalled = &rank.loop;
  const auto before =
      std::signal(SIGUSR2, [](int signal) { signalled->wish(Wish::kStop, signal); });

  const Outcome outcome = rank.loop.run();

  std::signal(SIGUSR2, before);
  EXPECT_EQ(outcome.exit_status, 3);
  EXPECT_EQ(outcome.message, std::string(kStoppedBySignal) + std::to_string(SIGUSR2));
}

// While it computes, and on another thread.
TEST(HostLoop, TheDiskIsUsedBesideTheLoop) {
  MemoryNetwork network(1);
  const auto loop_thread = std::this_thread::get_id();
  std::promise<void> used;
  HostHooks hooks;
  hooks.use_disk = [&](DiskRequest& request) {
    EXPECT_NE(std::this_thread::get_id(), loop_thread);
    DiskAnswer answer{.task = request.task, .checkpoint = request.checkpoint};
    answer.part = std::to_string(request.pieces.at(0).bytes.size());
    used.set_value();
    return answer;
  };
  Rank rank(network, kFirst, {.on_work_wanted = one_order()}, std::move(hooks));
  rank.script.on_start = [](Context& context) {
    DiskRequest request{.task = DiskTask::kWritePart, .checkpoint = CheckpointNumber{5}};
    request.pieces.push_back({"state", 0, Buffer(std::as_bytes(std::span("bytes", 5)))});
    context.ask_disk(std::move(request));
  };
  rank.script.execute = [&](WorkOrder&) { wait_for(used.get_future()); };
  rank.script.on_disk = [](Context& context, DiskAnswer& answer) {
    EXPECT_EQ(answer.task, DiskTask::kWritePart);
    context.finish({static_cast<int>(answer.checkpoint.value), answer.part + answer.error});
  };

  const Outcome outcome = rank.loop.run();

  EXPECT_EQ(outcome.exit_status, 5);
  EXPECT_EQ(outcome.message, "5");
}

TEST(HostLoop, WithoutADiskEveryRequestFails) {
  MemoryNetwork network(1);
  Rank rank(network, kFirst,
            {.on_start = [](Context& context) { context.ask_disk({.task = DiskTask::kNumber}); }});
  rank.script.on_disk = [](Context& context, DiskAnswer& answer) {
    context.finish({1, answer.error});
  };
  EXPECT_EQ(rank.loop.run().message, "there is no disk");
}

TEST(HostLoop, TakesNoOrderWhileTooMuchWaitsToBeSent) {
  constexpr std::uint64_t kPolls = 200;
  MemoryNetwork network(1);
  std::optional<std::uint64_t> polls_before_order;
  Rank rank(network, kFirst, {.on_work_finished = [](Context& context, WorkResult&) {
              context.finish({0, ""});
            }});
  rank.script.on_work_wanted = [&](Context& context) {
    EXPECT_LE(rank.transport.backlog_bytes(), HostLoop::kBacklogBytesMax);
    if (polls_before_order) return;
    polls_before_order = rank.transport.polls();
    context.order({});
  };
  rank.transport.pretend_backlog(HostLoop::kBacklogBytesMax + 1, kPolls);

  EXPECT_EQ(rank.loop.run().exit_status, 0);

  ASSERT_TRUE(polls_before_order);
  EXPECT_GE(*polls_before_order, kPolls);
}

TEST(HostLoop, ABacklogWithinTheBoundHoldsNothingUp) {
  MemoryNetwork network(1);
  std::uint64_t polls_at_order = 0;
  Rank rank(network, kFirst, {.on_work_finished = [](Context& context, WorkResult&) {
              context.finish({0, ""});
            }});
  rank.script.on_work_wanted = [&](Context& context) {
    polls_at_order = rank.transport.polls();
    context.order({});
  };
  rank.transport.pretend_backlog(HostLoop::kBacklogBytesMax, 100);

  EXPECT_EQ(rank.loop.run().exit_status, 0);

  EXPECT_EQ(polls_at_order, 1u);
}

TEST(HostLoop, RemembersARecoveryAndBeginsItsThreadsAsAsked) {
  MemoryNetwork network(2);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  HostHooks hooks;
  hooks.take_fence = [](const FenceRequest& request) {
    return FenceAnswer{request.epoch, Buffer(request.content.view())};
  };
  hooks.on_thread = [&] {
    const std::lock_guard lock(mutex);
    threads.insert(std::this_thread::get_id());
  };
  Rank rank(network, kFirst,
            {.on_work_finished =
                 [](Context& context, WorkResult&) {
                   context.finish({0, ""});
                 }},
            std::move(hooks));
  rank.script.on_work_wanted = [](Context& context) {
    if (context.view().epoch == Epoch{2}) context.order({.kind = WorkKind::kRun});
  };

  rank.loop.learn({kSecond, EvidenceKind::kConfirmed});
  EXPECT_EQ(rank.loop.run().exit_status, 0);

  const auto recoveries = rank.loop.recoveries();
  ASSERT_EQ(recoveries.size(), 1u);
  const Recovery& recovery = recoveries.front();
  EXPECT_EQ(recovery.epoch, Epoch{2});
  EXPECT_EQ(recovery.lost, RankSet{kSecond});
  EXPECT_EQ(recovery.evidence, EvidenceKind::kConfirmed);
  EXPECT_LE(recovery.detected, recovery.revoked);
  EXPECT_LE(recovery.revoked, recovery.entered);
  EXPECT_LE(recovery.entered, recovery.resumed.value());
  EXPECT_GE(threads.size(), 2u);  // the companion, and each that takes the fence
  EXPECT_FALSE(threads.contains(std::this_thread::get_id()));
}

TEST(HostLoop, BeginsNoOrderWhileTheMembersAgree) {
  using Clock = std::chrono::steady_clock;
  MemoryNetwork network(2);
  Clock::time_point granted;
  Clock::time_point began;
  std::atomic<int> ticks = 0;
  HostHooks hooks;
  hooks.take_fence = [&](const FenceRequest& request) {
    const int asked_at = ticks;  // the loop has some turns to begin an order
    const auto deadline = Clock::now() + kDeadline;
    while (ticks < asked_at + 4 && Clock::now() < deadline) std::this_thread::yield();
    granted = Clock::now();
    return grant(request);
  };
  Rank rank(network, kFirst,
            {.on_tick = [&](Context&) { ++ticks; },
             .on_work_wanted = one_order(),
             .on_work_finished =
                 [](Context& context, WorkResult&) {
                   context.finish({0, ""});
                 },
             .execute = [&](WorkOrder&) { began = Clock::now(); }},
            std::move(hooks));

  const auto learned = Clock::now();
  rank.loop.learn({kSecond, EvidenceKind::kConfirmed});
  EXPECT_EQ(rank.loop.run().exit_status, 0);

  const bool out_of_patience = began - learned >= std::chrono::nanoseconds(HostLoop::kAsideMax);
  EXPECT_TRUE(out_of_patience || (granted != Clock::time_point() && began > granted));
}

TEST(HostLoop, ComputesAgainIfTheMembersTakeLongToAgree) {
  MemoryNetwork network(2);
  std::promise<void> order_began;
  HostHooks hooks;
  hooks.take_fence = [&](const FenceRequest& request) {
    wait_for(order_began.get_future());
    return grant(request);
  };
  Rank rank(network, kFirst,
            {.on_view =
                 [](Context& context) {
                   context.finish({0, "went on"});
                 },
             .on_work_wanted = one_order(),
             .execute = [&](WorkOrder&) { order_began.set_value(); }},
            std::move(hooks));

  rank.loop.learn({kSecond, EvidenceKind::kConfirmed});
  EXPECT_EQ(rank.loop.run().message, "went on");
}

// One that does not answer: it has a bell, and no loop.
TEST(HostLoop, RingsForWhatOthersWaitFor) {
  constexpr RankId kThird{2};
  constexpr std::array<std::uint32_t, 2> kNear{0, 1};
  const auto run = static_cast<std::uint64_t>(getpid()) << 32 | 1;
  const auto own = Doorbell::open(run, kFirst, kNear);
  const auto others = Doorbell::open(run, kSecond, kNear);
  ASSERT_TRUE(own && others);
  MemoryNetwork network(3);
  HostHooks hooks;
  hooks.bell = &*own;
  Rank rank(network, kFirst, {}, std::move(hooks));

  auto outcome = std::async(std::launch::async, [&] { return rank.loop.run(); });
  rank.loop.learn({kThird, EvidenceKind::kConfirmed});
  pollfd rung{others->fd(), POLLIN, 0};
  EXPECT_EQ(poll(&rung, 1, static_cast<int>(std::chrono::milliseconds(kDeadline).count())), 1);
  rank.loop.wish(Wish::kStop, SIGTERM);
  EXPECT_EQ(outcome.get().exit_status, 3);
}

TEST(HostLoop, WhoHasSaidItsLastWordIsNotLost) {
  constexpr RankId kThird{2};
  MemoryNetwork network(3);
  RankSet lost;
  HostHooks hooks;
  hooks.take_fence = [](const FenceRequest& request) {
    return FenceAnswer{request.epoch, Buffer(request.content.view())};
  };
  hooks.on_view = [&](const View&, const RankSet& ranks) { lost = ranks; };
  Rank rank(network, kFirst,
            {.on_tick =
                 [](Context& context) {
                   if (context.view().epoch == Epoch{2}) context.finish({0, ""});
                 }},
            std::move(hooks));

  rank.loop.learn({kThird, EvidenceKind::kLeft});
  rank.loop.learn({kThird, EvidenceKind::kConfirmed});
  rank.loop.learn({kSecond, EvidenceKind::kConfirmed});
  EXPECT_EQ(rank.loop.run().exit_status, 0);

  ASSERT_EQ(rank.loop.recoveries().size(), 1u);
  EXPECT_EQ(rank.loop.recoveries().front().lost, RankSet{kSecond});
  EXPECT_EQ(rank.loop.recoveries().front().evidence, EvidenceKind::kConfirmed);
  EXPECT_EQ(lost, RankSet{kSecond});
}

TEST(HostLoop, ACallOfTheTransportThatDoesNotReturnIsSeen) {
  MemoryNetwork network(1);
  std::promise<void> entered;
  std::promise<void> let_go;
  Rank rank(network, kFirst, {.on_tick = [](Context& context) { context.finish({0, ""}); }});
  rank.transport.during_poll = [&, first = true]() mutable {
    if (!std::exchange(first, false)) return;
    entered.set_value();
    let_go.get_future().wait();
  };

  std::future<Outcome> outcome = std::async(std::launch::async, [&] { return rank.loop.run(); });
  wait_for(entered.get_future());
  for (int i = 0; i < CallWatch::kLooks; ++i) EXPECT_FALSE(rank.loop.transport_calls().look());
  const auto until = std::chrono::steady_clock::now() + kDeadline;
  bool seen = false;
  while (!seen && std::chrono::steady_clock::now() < until) {
    seen = rank.loop.transport_calls().look();
  }
  let_go.set_value();

  EXPECT_TRUE(seen);
  EXPECT_EQ(outcome.get().exit_status, 0);
  EXPECT_FALSE(rank.loop.transport_calls().look());
}

// It holds the lock as well, but MPI has no part in it.
TEST(HostLoop, WhatAMessageSetsOffIsNoCallOfTheTransport) {
  MemoryNetwork network(2);
  std::promise<void> entered;
  std::promise<void> let_go;
  const auto finish = [](Context& context, WorkResult&) { context.finish({0, ""}); };
  Rank slow(network, kFirst, {.on_message = [&](Context& context, RankId, MessageKind) {
              entered.set_value();
              let_go.get_future().wait();
              context.finish({0, ""});
            }});
  Rank other(network, kSecond,
             {.on_start = [](Context& context) { send(context, kFirst, MessageKind::kLease); },
              .on_work_wanted = one_order(),
              .on_work_finished = finish});

  std::future<Outcome> outcome = std::async(std::launch::async, [&] { return slow.loop.run(); });
  EXPECT_EQ(other.loop.run().exit_status, 0);
  wait_for(entered.get_future());
  for (int i = 0; i < 10 * CallWatch::kLooks; ++i) {
    EXPECT_FALSE(slow.loop.transport_calls().look());
  }
  let_go.set_value();
  EXPECT_EQ(outcome.get().exit_status, 0);
}

TEST(HostLoop, LeavesOnlyOnceItsLastFramesHaveLeft) {
  constexpr std::uint64_t kPolls = 500;
  MemoryNetwork network(1);
  Rank rank(network, kFirst, {.on_start = [](Context& context) { context.finish({0, ""}); }});
  rank.transport.pretend_backlog(1, kPolls);

  EXPECT_EQ(rank.loop.run().exit_status, 0);

  EXPECT_EQ(rank.transport.backlog_bytes(), 0u);
  EXPECT_GE(rank.transport.polls(), kPolls);
}

// ---- the registry ----

// The leader is in the middle of the order that asks, and still looks at the network.
TEST(HostLoop, AnOrderThatAsksTheRegistryHasItsReply) {
  MemoryNetwork network(2);
  RegistryReply reply;
  Rank second(network, kSecond, {.on_message = [](Context& context, RankId from, MessageKind) {
                send(context, from, MessageKind::kResults);
                context.finish({0, "answered"});
              }});
  Rank* asking = nullptr;
  Rank first(
      network, kFirst,
      {.on_message =
           [](Context& context, RankId, MessageKind) {
             context.reply({1, RegistryStatus::kDone, 7, "value"});
           },
       .on_work_wanted = one_order(),
       .on_work_finished =
           [](Context& context, WorkResult&) {
             context.finish({0, "done"});
           },
       .on_registry_call =
           [](Context& context, RegistryCall& call) {
             EXPECT_EQ(call.key, "key");
             send(context, kSecond, MessageKind::kResults);
           },
       .execute = [&](WorkOrder&) { reply = asking->loop.call({.key = "key", .value = {}}); }});
  asking = &first;
  auto other = std::async(std::launch::async, [&] { return second.loop.run(); });

  EXPECT_EQ(first.loop.run().message, "done");

  EXPECT_EQ(other.get().message, "answered");
  EXPECT_EQ(reply.status, RegistryStatus::kDone);
  EXPECT_EQ(reply.version, 7u);
  EXPECT_EQ(reply.value, "value");
}

TEST(HostLoop, ThreadsThatAskTheRegistryEachHaveTheirOwnReply) {
  constexpr std::uint64_t kThreads = 4, kCalls = 50;
  MemoryNetwork network(1);
  std::vector<RegistryCall> waiting;
  Rank* asking = nullptr;
  std::atomic<std::uint64_t> wrong = 0;
  Rank rank(network, kFirst,
            {.on_tick =
                 [&](Context& context) {  // the latest first
                   for (; !waiting.empty(); waiting.pop_back()) {
                     context.reply({waiting.back().id, RegistryStatus::kDone,
                                    waiting.back().version + 1, waiting.back().key});
                   }
                 },
             .on_work_wanted = one_order(),
             .on_work_finished =
                 [](Context& context, WorkResult&) {
                   context.finish({0, "done"});
                 },
             .on_registry_call = [&](Context&,
                                     RegistryCall& call) { waiting.push_back(std::move(call)); },
             .execute =
                 [&](WorkOrder&) {
                   std::vector<std::jthread> threads;
                   for (std::uint64_t thread = 0; thread < kThreads; ++thread) {
                     threads.emplace_back([&, thread] {
                       for (std::uint64_t i = 0; i < kCalls; ++i) {
                         const std::string key = std::to_string(thread);
                         const auto reply =
                             asking->loop.call({.key = key, .value = {}, .version = i});
                         if (reply.version != i + 1 || reply.value != key) ++wrong;
                       }
                     });
                   }
                 }});
  asking = &rank;

  EXPECT_EQ(rank.loop.run().message, "done");

  EXPECT_EQ(wrong, 0u);
}

TEST(HostLoop, WhoAsksTheRegistryAtTheEndOfTheRunDoesNotWait) {
  MemoryNetwork network(1);
  Rank* asking = nullptr;
  RegistryReply reply;
  Rank rank(network, kFirst,
            {.on_work_wanted = one_order(),
             .on_registry_call =
                 [](Context& context, RegistryCall&) {
                   context.finish({0, "over"});
                 },
             .execute = [&](WorkOrder&) { reply = asking->loop.call({.key = {}, .value = {}}); }});
  asking = &rank;

  EXPECT_EQ(rank.loop.run().message, "over");

  EXPECT_EQ(reply.status, RegistryStatus::kEnding);
}

}  // namespace
}  // namespace regroup

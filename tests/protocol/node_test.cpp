// Node with a scripted service: what it hands over, what it drops and why, and that its clocks
// order every receive after its send. Frames are carried by hand, so each test decides what the
// network does.
#include "runtime/protocol/node.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

namespace regroup {
namespace {

struct Heard {
  RankId from;
  MessageKind kind{};
  std::string text;
  friend bool operator==(const Heard&, const Heard&) = default;
};

// Notes what it hears, and does what the test asks of it.
class Script : public Service {
 public:
  std::vector<Heard> heard;
  std::vector<std::string> calls;
  std::function<void(Context&)> next;  // run once at the next tick
  std::function<bool(Context&, const Heard&)> answer;

  void on_start(Context& context) override {
    calls.push_back("start");
    EXPECT_EQ(context.view().epoch, Epoch{1});
  }
  void on_view(Context& context) override {
    calls.push_back("view " + std::to_string(context.view().epoch.value));
  }
  void on_left(Context&, RankId) override {}
  void on_tick(Context& context) override {
    if (next) std::exchange(next, nullptr)(context);
  }
  bool on_message(Context& context, RankId from, MessageKind kind,
                  std::span<const std::byte> payload) override {
    const Heard message{
        from, kind, {reinterpret_cast<const char*>(payload.data()), payload.size()}};
    heard.push_back(message);
    return !answer || answer(context, message);
  }
  void on_work_wanted(Context&) override { calls.push_back("wanted"); }
  void on_work_finished(Context&, WorkResult& result) override {
    calls.push_back("finished " + std::to_string(result.shards.first.value));
  }
  void on_wish(Context&, Wish, const std::string& reason) override {
    calls.push_back("wish " + reason);
  }
};

// One rank under test.
struct Rank {
  BufferPool pool;
  Script* script;
  std::unique_ptr<Node> node;
  Output output;

  explicit Rank(NodeOptions options) {
    auto service = std::make_unique<Script>();
    script = service.get();
    node = std::make_unique<Node>(options, std::move(service), pool);
    node->start(0, output);
  }

  // Has the service do something, and returns the frames that makes.
  std::vector<OutgoingFrame> act(std::function<void(Context&)> what) {
    script->next = std::move(what);
    node->step(Tick{node->now()}, output);
    return std::exchange(output.frames, {});
  }
  std::vector<OutgoingFrame> send(RankId to, MessageKind kind, std::string_view text) {
    return act([&](Context& context) {
      context.begin(to, kind).put_raw(std::as_bytes(std::span(text)));
      context.send();
    });
  }
  void receive(RankId from, std::span<const std::byte> bytes) {
    node->step(FrameArrived{from, bytes}, output);
  }
  void receive(RankId from, const OutgoingFrame& frame) { receive(from, frame.bytes.view()); }
};

constexpr RankId kZero{0};
constexpr RankId kOne{1};

NodeOptions options_of(std::uint32_t self, std::uint32_t ranks = 2, bool vector_clocks = true) {
  return {.self = RankId{self},
          .ranks = ranks,
          .vector_clocks = vector_clocks,
          .events = EventLevel::kMessages};
}

FrameHeader header_from(RankId from, std::uint64_t sequence = 1) {
  return {.kind = MessageKind::kLease,
          .from = from,
          .epoch = Epoch{1},
          .sequence = sequence,
          .lamport = 5};
}

Buffer sealed(const FrameHeader& header, std::string_view body) {
  Buffer frame;
  frame.resize(kFrameHeaderBytes);
  frame.append(std::as_bytes(std::span(body)));
  seal_frame(frame, header);
  return frame;
}

std::string large_text(std::size_t bytes) {
  std::string text(bytes, 0);
  for (std::size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(i * 131 + i / 7919);
  return text;
}

// ---- the view and the inputs ----

TEST(Node, StartsInTheFirstViewOfAllRanks) {
  const Rank rank(options_of(2, 4));
  EXPECT_EQ(rank.node->view().epoch, Epoch{1});
  EXPECT_EQ(rank.node->view().members, (RankSet{kZero, kOne, RankId{2}, RankId{3}}));
  EXPECT_EQ(rank.node->view().coordinator, kZero);  // I1
  EXPECT_EQ(rank.script->calls, std::vector<std::string>{"start"});
}

TEST(Node, HandsEachInputToItsService) {
  Rank rank(options_of(0));
  WorkResult result;
  result.shards = {ShardId{7}, 1};
  rank.node->step(WorkWanted{}, rank.output);
  rank.node->step(WorkFinished{&result}, rank.output);
  rank.node->step(WishArrived{Wish::kStop, "enough"}, rank.output);
  rank.node->step(Tick{12}, rank.output);
  EXPECT_EQ(rank.script->calls,
            (std::vector<std::string>{"start", "wanted", "finished 7", "wish enough"}));
  EXPECT_EQ(rank.node->now(), 12);
}

TEST(Node, OrdersAndOutcomesOfTheServiceComeOut) {
  Rank rank(options_of(0));
  rank.act([](Context& context) {
    context.order({.kind = WorkKind::kRun, .shards = {ShardId{3}, 2}});
    context.finish({2, "bad input"});
  });
  ASSERT_EQ(rank.output.orders.size(), 1u);
  EXPECT_EQ(rank.output.orders[0].shards, (ShardRange{ShardId{3}, 2}));
  ASSERT_TRUE(rank.output.outcome);
  EXPECT_EQ(rank.output.outcome->exit_status, 2);
  EXPECT_EQ(rank.output.outcome->message, "bad input");
}

TEST(NodeDeathTest, TimeNeverRunsBackwards) {
  Rank rank(options_of(0));
  rank.node->step(Tick{5}, rank.output);
  EXPECT_DEATH(rank.node->step(Tick{4}, rank.output), "time ran backwards");
}

TEST(NodeDeathTest, ASecondMessageCannotBeginBeforeTheFirstIsSent) {
  Rank rank(options_of(0));
  EXPECT_DEATH(rank.act([](Context& context) {
    context.begin(kOne, MessageKind::kLease);
    context.begin(kOne, MessageKind::kLease);
  }),
               "before the message before was sent");
  EXPECT_DEATH(rank.act([](Context& context) { context.begin(RankId{2}, MessageKind::kLease); }),
               "a message to no rank");
  EXPECT_DEATH(rank.act([](Context& context) { context.send(); }), "without begin");
}

// ---- messages ----

class BothClockModes : public testing::TestWithParam<bool> {
 protected:
  NodeOptions options(std::uint32_t self, std::uint32_t ranks = 2) const {
    return options_of(self, ranks, GetParam());
  }
};

TEST_P(BothClockModes, AMessageArrivesAsItWasWritten) {
  Rank sender(options(0));
  Rank receiver(options(1));
  const auto frames = sender.send(kOne, MessageKind::kLease, "three shards");
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].to, kOne);

  receiver.receive(kZero, frames[0]);

  EXPECT_EQ(receiver.script->heard,
            (std::vector<Heard>{{kZero, MessageKind::kLease, "three shards"}}));
  EXPECT_EQ(receiver.node->drops().total(), 0u);
}

TEST_P(BothClockModes, AMessageWithoutPayloadArrives) {
  Rank sender(options(0));
  Rank receiver(options(1));
  receiver.receive(kZero, sender.send(kOne, MessageKind::kGoodbye, "")[0]);
  EXPECT_EQ(receiver.script->heard, (std::vector<Heard>{{kZero, MessageKind::kGoodbye, ""}}));
}

TEST_P(BothClockModes, AMessageLargerThanAFrameTravelsInPartsAndArrivesWhole) {
  for (const std::size_t bytes :
       {kFrameBytesMax - kFrameHeaderBytes, kFrameBytesMax, 5 * kFrameBytesMax + 17}) {
    Rank sender(options(0));
    Rank receiver(options(1));
    const std::string text = large_text(bytes);
    const auto frames = sender.send(kOne, MessageKind::kPartitions, text);
    for (const auto& frame : frames) {
      ASSERT_LE(frame.bytes.size(), kFrameBytesMax);
      EXPECT_TRUE(receiver.script->heard.empty());
      receiver.receive(kZero, frame);
    }
    ASSERT_EQ(receiver.script->heard.size(), 1u) << bytes;
    EXPECT_EQ(receiver.script->heard[0].text, text);
    EXPECT_EQ(receiver.node->drops().total(), 0u);

    receiver.receive(kZero, sender.send(kOne, MessageKind::kLease, "next")[0]);
    EXPECT_EQ(receiver.script->heard.back().text, "next");
  }
}

TEST_P(BothClockModes, FramesInAnyOrderAndWithCopiesArriveOnceInOrder) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 20; ++round) {
    Rank sender(options(0));
    Rank receiver(options(1));
    std::vector<OutgoingFrame> frames;
    std::vector<Heard> sent;
    for (int i = 0; i < 30; ++i) {
      const std::string text = i % 7 == 3 ? large_text(2 * kFrameBytesMax) : std::to_string(i);
      sent.push_back({kZero, MessageKind::kLease, text});
      for (auto& frame : sender.send(kOne, MessageKind::kLease, text)) {
        frames.push_back(std::move(frame));
      }
    }
    std::vector<std::size_t> arrivals(frames.size());
    std::iota(arrivals.begin(), arrivals.end(), 0);
    const std::size_t copies = 10;
    for (std::size_t i = 0; i < copies; ++i) arrivals.push_back(random() % frames.size());
    std::ranges::shuffle(arrivals, random);

    for (const std::size_t i : arrivals) receiver.receive(kZero, frames[i]);

    ASSERT_EQ(receiver.script->heard, sent);
    EXPECT_FALSE(receiver.node->stalled());
    EXPECT_EQ(receiver.node->drops().duplicates, copies);
    EXPECT_EQ(receiver.node->drops().total(), copies);
  }
}

TEST_P(BothClockModes, IsStalledWhileAFrameIsMissing) {
  Rank sender(options(0));
  Rank receiver(options(1));
  const auto first = sender.send(kOne, MessageKind::kLease, "1");
  const auto second = sender.send(kOne, MessageKind::kLease, "2");
  receiver.receive(kZero, second[0]);
  EXPECT_TRUE(receiver.node->stalled());
  EXPECT_TRUE(receiver.script->heard.empty());
  receiver.receive(kZero, first[0]);
  EXPECT_FALSE(receiver.node->stalled());
  EXPECT_EQ(receiver.script->heard.size(), 2u);
}

INSTANTIATE_TEST_SUITE_P(VectorClocks, BothClockModes, testing::Bool(),
                         [](const auto& mode) { return mode.param ? "On" : "Off"; });

TEST(NodeDeathTest, AMessageBeyondTheBoundIsNotSent) {
  Rank rank(options_of(0));
  EXPECT_DEATH(rank.act([](Context& context) {
    context.begin(kOne, MessageKind::kOpen).buffer().extend(kMessageBytesMax + 1);
    context.send();
  }),
               "a message beyond kMessageBytesMax");
}

// ---- messages to oneself ----

TEST(Node, AMessageToItselfArrivesInTheSameStepAndNotInside) {
  Rank rank(options_of(0));
  bool inside = false;
  const auto frames = rank.act([&](Context& context) {
    context.begin(kZero, MessageKind::kOpen).put_raw(std::as_bytes(std::span("hi", 2)));
    context.send();
    inside = !rank.script->heard.empty();
  });
  EXPECT_FALSE(inside) << "a service is never called while it runs";
  EXPECT_TRUE(frames.empty()) << "nothing goes over the network";
  EXPECT_EQ(rank.script->heard, (std::vector<Heard>{{kZero, MessageKind::kOpen, "hi"}}));
}

TEST(Node, MessagesToItselfKeepTheirOrderAndMayBeAnswered) {
  Rank rank(options_of(0));
  rank.script->answer = [](Context& context, const Heard& message) {
    if (message.kind != MessageKind::kOpen) return true;
    context.begin(kZero, MessageKind::kReady).put_raw(std::as_bytes(std::span(message.text)));
    context.send();
    return true;
  };
  rank.act([](Context& context) {
    for (const std::string_view text : {"a", "b"}) {
      context.begin(kZero, MessageKind::kOpen).put_raw(std::as_bytes(std::span(text)));
      context.send();
    }
  });
  EXPECT_EQ(rank.script->heard, (std::vector<Heard>{{kZero, MessageKind::kOpen, "a"},
                                                    {kZero, MessageKind::kOpen, "b"},
                                                    {kZero, MessageKind::kReady, "a"},
                                                    {kZero, MessageKind::kReady, "b"}}));
}

TEST(Node, AMessageToItselfMayBeLargerThanAFrame) {
  Rank rank(options_of(0));
  const std::string text = large_text(3 * kFrameBytesMax);
  rank.send(kZero, MessageKind::kOpen, text);
  ASSERT_EQ(rank.script->heard.size(), 1u);
  EXPECT_EQ(rank.script->heard[0].text, text);
}

TEST(NodeDeathTest, ARankThatTalksToItselfForEverIsBroken) {
  Rank rank(options_of(0));
  rank.script->answer = [](Context& context, const Heard&) {
    context.begin(kZero, MessageKind::kOpen);
    context.send();
    return true;
  };
  EXPECT_DEATH(rank.send(kZero, MessageKind::kOpen, ""), "talks to itself without end");
}

// ---- what is dropped ----

TEST(Node, CountsDamagedFramesByReason) {
  Rank rank(options_of(1));
  Buffer frame = sealed(header_from(kZero), "x");
  frame.writable().back() ^= std::byte{1};
  rank.receive(kZero, frame.view());
  rank.receive(kZero, frame.view().first(10));
  rank.receive(kZero, frame.view().first(10));
  const auto& by_error = rank.node->drops().frames;
  EXPECT_EQ(by_error[static_cast<std::size_t>(FrameError::kChecksum)], 1u);
  EXPECT_EQ(by_error[static_cast<std::size_t>(FrameError::kTruncated)], 2u);
  EXPECT_EQ(rank.node->drops().total(), 3u);
  EXPECT_TRUE(rank.script->heard.empty());
}

TEST(Node, DropsStrangers) {
  Rank rank(options_of(1, 3));
  rank.receive(RankId{2}, sealed(header_from(kZero), "not from whom it says").view());
  rank.receive(RankId{3}, sealed(header_from(RankId{3}), "from no rank of the run").view());
  rank.receive(kOne, sealed(header_from(kOne), "from this rank itself").view());
  EXPECT_EQ(rank.node->drops().strangers, 3u);
  EXPECT_TRUE(rank.script->heard.empty());
}

TEST(Node, DropsFramesOfEarlierEpochsAndTellsTheirSenders) {  // I6
  Rank rank(options_of(1));
  FrameHeader header = header_from(kZero);
  header.epoch = Epoch{0};
  rank.receive(kZero, sealed(header, "late").view());
  EXPECT_EQ(rank.node->drops().other_epochs, 1u);
  EXPECT_TRUE(rank.script->heard.empty());
  ASSERT_EQ(rank.output.frames.size(), 1u) << "its sender has missed a view";
  EXPECT_EQ(rank.output.frames[0].to, kZero);
  const auto told = open_frame(rank.output.frames[0].bytes.view());
  ASSERT_TRUE(told.has_value());
  EXPECT_EQ(told->header.kind, MessageKind::kDecide);
  Reader reader(told->body);
  EXPECT_EQ(get_view(reader, 2), rank.node->view());

  rank.receive(kZero, sealed(header_from(kZero), "now").view());
  EXPECT_EQ(rank.script->heard.size(), 1u) << "what was dropped took no place on the link";
  EXPECT_EQ(rank.node->drops().total(), 1u);
}

TEST(Node, HoldsFramesOfLaterEpochsWithinABound) {  // I6
  Rank rank(options_of(1));
  for (std::size_t i = 0; i <= Node::kFutureFramesMax; ++i) {
    FrameHeader header = header_from(kZero);
    header.epoch = Epoch{i % 2 == 0 ? 2 : ~0ull};
    rank.receive(kZero, sealed(header, "early").view());
  }
  EXPECT_TRUE(rank.script->heard.empty());
  EXPECT_TRUE(rank.output.frames.empty());
  EXPECT_EQ(rank.node->drops().overflows, 1u) << "one more than are held";
  EXPECT_EQ(rank.node->drops().total(), 1u);

  rank.receive(kZero, sealed(header_from(kZero), "now").view());
  EXPECT_EQ(rank.script->heard.size(), 1u) << "what is held took no place on the link";
}

TEST(Node, CountsDuplicatesAndOverflows) {
  Rank rank(options_of(1));
  for (std::uint64_t i = 0; i <= LinkReceiver::kEarlyFramesMax; ++i) {
    rank.receive(kZero, sealed(header_from(kZero, 2 + i), "early").view());
  }
  EXPECT_EQ(rank.node->drops().overflows, 1u);
  rank.receive(kZero, sealed(header_from(kZero, 2), "again").view());
  EXPECT_EQ(rank.node->drops().duplicates, 1u);
  EXPECT_EQ(rank.node->drops().total(), 2u);
}

TEST(Node, CountsPayloadsThatTheServiceRefuses) {
  Rank rank(options_of(1));
  rank.script->answer = [](Context&, const Heard&) { return false; };
  rank.receive(kZero, sealed(header_from(kZero, 1), "?").view());
  rank.receive(kZero, sealed(header_from(kZero, 2), "?").view());
  EXPECT_EQ(rank.node->drops().payloads, 2u);
}

TEST(Node, APayloadWithoutItsVectorStampIsDropped) {
  Rank rank(options_of(1));
  FrameHeader header = header_from(kZero);
  header.flags = kFlagVectorClock;
  rank.receive(kZero, sealed(header, "").view());
  header.sequence = 2;
  rank.receive(kZero, sealed(header, "\xff\xff\xff\xff").view());
  EXPECT_EQ(rank.node->drops().payloads, 2u);
  EXPECT_TRUE(rank.script->heard.empty());
  EXPECT_EQ(rank.node->lamport(), 0u) << "a refused message moves no clock";
}

// A part that cannot be used must not leave a hole in its message.
TEST(Node, APartWithABadStampDropsItsWholeMessage) {
  Rank rank(options_of(1));
  FrameHeader header = header_from(kZero);
  header.flags = kFlagMoreFollows;
  rank.receive(kZero, sealed(header, "one ").view());
  header = header_from(kZero, 2);
  header.flags = kFlagMoreFollows | kFlagVectorClock;
  rank.receive(kZero, sealed(header, "two \xff\xff\xff\xff").view());
  rank.receive(kZero, sealed(header_from(kZero, 3), "three").view());
  EXPECT_TRUE(rank.script->heard.empty());
  EXPECT_EQ(rank.node->drops().payloads, 1u) << "one message was lost";

  rank.receive(kZero, sealed(header_from(kZero, 4), "four").view());
  EXPECT_EQ(rank.script->heard, (std::vector<Heard>{{kZero, MessageKind::kLease, "four"}}));
}

TEST(Node, VectorStampsAreCutOffByRanksThatKeepNone) {
  Rank with(options_of(0, 2, true));
  Rank without(options_of(1, 2, false));
  without.receive(kZero, with.send(kOne, MessageKind::kLease, "text")[0]);
  EXPECT_EQ(without.script->heard, (std::vector<Heard>{{kZero, MessageKind::kLease, "text"}}));
  EXPECT_TRUE(without.node->vector_stamp().empty());

  with.receive(kOne, without.send(kZero, MessageKind::kReady, "bare")[0]);
  EXPECT_EQ(with.script->heard, (std::vector<Heard>{{kOne, MessageKind::kReady, "bare"}}));
}

// ---- views ----

// Several ranks and what lies between them: frames wait until the test has them carried.
class Cluster {
 public:
  explicit Cluster(std::uint32_t count) {
    for (std::uint32_t i = 0; i < count; ++i) {
      ranks_.push_back(std::make_unique<Rank>(options_of(i, count)));
    }
  }
  Rank& at(std::uint32_t rank) { return *ranks_[rank]; }
  Node& node(std::uint32_t rank) { return *ranks_[rank]->node; }

  void learn(std::uint32_t rank, std::uint32_t about, EvidenceKind kind) {
    node(rank).step(PeerEvidence{RankId{about}, kind}, at(rank).output);
  }
  // Leaves a message with what the rank has to send.
  void post(RankId from, RankId to, std::string_view text) {
    Rank& sender = at(from.value);
    sender.output.frames = sender.send(to, MessageKind::kLease, text);
  }
  // From now on nothing gets from one to the other.
  void cut(RankId from, RankId to) { cut_.emplace(from, to); }
  // What the rank has sent since the last call.
  std::vector<OutgoingFrame> sent(std::uint32_t rank) {
    return std::exchange(at(rank).output.frames, {});
  }
  // Carries what these ranks have sent one another until they are quiet, and gives them their
  // tokens. The frames of those kept back are gone.
  void settle(const RankSet& among) {
    for (bool any = true; std::exchange(any, false);) {
      for (const RankId from : among) {
        for (const OutgoingFrame& frame : sent(from.value)) {
          any = true;
          const bool lost = !among.contains(frame.to) || cut_.contains({from, frame.to});
          if (!lost) at(frame.to.value).receive(from, frame);
        }
        Output& output = at(from.value).output;
        if (!output.fence) continue;
        any = true;
        const FenceRequest request = std::move(*std::exchange(output.fence, {}));
        const auto view = request.content.view();
        const auto held =
            tokens_.try_emplace(request.epoch, std::vector(view.begin(), view.end())).first;
        FenceAnswer answer{request.epoch, Buffer(std::span<const std::byte>(held->second))};
        node(from.value).step(std::move(answer), output);
      }
    }
  }
  void tick_all(const RankSet& who, Nanoseconds now) {
    for (const RankId rank : who) node(rank.value).step(Tick{now}, at(rank.value).output);
  }
  std::vector<std::uint64_t> stamp(std::uint32_t rank) {
    const auto entries = node(rank).vector_stamp();
    return {entries.begin(), entries.end()};
  }

 private:
  std::vector<std::unique_ptr<Rank>> ranks_;
  std::map<Epoch, std::vector<std::byte>> tokens_;
  std::set<std::pair<RankId, RankId>> cut_;
};

constexpr RankId kTwo{2};
const RankSet kAll3{kZero, kOne, kTwo};

TEST(NodeViews, ADeathLeadsToANewViewAndTheServiceIsTold) {
  Cluster cluster(3);
  cluster.learn(1, 2, EvidenceKind::kConfirmed);
  EXPECT_FALSE(cluster.node(1).stable());
  cluster.settle({kZero, kOne});
  for (const std::uint32_t rank : {0u, 1u}) {
    EXPECT_TRUE(cluster.node(rank).stable());
    EXPECT_EQ(cluster.node(rank).view().epoch, Epoch{2});
    EXPECT_EQ(cluster.node(rank).view().members, (RankSet{kZero, kOne}));
    EXPECT_EQ(cluster.at(rank).script->calls, (std::vector<std::string>{"start", "view 2"}));
  }
}

TEST(NodeViews, RecordsTheEndOfAnEpochAndTheBeginningOfTheNext) {
  Cluster cluster(3);
  cluster.learn(1, 2, EvidenceKind::kConfirmed);
  cluster.settle({kZero, kOne});
  std::vector<Event> seen;
  for (const Event& event : cluster.at(0).output.events) {
    if (event.kind == EventKind::kRevoke || event.kind == EventKind::kView) seen.push_back(event);
  }
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].kind, EventKind::kRevoke);
  EXPECT_EQ(seen[0].a, 1u) << "epoch";
  EXPECT_EQ(seen[0].b, 3u) << "members";
  EXPECT_EQ(seen[1].kind, EventKind::kView);
  EXPECT_EQ(seen[1].a, 2u);
  EXPECT_EQ(seen[1].b, 2u);
  EXPECT_LT(seen[0].lamport, seen[1].lamport);
}

TEST(NodeViews, NothingOfARevokedEpochIsDelivered) {  // I6
  Cluster cluster(3);
  const auto whole = cluster.at(0).send(kOne, MessageKind::kLease, "in time");
  const auto late = cluster.at(0).send(kOne, MessageKind::kLease, "too late");
  const auto held = cluster.at(0).send(kOne, MessageKind::kLease, "early, and then too late");
  cluster.at(1).receive(kZero, whole[0]);
  cluster.at(1).receive(kZero, held[0]);
  cluster.learn(1, 2, EvidenceKind::kConfirmed);
  ASSERT_FALSE(cluster.node(1).stable());

  cluster.at(1).receive(kZero, late[0]);
  EXPECT_EQ(cluster.at(1).script->heard.size(), 1u);
  EXPECT_EQ(cluster.node(1).drops().revoked, 1u);

  cluster.settle({kZero, kOne});
  ASSERT_EQ(cluster.node(1).view().epoch, Epoch{2});
  cluster.at(1).receive(kZero, late[0]);
  cluster.at(1).receive(kZero, held[0]);
  EXPECT_EQ(cluster.at(1).script->heard.size(), 1u);
  EXPECT_EQ(cluster.node(1).drops().other_epochs, 2u);
  EXPECT_FALSE(cluster.node(1).stalled()) << "links begin anew";
}

TEST(NodeViews, APartOfAMessageIsForgottenWithItsEpoch) {  // I6
  Cluster cluster(3);
  const auto parts = cluster.at(0).send(kOne, MessageKind::kLease, large_text(2 * kFrameBytesMax));
  ASSERT_GT(parts.size(), 1u);
  cluster.at(1).receive(kZero, parts[0]);
  cluster.learn(1, 2, EvidenceKind::kConfirmed);
  cluster.settle({kZero, kOne});
  const auto next = cluster.at(0).send(kOne, MessageKind::kLease, "whole");
  cluster.at(1).receive(kZero, next[0]);
  EXPECT_EQ(cluster.at(1).script->heard,
            (std::vector<Heard>{{kZero, MessageKind::kLease, "whole"}}));
}

TEST(NodeViews, WhileRevokedMessagesToOthersGoNowhereAndThoseToItselfArrive) {
  Cluster cluster(3);
  cluster.learn(1, 2, EvidenceKind::kConfirmed);
  cluster.sent(1);
  EXPECT_TRUE(cluster.at(1).send(kZero, MessageKind::kReady, "lost").empty());
  EXPECT_EQ(cluster.node(1).drops().revoked, 1u);
  cluster.at(1).send(kOne, MessageKind::kLease, "to itself");
  EXPECT_EQ(cluster.at(1).script->heard,
            (std::vector<Heard>{{kOne, MessageKind::kLease, "to itself"}}));
}

TEST(NodeViews, WhatIsSentInALaterViewIsHeldAndDeliveredInIt) {
  Cluster cluster(3);
  cluster.learn(0, 2, EvidenceKind::kConfirmed);
  cluster.learn(1, 2, EvidenceKind::kConfirmed);
  std::vector<OutgoingFrame> decision;
  // All but the decision reaches rank 1.
  for (int round = 0; round < 10 && decision.empty(); ++round) {
    for (auto& frame : cluster.sent(0)) {
      const auto kind = open_frame(frame.bytes.view())->header.kind;
      if (frame.to != kOne) continue;
      if (kind == MessageKind::kDecide) {
        decision.push_back(std::move(frame));
      } else {
        cluster.at(1).receive(kZero, frame);
      }
    }
    for (const auto& frame : cluster.sent(1)) {
      if (frame.to == kZero) cluster.at(0).receive(kOne, frame);
    }
    Output& output = cluster.at(0).output;
    if (!output.fence) continue;
    FenceAnswer answer{output.fence->epoch, Buffer(output.fence->content.view())};
    output.fence.reset();
    cluster.node(0).step(std::move(answer), output);
  }
  ASSERT_EQ(decision.size(), 1u);
  ASSERT_EQ(cluster.node(0).view().epoch, Epoch{2});
  ASSERT_EQ(cluster.node(1).view().epoch, Epoch{1});

  const auto first = cluster.at(0).send(kOne, MessageKind::kLease, "first");
  const auto second = cluster.at(0).send(kOne, MessageKind::kLease, "second");
  cluster.at(1).receive(kZero, second[0]);
  cluster.at(1).receive(kZero, first[0]);
  EXPECT_TRUE(cluster.at(1).script->heard.empty());

  cluster.at(1).receive(kZero, decision[0]);

  EXPECT_EQ(cluster.at(1).script->calls, (std::vector<std::string>{"start", "view 2"}));
  EXPECT_EQ(cluster.at(1).script->heard,
            (std::vector<Heard>{{kZero, MessageKind::kLease, "first"},
                                {kZero, MessageKind::kLease, "second"}}));
  EXPECT_EQ(cluster.node(1).drops().total(), 0u);
}

// A frame that never came may have been the one that told of a change: the first of a view carries
// the whole stamp again.
TEST(NodeViews, VectorClocksGoOnRightAcrossViews) {  // I10
  Cluster cluster(3);
  cluster.at(0).send(kTwo, MessageKind::kLease, "lost");
  cluster.at(1).send(kTwo, MessageKind::kLease, "lost");
  cluster.at(1).receive(kZero, cluster.at(0).send(kOne, MessageKind::kLease, "m")[0]);
  cluster.at(1).send(kTwo, MessageKind::kLease, "lost as well");
  const auto sent_before = cluster.stamp(1);
  cluster.node(2).step(Tick{0}, cluster.at(2).output);
  cluster.learn(0, 1, EvidenceKind::kSuspected);
  cluster.learn(0, 1, EvidenceKind::kTrusted);
  cluster.settle(kAll3);
  ASSERT_EQ(cluster.node(2).view().epoch, Epoch{2});

  const auto frames = cluster.at(1).send(kTwo, MessageKind::kLease, "now");
  ASSERT_EQ(frames.size(), 1u);
  cluster.at(2).receive(kOne, frames[0]);

  ASSERT_EQ(cluster.at(2).script->heard.size(), 1u);
  EXPECT_EQ(compare(sent_before, cluster.stamp(2)), ClockOrder::kBefore);
  EXPECT_EQ(compare(cluster.stamp(1), cluster.stamp(2)), ClockOrder::kBefore);
}

TEST(NodeViews, AFrameThatNeverComesLeadsToANewEpoch) {
  Cluster cluster(3);
  cluster.at(0).send(kOne, MessageKind::kLease, "lost");
  const auto later = cluster.at(0).send(kOne, MessageKind::kLease, "waits for it");
  cluster.at(1).receive(kZero, later[0]);
  for (Nanoseconds now = 0; now < Node::kStallTimeout; now += kSecond) {
    cluster.tick_all(kAll3, now);
    cluster.settle(kAll3);
    ASSERT_EQ(cluster.node(1).view().epoch, Epoch{1}) << now;
  }
  for (Nanoseconds now = Node::kStallTimeout; now < 2 * Node::kStallTimeout; now += kSecond) {
    cluster.tick_all(kAll3, now);
    cluster.settle(kAll3);
  }
  for (const std::uint32_t rank : {0u, 1u, 2u}) {
    EXPECT_EQ(cluster.node(rank).view().epoch, Epoch{2});
    EXPECT_EQ(cluster.node(rank).view().members, kAll3);
  }
  EXPECT_FALSE(cluster.node(1).stalled());
  EXPECT_TRUE(cluster.at(1).script->heard.empty());
}

// Nothing comes after it that would show the gap; what the sender says of the link does, if not the
// first time then another.
TEST(NodeViews, TheLossOfTheLastFrameLeadsToANewEpoch) {
  for (const bool first_status_lost : {false, true}) {
    Cluster cluster(3);
    cluster.at(0).send(kOne, MessageKind::kLease, "the last, and lost");
    if (first_status_lost) {
      cluster.tick_all({kZero}, kSecond);
      const auto lost = cluster.sent(0);
      ASSERT_EQ(lost.size(), 1u);
      EXPECT_EQ(open_frame(lost[0].bytes.view())->header.kind, MessageKind::kLinkStatus);
    }
    for (Nanoseconds now = kSecond; now < 3 * Node::kStallTimeout; now += kSecond) {
      cluster.tick_all(kAll3, now);
      cluster.settle(kAll3);
    }
    EXPECT_EQ(cluster.node(1).view().epoch, Epoch{2});
    EXPECT_EQ(cluster.node(0).view().epoch, Epoch{2});
  }
}

// Nothing gets to rank 1 any more, so that it cannot know; but it is heard.
TEST(NodeViews, ARankThatHearsNothingIsNoticedByThoseWhoSend) {
  Rank rank(options_of(0));
  rank.send(kOne, MessageKind::kLease, "lost, as are all others");
  FrameHeader header = header_from(kOne, 0);
  header.kind = MessageKind::kLinkStatus;
  Buffer status;
  status.resize(kFrameHeaderBytes);
  Writer writer(status);
  writer.put(Epoch{1});
  writer.put(std::uint64_t{3});  // it has sent
  writer.put(std::uint64_t{0});  // it has heard
  seal_frame(status, header);
  const auto says_so_at = [&](Nanoseconds now) {
    rank.node->step(Tick{now}, rank.output);
    rank.receive(kOne, status.view());
    return rank.node->stable();
  };
  EXPECT_TRUE(says_so_at(kSecond));
  EXPECT_TRUE(says_so_at(kSecond + Node::kStallTimeout - 1));
  EXPECT_FALSE(says_so_at(kSecond + Node::kStallTimeout));
}

TEST(NodeViews, WhoSendsAndHearsNothingAtAllRevokes) {
  Rank rank(options_of(0, 3));
  rank.send(kOne, MessageKind::kLease, "m");
  for (std::uint32_t look = 1; look <= Node::kSilentLooks; ++look) {
    ASSERT_TRUE(rank.node->stable()) << look;
    rank.node->step(Tick{look * kSecond}, rank.output);
  }
  EXPECT_FALSE(rank.node->stable());
}

// The members of each view, while one rank sends to another in each of them.
std::vector<RankSet> views_while_sending(Cluster& cluster, RankId from, RankId to, int seconds) {
  std::vector<RankSet> views;
  Epoch said;
  for (Nanoseconds now = kSecond; now < seconds * kSecond; now += kSecond) {
    const View& view = cluster.node(from.value).view();
    const bool both = view.members.contains(from) && view.members.contains(to);
    if (both && std::exchange(said, view.epoch) != view.epoch) {
      cluster.post(from, to, "m");
    }
    cluster.tick_all(kAll3, now);
    cluster.settle(kAll3);
    const View& after = cluster.node(0).view();
    if (views.size() < after.epoch.value) views.resize(after.epoch.value);
    views[after.epoch.value - 1] = after.members;
  }
  return views;
}

// Who asks on and on in an epoch before does not hear that there is another.
TEST(NodeViews, WhatIsOfAnEpochBeforeIsNoSignOfHearing) {
  for (const std::uint64_t epoch : {0u, 1u}) {
    Rank rank(options_of(0, 3));
    rank.send(kOne, MessageKind::kLease, "m");
    FrameHeader header = header_from(kOne, 0);
    header.epoch = Epoch{epoch};
    header.kind = MessageKind::kAsk;
    Buffer frame;
    frame.resize(kFrameHeaderBytes);
    Writer(frame).put(Epoch{epoch});
    seal_frame(frame, header);
    for (std::uint32_t look = 1; look <= Node::kSilentLooks; ++look) {
      rank.receive(kOne, frame.view());
      rank.node->step(Tick{look * kSecond}, rank.output);
    }
    EXPECT_EQ(rank.node->stable(), epoch == 1);
  }
}

// Which direction is dead, and so who finds out, and how, makes no difference.
TEST(NodeViews, ALinkThatIsDeadInEachEpochLosesOneOfItsEnds) {
  for (const auto& [from, to] : {std::pair{kOne, kTwo}, std::pair{kTwo, kOne}}) {
    Cluster cluster(3);
    cluster.cut(from, to);
    const auto views = views_while_sending(cluster, from, to, 100);
    ASSERT_GE(views.size(), 3u);
    EXPECT_EQ(views[1], kAll3) << "the first time, a frame may have been lost";
    EXPECT_TRUE(std::ranges::any_of(views, [](const RankSet& members) {
      return members == RankSet{kZero, kOne};
    }));
    EXPECT_LE(views.size(), 14u) << "it is out for longer each time";
  }
}

// Each costs an epoch the first time; the second time one stands for all.
TEST(NodeViews, WhoCannotReachSeveralIsLeftOutAndNotTheyInTurns) {
  constexpr RankId kThree{3};
  const RankSet all{kZero, kOne, kTwo, kThree};
  Cluster cluster(4);
  for (const RankId to : {kTwo, kThree}) cluster.cut(kOne, to);
  Epoch said;
  bool left_out = false;
  for (Nanoseconds now = kSecond; now < 200 * kSecond && !left_out; now += kSecond) {
    const View& view = cluster.node(1).view();
    if (std::exchange(said, view.epoch) != view.epoch) {
      cluster.post(kOne, view.epoch.value % 2 == 1 ? kTwo : kThree, "m");
    }
    cluster.tick_all(all, now);
    cluster.settle(all);
    const RankSet& came_back = cluster.node(0).view().joined;  // at once, the first time
    left_out = came_back == RankSet{kOne};
    ASSERT_TRUE(left_out || came_back.empty());
  }
  EXPECT_TRUE(left_out);
}

TEST(NodeViews, ALinkThatWorkedInBetweenIsNotHeldForDead) {
  Cluster cluster(3);
  for (Nanoseconds now = kSecond; now < 200 * kSecond; now += kSecond) {
    if (now % (50 * kSecond) == kSecond) {
      cluster.post(kOne, kTwo, "comes");
      cluster.settle(kAll3);
      (void)cluster.at(1).send(kTwo, MessageKind::kLease, "is lost");
    }
    cluster.tick_all(kAll3, now);
    cluster.settle(kAll3);
    ASSERT_EQ(cluster.node(0).view().members, kAll3) << now;
  }
  EXPECT_EQ(cluster.node(0).view().epoch, Epoch{5}) << "one more for each that was lost";
}

TEST(NodeViews, LinksThatAreWholeNeedNoNewEpoch) {
  Cluster cluster(3);
  cluster.at(1).receive(kZero, cluster.at(0).send(kOne, MessageKind::kLease, "m")[0]);
  for (Nanoseconds now = 0; now < 5 * Node::kStallTimeout; now += kSecond) {
    cluster.tick_all(kAll3, now);
    cluster.settle(kAll3);
  }
  EXPECT_EQ(cluster.node(1).view().epoch, Epoch{1});
  EXPECT_EQ(cluster.node(1).drops().total(), 0u);
}

// It was left out, missed the decision and has nothing more to say: still it hears of it.
TEST(NodeViews, ARankThatWasLeftOutAndIsIdleHearsOfItAndComesBack) {
  Cluster cluster(3);
  cluster.at(0).receive(kTwo, cluster.at(2).send(kZero, MessageKind::kReady, "m")[0]);
  cluster.learn(0, 2, EvidenceKind::kSuspected);
  cluster.learn(1, 2, EvidenceKind::kSuspected);
  cluster.settle({kZero, kOne});
  cluster.learn(0, 2, EvidenceKind::kTrusted);
  cluster.learn(1, 2, EvidenceKind::kTrusted);
  ASSERT_EQ(cluster.node(0).view().epoch, Epoch{2});
  ASSERT_EQ(cluster.node(2).view().epoch, Epoch{1});
  for (Nanoseconds now = kSecond; now < 2 * Node::kStallTimeout; now += kSecond) {
    cluster.tick_all(kAll3, now);
    cluster.settle(kAll3);
  }
  EXPECT_EQ(cluster.node(2).view().epoch, Epoch{3});
  EXPECT_EQ(cluster.node(2).view().joined, RankSet{kTwo});
}

TEST(NodeViews, ALinkStatusThatMakesNoSenseIsDropped) {
  Rank rank(options_of(1));
  FrameHeader header = header_from(kZero, 0);
  header.kind = MessageKind::kLinkStatus;
  rank.receive(kZero, sealed(header, "short").view());
  EXPECT_EQ(rank.node->drops().payloads, 1u);
  header.sequence = 1;
  rank.receive(kZero, sealed(header, "012345670123456701234567").view());
  EXPECT_EQ(rank.node->drops().payloads, 2u) << "a control message has no place on a link";
  header.sequence = 0;
  header.flags = kFlagMoreFollows;
  rank.receive(kZero, sealed(header, "012345670123456701234567").view());
  EXPECT_EQ(rank.node->drops().payloads, 3u);
  header.flags = 0;
  header.lamport = ~std::uint64_t{0};
  const std::uint64_t before = rank.node->lamport();
  rank.receive(kZero, sealed(header, "012345670123456701234567").view());
  EXPECT_EQ(rank.node->drops().payloads, 4u);
  EXPECT_EQ(rank.node->lamport(), before);
  EXPECT_FALSE(rank.node->stalled());
}

TEST(NodeViews, ARankThatIsCutOffEndsAloneAndResumable) {
  NodeOptions options = options_of(2, 3);
  options.give_up_after = 5 * kSecond;
  Rank rank(options);
  rank.node->step(PeerEvidence{kZero, EvidenceKind::kSuspected}, rank.output);
  rank.node->step(PeerEvidence{kOne, EvidenceKind::kSuspected}, rank.output);
  rank.node->step(Tick{5 * kSecond - 1}, rank.output);
  EXPECT_FALSE(rank.output.outcome);
  rank.node->step(Tick{5 * kSecond}, rank.output);
  ASSERT_TRUE(rank.output.outcome);
  EXPECT_EQ(rank.output.outcome->exit_status, 75);
  EXPECT_TRUE(rank.output.outcome->alone);
}

// ---- clocks ----

// Random traffic of three ranks: every receive is after its send by both clocks (I10), and the
// vector clocks equal those of an oracle that carries them whole.
TEST(Node, ClocksOrderEveryReceiveAfterItsSend) {
  constexpr std::uint32_t kRanks = 3;
  std::mt19937_64 random(5);
  std::vector<std::unique_ptr<Rank>> ranks;
  for (std::uint32_t i = 0; i < kRanks; ++i)
    ranks.push_back(std::make_unique<Rank>(options_of(i, kRanks)));
  struct InFlight {
    OutgoingFrame frame;
    std::vector<std::uint64_t> sent_at;
  };
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::vector<InFlight>> links;
  std::vector<std::vector<std::uint64_t>> oracle(kRanks, std::vector<std::uint64_t>(kRanks, 0));
  const auto stamp = [&](std::uint32_t rank) {
    const auto entries = ranks[rank]->node->vector_stamp();
    return std::vector<std::uint64_t>(entries.begin(), entries.end());
  };
  for (int i = 0; i < 2000; ++i) {
    const auto from = static_cast<std::uint32_t>(random() % kRanks);
    const auto to = (from + 1 + static_cast<std::uint32_t>(random() % (kRanks - 1))) % kRanks;
    auto& link = links[{from, to}];
    if (random() % 2 == 0) {
      auto frames = ranks[from]->send(RankId{to}, MessageKind::kLease, "m");
      ++oracle[from][from];
      ASSERT_EQ(stamp(from), oracle[from]);
      link.push_back({std::move(frames.at(0)), stamp(from)});
    } else if (!link.empty()) {
      const InFlight message = std::move(link.front());
      link.erase(link.begin());
      const std::uint64_t before = ranks[to]->node->lamport();
      ranks[to]->receive(RankId{from}, message.frame);
      const auto sent = open_frame(message.frame.bytes.view())->header.lamport;
      ASSERT_GT(ranks[to]->node->lamport(), sent);
      ASSERT_GT(ranks[to]->node->lamport(), before);
      ASSERT_EQ(compare(message.sent_at, stamp(to)), ClockOrder::kBefore);
      for (std::uint32_t k = 0; k < kRanks; ++k) {
        oracle[to][k] = std::max(oracle[to][k], message.sent_at[k]);
      }
      ++oracle[to][to];
      ASSERT_EQ(stamp(to), oracle[to]);
    }
  }
}

// One tick past the end of its range a clock would be back at 0 (I10).
TEST(Node, AStampFromWhichAClockCouldNotGoOnIsRefused) {
  Rank rank(options_of(1));
  FrameHeader header = header_from(kZero, 1);
  header.lamport = ~std::uint64_t{0};
  rank.receive(kZero, sealed(header, "end of time").view());
  EXPECT_TRUE(rank.script->heard.empty());
  EXPECT_EQ(rank.node->drops().payloads, 1u);
  EXPECT_EQ(rank.node->lamport(), 0u);

  header = header_from(kZero, 2);
  header.lamport = kStampMax;
  rank.receive(kZero, sealed(header, "late enough").view());
  EXPECT_EQ(rank.script->heard.size(), 1u);
  EXPECT_EQ(rank.node->lamport(), kStampMax + 1);
}

TEST(Node, RecordsSendsAndReceivesWithTheirStamps) {
  Rank sender(options_of(0));
  Rank receiver(options_of(1));
  const auto frames = sender.send(kOne, MessageKind::kLease, "m");
  receiver.receive(kZero, frames[0]);

  ASSERT_EQ(sender.output.events.size(), 1u);
  const Event& sent = sender.output.events[0];
  EXPECT_EQ(sent.kind, EventKind::kSend);
  EXPECT_EQ(sent.rank, kZero);
  EXPECT_EQ(sent.peer, kOne);
  EXPECT_EQ(sent.a, sent.lamport);
  EXPECT_EQ(sent.b, static_cast<std::uint64_t>(MessageKind::kLease));
  ASSERT_EQ(receiver.output.events.size(), 1u);
  const Event& received = receiver.output.events[0];
  EXPECT_EQ(received.kind, EventKind::kReceive);
  EXPECT_EQ(received.rank, kOne);
  EXPECT_EQ(received.peer, kZero);
  EXPECT_EQ(received.a, sent.lamport);
  EXPECT_GT(received.lamport, sent.lamport);
}

TEST(Node, RecordsNothingUnlessAsked) {
  NodeOptions options = options_of(0);
  options.events = EventLevel::kOff;
  Rank rank(options);
  rank.send(kOne, MessageKind::kLease, "m");
  EXPECT_TRUE(rank.output.events.empty());
}

TEST(NodeDeathTest, VectorClocksBeyondWhatAFrameHoldsAreRefused) {
  EXPECT_DEATH(Rank(options_of(0, 100'000)), "too many ranks for vector clocks");
  const Rank without(options_of(0, 100'000, false));
  EXPECT_EQ(without.node->view().members.size(), 100'000u);
}

}  // namespace
}  // namespace regroup

// Bulk transfers between Nodes: a whole message or none, of one epoch, in bounded numbers, and
// never stuck for long. Frames and bytes are carried by hand, so each test decides what the network
// does.
#include "runtime/protocol/bulk.hpp"

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/protocol/node.hpp"

namespace regroup {
namespace {

constexpr auto kKind = MessageKind{100};
constexpr RankId kZero{0}, kOne{1}, kTwo{2};

struct Came {
  RankId from;
  MessageKind kind{};
  std::string header;
  std::string bytes;
  friend bool operator==(const Came&, const Came&) = default;
};

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::shared_ptr<const Buffer> large(std::string_view text) {
  return std::make_shared<const Buffer>(std::as_bytes(std::span(text)));
}

class Script : public Service {
 public:
  std::vector<Came> came;
  std::function<void(Context&)> next;  // run once at the next tick

  void on_start(Context&) override {}
  void on_view(Context&) override {}
  void on_left(Context&, RankId) override {}
  void on_tick(Context& context) override {
    if (next) std::exchange(next, nullptr)(context);
  }
  bool on_message(Context&, RankId, MessageKind, std::span<const std::byte>) override {
    ADD_FAILURE() << "a service saw what nodes say of bulk transfers";
    return false;
  }
  void on_bulk(Context& context, RankId from, MessageKind kind, std::span<const std::byte> header,
               Buffer bytes, const BulkHash& hash) override {
    EXPECT_EQ(hash, hash_of_bulk(bytes.view()));
    came.push_back({from, kind, text_of(header), text_of(bytes.view())});
    context.give_large(std::move(bytes));
  }
  void on_work_wanted(Context&) override {}
  void on_work_finished(Context&, WorkResult&) override {}
  void on_wish(Context&, Wish, const std::string&) override {}
};

// Ranks, their frames in order, and what is under way of their bulk transfers.
class Cluster {
 public:
  struct Rank {
    BufferPool pool;
    Script* script;
    std::unique_ptr<Node> node;
    Output output;
    std::deque<BulkReceive> receives;
    std::deque<BulkSend> sends;
  };

  explicit Cluster(std::uint32_t ranks) {
    for (std::uint32_t i = 0; i < ranks; ++i) {
      auto rank = std::make_unique<Rank>();
      auto service = std::make_unique<Script>();
      rank->script = service.get();
      rank->node = std::make_unique<Node>(NodeOptions{.self = RankId{i}, .ranks = ranks},
                                          std::move(service), rank->pool);
      rank->node->start(0, rank->output);
      ranks_.push_back(std::move(rank));
    }
  }

  Rank& at(RankId rank) { return *ranks_[rank.value]; }

  bool send(RankId from, RankId to, std::string_view header, std::string_view bytes) {
    bool queued = false;
    at(from).script->next = [&](Context& context) {
      context.begin(to, kKind).put_raw(std::as_bytes(std::span(header)));
      queued = context.send_bulk(large(bytes));
    };
    step(from, Tick{now_});
    return queued;
  }

  void step(RankId rank, const Input& input) {
    at(rank).node->step(input, at(rank).output);
    take_output(rank);
  }

  // Carries frames until there are none left.
  void carry() {
    while (!frames_.empty()) {
      auto [from, frame] = std::move(frames_.front());
      frames_.pop_front();
      if (!gone_.contains(frame.to)) step(frame.to, FrameArrived{from, frame.bytes.view()});
    }
  }

  // The oldest transfer of the rank: its bytes leave and arrive, and both ends hear of it.
  void move(RankId from, bool damage = false) {
    BulkSend send = std::move(at(from).sends.front());
    at(from).sends.pop_front();
    arrive(from, send, damage);
    step(from, BulkSent{send.to, send.tag, hash_of_bulk(send.bytes->view())});
    carry();
  }
  void arrive(RankId from, const BulkSend& send, bool damage = false) {
    Buffer bytes(send.bytes->view());
    if (damage) bytes.data()[0] ^= std::byte{1};
    const BulkHash hash = hash_of_bulk(bytes.view());
    step(send.to, BulkArrived{from, send.tag, hash, &bytes});
  }

  void die(RankId rank) {
    gone_.insert(rank);
    for (std::uint32_t i = 0; i < ranks_.size(); ++i) {
      if (RankId{i} != rank) step(RankId{i}, PeerEvidence{rank, EvidenceKind::kConfirmed});
    }
    for (int round = 0; round < 20; ++round) {
      carry();
      for (std::uint32_t i = 0; i < ranks_.size(); ++i) {
        if (auto fence = std::exchange(at(RankId{i}).output.fence, {})) {
          step(RankId{i}, FenceAnswer{fence->epoch, std::move(fence->content)});
        }
      }
    }
  }

  // Time passes in steps of a second; `meanwhile` happens in each.
  void pass(
      int seconds, const std::function<void()>& meanwhile = [] {}) {
    for (int i = 0; i < seconds; ++i) {
      now_ += kSecond;
      meanwhile();
      for (std::uint32_t rank = 0; rank < ranks_.size(); ++rank) {
        if (!gone_.contains(RankId{rank})) step(RankId{rank}, Tick{now_});
      }
      carry();
    }
  }

 private:
  void take_output(RankId rank) {
    Output& output = at(rank).output;
    for (const BulkReceive& receive : output.bulk_receives) at(rank).receives.push_back(receive);
    for (BulkSend& send : output.bulk_sends) at(rank).sends.push_back(std::move(send));
    output.bulk_receives.clear();
    output.bulk_sends.clear();
    for (OutgoingFrame& frame : std::exchange(output.frames, {})) {
      frames_.emplace_back(rank, std::move(frame));
    }
  }

  std::vector<std::unique_ptr<Rank>> ranks_;
  std::deque<std::pair<RankId, OutgoingFrame>> frames_;
  RankSet gone_;
  Nanoseconds now_ = 0;
};

TEST(BulkHash, TellsChunksInAnotherOrderApart) {
  std::string text(2 * kBulkChunkBytes + 3, 'a');
  const auto hash = [&] { return hash_of_bulk(std::as_bytes(std::span(text))); };
  const BulkHash before = hash();
  text[5] = 'b';
  const BulkHash first = hash();
  std::swap(text[5], text[kBulkChunkBytes + 5]);
  EXPECT_NE(first, before);
  EXPECT_NE(hash(), first);
  EXPECT_EQ(hash_of_bulk({}), BulkHash{});
}

TEST(Bulk, AMessageArrivesWithAllItsParts) {
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, 3 * kBulkChunkBytes + 5}) {
    Cluster cluster(2);
    const std::string bytes(size, 'x');
    EXPECT_TRUE(cluster.send(kZero, kOne, "a header", bytes));
    cluster.carry();
    ASSERT_EQ(cluster.at(kOne).receives.size(), 1u);
    EXPECT_EQ(cluster.at(kOne).receives[0].size, size);
    EXPECT_EQ(cluster.at(kOne).receives[0].from, kZero);
    ASSERT_EQ(cluster.at(kZero).sends.size(), 1u);
    EXPECT_EQ(cluster.at(kZero).sends[0].tag, cluster.at(kOne).receives[0].tag);
    cluster.move(kZero);
    EXPECT_EQ(cluster.at(kOne).script->came,
              (std::vector<Came>{{kZero, kKind, "a header", bytes}}));
  }
}

TEST(Bulk, IsHandedOverOnlyOnceBothTheBytesAndTheirHashAreThere) {
  Cluster cluster(2);
  cluster.send(kZero, kOne, "", "bytes");
  cluster.carry();
  const BulkSend send = cluster.at(kZero).sends[0];
  cluster.step(kZero, BulkSent{kOne, send.tag, hash_of_bulk(send.bytes->view())});
  cluster.carry();
  EXPECT_TRUE(cluster.at(kOne).script->came.empty());
  cluster.arrive(kZero, send);
  EXPECT_EQ(cluster.at(kOne).script->came.size(), 1u);
  cluster.arrive(kZero, send);
  EXPECT_EQ(cluster.at(kOne).script->came.size(), 1u) << "once";
}

TEST(Bulk, OtherBytesThanThoseSentAreDroppedAndTheNextTransferComes) {
  Cluster cluster(2);
  cluster.send(kZero, kOne, "first", "bytes");
  cluster.send(kZero, kOne, "second", "more");
  cluster.carry();
  cluster.move(kZero, true);
  EXPECT_TRUE(cluster.at(kOne).script->came.empty());
  EXPECT_EQ(cluster.at(kOne).node->drops().bulks, 1u);
  cluster.move(kZero);
  EXPECT_EQ(cluster.at(kOne).script->came, (std::vector<Came>{{kZero, kKind, "second", "more"}}));
}

TEST(Bulk, TwoTransfersFromAPeerAreUnderWayAndEitherMayEndFirst) {
  Cluster cluster(2);
  for (const char* name : {"first", "second", "third"}) cluster.send(kZero, kOne, name, "bytes");
  cluster.carry();
  auto& sends = cluster.at(kZero).sends;
  ASSERT_EQ(cluster.at(kOne).receives.size(), BulkDesk::kReceivesFromPeerMax);
  ASSERT_EQ(sends.size(), BulkDesk::kReceivesFromPeerMax);
  std::swap(sends[0], sends[1]);
  cluster.move(kZero);
  EXPECT_EQ(cluster.at(kOne).script->came, (std::vector<Came>{{kZero, kKind, "second", "bytes"}}));
  ASSERT_EQ(sends.size(), 2u) << "the third has begun beside the first";
  cluster.move(kZero);
  cluster.move(kZero);
  EXPECT_EQ(cluster.at(kOne).script->came, (std::vector<Came>{{kZero, kKind, "second", "bytes"},
                                                              {kZero, kKind, "first", "bytes"},
                                                              {kZero, kKind, "third", "bytes"}}));
}

TEST(Bulk, SoManyTransfersFromAllPeersAreUnderWay) {
  const auto peers = static_cast<std::uint32_t>(BulkDesk::kReceivesMax + 2);
  Cluster cluster(peers + 1);
  for (std::uint32_t peer = 1; peer <= peers; ++peer) {
    cluster.send(RankId{peer}, kZero, "first", "1");
    cluster.send(RankId{peer}, kZero, "second", "2");
  }
  cluster.carry();
  EXPECT_EQ(cluster.at(kZero).receives.size(), BulkDesk::kReceivesMax);
  std::size_t moved = 0;
  for (std::uint32_t peer = 1; moved < 2 * peers; peer = peer % peers + 1) {
    if (cluster.at(RankId{peer}).sends.empty()) continue;
    EXPECT_EQ(cluster.at(RankId{peer}).sends.size(), 1u);
    cluster.move(RankId{peer});
    ++moved;
    EXPECT_LE(cluster.at(kZero).receives.size(), moved + BulkDesk::kReceivesMax);
  }
  EXPECT_EQ(cluster.at(kZero).script->came.size(), 2 * peers);
}

TEST(Bulk, BytesUnderWayToARankAreBounded) {
  Cluster cluster(4);
  const std::size_t most = BulkDesk::kReceiveBytesMax;
  std::vector<std::pair<RankId, std::size_t>> offers{
      {kOne, most / 2}, {kTwo, most / 2 + 1}, {RankId{3}, 5}};
  for (const auto& [from, size] : offers) {
    cluster.at(from).script->next = [size](Context& context) {
      auto bytes = std::make_shared<Buffer>();
      bytes->resize(size);  // of memory that nobody touches
      context.begin(kZero, kKind);
      EXPECT_TRUE(context.send_bulk(std::move(bytes)));
    };
    cluster.step(from, Tick{0});
  }
  cluster.carry();
  ASSERT_EQ(cluster.at(kZero).receives.size(), 1u) << "none overtakes, or the large ones starve";
  EXPECT_EQ(cluster.at(kZero).receives[0].from, kOne);
}

TEST(Bulk, TheQueueIsBounded) {
  Cluster cluster(3);
  for (std::size_t i = 0; i < BulkDesk::kQueueMax; ++i) {
    EXPECT_TRUE(cluster.send(kZero, i % 2 == 0 ? kOne : kTwo, "", "x"));
  }
  EXPECT_FALSE(cluster.send(kZero, kOne, "", "x"));
  cluster.carry();
  cluster.move(kZero);
  EXPECT_TRUE(cluster.send(kZero, kOne, "", "x"));
}

TEST(BulkDeathTest, ATransferHasItsBounds) {
  Cluster cluster(2);
  const std::string header(BulkDesk::kHeaderBytesMax + 1, 'h');
  EXPECT_DEATH(cluster.send(kZero, kOne, header, "x"), "header beyond its bound");
  EXPECT_DEATH(cluster.send(kZero, kZero, "", "x"), "to itself");
}

// ---- views ----

TEST(Bulk, NothingOfAnEpochThatHasEndedIsHandedOver) {  // I6
  Cluster cluster(3);
  cluster.send(kZero, kOne, "old", "old bytes");
  cluster.carry();
  const BulkSend old = cluster.at(kZero).sends[0];
  cluster.die(kTwo);
  ASSERT_EQ(cluster.at(kOne).node->view().epoch, Epoch{2});
  EXPECT_EQ(old.bytes.use_count(), 2) << "the sender's node has let go";
  cluster.step(kZero, BulkSent{kOne, old.tag, hash_of_bulk(old.bytes->view())});
  cluster.carry();
  cluster.arrive(kZero, old);
  EXPECT_TRUE(cluster.at(kOne).script->came.empty());

  cluster.at(kZero).sends.clear();
  cluster.send(kZero, kOne, "new", "new bytes");
  cluster.carry();
  ASSERT_EQ(cluster.at(kZero).sends.size(), 1u);
  EXPECT_NE(cluster.at(kZero).sends[0].tag, old.tag);
  EXPECT_EQ(cluster.at(kZero).sends[0].epoch, Epoch{2});
  cluster.arrive(kZero, old);
  EXPECT_TRUE(cluster.at(kOne).script->came.empty());
  cluster.move(kZero);
  EXPECT_EQ(cluster.at(kOne).script->came, (std::vector<Came>{{kZero, kKind, "new", "new bytes"}}));
}

TEST(Bulk, WhileTheEpochEndsNothingIsTakenInEitherWay) {  // I6
  Cluster cluster(3);
  cluster.send(kZero, kOne, "", "bytes");
  cluster.carry();
  const BulkSend send = cluster.at(kZero).sends[0];
  cluster.step(kZero, BulkSent{kOne, send.tag, hash_of_bulk(send.bytes->view())});
  cluster.carry();
  cluster.step(kOne, PeerEvidence{kTwo, EvidenceKind::kConfirmed});
  ASSERT_FALSE(cluster.at(kOne).node->stable());
  cluster.arrive(kZero, send);
  EXPECT_TRUE(cluster.at(kOne).script->came.empty());
  EXPECT_FALSE(cluster.send(kOne, kZero, "", "bytes"));
}

TEST(Bulk, NothingIsSentToWhoIsNoMember) {
  Cluster cluster(3);
  cluster.die(kTwo);
  EXPECT_FALSE(cluster.send(kZero, kTwo, "", "bytes"));
}

// ---- transfers that are stuck ----

constexpr int kStallSeconds = static_cast<int>(Node::kStallTimeout / kSecond);

TEST(Bulk, ATransferThatStandsStillEndsTheEpoch) {
  for (const auto ends : {BulkMoved::Way::kOut, BulkMoved::Way::kIn}) {
    Cluster cluster(2);
    cluster.send(kZero, kOne, "", "bytes");
    cluster.carry();
    // Only one end still sees it move.
    const BulkMoved moved{ends, ends == BulkMoved::Way::kOut ? kOne : kZero,
                          cluster.at(kZero).sends[0].tag};
    const RankId sees = ends == BulkMoved::Way::kOut ? kZero : kOne;
    cluster.pass(kStallSeconds - 1, [&] { cluster.step(sees, moved); });
    EXPECT_TRUE(cluster.at(kZero).node->stable() && cluster.at(kOne).node->stable());
    cluster.pass(2, [&] { cluster.step(sees, moved); });
    EXPECT_FALSE(cluster.at(kZero).node->stable() && cluster.at(kOne).node->stable());
  }
}

TEST(Bulk, ATransferThatMovesMayTakeLong) {
  Cluster cluster(2);
  cluster.send(kZero, kOne, "", "bytes");
  cluster.carry();
  const BulkTag tag = cluster.at(kZero).sends[0].tag;
  cluster.pass(3 * kStallSeconds, [&] {
    cluster.step(kZero, BulkMoved{BulkMoved::Way::kOut, kOne, tag});
    cluster.step(kOne, BulkMoved{BulkMoved::Way::kIn, kZero, tag});
  });
  EXPECT_TRUE(cluster.at(kZero).node->stable() && cluster.at(kOne).node->stable());
  cluster.move(kZero);
  EXPECT_EQ(cluster.at(kOne).script->came.size(), 1u);
}

// ---- what makes no sense ----

class Desk : public testing::Test {
 protected:
  bool hear(MessageKind kind, const std::function<void(Writer&)>& write) {
    Buffer payload;
    Writer writer(payload);
    write(writer);
    return desk.hear(kOne, kind, payload.view(), output);
  }
  bool hear_offer(std::uint64_t bytes, MessageKind kind = kKind) {
    return hear(MessageKind::kBulkOffer, [&](Writer& writer) {
      writer.put(kind);
      writer.put(bytes);
    });
  }
  bool hear_end(BulkTag tag) {
    return hear(MessageKind::kBulkEnd, [&](Writer& writer) {
      writer.put(tag);
      writer.put(BulkHash{}.low);
      writer.put(BulkHash{}.high);
    });
  }

  BulkDesk desk;
  BulkDesk::Output output;
};

TEST_F(Desk, RefusesOffersBeyondTheBound) {
  EXPECT_FALSE(hear_offer(BulkDesk::kBytesMax + 1));
  EXPECT_FALSE(hear_offer(5, MessageKind::kPrepare));
  EXPECT_FALSE(hear_offer(5, MessageKind::kBulkReady));
  EXPECT_FALSE(hear(MessageKind::kBulkOffer, [](Writer& writer) { writer.put(kKind); }));
  EXPECT_TRUE(output.receives.empty());
  EXPECT_TRUE(hear_offer(BulkDesk::kBytesMax));
}

TEST_F(Desk, HoldsOneOfferWhileTwoAreUnderWayAndRefusesMore) {
  EXPECT_TRUE(hear_offer(4));
  EXPECT_TRUE(hear_offer(5));
  EXPECT_EQ(output.receives.size(), 2u);
  EXPECT_TRUE(hear_offer(6));
  EXPECT_FALSE(hear_offer(7));
  EXPECT_TRUE(hear_end(output.receives[0].tag));
  EXPECT_FALSE(hear_offer(7)) << "the bytes of the first may come later";
  EXPECT_EQ(output.receives.size(), 2u);
  Buffer bytes;
  bytes.resize(4);
  desk.arrived({kOne, output.receives[0].tag, {}, &bytes}, output);
  ASSERT_EQ(output.receives.size(), 3u);
  EXPECT_EQ(output.receives[2].size, 6u);
  EXPECT_TRUE(hear_offer(7));
}

TEST_F(Desk, OffersTheNextOnceThoseBeforeAreUnderWay) {
  const auto offers = [&] {
    return std::ranges::count(output.sayings, MessageKind::kBulkOffer, &BulkDesk::Saying::kind);
  };
  const auto hear_ready = [&](std::uint64_t tag) {
    return hear(MessageKind::kBulkReady, [&](Writer& writer) { writer.put(BulkTag{tag}); });
  };
  for (const char* text : {"a", "b", "c"}) {
    EXPECT_TRUE(desk.post(kOne, kKind, {}, large(text), output));
  }
  EXPECT_EQ(offers(), 1);
  EXPECT_TRUE(hear_ready(1));
  EXPECT_EQ(offers(), 2);
  EXPECT_FALSE(hear_ready(1)) << "is the tag of the first";
  desk.sent({kOne, BulkTag{1}, {}}, output);
  EXPECT_EQ(offers(), 2) << "the third waits until the second is under way";
  EXPECT_FALSE(hear_end(BulkTag{2})) << "is the other end's to say";
  EXPECT_TRUE(hear_ready(2));
  EXPECT_EQ(offers(), 3);
  desk.sent({kOne, BulkTag{2}, {}}, output);
  EXPECT_EQ(offers(), 3);
  EXPECT_TRUE(hear_ready(3));
  desk.sent({kOne, BulkTag{3}, {}}, output);
  EXPECT_EQ(offers(), 3);
  EXPECT_TRUE(desk.post(kOne, kKind, {}, large("d"), output));
  EXPECT_EQ(offers(), 4);
}

TEST_F(Desk, RefusesAnswersToNothing) {
  const auto hear_ready = [&] {
    return hear(MessageKind::kBulkReady, [](Writer& writer) { writer.put(BulkTag{7}); });
  };
  EXPECT_FALSE(hear_ready());
  EXPECT_FALSE(hear_end(BulkTag{1}));
  EXPECT_TRUE(desk.post(kOne, kKind, {}, large("x"), output));
  EXPECT_TRUE(hear_ready());
  EXPECT_FALSE(hear_ready());
  EXPECT_TRUE(hear_offer(5));
  EXPECT_FALSE(hear_end(BulkTag{2}));
  EXPECT_TRUE(hear_end(BulkTag{1}));
  EXPECT_FALSE(hear_end(BulkTag{1}));
}

TEST_F(Desk, TakesNoNewsOfTransfersThatItDoesNotKnow) {
  Buffer bytes(std::size_t{10});
  desk.sent({kOne, BulkTag{1}, {}}, output);
  desk.arrived({kOne, BulkTag{1}, {}, &bytes}, output);
  desk.moved({BulkMoved::Way::kOut, kOne, BulkTag{1}});
  EXPECT_TRUE(output.sayings.empty() && output.deliveries.empty());
  EXPECT_EQ(bytes.capacity(), 10u) << "not taken";
}

}  // namespace
}  // namespace regroup

// One rank's protocol: a pure state machine. Inputs go in through step(), outputs come out; it has
// no clock, no thread, no socket and no random source, so the same object runs over real MPI and in
// the simulator. Node owns what every message shares (frames, links, logical clocks, the view) and
// hands payloads to the Service it carries. Not thread-safe: one thread at a time calls step().
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/bulk.hpp"
#include "runtime/protocol/clocks.hpp"
#include "runtime/protocol/disk.hpp"
#include "runtime/protocol/event.hpp"
#include "runtime/protocol/frame.hpp"
#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/link.hpp"
#include "runtime/protocol/membership.hpp"
#include "runtime/protocol/registry_call.hpp"
#include "runtime/protocol/view.hpp"
#include "runtime/protocol/work.hpp"

namespace regroup {

// ---- inputs ----
struct Tick {
  Nanoseconds now = 0;
};
struct FrameArrived {
  RankId from;  // as the transport knows it
  std::span<const std::byte> bytes;
};
// The computing part is idle: the answer is at most one order.
struct WorkWanted {};
struct WorkFinished {
  WorkResult* result = nullptr;  // may be moved from; borrowed for the step
};
// What a user asks of the run while it goes on.
enum class Wish : std::uint8_t {
  kCheckpoint,         // take a checkpoint and go on
  kCheckpointAndStop,  // take one and end; without one if that takes too long
  kStop,               // end now
};
struct WishArrived {
  Wish wish{};
  std::string reason;  // in words that a message may begin with: "stopped by signal 15"
};
// User code asks the registry: the reply comes with a later step's output, or with this one's.
struct RegistryAsked {
  RegistryCall* call = nullptr;  // may be moved from; borrowed for the step
};
struct DiskAnswered {
  DiskAnswer* answer = nullptr;  // may be moved from; borrowed for the step
};
// PeerEvidence and FenceAnswer: see evidence.hpp and membership.hpp; BulkNews: see bulk.hpp.
using Input = std::variant<Tick, FrameArrived, WorkWanted, WorkFinished, WishArrived, PeerEvidence,
                           FenceAnswer, RegistryAsked, DiskAnswered, BulkNews>;

// ---- outputs ----
struct OutgoingFrame {
  RankId to;
  Buffer bytes;
  bool urgent = false;  // the receiver is to look at once: others wait for what it makes of it
};

// How the run ended for this rank.
struct Outcome {
  int exit_status = 0;
  std::string message;
  // This rank alone ends, because it cannot go on; the others have not been told.
  bool alone = false;
};

struct Output {
  std::vector<OutgoingFrame> frames;
  // Those of an epoch before the current view's are to be left alone. Receives first, then the
  // frames that tell of them.
  std::vector<BulkReceive> bulk_receives;
  std::vector<BulkSend> bulk_sends;
  std::vector<WorkOrder> orders;
  std::vector<Event> events;  // as NodeOptions::events says
  std::vector<RegistryReply> replies;
  std::vector<DiskRequest> disk;
  std::optional<FenceRequest> fence;
  std::optional<Outcome> outcome;

  void clear() {
    disk.clear();
    fence.reset();
    frames.clear();
    bulk_receives.clear();
    bulk_sends.clear();
    orders.clear();
    events.clear();
    replies.clear();
    outcome.reset();
  }
};

struct NodeOptions {
  RankId self;
  std::uint32_t ranks = 1;
  bool vector_clocks = true;
  EventLevel events = EventLevel::kOff;
  bool event_vectors = false;  // events carry vector stamps, where there are such clocks
  // Without a majority in reach for so long, the rank ends with exit status 75.
  Nanoseconds give_up_after = 60 * kSecond;
  TreeOptions tree = {};  // of the agreement on views
};

// Vector stamps cost memory and time a rank; above this many ranks they are off unless asked for.
inline constexpr std::uint32_t kVectorClockRanksDefaultMax = 64;

class Node;

// What a Service may do while it is being called.
class Context {
 public:
  RankId self() const;
  // Of the whole run: members of any view are below this.
  std::uint32_t ranks() const;
  const View& view() const;
  bool is_coordinator() const { return self() == view().coordinator; }
  // False while the members agree on the next view.
  bool stable() const;
  // The time of the latest Tick.
  Nanoseconds now() const;
  // The logical clock.
  std::uint64_t lamport() const;

  // Begins a message: write its payload to the Writer, then call send(). One at a time. While the
  // epoch is revoked messages to others go nowhere: on_view() is the time to say again what
  // matters.
  Writer begin(RankId to, MessageKind kind);
  void send();
  // The same with a large part, in place of send(), to another rank: on_bulk() has it there, whole
  // or not at all, once at most, and in this epoch only. Its order with other messages is not that
  // of sending. The payload has at most BulkDesk::kHeaderBytesMax bytes, the large part kBytesMax;
  // it must not change while others than the caller hold it. False, and the message goes nowhere:
  // too many wait (BulkDesk::kQueueMax), the epoch is revoked, or the receiver is no member.
  bool send_bulk(std::shared_ptr<const Buffer> bytes);
  // Large buffers are lent again, for memory that was never touched is slow. What they hold is
  // whatever was in memory.
  Buffer take_large(std::size_t bytes);
  void give_large(Buffer buffer);

  void order(WorkOrder order);
  void reply(RegistryReply reply);
  // Answered by on_disk(), some time.
  void ask_disk(DiskRequest request);
  void event(EventKind kind, RankId peer, StageId stage, std::uint64_t a, std::uint64_t b,
             Nanoseconds took = 0);
  void finish(Outcome outcome);
  // `rank` has said its last word: that it is gone from now on is no failure.
  void has_left(RankId rank);
  // Something keeps this epoch from going on: the members are to agree on another view.
  void request_new_view();
  // How far this rank's copy of the ledger goes: the members agree on it with the next view.
  void set_ledger(LedgerPosition position);

 private:
  friend class Node;
  explicit Context(Node& node) : node_(&node) {}
  Node* node_;
};

// What a Node carries: the scheduler, in Regroup itself.
class Service {
 public:
  virtual ~Service() = default;
  virtual void on_start(Context& context) = 0;
  // The members have agreed on a new view. Nothing sent before arrives any more, in either
  // direction.
  virtual void on_view(Context& context) = 0;
  // `rank` is gone for good, and that is no failure to those who know why.
  virtual void on_left(Context& context, RankId rank) = 0;
  virtual void on_tick(Context& context) = 0;
  // `payload` is gone after the call. A payload that does not decode is for the service to refuse:
  // it returns false and the node counts it.
  virtual bool on_message(Context& context, RankId from, MessageKind kind,
                          std::span<const std::byte> payload) = 0;
  // A message with a large part, of which every byte is as it was sent. `header` is gone after the
  // call; the bytes are the service's, who gives them back (Context::give_large) when done. `hash`
  // is theirs, so that nobody need read them again for that.
  virtual void on_bulk(Context& context, RankId from, MessageKind kind,
                       std::span<const std::byte> header, Buffer bytes, const BulkHash& hash);
  // One that was dropped, since what arrived is not what was sent. Its sender is not told.
  virtual void on_bulk_damaged(Context&, RankId, MessageKind, std::span<const std::byte>) {}
  virtual void on_work_wanted(Context& context) = 0;
  virtual void on_work_finished(Context& context, WorkResult& result) = 0;
  virtual void on_wish(Context& context, Wish wish, const std::string& reason) = 0;
  virtual void on_registry_call(Context&, RegistryCall&) {}
  virtual void on_disk(Context&, DiskAnswer&) {}
};

// What was dropped, and why; nothing of it was ever believed.
struct DropCounters {
  std::array<std::uint64_t, kFrameErrors> frames{};  // by FrameError
  std::uint64_t strangers = 0;                       // not from a member, or not from whom it says
  std::uint64_t other_epochs = 0;
  std::uint64_t duplicates = 0;
  std::uint64_t overflows = 0;
  std::uint64_t payloads = 0;  // messages whose payload or vector stamp makes no sense
  std::uint64_t revoked = 0;   // of an epoch that was coming to its end, in either direction
  std::uint64_t bulks = 0;     // transfers of which what arrived is not what was sent

  std::uint64_t total() const {
    std::uint64_t sum =
        strangers + other_epochs + duplicates + overflows + payloads + revoked + bulks;
    for (const auto count : frames) sum += count;
    return sum;
  }
};

class Node {
 public:
  // A frame that is missing for this long will not come any more: the epoch is revoked, and the
  // next one begins with empty links. Whether the receiver finds that out or the sender, which
  // takes twice as long.
  static constexpr Nanoseconds kStallTimeout = 10 * kSecond;
  static constexpr std::uint32_t kStallLooks = 10;
  // So is the epoch of a rank that has sent something and hears nothing at all for so many looks.
  static constexpr std::uint32_t kSilentLooks = 3 * kStallLooks;
  // If that comes from the same link again, before it has carried anything, it is held for dead.
  // Frames of a view that this rank has yet to enter.
  static constexpr std::size_t kFutureFramesMax = 4096;

  Node(const NodeOptions& options, std::unique_ptr<Service> service, BufferPool& pool);

  // The first step: enters the first view, of all ranks.
  void start(Nanoseconds now, Output& output);
  // Appends to `output`, but for the fence: at most one is asked for at a time.
  void step(const Input& input, Output& output);

  const View& view() const { return membership_.view(); }
  // False while the members agree on the next view: then every tick counts.
  bool stable() const { return membership_.state() == Membership::State::kStable; }
  const Membership& membership() const { return membership_; }
  const DropCounters& drops() const { return drops_; }
  std::uint64_t lamport() const { return lamport_.now(); }
  std::span<const std::uint64_t> vector_stamp() const;
  Nanoseconds now() const { return now_; }
  // True while a frame that is missing holds up later ones.
  bool stalled() const;
  Service& service() { return *service_; }
  const Service& service() const { return *service_; }

 private:
  friend class Context;

  // What one end of the two links with a peer says of them.
  struct LinkStatus {
    std::uint64_t sent = 0;
    std::uint64_t heard = 0;
    friend bool operator==(const LinkStatus&, const LinkStatus&) = default;
  };

  struct SelfMessage {
    MessageKind kind;
    Buffer payload;
  };

  void tick(const Tick& tick);
  void learn(const PeerEvidence& evidence);
  void look_for_stalls();
  void end_epoch_for(const RankSet& unheard, const RankSet& deaf, const RankSet& unmoved);
  void report_links();
  bool hear_of_link(RankId from, const LinkStatus& status);
  void receive(const FrameArrived& arrived);
  void receive_job_frame(const FrameArrived& arrived, const Frame& frame);
  void receive_control(RankId from, const Frame& frame);
  void hold_for_later(const FrameArrived& arrived);
  template <class Change>
  void change_membership(Change change);
  void send_control(Membership::Message& message);
  void enter_view();
  void deliver(LinkReceiver& link, const Frame& frame);
  bool take_stamps(const FrameHeader& header, std::span<const std::byte>& payload);
  void hand_over(RankId from, MessageKind kind, std::span<const std::byte> payload);
  void take_bulk_news(const BulkNews& news);
  void carry_out_bulk();
  void run_self_messages();
  void send_begun();
  bool send_begun_bulk(std::shared_ptr<const Buffer> bytes);
  void send_frame(Buffer frame, bool more_follows);
  void record(EventKind kind, RankId peer, std::uint64_t a, std::uint64_t b, StageId stage = {},
              Nanoseconds took = 0);

  NodeOptions options_;
  std::unique_ptr<Service> service_;
  BufferPool* pool_;
  Context context_;
  Membership membership_;
  Membership::Output membership_output_;
  Nanoseconds now_ = 0;
  Nanoseconds stall_looked_at_ = 0;
  std::uint32_t link_reports_ = 0;
  LamportClock lamport_;
  std::optional<VectorClock> vector_;
  std::vector<LinkReceiver> receivers_;  // by rank
  std::vector<LinkSender> senders_;      // by rank
  std::vector<LinkStatus> told_;         // by rank: the last one sent
  // On whose account an epoch was ended since a frame of theirs was last taken in, since they last
  // said that they had taken in one of this rank's, and since a bulk transfer with them last moved.
  RankSet unheard_;
  RankSet deaf_;
  RankSet unmoved_;
  BulkDesk bulk_;
  BulkDesk::Output bulk_output_;
  std::vector<std::pair<RankId, Buffer>> future_frames_;
  std::vector<SelfMessage> self_messages_;
  std::vector<SelfMessage> self_messages_now_;
  DropCounters drops_;
  bool new_view_wanted_ = false;
  Output* output_ = nullptr;  // of the step that runs

  Buffer begun_;  // the message being written
  RankId begun_to_;
  MessageKind begun_kind_{};
  bool begun_open_ = false;
};

inline RankId Context::self() const {
  return node_->options_.self;
}
inline std::uint32_t Context::ranks() const {
  return node_->options_.ranks;
}
inline bool Context::stable() const {
  return node_->stable();
}
inline const View& Context::view() const {
  return node_->membership_.view();
}
inline Nanoseconds Context::now() const {
  return node_->now_;
}
inline std::uint64_t Context::lamport() const {
  return node_->lamport_.now();
}

}  // namespace regroup

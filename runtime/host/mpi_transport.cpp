#include "runtime/host/mpi_transport.hpp"

#include <deque>
#include <memory>
#include <vector>

#include "runtime/host/mpi_bulk.hpp"
#include "runtime/host/mpi_channel.hpp"
#include "runtime/host/ulfm_recovery.hpp"
#include "runtime/protocol/frame.hpp"

namespace regroup {
namespace {

using Tag = MpiChannel::Tag;

// Messages about shrinking that may arrive before one is looked at; more wait with MPI.
constexpr std::size_t kControlReceives = 8;
// Deaths that no call stumbled over are looked for when nothing arrives, or after so many looks at
// the network.
constexpr std::uint32_t kPollsToLook = 32;

// Hands on the frames of a message, one by one.
std::size_t unpack(RankId from, std::span<const std::byte> message,
                   const Transport::FrameHandler& handler) {
  std::size_t frames = 0;
  while (!message.empty()) {
    const auto frame = message.first(leading_frame_bytes(message));
    handler(from, frame);
    message = message.subspan(frame.size());
    ++frames;
  }
  return frames;
}

}  // namespace

class MpiTransport::Implementation {
 public:
  Implementation(const MpiSession& session, BufferPool& pool, BulkReading reading)
      : self_(session.rank()),
        ranks_(session.ranks()),
        pool_(&pool),
        bulk_(session.handles().bulk,
              session.recovery() == RecoveryBackend::kUlfm ? MpiBulk::Deaths::kReported
                                                           : MpiBulk::Deaths::kUnseen,
              reading, pool),
        packs_(ranks_),
        gone_(ranks_, false) {
    if (session.recovery() == RecoveryBackend::kUlfm) recovery_.emplace(session);
    std::vector<RankId> all;
    for (std::uint32_t rank = 0; rank < ranks_; ++rank) all.emplace_back(rank);
    current_ = open_channel(session.handles().all, std::move(all));
    packed_.reserve(ranks_);
  }

  RankId self() const { return self_; }
  std::uint32_t ranks() const { return ranks_; }
  std::size_t backlog_bytes() const {
    return packed_bytes_ + current_->backlog_bytes() + (before_ ? before_->backlog_bytes() : 0);
  }
  Shrinks shrinks() const { return shrinks_; }

  void send(RankId to, Buffer frame) {
    if (gone_[to.value]) return pool_->give(std::move(frame));
    Buffer& pack = packs_[to.value];
    if (pack.size() + frame.size() > kSmallFrameBytes) send_pack(to);
    if (frame.size() > kSmallFrameBytes) return send_message(to, Tag::kLarge, std::move(frame));
    packed_bytes_ += frame.size();
    if (!pack.empty()) {
      pack.append(frame.view());
      pool_->give(std::move(frame));
    } else {
      pack = std::move(frame);
      packed_.push_back(to);
    }
  }

  void flush() {
    for (const RankId to : packed_) send_packed(to);
    packed_.clear();
  }

  std::size_t poll(const FrameHandler& handler, std::size_t frames_max) {
    flush();
    std::size_t frames = 0;
    const MpiChannel::MessageHandler on_message = [&](RankId from, Tag tag,
                                                      std::span<const std::byte> message) {
      if (tag == Tag::kControl) return recovery_->hear(from, message);
      frames += unpack(from, message, handler);
    };
    while (frames < frames_max && current_->take_message(on_message)) continue;
    current_->release_sent();
    if (before_) {
      while (frames < frames_max && before_->take_message(on_message)) continue;
      before_->release_sent();
    }
    recovery_ ? recover(frames) : note_unreachable();
    return frames;
  }

  void send_bulk(BulkSend send) {
    if (!gone_[send.to.value]) bulk_.send(std::move(send));
  }
  void receive_bulk(const BulkReceive& receive) {
    if (!gone_[receive.from.value]) bulk_.receive(receive);
  }
  bool poll_bulk(const BulkHandler& handler) { return bulk_.poll(handler); }
  void drop_bulk() { bulk_.end_view(); }
  bool has_bulk() const { return bulk_.is_busy(); }
  RankSet bulk_peers() const { return bulk_.peers(); }

  void abandon(RankId rank) {
    if (gone_[rank.value]) return;
    gone_[rank.value] = true;
    bulk_.abandon(rank);
    packed_bytes_ -= packs_[rank.value].size();
    packs_[rank.value].clear();
    current_->abandon(rank);
    if (before_) before_->abandon(rank);
  }

  std::optional<PeerEvidence> take_evidence() {
    if (evidence_.empty()) return std::nullopt;
    const PeerEvidence evidence = evidence_.front();
    evidence_.pop_front();
    return evidence;
  }

  // What the communicator before the current one still carries is of an older view.
  void enter(const View& view) {
    drop_bulk();
    if (!recovery_) return;
    recovery_->enter(view);
    if (!before_) return;
    for (Buffer& message : before_->revoke()) kept_.push_back(std::move(message));
    before_.reset();
  }

 private:
  std::unique_ptr<MpiChannel> open_channel(MPI_Comm communicator, std::vector<RankId> ranks) {
    const MpiChannel::Sizes sizes{.small_bytes = kSmallFrameBytes,
                                  .small_receives = kSmallReceives,
                                  .large_bytes = kFrameBytesMax,
                                  .large_receives = kLargeReceives,
                                  .control_bytes = UlfmRecovery::kMessageBytes,
                                  .control_receives = recovery_ ? kControlReceives : 0};
    return std::make_unique<MpiChannel>(communicator, std::move(ranks), sizes, *pool_);
  }

  void send_pack(RankId to) {
    if (packs_[to.value].empty()) return;
    send_packed(to);
    std::erase(packed_, to);
  }

  void send_packed(RankId to) {
    Buffer& pack = packs_[to.value];
    if (pack.empty()) return;
    packed_bytes_ -= pack.size();
    send_message(to, Tag::kSmall, std::move(pack));
  }

  // A rank that the communicator was shrunk without is dead.
  void send_message(RankId to, Tag tag, Buffer message) {
    if (recovery_ && !current_->ranks().contains(to)) return pool_->give(std::move(message));
    current_->send(to, tag, std::move(message));
  }

  // A connection that broke stays broken: the peer is dead, or as good as that for this rank.
  void note_unreachable() {
    RankSet unreachable = current_->take_unreachable();
    unreachable.insert_all(bulk_.take_unreachable());
    for (const RankId rank : unreachable) {
      if (gone_[rank.value]) continue;
      abandon(rank);
      evidence_.push_back({rank, EvidenceKind::kUnreachable});
    }
  }

  void recover(std::size_t frames) {
    const bool failed =
        current_->take_failure() || (before_ && before_->take_failure()) || bulk_.take_failure();
    if (failed) recovery_->note_failure();
    if (failed || frames == 0 || ++polls_ % kPollsToLook == 0) {
      const MPI_Comm communicators[] = {current_->communicator(),
                                        before_ ? before_->communicator() : MPI_COMM_NULL};
      recovery_->look(std::span(communicators).first(before_ ? 2 : 1));
    }
    while (const auto rank = recovery_->take_death()) {
      evidence_.push_back({*rank, EvidenceKind::kConfirmed});
    }
    const auto shrunk = recovery_->advance(*current_, *pool_);
    if (!shrunk) return;
    before_ = std::move(current_);
    current_ = open_channel(shrunk->communicator, shrunk->ranks);
    shrinks_ = {shrinks_.count + 1, shrunk->took};
  }

  RankId self_;
  std::uint32_t ranks_;
  BufferPool* pool_;
  std::optional<UlfmRecovery> recovery_;  // only with ULFM
  std::unique_ptr<MpiChannel> current_;
  MpiBulk bulk_;
  std::unique_ptr<MpiChannel> before_;  // the current one was shrunk from it, in this view
  std::vector<Buffer> packs_;           // by rank: small frames that leave together
  std::vector<RankId> packed_;          // whose pack holds something
  std::size_t packed_bytes_ = 0;
  std::vector<bool> gone_;  // by rank
  std::deque<PeerEvidence> evidence_;
  std::vector<Buffer> kept_;  // MPI may read them for ever
  std::uint32_t polls_ = 0;
  Shrinks shrinks_;
};

MpiTransport::MpiTransport(const MpiSession& session, BufferPool& pool, BulkReading reading)
    : implementation_(std::make_unique<Implementation>(session, pool, reading)) {}
MpiTransport::~MpiTransport() = default;
RankId MpiTransport::self() const {
  return implementation_->self();
}
std::uint32_t MpiTransport::ranks() const {
  return implementation_->ranks();
}
void MpiTransport::send(RankId to, Buffer frame) {
  implementation_->send(to, std::move(frame));
}
void MpiTransport::flush() {
  implementation_->flush();
}
std::size_t MpiTransport::poll(const FrameHandler& handler, std::size_t frames_max) {
  return implementation_->poll(handler, frames_max);
}
void MpiTransport::send_bulk(BulkSend send) {
  implementation_->send_bulk(std::move(send));
}
void MpiTransport::receive_bulk(const BulkReceive& receive) {
  implementation_->receive_bulk(receive);
}
bool MpiTransport::poll_bulk(const BulkHandler& handler) {
  return implementation_->poll_bulk(handler);
}
void MpiTransport::drop_bulk() {
  implementation_->drop_bulk();
}
bool MpiTransport::has_bulk() const {
  return implementation_->has_bulk();
}
RankSet MpiTransport::bulk_peers() const {
  return implementation_->bulk_peers();
}
void MpiTransport::abandon(RankId rank) {
  implementation_->abandon(rank);
}
std::optional<PeerEvidence> MpiTransport::take_evidence() {
  return implementation_->take_evidence();
}
void MpiTransport::enter(const View& view) {
  implementation_->enter(view);
}
MpiTransport::Shrinks MpiTransport::shrinks() const {
  return implementation_->shrinks();
}
std::size_t MpiTransport::backlog_bytes() const {
  return implementation_->backlog_bytes();
}

}  // namespace regroup

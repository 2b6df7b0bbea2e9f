#include "runtime/host/mpi_transport.hpp"

#include <array>
#include <vector>

#include "runtime/host/mpi_wrapper.hpp"
#include "runtime/protocol/frame.hpp"

namespace regroup {
namespace {

constexpr int kSmallTag = 1;
constexpr int kLargeTag = 2;

// Receives that are posted in a ring: MPI matches them in the order of posting, so the head
// completes first.
class ReceiveRing {
 public:
  ReceiveRing(MPI_Comm communicator, int tag, std::size_t slots, std::size_t slot_bytes)
      : slot_bytes_(slot_bytes), bytes_(slots * slot_bytes), requests_(slots, MPI_REQUEST_NULL) {
    for (std::size_t slot = 0; slot < slots; ++slot) {
      mpi::check(MPI_Recv_init(data(slot), static_cast<int>(slot_bytes), MPI_BYTE, MPI_ANY_SOURCE,
                               tag, communicator, &requests_[slot]),
                 "MPI_Recv_init");
      mpi::check(MPI_Start(&requests_[slot]), "MPI_Start");
    }
  }
  ~ReceiveRing() {
    for (MPI_Request& request : requests_) {
      mpi::check(MPI_Cancel(&request), "MPI_Cancel");
      mpi::check(MPI_Wait(&request, MPI_STATUS_IGNORE), "MPI_Wait");
      mpi::check(MPI_Request_free(&request), "MPI_Request_free");
    }
  }
  ReceiveRing(const ReceiveRing&) = delete;
  ReceiveRing& operator=(const ReceiveRing&) = delete;

  MPI_Request head() const { return requests_[head_]; }
  // Of the head, once it has completed.
  std::span<const std::byte> message(const MPI_Status& status) {
    int count = 0;
    mpi::check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
    return {data(head_), static_cast<std::size_t>(count)};
  }
  void post_head_again() {
    mpi::check(MPI_Start(&requests_[head_]), "MPI_Start");
    head_ = (head_ + 1) % requests_.size();
  }

 private:
  std::byte* data(std::size_t slot) { return bytes_.data() + slot * slot_bytes_; }

  std::size_t slot_bytes_;
  std::vector<std::byte> bytes_;
  std::vector<MPI_Request> requests_;
  std::size_t head_ = 0;
};

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
  Implementation(const MpiSession& session, BufferPool& pool)
      : communicator_(session.handles().all),
        self_(session.rank()),
        ranks_(session.ranks()),
        pool_(&pool),
        rings_{{{communicator_, kSmallTag, kSmallReceives, kSmallFrameBytes},
                {communicator_, kLargeTag, kLargeReceives, kFrameBytesMax}}},
        packs_(ranks_),
        gone_(ranks_, false) {
    packed_.reserve(ranks_);
  }

  RankId self() const { return self_; }
  std::uint32_t ranks() const { return ranks_; }
  std::size_t backlog_bytes() const { return backlog_bytes_; }

  void send(RankId to, Buffer frame) {
    if (gone_[to.value]) return pool_->give(std::move(frame));
    backlog_bytes_ += frame.size();
    Buffer& pack = packs_[to.value];
    if (pack.size() + frame.size() > kSmallFrameBytes) send_pack(to);
    if (!pack.empty()) {
      pack.append(frame.view());
      pool_->give(std::move(frame));
    } else if (frame.size() <= kSmallFrameBytes) {
      pack = std::move(frame);
      packed_.push_back(to);
    } else {
      send_message(to, kLargeTag, std::move(frame));
    }
  }

  void flush() {
    for (const RankId to : packed_) {
      if (!packs_[to.value].empty()) send_message(to, kSmallTag, std::move(packs_[to.value]));
    }
    packed_.clear();
  }

  std::size_t poll(const FrameHandler& handler, std::size_t frames_max) {
    flush();
    std::size_t frames = 0;
    while (frames < frames_max) {
      const std::size_t taken = take_message(handler);
      if (taken == 0) break;
      frames += taken;
    }
    release_sent();
    return frames;
  }

  void abandon(RankId rank) {
    if (gone_[rank.value]) return;
    gone_[rank.value] = true;
    backlog_bytes_ -= packs_[rank.value].size();
    packs_[rank.value].clear();
    std::size_t kept = 0;
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      if (sending_to_[i] == rank) {
        backlog_bytes_ -= sending_[i].size();
        abandoned_.push_back(std::move(sending_[i]));
        continue;
      }
      if (kept != i) {
        requests_[kept] = requests_[i];
        sending_[kept] = std::move(sending_[i]);
        sending_to_[kept] = sending_to_[i];
      }
      ++kept;
    }
    requests_.resize(kept);
    sending_.resize(kept);
    sending_to_.resize(kept);
  }

 private:
  void send_pack(RankId to) {
    if (packs_[to.value].empty()) return;
    send_message(to, kSmallTag, std::move(packs_[to.value]));
    std::erase(packed_, to);
  }

  void send_message(RankId to, int tag, Buffer message) {
    MPI_Request request = MPI_REQUEST_NULL;
    mpi::check(MPI_Isend(message.data(), static_cast<int>(message.size()), MPI_BYTE,
                         static_cast<int>(to.value), tag, communicator_, &request),
               "MPI_Isend");
    sending_.push_back(std::move(message));
    sending_to_.push_back(to);
    requests_.push_back(request);
  }

  // The frames of the next message that has arrived; 0 if there is none. One look for both rings,
  // since each look in vain makes MPI progress.
  std::size_t take_message(const FrameHandler& handler) {
    std::array<MPI_Request, 2> heads{rings_[0].head(), rings_[1].head()};
    int index = 0;
    int arrived = 0;
    MPI_Status status;
    mpi::check(MPI_Testany(static_cast<int>(heads.size()), heads.data(), &index, &arrived, &status),
               "MPI_Testany");
    if (!arrived) return 0;
    ReceiveRing& ring = rings_[static_cast<std::size_t>(index)];
    const std::size_t frames = unpack(RankId{static_cast<std::uint32_t>(status.MPI_SOURCE)},
                                      ring.message(status), handler);
    ring.post_head_again();
    return frames;
  }

  void release_sent() {
    if (requests_.empty()) return;
    int count = 0;
    sent_.resize(requests_.size());
    mpi::check(MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                            sent_.data(), MPI_STATUSES_IGNORE),
               "MPI_Testsome");
    if (count == MPI_UNDEFINED || count == 0) return;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      if (requests_[i] == MPI_REQUEST_NULL) {
        backlog_bytes_ -= sending_[i].size();
        pool_->give(std::move(sending_[i]));
        continue;
      }
      if (kept != i) {
        requests_[kept] = requests_[i];
        sending_[kept] = std::move(sending_[i]);
        sending_to_[kept] = sending_to_[i];
      }
      ++kept;
    }
    requests_.resize(kept);
    sending_.resize(kept);
    sending_to_.resize(kept);
  }

  MPI_Comm communicator_;
  RankId self_;
  std::uint32_t ranks_;
  BufferPool* pool_;
  std::array<ReceiveRing, 2> rings_;
  std::vector<Buffer> packs_;          // by rank: small frames that leave together
  std::vector<RankId> packed_;         // whose pack holds something
  std::vector<bool> gone_;             // by rank
  std::vector<Buffer> sending_;        // messages under way,
  std::vector<RankId> sending_to_;     // whom to,
  std::vector<MPI_Request> requests_;  // and their requests
  std::vector<Buffer> abandoned_;      // MPI may read them for ever
  std::vector<int> sent_;
  std::size_t backlog_bytes_ = 0;
};

MpiTransport::MpiTransport(const MpiSession& session, BufferPool& pool)
    : implementation_(std::make_unique<Implementation>(session, pool)) {}
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
void MpiTransport::abandon(RankId rank) {
  implementation_->abandon(rank);
}
std::size_t MpiTransport::backlog_bytes() const {
  return implementation_->backlog_bytes();
}

}  // namespace regroup

#include "runtime/host/mpi_transport.hpp"

#include <memory>
#include <vector>

#include "runtime/host/mpi_wrapper.hpp"
#include "runtime/protocol/frame.hpp"

namespace regroup {
namespace {

constexpr int kSmallTag = 1;
constexpr int kLargeTag = 2;

// Receives that are always posted, of one tag. MPI matches them in the order of posting, but they
// may complete in another: one whose sender died half-way never does.
class Receives {
 public:
  Receives(MPI_Comm communicator, int tag, std::size_t slots, std::size_t slot_bytes)
      : communicator_(communicator), tag_(tag), slot_bytes_(slot_bytes) {
    post_more(slots);
  }
  ~Receives() {
    for (MPI_Request& request : requests_) {
      mpi::check(MPI_Cancel(&request), "MPI_Cancel");
      mpi::check(MPI_Wait(&request, MPI_STATUS_IGNORE), "MPI_Wait");
      mpi::check(MPI_Request_free(&request), "MPI_Request_free");
    }
  }
  Receives(const Receives&) = delete;
  Receives& operator=(const Receives&) = delete;

  void post_more(std::size_t slots) {
    for (std::size_t i = 0; i < slots; ++i) {
      bytes_.push_back(std::make_unique_for_overwrite<std::byte[]>(slot_bytes_));
      requests_.push_back(MPI_REQUEST_NULL);
      mpi::check(MPI_Recv_init(bytes_.back().get(), static_cast<int>(slot_bytes_), MPI_BYTE,
                               MPI_ANY_SOURCE, tag_, communicator_, &requests_.back()),
                 "MPI_Recv_init");
      mpi::check(MPI_Start(&requests_.back()), "MPI_Start");
    }
  }
  std::size_t slots() const { return requests_.size(); }
  MPI_Request request(std::size_t slot) const { return requests_[slot]; }
  // Of a slot that has completed.
  std::span<const std::byte> message(std::size_t slot, const MPI_Status& status) {
    int count = 0;
    mpi::check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
    return {bytes_[slot].get(), static_cast<std::size_t>(count)};
  }
  void post_again(std::size_t slot) { mpi::check(MPI_Start(&requests_[slot]), "MPI_Start"); }

 private:
  MPI_Comm communicator_;
  int tag_;
  std::size_t slot_bytes_;
  std::vector<std::unique_ptr<std::byte[]>> bytes_;
  std::vector<MPI_Request> requests_;
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
        small_(communicator_, kSmallTag, kSmallReceives, kSmallFrameBytes),
        large_(communicator_, kLargeTag, kLargeReceives, kFrameBytesMax),
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
    large_.post_more(kLargeReceives);  // the others may wait for what it did not finish to send
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

  // The frames of the next message that has arrived; 0 if there is none. One look for all that may
  // complete, since each look in vain makes MPI progress. Small messages arrive whole, so the one
  // posted first completes first.
  std::size_t take_message(const FrameHandler& handler) {
    heads_.assign(1, small_.request(small_head_));
    for (std::size_t slot = 0; slot < large_.slots(); ++slot) {
      heads_.push_back(large_.request(slot));
    }
    int index = 0;
    int arrived = 0;
    MPI_Status status;
    mpi::check(
        MPI_Testany(static_cast<int>(heads_.size()), heads_.data(), &index, &arrived, &status),
        "MPI_Testany");
    if (!arrived) return 0;
    Receives& receives = index == 0 ? small_ : large_;
    const std::size_t slot = index == 0 ? small_head_ : static_cast<std::size_t>(index) - 1;
    const std::size_t frames = unpack(RankId{static_cast<std::uint32_t>(status.MPI_SOURCE)},
                                      receives.message(slot, status), handler);
    receives.post_again(slot);
    if (index == 0) small_head_ = (small_head_ + 1) % small_.slots();
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
  Receives small_;
  std::size_t small_head_ = 0;
  Receives large_;
  std::vector<MPI_Request> heads_;     // of those that may complete next
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

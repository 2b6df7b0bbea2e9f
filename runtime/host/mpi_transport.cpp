#include "runtime/host/mpi_transport.hpp"

#include <deque>
#include <vector>

#include "runtime/host/mpi_wrapper.hpp"
#include "runtime/protocol/frame.hpp"

namespace regroup {
namespace {

constexpr int kSmallTag = 1;
constexpr int kLargeTag = 2;
// Pending sends looked at in one poll.
constexpr std::size_t kSendsTestedMax = 64;

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

  // Hands on the frame at the head of the ring, if it has arrived.
  bool take(const Transport::FrameHandler& handler) {
    MPI_Status status;
    int arrived = 0;
    mpi::check(MPI_Test(&requests_[head_], &arrived, &status), "MPI_Test");
    if (!arrived) return false;
    int count = 0;
    mpi::check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
    handler(RankId{static_cast<std::uint32_t>(status.MPI_SOURCE)},
            {data(head_), static_cast<std::size_t>(count)});
    mpi::check(MPI_Start(&requests_[head_]), "MPI_Start");
    head_ = (head_ + 1) % requests_.size();
    return true;
  }

 private:
  std::byte* data(std::size_t slot) { return bytes_.data() + slot * slot_bytes_; }

  std::size_t slot_bytes_;
  std::vector<std::byte> bytes_;
  std::vector<MPI_Request> requests_;
  std::size_t head_ = 0;
};

}  // namespace

class MpiTransport::Implementation {
 public:
  Implementation(const MpiSession& session, BufferPool& pool)
      : communicator_(session.handles().all),
        self_(session.rank()),
        ranks_(session.ranks()),
        pool_(&pool),
        small_(communicator_, kSmallTag, kSmallReceives, kSmallFrameBytes),
        large_(communicator_, kLargeTag, kLargeReceives, kFrameBytesMax) {}

  RankId self() const { return self_; }
  std::uint32_t ranks() const { return ranks_; }
  std::size_t backlog_bytes() const { return backlog_bytes_; }

  void send(RankId to, Buffer frame) {
    Pending pending{.request = MPI_REQUEST_NULL, .frame = std::move(frame)};
    const int tag = pending.frame.size() <= kSmallFrameBytes ? kSmallTag : kLargeTag;
    mpi::check(MPI_Isend(pending.frame.data(), static_cast<int>(pending.frame.size()), MPI_BYTE,
                         static_cast<int>(to.value), tag, communicator_, &pending.request),
               "MPI_Isend");
    if (has_left(pending)) return pool_->give(std::move(pending.frame));
    backlog_bytes_ += pending.frame.size();
    pending_.push_back(std::move(pending));
  }

  std::size_t poll(const FrameHandler& handler, std::size_t frames_max) {
    std::size_t frames = 0;
    while (frames < frames_max && small_.take(handler)) ++frames;
    while (frames < frames_max && large_.take(handler)) ++frames;
    release_sent();
    return frames;
  }

 private:
  struct Pending {
    MPI_Request request;
    Buffer frame;
  };

  static bool has_left(Pending& pending) {
    int left = 0;
    mpi::check(MPI_Test(&pending.request, &left, MPI_STATUS_IGNORE), "MPI_Test");
    return left != 0;
  }

  void release_sent() {
    for (std::size_t i = 0; i < kSendsTestedMax && !pending_.empty(); ++i) {
      if (!has_left(pending_.front())) {
        // Sends to different ranks overtake each other: let the next one have its turn.
        if (pending_.size() > 1) {
          pending_.push_back(std::move(pending_.front()));
          pending_.pop_front();
        }
        continue;
      }
      backlog_bytes_ -= pending_.front().frame.size();
      pool_->give(std::move(pending_.front().frame));
      pending_.pop_front();
    }
  }

  MPI_Comm communicator_;
  RankId self_;
  std::uint32_t ranks_;
  BufferPool* pool_;
  ReceiveRing small_;
  ReceiveRing large_;
  std::deque<Pending> pending_;
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
std::size_t MpiTransport::poll(const FrameHandler& handler, std::size_t frames_max) {
  return implementation_->poll(handler, frames_max);
}
std::size_t MpiTransport::backlog_bytes() const {
  return implementation_->backlog_bytes();
}

}  // namespace regroup

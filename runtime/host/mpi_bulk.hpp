// Bulk transfers over MPI: the bytes go in chunks straight from the sender's memory to the
// receiver's, over a communicator of their own, by non-blocking calls of which a few are under way
// at a time; each chunk is hashed while it is in the cache. Whoever lives finishes what was begun:
// when a view ends, the sender goes on with chunks that are empty, so that both ends get their
// memory back. What a dead rank leaves under way is MPI's for ever; its pages are given back.
// Owned by the transport, whose thread calls it; with and without ULFM the same.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "runtime/host/mpi_wrapper.hpp"
#include "runtime/host/transport.hpp"
#include "runtime/protocol/bulk.hpp"
#include "runtime/protocol/rank_set.hpp"

namespace regroup {

class MpiBulk {
 public:
  // Chunks of one transfer that are under way at a time. The receiver waits for more than the
  // sender sends, so that a chunk that arrives has a place to go.
  static constexpr std::size_t kSendWindow = 4;
  static constexpr std::size_t kReceiveWindow = 8;
  // Moved at one poll, so that it stays short.
  static constexpr std::size_t kBytesAtOnce = std::size_t{4} << 20;
  // What is left of an earlier view is MPI's once it has not moved for so long.
  static constexpr auto kDrainTimeout = std::chrono::seconds(10);

  // What MPI says of a dead rank's requests: nothing, or with ULFM that they have failed.
  enum class Deaths : std::uint8_t { kUnseen, kReported };

  // Over all ranks of the run, numbered as there, for bulk transfers alone; it and the pool outlive
  // this.
  MpiBulk(MPI_Comm communicator, Deaths deaths, BufferPool& pool);
  // Leaves what is under way to MPI.
  ~MpiBulk();
  MpiBulk(const MpiBulk&) = delete;
  MpiBulk& operator=(const MpiBulk&) = delete;

  void send(BulkSend send);
  void receive(const BulkReceive& receive);
  // Moves transfers along. Whether one has moved.
  bool poll(const Transport::BulkHandler& handler);
  bool is_busy() const { return !transfers_.empty(); }
  RankSet peers() const;
  // Nothing more is said of what is under way.
  void end_view();
  // The rank is dead.
  void abandon(RankId rank);
  // Whether a call has failed since this was last asked, for a peer's death.
  bool take_failure() { return std::exchange(failure_, false); }

 private:
  using Clock = std::chrono::steady_clock;
  using Way = BulkMoved::Way;

  struct Transfer {
    Way way{};
    RankId peer;
    BulkTag tag;
    std::size_t size = 0;
    std::shared_ptr<const Buffer> out;
    Buffer in;
    BulkHasher hasher;
    std::vector<MPI_Request> requests;  // of chunks under way: a ring
    std::size_t begun = 0;              // chunks,
    std::size_t done = 0;               // in order
    bool cut_short = false;             // a chunk was empty
    bool failed = false;
    bool stale = false;  // of an earlier view
    Clock::time_point moved_at;

    std::size_t chunks() const { return (size + kBulkChunkBytes - 1) / kBulkChunkBytes; }
    std::size_t chunk_bytes(std::size_t chunk) const {
      return std::min(kBulkChunkBytes, size - chunk * kBulkChunkBytes);
    }
    MPI_Request& request(std::size_t chunk) { return requests[chunk % requests.size()]; }
  };

  void begin_chunks(Transfer& transfer);
  int begin_chunk(Transfer& transfer, std::size_t chunk);
  std::size_t look(const Transport::BulkHandler& handler);
  std::size_t chunk_done(Transfer& transfer, const MPI_Status& status,
                         const Transport::BulkHandler& handler);
  void report(Transfer& transfer, const Transport::BulkHandler& handler);
  bool settle(Transfer& transfer, Clock::time_point now, const Transport::BulkHandler& handler);
  void leave_to_mpi(Transfer& transfer);
  bool cancel(Transfer& transfer);
  bool note(mpi::Trouble trouble);

  MPI_Comm communicator_;
  Deaths deaths_;
  BufferPool* pool_;
  std::uint64_t tags_ = 1;  // that MPI has
  std::vector<Transfer> transfers_;
  std::vector<MPI_Request> heads_;  // the oldest chunk of each transfer that has one
  std::vector<std::size_t> owners_;
  std::vector<int> completed_;
  std::vector<MPI_Status> statuses_;
  bool failure_ = false;
};

}  // namespace regroup

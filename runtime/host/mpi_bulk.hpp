// Bulk transfers over MPI, on a communicator of their own, by non-blocking calls alone. The sender
// opens one and says where its bytes are. A receiver on the same node reads them there, with one
// copy and whenever it gets to it (process_memory.hpp), and answers how far it is. One that cannot
// refuses, once: from then on the bytes go in chunks from memory to memory, a few under way at a
// time. Each chunk is hashed at both ends while it is in the cache. Whoever lives finishes what was
// begun: when a view ends, a reader says that it is done and a sender of chunks goes on with empty
// ones, so that both ends get their memory back. What a dead rank leaves under way is MPI's for
// ever; its pages are given back. Owned by the transport, whose thread calls it; with and without
// ULFM the same.
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
  static constexpr std::size_t kSendWindow = 8;
  static constexpr std::size_t kReceiveWindow = 16;
  // A reader answers after so many chunks, and at the end.
  static constexpr std::size_t kChunksPerAnswer = 128;
  // Moved at one poll, so that it stays short.
  static constexpr std::size_t kBytesAtOnce = std::size_t{4} << 20;
  // What is left of an earlier view is MPI's once it has not moved for so long.
  static constexpr auto kDrainTimeout = std::chrono::seconds(10);

  // Whether MPI says that a dead rank's requests have failed (ULFM), and when it may at all.
  enum class Deaths : std::uint8_t { kUnseen, kReported };

  // Over all ranks of the run, numbered as there, for bulk transfers alone; it and the pool outlive
  // this.
  MpiBulk(MPI_Comm communicator, Deaths deaths, BulkReading reading, BufferPool& pool);
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
  // With whom calls have failed since this was last asked.
  RankSet take_unreachable() { return std::exchange(unreachable_, {}); }

 private:
  using Clock = std::chrono::steady_clock;
  using Way = BulkMoved::Way;

  // What the messages of a transfer are, which share its tag.
  enum class Kind : std::uint8_t { kChunk, kOpening, kAnswer };
  static constexpr std::uint64_t kKinds = 3;

  // What a sender says first.
  struct Opening {
    std::uint64_t domain = 0;  // own_memory_domain(), of the sender
    std::uint64_t address = 0;
    std::int32_t pid = 0;  // 0: the bytes come in chunks
  };
  // What MPI reads and writes while the requests are under way, so it stays where it is.
  struct Letters {
    Opening opening;
    std::uint64_t answer = 0;  // chunks that have been read, or kRefused
    MPI_Request opening_request = MPI_REQUEST_NULL;
    MPI_Request answer_request = MPI_REQUEST_NULL;
  };
  static constexpr std::uint64_t kRefused = ~std::uint64_t{0};

  enum class How : std::uint8_t { kNotSaid, kRead, kChunks };

  struct Transfer {
    Way way{};
    RankId peer;
    BulkTag tag;
    std::size_t size = 0;
    How how = How::kNotSaid;
    std::unique_ptr<Letters> letters;
    std::shared_ptr<const Buffer> out;
    Buffer in;
    BulkHasher hasher;
    std::vector<MPI_Request> requests;  // of chunks under way: a ring
    std::size_t begun = 0;              // chunks,
    std::size_t done = 0;               // in order; those that are not sent: hashed
    std::size_t answered = 0;           // of a reading: chunks
    bool cut_short = false;             // a chunk was empty
    bool failed = false;
    bool stale = false;  // of an earlier view
    Clock::time_point moved_at;

    std::size_t chunks() const { return (size + kBulkChunkBytes - 1) / kBulkChunkBytes; }
    std::size_t chunk_bytes(std::size_t chunk) const {
      return std::min(kBulkChunkBytes, size - chunk * kBulkChunkBytes);
    }
    MPI_Request& request(std::size_t chunk) { return requests[chunk % requests.size()]; }
    std::span<std::byte> place(std::size_t chunk) {
      return in.writable().subspan(chunk * kBulkChunkBytes, chunk_bytes(chunk));
    }
    std::span<const std::byte> bytes(std::size_t chunk) const {
      return out->view().subspan(chunk * kBulkChunkBytes, chunk_bytes(chunk));
    }
  };

  int mpi_tag(const Transfer& transfer, Kind kind) const;
  void open(Transfer& transfer);
  void await_opening(Transfer& transfer);
  void await_answer(Transfer& transfer);
  void answer(Transfer& transfer, std::uint64_t chunks);
  bool arrived(Transfer& transfer, MPI_Request& request);
  bool exchange_letters(Transfer& transfer, const Transport::BulkHandler& handler);
  void take_opening(Transfer& transfer);
  void take_answer(Transfer& transfer, const Transport::BulkHandler& handler);
  void go_by_chunks(Transfer& transfer);
  std::size_t read_chunk(Transfer& transfer, const Transport::BulkHandler& handler);
  void begin_chunks(Transfer& transfer);
  int begin_chunk(Transfer& transfer, std::size_t chunk);
  std::size_t look(const Transport::BulkHandler& handler);
  std::size_t chunk_done(Transfer& transfer, const MPI_Status& status,
                         const Transport::BulkHandler& handler);
  void report(Transfer& transfer, const Transport::BulkHandler& handler);
  static bool is_complete(const Transfer& transfer);
  void stop_reading(Transfer& transfer);
  bool settle(Transfer& transfer, Clock::time_point now, const Transport::BulkHandler& handler);
  void leave_to_mpi(Transfer& transfer);
  bool cancel(Transfer& transfer);
  bool cancel(MPI_Request& request);
  void note(Transfer& transfer, int code, const char* call);

  MPI_Comm communicator_;
  Deaths deaths_;
  BulkReading reading_;
  BufferPool* pool_;
  std::uint64_t domain_;
  RankSet refusing_;        // to read, or not of this node
  std::uint64_t tags_ = 1;  // that MPI has, for each kind of message
  std::vector<Transfer> transfers_;
  std::vector<MPI_Request> heads_;  // the oldest chunk of each transfer that has one
  std::vector<std::size_t> owners_;
  std::vector<int> completed_;
  std::vector<MPI_Status> statuses_;
  bool failure_ = false;  // since it was last asked,
  RankSet unreachable_;   // and these
};

}  // namespace regroup

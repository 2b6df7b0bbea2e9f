// Messages over one communicator, non-blocking calls only: rings of receives that are always
// posted, so that a message that arrives has a place to go, and sends that are tested until they
// have left. Ranks are named as in the run, whatever their number in the communicator. Owned by the
// transport, which says what the messages hold; one thread at a time. A peer that has died (ULFM
// says so) or cannot be reached any more is noted and no error; any other error ends the rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "runtime/host/mpi_wrapper.hpp"
#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/rank_set.hpp"

namespace regroup {

class MpiChannel {
 public:
  enum class Tag : int { kSmall = 1, kLarge = 2, kControl = 3 };
  struct Sizes {
    std::size_t small_bytes;
    std::size_t small_receives;
    std::size_t large_bytes;
    std::size_t large_receives;
    std::size_t control_bytes;
    std::size_t control_receives;  // 0: without ULFM, so there are no control messages
  };
  // The bytes are gone when the handler returns.
  using MessageHandler = std::function<void(RankId from, Tag tag, std::span<const std::byte>)>;

  // `ranks`: of the communicator, in its order. The pool outlives it; the communicator, whose
  // errors are returned, is kept by whoever made it.
  MpiChannel(MPI_Comm communicator, std::vector<RankId> ranks, const Sizes& sizes,
             BufferPool& pool);
  // Abandons what has not left or not arrived.
  ~MpiChannel();
  MpiChannel(const MpiChannel&) = delete;
  MpiChannel& operator=(const MpiChannel&) = delete;

  MPI_Comm communicator() const { return communicator_; }
  const RankSet& ranks() const { return rank_set_; }
  // To a rank of the communicator. A message of at most the tag's bytes.
  void send(RankId to, Tag tag, Buffer message);
  // Hands on the next message that has arrived, if there is one.
  bool take_message(const MessageHandler& handler);
  // Moves sends along.
  void release_sent();
  // What is under way to the rank will never leave. MPI may still read it, so it is kept.
  void abandon(RankId rank);
  std::size_t backlog_bytes() const { return backlog_bytes_; }
  // Ends the communicator for all its ranks (ULFM). Returns what MPI may still read, to be kept to
  // the end.
  std::vector<Buffer> revoke();

  // Whether a call has failed since this was last asked, for a peer's death.
  bool take_failure() { return std::exchange(failure_, false); }
  // To whom sends have failed since this was last asked.
  RankSet take_unreachable() { return std::exchange(unreachable_, {}); }
  // Nothing goes over this communicator any more.
  bool revoked() const { return revoked_; }

 private:
  class Receives;
  struct Sending {
    RankId to;
    Buffer message;
  };

  enum class Fate : std::uint8_t { kUnderWay, kSent, kAbandoned };

  // A receive that may complete next.
  struct Head {
    Receives* receives;
    std::size_t slot;
  };

  bool note(mpi::Trouble trouble);
  Head head_at(std::size_t index);
  void renew_failed(int index);
  void settle_sends(int failed_at_most);
  // Takes out of the sends under way, each by its index, those that are no longer.
  template <class FateOf>
  void drop_sends(FateOf fate_of);

  MPI_Comm communicator_;
  std::vector<RankId> rank_of_;  // by number in the communicator
  RankSet rank_set_;
  std::vector<int> number_of_;  // by rank
  BufferPool* pool_;
  std::size_t large_receives_;
  std::unique_ptr<Receives> small_;
  std::unique_ptr<Receives> large_;
  std::unique_ptr<Receives> control_;
  std::vector<MPI_Request> heads_;     // of those that may complete next
  std::vector<Sending> sending_;       // messages under way,
  std::vector<MPI_Request> requests_;  // and their requests
  std::vector<Buffer> abandoned_;      // MPI may read them for ever
  std::vector<int> sent_;
  std::vector<MPI_Status> statuses_;
  std::vector<bool> failed_;
  std::size_t backlog_bytes_ = 0;
  bool has_failed_ = false;
  bool failure_ = false;  // since it was last asked,
  RankSet unreachable_;   // and these
  bool revoked_ = false;
};

}  // namespace regroup

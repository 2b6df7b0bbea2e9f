// What a transport does with User-Level Failure Mitigation: it asks Open MPI who is dead, and has
// the members of a view shrink their communicator once all of them are ready (shrink_talk.hpp).
// MPIX_Comm_shrink blocks, so it has a thread of its own (MPI_THREAD_MULTIPLE), which is waited for
// no longer than a shrink takes: frames go on over the old communicator, with their epochs, until
// the new one is there, and for ever if a rank stands still in the middle. Owned by the transport,
// whose thread calls it.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <optional>

#include "runtime/host/mpi_channel.hpp"
#include "runtime/host/shrink_talk.hpp"

namespace regroup {

class UlfmRecovery {
 public:
  using Clock = std::chrono::steady_clock;
  // Failures that no call stumbled over are looked for so often at most.
  static constexpr auto kLook = std::chrono::milliseconds(1);

  // How long a shrink has MPI to itself. Where another thread was in MPI at the same time, Open MPI
  // 5.0.7 ended the process by signal 11 while it took notice of a death, in 1 of 62 runs of a test
  // with 4 ranks. A shrink among so many takes 0.5 to 2 ms.
  static constexpr auto kQuiet = std::chrono::milliseconds(50);

  // The new communicator, kept to the end of the process: a number that MPI gave to another one
  // might still be on a message that is under way.
  struct Shrunk {
    MPI_Comm communicator = MPI_COMM_NULL;
    std::vector<RankId> ranks;
    Clock::duration took{};
  };

  explicit UlfmRecovery(const MpiSession& session);
  // Leaves a shrink that has not come to its end to itself.
  ~UlfmRecovery();

  void enter(const View& view) { talk_.enter(view); }
  // A call over one of the communicators has failed for a death: a look is due at once.
  void note_failure() { looked_at_ = {}; }
  // Asks MPI for deaths if it is time; `communicators` have theirs acknowledged.
  void look(std::span<const MPI_Comm> communicators);
  // Ranks that were found dead, each one once.
  std::optional<RankId> take_death();
  void hear(RankId from, std::span<const std::byte> message);
  // Says what is to be said over the channel, shrinks its communicator when all are ready, and
  // hands over the new one, once.
  std::optional<Shrunk> advance(MpiChannel& channel, BufferPool& pool);
  std::uint32_t generation() const { return talk_.generation(); }

  static constexpr std::size_t kMessageBytes = 8;

 private:
  class Thread;

  MPI_Comm all_;
  bool may_shrink_;
  ShrinkTalk talk_;
  std::vector<bool> dead_;  // by rank
  std::deque<RankId> deaths_;
  Clock::time_point looked_at_;
  std::unique_ptr<Thread> thread_;
};

}  // namespace regroup

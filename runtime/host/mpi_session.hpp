// MPI's life in this process, without MPI's own types: started for one thread at a time
// (MPI_THREAD_SERIALIZED), or for several where ULFM needs them, and ended under a deadline. One a
// process; the thread that made it ends it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/host/recovery_backend.hpp"

namespace regroup {

class MpiSession {
 public:
  // What MPI calls its objects; only mpi_wrapper.hpp knows what is in it.
  struct Handles;

  // The choice has no problem (recovery_backend.hpp). Ends the process with exit status 3 if MPI
  // cannot be started.
  explicit MpiSession(RecoveryChoice recovery = RecoveryChoice::kAuto);
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

  // MPI_Finalize; when it takes too long, the process ends with `exit_status` all the same.
  void finish(int exit_status);

  std::uint32_t rank() const { return rank_; }
  std::uint32_t ranks() const { return ranks_; }
  // Among the ranks that share this node's memory.
  std::uint32_t local_rank() const { return local_rank_; }
  std::uint32_t local_ranks() const { return local_ranks_; }
  // The backend that is in force, the same on all ranks that one mpirun has started.
  RecoveryBackend recovery() const { return recovery_; }
  // Whether threads may call MPI at the same time.
  bool any_thread_may_call() const { return any_thread_may_call_; }
  // What each rank of this node passes in, by local rank. Collective over the node's ranks,
  // blocking: for the start of a run only.
  std::vector<std::vector<std::uint32_t>> gather_on_node(const std::vector<std::uint32_t>& numbers);

  // What each rank of the run passes in, by rank. Collective over all ranks, blocking: for the
  // start of a run only.
  std::vector<std::vector<std::byte>> gather(std::span<const std::byte> bytes);
  // Rank 0's bytes, to every rank; as many on each. Collective and blocking like gather.
  void broadcast(std::span<std::byte> bytes);

  const Handles& handles() const { return *handles_; }

 private:
  std::unique_ptr<Handles> handles_;
  std::uint32_t rank_ = 0;
  std::uint32_t ranks_ = 1;
  std::uint32_t local_rank_ = 0;
  std::uint32_t local_ranks_ = 1;
  RecoveryBackend recovery_ = RecoveryBackend::kStock;
  bool any_thread_may_call_ = false;
  bool finished_ = false;
};

// The MPI library in use, as it describes itself, on one line. Works without a session.
std::string mpi_description();

// 4 or 5 for Open MPI of that version, 0 for another MPI. Works without a session.
int open_mpi_major();

}  // namespace regroup

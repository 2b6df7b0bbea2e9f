// The one door to MPI: every return code passes check(), and nothing but the files of this layer's MPI
// transport sees <mpi.h>. MPI is started for one thread at a time (MPI_THREAD_SERIALIZED).
#pragma once

// The C interface alone: the C++ one, long deprecated, would be compiled in otherwise.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <cstdint>
#include <string>

namespace regroup::mpi {

// Ends the rank, saying which call failed and why, unless code is MPI_SUCCESS.
void check(int code, const char* call);

// MPI's life in this process, from construction to finish() or, at the latest, destruction.
class Session {
 public:
  // Ends the process with exit status 3 if MPI cannot be started.
  Session();
  ~Session() { finish(0); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // MPI_Finalize under a deadline: when it passes, the process ends with `exit_status` all the same.
  void finish(int exit_status);

  std::uint32_t rank() const { return rank_; }
  std::uint32_t ranks() const { return ranks_; }
  // Among the ranks that share this node's memory.
  std::uint32_t local_rank() const { return local_rank_; }
  std::uint32_t local_ranks() const { return local_ranks_; }
  // A communicator of our own over all ranks; errors are returned, not fatal.
  MPI_Comm communicator() const { return communicator_; }

 private:
  MPI_Comm communicator_ = MPI_COMM_NULL;
  std::uint32_t rank_ = 0;
  std::uint32_t ranks_ = 1;
  std::uint32_t local_rank_ = 0;
  std::uint32_t local_ranks_ = 1;
  bool finished_ = false;
};

// The MPI library in use, as it describes itself, on one line. Works without a Session.
std::string description();

}  // namespace regroup::mpi

// The one door to MPI: nothing but this header includes <mpi.h>, and every return code passes
// check(), or trouble() where a peer's death is not the end. Included by the sources of this
// layer's MPI session, transport and recovery, and by mpi_channel.hpp and mpi_bulk.hpp, which they
// share.
#pragma once

// The C interface alone: the C++ one, long deprecated, would be compiled in otherwise.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#if __has_include(<mpi-ext.h>)
#include <mpi-ext.h>
#endif

#include <vector>

#include "runtime/host/mpi_session.hpp"

namespace regroup {

namespace mpi {
// Ends the rank, saying which call failed and why, unless code is MPI_SUCCESS.
void check(int code, const char* call);

// What a call over a communicator may say, the last two with User-Level Failure Mitigation alone.
enum class Trouble {
  kNone,
  kPeerFailed,      // or cannot be reached any more
  kUnacknowledged,  // a receive from any source waits until a death is acknowledged
  kRevoked,         // nothing goes over this communicator any more
};
// Ends the rank at any other error, like check(). Transports that notice a broken connection (UCX)
// have no code of their own for it: an error that MPI cannot name is taken for one.
Trouble trouble(int code, const char* call);

// The calls of ULFM. Where the library lacks it they may not be called: they end the rank.
namespace ulfm {
// Whether it is in force in this process.
bool is_enabled();
// The failed ranks of the communicator as far as this process knows, by their number there, and
// lets receives from any source go on that wait for their acknowledgement.
std::vector<int> take_failed(MPI_Comm communicator);
void revoke(MPI_Comm communicator);
// Collective over the ranks that live, blocking. The return code of MPIX_Comm_shrink.
int shrink(MPI_Comm communicator, MPI_Comm* shrunk);
}  // namespace ulfm
}  // namespace mpi

struct MpiSession::Handles {
  MPI_Comm all = MPI_COMM_NULL;   // of our own, over all ranks; errors are returned, not fatal
  MPI_Comm bulk = MPI_COMM_NULL;  // the same for bulk transfers
  MPI_Comm node = MPI_COMM_NULL;  // the ranks of this node
};

}  // namespace regroup

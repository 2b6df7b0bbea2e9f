// The one door to MPI: nothing but this header includes <mpi.h>, and every return code passes
// check(). Included by the sources of this layer's MPI session and transport, never by another
// header.
#pragma once

// The C interface alone: the C++ one, long deprecated, would be compiled in otherwise.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>
#if __has_include(<mpi-ext.h>)
#include <mpi-ext.h>
#endif

#include "runtime/host/mpi_session.hpp"

namespace regroup {

namespace mpi {
// Ends the rank, saying which call failed and why, unless code is MPI_SUCCESS.
void check(int code, const char* call);

// Whether this MPI has the calls of User-Level Failure Mitigation (MPIX_Comm_shrink and others).
#ifdef OMPI_HAVE_MPI_EXT_FTMPI
inline constexpr bool kHasUlfm = true;
#else
inline constexpr bool kHasUlfm = false;
#endif
}  // namespace mpi

struct MpiSession::Handles {
  MPI_Comm all = MPI_COMM_NULL;   // of our own, over all ranks; errors are returned, not fatal
  MPI_Comm node = MPI_COMM_NULL;  // the ranks of this node
};

}  // namespace regroup

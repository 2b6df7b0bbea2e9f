// User-Level Failure Mitigation behind the wrapper's names, as Open MPI 5 has it (MPIX_, see
// https://docs.open-mpi.org, "User-Level Fault Mitigation"). Compiled everywhere; what a library
// without it cannot do is never reached there (recovery_backend.hpp).
#include <cstdio>
#include <cstdlib>
#include <numeric>

#include "runtime/host/mpi_wrapper.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup::mpi {

Trouble trouble(int code, const char* call) {
  if (code == MPI_SUCCESS) return Trouble::kNone;
  int error_class = code;
  check(MPI_Error_class(code, &error_class), "MPI_Error_class");
  switch (error_class) {
#ifdef REGROUP_ULFM
    case MPIX_ERR_PROC_FAILED:
      return Trouble::kPeerFailed;
    case MPIX_ERR_PROC_FAILED_PENDING:
      return Trouble::kUnacknowledged;
    case MPIX_ERR_REVOKED:
      return Trouble::kRevoked;
#endif
    case MPI_ERR_OTHER:
    case MPI_ERR_INTERN:
      return Trouble::kPeerFailed;
    default:
      check(code, call);
      return Trouble::kNone;
  }
}

namespace ulfm {

#ifdef REGROUP_ULFM

bool is_enabled() {
  int* value = nullptr;
  int found = 0;
  check(MPI_Comm_get_attr(MPI_COMM_WORLD, MPIX_FT, &value, &found), "MPI_Comm_get_attr");
  return found != 0 && *value != 0;
}

std::vector<int> take_failed(MPI_Comm communicator) {
  MPI_Group failed = MPI_GROUP_NULL;
  check(MPIX_Comm_get_failed(communicator, &failed), "MPIX_Comm_get_failed");
  int count = 0;
  check(MPI_Group_size(failed, &count), "MPI_Group_size");
  std::vector<int> ranks(static_cast<std::size_t>(count));
  if (count != 0) {
    std::vector<int> numbers(ranks.size());
    std::iota(numbers.begin(), numbers.end(), 0);
    MPI_Group all = MPI_GROUP_NULL;
    check(MPI_Comm_group(communicator, &all), "MPI_Comm_group");
    check(MPI_Group_translate_ranks(failed, count, numbers.data(), all, ranks.data()),
          "MPI_Group_translate_ranks");
    check(MPI_Group_free(&all), "MPI_Group_free");
    int acknowledged = 0;
    check(MPIX_Comm_ack_failed(communicator, count, &acknowledged), "MPIX_Comm_ack_failed");
  }
  if (failed != MPI_GROUP_EMPTY) check(MPI_Group_free(&failed), "MPI_Group_free");
  return ranks;
}

void revoke(MPI_Comm communicator) {
  check(MPIX_Comm_revoke(communicator), "MPIX_Comm_revoke");
}

int shrink(MPI_Comm communicator, MPI_Comm* shrunk) {
  return MPIX_Comm_shrink(communicator, shrunk);
}

#else

bool is_enabled() {
  return false;
}

std::vector<int> take_failed(MPI_Comm) {
  REGROUP_CHECK(false, "no ULFM to ask for failed ranks");
  return {};
}

void revoke(MPI_Comm) {
  REGROUP_CHECK(false, "no ULFM to revoke with");
}

int shrink(MPI_Comm, MPI_Comm*) {
  REGROUP_CHECK(false, "no ULFM to shrink with");
  return MPI_ERR_OTHER;
}

#endif

}  // namespace ulfm
}  // namespace regroup::mpi

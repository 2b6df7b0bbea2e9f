// Which of the two ways to shrink after a death this MPI allows, and what mpirun must be told so
// that survivors live on. Known from the library that the program was built with.
#pragma once

#include <string>
#include <vector>

namespace regroup {

enum class RecoveryBackend {
  kOwnProtocol,  // stock Open MPI: deaths are found, and views agreed on, without its help
  kUlfm,         // Open MPI 5 reports deaths, agrees and shrinks (User-Level Failure Mitigation)
};

// Needs no MPI session; any thread.
RecoveryBackend recovery_backend();

// The flags of mpirun with which a dead rank does not end the others. Open MPI 4.1 and 5 both know
// --enable-recovery: mpirun then returns 0 for killed ranks, so its status proves nothing.
std::vector<std::string> survival_flags(RecoveryBackend backend);

}  // namespace regroup

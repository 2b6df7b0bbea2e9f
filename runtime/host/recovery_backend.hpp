// Which of the two ways to live on after a death is in force, and what mpirun must be told for it.
// Both have the same protocol (runtime/protocol/membership.hpp) say who is a member; they differ in
// what MPI itself tells of deaths, and in the communicator that survivors go on with. What the
// program can do was found out when it was configured (REGROUP_ULFM); the user chooses at run time.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace regroup {

enum class RecoveryBackend {
  kStock,  // any Open MPI: deaths are found without it, the communicator of the start is kept
  kUlfm,   // Open MPI 5 tells of deaths and shrinks (User-Level Failure Mitigation)
};

// --recovery, REGROUP_RECOVERY.
enum class RecoveryChoice {
  kAuto,   // ULFM where the library has it and mpirun was started with it
  kStock,  // never ULFM
  kUlfm,   // ULFM, or no run
};

// All of these need no MPI session; any thread.

std::optional<RecoveryChoice> parse_recovery_choice(std::string_view text);

// Whether this program was built with ULFM's calls.
bool built_with_ulfm();

// Whether mpirun was told to have Open MPI tell of deaths; for a process that it started.
bool launched_with_ulfm();

// Why the choice cannot be had, on one line; empty when it can. `launched`: by mpirun, rather than
// about to start it.
std::optional<std::string> problem_with(RecoveryChoice choice, bool launched);

// What a launch is to be prepared for. The choice has no problem, see above.
RecoveryBackend backend_to_launch(RecoveryChoice choice);

// The flags of mpirun with which a dead rank does not end the others. Open MPI 4.1 and 5 both know
// --enable-recovery: mpirun then returns 0 for killed ranks, so its status proves nothing.
std::vector<std::string> survival_flags(RecoveryBackend backend);

}  // namespace regroup

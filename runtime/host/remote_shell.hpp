// What mpirun starts its daemons on other nodes with, in place of ssh: it runs ssh, or another
// program that is called like it, and stands between. Once the command has begun, a connection that
// breaks is hidden from mpirun for as long as that lives: Open MPI 4.1 may end a job that loses a
// daemon, and a run that loses a node is to go on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace regroup {

// The verb of regroup's command line for it, which is mpirun's to use.
inline constexpr std::string_view kRemoteShellVerb = "remote-shell";

// `arguments`: the program, a host, then the command as one or more words. Returns the exit status,
// that of the program (255: no connection) or of a node that was lost. One at a time.
int run_remote_shell(const std::vector<std::string>& arguments);

}  // namespace regroup

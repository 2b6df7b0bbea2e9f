// What mpirun starts its daemons on other nodes with, in place of ssh: it runs ssh, or another
// program that is called like it, or srun, and stands between. Once the command has begun, a
// connection that breaks is hidden from mpirun for as long as that lives: Open MPI 4.1 may end a
// job that loses a daemon, and a run that loses a node is to go on. Not so before the run has
// begun, when its ranks wait for each other, nor when its supervisor is gone, and mpirun is to end.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace regroup {

// The verb of regroup's command line for it, which is mpirun's to use.
inline constexpr std::string_view kRemoteShellVerb = "remote-shell";

// Names the run directory, by the variable that supervisors set: a run has begun when what was in
// its status.json has changed. Without it runs are taken to have begun.
inline constexpr const char* kRunDirectoryVariable = "REGROUP_INTERNAL_DIRECTORY";

inline constexpr std::string_view kUsualShell = "ssh";
inline constexpr std::string_view kSlurmShell = "srun";  // for nodes of this job's allocation

// Whether it is that one, by its name.
bool is_slurm_shell(const std::string& program);

// How a program that starts commands on other nodes is called, by its name: for a host and a
// command to a shell there. ssh is told to ask nobody; srun gets a step of its own on the node.
std::vector<std::string> remote_command(const std::string& program, const std::string& host,
                                        const std::string& command);

// `arguments`: the program, a host, then the command as one or more words. Returns the exit status,
// that of the program (255: no connection) or of a node that was lost. One at a time.
int run_remote_shell(const std::vector<std::string>& arguments);

}  // namespace regroup

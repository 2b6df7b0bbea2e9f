// What the doctor gathers before it judges: plain values, most of them as the machine and its
// programs said them. Gathering runs programs, each with a deadline, and creates files in the
// directory that is looked at, which it removes again; it changes nothing else and judges nothing.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "runtime/host/device.hpp"
#include "runtime/host/heartbeat_network.hpp"
#include "runtime/host/node_list.hpp"
#include "runtime/host/node_topology.hpp"
#include "runtime/host/recovery_backend.hpp"

namespace regroup {

// What only the owners of <mpi.h> and <hdf5.h> can tell.
struct LibraryDescriptions {
  std::string mpi;   // MPI_Get_library_version, such as "Open MPI v4.1.4, package: ..."
  std::string hdf5;  // such as "1.10.8, serial"
  bool mpi_has_ulfm = false;
};

// What the run would be given that the user asks about.
struct DoctorRequest {
  LibraryDescriptions libraries;
  RecoveryChoice recovery = RecoveryChoice::kAuto;
  std::vector<LaunchNode> nodes;  // empty: a run on this machine
  std::string remote_shell = "ssh";
  std::string network;  // an interface or a subnet; empty: not chosen
  std::uint32_t grace_seconds = 20;
  std::string directory = ".";  // need not be there yet
  std::string program;          // regroup's own file, which nodes must have as well
  std::string version;          // of it
};

// A node's clock against this one's.
struct ClockReading {
  double ahead_seconds = 0;
  double uncertainty_seconds = 0;  // either way
};

// What one of the named nodes said.
struct NodeFacts {
  std::string name;
  std::string problem;  // why it did not answer, on one line; empty: it did
  std::string hostname;
  std::optional<ClockReading> clock;
  bool sees_file = false;     // the one that this node has just created in the directory
  bool ignores_lock = false;  // it could lock that file, though it is locked here
  std::string version;        // of regroup at its path there; empty: there is none that runs
  std::vector<LocalNetwork> networks;  // empty: not known
};

struct DoctorFacts {
  struct Mpirun {
    std::string path;
    std::string version_output;         // of mpirun --version; empty: no answer
    std::string info_output;            // of ompi_info --parsable; empty: no answer
    std::vector<std::string> troubles;  // programs that did not answer, and why
  };
  struct Slurm {
    std::optional<std::string> sbatch_path;
    std::optional<std::string> scontrol_path;
    std::string version;                // of sbatch --version; empty: no answer
    std::string config_output;          // of scontrol show config; empty: no answer
    std::optional<std::string> job_id;  // inside an allocation
    std::string job_output;             // of scontrol show job; empty: no answer
    std::string trouble;                // of these, why the first failed that did; empty: none
  };
  struct FileSystem {
    std::string path;
    std::uint64_t type = 0;  // statfs's f_type
    std::uint64_t bytes_total = 0;
    std::uint64_t bytes_free = 0;  // to this user
    bool writable = false;
  };
  // What runs rely on, as tried in the directory. Each is why it does not work; empty: it does.
  struct FileOperations {
    std::string create_problem;  // a file that is there is not created again (O_EXCL)
    std::string link_problem;    // nor does link(2) replace one
    std::string lock_problem;    // flock(2) keeps others out
  };
  // Of this process; nullopt: none.
  struct Limit {
    std::optional<std::uint64_t> soft;
    std::optional<std::uint64_t> hard;
  };
  // The tightest of the control groups around this process; nullopt: none.
  struct ControlGroup {
    std::optional<std::uint64_t> memory_bytes;
    std::optional<std::uint64_t> tasks_left;  // processes and threads that may be started yet
  };

  LibraryDescriptions libraries;
  RecoveryChoice recovery = RecoveryChoice::kAuto;
  std::optional<Mpirun> mpirun;
  bool is_root = false;
  bool may_run_as_root = false;        // both OMPI_ALLOW_RUN_AS_ROOT variables are set
  bool may_run_as_root_prrte = false;  // and both of PRTE_ALLOW_RUN_AS_ROOT (Open MPI 5)
  std::string hwloc_version;
  std::expected<NodeTopology, std::string> node;  // within cgroup and affinity mask
  std::uint64_t memory_bytes = 0;                 // of this machine, whatever a cgroup allows
  ControlGroup control_group;
  bool built_with_cuda = false;
  std::string cuda_runtime_version;
  std::string nvidia_driver;  // version; empty: no driver
  DeviceList devices;
  Slurm slurm;
  std::uint32_t grace_seconds = 20;
  std::expected<FileSystem, std::string> directory;
  FileOperations file_operations;
  std::vector<NodeFacts> nodes;  // those that were named
  std::string remote_shell;
  std::string network;
  std::string program;
  std::string version;
  std::vector<LocalNetwork> own_networks;
  std::expected<FileSystem, std::string> shared_memory;
  std::string notices_problem;  // problem_with_death_notices(); empty: none
  Limit open_files;
  Limit processes;
  Limit locked_memory;
  bool has_rdma = false;  // an InfiniBand or RoCE device
};

// Takes at most some 3 s for each program of this machine that does not answer, and for the nodes
// as long as AskLimits says (doctor_nodes.hpp).
DoctorFacts look_around(const DoctorRequest& request);

}  // namespace regroup

// Says what this machine can do for a run and what it lacks: MPI, hwloc, HDF5, CUDA, Slurm, file
// system, shared memory, limits. Gathering (look_around) touches the machine and runs a few
// programs for their versions; judging (judge) is a pure function of what was gathered. Neither
// changes anything, and nothing that is missing is an error here: it is a line of the report.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "runtime/host/device.hpp"
#include "runtime/host/node_topology.hpp"
#include "runtime/host/recovery_backend.hpp"

namespace regroup {

// What only the owners of <mpi.h> and <hdf5.h> can tell.
struct LibraryDescriptions {
  std::string mpi;   // MPI_Get_library_version, such as "Open MPI v4.1.4, package: ..."
  std::string hdf5;  // such as "1.10.8, serial"
  bool mpi_has_ulfm = false;
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
    std::optional<std::string> job_id;  // inside an allocation
  };
  struct FileSystem {
    std::string path;
    std::uint64_t type = 0;  // statfs's f_type
    std::uint64_t bytes_total = 0;
    std::uint64_t bytes_free = 0;  // to this user
    bool writable = false;
  };
  struct OpenFiles {
    std::uint64_t soft = 0;
    std::uint64_t hard = 0;
  };

  LibraryDescriptions libraries;
  RecoveryChoice recovery = RecoveryChoice::kAuto;
  std::optional<Mpirun> mpirun;
  bool is_root = false;
  bool may_run_as_root = false;        // both OMPI_ALLOW_RUN_AS_ROOT variables are set
  bool may_run_as_root_prrte = false;  // and both of PRTE_ALLOW_RUN_AS_ROOT (Open MPI 5)
  std::string hwloc_version;
  std::expected<NodeTopology, std::string> node;  // within cgroup and affinity mask
  bool built_with_cuda = false;
  std::string cuda_runtime_version;
  std::string nvidia_driver;  // version; empty: no driver
  DeviceList devices;
  Slurm slurm;
  std::expected<FileSystem, std::string> current_directory;
  std::expected<FileSystem, std::string> shared_memory;
  std::string notices_problem;  // problem_with_death_notices(); empty: none
  OpenFiles open_files;
};

enum class CheckStatus { kOk, kWarning, kMissing };

struct DoctorCheck {
  std::string name;
  CheckStatus status = CheckStatus::kOk;
  std::string found;
  std::string advice;     // what to do; empty where nothing is to be done
  bool required = false;  // without it no run on several ranks

  friend bool operator==(const DoctorCheck&, const DoctorCheck&) = default;
};

struct DoctorReport {
  std::vector<DoctorCheck> checks;

  // Nothing that a run on several ranks needs is missing.
  bool ready() const;
};

// Takes at most some 3 s for each program that does not answer. (doctor_facts.cpp)
DoctorFacts look_around(const LibraryDescriptions& libraries, RecoveryChoice recovery);

// (doctor_checks.cpp)
DoctorReport judge(const DoctorFacts& facts);

// judge(look_around(libraries, recovery))
DoctorReport examine(const LibraryDescriptions& libraries, RecoveryChoice recovery);

// One row a check, advice on lines of its own. Ends in a newline.
std::string doctor_text(const DoctorReport& report, int columns);
// {"ready": ..., "checks": [{"name", "status", "required", "found", "advice"}]}
nlohmann::ordered_json doctor_json(const DoctorReport& report);

const char* to_text(CheckStatus status);

}  // namespace regroup

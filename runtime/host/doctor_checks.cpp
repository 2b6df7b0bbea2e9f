// Judging: one function for each check, from the facts to a finding, and the table that names them.
// Pure: the same facts give the same report.
#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "runtime/host/doctor.hpp"

namespace regroup {
namespace {

constexpr std::uint64_t kMib = 1024ULL * 1024ULL;
constexpr std::uint64_t kGib = 1024ULL * kMib;
constexpr std::uint64_t kDirectoryFreeBytesMin = 1 * kGib;
constexpr std::uint64_t kSharedMemoryFreeBytesMin = 256 * kMib;
constexpr std::uint64_t kOpenFilesMin = 1024;

// What a check says; the advice may be empty.
struct Finding {
  CheckStatus status;
  std::string found;
  std::string advice;
};

Finding ok(std::string found, std::string advice = {}) {
  return {CheckStatus::kOk, std::move(found), std::move(advice)};
}
Finding warning(std::string found, std::string advice) {
  return {CheckStatus::kWarning, std::move(found), std::move(advice)};
}
Finding missing(std::string found, std::string advice) {
  return {CheckStatus::kMissing, std::move(found), std::move(advice)};
}

// -- MPI -------------------------------------------------------------------------------------

// The first "digits.digits..." of a text, such as 4.1.4 of "mpirun (Open MPI) 4.1.4".
std::string version_in(std::string_view text) {
  const auto is_digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  for (std::size_t start = 0; start < text.size(); ++start) {
    if (!is_digit(text[start])) continue;
    std::size_t end = start;
    while (end < text.size() && (is_digit(text[end]) || text[end] == '.')) ++end;
    const std::string_view version = text.substr(start, end - start);
    if (version.find('.') != std::string_view::npos && version.back() != '.') {
      return std::string(version);
    }
    start = end;
  }
  return {};
}

int major_of(std::string_view version) {
  int major = 0;
  std::from_chars(version.data(), version.data() + version.size(), major);
  return major;
}

// ompi_info says 'options:ft_support:"no (...)"' (4.1.4) or 'options:ft_support:yes' and
// 'options:ft_mpi_support:yes' (5.0.7). Empty where it says nothing of the kind.
std::optional<bool> ulfm_in(std::string_view info) {
  std::optional<bool> found;
  while (!info.empty()) {
    const std::size_t end = std::min(info.find('\n'), info.size());
    const std::string_view line = info.substr(0, end);
    info.remove_prefix(std::min(end + 1, info.size()));
    if (!line.starts_with("options:")) continue;
    const std::size_t key_start = line.find(':') + 1;
    const std::size_t key_end = line.find(':', key_start);
    if (key_start == 0 || key_end == std::string_view::npos) continue;
    if (line.substr(key_start, key_end - key_start).find("ft") == std::string_view::npos) continue;
    std::string_view value = line.substr(key_end + 1);
    if (value.starts_with('"')) value.remove_prefix(1);
    found = found.value_or(false) || value.starts_with("yes");
  }
  return found;
}

Finding check_mpi_library(const DoctorFacts& facts) {
  const std::string& library = facts.libraries.mpi;
  if (library.empty()) return missing("none", "build with Open MPI 4.1 or 5");
  if (library.find("Open MPI") == std::string::npos)
    return warning(library, "only Open MPI 4.1 and 5 are known to keep going when a rank dies");
  return ok(library);
}

Finding check_mpirun(const DoctorFacts& facts) {
  if (!facts.mpirun)
    return missing("not on PATH",
                   "install openmpi-bin or load the cluster's Open MPI module; without it a run "
                   "has one rank");
  const DoctorFacts::Mpirun& mpirun = *facts.mpirun;
  const std::string version = version_in(mpirun.version_output);
  if (version.empty())
    return warning(mpirun.path + " ?", mpirun.troubles.empty()
                                           ? "'mpirun --version' names no version"
                                           : mpirun.troubles.front());
  const std::string found = mpirun.path + " " + version;
  const bool is_open_mpi = mpirun.version_output.find("Open MPI") != std::string::npos ||
                           mpirun.version_output.find("open-mpi") != std::string::npos;
  if (!is_open_mpi)
    return warning(found, "this is not Open MPI's mpirun: put Open MPI's first on PATH");
  const std::string library = version_in(facts.libraries.mpi);
  if (!library.empty() && library != version)
    return warning(
        found,
        fmt::format("the MPI library is {}: put the mpirun of that version on PATH", library));
  return ok(found);
}

// Which backend a run has, and why (recovery_backend.hpp).
Finding check_recovery(const DoctorFacts& facts) {
  if (!facts.mpirun) return missing("none: no mpirun, so there is one rank", "see mpirun");
  const bool is_new = major_of(version_in(facts.mpirun->version_output)) >= 5;
  const auto said = ulfm_in(facts.mpirun->info_output);
  const bool has_ulfm = is_new && facts.libraries.mpi_has_ulfm && said.value_or(true);
  if (facts.recovery == RecoveryChoice::kStock)
    return ok("stock: own protocol, as chosen (--recovery stock)");
  if (!has_ulfm && facts.recovery == RecoveryChoice::kUlfm)
    return missing("ulfm is chosen, but this MPI has none: runs on several ranks are refused",
                   "leave --recovery and REGROUP_RECOVERY at auto");
  if (!is_new) return ok("stock: own protocol, since this MPI has no ULFM (Open MPI 5 has it)");
  if (!has_ulfm)
    return warning("stock: own protocol, since this Open MPI 5 was built without ULFM",
                   "an Open MPI that is configured --with-ft=ulfm reports a rank's death itself");
  const std::string found =
      "ulfm: native, that of Open MPI 5 (-n starts mpirun --with-ft ulfm; without that flag, "
      "stock)";
  return ok(said ? found : found + "; ompi_info does not say whether it was built in");
}

Finding check_user(const DoctorFacts& facts) {
  if (!facts.is_root) return ok("not root");
  const bool prrte = facts.mpirun && major_of(version_in(facts.mpirun->version_output)) >= 5;
  if (facts.may_run_as_root || (prrte && facts.may_run_as_root_prrte))
    return ok("root, and mpirun is allowed to run as root");
  return warning("root, which a bare mpirun refuses",
                 "'regroup run -n' allows it by itself; for mpirun set OMPI_ALLOW_RUN_AS_ROOT=1 "
                 "and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
}

// -- The node and its libraries --------------------------------------------------------------

Finding check_topology(const DoctorFacts& facts) {
  if (!facts.node) return missing(facts.node.error(), "ranks run unbound: use --bind none");
  const PlaceCounts places = count_places(*facts.node);
  return ok(fmt::format("interface {}: {} package(s), {} NUMA node(s), {} core(s), {} GPU(s)",
                        facts.hwloc_version, places.packages, places.numa_nodes,
                        facts.node->cores.size(), facts.node->gpus.size()));
}

// A mask and a quota may both bound a rank; the advice is for the quota then, the tighter of them.
Finding check_cpus(const DoctorFacts& facts) {
  if (!facts.node) return missing("unknown", "see hwloc");
  const CpuList usable = usable_pus(*facts.node);
  Finding finding = ok(fmt::format("all {}", usable.size()));
  if (usable.size() < facts.node->machine_pus)
    finding = warning(
        fmt::format("{} of {} (cpus {})", usable.size(), facts.node->machine_pus,
                    format_cpu_list(usable)),
        "a cgroup or an affinity mask (taskset, srun, mpirun) keeps ranks off the others; if that "
        "is not meant, start without it or ask the batch system for more");
  const auto& quota = facts.node->cpu_quota;
  if (quota && *quota < static_cast<double>(usable.size()))
    finding = warning(finding.found + fmt::format(", with a cgroup quota of {:.1f} cpus", *quota),
                      fmt::format("keep ranks times --threads at {} or below, or raise the quota",
                                  std::max(1, static_cast<int>(*quota))));
  return finding;
}

Finding check_hdf5(const DoctorFacts& facts) {
  if (facts.libraries.hdf5.empty()) return missing("none", "build with HDF5 1.10 or newer");
  return ok(facts.libraries.hdf5);
}

Finding check_cuda(const DoctorFacts& facts) {
  const std::string found = fmt::format(
      "{}, {}, {} device(s)",
      facts.built_with_cuda ? "built with CUDA " + facts.cuda_runtime_version
                            : "built without CUDA",
      facts.nvidia_driver.empty() ? "no NVIDIA driver" : "driver " + facts.nvidia_driver,
      facts.devices.devices.size());
  if (!facts.devices.devices.empty()) return ok(found);
  const bool gpus_seen = facts.node && !facts.node->gpus.empty();
  if (!facts.built_with_cuda) {
    if (!gpus_seen && facts.nvidia_driver.empty()) return ok(found);
    return warning(found, "GPUs stay idle: build with -DREGROUP_CUDA=ON to use them");
  }
  const std::string found_and_why = found + " (" + facts.devices.reason + ")";
  if (gpus_seen)
    return warning(found_and_why,
                   "GPUs are on the PCI bus but CUDA shows none: install the driver, and look at "
                   "CUDA_VISIBLE_DEVICES");
  return missing(found_and_why, "jobs compute on the cpu; for a GPU, run on a node that has one");
}

Finding check_slurm(const DoctorFacts& facts) {
  const DoctorFacts::Slurm& slurm = facts.slurm;
  if (!slurm.sbatch_path && !slurm.scontrol_path) {
    if (!slurm.job_id) return missing("not on PATH", "nothing to do outside a Slurm cluster");
    return warning(
        "not on PATH",
        "this is a Slurm job: put sbatch and scontrol on PATH so that it can be requeued");
  }
  const std::string found =
      (slurm.version.empty() ? "sbatch does not tell its version" : slurm.version) +
      (slurm.job_id ? ", inside job " + *slurm.job_id : ", outside an allocation");
  if (!slurm.sbatch_path || !slurm.scontrol_path || slurm.version.empty())
    return warning(found,
                   "both sbatch and scontrol must be on PATH and answer, to submit and to requeue");
  return ok(found);
}

// -- Storage and limits ----------------------------------------------------------------------

std::string size_text(std::uint64_t bytes) {
  if (bytes >= kGib) return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / kGib);
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / kMib);
}

enum class Reach { kThisNode, kAllNodes, kUnknown };

struct FileSystemKind {
  std::uint64_t type;  // statfs(2), linux/magic.h and the file systems' own sources
  const char* name;
  Reach reach;
};

constexpr std::array kFileSystemKinds = {
    FileSystemKind{0xEF53, "ext4", Reach::kThisNode},
    FileSystemKind{0x58465342, "xfs", Reach::kThisNode},
    FileSystemKind{0x9123683E, "btrfs", Reach::kThisNode},
    FileSystemKind{0x2FC12FC1, "zfs", Reach::kThisNode},
    FileSystemKind{0xF2F52010, "f2fs", Reach::kThisNode},
    FileSystemKind{0x794C7630, "overlay", Reach::kThisNode},
    FileSystemKind{0x01021994, "tmpfs", Reach::kThisNode},
    FileSystemKind{0x858458F6, "ramfs", Reach::kThisNode},
    FileSystemKind{0x6969, "NFS", Reach::kAllNodes},
    FileSystemKind{0x0BD00BD0, "Lustre", Reach::kAllNodes},
    FileSystemKind{0x47504653, "GPFS", Reach::kAllNodes},
    FileSystemKind{0x19830326, "BeeGFS", Reach::kAllNodes},
    FileSystemKind{0x00C36400, "CephFS", Reach::kAllNodes},
    FileSystemKind{0xAAD7AAEA, "PanFS", Reach::kAllNodes},
    FileSystemKind{0xFF534D42, "CIFS", Reach::kAllNodes},
    FileSystemKind{0xFE534D42, "SMB", Reach::kAllNodes},
    FileSystemKind{0x01021997, "9P", Reach::kUnknown},
    FileSystemKind{0x65735546, "FUSE", Reach::kUnknown},
};

FileSystemKind kind_of(std::uint64_t type) {
  // f_type is a signed word: a magic number above 2^31 may come sign-extended.
  const std::uint64_t low = type & 0xFFFFFFFFULL;
  for (const FileSystemKind& kind : kFileSystemKinds) {
    if (kind.type == low) return kind;
  }
  return {low, "unknown type", Reach::kUnknown};
}

Finding check_directory(const DoctorFacts& facts) {
  if (!facts.current_directory)
    return missing(facts.current_directory.error(), "go to a directory that exists, or give --dir");
  const DoctorFacts::FileSystem& disk = *facts.current_directory;
  const FileSystemKind kind = kind_of(disk.type);
  const std::string_view name = kind.name;
  const std::string found = fmt::format("{} on {}, {} free of {}", disk.path, name,
                                        size_text(disk.bytes_free), size_text(disk.bytes_total));
  if (!disk.writable)
    return warning(found, "it cannot be written to: give --dir with a directory that can");
  if (disk.bytes_free < kDirectoryFreeBytesMin)
    return warning(found,
                   "little space is left for checkpoints and results: free some, or give another "
                   "--dir");
  if (name == "tmpfs" || name == "ramfs")
    return warning(found,
                   "it is memory: a run directory here is lost with the node; give --dir on a "
                   "disk");
  if (name == "NFS")
    return warning(found,
                   "NFS is slow for checkpoints and its caches lag; prefer a parallel file system "
                   "for --dir");
  if (kind.reach == Reach::kThisNode)
    return ok(found, "only this node sees it: a run on several nodes needs --dir on a shared one");
  return ok(found);
}

Finding check_shared_memory(const DoctorFacts& facts) {
  if (!facts.shared_memory)
    return missing(facts.shared_memory.error(),
                   "mount a tmpfs on /dev/shm: MPI needs it between ranks of a node");
  const DoctorFacts::FileSystem& memory = *facts.shared_memory;
  const std::string found =
      fmt::format("{}: {} free of {}", memory.path, size_text(memory.bytes_free),
                  size_text(memory.bytes_total));
  if (memory.bytes_free < kSharedMemoryFreeBytesMin)
    return warning(
        found,
        fmt::format(
            "MPI may fail between many ranks of a node: make {} free (containers: --shm-size), and "
            "remove what dead programs left there",
            size_text(kSharedMemoryFreeBytesMin)));
  return ok(found);
}

Finding check_death_notices(const DoctorFacts& facts) {
  if (facts.notices_problem.empty()) return ok("ranks of a node learn of a death when it begins");
  return warning(
      fmt::format("none ({})", facts.notices_problem),
      "ranks of a node learn of a death once all of the process is gone, which takes longer where "
      "all cores are busy; Linux 5.16 and newer give notices, unless a container forbids the call");
}

Finding check_open_files(const DoctorFacts& facts) {
  const std::string found =
      fmt::format("{} (may be raised to {})", facts.open_files.soft, facts.open_files.hard);
  if (facts.open_files.soft < kOpenFilesMin)
    return warning(found, fmt::format("ranks keep a socket to each neighbour and a file a "
                                      "checkpoint part: ulimit -n {} or more",
                                      kOpenFilesMin));
  return ok(found);
}

// -- The table -------------------------------------------------------------------------------

enum class Need { kRequired, kOptional };

struct Check {
  const char* name;
  Need need;
  Finding (*examine)(const DoctorFacts& facts);
};

// In the order of the report.
constexpr std::array kChecks = {
    Check{"MPI library", Need::kRequired, check_mpi_library},
    Check{"mpirun", Need::kRequired, check_mpirun},
    Check{"recovery", Need::kOptional, check_recovery},
    Check{"user", Need::kOptional, check_user},
    Check{"hwloc", Need::kRequired, check_topology},
    Check{"cpus", Need::kOptional, check_cpus},
    Check{"HDF5", Need::kRequired, check_hdf5},
    Check{"CUDA", Need::kOptional, check_cuda},
    Check{"Slurm", Need::kOptional, check_slurm},
    Check{"current directory", Need::kRequired, check_directory},
    Check{"shared memory", Need::kRequired, check_shared_memory},
    Check{"death notices", Need::kOptional, check_death_notices},
    Check{"open files", Need::kOptional, check_open_files},
};

}  // namespace

DoctorReport judge(const DoctorFacts& facts) {
  DoctorReport report;
  for (const Check& check : kChecks) {
    Finding finding = check.examine(facts);
    report.checks.push_back({.name = check.name,
                             .status = finding.status,
                             .found = std::move(finding.found),
                             .advice = std::move(finding.advice),
                             .required = check.need == Need::kRequired});
  }
  return report;
}

}  // namespace regroup

// The doctor on this machine: its libraries, and the limits of memory, processes and files that
// hold for ranks here.
#include <algorithm>

#include <fmt/format.h>

#include "runtime/host/doctor_checks.hpp"

namespace regroup::doctor {
namespace {

constexpr std::uint64_t kSharedMemoryFreeBytesMin = 256ULL << 20;
constexpr std::uint64_t kOpenFilesMin = 1024;
// Threads that a rank has beside those that compute: MPI's, UCX's and Regroup's own. With one rank
// a processing unit, the most there are.
constexpr std::uint64_t kTasksPerPu = 8;
constexpr std::uint64_t kTasksOfLaunch = 64;  // mpirun, its daemons, the remote shells

std::string limit_text(const std::optional<std::uint64_t>& limit) {
  return limit ? fmt::format("{}", *limit) : "unlimited";
}

}  // namespace

std::optional<Finding> check_topology(const DoctorFacts& facts) {
  if (!facts.node) return missing(facts.node.error(), "ranks run unbound: use --bind none");
  const PlaceCounts places = count_places(*facts.node);
  return ok(fmt::format("interface {}: {} package(s), {} NUMA node(s), {} core(s), {} GPU(s)",
                        facts.hwloc_version, places.packages, places.numa_nodes,
                        facts.node->cores.size(), facts.node->gpus.size()));
}

// A mask and a quota may both bound a rank; the advice is for the quota then, the tighter of them.
std::optional<Finding> check_cpus(const DoctorFacts& facts) {
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

std::optional<Finding> check_memory(const DoctorFacts& facts) {
  const std::uint64_t all = facts.memory_bytes;
  const std::string machine = all == 0 ? "unknown" : size_text(all);
  const auto& limit = facts.control_group.memory_bytes;
  if (!limit || (all != 0 && *limit >= all)) return ok(machine + ", no cgroup limit below it");
  return warning(
      fmt::format("{}, of which a cgroup allows {}", machine, size_text(*limit)),
      "the kernel kills ranks here that use more together: ask for more (Slurm: --mem=0 for all of "
      "a node; containers: --memory), or run fewer ranks and lower --partner-memory");
}

std::optional<Finding> check_hdf5(const DoctorFacts& facts) {
  if (facts.libraries.hdf5.empty()) return missing("none", "build with HDF5 1.10 or newer");
  return ok(facts.libraries.hdf5);
}

std::optional<Finding> check_cuda(const DoctorFacts& facts) {
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

std::optional<Finding> check_shared_memory(const DoctorFacts& facts) {
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

std::optional<Finding> check_death_notices(const DoctorFacts& facts) {
  if (facts.notices_problem.empty()) return ok("ranks of a node learn of a death when it begins");
  return warning(
      fmt::format("none ({})", facts.notices_problem),
      "ranks of a node learn of a death once all of the process is gone, which takes longer where "
      "all cores are busy; Linux 5.16 and newer give notices, unless a container forbids the call");
}

std::optional<Finding> check_open_files(const DoctorFacts& facts) {
  const DoctorFacts::Limit& limit = facts.open_files;
  const std::string found =
      fmt::format("{} (may be raised to {})", limit_text(limit.soft), limit_text(limit.hard));
  if (limit.soft && *limit.soft < kOpenFilesMin)
    return warning(found, fmt::format("ranks keep a socket to each neighbour and a file a "
                                      "checkpoint part: ulimit -n {} or more",
                                      kOpenFilesMin));
  return ok(found);
}

// Limits that bind root as well (a cgroup's) and those of a user.
std::optional<Finding> check_processes(const DoctorFacts& facts) {
  const auto& user = facts.processes.soft;
  const auto& group = facts.control_group.tasks_left;
  const std::uint64_t wanted =
      kTasksOfLaunch + kTasksPerPu * (facts.node ? usable_pus(*facts.node).size() : 1);
  const std::string found =
      fmt::format("{} a user", limit_text(user)) +
      (group ? fmt::format(", {} left in the cgroup", *group) : std::string(", no cgroup limit"));
  if (group && *group < wanted)
    return warning(found, fmt::format("a node full of ranks may have {} threads: raise pids.max "
                                      "(containers: --pids-limit; systemd: TasksMax)",
                                      wanted));
  if (user && *user < wanted && !facts.is_root)
    return warning(found, fmt::format("a node full of ranks may have {} threads: ulimit -u {} or "
                                      "more (limits.conf: nproc)",
                                      wanted, wanted));
  return ok(found);
}

std::optional<Finding> check_locked_memory(const DoctorFacts& facts) {
  const auto& limit = facts.locked_memory.soft;
  const std::string found = (limit ? size_text(*limit) : "unlimited") +
                            (facts.has_rdma ? ", and there is an RDMA device" : ", no RDMA device");
  if (!facts.has_rdma || !limit) return ok(found);
  return warning(found,
                 "RDMA locks what it sends: ulimit -l unlimited (limits.conf: memlock; Slurm: "
                 "PropagateResourceLimitsExcept=MEMLOCK and LimitMEMLOCK=infinity of slurmd)");
}

}  // namespace regroup::doctor

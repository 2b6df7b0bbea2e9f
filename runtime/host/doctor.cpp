#include "runtime/host/doctor.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "runtime/host/hwloc_wrapper.hpp"
#include "runtime/host/subprocess.hpp"

namespace regroup {
namespace {

constexpr std::chrono::milliseconds kProgramTimeout{3000};
constexpr std::uint64_t kMib = 1024ULL * 1024ULL;
constexpr std::uint64_t kGib = 1024ULL * kMib;
constexpr std::uint64_t kDirectoryFreeBytesMin = 1 * kGib;
constexpr std::uint64_t kSharedMemoryFreeBytesMin = 256 * kMib;
constexpr std::uint64_t kOpenFilesMin = 1024;

// -- Looking around --------------------------------------------------------------------------

// The program's output, or a line in `troubles`.
std::string answer_of(const std::vector<std::string>& argv, std::vector<std::string>& troubles) {
  auto output = run_program(argv, kProgramTimeout);
  if (!output) {
    troubles.push_back(output.error());
    return {};
  }
  if (!output->ok()) {
    troubles.push_back(fmt::format("{} failed (status {}, signal {})", argv[0], output->exit_code,
                                   output->signal));
    return {};
  }
  return std::move(output->standard_output);
}

std::optional<DoctorFacts::Mpirun> find_mpirun() {
  const auto path = find_on_path("mpirun");
  if (!path) return std::nullopt;
  DoctorFacts::Mpirun mpirun{
      .path = *path, .version_output = {}, .info_output = {}, .troubles = {}};
  mpirun.version_output = answer_of({"mpirun", "--version"}, mpirun.troubles);
  if (find_on_path("ompi_info")) {
    mpirun.info_output = answer_of({"ompi_info", "--parsable"}, mpirun.troubles);
  }
  return mpirun;
}

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && std::string_view(value) == "1";
}

std::expected<NodeTopology, std::string> usable_node() {
  const auto machine = Machine::this_machine();
  if (!machine) return std::unexpected(machine.error());
  return machine->usable();
}

// "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue ..." holds the version as the
// first word that begins with a digit.
std::string nvidia_driver_version() {
  std::ifstream file("/proc/driver/nvidia/version");
  for (std::string word; file >> word;) {
    if (std::isdigit(static_cast<unsigned char>(word[0])) != 0) return word;
  }
  if (!find_on_path("nvidia-smi")) return {};
  std::vector<std::string> troubles;
  const std::string answer =
      answer_of({"nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"}, troubles);
  return answer.substr(0, answer.find('\n'));
}

DoctorFacts::Slurm find_slurm() {
  DoctorFacts::Slurm slurm;
  slurm.sbatch_path = find_on_path("sbatch");
  slurm.scontrol_path = find_on_path("scontrol");
  std::vector<std::string> troubles;
  if (slurm.sbatch_path) slurm.version = answer_of({"sbatch", "--version"}, troubles);
  while (!slurm.version.empty() && slurm.version.back() == '\n') slurm.version.pop_back();
  if (const char* job = std::getenv("SLURM_JOB_ID"); job != nullptr) slurm.job_id = job;
  return slurm;
}

std::expected<DoctorFacts::FileSystem, std::string> file_system_of(const std::string& path) {
  struct statfs status {};
  if (::statfs(path.c_str(), &status) != 0) {
    return std::unexpected(fmt::format("{}: {}", path, std::strerror(errno)));
  }
  const auto block = static_cast<std::uint64_t>(status.f_bsize);
  return DoctorFacts::FileSystem{.path = path,
                                 .type = static_cast<std::uint64_t>(status.f_type),
                                 .bytes_total = status.f_blocks * block,
                                 .bytes_free = status.f_bavail * block,
                                 .writable = ::access(path.c_str(), W_OK) == 0};
}

std::string current_directory() {
  std::array<char, 4096> path{};
  return ::getcwd(path.data(), path.size()) == nullptr ? "." : path.data();
}

DoctorFacts::OpenFiles open_file_limits() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return {};
  return {.soft = limit.rlim_cur, .hard = limit.rlim_max};
}

// -- Small readers ---------------------------------------------------------------------------

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

// -- Judging ---------------------------------------------------------------------------------

enum class Need { kRequired, kOptional };

DoctorCheck named(const char* name, Need need) {
  DoctorCheck check;
  check.name = name;
  check.required = need == Need::kRequired;
  return check;
}

DoctorCheck judge_mpi_library(const DoctorFacts& facts) {
  DoctorCheck check = named("MPI library", Need::kRequired);
  check.found = facts.libraries.mpi.empty() ? "none" : facts.libraries.mpi;
  if (facts.libraries.mpi.empty()) {
    check.status = CheckStatus::kMissing;
    check.advice = "build with Open MPI 4.1 or 5";
  } else if (check.found.find("Open MPI") == std::string::npos) {
    check.status = CheckStatus::kWarning;
    check.advice = "only Open MPI 4.1 and 5 are known to keep going when a rank dies";
  }
  return check;
}

DoctorCheck judge_mpirun(const DoctorFacts& facts) {
  DoctorCheck check = named("mpirun", Need::kRequired);
  if (!facts.mpirun) {
    check.status = CheckStatus::kMissing;
    check.found = "not on PATH";
    check.advice =
        "install openmpi-bin or load the cluster's Open MPI module; without it a run "
        "has one rank";
    return check;
  }
  const std::string version = version_in(facts.mpirun->version_output);
  check.found = fmt::format("{} {}", facts.mpirun->path, version.empty() ? "?" : version);
  const std::string library = version_in(facts.libraries.mpi);
  if (version.empty()) {
    check.status = CheckStatus::kWarning;
    check.advice = facts.mpirun->troubles.empty() ? "'mpirun --version' names no version"
                                                  : facts.mpirun->troubles.front();
  } else if (facts.mpirun->version_output.find("Open MPI") == std::string::npos &&
             facts.mpirun->version_output.find("open-mpi") == std::string::npos) {
    check.status = CheckStatus::kWarning;
    check.advice = "this is not Open MPI's mpirun: put Open MPI's first on PATH";
  } else if (!library.empty() && library != version) {
    check.status = CheckStatus::kWarning;
    check.advice =
        fmt::format("the MPI library is {}: put the mpirun of that version on PATH", library);
  }
  return check;
}

DoctorCheck judge_recovery(const DoctorFacts& facts) {
  DoctorCheck check = named("recovery", Need::kOptional);
  if (!facts.mpirun) {
    check.status = CheckStatus::kMissing;
    check.found = "none: no mpirun, so there is one rank";
    check.advice = "see mpirun";
    return check;
  }
  const int major = major_of(version_in(facts.mpirun->version_output));
  const auto said = ulfm_in(facts.mpirun->info_output);
  if (major < 5) {
    check.found = "own protocol, since this MPI has no ULFM (Open MPI 5 has it)";
  } else if (facts.libraries.mpi_has_ulfm && said.value_or(true)) {
    check.found = "native: the ULFM of Open MPI 5 (mpirun --with-ft ulfm)";
    if (!said) check.found += "; ompi_info does not say whether it was built in";
  } else {
    check.status = CheckStatus::kWarning;
    check.found = "own protocol, since this Open MPI 5 was built without ULFM";
    check.advice = "an Open MPI that is configured --with-ft=ulfm reports a rank's death itself";
  }
  return check;
}

DoctorCheck judge_root(const DoctorFacts& facts) {
  DoctorCheck check = named("user", Need::kOptional);
  check.found = facts.is_root ? "root" : "not root";
  if (!facts.is_root) return check;
  const bool prrte = facts.mpirun && major_of(version_in(facts.mpirun->version_output)) >= 5;
  if (facts.may_run_as_root || (prrte && facts.may_run_as_root_prrte)) {
    check.found = "root, and mpirun is allowed to run as root";
    return check;
  }
  check.status = CheckStatus::kWarning;
  check.found = "root, which a bare mpirun refuses";
  check.advice =
      "'regroup run -n' allows it by itself; for mpirun set OMPI_ALLOW_RUN_AS_ROOT=1 and "
      "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1";
  return check;
}

DoctorCheck judge_topology(const DoctorFacts& facts) {
  DoctorCheck check = named("hwloc", Need::kRequired);
  if (!facts.node) {
    check.status = CheckStatus::kMissing;
    check.found = facts.node.error();
    check.advice = "ranks run unbound: use --bind none";
    return check;
  }
  const PlaceCounts places = count_places(*facts.node);
  check.found = fmt::format("interface {}: {} package(s), {} NUMA node(s), {} core(s), {} GPU(s)",
                            facts.hwloc_version, places.packages, places.numa_nodes,
                            facts.node->cores.size(), facts.node->gpus.size());
  return check;
}

DoctorCheck judge_cpus(const DoctorFacts& facts) {
  DoctorCheck check = named("cpus", Need::kOptional);
  if (!facts.node) {
    check.status = CheckStatus::kMissing;
    check.found = "unknown";
    check.advice = "see hwloc";
    return check;
  }
  const CpuList usable = usable_pus(*facts.node);
  check.found = fmt::format("all {}", usable.size());
  if (usable.size() < facts.node->machine_pus) {
    check.status = CheckStatus::kWarning;
    check.found = fmt::format("{} of {} (cpus {})", usable.size(), facts.node->machine_pus,
                              format_cpu_list(usable));
    check.advice =
        "a cgroup or an affinity mask (taskset, srun, mpirun) keeps ranks off the others; if that "
        "is not meant, start without it or ask the batch system for more";
  }
  const auto& quota = facts.node->cpu_quota;
  if (quota && *quota < static_cast<double>(usable.size())) {
    check.status = CheckStatus::kWarning;
    check.found += fmt::format(", with a cgroup quota of {:.1f} cpus", *quota);
    check.advice = fmt::format("keep ranks times --threads at {} or below, or raise the quota",
                               std::max(1, static_cast<int>(*quota)));
  }
  return check;
}

DoctorCheck judge_hdf5(const DoctorFacts& facts) {
  DoctorCheck check = named("HDF5", Need::kRequired);
  check.found = facts.libraries.hdf5;
  if (check.found.empty()) {
    check.status = CheckStatus::kMissing;
    check.found = "none";
    check.advice = "build with HDF5 1.10 or newer";
  }
  return check;
}

DoctorCheck judge_cuda(const DoctorFacts& facts) {
  DoctorCheck check = named("CUDA", Need::kOptional);
  const bool gpus_seen = facts.node && !facts.node->gpus.empty();
  const std::string driver =
      facts.nvidia_driver.empty() ? "no NVIDIA driver" : "driver " + facts.nvidia_driver;
  const std::string build = facts.built_with_cuda ? "built with CUDA " + facts.cuda_runtime_version
                                                  : "built without CUDA";
  check.found = fmt::format("{}, {}, {} device(s)", build, driver, facts.devices.devices.size());
  if (!facts.devices.devices.empty()) return check;
  if (!facts.built_with_cuda) {
    const bool idle_gpus = gpus_seen || !facts.nvidia_driver.empty();
    check.status = idle_gpus ? CheckStatus::kWarning : CheckStatus::kOk;
    if (idle_gpus) check.advice = "GPUs stay idle: build with -DREGROUP_CUDA=ON to use them";
    return check;
  }
  check.status = gpus_seen ? CheckStatus::kWarning : CheckStatus::kMissing;
  check.found += " (" + facts.devices.reason + ")";
  check.advice = gpus_seen ? "GPUs are on the PCI bus but CUDA shows none: install the driver, "
                             "and look at CUDA_VISIBLE_DEVICES"
                           : "jobs compute on the cpu; for a GPU, run on a node that has one";
  return check;
}

DoctorCheck judge_slurm(const DoctorFacts& facts) {
  const DoctorFacts::Slurm& slurm = facts.slurm;
  DoctorCheck check = named("Slurm", Need::kOptional);
  if (!slurm.sbatch_path && !slurm.scontrol_path) {
    check.status = slurm.job_id ? CheckStatus::kWarning : CheckStatus::kMissing;
    check.found = "not on PATH";
    check.advice = slurm.job_id ? "this is a Slurm job: put sbatch and scontrol on PATH so that it "
                                  "can be requeued"
                                : "nothing to do outside a Slurm cluster";
    return check;
  }
  check.found = slurm.version.empty() ? "sbatch does not tell its version" : slurm.version;
  check.found += slurm.job_id ? fmt::format(", inside job {}", *slurm.job_id)
                              : std::string(", outside an allocation");
  if (!slurm.sbatch_path || !slurm.scontrol_path || slurm.version.empty()) {
    check.status = CheckStatus::kWarning;
    check.advice = "both sbatch and scontrol must be on PATH and answer, to submit and to requeue";
  }
  return check;
}

DoctorCheck judge_directory(const DoctorFacts& facts) {
  DoctorCheck check = named("current directory", Need::kRequired);
  if (!facts.current_directory) {
    check.status = CheckStatus::kMissing;
    check.found = facts.current_directory.error();
    check.advice = "go to a directory that exists, or give --dir";
    return check;
  }
  const DoctorFacts::FileSystem& disk = *facts.current_directory;
  const FileSystemKind kind = kind_of(disk.type);
  check.found = fmt::format("{} on {}, {} free of {}", disk.path, kind.name,
                            size_text(disk.bytes_free), size_text(disk.bytes_total));
  const auto warn = [&check](std::string advice) {
    check.status = CheckStatus::kWarning;
    check.advice = std::move(advice);
  };
  const std::string_view name = kind.name;
  if (!disk.writable) {
    warn("it cannot be written to: give --dir with a directory that can");
  } else if (disk.bytes_free < kDirectoryFreeBytesMin) {
    warn("little space is left for checkpoints and results: free some, or give another --dir");
  } else if (name == "tmpfs" || name == "ramfs") {
    warn("it is memory: a run directory here is lost with the node; give --dir on a disk");
  } else if (name == "NFS") {
    warn("NFS is slow for checkpoints and its caches lag; prefer a parallel file system for --dir");
  } else if (kind.reach == Reach::kThisNode) {
    check.advice = "only this node sees it: a run on several nodes needs --dir on a shared one";
  }
  return check;
}

DoctorCheck judge_shared_memory(const DoctorFacts& facts) {
  DoctorCheck check = named("shared memory", Need::kRequired);
  if (!facts.shared_memory) {
    check.status = CheckStatus::kMissing;
    check.found = facts.shared_memory.error();
    check.advice = "mount a tmpfs on /dev/shm: MPI needs it between ranks of a node";
    return check;
  }
  check.found = fmt::format("{}: {} free of {}", facts.shared_memory->path,
                            size_text(facts.shared_memory->bytes_free),
                            size_text(facts.shared_memory->bytes_total));
  if (facts.shared_memory->bytes_free < kSharedMemoryFreeBytesMin) {
    check.status = CheckStatus::kWarning;
    check.advice = fmt::format(
        "MPI may fail between many ranks of a node: make {} free (containers: "
        "--shm-size), and remove what dead programs left there",
        size_text(kSharedMemoryFreeBytesMin));
  }
  return check;
}

DoctorCheck judge_open_files(const DoctorFacts& facts) {
  DoctorCheck check = named("open files", Need::kOptional);
  check.found =
      fmt::format("{} (may be raised to {})", facts.open_files.soft, facts.open_files.hard);
  if (facts.open_files.soft < kOpenFilesMin) {
    check.status = CheckStatus::kWarning;
    check.advice = fmt::format(
        "ranks keep a socket to each neighbour and a file a checkpoint part: "
        "ulimit -n {} or more",
        kOpenFilesMin);
  }
  return check;
}

// -- Text ------------------------------------------------------------------------------------

// Words in lines of at most `width`; a longer word gets a line of its own.
std::vector<std::string> wrap_words(const std::string& text, std::size_t width) {
  std::vector<std::string> lines(1);
  for (std::size_t start = 0; start < text.size();) {
    const std::size_t end = std::min(text.find(' ', start), text.size());
    const std::string word = text.substr(start, end - start);
    if (!lines.back().empty() && lines.back().size() + 1 + word.size() > width) {
      lines.emplace_back();
    }
    lines.back() += (lines.back().empty() ? "" : " ") + word;
    start = end + 1;
  }
  return lines;
}

}  // namespace

bool DoctorReport::ready() const {
  return std::none_of(checks.begin(), checks.end(), [](const DoctorCheck& check) {
    return check.required && check.status == CheckStatus::kMissing;
  });
}

DoctorFacts look_around(const LibraryDescriptions& libraries) {
  return DoctorFacts{.libraries = libraries,
                     .mpirun = find_mpirun(),
                     .is_root = ::geteuid() == 0,
                     .may_run_as_root = is_set("OMPI_ALLOW_RUN_AS_ROOT") &&
                                        is_set("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"),
                     .may_run_as_root_prrte = is_set("PRTE_ALLOW_RUN_AS_ROOT") &&
                                              is_set("PRTE_ALLOW_RUN_AS_ROOT_CONFIRM"),
                     .hwloc_version = hwloc_version(),
                     .node = usable_node(),
                     .built_with_cuda = built_with_cuda(),
                     .cuda_runtime_version = cuda_runtime_version(),
                     .nvidia_driver = nvidia_driver_version(),
                     .devices = discover_devices(),
                     .slurm = find_slurm(),
                     .current_directory = file_system_of(current_directory()),
                     .shared_memory = file_system_of("/dev/shm"),
                     .open_files = open_file_limits()};
}

DoctorReport judge(const DoctorFacts& facts) {
  return {{judge_mpi_library(facts), judge_mpirun(facts), judge_recovery(facts), judge_root(facts),
           judge_topology(facts), judge_cpus(facts), judge_hdf5(facts), judge_cuda(facts),
           judge_slurm(facts), judge_directory(facts), judge_shared_memory(facts),
           judge_open_files(facts)}};
}

DoctorReport examine(const LibraryDescriptions& libraries) {
  return judge(look_around(libraries));
}

std::string doctor_text(const DoctorReport& report, int columns) {
  constexpr std::size_t kIndent = 28;  // status and name, below
  constexpr std::size_t kTextWidthMin = 40;
  const auto wanted = static_cast<std::size_t>(std::max(columns, 0));
  const std::size_t width = std::max(wanted, kIndent + kTextWidthMin) - kIndent;
  std::string text;
  for (const DoctorCheck& check : report.checks) {
    std::string start = fmt::format("{:<9}{:<19}", to_text(check.status), check.name);
    for (const std::string& line : wrap_words(check.found, width)) {
      text += fmt::format("{}{}\n", std::exchange(start, std::string(kIndent, ' ')), line);
    }
    if (check.advice.empty()) continue;
    for (const std::string& line : wrap_words("-> " + check.advice, width)) {
      text += fmt::format("{}{}\n", std::string(kIndent, ' '), line);
    }
  }
  return text;
}

nlohmann::ordered_json doctor_json(const DoctorReport& report) {
  nlohmann::ordered_json checks = nlohmann::ordered_json::array();
  for (const DoctorCheck& check : report.checks) {
    checks.push_back({{"name", check.name},
                      {"status", to_text(check.status)},
                      {"required", check.required},
                      {"found", check.found},
                      {"advice", check.advice}});
  }
  return {{"ready", report.ready()}, {"checks", std::move(checks)}};
}

const char* to_text(CheckStatus status) {
  switch (status) {
    case CheckStatus::kOk:
      return "ok";
    case CheckStatus::kWarning:
      return "warning";
    case CheckStatus::kMissing:
      return "missing";
  }
  return "missing";
}

}  // namespace regroup

// Gathering: what the machine, its programs and its limits say, without a word of judgement.
#include "runtime/host/doctor_facts.hpp"

#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "runtime/host/control_group.hpp"
#include "runtime/host/death_notice.hpp"
#include "runtime/host/doctor_nodes.hpp"
#include "runtime/host/doctor_probe.hpp"
#include "runtime/host/hwloc_wrapper.hpp"
#include "runtime/host/subprocess.hpp"

namespace regroup {
namespace {

constexpr std::chrono::milliseconds kProgramTimeout{3000};

// The program's output, or a line in `troubles`.
std::string answer_of(const std::vector<std::string>& argv, std::vector<std::string>& troubles) {
  auto output = run_program(argv, kProgramTimeout);
  if (!output) {
    troubles.push_back(output.error());
    return {};
  }
  if (!output->ok()) {
    const std::string complaint = first_complaint(output->standard_error);
    troubles.push_back(fmt::format("{} failed (status {}, signal {}){}{}", argv[0],
                                   output->exit_code, output->signal, complaint.empty() ? "" : ": ",
                                   complaint));
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

void ask_scontrol(DoctorFacts::Slurm& slurm, std::vector<std::string>& troubles) {
  slurm.config_output = answer_of({"scontrol", "show", "config"}, troubles);
  // Whoever does not tell the one has only waiting for the other.
  if (!slurm.job_id || slurm.config_output.empty()) return;
  slurm.job_output = answer_of({"scontrol", "--oneliner", "show", "job", *slurm.job_id}, troubles);
}

DoctorFacts::Slurm find_slurm() {
  DoctorFacts::Slurm slurm;
  slurm.sbatch_path = find_on_path("sbatch");
  slurm.scontrol_path = find_on_path("scontrol");
  if (const char* job = std::getenv("SLURM_JOB_ID"); job != nullptr) slurm.job_id = job;
  std::vector<std::string> troubles;
  if (slurm.sbatch_path) slurm.version = answer_of({"sbatch", "--version"}, troubles);
  while (!slurm.version.empty() && slurm.version.back() == '\n') slurm.version.pop_back();
  if (slurm.scontrol_path && !slurm.version.empty()) ask_scontrol(slurm, troubles);
  if (!troubles.empty()) slurm.trouble = troubles.front();
  return slurm;
}

std::uint64_t machine_memory_bytes() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page_bytes = ::sysconf(_SC_PAGESIZE);
  if (pages <= 0 || page_bytes <= 0) return 0;
  return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_bytes);
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

// The directory, or as much of its path as is there.
std::expected<std::filesystem::path, std::string> existing_part(const std::string& directory) {
  std::error_code error;
  auto path = std::filesystem::absolute(directory, error).lexically_normal();
  if (error) return std::unexpected(fmt::format("{}: {}", directory, error.message()));
  if (!path.has_filename()) path = path.parent_path();  // what ended in '/' or '.'
  while (!std::filesystem::exists(path, error) && !error && path.has_relative_path()) {
    path = path.parent_path();
  }
  if (error) return std::unexpected(fmt::format("{}: {}", path.string(), error.message()));
  if (std::filesystem::is_directory(path, error)) return path;
  return std::unexpected(fmt::format("{} is no directory", path.string()));
}

DoctorFacts::Limit limit_of(decltype(RLIMIT_NOFILE) resource) {
  const auto finite = [](rlim_t value) {
    return value == RLIM_INFINITY ? std::nullopt : std::optional<std::uint64_t>(value);
  };
  rlimit limit{};
  if (::getrlimit(resource, &limit) != 0) return {};
  return {.soft = finite(limit.rlim_cur), .hard = finite(limit.rlim_max)};
}

bool has_rdma_device() {
  std::error_code error;
  const std::filesystem::directory_iterator devices("/sys/class/infiniband", error);
  return !error && devices != std::filesystem::directory_iterator{};
}

// What is tried in the directory, and the nodes that are to see it meanwhile.
void look_at_directory_and_nodes(const DoctorRequest& request, DoctorFacts& facts) {
  std::optional<DirectoryProbe> probe;
  if (const auto path = existing_part(request.directory)) {
    facts.directory = file_system_of(path->string());
    if (facts.directory && facts.directory->writable) probe.emplace(*path);
  } else {
    facts.directory = std::unexpected(path.error());
  }
  if (probe) facts.file_operations = probe->tried();
  if (request.nodes.empty()) return;
  // A path that is nowhere, where there is no file to see.
  const std::string file = probe && !probe->file().empty() ? probe->file() : "/dev/null/none";
  facts.nodes =
      ask_nodes(request.nodes, request.remote_shell, {.file = file, .program = request.program});
}

}  // namespace

DoctorFacts look_around(const DoctorRequest& request) {
  DoctorFacts facts{.libraries = request.libraries,
                    .recovery = request.recovery,
                    .mpirun = find_mpirun(),
                    .is_root = ::geteuid() == 0,
                    .may_run_as_root = is_set("OMPI_ALLOW_RUN_AS_ROOT") &&
                                       is_set("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"),
                    .may_run_as_root_prrte = is_set("PRTE_ALLOW_RUN_AS_ROOT") &&
                                             is_set("PRTE_ALLOW_RUN_AS_ROOT_CONFIRM"),
                    .hwloc_version = hwloc_version(),
                    .node = usable_node(),
                    .memory_bytes = machine_memory_bytes(),
                    .control_group = {.memory_bytes = memory_limit(), .tasks_left = tasks_left()},
                    .built_with_cuda = built_with_cuda(),
                    .cuda_runtime_version = cuda_runtime_version(),
                    .nvidia_driver = nvidia_driver_version(),
                    .devices = discover_devices(),
                    .slurm = find_slurm(),
                    .grace_seconds = request.grace_seconds,
                    .directory = {},
                    .file_operations = {},
                    .nodes = {},
                    .remote_shell = request.remote_shell,
                    .network = request.network,
                    .program = request.program,
                    .version = request.version,
                    .own_networks = own_networks(),
                    .shared_memory = file_system_of("/dev/shm"),
                    .notices_problem = problem_with_death_notices().value_or(""),
                    .open_files = limit_of(RLIMIT_NOFILE),
                    .processes = limit_of(RLIMIT_NPROC),
                    .locked_memory = limit_of(RLIMIT_MEMLOCK),
                    .has_rdma = has_rdma_device()};
  look_at_directory_and_nodes(request, facts);
  return facts;
}

}  // namespace regroup

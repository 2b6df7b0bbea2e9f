// Gathering: what the machine, its programs and its limits say, without a word of judgement.
#include <array>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "runtime/host/death_notice.hpp"
#include "runtime/host/doctor.hpp"
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

}  // namespace

DoctorFacts look_around(const LibraryDescriptions& libraries, RecoveryChoice recovery) {
  return DoctorFacts{.libraries = libraries,
                     .recovery = recovery,
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
                     .notices_problem = problem_with_death_notices().value_or(""),
                     .open_files = open_file_limits()};
}

}  // namespace regroup

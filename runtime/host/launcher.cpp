#include "runtime/host/launcher.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/host/file_system.hpp"
#include "runtime/host/subprocess.hpp"

extern char** environ;

namespace regroup {
namespace {

std::optional<std::uint32_t> number_from_environment(const char* name) {
  const char* const text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  std::uint32_t value = 0;
  const auto parsed = std::from_chars(text, text + std::strlen(text), value);
  if (parsed.ec != std::errc() || *parsed.ptr != '\0') return std::nullopt;
  return value;
}

// Open MPI refuses to run as root without these; Open MPI 5 reads them by both names.
constexpr const char* kAllowRoot[] = {
    "OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "PRTE_ALLOW_RUN_AS_ROOT=1",
    "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1"};

// Whether mpirun may find other nodes to start ranks on: a batch system's allocation, or a host
// file that its own settings name. Otherwise it starts them all on this one.
bool may_span_nodes() {
  constexpr const char* kSigns[] = {"SLURM_JOB_ID",
                                    "PBS_JOBID",
                                    "LSB_JOBID",
                                    "PE_HOSTFILE",
                                    "OMPI_MCA_hostfile",
                                    "OMPI_MCA_orte_default_hostfile",
                                    "PRTE_MCA_prte_default_hostfile"};
  return std::ranges::any_of(kSigns, [](const char* name) { return std::getenv(name) != nullptr; });
}

volatile std::sig_atomic_t child_pid = 0;

void pass_on(int signal) {
  if (child_pid > 0) kill(static_cast<pid_t>(child_pid), signal);
}

// Passes signals on to the child for as long as it lives.
class SignalForwarding {
 public:
  SignalForwarding() {
    struct sigaction action {};
    action.sa_handler = pass_on;
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < std::size(kSignals); ++i)
      sigaction(kSignals[i], &action, &before_[i]);
  }
  ~SignalForwarding() {
    for (std::size_t i = 0; i < std::size(kSignals); ++i)
      sigaction(kSignals[i], &before_[i], nullptr);
    child_pid = 0;
  }
  SignalForwarding(const SignalForwarding&) = delete;
  SignalForwarding& operator=(const SignalForwarding&) = delete;

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
  struct sigaction before_[std::size(kSignals)];
};

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> list;
  for (std::string& text : strings) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

}  // namespace

std::optional<LaunchedRank> launched_rank() {
  // Open MPI, PMIx (srun --mpi=pmix) and the PMI of other launchers. Slurm's own variables are no
  // sign: a batch script has them as well.
  constexpr std::pair<const char*, const char*> kNames[] = {
      {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"}, {"PMI_RANK", "PMI_SIZE"}};
  for (const auto& [rank_name, size_name] : kNames) {
    const auto rank = number_from_environment(rank_name);
    const auto size = number_from_environment(size_name);
    if (rank && size) return LaunchedRank{*rank, *size};
  }
  if (const auto rank = number_from_environment("PMIX_RANK")) {
    return LaunchedRank{*rank, number_from_environment("SLURM_NTASKS").value_or(*rank + 1)};
  }
  return std::nullopt;
}

std::expected<std::vector<std::string>, std::string> mpirun_command(
    std::uint32_t ranks, const std::vector<std::string>& program) {
  const auto mpirun = find_on_path("mpirun");
  if (!mpirun) {
    return std::unexpected(
        "mpirun is not on PATH: install Open MPI, or load its module, to run with -n");
  }
  std::vector<std::string> command = {*mpirun, "-n", std::to_string(ranks),
                                      // binding is ours, and ranks may outnumber cores
                                      "--bind-to", "none", "--oversubscribe",
                                      // copying through shared memory without CMA is the faster way
                                      // on a node, and the safer one when a peer dies
                                      "--mca", "btl_vader_single_copy_mechanism", "none", "--mca",
                                      "btl_sm_single_copy_mechanism", "none"};
  // On one node TCP is of no use, and Open MPI 5 complains about interfaces it cannot pair.
  if (!may_span_nodes()) command.insert(command.end(), {"--mca", "btl", "^tcp"});
  command.insert(command.end(), program.begin(), program.end());
  return command;
}

std::expected<int, std::string> run_in_foreground(const std::vector<std::string>& command,
                                                  const std::vector<std::string>& settings) {
  std::vector<std::string> arguments = command;
  std::vector<std::string> environment = settings;
  if (geteuid() == 0)
    environment.insert(environment.end(), std::begin(kAllowRoot), std::end(kAllowRoot));
  for (char** variable = environ; *variable != nullptr; ++variable)
    environment.emplace_back(*variable);
  const auto argument_list = pointers(arguments);
  const auto environment_list = pointers(environment);

  const SignalForwarding forwarding;
  pid_t pid = 0;
  const int failed = posix_spawn(&pid, arguments.front().c_str(), nullptr, nullptr,
                                 argument_list.data(), environment_list.data());
  if (failed != 0) {
    return std::unexpected(arguments.front() + " cannot be started: " + errno_text(failed));
  }
  child_pid = pid;
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return std::unexpected("waiting for mpirun failed: " + errno_text(errno));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string own_program() {
  std::error_code error;
  const auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? std::string("regroup") : path.string();
}

}  // namespace regroup

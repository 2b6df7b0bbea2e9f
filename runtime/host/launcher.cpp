#include "runtime/host/launcher.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/host/file_system.hpp"
#include "runtime/host/mpi_session.hpp"
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

constexpr const char* kLauncherDirectoryVariable = "PRTE_MCA_prte_local_tmpdir_base";

// Open MPI 5 passes on whole lines only, and progress on a terminal is one line that never
// ends; 4.1 passes on what comes, and does not know the flag.
void append_output_settings(std::vector<std::string>& command) {
  if (open_mpi_major() >= 5) command.insert(command.end(), {"--output", ":raw"});
}

constexpr int kForwarded[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

// Signals that came, as bits, are noted before the child is looked for, and the child's birth is
// noted before signals are looked for: one of the two sides sends them on.
std::atomic<unsigned> signals_to_send = 0;
std::atomic<pid_t> child_pid = 0;
std::atomic<int> stop_signal = 0;
static_assert(decltype(signals_to_send)::is_always_lock_free);
static_assert(decltype(child_pid)::is_always_lock_free);
static_assert(decltype(stop_signal)::is_always_lock_free);

void send_on() {
  const pid_t child = child_pid;
  if (child == 0) return;
  const unsigned signals = signals_to_send.exchange(0);
  for (const int signal : kForwarded) {
    if ((signals & 1u << signal) != 0) kill(child, signal);
  }
}

// What the terminal sends (ctrl-c) goes to the child as well, and a second one would make mpirun
// kill its ranks at once.
void on_signal(int signal, siginfo_t* origin, void*) {
  if (signal == SIGINT || signal == SIGTERM) stop_signal = signal;
  if (origin->si_code == SI_KERNEL) return;
  signals_to_send |= 1u << signal;
  send_on();
}

// Passes signals on to the child, from before its birth until it is gone.
class SignalForwarding {
 public:
  SignalForwarding() {
    signals_to_send = 0;
    stop_signal = 0;
    struct sigaction action {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < std::size(kForwarded); ++i) {
      sigaction(kForwarded[i], &action, &before_[i]);
    }
  }
  ~SignalForwarding() {
    child_pid = 0;
    for (std::size_t i = 0; i < std::size(kForwarded); ++i) {
      sigaction(kForwarded[i], &before_[i], nullptr);
    }
  }
  SignalForwarding(const SignalForwarding&) = delete;
  SignalForwarding& operator=(const SignalForwarding&) = delete;

  void to(pid_t child) {
    child_pid = child;
    send_on();
  }

 private:
  struct sigaction before_[std::size(kForwarded)];
};

// The settings, then this process's variables but for those of the same names.
std::vector<std::string> environment_with(std::vector<std::string> settings) {
  const std::size_t set = settings.size();
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    const std::string_view name_and_equals = text.substr(0, text.find('=') + 1);
    const bool replaced = std::any_of(
        settings.begin(), settings.begin() + static_cast<long>(set),
        [&](const std::string& setting) { return setting.starts_with(name_and_equals); });
    if (!replaced) settings.emplace_back(text);
  }
  return settings;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> list;
  for (std::string& text : strings) list.push_back(text.data());
  list.push_back(nullptr);
  return list;
}

// Starts the program, to be ended by SIGTERM should this process die before it, even by SIGKILL:
// ranks must not run on with nobody to judge them. (posix_spawn cannot ask for that.)
std::expected<pid_t, int> start_tied_to_us(const std::vector<char*>& arguments,
                                           const std::vector<char*>& environment) {
  int failure[2];  // carries the errno of execve, or is closed by its success
  if (pipe2(failure, O_CLOEXEC) != 0) return std::unexpected(errno);
  const pid_t self = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != self) _exit(1);
    execve(arguments.front(), arguments.data(), environment.data());
    const int error = errno;
    (void)!write(failure[1], &error, sizeof error);
    _exit(1);
  }
  int error = pid < 0 ? errno : 0;
  close(failure[1]);
  if (pid > 0) {
    ssize_t count = 0;
    do count = read(failure[0], &error, sizeof error);
    while (count < 0 && errno == EINTR);
    if (count > 0) waitpid(pid, nullptr, 0);
  }
  close(failure[0]);
  if (error != 0) return std::unexpected(error);
  return pid;
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
  append_output_settings(command);
  command.insert(command.end(), program.begin(), program.end());
  return command;
}

std::expected<int, std::string> run_in_foreground(const std::vector<std::string>& command,
                                                  const std::vector<std::string>& settings) {
  std::vector<std::string> environment = settings;
  if (geteuid() == 0) {
    environment.insert(environment.end(), std::begin(kAllowRoot), std::end(kAllowRoot));
  }
  environment = environment_with(std::move(environment));
  std::vector<std::string> arguments = command;
  SignalForwarding forwarding;
  const auto pid = start_tied_to_us(pointers(arguments), pointers(environment));
  if (!pid) {
    return std::unexpected(arguments.front() + " cannot be started: " + errno_text(pid.error()));
  }
  forwarding.to(*pid);
  int status = 0;
  while (waitpid(*pid, &status, 0) < 0) {
    if (errno != EINTR) {
      return std::unexpected("waiting for " + command.front() + " failed: " + errno_text(errno));
    }
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

LauncherDirectory::LauncherDirectory() {
  if (open_mpi_major() < 5) return;
  for (const char* name : {kLauncherDirectoryVariable, "PRTE_MCA_prte_tmpdir_base"}) {
    if (std::getenv(name) != nullptr) return;
  }
  std::error_code error;
  const auto parent = std::filesystem::temp_directory_path(error);
  if (error) return;  // mpirun finds out for itself, and says so
  std::string path = (parent / "regroup-XXXXXX").string();
  if (mkdtemp(path.data()) != nullptr) path_ = path;
}

LauncherDirectory::~LauncherDirectory() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> LauncherDirectory::settings() const {
  if (path_.empty()) return {};
  return {std::string(kLauncherDirectoryVariable) + "=" + path_};
}

int stop_signal_passed_on() {
  return stop_signal;
}

std::string own_program() {
  std::error_code error;
  const auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? std::string("regroup") : path.string();
}

}  // namespace regroup

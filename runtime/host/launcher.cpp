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
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
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
void append_output_settings(std::vector<std::string>& command, bool tag) {
  if (open_mpi_major() >= 5) {
    command.insert(command.end(), {"--output", tag ? "tag" : ":raw"});
  } else if (tag) {
    command.emplace_back("--tag-output");
  }
}

// A transport between nodes on which survivors are not stuck when one is lost. UCX reads only the
// copies of processes that live through cross-memory attach, so shared memory it is.
void append_transport(std::vector<std::string>& command, const std::string& network) {
  const bool is_interface = !network.empty() && network.find('/') == std::string::npos;
  if (open_mpi_major() >= 5) {
    if (network.empty()) return;
    command.insert(command.end(), {"--prtemca", "prte_if_include", network, "--mca",
                                   "btl_tcp_if_include", network});
    return;
  }
  command.insert(command.end(), {"--mca", "pml", "ucx", "--mca", "pml_ucx_tls", "any", "--mca",
                                 "pml_ucx_devices", "any", "-x", "UCX_TLS=tcp,self,posix"});
  if (network.empty()) return;
  command.insert(command.end(), {"--mca", "oob_tcp_if_include", network});
  if (is_interface) command.insert(command.end(), {"-x", "UCX_NET_DEVICES=" + network});
}

// That mpirun has at a time, unless told otherwise.
constexpr std::size_t kShellsMin = 128;

void append_nodes(std::vector<std::string>& command, const LaunchOptions& options) {
  if (options.nodes.empty()) return;
  command.insert(command.end(), {"-H", node_words(options.nodes)});
  std::string agent;
  for (const std::string& word : options.remote_shell) agent += (agent.empty() ? "" : " ") + word;
  const bool five = open_mpi_major() >= 5;
  const std::string mca = five ? "--prtemca" : "--mca";
  command.insert(command.end(), {mca, "plm", five ? "ssh" : "rsh"});
  if (!agent.empty()) {
    command.insert(command.end(), {mca, five ? "plm_ssh_agent" : "plm_rsh_agent", agent});
  }
  // The nodes are those that were named, whatever allocation this is in. Daemons are started by us
  // and speak with us alone: where one starts others, or passes their words on, all of them are
  // lost with it.
  command.insert(command.end(), {mca, "ras", "^slurm"});
  if (!five) {
    command.insert(command.end(), {mca, "plm_rsh_no_tree_spawn", "1", mca, "routed", "direct"});
  } else {
    command.insert(command.end(), {mca, "plm_ssh_no_tree_spawn", "1"});
  }
  // Then there are as many shells as nodes at a time, or mpirun refuses.
  if (options.daemons_stay) {
    const std::string shells = std::to_string(std::max(kShellsMin, options.nodes.size()));
    command.insert(command.end(),
                   {mca, five ? "prte_leave_session_attached" : "orte_leave_session_attached", "1",
                    mca, five ? "plm_ssh_num_concurrent" : "plm_rsh_num_concurrent", shells});
  }
  append_transport(command, options.network);
  for (const std::string& name : options.variables) command.insert(command.end(), {"-x", name});
}

// To a command that goes on.
constexpr std::chrono::seconds kStopSaidAgain{1};

constexpr int kForwarded[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

// Signals that came, as bits, are noted before the child is looked for, and the child's birth is
// noted before signals are looked for: one of the two sides sends them on.
std::atomic<unsigned> signals_to_send = 0;
std::atomic<pid_t> child_pid = 0;
std::atomic<int> stop_signal = 0;
std::atomic<int> first_stop_as = 0;  // 0: as it is, and what the terminal sends reaches the child
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

// What a signal is passed on as: mpirun kills its ranks at once when it is interrupted twice.
int passed_on_as(int signal) {
  if (signal != SIGINT && signal != SIGTERM) return signal;
  const int as = first_stop_as;
  if (as == 0) return signal;
  return stop_signal == 0 ? as : SIGTERM;
}

// What the terminal sends (ctrl-c) goes to a child of our process group as well.
void on_signal(int signal, siginfo_t* origin, void*) {
  const int error_number = errno;  // of what was interrupted
  const bool child_has_it = origin->si_code == SI_KERNEL && first_stop_as == 0;
  const int as = passed_on_as(signal);
  if (signal != SIGUSR2) stop_signal = signal;
  if (!child_has_it) {
    signals_to_send |= 1u << as;
    send_on();
  }
  errno = error_number;
}

bool signals_are_passed_on = false;  // by a ForegroundSignals

// The child that they are passed on to, from before its birth until it is gone.
class SignalledChild {
 public:
  SignalledChild() = default;
  ~SignalledChild() { child_pid = 0; }
  SignalledChild(const SignalledChild&) = delete;
  SignalledChild& operator=(const SignalledChild&) = delete;

  void is(pid_t child) {
    child_pid = child;
    send_on();
  }
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

// In a child: a process group in the background may not read from its terminal, and may write.
void leave_terminal() {
  setpgid(0, 0);
  signal(SIGTTOU, SIG_IGN);
  if (isatty(STDIN_FILENO) != 1) return;
  const int nothing = open("/dev/null", O_RDONLY);
  if (nothing >= 0) dup2(nothing, STDIN_FILENO);
}

// Starts the program, to be ended by SIGTERM should this process die before it, even by SIGKILL:
// ranks must not run on with nobody to judge them. (posix_spawn cannot ask for that.) Its standard
// error is `error_output`, if that is a descriptor.
std::expected<pid_t, int> start_tied_to_us(const std::vector<char*>& arguments,
                                           const std::vector<char*>& environment, int error_output,
                                           bool own_group) {
  int failure[2];  // carries the errno of execve, or is closed by its success
  if (pipe2(failure, O_CLOEXEC) != 0) return std::unexpected(errno);
  const pid_t self = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != self) _exit(1);
    if (own_group) leave_terminal();
    if (error_output >= 0) dup2(error_output, STDERR_FILENO);
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

// A command that was started, until it has ended.
class Foreground {
 public:
  using Clock = std::chrono::steady_clock;

  // `error_output`: the end to read from, may be closed.
  Foreground(pid_t pid, const Watch& watch, FileDescriptor error_output)
      : pid_(pid),
        watch_(&watch),
        ended_(FileSystem::real(), static_cast<int>(syscall(SYS_pidfd_open, pid, 0))),
        error_output_(std::move(error_output)) {}

  // Returns its wait status, or the errno of what kept it from being waited for.
  std::expected<int, int> wait();

 private:
  void read_error_output();
  void end_if_over();
  bool is_over();
  void say_stop_again();

  pid_t pid_;
  const Watch* watch_;
  FileDescriptor ended_;
  FileDescriptor error_output_;
  bool came_ = false;  // error output, since it was last said that none comes
  Clock::time_point looked_at_;
  std::optional<Clock::time_point> stopping_since_;
  Clock::time_point stop_said_at_;
  std::optional<Clock::time_point> over_since_;
  bool deserted_ = false;
  int last_signal_ = 0;
};

std::expected<int, int> Foreground::wait() {
  if (!ended_.is_open()) return std::unexpected(errno);
  while (true) {
    pollfd waits[] = {{ended_.get(), POLLIN, 0}, {error_output_.get(), POLLIN, 0}};
    const int ready = poll(waits, 2, static_cast<int>(Watch::kLook.count()));
    if (ready < 0 && errno != EINTR) return std::unexpected(errno);
    if (ready == 0 && std::exchange(came_, false)) watch_->on_error_output({});
    if (ready > 0 && waits[1].revents != 0) read_error_output();
    if (ready > 0 && waits[0].revents != 0) break;
    end_if_over();
  }
  read_error_output();
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0) {
    if (errno != EINTR) return std::unexpected(errno);
  }
  return status;
}

// What is there now; somebody else may hold the other end open for long.
void Foreground::read_error_output() {
  char bytes[16384];
  while (error_output_.is_open()) {
    const ssize_t count = read(error_output_.get(), bytes, sizeof bytes);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) return;
    if (count <= 0) {
      error_output_.close();
      return;
    }
    came_ = true;
    watch_->on_error_output({bytes, static_cast<std::size_t>(count)});
    if (static_cast<std::size_t>(count) < sizeof bytes) return;
  }
}

// By itself, or because it was told to stop long ago.
bool Foreground::is_over() {
  if (watch_->is_over && watch_->is_over()) return true;
  if (!watch_->stop_within || stop_signal == 0) return false;
  if (!stopping_since_) stopping_since_ = stop_said_at_ = Clock::now();
  return Clock::now() - *stopping_since_ > *watch_->stop_within;
}

// mpirun may lose a signal while it starts its ranks.
void Foreground::say_stop_again() {
  if (watch_->stop_signal == 0 || !stopping_since_) return;
  if (Clock::now() - stop_said_at_ < kStopSaidAgain) return;
  stop_said_at_ = Clock::now();
  kill(pid_, watch_->stop_signal);
}

void Foreground::end_if_over() {
  if (last_signal_ == SIGKILL) return;
  if (Clock::now() - looked_at_ < Watch::kLook) return;
  looked_at_ = Clock::now();
  if (!over_since_) {
    deserted_ = watch_->is_deserted && watch_->is_deserted();
    if (!deserted_ && !is_over()) return say_stop_again();
    over_since_ = Clock::now();
  }
  const bool told = last_signal_ == SIGTERM;
  const auto leave = deserted_ ? std::chrono::milliseconds(0) : watch_->leave;
  const auto patience = told ? leave + watch_->terminate : leave;
  if (Clock::now() - *over_since_ < patience) return;
  if (!told && watch_->on_terminate) watch_->on_terminate();
  last_signal_ = told ? SIGKILL : SIGTERM;
  kill(pid_, last_signal_);
}

}  // namespace

struct ForegroundSignals::Before {
  struct sigaction actions[std::size(kForwarded)];
};

ForegroundSignals::ForegroundSignals(int stop_as) : before_(std::make_unique<Before>()) {
  signals_are_passed_on = true;
  signals_to_send = 0;
  stop_signal = 0;
  first_stop_as = stop_as;
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < std::size(kForwarded); ++i) {
    sigaction(kForwarded[i], &action, &before_->actions[i]);
  }
}

ForegroundSignals::~ForegroundSignals() {
  for (std::size_t i = 0; i < std::size(kForwarded); ++i) {
    sigaction(kForwarded[i], &before_->actions[i], nullptr);
  }
  signals_are_passed_on = false;
}

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
    const LaunchOptions& options, const std::vector<std::string>& program) {
  const auto mpirun = find_on_path("mpirun");
  if (!mpirun) {
    return std::unexpected(
        "mpirun is not on PATH: install Open MPI, or load its module, to run with -n");
  }
  for (const std::string& word : options.remote_shell) {
    if (options.nodes.empty() || word.find_first_of(" :") == std::string::npos) continue;
    return std::unexpected("mpirun cannot start '" + word +
                           "' on other nodes: its path has a space or a colon");
  }
  std::vector<std::string> command = {*mpirun, "-n", std::to_string(options.ranks),
                                      // binding is ours, and ranks may outnumber cores
                                      "--bind-to", "none", "--oversubscribe",
                                      // copying through shared memory without CMA is the faster way
                                      // on a node, and the safer one when a peer dies
                                      "--mca", "btl_vader_single_copy_mechanism", "none", "--mca",
                                      "btl_sm_single_copy_mechanism", "none"};
  if (options.survive) {
    const auto flags = survival_flags(backend_to_launch(options.recovery));
    command.insert(command.end(), flags.begin(), flags.end());
  }
  append_nodes(command, options);
  append_output_settings(command, options.tag_output);
  command.insert(command.end(), program.begin(), program.end());
  return command;
}

std::string shell_text(const std::vector<std::string>& command) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=+,./:@%";
  std::string text;
  for (const std::string& word : command) {
    if (!text.empty()) text += ' ';
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) {
      text += word;
      continue;
    }
    text += '\'';
    for (const char letter : word) text += letter == '\'' ? "'\\''" : std::string(1, letter);
    text += '\'';
  }
  return text;
}

std::vector<std::string> variables_named(std::string_view prefix) {
  std::vector<std::string> names;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (text.starts_with(prefix)) names.emplace_back(text.substr(0, text.find('=')));
  }
  return names;
}

std::expected<int, std::string> run_in_foreground(const std::vector<std::string>& command,
                                                  const std::vector<std::string>& settings,
                                                  const Watch& watch) {
  std::vector<std::string> environment = settings;
  if (geteuid() == 0) {
    environment.insert(environment.end(), std::begin(kAllowRoot), std::end(kAllowRoot));
  }
  environment = environment_with(std::move(environment));
  std::vector<std::string> arguments = command;
  int error_output[2] = {-1, -1};
  if (watch.on_error_output &&
      (pipe2(error_output, O_CLOEXEC) != 0 || fcntl(error_output[0], F_SETFL, O_NONBLOCK) != 0)) {
    return std::unexpected("a pipe for " + command.front() + ": " + errno_text(errno));
  }
  FileDescriptor to_child(FileSystem::real(), error_output[1]);
  FileDescriptor from_child(FileSystem::real(), error_output[0]);
  std::optional<ForegroundSignals> signals;
  if (!signals_are_passed_on) signals.emplace(watch.stop_signal);
  SignalledChild signalled;
  const auto pid = start_tied_to_us(pointers(arguments), pointers(environment), to_child.get(),
                                    watch.stop_signal != 0);
  if (!pid) {
    return std::unexpected(arguments.front() + " cannot be started: " + errno_text(pid.error()));
  }
  if (to_child.is_open()) to_child.close();
  signalled.is(*pid);
  if (watch.on_start) watch.on_start(*pid);
  const auto status = Foreground(*pid, watch, std::move(from_child)).wait();
  if (!status) {
    return std::unexpected("waiting for " + command.front() +
                           " failed: " + errno_text(status.error()));
  }
  return WIFEXITED(*status) ? WEXITSTATUS(*status) : 128 + WTERMSIG(*status);
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

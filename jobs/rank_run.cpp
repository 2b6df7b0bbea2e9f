#include "jobs/rank_run.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <thread>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "jobs/job_executor.hpp"
#include "jobs/logging_sink.hpp"
#include "jobs/progress_display.hpp"
#include "jobs/recovery_report.hpp"
#include "jobs/report.hpp"
#include "jobs/supervisor.hpp"
#include "jobs/version.hpp"
#include "runtime/host/checkpoint_disk.hpp"
#include "runtime/host/deadline.hpp"
#include "runtime/host/device.hpp"
#include "runtime/host/device_guard.hpp"
#include "runtime/host/event_journal.hpp"
#include "runtime/host/failure_detector.hpp"
#include "runtime/host/fault_injector.hpp"
#include "runtime/host/fencing_token.hpp"
#include "runtime/host/hdf5_wrapper.hpp"
#include "runtime/host/heartbeat_start.hpp"
#include "runtime/host/host_loop.hpp"
#include "runtime/host/hwloc_wrapper.hpp"
#include "runtime/host/local_transport.hpp"
#include "runtime/host/mpi_session.hpp"
#include "runtime/host/mpi_transport.hpp"
#include "runtime/host/thread_affinity.hpp"
#include "runtime/host/thread_slice.hpp"
#include "scheduler/scheduler.hpp"

namespace regroup {
namespace {

constexpr auto kDisplayPeriod = std::chrono::milliseconds(100);
constexpr auto kStatusPeriod = std::chrono::seconds(1);
constexpr auto kWaitingAfter = std::chrono::seconds(2);
constexpr auto kComplaintPeriod = std::chrono::seconds(10);

// A rank may come late, from a slow file system or an operator's queue, but the others must not
// wait for one that never comes. A supervisor is less patient, and tries again.
constexpr auto kStartTimeoutMin = std::chrono::seconds(300);
constexpr auto kPatienceSlack = std::chrono::seconds(30);
// To give back what MPI holds when all have said goodbye.
constexpr auto kReleaseTimeout = std::chrono::seconds(10);

// For a file system that does not answer, at the very end.
constexpr auto kDiskTimeout = std::chrono::seconds(60);
constexpr auto kJournalTimeout = std::chrono::seconds(2);

constexpr int kExitNotRecovered = 3;
constexpr int kExitResumable = 75;

double to_seconds(Nanoseconds time) {
  return static_cast<double>(time) / static_cast<double>(kSecond);
}

std::string_view name_of(BreakerState state) {
  return state == BreakerState::kClosed ? "closed"
         : state == BreakerState::kOpen ? "open"
                                        : "half-open";
}

CheckpointingStatus checkpointing_status(const CheckpointProgress& progress) {
  return {.newest = progress.newest,
          .sealed = progress.sealed,
          .failed = progress.failed,
          .error = progress.error,
          .storage = std::string(name_of(progress.storage)),
          .bytes = progress.bytes,
          .cost_seconds = to_seconds(progress.cost),
          .interval_seconds = to_seconds(progress.interval),
          .failure_interval_seconds = to_seconds(progress.failure_interval)};
}

PartnerCopiesStatus copies_status(const CopyProgress& copies) {
  return {.rounds = copies.rounds,
          .partitions = copies.partitions,
          .bytes = copies.bytes,
          .refused = copies.refused,
          .cost_seconds = to_seconds(copies.cost),
          .interval_seconds = to_seconds(copies.interval),
          .sent_bytes = copies.sent,
          .sending_seconds = to_seconds(copies.sending)};
}

RestoredFrom restored_from(const RegainedCounts& regained) {
  const auto count = [&](RegainedFrom from) { return regained[static_cast<std::size_t>(from)]; };
  return {.memory = count(RegainedFrom::kSnapshot),
          .partner = count(RegainedFrom::kPartner),
          .file = count(RegainedFrom::kFile)};
}

// A launch is told apart by when it was, in seconds, and by the process id of its first rank.
constexpr int kPidBits = 32;
constexpr std::uint64_t kPidMask = 0xffff'ffff;

std::uint64_t new_launch() {
  return static_cast<std::uint64_t>(std::time(nullptr)) << kPidBits |
         static_cast<std::uint32_t>(getpid());
}

// Set, it has every rank say at its end when it did what in each recovery.
constexpr const char* kStampsVariable = "REGROUP_RECOVERY_STAMPS";

// What signals wish of the run, from before there is a loop to tell.
class WishSignals {
 public:
  WishSignals() {
    for (const int signal : kSignals) std::signal(signal, on_signal);
  }
  ~WishSignals() {
    for (const int signal : kSignals) std::signal(signal, SIG_IGN);  // let MPI end in peace
    loop_ = nullptr;
  }
  WishSignals(const WishSignals&) = delete;
  WishSignals& operator=(const WishSignals&) = delete;

  // What came before goes to it as well.
  void tell(HostLoop& loop) {
    loop_ = &loop;
    for (std::size_t i = 0; i < early_.size(); ++i) {
      if (const int signal = early_[i]) loop.wish(Wish{static_cast<std::uint8_t>(i)}, signal);
    }
  }

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

  static void on_signal(int signal) {
    const bool again = signal == SIGINT && interrupted_.exchange(true);
    const Wish wish = again               ? Wish::kStop
                      : signal == SIGUSR2 ? Wish::kCheckpoint
                                          : Wish::kCheckpointAndStop;
    HostLoop* const loop = loop_;
    if (loop != nullptr) return loop->wish(wish, signal);
    early_[static_cast<std::size_t>(wish)] = signal;
  }

  static inline std::atomic<HostLoop*> loop_ = nullptr;
  static inline std::atomic<bool> interrupted_ = false;
  static inline std::array<std::atomic<int>, 3> early_{};
};

// Calls a function now and then on a thread of its own, which begins with another one, until it is
// destroyed.
class Repeater {
 public:
  Repeater(std::chrono::milliseconds period, const std::function<void()>& begin,
           std::function<void()> call)
      : thread_([this, period, begin, call = std::move(call)] {
          begin();
          std::unique_lock lock(mutex_);
          while (!wake_.wait_for(lock, period, [this] { return done_; })) call();
        }) {}
  ~Repeater() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }
  Repeater(const Repeater&) = delete;
  Repeater& operator=(const Repeater&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool done_ = false;
  std::thread thread_;  // last: it uses the others
};

// Where the first rank that a fault strikes says so, when it might strike another one as well.
std::filesystem::path strike_mark(const std::filesystem::path& directory, std::size_t fault) {
  return directory / fmt::format("injected-{}", fault + 1);
}

// The shared file system lets one of all ranks create it. Whoever cannot tell does not strike.
bool leave_mark(const std::filesystem::path& mark) {
  const int fd = open(mark.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

class RankRun {
 public:
  explicit RankRun(RankRunRequest request)
      : request_(std::move(request)), sink_(*request_.program) {}

  int run();

 private:
  using Clock = std::chrono::steady_clock;

  // At the start.
  bool is_first() const { return transport_->self() == RankId{0}; }
  double seconds() const { return std::chrono::duration<double>(Clock::now() - started_).count(); }

  RankResources start();
  void connect();
  void open_disk();
  CheckpointFacts facts() const;
  void keep_in_touch() const;
  void prepare_faults();
  std::string agree_on(std::string text);
  double seconds_before() const;
  HostHooks hooks();
  void hang_bell();
  void watch_peers(HostLoop& loop);
  std::function<void()> wedge_look(HostLoop& loop) const;
  void enter_view(const View& view);
  void bear_witness(const View& view, const Outcome& outcome);
  bool superseded() const { return tokens_ && tokens_->superseded(epoch_); }
  void beat();
  void begin_watching();
  // Of a process that ends by itself: another status than 0 has some launchers end the other ranks.
  int lone_status(int exit_status) const { return request_.supervised ? 0 : exit_status; }
  [[noreturn]] void leave_at_once(const Outcome& outcome);
  void release_transport(const Outcome& outcome);
  NodeOptions node_options() const;
  EventLevel event_level() const;
  void open_journal();
  void end_journal();
  RankResources bind();
  void guard_device(RankResources& resources);
  std::unique_ptr<Service> make_service();
  std::expected<void, std::string> write_result();
  void look(HostLoop& loop);
  void note_recoveries(HostLoop& loop);
  void note_checkpoints();
  void note_copies();
  void print_stamps(HostLoop& loop) const;
  RunStatus status(RunState state) const;
  bool write_status(const RunStatus& status);
  void conclude(const Outcome& outcome);
  void conclude_in_place(const Outcome& outcome);

  WishSignals signals_;
  RankRunRequest request_;
  LoggingSink sink_;
  Clock::time_point started_ = Clock::now();
  std::string started_utc_ = utc_text(std::time(nullptr));
  ThreadAffinity launch_affinity_ = ThreadAffinity::of_this_thread();  // before it is pinned
  ThreadAffinity bound_affinity_ = launch_affinity_;                   // and then
  std::optional<FaultInjector> injector_;
  std::optional<MpiSession> session_;
  BufferPool pool_;
  std::unique_ptr<Transport> transport_;

  HostLoop* loop_ = nullptr;
  std::optional<HeartbeatStart> heartbeats_;
  std::filesystem::path run_directory_;  // absolute
  std::string run_;                      // RunDirectory::run()
  std::optional<FencingTokens> tokens_;
  std::optional<FaultyFileSystem> faulty_files_;
  std::optional<CheckpointDisk> disk_;
  std::optional<EventJournal> journal_;
  std::optional<DeviceGuard> device_guard_;
  std::optional<Doorbell> bell_;
  std::optional<FailureDetector> detector_;
  std::atomic<std::uint64_t> failures_ = 0;  // ranks lost so far
  std::atomic<Epoch> epoch_ = Epoch{1};

  // While this rank coordinates: the latest picture, where it is kept, and how it is shown.
  RunProgress progress_;
  View view_;
  RunDirectory* directory_ = nullptr;
  std::optional<RunDirectory> inherited_directory_;
  std::vector<RecoveryStatus> recoveries_;
  std::optional<ProgressDisplay> display_;
  Clock::time_point status_written_;
  std::string checkpoint_error_;  // as last told
  std::uint64_t checkpoint_told_ = 0;
  bool refusal_told_ = false;
  RestoredFrom restored_told_;
  std::uint64_t launch_ = 0;
  double earlier_seconds_ = 0;  // of the launches before this one
  std::mutex look_mutex_;       // of the above: whoever looks

  // As whoever looked last has seen it, for the pulse.
  std::atomic<Clock::time_point> stable_at_ = Clock::now();
  std::atomic<bool> coordinates_ = false;
  // The pulse's own.
  std::uint64_t beats_ = 0;
  Clock::time_point complained_at_;

  RunSummary summary_;
  std::optional<FileDigest> result_;
};

// Before MPI and threads are started.
void RankRun::prepare_faults() {
  if (request_.faults.empty()) return;
  injector_.emplace(request_.faults, RankId{request_.launched.value_or(LaunchedRank{}).rank});
  std::filesystem::path directory = request_.options.dir;
  if (request_.directory != nullptr) directory = request_.directory->path();
  injector_->ask_first(
      [directory](std::size_t fault) { return leave_mark(strike_mark(directory, fault)); });
}

// All that is collective, where a rank that dies or never comes would hold up the others for ever.
RankResources RankRun::start() {
  std::optional<Deadline> deadline;
  if (request_.launched) {
    const auto timeout =
        std::max({kStartTimeoutMin, std::chrono::seconds(request_.options.start_timeout_seconds),
                  supervisor_patience() + kPatienceSlack});
    deadline.emplace(timeout,
                     fmt::format("rank {} has waited {} s for the other ranks to start: it ends",
                                 request_.launched->rank, timeout.count()),
                     kExitNotRecovered);
  }
  connect();
  open_disk();
  return bind();
}

void RankRun::connect() {
  if (request_.launched) {
    session_.emplace(request_.options.recovery_choice());
    auto heartbeats = start_heartbeats(*session_, request_.options.network);
    if (!heartbeats) {
      std::fprintf(stderr, "regroup: no heartbeats: %s\n", heartbeats.error().c_str());
    } else {
      heartbeats_ = std::move(*heartbeats);
      hang_bell();
    }
    run_directory_ = agree_on(request_.directory == nullptr
                                  ? ""
                                  : std::filesystem::absolute(request_.directory->path()).string());
    run_ = agree_on(request_.directory == nullptr ? "" : request_.directory->run());
    earlier_seconds_ = std::strtod(agree_on(fmt::format("{}", seconds_before())).c_str(), nullptr);
    launch_ = std::strtoull(agree_on(fmt::format("{}", new_launch())).c_str(), nullptr, 10);
    const bool one_node = session_->local_ranks() == session_->ranks();
    tokens_.emplace(
        run_directory_ / "views", fmt::format("{}-{}", launch_ >> kPidBits, launch_ & kPidMask),
        one_node ? FencingTokens::Readers::kThisNode : FencingTokens::Readers::kOtherNodes);
    if (session_->rank() == 0) (void)tokens_->begin();
    transport_ = std::make_unique<MpiTransport>(*session_, pool_);
  } else {
    transport_ = std::make_unique<LocalTransport>();
    run_directory_ = std::filesystem::absolute(request_.directory->path());
    run_ = request_.directory->run();
    launch_ = new_launch();
    earlier_seconds_ = seconds_before();
  }
}

// Without one a rank is only woken later.
void RankRun::hang_bell() {
  const RankId self{session_->rank()};
  auto bell = Doorbell::open(run_id(heartbeats_->secret), self, heartbeats_->here);
  if (bell) bell_.emplace(std::move(*bell));
}

// On rank 0: of the launches that this one goes on with.
double RankRun::seconds_before() const {
  if (request_.directory == nullptr || !request_.schedule.checkpoints.resume) return 0;
  const auto status = read_status(request_.directory->path());
  return status ? status->seconds : 0;
}

// Rank 0's text, to every rank. Only while all are known to live.
std::string RankRun::agree_on(std::string text) {
  std::uint64_t bytes = text.size();
  session_->broadcast(std::as_writable_bytes(std::span(&bytes, 1)));
  text.resize(bytes);
  session_->broadcast(std::as_writable_bytes(std::span(text)));
  return text;
}

void RankRun::open_disk() {
  if (injector_) faulty_files_.emplace(*injector_);
  disk_.emplace(
      CheckpointStore(run_directory_, run_, faulty_files_ ? *faulty_files_ : FileSystem::real()),
      CheckpointDiskOptions{
          .rank = transport_->self(),
          .facts = [this] { return facts(); },
          .keep = request_.options.keep,
          .may_seal = [this](Epoch epoch) { return !tokens_ || !tokens_->superseded(epoch); },
          .say =
              [](const std::string& line) {
                std::fprintf(stderr, "regroup: %s\n", line.c_str());
              }});
}

// Called when the job is open.
CheckpointFacts RankRun::facts() const {
  CheckpointFacts facts{.job = std::string(request_.program->name()),
                        .parameters = {},
                        .seed = request_.options.seed,
                        .software = {{"regroup", kVersion},
                                     {"hdf5", hdf5_description()},
                                     {"mpi", session_ ? mpi_description() : "none"}},
                        .ranks = transport_->ranks(),
                        .utc = {}};
  OptionSet& options = request_.program->options();
  for (const Option& option : options.options()) {
    facts.parameters.emplace_back(option.name(), option.text());
  }
  if (const auto& inputs = options.input_list()) {
    facts.parameters.emplace_back(inputs->name(), inputs->text());
  }
  return facts;
}

// Of the threads that do: wherever there is room, and as soon as there is something to do.
void RankRun::keep_in_touch() const {
  launch_affinity_.apply();
  ask_for_short_slices();
}

HostHooks RankRun::hooks() {
  HostHooks hooks;
  hooks.on_thread = [this] { keep_in_touch(); };
  // Large copies are for the cores, and near the memory, of the rank that they are of: elsewhere
  // two ranks' may share a core while another has nothing to do.
  hooks.on_companion = [this](HostHooks::Companion what) {
    (what == HostHooks::Companion::kMovesBulk ? bound_affinity_ : launch_affinity_).apply();
  };
  hooks.take_fence = [this](const FenceRequest& request) { return tokens_->take(request); };
  hooks.use_disk = [this](DiskRequest& request) {
    if (injector_ && request.task == DiskTask::kWritePart) injector_->begin_checkpoint_write();
    return disk_->carry_out(request);
  };
  hooks.on_revoked = [this](const View& view) {
    if (injector_) injector_->reached(FaultPoint::kAgreement, view);
  };
  hooks.on_view = [this](const View& view, const RankSet& lost) {
    failures_ += lost.size();
    enter_view(view);
  };
  hooks.on_death = [this](RankId rank) {
    if (detector_) detector_->confirm(rank);  // it knows who has left
  };
  if (journal_) {
    hooks.on_events = [this](std::span<const Event> events, Nanoseconds now) {
      journal_->add(events, now);
    };
  }
  hooks.bell = bell_ ? &*bell_ : nullptr;
  hooks.on_cut_off = [this](const Outcome& outcome) { conclude_in_place(outcome); };
  return hooks;
}

void RankRun::enter_view(const View& view) {
  epoch_ = view.epoch;
  if (detector_) detector_->set_members(view.members.list());
  if (!injector_) return;
  injector_->reached(FaultPoint::kElection, view);
  injector_->reached(FaultPoint::kShrink, view);
}

void RankRun::watch_peers(HostLoop& loop) {
  if (!heartbeats_ || transport_->ranks() == 1) return;
  const Nanoseconds wedge_timeout = request_.options.wedge_timeout_seconds * kSecond;
  detector_.emplace(
      FailureDetectorOptions{.self = transport_->self(),
                             .period = request_.options.heartbeat_ms * kMillisecond,
                             .suspect_after = request_.options.suspect_after_ms * kMillisecond,
                             .secret = heartbeats_->secret,
                             .on_thread = [this] { keep_in_touch(); },
                             .look_period = CallWatch::look_period(wedge_timeout),
                             .look = wedge_look(loop)},
      std::move(heartbeats_->socket), heartbeats_->peers,
      [&loop](PeerEvidence evidence) { loop.learn(evidence); }, std::move(heartbeats_->notices));
}

// Ends this rank if it is stuck inside MPI, where it hears nobody and keeps what the others wait
// for. The stuck thread may hold any lock, so the line is made beforehand, and nothing is flushed.
std::function<void()> RankRun::wedge_look(HostLoop& loop) const {
  const std::string line = fmt::format(
      "regroup: rank {} has been stuck inside MPI for {} s: it ends, so that the others go on\n",
      transport_->self().value, request_.options.wedge_timeout_seconds);
  return [line, &calls = loop.transport_calls(), status = lone_status(kExitNotRecovered)] {
    if (!calls.look()) return;
    (void)!write(STDERR_FILENO, line.data(), line.size());
    _exit(status);
  };
}

// A rank that ends alone says so for the run, unless others go on with it or have ended it.
void RankRun::bear_witness(const View& view, const Outcome& outcome) {
  if (superseded()) return;
  if (!request_.supervised) std::fprintf(stderr, "regroup: %s\n", outcome.message.c_str());
  auto claimed = RunDirectory::claim(run_directory_);
  auto status = read_status(run_directory_);
  if (!claimed || !status || status->exit) return;
  status->state = RunState::kFailed;
  status->exit = outcome.exit_status;
  status->message = outcome.message;
  status->epoch = view.epoch.value;
  status->members.clear();
  for (const RankId rank : view.members) status->members.push_back(rank.value);
  (void)claimed->write_status(*status);
}

// MPI would wait for the dead in MPI_Finalize, or with a rank that ends alone the others would.
void RankRun::leave_at_once(const Outcome& outcome) {
  std::fflush(nullptr);
  _exit(lone_status(outcome.exit_status));
}

// MPI is asked to give back what the transport lent it, while others may die that had said goodbye.
void RankRun::release_transport(const Outcome& outcome) {
  std::optional<Deadline> deadline;
  if (session_) {
    deadline.emplace(kReleaseTimeout, "MPI does not give back its buffers; leaving without them",
                     outcome.exit_status);
  }
  transport_.reset();
}

// Pins this rank to its share of the node. A machine that cannot be read or bound is no reason not
// to run.
RankResources RankRun::bind() {
  RankResources resources{.rank = transport_->self(),
                          .threads = std::max(1u, request_.options.threads)};
  const auto machine = Machine::this_machine();
  if (!machine) return resources;
  const std::uint32_t local_rank = session_ ? session_->local_rank() : 0;
  const auto own_mask = machine->thread_binding().value_or(CpuList{});
  const auto masks = session_ ? session_->gather_on_node(own_mask)
                              : std::vector<std::vector<std::uint32_t>>{own_mask};
  const NodeTopology node =
      with_devices(node_within_masks(machine->allowed(), masks), discover_devices().devices);
  const BindingPlan plan = plan_binding_within_masks(node, masks, request_.binding);
  const RankBinding& mine = plan.ranks[local_rank];
  resources.threads = mine.threads;
  if (mine.gpu && node.gpus[*mine.gpu].cuda_ordinal) {
    resources.device = static_cast<std::uint32_t>(*node.gpus[*mine.gpu].cuda_ordinal);
  }
  if (!mine.pus.empty()) {
    auto bound = machine->bind_thread(mine.pus);
    if (bound) (void)machine->prefer_local_memory(mine.pus);
    bound_affinity_ = ThreadAffinity::of_this_thread();
    if (bound && mine.thread_pus.size() > 1) bound = machine->bind_team(mine.thread_pus);
    if (!bound) std::fprintf(stderr, "regroup: not pinned: %s\n", bound.error().c_str());
  }
  return resources;
}

// Also where there is no device: a job may have another one than those that were found.
void RankRun::guard_device(RankResources& resources) {
  std::string whose = fmt::format("regroup: rank {}: its GPU", resources.rank.value);
  if (resources.device) whose += fmt::format(" {}", *resources.device);
  DeviceGuardOptions options{.call_timeout = request_.options.gpu_timeout_seconds * kSecond,
                             .say = [whose](const std::string& line) {
                               std::fprintf(stderr, "%s: %s\n", whose.c_str(), line.c_str());
                             }};
  if (injector_) options.fault = [this] { return injector_->device_fault(); };
  device_guard_.emplace(std::move(options));
  resources.device_guard = &*device_guard_;
}

std::unique_ptr<Service> RankRun::make_service() {
  Buffer description;
  if (request_.description) {
    description = std::move(*request_.description);
  } else if (is_first()) {
    description = describe_job(*request_.program, request_.options.seed);
  }
  ScheduleOptions schedule = request_.schedule;
  schedule.launch = launch_;
  if (heartbeats_) schedule.hosts = heartbeats_->hosts;
  return std::make_unique<Scheduler>(schedule, sink_, std::move(description));
}

std::expected<void, std::string> RankRun::write_result() {
  if (!sink_.merged()) return sink_.merged();
  auto file = ResultFileWriter::create(run_directory_);
  if (!file) return std::unexpected(file.error());
  if (auto kept = file->attribute("job", std::string(request_.program->name())); !kept) return kept;
  if (auto kept = file->attribute("seed", request_.options.seed); !kept) return kept;
  Report report(*file);
  request_.program->report(report);
  if (auto reported = report.finish(); !reported) return reported;
  if (superseded()) return std::unexpected("other ranks have gone on without this coordinator");
  if (auto finished = file->finish(); !finished) return finished;
  result_ = file->digest();
  summary_.values = report.values();
  summary_.columns = report.column_list();
  summary_.first_rows = report.preview();
  summary_.rows = report.rows();
  summary_.picture_files = report.picture_files();
  return {};
}

// Shows and records how the run goes while it goes, as long as this rank coordinates.
void RankRun::look(HostLoop& loop) {
  const std::lock_guard lock(look_mutex_);
  std::optional<RunProgress> progress;
  bool stable = true;
  loop.inspect([&](const Node& node) {
    progress = static_cast<const Scheduler&>(node.service()).progress();
    view_ = node.view();
    stable = node.stable();
  });
  if (stable) stable_at_ = Clock::now();
  coordinates_ = progress.has_value();
  if (!progress) return;
  progress_ = *progress;
  progress_.steps = request_.program->steps();
  if (progress_.step) progress_.step = request_.program->steps_done(*progress_.step);
  begin_watching();
  note_recoveries(loop);
  note_checkpoints();
  note_copies();
  display_->show(progress_, seconds());
  if (Clock::now() - status_written_ < kStatusPeriod) return;
  status_written_ = Clock::now();
  write_status(status(RunState::kRunning));
}

// The supervisor is to see that there are ranks, though a disk may hold up the status, and where
// all wait for others there is no coordinator. Each beat is as long as any other, so that it takes
// no more room.
void RankRun::beat() {
  const bool waits = Clock::now() - stable_at_.load() > kWaitingAfter;
  if (!coordinates_ && !waits) return;
  const std::filesystem::path path = run_directory_ / kPulseFile;
  const FileDescriptor file(FileSystem::real(),
                            open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  const std::string text =
      fmt::format("rank {:8} beat {:12}\n", transport_->self().value, ++beats_);
  const bool beaten = file.is_open() && write(file.get(), text.data(), text.size()) > 0;
  if (beaten || Clock::now() - complained_at_ < kComplaintPeriod) return;
  complained_at_ = Clock::now();
  std::fprintf(stderr, "regroup: cannot write %s\n", path.c_str());
}

// The first coordinator's rank has claimed the directory; one that takes over does so now.
void RankRun::begin_watching() {
  if (display_) return;
  const std::string& progress = request_.options.progress;
  display_.emplace(progress == "bar"     ? ProgressStyle::kBar
                   : progress == "plain" ? ProgressStyle::kPlain
                                         : ProgressStyle::kNone,
                   request_.progress_columns);
  directory_ = request_.directory;
  if (directory_ != nullptr) return;
  inherited_directory_.emplace(RunDirectory::take_over(run_directory_));
  directory_ = &*inherited_directory_;
}

void RankRun::note_recoveries(HostLoop& loop) {
  const auto steady = [](Clock::time_point time) {
    return Nanoseconds{std::chrono::nanoseconds(time.time_since_epoch()).count()};
  };
  const std::size_t known = recoveries_.size();
  recoveries_.clear();
  for (const Recovery& recovery : loop.recoveries()) {
    recoveries_.push_back(
        recovery_status(recovery, steady(started_), steady(Clock::now()), std::time(nullptr)));
  }
  if (request_.options.progress != "plain") return;
  for (std::size_t i = known; i < recoveries_.size(); ++i) {
    std::fprintf(stderr, "regroup: %s\n", recovery_text(recoveries_[i]).c_str());
  }
}

// A failure is told once, however often the same comes again.
void RankRun::note_checkpoints() {
  const CheckpointProgress& now = progress_.checkpoints;
  // A coordinator that others have gone on without takes none, and that is no news.
  if (now.error != checkpoint_error_ && !now.error.empty() && !superseded()) {
    display_->finish();  // the bar is drawn again below
    std::fprintf(stderr, "regroup: no checkpoint was taken: %s\n", now.error.c_str());
  }
  checkpoint_error_ = now.error;
  if (request_.options.progress == "plain" && now.newest > checkpoint_told_ && now.sealed != 0) {
    std::fprintf(stderr, "regroup: checkpoint %llu is sealed (%.3f s)\n",
                 static_cast<unsigned long long>(now.newest), to_seconds(now.cost));
  }
  checkpoint_told_ = now.newest;
}

// What the copies were good for, and once that there is no room for them.
void RankRun::note_copies() {
  if (progress_.copies.refused != 0 && !std::exchange(refusal_told_, true)) {
    display_->finish();
    std::fprintf(stderr,
                 "regroup: partners have no room for copies of %llu partitions, which only "
                 "checkpoints keep: --partner-memory gives more\n",
                 static_cast<unsigned long long>(progress_.copies.refused));
  }
  const RestoredFrom restored = restored_from(progress_.regained);
  if (request_.options.progress == "plain" && restored != restored_told_) {
    std::fprintf(stderr, "regroup: %s\n", restored_text(restored).c_str());
  }
  restored_told_ = restored;
}

void RankRun::print_stamps(HostLoop& loop) const {
  if (std::getenv(kStampsVariable) == nullptr) return;
  for (const Recovery& recovery : loop.recoveries()) {
    std::fprintf(stderr, "regroup: %s\n", recovery_stamps(recovery, transport_->self()).c_str());
  }
}

RunStatus RankRun::status(RunState state) const {
  RunStatus status{.job = std::string(request_.program->name()), .run = run_, .state = state};
  status.seed = request_.options.seed;
  status.epoch = view_.epoch.value;
  for (const RankId rank : view_.members) status.members.push_back(rank.value);
  status.failures_survived = failures_;
  status.relaunches = request_.relaunches;
  status.recoveries = recoveries_;
  status.shards_done = progress_.done;
  status.shards_total = progress_.shards;
  status.quarantined = progress_.quarantined;
  status.step = progress_.step;
  status.steps = progress_.steps;
  status.shards_repeated = progress_.repeated;
  status.restored_from = restored_from(progress_.regained);
  status.checkpointing = checkpointing_status(progress_.checkpoints);
  status.partner_copies = copies_status(progress_.copies);
  status.seconds = earlier_seconds_ + seconds();
  status.regroup_version = kVersion;
  status.started_utc = started_utc_;
  status.updated_utc = utc_text(std::time(nullptr));
  status.pid = getpid();
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  status.host = host;
  return status;
}

bool RankRun::write_status(const RunStatus& status) {
  if (superseded()) return false;
  const auto written = directory_->write_status(status);
  if (!written) std::fprintf(stderr, "regroup: %s\n", written.error().c_str());
  return written.has_value();
}

void RankRun::conclude(const Outcome& outcome) {
  const bool done = outcome.exit_status <= 1;
  const bool interrupted = outcome.message.starts_with(kStoppedBySignal);
  RunStatus last = status(done          ? RunState::kDone
                          : interrupted ? RunState::kInterrupted
                                        : RunState::kFailed);
  last.exit = outcome.exit_status;
  last.message = outcome.message;
  last.result = result_;
  // As the user has it, also on a rank that has taken over.
  const std::string& chosen = request_.options.dir;
  summary_.dir = chosen.empty() ? directory_->path().string() : chosen;
  if (outcome.exit_status == kExitResumable && !outcome.alone) {
    last.message += fmt::format("; 'regroup resume {}' goes on", summary_.dir);
  }
  summary_.in_status = write_status(last);

  summary_.job = last.job;
  summary_.exit_status = outcome.exit_status;
  summary_.message = last.message;
  summary_.shards = progress_.shards;
  summary_.quarantined = progress_.quarantined;
  summary_.ranks = transport_->ranks();
  summary_.failures_survived = failures_;
  summary_.relaunches = last.relaunches;
  summary_.recoveries = recoveries_;
  summary_.restored_from = last.restored_from;
  summary_.shards_repeated = last.shards_repeated;
  summary_.epoch = last.epoch;
  summary_.seconds = last.seconds;
  summary_.run_seconds = to_seconds(progress_.run_time);
  summary_.quarantine_log = sink_.log();
  request_.show(summary_);
}

// The leader never comes to it.
void RankRun::conclude_in_place(const Outcome& outcome) {
  look(*loop_);
  const std::lock_guard lock(look_mutex_);
  if (!display_) return;  // it does not coordinate
  display_->finish();
  conclude(outcome);
}

NodeOptions RankRun::node_options() const {
  const std::uint32_t ranks = transport_->ranks();
  const std::string& clocks = request_.options.vector_clocks;
  const bool by_itself = clocks == "auto" && ranks <= kVectorClockRanksDefaultMax;
  return {.self = transport_->self(),
          .ranks = ranks,
          .vector_clocks = clocks == "on" || by_itself,
          .events = event_level(),
          .event_vectors = true,
          .give_up_after = request_.options.park_time()};
}

EventLevel RankRun::event_level() const {
  const std::string& events = request_.options.events;
  return events == "run"        ? EventLevel::kRun
         : events == "shards"   ? EventLevel::kShards
         : events == "messages" ? EventLevel::kMessages
                                : EventLevel::kOff;
}

void RankRun::open_journal() {
  if (event_level() == EventLevel::kOff) return;
  const auto since = [](auto time) {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  };
  journal_.emplace(
      run_directory_,
      SegmentHead{.launch = launch_,
                  .rank = transport_->self(),
                  .ranks = transport_->ranks(),
                  .level = event_level(),
                  .utc = since(std::chrono::system_clock::now()),
                  .monotonic = since(Clock::now())},
      [this] { keep_in_touch(); },
      [](const std::string& line) { std::fprintf(stderr, "regroup: %s\n", line.c_str()); });
}

// Of a rank that leaves at once, too, its events are to be there.
void RankRun::end_journal() {
  if (!journal_) return;
  const bool written = journal_->flush(kJournalTimeout);
  const std::uint64_t dropped = journal_->dropped();
  if (written && dropped == 0) return;
  const std::string lost = written ? fmt::format("{} events", dropped) : "its latest events";
  std::fprintf(stderr, "regroup: rank %u has lost %s, which the disk did not take in time\n",
               transport_->self().value, lost.c_str());
}

int RankRun::run() {
  prepare_faults();
  Registry registry;
  RankResources resources = start();
  resources.registry = &registry;
  guard_device(resources);
  JobExecutor executor(*request_.program, request_.options.seed, resources,
                       [this] { return write_result(); });
  std::optional<FaultyExecutor> faulty_executor;
  std::optional<FaultyTransport> faulty_transport;
  if (injector_) {
    faulty_executor.emplace(executor, *injector_);
    faulty_transport.emplace(*transport_, *injector_);
  }
  Node node(node_options(), make_service(), pool_);
  std::optional<Deadline> last;  // outlives the loop, whose disk may be stuck
  open_journal();
  HostLoop loop(node, faulty_transport ? *faulty_transport : *transport_,
                faulty_executor ? static_cast<Executor&>(*faulty_executor) : executor, hooks());
  loop_ = &loop;
  registry = Registry([&loop](RegistryCall call) { return loop.call(std::move(call)); });
  if (injector_) {
    injector_->watch([&loop] {
      View view;
      loop.inspect([&view](const Node& inspected) { view = inspected.view(); });
      return view;
    });
  }
  signals_.tell(loop);
  watch_peers(loop);
  if (is_first()) {
    begin_watching();
    write_status(status(RunState::kStarting));
    status_written_ = Clock::now();
  }
  Outcome outcome;
  {
    // Not where this rank is pinned: it holds the loop's lock at times.
    const auto roam = [this] { launch_affinity_.apply(); };
    const Repeater looking(kDisplayPeriod, roam, [&] { look(loop); });
    std::optional<Repeater> beating;
    if (request_.supervised) beating.emplace(kStatusPeriod, roam, [&] { beat(); });
    outcome = loop.run();
  }
  end_journal();
  look(loop);
  const bool led = static_cast<const Scheduler&>(node.service()).progress().has_value();
  if (display_) display_->finish();
  if (led && !(outcome.alone && superseded())) conclude(outcome);
  if (injector_) {
    injector_->stop_clock();
    injector_->reached(FaultPoint::kEnd, node.view());
  }
  print_stamps(loop);
  if (outcome.alone && !led) bear_witness(node.view(), outcome);
  if (detector_ && !outcome.alone) detector_->leave();  // or the others would not miss it
  // All or none: MPI_Finalize waits for those who do not call it. A rank that came back counts no
  // losses, but is in a later view as well.
  if (outcome.alone || epoch_.load() != Epoch{1}) leave_at_once(outcome);
  detector_.reset();
  release_transport(outcome);
  if (session_) session_->finish(outcome.exit_status);
  // What CUDA does at the end of a process would wait for the call.
  if (device_guard_->hangs()) leave_at_once(outcome);
  last.emplace(kDiskTimeout, "the disk does not answer; leaving without it", outcome.exit_status);
  journal_.reset();
  return outcome.exit_status;
}

}  // namespace

void forget_strikes(const std::filesystem::path& directory) {
  std::error_code ignored;
  for (std::size_t fault = 0; fault < FaultPlan::kFaultsMax; ++fault) {
    std::filesystem::remove(strike_mark(directory, fault), ignored);
  }
}

int run_rank(RankRunRequest request) {
  return RankRun(std::move(request)).run();
}

}  // namespace regroup

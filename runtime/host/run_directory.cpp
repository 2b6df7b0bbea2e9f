#include "runtime/host/run_directory.hpp"

#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <limits>
#include <span>
#include <system_error>
#include <thread>
#include <type_traits>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/host/checkpoint_manifest.hpp"
#include "runtime/host/content_hash.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

using nlohmann::json;
using Kind = RunDirectoryError::Kind;
using Refusal = std::optional<RunDirectoryError>;

constexpr std::string_view kLockName = "lock";
// What DIR/lock says, so that a directory is known as ours before it has a status.
constexpr std::string_view kLockText = "This directory belongs to a regroup run.\n";
// The end of a status: the object's, as it is dumped, makes way for its hash.
constexpr std::string_view kObjectEnd = "\n}";
constexpr std::string_view kBeforeHash = ",\n  \"xxh3_128\": \"";
constexpr std::string_view kAfterHash = "\"\n}\n";
constexpr std::size_t kHashDigits = 32;
constexpr int kNameAttemptsMax = 10'000;
// A check() elsewhere holds the lock for an instant, and a killed predecessor until its memory is
// torn down: a claim tries this often, this far apart, before it says that the directory is in use.
constexpr int kLockAttemptsMax = 20;
constexpr timespec kLockPause{0, 2'000'000};
// How long the processes of a run that has said how it ended may take to end, and be looked after.
constexpr auto kProcessesEnd = std::chrono::seconds(10);
constexpr auto kProcessesEndLook = std::chrono::milliseconds(20);

RunDirectoryError error_of(Kind kind, std::string message) {
  return {kind, std::move(message)};
}

RunDirectoryError system_error(const char* what, const std::filesystem::path& path,
                               int error_number) {
  return error_of(Kind::kIo,
                  fmt::format("cannot {} {}: {}", what, path.string(), errno_text(error_number)));
}

RunDirectoryError in_use(const std::filesystem::path& path) {
  return error_of(Kind::kInUse,
                  fmt::format("{} is in use by a live run; wait for it, or choose another --dir",
                              path.string()));
}

RunDirectoryError lock_error(const std::filesystem::path& path, int error_number) {
  if (error_number == EWOULDBLOCK) return in_use(path);
  return error_of(Kind::kIo,
                  fmt::format("cannot lock {}: {}; choose a --dir on a file system with locks",
                              (path / kLockName).string(), errno_text(error_number)));
}

std::filesystem::path parent_of(const std::filesystem::path& path) {
  const auto parent = path.has_filename() ? path.parent_path() : path.parent_path().parent_path();
  return parent.empty() ? std::filesystem::path(".") : parent;
}

// As the effective user, which access(2) would not be.
bool may_write_in(const std::filesystem::path& directory) {
  return ::faccessat(AT_FDCWD, directory.c_str(), W_OK | X_OK, AT_EACCESS) == 0;
}

bool has_lock_text(const std::filesystem::path& lock) {
  const auto text = read_small_file(lock, kLockText.size());
  return text && *text == kLockText;
}

// Whether the directory holds nothing, or nothing but a lock that its maker died before writing.
std::expected<bool, RunDirectoryError> is_blank(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::directory_iterator entries(path, error);
  for (const std::filesystem::directory_iterator end; !error && entries != end;
       entries.increment(error)) {
    struct stat status {};
    const bool empty_lock = entries->path().filename() == kLockName &&
                            ::lstat(entries->path().c_str(), &status) == 0 &&
                            S_ISREG(status.st_mode) && status.st_size == 0;
    if (!empty_lock) return false;
  }
  if (error) return std::unexpected(system_error("read", path, error.value()));
  return true;
}

Refusal refusal_of_missing(const std::filesystem::path& path) {
  const auto parent = parent_of(path);
  struct stat status {};
  if (::stat(parent.c_str(), &status) != 0 && errno != ENOENT && errno != ENOTDIR)
    return system_error("look at", parent, errno);
  if (status.st_mode == 0)
    return error_of(Kind::kUnusable, fmt::format("{} has no parent directory; create {} first",
                                                 path.string(), parent.string()));
  if (!S_ISDIR(status.st_mode))
    return error_of(Kind::kUnusable,
                    fmt::format("{} cannot be made: {} is not a directory; choose another --dir",
                                path.string(), parent.string()));
  if (!may_write_in(parent))
    return error_of(Kind::kIo,
                    fmt::format("cannot create {}: {} is not writable ({}); choose another --dir",
                                path.string(), parent.string(), errno_text(errno)));
  return std::nullopt;
}

// What its contents say against running here. Reads only.
Refusal refusal_of_contents(const std::filesystem::path& path) {
  struct stat status {};
  if (::lstat((path / kStatusFileName).c_str(), &status) == 0) {
    const auto run = read_status(path);
    if (!run)
      return error_of(Kind::kUnusable,
                      fmt::format("{}; choose another --dir, or move that file away", run.error()));
    if (run->state != RunState::kDone) return std::nullopt;
    return error_of(
        Kind::kFinished,
        fmt::format("{} holds a finished run; read it with `regroup results {}`, or choose "
                    "another --dir",
                    path.string(), path.string()));
  }
  if (has_lock_text(path / kLockName)) return std::nullopt;
  const auto blank = is_blank(path);
  if (!blank) return blank.error();
  if (*blank) return std::nullopt;
  return error_of(
      Kind::kUnusable,
      fmt::format("{} is not empty and not a run directory; choose a new or empty --dir",
                  path.string()));
}

// Everything but the lock.
Refusal refusal_of(const std::filesystem::path& path) {
  if (path.empty())
    return error_of(Kind::kUnusable, "the run directory has no name; give --dir a path");
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return refusal_of_missing(path);
    return system_error("look at", path, errno);
  }
  if (!S_ISDIR(status.st_mode))
    return error_of(Kind::kUnusable,
                    fmt::format("{} is not a directory; choose another --dir", path.string()));
  if (auto refusal = refusal_of_contents(path)) return refusal;
  if (!may_write_in(path))
    return error_of(Kind::kIo, fmt::format("{} is not writable ({}); choose another --dir",
                                           path.string(), errno_text(errno)));
  return std::nullopt;
}

// 0, or the errno of the last attempt.
int lock_exclusively(int fd) {
  for (int attempt = 1;; ++attempt) {
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return 0;
    if (errno != EWOULDBLOCK && errno != EINTR) return errno;
    if (attempt == kLockAttemptsMax) return EWOULDBLOCK;
    ::nanosleep(&kLockPause, nullptr);
  }
}

// Whether the locked file is still the one in the directory, which someone may have put away
// meanwhile.
bool still_there(int fd, const std::filesystem::path& lock) {
  struct stat ours {};
  struct stat theirs {};
  return ::fstat(fd, &ours) == 0 && ::stat(lock.c_str(), &theirs) == 0 &&
         ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino;
}

Refusal write_lock_text(FileSystem& file_system, int fd, const std::filesystem::path& lock) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return system_error("read", lock, errno);
  if (status.st_size != 0) return std::nullopt;
  const ssize_t written = file_system.write(fd, kLockText.data(), kLockText.size());
  if (written == static_cast<ssize_t>(kLockText.size())) return std::nullopt;
  const int error_number = written < 0 ? errno : ENOSPC;
  if (::ftruncate(fd, 0) != 0) return system_error("reset", lock, errno);
  return system_error("write", lock, error_number);
}

// DIR/lock, open, and whether it was made just now.
struct OpenLock {
  FileDescriptor fd;
  bool created = false;
};

std::expected<OpenLock, RunDirectoryError> open_lock(FileSystem& file_system,
                                                     const std::filesystem::path& lock) {
  FileDescriptor fd(file_system,
                    file_system.open(lock.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (fd.is_open()) return OpenLock{std::move(fd), true};
  if (errno == EEXIST)
    fd = FileDescriptor(file_system, file_system.open(lock.c_str(), O_RDWR | O_CLOEXEC, 0));
  if (!fd.is_open()) return std::unexpected(system_error("open", lock, errno));
  return OpenLock{std::move(fd), false};
}

// Locks, and looks again under the lock, since the run that held it may have ended just now.
Refusal lock_and_mark(FileSystem& file_system, int fd, const std::filesystem::path& path) {
  const auto lock = path / kLockName;
  if (const int error_number = lock_exclusively(fd); error_number != 0)
    return lock_error(path, error_number);
  if (!still_there(fd, lock)) return in_use(path);
  if (auto refusal = refusal_of_contents(path)) return refusal;
  return write_lock_text(file_system, fd, lock);
}

std::expected<FileDescriptor, RunDirectoryError> take_lock(FileSystem& file_system,
                                                           const std::filesystem::path& path) {
  const auto lock = path / kLockName;
  auto opened = open_lock(file_system, lock);
  if (!opened) return std::unexpected(opened.error());
  const auto refusal = lock_and_mark(file_system, opened->fd.get(), path);
  if (!refusal) return std::move(opened->fd);
  // A lock that another run took first is theirs.
  if (opened->created && refusal->kind == Kind::kIo) file_system.unlink(lock.c_str());
  return std::unexpected(*refusal);
}

std::expected<FileDescriptor, RunDirectoryError> lock_directory(FileSystem& file_system,
                                                                const std::filesystem::path& path,
                                                                bool created) {
  auto lock = take_lock(file_system, path);
  if (!lock || !created) return lock;
  auto done = sync_directory(file_system, path);
  if (done) done = sync_directory(file_system, parent_of(path));
  if (done) return lock;
  file_system.unlink((path / kLockName).c_str());
  return std::unexpected(error_of(Kind::kIo, done.error()));
}

std::string new_run() {
  std::array<std::uint64_t, 2> random{};
  ssize_t count = -1;
  do {
    count = ::getrandom(random.data(), sizeof random, 0);
  } while (count < 0 && errno == EINTR);
  REGROUP_CHECK(count == static_cast<ssize_t>(sizeof random), "the system has randomness");
  return fmt::format("{:016x}{:016x}", random[0], random[1]);
}

// "" if its status does not say.
std::string run_in(const std::filesystem::path& path) {
  const auto status = read_status(path);
  return status ? status->run : "";
}

template <class T>
void take(const json& object, const char* name, T& out, std::string& problem) {
  const auto member = object.find(name);
  if (member == object.end() || !problem.empty()) return;
  constexpr auto wrong = "member '{}' is not {}";
  if constexpr (std::is_same_v<T, std::string>) {
    if (!member->is_string())
      problem = fmt::format(wrong, name, "a text");
    else
      out = member->template get<std::string>();
  } else if constexpr (std::is_same_v<T, double>) {
    if (member->is_null())
      out = 0;
    else if (!member->is_number())
      problem = fmt::format(wrong, name, "a number");
    else
      out = member->template get<double>();
  } else if constexpr (std::is_signed_v<T>) {
    // nlohmann wraps what does not fit, so the range is checked on what was written.
    const bool fits =
        member->is_number_integer() &&
        (!member->is_number_unsigned() ||
         member->template get<std::uint64_t>() <= std::uint64_t{std::numeric_limits<T>::max()}) &&
        (member->is_number_unsigned() ||
         member->template get<std::int64_t>() >= std::numeric_limits<T>::min());
    if (!fits)
      problem = fmt::format(wrong, name, "an integer in range");
    else
      out = member->template get<T>();
  } else {
    const bool fits = member->is_number_unsigned() &&
                      member->template get<std::uint64_t>() <= std::numeric_limits<T>::max();
    if (!fits)
      problem = fmt::format(wrong, name, "a count in range");
    else
      out = member->template get<T>();
  }
}

void take_state(const json& object, RunState& out, std::string& problem) {
  std::string name;
  take(object, "state", name, problem);
  if (!problem.empty()) return;
  for (const auto state : {RunState::kStarting, RunState::kRunning, RunState::kDone,
                           RunState::kFailed, RunState::kInterrupted}) {
    if (run_state_name(state) != name) continue;
    out = state;
    return;
  }
  problem = "member 'state' is not a state of a run";
}

void take_run(const json& object, std::string& out, std::string& problem) {
  take(object, "run", out, problem);
  if (problem.empty() && !out.empty() && !is_run_name(out))
    problem = "member 'run' is not the name of a run";
}

void take_ranks(const json& object, const char* name, std::vector<std::uint32_t>& out,
                std::string& problem) {
  const auto ranks = object.find(name);
  if (ranks == object.end() || !problem.empty()) return;
  if (!ranks->is_array()) problem = fmt::format("member '{}' is not a list of ranks", name);
  if (!problem.empty()) return;
  for (const auto& rank : *ranks) {
    const json holder = {{name, rank}};
    take(holder, name, out.emplace_back(), problem);
  }
}

void take_recoveries(const json& object, std::vector<RecoveryStatus>& out, std::string& problem) {
  const auto recoveries = object.find("recoveries");
  if (recoveries == object.end() || !problem.empty()) return;
  if (!recoveries->is_array()) problem = "member 'recoveries' is not a list";
  for (const auto& member : *recoveries) {
    if (problem.empty() && !member.is_object()) problem = "a member of 'recoveries' is no object";
    if (!problem.empty()) return;
    RecoveryStatus& recovery = out.emplace_back();
    take(member, "epoch", recovery.epoch, problem);
    take_ranks(member, "lost", recovery.lost, problem);
    take_ranks(member, "joined", recovery.joined, problem);
    take(member, "evidence", recovery.evidence, problem);
    take(member, "detected_utc", recovery.detected_utc, problem);
    take(member, "detected_seconds", recovery.detected_seconds, problem);
    take(member, "agreed_ms", recovery.agreed_ms, problem);
    if (const auto resumed = member.find("resumed_ms");
        resumed != member.end() && !resumed->is_null())
      take(member, "resumed_ms", recovery.resumed_ms.emplace(), problem);
  }
}

const json* member_object(const json& object, const char* name, std::string& problem) {
  const auto member = object.find(name);
  if (member == object.end() || member->is_null() || !problem.empty()) return nullptr;
  if (member->is_object()) return &*member;
  problem = fmt::format("member '{}' is no object", name);
  return nullptr;
}

void take_checkpointing(const json& object, std::optional<CheckpointingStatus>& out,
                        std::string& problem) {
  const json* const member = member_object(object, "checkpointing", problem);
  if (member == nullptr) return;
  CheckpointingStatus& status = out.emplace();
  take(*member, "newest", status.newest, problem);
  take(*member, "sealed", status.sealed, problem);
  take(*member, "failed", status.failed, problem);
  take(*member, "error", status.error, problem);
  take(*member, "storage", status.storage, problem);
  take(*member, "bytes", status.bytes, problem);
  take(*member, "cost_seconds", status.cost_seconds, problem);
  take(*member, "interval_seconds", status.interval_seconds, problem);
  take(*member, "failure_interval_seconds", status.failure_interval_seconds, problem);
}

nlohmann::ordered_json to_json(const CheckpointingStatus& status) {
  return {{"newest", status.newest},
          {"sealed", status.sealed},
          {"failed", status.failed},
          {"error", status.error},
          {"storage", status.storage},
          {"bytes", status.bytes},
          {"cost_seconds", status.cost_seconds},
          {"interval_seconds", status.interval_seconds},
          {"failure_interval_seconds", status.failure_interval_seconds}};
}

void take_partner_copies(const json& object, std::optional<PartnerCopiesStatus>& out,
                         std::string& problem) {
  const json* const member = member_object(object, "partner_copies", problem);
  if (member == nullptr) return;
  PartnerCopiesStatus& status = out.emplace();
  take(*member, "rounds", status.rounds, problem);
  take(*member, "partitions", status.partitions, problem);
  take(*member, "bytes", status.bytes, problem);
  take(*member, "refused", status.refused, problem);
  take(*member, "cost_seconds", status.cost_seconds, problem);
  take(*member, "interval_seconds", status.interval_seconds, problem);
  take(*member, "sent_bytes", status.sent_bytes, problem);
  take(*member, "sending_seconds", status.sending_seconds, problem);
}

nlohmann::ordered_json to_json(const PartnerCopiesStatus& status) {
  return {{"rounds", status.rounds},
          {"partitions", status.partitions},
          {"bytes", status.bytes},
          {"refused", status.refused},
          {"cost_seconds", status.cost_seconds},
          {"interval_seconds", status.interval_seconds},
          {"sent_bytes", status.sent_bytes},
          {"sending_seconds", status.sending_seconds}};
}

void take_restored_from(const json& object, RestoredFrom& out, std::string& problem) {
  const json* const member = member_object(object, "restored_from", problem);
  if (member == nullptr) return;
  take(*member, "memory", out.memory, problem);
  take(*member, "partner", out.partner, problem);
  take(*member, "file", out.file, problem);
}

void take_result(const json& object, std::optional<FileDigest>& out, std::string& problem) {
  const auto result = object.find("result");
  if (result == object.end() || result->is_null() || !problem.empty()) return;
  FileDigest& digest = out.emplace();
  if (!result->is_object()) problem = "member 'result' is not an object";
  if (!problem.empty()) return;
  take(*result, "bytes", digest.bytes, problem);
  take(*result, "xxh3_128", digest.hash, problem);
  if (problem.empty() && !is_hash(digest.hash)) problem = "member 'xxh3_128' is not a hash";
}

}  // namespace

std::string_view run_state_name(RunState state) {
  constexpr std::array<std::string_view, 5> names = {"starting", "running", "done", "failed",
                                                     "interrupted"};
  return names[static_cast<std::size_t>(state)];
}

bool has_ended(RunState state) {
  return state == RunState::kDone || state == RunState::kFailed || state == RunState::kInterrupted;
}

nlohmann::ordered_json to_json(const RecoveryStatus& recovery) {
  nlohmann::ordered_json object;
  object["epoch"] = recovery.epoch;
  object["lost"] = recovery.lost;
  object["joined"] = recovery.joined;
  object["evidence"] = recovery.evidence;
  object["detected_utc"] = recovery.detected_utc;
  object["detected_seconds"] = recovery.detected_seconds;
  object["agreed_ms"] = recovery.agreed_ms;
  object["resumed_ms"] = nullptr;
  if (recovery.resumed_ms) object["resumed_ms"] = *recovery.resumed_ms;
  return object;
}

nlohmann::ordered_json to_json(const RestoredFrom& restored) {
  return {{"memory", restored.memory}, {"partner", restored.partner}, {"file", restored.file}};
}

std::string to_json(const RunStatus& status) {
  nlohmann::ordered_json object;
  object["job"] = status.job;
  object["run"] = status.run;
  object["seed"] = nullptr;
  if (status.seed) object["seed"] = *status.seed;
  object["state"] = run_state_name(status.state);
  object["exit"] = nullptr;
  if (status.exit) object["exit"] = *status.exit;
  object["epoch"] = status.epoch;
  object["members"] = status.members;
  object["shards_done"] = status.shards_done;
  object["shards_total"] = status.shards_total;
  object["quarantined"] = status.quarantined;
  object["step"] = nullptr;
  if (status.step) object["step"] = *status.step;
  object["steps"] = status.steps;
  object["failures_survived"] = status.failures_survived;
  object["relaunches"] = status.relaunches;
  object["recoveries"] = nlohmann::ordered_json::array();
  for (const auto& recovery : status.recoveries) object["recoveries"].push_back(to_json(recovery));
  object["shards_repeated"] = status.shards_repeated;
  object["restored_from"] = to_json(status.restored_from);
  object["checkpointing"] = nullptr;
  if (status.checkpointing) object["checkpointing"] = to_json(*status.checkpointing);
  object["partner_copies"] = nullptr;
  if (status.partner_copies) object["partner_copies"] = to_json(*status.partner_copies);
  object["seconds"] = status.seconds;
  object["result"] = nullptr;
  if (status.result)
    object["result"] = {{"bytes", status.result->bytes}, {"xxh3_128", status.result->hash}};
  object["message"] = status.message;
  object["regroup_version"] = status.regroup_version;
  object["started_utc"] = status.started_utc;
  object["updated_utc"] = status.updated_utc;
  object["pid"] = status.pid;
  object["host"] = status.host;
  std::string text = object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.resize(text.size() - kObjectEnd.size());
  text += kBeforeHash;
  return text + content_hash(text) + std::string(kAfterHash);
}

std::optional<bool> status_hash_holds(std::string_view text) {
  const std::size_t end_bytes = kHashDigits + kAfterHash.size();
  if (text.size() < end_bytes) return std::nullopt;
  const auto before = text.substr(0, text.size() - end_bytes);
  const auto end = text.substr(before.size());
  if (!before.ends_with(kBeforeHash) || !end.ends_with(kAfterHash)) return std::nullopt;
  return end.substr(0, kHashDigits) == content_hash(before);
}

std::expected<RunStatus, std::string> parse_run_status(std::string_view text) {
  const json object = json::parse(text, nullptr, false);
  if (object.is_discarded() || !object.is_object())
    return std::unexpected("it is not a JSON object");
  if (!object.contains("job") || !object.contains("state"))
    return std::unexpected("it has no members 'job' and 'state'");
  RunStatus status;
  std::string problem;
  take(object, "job", status.job, problem);
  take_run(object, status.run, problem);
  if (const auto seed = object.find("seed"); seed != object.end() && !seed->is_null())
    take(object, "seed", status.seed.emplace(), problem);
  take_state(object, status.state, problem);
  if (const auto exit = object.find("exit"); exit != object.end() && !exit->is_null())
    take(object, "exit", status.exit.emplace(), problem);
  take(object, "epoch", status.epoch, problem);
  take_ranks(object, "members", status.members, problem);
  take(object, "shards_done", status.shards_done, problem);
  take(object, "shards_total", status.shards_total, problem);
  take(object, "quarantined", status.quarantined, problem);
  if (const auto step = object.find("step"); step != object.end() && !step->is_null())
    take(object, "step", status.step.emplace(), problem);
  take(object, "steps", status.steps, problem);
  take(object, "failures_survived", status.failures_survived, problem);
  take(object, "relaunches", status.relaunches, problem);
  take_recoveries(object, status.recoveries, problem);
  take(object, "shards_repeated", status.shards_repeated, problem);
  take_restored_from(object, status.restored_from, problem);
  take_checkpointing(object, status.checkpointing, problem);
  take_partner_copies(object, status.partner_copies, problem);
  take(object, "seconds", status.seconds, problem);
  take_result(object, status.result, problem);
  take(object, "message", status.message, problem);
  take(object, "regroup_version", status.regroup_version, problem);
  take(object, "started_utc", status.started_utc, problem);
  take(object, "updated_utc", status.updated_utc, problem);
  take(object, "pid", status.pid, problem);
  take(object, "host", status.host, problem);
  if (!problem.empty()) return std::unexpected(problem);
  return status;
}

std::string utc_text(std::time_t time) {
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  char text[64];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

std::expected<RunDirectory, RunDirectoryError> RunDirectory::claim(
    const std::filesystem::path& path, FileSystem& file_system) {
  if (auto refusal = refusal_of(path)) return std::unexpected(*refusal);
  const bool created = ::mkdir(path.c_str(), 0777) == 0;
  if (!created && errno != EEXIST) return std::unexpected(system_error("create", path, errno));
  auto lock = lock_directory(file_system, path, created);
  if (!lock) {
    if (created) ::rmdir(path.c_str());  // does nothing if another run has come in
    return std::unexpected(lock.error());
  }
  std::string run = run_in(path);
  if (run.empty()) run = new_run();
  return RunDirectory(file_system, path, std::move(run), std::move(*lock));
}

RunDirectory RunDirectory::take_over(const std::filesystem::path& path, FileSystem& file_system) {
  auto lock = lock_directory(file_system, path, false);
  return RunDirectory(file_system, path, run_in(path), lock ? std::move(*lock) : FileDescriptor());
}

std::expected<void, RunDirectoryError> RunDirectory::check(const std::filesystem::path& path) {
  if (const auto refusal = refusal_of(path)) return std::unexpected(*refusal);
  FileSystem& file_system = FileSystem::real();
  const FileDescriptor lock(file_system, file_system.open((path / kLockName).c_str(),
                                                          O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0));
  if (lock.is_open() && ::flock(lock.get(), LOCK_SH | LOCK_NB) != 0)
    return std::unexpected(lock_error(path, errno));
  return {};
}

std::expected<void, RunDirectoryError> RunDirectory::check_when_ended(
    const std::filesystem::path& path) {
  const auto deadline = std::chrono::steady_clock::now() + kProcessesEnd;
  while (true) {
    auto usable = check(path);
    if (usable || usable.error().kind != Kind::kInUse) return usable;
    const auto status = read_status(path);
    if (!status || !has_ended(status->state)) return usable;
    if (std::chrono::steady_clock::now() >= deadline) return usable;
    std::this_thread::sleep_for(kProcessesEndLook);
  }
}

std::optional<bool> RunDirectory::is_held(const std::filesystem::path& path) {
  FileSystem& file_system = FileSystem::real();
  const FileDescriptor lock(file_system, file_system.open((path / kLockName).c_str(),
                                                          O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0));
  if (!lock.is_open()) return errno == ENOENT ? std::optional(false) : std::nullopt;
  if (::flock(lock.get(), LOCK_SH | LOCK_NB) == 0) return false;
  return errno == EWOULDBLOCK ? std::optional(true) : std::nullopt;
}

std::expected<void, std::string> RunDirectory::write_status(const RunStatus& status) {
  if (!lock_.is_open()) {
    if (auto lock = lock_directory(*file_system_, path_, false)) lock_ = std::move(*lock);
  }
  return replace_file(*file_system_, path_ / kStatusFileName, to_json(status));
}

std::expected<RunStatus, std::string> read_status(const std::filesystem::path& directory) {
  const auto path = directory / kStatusFileName;
  const auto text = read_small_file(path, kStatusBytesMax);
  if (!text) return std::unexpected(text.error());
  auto status = parse_run_status(*text);
  if (!status)
    return std::unexpected(
        fmt::format("{} is no status of a run: {}", path.string(), status.error()));
  return status;
}

std::expected<std::filesystem::path, RunDirectoryError> default_run_directory(
    std::string_view job, std::time_t now, const std::filesystem::path& base) {
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char time[64];
  const std::string_view stamp(time, std::strftime(time, sizeof time, "%Y%m%dT%H%M%SZ", &parts));
  const std::string name = fmt::format("{}-{}", job, stamp);
  for (int attempt = 1; attempt <= kNameAttemptsMax; ++attempt) {
    const auto path =
        (base / (attempt == 1 ? name : fmt::format("{}-{}", name, attempt))).lexically_normal();
    if (::mkdir(path.c_str(), 0777) == 0) return path;
    if (errno != EEXIST) return std::unexpected(system_error("create", path, errno));
  }
  return std::unexpected(error_of(
      Kind::kIo,
      fmt::format("{} and {} names after it are taken; give --dir", name, kNameAttemptsMax)));
}

}  // namespace regroup

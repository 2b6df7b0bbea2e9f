// The directory of one run: who may use it, and what its status.json says. A claim is a lock on
// DIR/lock that the kernel gives back when the process dies, however it dies, so a run that comes
// back is never kept out by its own remains. A refusal writes nothing and is one line that says
// what to do. status.json is replaced atomically: a reader sees the old one or the new one, never a
// piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "runtime/host/file_digest.hpp"
#include "runtime/host/file_system.hpp"

namespace regroup {

inline constexpr std::string_view kStatusFileName = "status.json";
inline constexpr std::size_t kStatusBytesMax = std::size_t{16} << 20;

enum class RunState : std::uint8_t { kStarting, kRunning, kDone, kFailed, kInterrupted };
std::string_view run_state_name(RunState state);
// Whether a run in that state has said how it ended.
bool has_ended(RunState state);

// What RecoveryStatus::evidence says of how the coordinator came to know.
inline constexpr std::string_view kEvidenceDead = "dead";       // for certain
inline constexpr std::string_view kEvidenceSilent = "silent";   // for longer than --suspect-after
inline constexpr std::string_view kEvidenceCutOff = "cut-off";  // its connection broke
inline constexpr std::string_view kEvidenceTold = "told";       // by another rank

// One change of view, as the coordinator saw it.
struct RecoveryStatus {
  std::uint64_t epoch = 0;  // of the view that the survivors went on in
  std::vector<std::uint32_t> lost;
  std::vector<std::uint32_t> joined;
  std::string evidence;
  std::string detected_utc;
  double detected_seconds = 0;       // after the start of the coordinator's process
  double agreed_ms = 0;              // from there to the new view
  std::optional<double> resumed_ms;  // and to the next shard or step of the coordinator's own

  friend bool operator==(const RecoveryStatus&, const RecoveryStatus&) = default;
};

// How a run's checkpoints go, as its coordinator sees them.
struct CheckpointingStatus {
  std::uint64_t newest = 0;  // number of the newest sealed one; 0: none
  std::uint64_t sealed = 0;  // in this launch, by the coordinator of now
  std::uint64_t failed = 0;
  std::string error;                    // of the last one, if it failed
  std::string storage;                  // its breaker: "closed", "open" or "half-open"
  std::uint64_t bytes = 0;              // of the newest one
  double cost_seconds = 0;              // that it took
  double interval_seconds = 0;          // to the next one; 0: only when asked for
  double failure_interval_seconds = 0;  // the mean that the interval was chosen for

  friend bool operator==(const CheckpointingStatus&, const CheckpointingStatus&) = default;
};

// What ranks have of their partitions in the memory of others, as the coordinator sees it.
struct PartnerCopiesStatus {
  std::uint64_t rounds = 0;      // of all ranks, told to the coordinator of now
  std::uint64_t partitions = 0;  // of which there is a copy
  std::uint64_t bytes = 0;       // of those
  std::uint64_t refused = 0;     // for want of room, in the latest rounds
  double cost_seconds = 0;       // of the latest round, of the rank that took longest
  double interval_seconds = 0;   // between rounds, the longest; 0: there are none by themselves
  std::uint64_t sent_bytes = 0;  // in the latest rounds of all ranks
  double sending_seconds = 0;    // while some were under way, of the rank that took longest

  friend bool operator==(const PartnerCopiesStatus&, const PartnerCopiesStatus&) = default;
};

// How many partitions came back from where, after their owners were lost.
struct RestoredFrom {
  std::uint64_t memory = 0;   // of the rank that owns it now: a snapshot that it had taken itself
  std::uint64_t partner = 0;  // a copy that was kept for the owner
  std::uint64_t file = 0;     // a checkpoint

  friend bool operator==(const RestoredFrom&, const RestoredFrom&) = default;
};

// What DIR/status.json holds, one member each, by these names.
struct RunStatus {
  std::string job;
  std::string run;  // RunDirectory::run(); "" in one that an older Regroup wrote
  std::optional<std::uint64_t> seed;
  RunState state = RunState::kStarting;
  std::optional<int> exit;  // the exit status, once the run has ended; null before
  std::uint64_t epoch = 0;
  std::vector<std::uint32_t> members;  // ranks of the newest view, in rank order
  std::uint64_t shards_done = 0;
  std::uint64_t shards_total = 0;
  std::uint64_t quarantined = 0;
  std::optional<std::uint64_t> step;  // that all cells of an iterate stage have come to, if it runs
  std::uint64_t steps = 0;            // at which it ends; 0: that is not known
  std::uint64_t failures_survived = 0;
  std::uint64_t relaunches = 0;            // how often ranks were started again, by one supervisor
  std::vector<RecoveryStatus> recoveries;  // oldest first
  std::uint64_t shards_repeated = 0;       // map shards done again, for partitions that were lost
  RestoredFrom restored_from;
  std::optional<CheckpointingStatus> checkpointing;
  std::optional<PartnerCopiesStatus> partner_copies;
  double seconds =
      0;  // of work so far, over all launches; a number that is not finite reads back as 0
  std::optional<FileDigest> result;  // of result.h5, once it is written
  std::string message;               // for people: why it failed, or where to go on
  std::string regroup_version;
  std::string started_utc;  // as utc_text() gives it
  std::string updated_utc;
  std::int64_t pid = 0;
  std::string host;

  friend bool operator==(const RunStatus&, const RunStatus&) = default;
};

nlohmann::ordered_json to_json(const RecoveryStatus& recovery);
nlohmann::ordered_json to_json(const RestoredFrom& restored);
// One JSON object over several lines. Bytes of texts that are not UTF-8 become U+FFFD. Its last
// member, "xxh3_128", is the hash of all that stands before the hash's digits.
std::string to_json(const RunStatus& status);
// Whether that hash is right; nothing: there is none, as in a status of an older Regroup. Who runs
// in a directory does not ask: a status with a flipped bit is better than none.
std::optional<bool> status_hash_holds(std::string_view json);
// `job` and `state` must be there; other members default when missing. Unknown ones are ignored.
std::expected<RunStatus, std::string> parse_run_status(std::string_view json);

// "2026-01-31T23:59:59Z"
std::string utc_text(std::time_t time);

struct RunDirectoryError {
  enum class Kind : std::uint8_t {
    kUnusable,  // not a directory to run in: bad input
    kInUse,     // a live run holds it; it may be free a moment later
    kFinished,  // its run is done
    kIo         // the system failed us: disk, permissions, locks
  };
  Kind kind = Kind::kUnusable;
  std::string message;
};

// In a run directory: what the rank that coordinates writes every second, and ranks that cannot go
// on and wait for others. Never synchronised, so that no disk holds it up for long.
inline constexpr const char* kPulseFile = "pulse";

// Holds the claim as long as it lives. Its methods may be called from one thread at a time. A
// process that forks without exec passes the claim on to its child; with exec it does not.
class RunDirectory {
 public:
  // Makes the directory when it is missing (its parent must exist) and locks it. A directory that
  // is empty, or holds a run that is not done, will do.
  static std::expected<RunDirectory, RunDirectoryError> claim(
      const std::filesystem::path& path, FileSystem& file_system = FileSystem::real());

  // For a rank that goes on in the place of one that was lost, but may still hold the claim, since
  // it may only be stopped. Claims the directory now if it can, else when it writes a status.
  static RunDirectory take_over(const std::filesystem::path& path,
                                FileSystem& file_system = FileSystem::real());

  // The refusals of claim(), now, without creating, writing or holding anything.
  static std::expected<void, RunDirectoryError> check(const std::filesystem::path& path);

  // The same, but where the run in it has said how it ended, waits for the processes of that run,
  // which hold the directory for a moment longer: 10 s at most.
  static std::expected<void, RunDirectoryError> check_when_ended(const std::filesystem::path& path);

  // Whether a live run holds the directory. Nothing: that cannot be told, for want of permission or
  // of locks.
  static std::optional<bool> is_held(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  // Tells the runs of all directories apart: 32 hexadecimal digits, made at the first claim of a
  // directory, and found in its status by later ones, so that all launches of a run have the same.
  // "" where a directory was taken over that has no status yet.
  const std::string& run() const { return run_; }
  std::expected<void, std::string> write_status(const RunStatus& status);

 private:
  RunDirectory(FileSystem& file_system, std::filesystem::path path, std::string run,
               FileDescriptor lock)
      : file_system_(&file_system),
        path_(std::move(path)),
        run_(std::move(run)),
        lock_(std::move(lock)) {}

  FileSystem* file_system_;
  std::filesystem::path path_;
  std::string run_;
  FileDescriptor lock_;
};

// The status of the run in a directory; needs no claim. The error is one line that names the path.
std::expected<RunStatus, std::string> read_status(const std::filesystem::path& directory);

// Makes an empty directory BASE/JOB-20260131T235959Z, or with -2, -3 and so on after it where that
// is taken, and returns its path. Made rather than only named, so that jobs started in the same
// second get a directory each.
std::expected<std::filesystem::path, RunDirectoryError> default_run_directory(
    std::string_view job, std::time_t now = std::time(nullptr),
    const std::filesystem::path& base = ".");

}  // namespace regroup

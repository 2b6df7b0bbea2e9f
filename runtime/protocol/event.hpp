// What is worth recording of a run: things that ranks do and learn, with their logical time. The
// order of events of different ranks is that of their stamps, which no wall clock can give.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "runtime/protocol/ids.hpp"

namespace regroup {

enum class EventKind : std::uint8_t {
  kSend,
  kReceive,
  kLease,
  kCommit,
  kRetry,
  kQuarantine,
  kReturn,    // leased shards came back untried
  kRevoke,    // the epoch ended
  kView,      // a new one began
  kRound,     // a map stage begins anew, for partitions have lost what they held
  kKeep,      // map shards that all partitions still hold need not run again
  kElect,     // a rank goes on in the place of the coordinator that was lost
  kRestore,   // the run goes on from a checkpoint
  kSeal,      // a checkpoint is sealed, and whoever may take over knows
  kRegain,    // a rank has got back a partition that was lost with its owner
  kEvidence,  // a rank learns something about the life of a peer
  kWork,      // a rank has computed shards
};
inline constexpr std::size_t kEventKinds = static_cast<std::size_t>(EventKind::kWork) + 1;

// How much is recorded: each level has what those before it have.
enum class EventLevel : std::uint8_t {
  kOff,
  kRun,       // what becomes of the run: views, failures, checkpoints, retries
  kShards,    // who computes which shards, and when they count
  kMessages,  // every message
};

// Of the level from which on events of this kind are recorded.
constexpr EventLevel level_of(EventKind kind) {
  switch (kind) {
    case EventKind::kSend:
    case EventKind::kReceive:
      return EventLevel::kMessages;
    case EventKind::kLease:
    case EventKind::kCommit:
    case EventKind::kReturn:
    case EventKind::kKeep:
    case EventKind::kWork:
      return EventLevel::kShards;
    default:
      return EventLevel::kRun;
  }
}

// One lower-case word each, for files and people.
std::string_view name_of(EventKind kind);
std::optional<EventKind> event_kind_named(std::string_view name);

// What `a` and `b` hold depends on the kind.
struct Event {
  EventKind kind{};
  RankId rank;
  RankId peer;
  std::uint64_t lamport = 0;
  StageId stage;  // of what the scheduler does
  // Send, receive: sender's stamp, message kind; revoke, view: epoch, members; round: its number;
  // elect: position in the ledger; restore, seal: number of the checkpoint; retry, quarantine:
  // shard, attempt; regain: partition, RegainedFrom; evidence: EvidenceKind; else first shard,
  // shard count.
  std::uint64_t a = 0;
  std::uint64_t b = 0;
  Epoch epoch = {};
  Nanoseconds took = 0;                    // work: the computing
  std::vector<std::uint64_t> vector = {};  // one entry a rank; empty where they are off
};

}  // namespace regroup

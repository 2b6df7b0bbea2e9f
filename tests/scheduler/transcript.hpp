// The scheduler's messages, made by hand and read as text: what the role tests and the fuzz targets
// speak. The layouts are those of docs/wire-format.md, written down here a second time on purpose:
// a change of the code's layout must show in a test.
#pragma once

#include <array>
#include <initializer_list>
#include <optional>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "runtime/protocol/frame.hpp"
#include "runtime/protocol/wire.hpp"
#include "runtime/protocol/work.hpp"
#include "scheduler/copy_desk.hpp"
#include "scheduler/copy_transfer.hpp"
#include "scheduler/partition_copies.hpp"

namespace regroup::testing_roles {

using Shards = std::pair<std::uint64_t, std::uint64_t>;  // first, count

// What comes before the entries of leases and of results: a test that reads entries skips it.
constexpr std::size_t kLeaseHeadBytes = 2 + 1 + 4 + 8;        // stage, steal, round, acknowledged
constexpr std::size_t kResultsHeadBytes = 2 + 4 + 8 + 8 + 4;  // stage, round, report, cost, entries

struct LeaseEntry {
  Shards shards;
  std::uint32_t attempt = 1;
};
struct ResultEntry {
  Shards shards;
  std::uint32_t attempt = 1;
  std::uint32_t value_bytes = 8;
};
struct FailureEntry {
  std::uint64_t shard = 0;
  std::uint32_t attempt = 1;
  std::string what = "threw";
};

// What shard `shard` gives in every test: eight bytes nobody makes by accident.
inline std::uint64_t value_of(std::uint64_t shard) {
  return (shard + 1) * 0x9e3779b97f4a7c15u;
}

// ---- made by hand ----

inline Buffer open_message(std::string_view description) {
  Buffer payload;
  Writer(payload).put_string(description);
  return payload;
}

inline Buffer ready_message(const std::vector<StagePlan>& stages, std::string_view error = "") {
  Buffer payload;
  Writer writer(payload);
  writer.put_string(error);
  writer.put(static_cast<std::uint32_t>(stages.size()));
  for (const StagePlan& stage : stages) {
    writer.put(stage.kind);
    writer.put(stage.shards);
  }
  return payload;
}

inline void put_leases(Writer& writer, const std::vector<LeaseEntry>& leases) {
  writer.put(static_cast<std::uint32_t>(leases.size()));
  for (const LeaseEntry& lease : leases) {
    writer.put(lease.shards.first);
    writer.put(lease.shards.second);
    writer.put(lease.attempt);
  }
}

inline Buffer lease_message(std::uint16_t stage, const std::vector<LeaseEntry>& leases,
                            bool peers_steal = false, std::uint32_t round = 0,
                            std::uint64_t acknowledged = 0) {
  Buffer payload;
  Writer writer(payload);
  writer.put(stage);
  writer.put(static_cast<std::uint8_t>(peers_steal));
  writer.put(round);
  writer.put(acknowledged);
  put_leases(writer, leases);
  return payload;
}

// kReturned and kStealReply
inline Buffer leases_back_message(std::uint16_t stage, const std::vector<LeaseEntry>& leases) {
  Buffer payload;
  Writer writer(payload);
  writer.put(stage);
  put_leases(writer, leases);
  return payload;
}

inline Buffer recall_message(std::uint16_t stage, std::uint64_t count) {
  Buffer payload;
  Writer writer(payload);
  writer.put(stage);
  writer.put(count);
  return payload;
}

inline Buffer finish_message(std::int32_t exit_status, std::string_view text) {
  Buffer payload;
  Writer writer(payload);
  writer.put(exit_status);
  writer.put_string(text);
  return payload;
}

inline Buffer results_message(std::uint16_t stage, std::uint64_t shard_nanoseconds,
                              const std::vector<ResultEntry>& entries, std::uint32_t round = 0,
                              std::uint64_t report = 1) {
  Buffer payload;
  Writer writer(payload);
  writer.put(stage);
  writer.put(round);
  writer.put(report);
  writer.put(shard_nanoseconds);
  writer.put(static_cast<std::uint32_t>(entries.size()));
  for (const ResultEntry& entry : entries) {
    writer.put(entry.shards.first);
    writer.put(static_cast<std::uint32_t>(entry.shards.second));
    writer.put(entry.attempt);
    writer.put(entry.value_bytes);
    for (std::uint64_t i = 0; i < entry.shards.second; ++i) {
      const std::uint64_t value = value_of(entry.shards.first + i);
      Buffer bytes;
      Writer(bytes).put(value);
      bytes.resize(entry.value_bytes);
      writer.put_raw(bytes.view());
    }
  }
  return payload;
}

inline Buffer failures_message(std::uint16_t stage, const std::vector<FailureEntry>& failures) {
  Buffer payload;
  Writer writer(payload);
  writer.put(stage);
  writer.put(static_cast<std::uint32_t>(failures.size()));
  for (const FailureEntry& failure : failures) {
    writer.put(failure.shard);
    writer.put(failure.attempt);
    writer.put_string(failure.what);
  }
  return payload;
}

// What is running; nothing if it is no shards.
// A copy of a partition: of which map stage, which one, how many map shards it knows.
using OfferEntry = std::tuple<std::uint16_t, std::uint32_t, std::uint64_t>;

inline Buffer announce_message(std::uint16_t stage = 0, const LeaseEntry& running = {{0, 0}, 0},
                               const std::vector<OfferEntry>& copies = {}) {
  Buffer payload;
  Writer writer(payload);
  writer.put(stage);
  writer.put(running.shards.first);
  writer.put(running.shards.second);
  writer.put(running.attempt);
  writer.put(static_cast<std::uint32_t>(copies.size()));
  for (const auto& [map, partition, held] : copies) {
    writer.put(map);
    writer.put(partition);
    writer.put(held);
  }
  return payload;
}

// Where the partitions of a map stage are; `asks`: what those of the receiver hold.
inline Buffer owners_message(std::uint16_t stage, const std::vector<std::uint32_t>& owners,
                             std::uint32_t round = 0, bool asks = false,
                             std::uint64_t checkpoint = 0,
                             std::vector<std::uint32_t> holders = {}) {
  Buffer payload;
  Writer writer(payload);
  writer.put(stage);
  writer.put(round);
  writer.put(static_cast<std::uint8_t>(asks));
  writer.put(checkpoint);
  writer.put(static_cast<std::uint32_t>(owners.size()));
  for (const std::uint32_t owner : owners) writer.put(owner);
  if (asks) holders.resize(owners.size(), ~0u);
  for (const std::uint32_t holder : holders) writer.put(holder);
  return payload;
}

// A copy, or without bytes that there is none: of which stage, which partition; map shards that it
// knows, or the round that asks for it.
inline Buffer copy_message(std::uint16_t stage, std::uint32_t partition, std::uint64_t tag,
                           std::span<const std::byte> bytes,
                           std::optional<std::uint64_t> hash = {}) {
  Buffer payload;
  Writer writer(payload);
  writer.put(stage);
  writer.put(partition);
  writer.put(tag);
  writer.put(hash.value_or(hash_of_copy(bytes)));
  writer.put_raw(bytes);
  return payload;
}

inline Buffer copy_kept_message(std::uint16_t stage, std::uint32_t partition, std::uint64_t held,
                                std::uint8_t verdict = 0) {
  Buffer payload;
  Writer writer(payload);
  writer.put(stage);
  writer.put(partition);
  writer.put(held);
  writer.put(verdict);
  return payload;
}

inline Buffer copy_wanted_message(std::uint16_t stage, std::uint32_t partition,
                                  std::uint32_t round) {
  Buffer payload;
  Writer writer(payload);
  writer.put(stage);
  writer.put(partition);
  writer.put(round);
  return payload;
}

inline Buffer copies_made_message(const CopyProgress& made) {
  Buffer payload;
  Writer writer(payload);
  put(writer, made);
  return payload;
}

inline Buffer snapshot_message(std::uint64_t number, std::uint16_t stage,
                               const std::vector<std::uint32_t>& partitions) {
  Buffer payload;
  Writer writer(payload);
  writer.put(number);
  writer.put(stage);
  writer.put(static_cast<std::uint32_t>(partitions.size()));
  for (const std::uint32_t partition : partitions) writer.put(partition);
  return payload;
}

// `runs`: how many shards are not held, then how many are, and so on in turns.
inline Buffer holdings_message(std::uint16_t stage, std::uint32_t round,
                               const std::vector<std::uint64_t>& runs,
                               const std::array<std::uint32_t, 3>& regained = {}) {
  Buffer payload;
  Writer writer(payload);
  writer.put(stage);
  writer.put(round);
  for (const std::uint32_t partitions : regained) writer.put(partitions);
  for (const std::uint64_t run : runs) writer.put_varint(run);
  return payload;
}

inline Buffer acknowledge_message(std::uint64_t reports) {
  Buffer payload;
  Writer(payload).put(reports);
  return payload;
}

// ---- the ledger ----

enum class EntryForm : std::uint8_t { kRecords, kState };

inline Buffer ledger_message(std::uint64_t position, EntryForm form,
                             std::span<const std::byte> bytes) {
  Buffer payload;
  Writer writer(payload);
  writer.put(position);
  writer.put(form);
  writer.put_raw(bytes);
  return payload;
}

inline Buffer ledger_held_message(std::uint64_t position) {
  Buffer payload;
  Writer(payload).put(position);
  return payload;
}

inline Buffer ledger_copy_message(std::uint64_t position, std::span<const std::byte> state,
                                  std::span<const std::byte> records) {
  Buffer payload;
  Writer writer(payload);
  writer.put(position);
  writer.put(static_cast<std::uint64_t>(state.size()));
  writer.put_raw(state);
  writer.put_raw(records);
  return payload;
}

// What the coordinator keeps of a run of one bag stage of which nothing was tried, before the
// sink's own part.
struct SavedHead {
  std::uint8_t settled = 0;
  std::uint16_t stage = 0;
  std::uint64_t settled_before = 0;
  std::uint64_t quarantined = 0;
  std::uint64_t retries = 0;
  std::uint64_t duplicates = 0;
  std::uint64_t checkpoint = 0;
};

inline void put_saved_head(Writer& writer, const SavedHead& head) {
  writer.put(head.settled);
  writer.put(head.stage);
  writer.put(head.settled_before);
  writer.put(head.quarantined);
  writer.put(head.retries);
  writer.put(head.duplicates);
  writer.put(head.checkpoint);
  writer.put(std::uint64_t{0});                                       // launch
  for (int from = 0; from < 3; ++from) writer.put(std::uint64_t{0});  // partitions that came back
}

// Shards in runs of one state each, all at their first attempt.
enum class SavedShards : std::uint8_t { kPending, kLeased, kDone, kQuarantined };
inline void put_saved_table(Writer& writer,
                            const std::vector<std::pair<SavedShards, std::uint64_t>>& runs) {
  std::uint64_t shards = 0;
  for (const auto& run : runs) shards += run.second;
  writer.put_varint(shards);
  for (const auto& [state, count] : runs) {
    writer.put_varint(count << 3 | static_cast<std::uint64_t>(state));
  }
  writer.put_varint(0);  // steps of attempts
}

// Nobody has asked for anything.
inline void put_saved_registry(Writer& writer) {
  writer.put(std::uint32_t{0});  // keys
  writer.put(std::uint32_t{0});  // ranks that wrote
}

inline void put_commit_record(Writer& writer, std::uint16_t stage, Shards shards) {
  writer.put(std::uint8_t{0});
  writer.put(stage);
  writer.put(shards.first);
  writer.put(static_cast<std::uint32_t>(shards.second));
  writer.put(std::uint32_t{1});
  writer.put(std::uint32_t{8});
  for (std::uint64_t i = 0; i < shards.second; ++i) writer.put(value_of(shards.first + i));
}

inline void put_charge_record(Writer& writer, std::uint16_t stage, std::uint64_t shard) {
  writer.put(std::uint8_t{1});
  writer.put(stage);
  writer.put(shard);
}

inline void put_quarantine_record(Writer& writer, std::uint16_t stage, std::uint64_t shard,
                                  std::uint32_t attempt, std::uint32_t rank,
                                  std::string_view what) {
  writer.put(std::uint8_t{2});
  writer.put(stage);
  writer.put(shard);
  writer.put(attempt);
  writer.put(rank);
  writer.put_string(what);
}

// ---- rank to rank ----

inline Buffer steal_request_message(std::uint16_t stage) {
  Buffer payload;
  Writer(payload).put(stage);
  return payload;
}

inline Buffer partitions_message(std::uint16_t stage, std::uint64_t shard, std::uint32_t attempt,
                                 const std::vector<std::pair<std::uint32_t, std::string>>& parts,
                                 std::uint32_t round = 0) {
  Buffer payload;
  Writer writer(payload);
  writer.put(stage);
  writer.put(shard);
  writer.put(attempt);
  writer.put(round);
  for (const auto& [partition, bytes] : parts) {
    writer.put(partition);
    writer.put_string(bytes);
  }
  return payload;
}

inline Buffer partitions_taken_message(std::uint16_t stage, std::uint64_t shard,
                                       std::uint32_t attempt = 1, std::string_view error = "",
                                       std::uint32_t round = 0) {
  Buffer payload;
  Writer writer(payload);
  writer.put(stage);
  writer.put(shard);
  writer.put(attempt);
  writer.put(round);
  writer.put_string(error);
  return payload;
}

// ---- read as text ----

inline void show_leases(std::ostream& out, Reader& reader) {
  for (std::uint32_t left = reader.get<std::uint32_t>(); left-- > 0 && !reader.failed();) {
    const ShardRange range = reader.get_range();
    out << ' ' << range.first.value << '+' << range.count;
    if (const auto attempt = reader.get<std::uint32_t>(); attempt != 1) out << '#' << attempt;
  }
}

// Rounds are shown from the second on.
inline void show_round(std::ostream& out, Reader& reader) {
  if (const auto round = reader.get<std::uint32_t>(); round != 0) out << " round " << round;
}

inline void show_results(std::ostream& out, Reader& reader) {
  show_round(out, reader);
  reader.get<std::uint64_t>();  // the number of the report
  reader.get<std::uint64_t>();  // the cost of a shard
  for (std::uint32_t left = reader.get<std::uint32_t>(); left-- > 0 && !reader.failed();) {
    const auto first = reader.get<std::uint64_t>();
    const auto count = reader.get<std::uint32_t>();
    const auto attempt = reader.get<std::uint32_t>();
    const auto value_bytes = reader.get<std::uint32_t>();
    out << ' ' << first << '+' << count;
    if (attempt != 1) out << '#' << attempt;
    reader.get_raw(std::size_t{count} * value_bytes);
  }
}

inline void show_failures(std::ostream& out, Reader& reader) {
  for (std::uint32_t left = reader.get<std::uint32_t>(); left-- > 0 && !reader.failed();) {
    const auto shard = reader.get<std::uint64_t>();
    const auto attempt = reader.get<std::uint32_t>();
    out << ' ' << shard << '#' << attempt << " '" << reader.get_string() << '\'';
  }
}

inline void show_parts(std::ostream& out, Reader& reader) {
  out << " shard " << reader.get<std::uint64_t>();
  if (const auto attempt = reader.get<std::uint32_t>(); attempt != 1) out << '#' << attempt;
  show_round(out, reader);
  while (!reader.rest().empty()) {
    out << " p" << reader.get<std::uint32_t>();
    out << '=' << reader.get_string();
  }
}

// "lease 0: 5+3 9+1#2": stage 0, shards 5 to 7 at attempt 1, shard 9 at attempt 2.
inline std::string show(MessageKind kind, std::span<const std::byte> payload) {
  std::ostringstream out;
  Reader reader(payload);
  const auto stage = [&] { return reader.get<std::uint16_t>(); };
  if (is_control(kind)) return "control " + std::to_string(static_cast<int>(kind));
  switch (kind) {
    case MessageKind::kOpen:
      out << "open: " << reader.get_string();
      break;
    case MessageKind::kLease:
      out << "lease " << stage() << (reader.get<std::uint8_t>() != 0 ? " steal:" : ":");
      show_round(out, reader);
      reader.get<std::uint64_t>();  // how many reports were taken in
      show_leases(out, reader);
      break;
    case MessageKind::kRecall:
      out << "recall " << stage() << ": " << reader.get<std::uint64_t>();
      break;
    case MessageKind::kFinish: {
      out << "finish " << reader.get<std::int32_t>();
      if (const auto text = reader.get_string(); !text.empty()) out << ": " << text;
      break;
    }
    case MessageKind::kReady: {
      out << "ready";
      if (const auto error = reader.get_string(); !error.empty()) out << " error: " << error;
      for (std::uint32_t left = reader.get<std::uint32_t>(); left-- > 0 && !reader.failed();) {
        out << " kind" << int{reader.get<std::uint8_t>()} << '*' << reader.get<std::uint64_t>();
      }
      break;
    }
    case MessageKind::kResults:
      out << "results " << stage() << ':';
      show_results(out, reader);
      break;
    case MessageKind::kFailures:
      out << "failures " << stage() << ':';
      show_failures(out, reader);
      break;
    case MessageKind::kReturned:
      out << "returned " << stage() << ':';
      show_leases(out, reader);
      break;
    case MessageKind::kAcknowledge:
      out << "acknowledge " << reader.get<std::uint64_t>();
      break;
    case MessageKind::kAnnounce: {
      out << "announce";
      const auto running_stage = stage();
      const ShardRange running = reader.get_range();
      const auto attempt = reader.get<std::uint32_t>();
      for (auto left = reader.get<std::uint32_t>(); left != 0; --left) {
        const auto copy_of = stage();
        out << " has " << copy_of << '/' << reader.get<std::uint32_t>();
        out << '*' << reader.get<std::uint64_t>();
      }
      if (running.count == 0) break;
      out << " running " << running_stage << ": " << running.first.value << '+' << running.count;
      if (attempt != 1) out << '#' << attempt;
      break;
    }
    case MessageKind::kSnapshotTaken:
      out << "snapshot " << reader.get<std::uint64_t>() << " taken";
      if (const auto error = reader.get_string(); !error.empty()) out << " error: " << error;
      if (const auto part = reader.get_string(); !part.empty()) out << ' ' << part;
      break;
    case MessageKind::kCopy:
      out << "copy " << stage() << '/' << reader.get<std::uint32_t>();
      out << '*' << reader.get<std::uint64_t>();
      reader.get<std::uint64_t>();  // hash
      out << ' ' << reader.get_raw(reader.rest().size()).size() << " bytes";
      break;
    case MessageKind::kCopyKept: {
      out << "copy " << stage() << '/' << reader.get<std::uint32_t>();
      out << '*' << reader.get<std::uint64_t>();
      constexpr const char* kVerdicts[] = {" kept", " no room", " damaged", " not now"};
      out << kVerdicts[reader.get<std::uint8_t>() % 4];
      break;
    }
    case MessageKind::kCopyWanted:
      out << "copy " << stage() << '/' << reader.get<std::uint32_t>() << " wanted";
      show_round(out, reader);
      break;
    case MessageKind::kCopyBack:
      out << "copy " << stage() << '/' << reader.get<std::uint32_t>() << " back";
      out << " round " << reader.get<std::uint64_t>();
      reader.get<std::uint64_t>();  // hash
      out << ' ' << reader.get_raw(reader.rest().size()).size() << " bytes";
      break;
    case MessageKind::kCopiesMade:
      out << "copies made: " << reader.get<std::uint32_t>();
      out << ' ' << reader.get<std::uint64_t>() << " bytes";
      if (const auto refused = reader.get<std::uint32_t>()) out << " refused " << refused;
      reader.get<std::uint64_t>();  // cost
      reader.get<std::uint64_t>();  // interval
      reader.get<std::uint64_t>();  // bytes sent
      reader.get<std::uint64_t>();  // time it took
      break;
    case MessageKind::kHoldings:
      out << "holdings " << stage() << ':';
      show_round(out, reader);
      for (const char* from : {" snapshot*", " partner*", " file*"}) {
        if (const auto partitions = reader.get<std::uint32_t>()) out << from << partitions;
      }
      while (!reader.rest().empty()) out << ' ' << reader.get_varint();
      break;
    case MessageKind::kGoodbye:
      out << "goodbye";
      break;
    case MessageKind::kLedger:
      out << "ledger " << reader.get<std::uint64_t>();
      out << (reader.get<EntryForm>() == EntryForm::kState ? " state" : " records");
      reader.get_raw(reader.rest().size());
      break;
    case MessageKind::kLedgerHeld:
      out << "held " << reader.get<std::uint64_t>();
      break;
    case MessageKind::kRegistryRequest: {
      const auto number = reader.get<std::uint64_t>();
      constexpr const char* kOperations[] = {"get ", "put ", "watch "};
      const auto operation = reader.get<std::uint8_t>();
      out << "call " << number << ' ' << kOperations[operation % 3] << reader.get_string();
      if (operation == 1) {
        out << " write " << reader.get<std::uint64_t>();
        out << " after " << reader.get<std::uint64_t>();
        const auto expected = reader.get<std::uint64_t>();
        if (expected != ~std::uint64_t{0}) out << " from " << expected;
        out << " = " << reader.get_string();
      } else if (operation == 2) {
        out << " beyond " << reader.get<std::uint64_t>();
        out << " for " << reader.get<std::int64_t>();
      }
      break;
    }
    case MessageKind::kRegistryAnswer: {
      out << "answer " << reader.get<std::uint64_t>();
      if (const auto status = reader.get<std::uint8_t>(); status != 0)
        out << " status " << int{status};
      out << " version " << reader.get<std::uint64_t>();
      if (const auto value = reader.get_string(); !value.empty()) out << " = " << value;
      break;
    }
    case MessageKind::kLedgerWanted:
      out << "ledger wanted";
      break;
    case MessageKind::kLedgerCopy:
      out << "ledger copy " << reader.get<std::uint64_t>();
      reader.get_raw(reader.get<std::uint64_t>());
      reader.get_raw(reader.rest().size());
      break;
    case MessageKind::kStealRequest:
      out << "steal " << stage();
      break;
    case MessageKind::kStealReply:
      out << "loot " << stage() << ':';
      show_leases(out, reader);
      break;
    case MessageKind::kPartitions:
      out << "parts " << stage() << ':';
      show_parts(out, reader);
      break;
    case MessageKind::kPartitionsTaken: {
      out << "taken " << stage() << ": shard " << reader.get<std::uint64_t>();
      if (const auto attempt = reader.get<std::uint32_t>(); attempt != 1) out << '#' << attempt;
      if (const auto round = reader.get<std::uint32_t>(); round != 0) out << " round " << round;
      if (const auto error = reader.get_string(); !error.empty()) out << " error: " << error;
      break;
    }
    default:
      break;
  }
  if (!reader.complete()) out << " (malformed)";
  return out.str();
}

}  // namespace regroup::testing_roles

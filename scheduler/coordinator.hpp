// The part of the scheduler that only the coordinator has: it opens the job on every rank, leases
// shards, commits each result exactly once, retries and quarantines shards that fail, goes from
// stage to stage, has the result written, and ends the run. What it decides goes to the standbys'
// copies of the ledger, and a worker is told that its results are safe only when a majority has
// them: who takes over goes on from such a copy. Pure, not thread-safe.
//
//   opening --all that is needed is ready--> running (stage by stage) --settled--> finalizing
//   finalizing --written--> closing --every goodbye, or a deadline--> over
//   any state --stop, or a failure the run cannot survive--> closing
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/protocol/ledger.hpp"
#include "runtime/protocol/node.hpp"
#include "scheduler/cell_board.hpp"
#include "scheduler/checkpoint_desk.hpp"
#include "scheduler/copy_desk.hpp"
#include "scheduler/options.hpp"
#include "scheduler/partition_copies.hpp"
#include "scheduler/registry.hpp"
#include "scheduler/shard_bits.hpp"
#include "scheduler/shard_source.hpp"
#include "scheduler/sink.hpp"
#include "scheduler/task_table.hpp"
#include "scheduler/worker.hpp"

namespace regroup {

enum class RunPhase : std::uint8_t { kOpening, kRunning, kFinalizing, kClosing, kOver };

// Partitions that came back after their owners were lost, by RegainedFrom.
using RegainedCounts = std::array<std::uint64_t, kRegainedFrom>;

// A picture of the run, for progress displays and status files.
struct RunProgress {
  RunPhase phase = RunPhase::kOpening;
  std::uint32_t stage = 0;
  std::uint32_t stages = 0;
  std::uint64_t stage_done = 0;  // shards of this stage that are done
  std::uint64_t stage_shards = 0;
  // Of an iterate stage, or the reduce stage after it: what all cells have come to; 0 until that is
  // known. And where they end, if whoever runs the job has said so.
  std::optional<std::uint64_t> step;
  std::uint64_t steps = 0;
  std::uint64_t done = 0;  // over all stages
  std::uint64_t shards = 0;
  std::uint64_t quarantined = 0;
  std::uint64_t retries = 0;
  std::uint64_t duplicates = 0;  // results that had been committed before
  std::uint64_t repeated = 0;    // map shards done again, for partitions that were lost
  RegainedCounts regained{};
  CopyProgress copies;
  Nanoseconds run_time = 0;  // from the first lease to the last commit; 0 before that
  CheckpointProgress checkpoints;
};

class Coordinator {
 public:
  // Work that a lease gives when the batch adapts.
  static constexpr Nanoseconds kLeaseTime = 2 * kMillisecond;
  static constexpr std::uint64_t kLeaseShardsMax = 16'384;
  static constexpr std::size_t kLeaseRangesMax = 64;
  // Leases held ahead: what hides this much latency, within these bounds. Ranks that share a core
  // wait for several time slices of the kernel until their turn comes.
  static constexpr Nanoseconds kLatencyHidden = 16 * kMillisecond;
  static constexpr std::uint64_t kPrefetchMin = 2;
  static constexpr std::uint64_t kPrefetchMax = 1024;
  // No more than this, since values that come out of order wait for those before them.
  static constexpr std::uint64_t kAheadShardsMax = 4 * kLeaseShardsMax;
  // A rank is told that its reports were taken in with a lease, or when there are as many.
  static constexpr std::uint64_t kReportsUntoldMax = 16;
  // Taking shards back from a busy rank pays only if they would wait this long there.
  static constexpr Nanoseconds kRecallWorth = 2 * kMillisecond;
  // A rank's report of what a shard costs is believed up to this.
  static constexpr Nanoseconds kShardTimeMax = 3600 * kSecond;
  // Before a failed shard is tried again: doubled each time.
  static constexpr Nanoseconds kRetryPauseMin = 10 * kMillisecond;
  static constexpr Nanoseconds kRetryPauseMax = 10 * kSecond;
  // Of entries that no majority has, so many are told apart; later ones count with the latest.
  static constexpr std::size_t kEntriesInFlightMax = 64;
  // A larger state is not replicated: with the records after it, it would not fit into the message
  // that a standby hands its copy on with. The run begins anew, or with an older copy, if the
  // coordinator is lost.
  static constexpr std::size_t kReplicatedBytesMax = kMessageBytesMax / 4;
  // Tries to read a checkpoint to go on from.
  static constexpr std::uint32_t kLoadsMax = 3;
  // How long ranks may take to say goodbye.
  static constexpr Nanoseconds kGoodbyeTimeout = 5 * kSecond;

  // `sink` outlives it. `own_worker` is the worker of the same rank. An empty description is to be
  // found out first.
  Coordinator(const ScheduleOptions& options, Buffer job_description, ResultSink& sink,
              Worker& own_worker);

  // Exactly one of these, once: the run begins, or goes on where this copy of the ledger ends. With
  // nothing in the copy, or if the options say so, it goes on from a checkpoint.
  void on_start(Context& context);
  void take_over(Context& context, const LedgerCopy& copy);
  bool on_message(Context& context, RankId from, MessageKind kind, Reader& reader);
  // After some ranks were lost, or came back: what they held is leased to others.
  void on_view(Context& context);
  void on_tick(Context& context);
  void on_described(Context& context, WorkResult& result);
  void on_finalized(Context& context, const WorkResult& result);
  void on_wish(Context& context, Wish wish, const std::string& reason);
  void on_disk(Context& context, DiskAnswer& answer);

  RunProgress progress() const;
  bool ending() const { return state_ == RunPhase::kClosing || state_ == RunPhase::kOver; }

 private:
  struct Peer {
    bool ready = false;
    bool announced = true;  // has said what it holds, in this view
    bool said_goodbye = false;
    std::vector<StagePlan> stages;
    std::uint64_t outstanding = 0;        // shards leased and not heard of again
    std::uint64_t shard_nanoseconds = 0;  // as it reports; 0: not known
    std::uint64_t shards_ahead = 0;       // what hides the latency; 0: not known
    std::uint64_t lease_shards = 1;       // in a lease of an adapting batch
    Nanoseconds heard_at = 0;
    bool recall_pending = false;     // asked, and nothing new heard of what it holds
    std::uint64_t reports = 0;       // messages of results taken in
    std::uint64_t safe = 0;          // of those, what a majority of the replicas has
    std::uint64_t acknowledged = 0;  // of those, as the rank was told
    bool knows_stage = false;        // a rank without a share must know where to steal
    bool knows_owners = false;       // of the map stage's partitions
    std::vector<CopyOffer> offers;   // of partitions, in this view
    CopyProgress copies;             // as it last told

    void take_report(std::uint64_t nanoseconds);  // of what a shard costs it
  };
  // What a rank may be given: shards in the next lease, and in all that it holds.
  struct Allowance {
    std::uint64_t batch = 1;
    std::uint64_t outstanding_max = 1;
  };

  bool on_ready(Context& context, RankId from, Reader& reader);
  bool closes_for_other_job(Context& context);
  bool on_results(Context& context, RankId from, Reader& reader);
  // Of a message of results, as it lies in the message.
  struct ResultEntry {
    ShardRange shards;
    Attempt attempt;
    std::uint32_t value_bytes = 0;
    std::span<const std::byte> values;
  };
  std::optional<ResultEntry> read_result_entry(Reader& reader) const;
  bool results_make_sense(Reader reader, std::uint32_t entries) const;
  bool commit(Context& context, const ResultEntry& entry);
  bool on_failures(Context& context, RankId from, Reader& reader);
  bool on_returned(Context& context, RankId from, Reader& reader);
  std::uint64_t take_back(Context& context, RankId from, ShardRange shards);
  bool on_announce(Context& context, RankId from, Reader& reader);
  bool on_goodbye(Context& context, RankId from, Reader& reader);
  bool on_ledger_held(Context& context, RankId from, Reader& reader);
  void take_charge(Context& context);
  void open_job(Context& context);
  void send_open(Context& context, RankId rank);
  void send_finish(Context& context, RankId rank);
  bool lost_parts(const RankSet& members) const;
  void begin_round(Context& context);
  void deal_lost_when_known(Context& context);
  void find_holders();
  void deal_to_holders();
  void deal_partitions();
  static std::vector<CopyOffer> read_offers(Reader& reader);
  bool on_copies_made(RankId from, Reader& reader);
  CopyProgress copies_made() const;
  std::vector<RankId> owners_in_need() const;
  void send_owners(Context& context, RankId rank);
  bool on_holdings(Context& context, RankId from, Reader& reader);
  void keep_held(Context& context);
  std::uint64_t partitions_of(StageId stage) const;
  void lay_out_stage(Context& context);

  void begin_stage(Context& context);
  void end_stage_if_settled(Context& context);
  void fail_shard(Context& context, RankId rank, ShardId shard, Attempt attempt,
                  const std::string& what);
  void retry_due(Context& context);

  void top_up_all(Context& context);
  void top_up(Context& context, RankId rank);
  Allowance allowance(const Peer& peer) const;
  void lease(Context& context, RankId rank, std::uint64_t shards);
  std::uint64_t put_leases(Context& context, Writer& writer, RankId rank, ShardRange range,
                           std::uint64_t shards_max, std::uint32_t& leases);
  void balance_tail(Context& context);
  bool missing_rank_fails_run(Context& context);
  bool within_stage(ShardRange shards) const;
  bool was_begun(StageId stage) const;
  bool in_stage(StageId stage) const;
  bool leases_shards() const;  // in the stage that runs

  void order_finalize();
  void close(Context& context, int exit_status, std::string message);
  void finish_when_safe(Context& context);
  void hand_over(StageId stage, const ResultEntry& entry);
  void give_up(ShardId shard, Attempt attempt, RankId rank, const std::string& what);
  void take_report_number(Context& context, RankId from, std::uint64_t report);

  // ---- cells (coordinator_cells.cpp) ----
  std::optional<StageId> cell_stage() const;
  void choose_cell_targets();
  void push_file_targets();
  void begin_cells(Context& context);
  void lease_cells(Context& context);
  void send_cells(Context& context, RankId rank);
  void cells_failed(Context& context, std::uint64_t cell, std::uint64_t step,
                    const std::string& what);
  bool on_cell_news(Context& context, RankId from, Reader& reader);
  void commit_cells(Context& context);
  bool on_partials(Context& context, RankId from, Reader& reader);
  void tend_cells(Context& context);
  void name_step(Context& context);
  void send_step(Context& context);
  void cells_kept(Context& context);
  void cells_not_kept(Context& context, const std::string& what);
  bool cells_are_fresh() const;

  // ---- the ledger (coordinator_ledger.cpp) ----
  enum class Record : std::uint8_t { kCommit, kCharge, kQuarantine, kPut, kSeal };
  void begin_ledger_view(Context& context);
  void replicate(Context& context, bool urgent);
  void stop_replicating(Context& context);
  void note_safe(Context& context);
  void acknowledge(Context& context, RankId rank);
  std::size_t state_bytes() const;
  void record_commit(ShardRange shards, std::uint32_t value_bytes,
                     std::span<const std::byte> values);
  void record_charge(ShardId shard);
  void record_quarantine(ShardId shard, Attempt attempt, RankId rank, const std::string& what);
  void finalize(Context& context);
  void save_state(Writer& writer);
  std::expected<void, std::string> load_state(Reader& reader);
  std::expected<void, std::string> load_table(Reader& reader, StageId stage,
                                              std::unique_ptr<TaskTable>& table) const;
  bool replay(Reader& reader);
  bool replay_one(Reader& reader);
  std::expected<void, std::string> inherit();
  void go_on(Context& context);

  // ---- checkpoints (coordinator_checkpoint.cpp) ----
  void load_checkpoint(Context& context);
  void on_loaded(Context& context, DiskAnswer& answer);
  void tend_checkpoint(Context& context);
  void begin_checkpoint(Context& context);
  void write_checkpoint(Context& context, CheckpointNumber number);
  bool on_snapshot_taken(Context& context, RankId from, Reader& reader);
  void seal_checkpoint(Context& context);
  void on_sealed(Context& context, const DiskAnswer& answer);
  void checkpoint_failed(Context& context, const std::string& error);
  void stop_here(Context& context, const std::string& problem);
  void record_seal();
  bool seal_is_known() const;

  // ---- the registry (coordinator_registry.cpp) ----
  bool on_registry_request(Context& context, RankId from, Reader& reader);
  void serve(Context& context, RankId from, const RegistryRequest& request);
  void serve_held(Context& context);
  void send_answers(Context& context);
  bool registry_waits() const;
  void record_put(RankId from, const RegistryRequest& request);
  bool replay_put(Reader& reader);

  ScheduleOptions options_;
  Buffer job_description_;
  ResultSink* sink_;
  Worker* own_worker_;

  RunPhase state_ = RunPhase::kOpening;
  Nanoseconds state_since_ = 0;
  Nanoseconds opening_since_ = 0;
  Nanoseconds running_since_ = 0;
  Nanoseconds run_time_ = 0;
  bool all_ready_ = false;
  std::vector<Peer> peers_;  // by rank
  std::vector<RankId> workers_;
  std::vector<StagePlan> stages_;
  StageId stage_;
  std::unique_ptr<TaskTable> table_;
  std::vector<ShardRange> newly_done_;  // of the entry being read
  RankSet members_;                     // of the view before
  // The epoch in which partitions were last dealt anew, or looked for by who took over.
  std::uint32_t round_ = 0;
  // By partition of the map or reduce stage that runs. Dealt when the map stage begins; afterwards
  // only those whose owner is gone are dealt anew, so that the others keep what they hold.
  std::vector<RankId> owners_;
  bool dealing_ = false;           // partitions were lost; ranks are yet to say what they keep
  std::vector<RankId> holders_;    // by partition: who has the best copy; empty: not known
  RankSet asked_;                  // owners that are yet to say what they hold
  std::optional<ShardBits> held_;  // map shards done before that all who answered hold
  CellBoard cells_;
  std::uint32_t cell_failures_ = 0;  // since cells have come further than where one failed
  std::uint64_t cell_failed_at_ = 0;
  CopyDesk cell_desk_;
  bool naming_ = false;  // cells are being written down, since the desk had it due or a file is to
  Nanoseconds confirmed_at_ = 0;
  std::optional<Nanoseconds> cells_wanted_since_;  // for a checkpoint
  // Of a stage that is run again: what the sink was given before.
  std::map<StageId, std::unique_ptr<TaskTable>> given_;
  std::vector<ShardRange> newly_given_;
  std::unique_ptr<ShardSource> source_;
  std::multimap<Nanoseconds, ShardId> retries_;  // by when they are due
  Nanoseconds balanced_at_ = 0;
  std::uint64_t settled_before_ = 0;  // done in the stages before this one
  std::uint64_t quarantined_ = 0;
  std::uint64_t retry_count_ = 0;
  std::uint64_t duplicates_ = 0;
  std::uint64_t repeated_ = 0;
  RegainedCounts regained_{};
  std::uint64_t copy_rounds_ = 0;
  Outcome outcome_;
  bool finish_sent_ = false;
  LedgerPosition closed_at_ = 0;  // the entry that must be safe before anyone is told

  // What the reports of each rank were when the entry was made.
  struct EntryInFlight {
    LedgerPosition position = 0;
    std::vector<std::uint64_t> reports;  // by rank
  };
  CheckpointDesk checkpoints_;
  bool loading_ = false;  // the disk is asked for a checkpoint to go on from
  std::uint32_t failed_loads_ = 0;
  CheckpointNumber restored_from_;
  RegistryDesk registry_;
  LedgerLeader ledger_;
  std::deque<EntryInFlight> entries_in_flight_;
  std::size_t table_bytes_ = 0;  // of the tables, as the state last had them
  // Once all has settled: the sink is the result's from then on, which may use it up.
  Buffer settled_state_;
  // Took over: ranks may know of decisions that were lost with the coordinator before.
  bool heir_ = false;
  LedgerCopy inherited_;  // until the own rank has opened the job
};

}  // namespace regroup

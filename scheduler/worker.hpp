// The part of the scheduler that every rank has: it keeps the shards leased to this rank, hands
// them to the computing part in slices, sends results back in batches that never hold up a slow
// shard, takes in the parts of partitions it owns, keeps copies of other ranks' partitions, and
// steals from peers when the policy says so.
// Pure, not thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/protocol/node.hpp"
#include "scheduler/cell_worker.hpp"
#include "scheduler/copy_desk.hpp"
#include "scheduler/copy_transfer.hpp"
#include "scheduler/held_parts.hpp"
#include "scheduler/options.hpp"
#include "scheduler/partition_copies.hpp"
#include "scheduler/report_log.hpp"
#include "scheduler/shard_source.hpp"

namespace regroup {

class Worker {
 public:
  // Map shards whose parts the owners have not all taken: more of them wait for no one, fewer
  // starve.
  static constexpr std::size_t kMapShardsInFlightMax = 4;
  // Results go out when they fill this, to stay below an MPI's eager limit.
  static constexpr std::size_t kResultBytesMax = 3584;
  // Results wait no longer than this for company.
  static constexpr Nanoseconds kResultDelayMax = 500 * kMicrosecond;
  // Shards of one order: computing looks at messages between orders.
  static constexpr Nanoseconds kOrderTime = 200 * kMicrosecond;
  static constexpr std::uint64_t kOrderShardsMax = 1024;
  // Between rounds of stealing that found nothing.
  static constexpr Nanoseconds kStealPauseMin = 50 * kMicrosecond;
  static constexpr Nanoseconds kStealPauseMax = 10 * kMillisecond;
  // Of what a failed shard said; the rest is cut off.
  static constexpr std::size_t kFailureTextBytesMax = 4096;
  // The largest value of a shard, and the most that a map shard may have for one rank: what fits
  // into a message with its head.
  static constexpr std::size_t kPayloadBytesMax = kMessageBytesMax - 4096;
  // No more is computed while so much of what was reported is not safe.
  static constexpr std::size_t kUnsafeBytesMax = std::size_t{256} << 20;
  // Results that took less work than this for each of their bytes are not kept until they are safe:
  // memory that no cache holds takes some 0.5 ns a byte to write, and keeping is to cost below one
  // part in a hundred of computing. They are computed again should they be lost, which takes no
  // longer than they took to become safe.
  static constexpr Nanoseconds kWorkPerByteKept = 50;
  // Copies that are on their way to the partner: no more than so many, nor than so many bytes,
  // unless one alone is larger.
  static constexpr std::size_t kCopiesInFlightMax = 16;
  static constexpr std::size_t kCopyBytesInFlightMax = std::size_t{64} << 20;

  Worker(const ScheduleOptions& options)
      : options_(options),
        cells_(options),
        copy_desk_(options.copies, options.checkpoints.failure_interval) {}

  bool on_message(Context& context, RankId from, MessageKind kind, Reader& reader);
  // A copy of a partition whose bytes came beside the frames; without them, they came damaged.
  void on_bulk(Context& context, RankId from, MessageKind kind, Reader header, Buffer bytes,
               const BulkHash& hash);
  // Tells the coordinator of the new view what this rank has done and is doing: at once if it is
  // the one of before, else when it has taken over and asks.
  void on_view(Context& context);
  void on_tick(Context& context);
  void on_work_wanted(Context& context);
  void on_work_finished(Context& context, WorkResult& result);
  // Coordinator only: to be computed before anything else.
  void add_control_order(WorkOrder order) { control_orders_.push_back(std::move(order)); }

  // Coordinator only: goes into the part of the checkpoint that this rank is asked for next.
  void add_to_part(std::vector<StatePiece> pieces) { own_pieces_ = std::move(pieces); }
  void on_disk(Context& context, DiskAnswer& answer);

  bool finished() const { return finished_; }
  // Nothing goes to the coordinator until it asks what this rank has.
  bool awaits_question() const { return awaiting_; }
  std::uint64_t shards_queued() const { return queued_; }

 private:
  struct Lease {
    ShardRange shards;
    Attempt attempt;
  };
  // A map shard that was computed and whose parts are on their way.
  struct MapShard {
    Attempt attempt;
    std::vector<RankId> owners_left;  // who have not taken their parts
    Buffer value;
  };

  // What is being computed.
  struct Running {
    StageId stage;
    ShardRange shards;
    Attempt attempt;
    Epoch epoch;
  };

  // Parts that are being taken in.
  struct Absorbing {
    std::uint32_t round = 0;
    std::vector<std::uint32_t> partitions;
  };
  // This rank's part of a checkpoint, partition by partition.
  struct Part {
    CheckpointNumber number;
    std::size_t partitions_left = 0;
    DiskRequest request;
  };
  // A partition that is being written down, and for what.
  struct Saving {
    CheckpointNumber number;       // 0: for no checkpoint
    std::uint64_t copy_round = 0;  // 0: for no round of copies
    std::uint64_t held = 0;        // map shards in it
    std::shared_ptr<Buffer> bytes;
  };
  // Copies of this rank's partitions are on their way to its partner, one after the other.
  struct CopyRound {
    std::uint64_t number = 0;
    std::size_t saves_left = 0;
    std::deque<std::uint32_t> to_send;
    std::map<std::uint32_t, std::size_t> under_way;  // by partition: bytes
    std::size_t bytes_under_way = 0;
    std::uint64_t refused = 0;
    CopySending sending;
  };
  // Where a partition that is missing is looked for, nearest first.
  enum class Place : std::uint8_t { kPeer, kHere, kDisk, kNowhere };
  static Place place_after(Place place) {
    return static_cast<Place>(static_cast<std::uint8_t>(place) + 1);
  }
  struct Sought {
    Place place = Place::kPeer;
    RegainedFrom from = RegainedFrom::kPartner;
    PartitionCopy copy;  // once it is found
  };
  // Partitions that are coming back.
  struct Regaining {
    CheckpointNumber checkpoint;
    std::vector<RankId> holders;           // by partition: who has the best copy
    std::map<std::uint32_t, Sought> left;  // by partition
    std::vector<std::uint32_t> for_disk;   // to be asked for
    std::vector<std::uint32_t> asked_of_disk;
  };
  struct Copied {
    std::uint64_t held = 0;  // map shards
    std::uint64_t bytes = 0;
  };
  struct Restoring {
    std::uint32_t round = 0;
    RegainedFrom from = RegainedFrom::kFile;
    ShardBits held;
  };

  bool on_open(Context& context, Reader& reader);
  bool on_lease(Context& context, Reader& reader);
  bool on_recall(Context& context, Reader& reader);
  bool on_steal_request(Context& context, RankId from, Reader& reader);
  bool on_steal_reply(Context& context, RankId from, Reader& reader);
  bool on_owners(Context& context, Reader& reader);
  bool on_cells(Context& context, Reader& reader);
  bool on_partitions(Context& context, RankId from, Reader& reader);
  bool on_snapshot(Context& context, Reader& reader);
  bool on_copy(Context& context, RankId from, Reader& reader, BulkCopy* bulk = nullptr);
  bool on_copy_kept(Context& context, RankId from, Reader& reader);
  bool on_copy_wanted(Context& context, RankId from, Reader& reader);
  bool on_copy_back(Context& context, Reader& reader, BulkCopy* bulk = nullptr);
  bool on_partitions_taken(Context& context, RankId from, Reader& reader);
  bool on_acknowledge(Reader& reader);
  bool on_finish(Context& context, Reader& reader);

  void enter_stage(StageId stage);
  void enter_round(std::uint32_t round);
  void discard_all();
  void announce(Context& context);
  void send_ready(Context& context);
  void take_acknowledgement(std::uint64_t reports);
  void enqueue(ShardRange shards, Attempt attempt);
  void enqueue_leases(Reader& reader);
  std::vector<Lease> give_away(std::uint64_t count);
  void send_leases(Context& context, RankId to, MessageKind kind, StageId stage,
                   std::span<const Lease> leases);
  std::uint64_t order_shards_max() const;
  void steal(Context& context);

  void opened(Context& context, WorkResult& result);
  void ran(Context& context, WorkResult& result);
  void send_partitions(Context& context, WorkResult& result);
  bool parts_make_sense(StageId stage, Reader reader) const;
  bool holds_all(StageId stage, ShardId shard, Reader parts) const;
  bool take_missing(WorkOrder& order);
  void tell_holdings(Context& context);
  bool prepare(Context& context, WorkOrder& order);

  bool is_cells(StageId stage) const {
    return stage.value < stages_.size() && stages_[stage.value].kind == StageKind::kIterate;
  }

  // ---- checkpoints (worker_checkpoint.cpp) ----
  bool write_cells(Context& context, CheckpointNumber number, StageId stage,
                   const std::vector<std::uint32_t>& cells);
  void begin_saving(WorkOrder& order);
  void saved(Context& context, WorkResult& result);
  void begin_part(Context& context, CheckpointNumber number);
  void write_part(Context& context);
  void tell_part(Context& context, std::string_view error, std::string_view part);
  void drop_checkpoint_work();

  // ---- copies in memory, and partitions that come back (worker_copies.cpp) ----
  bool keeps_snapshots() const { return copy_desk_.on() && partner_ != kNobody; }
  void find_partner(Context& context);
  void put_offers(Writer& writer) const;
  void forget_copies_before(StageId stage);
  void tend_copies(Context& context);
  void begin_copies(Context& context);
  void open_copy_round(std::size_t saves);
  void drop_copies();
  void keep_snapshot(Context& context, PartitionId partition, const Saving& saving);
  void send_next_copy(Context& context);
  void send_copy(Context& context, RankId to, MessageKind kind, PartitionId partition,
                 std::uint64_t tag, const PartitionCopy& copy);
  void end_copies(Context& context);
  CopyVerdict take_copy(Context& context, RankId from, PartitionId partition, std::uint64_t hash,
                        std::shared_ptr<Buffer> bytes);
  std::shared_ptr<Buffer> kept_copy(const Reader& reader, BulkCopy* bulk);
  bool may_send_another(const PartitionCopy& copy) const;
  void regain_missing(Context& context, CheckpointNumber checkpoint, std::vector<RankId> holders);
  void look_for(Context& context, std::uint32_t partition, Place place);
  bool find_here(Context& context, std::uint32_t partition);
  void found(std::uint32_t partition, Place place, RegainedFrom from, PartitionCopy copy);
  void go_on_regaining(Context& context);
  void on_loaded(Context& context, DiskAnswer& answer);
  bool begin_restoring(Context& context, WorkOrder& order);
  void restored(Context& context, const WorkResult& result);

  void absorbed(Context& context, const WorkResult& result);
  void acknowledge_partitions(Context& context, RankId to, StageId stage, ShardId shard,
                              Attempt attempt, std::string_view error);
  bool knows_owners(StageId stage) const;
  void fail_oversized(WorkResult& result);
  void add_results(Context& context, const ResultBlock& block, Attempt attempt);
  void add_values(Context& context, ShardRange shards, Attempt attempt, std::uint32_t value_bytes,
                  std::span<const std::byte> values);
  void append_entry(ShardRange shards, Attempt attempt, std::uint32_t value_bytes,
                    std::span<const std::byte> values);
  std::uint64_t room_for(std::uint32_t value_bytes) const;
  void send_results(Context& context);
  bool worth_keeping() const;
  void send_report(Context& context, const ResultReport& report);
  void drop_results();
  void send_failures(Context& context, StageId stage, Attempt attempt,
                     std::span<const ShardFailure> failures);

  const StagePlan& plan() const { return stages_[stage_.value]; }

  ScheduleOptions options_;
  std::vector<StagePlan> stages_;
  std::string open_error_;
  bool opened_ = false;
  StageId stage_;
  bool in_stage_ = false;
  // The epoch in which partitions were last dealt anew, since some were lost with their owners.
  std::uint32_t round_ = 0;
  bool open_wanted_ = false;  // asked to open the job
  RankId coordinator_;        // of the latest view
  bool awaiting_ = false;     // that it asks what this rank has: until then nothing goes to it
  bool finished_ = false;     // told that the run is over

  std::deque<Lease> queue_;
  std::uint64_t queued_ = 0;  // shards in queue_
  std::deque<WorkOrder> control_orders_;
  std::deque<WorkOrder> absorb_orders_;
  std::optional<Running> running_;
  std::optional<Absorbing> absorbing_;
  double shard_nanoseconds_ = 0;  // running mean of the cost of a shard; 0: not known

  // The message of results being filled.
  Buffer results_;
  std::uint32_t result_entries_ = 0;
  std::uint64_t result_shards_ = 0;
  ShardRange last_entry_;
  std::size_t last_entry_offset_ = 0;
  Attempt last_entry_attempt_;
  std::uint32_t last_entry_value_bytes_ = 0;
  Nanoseconds results_sent_at_ = 0;
  ReportLog unsafe_reports_;
  std::uint64_t reports_ = 0;  // sent so far

  std::unordered_map<ShardId, MapShard> map_shards_;
  std::vector<RankId> owners_;  // by partition of the map stage owners_stage_; empty: not known
  StageId owners_stage_;
  HeldParts held_;
  std::vector<StatePiece> own_pieces_;
  std::optional<Part> part_;
  std::optional<Saving> saving_;
  std::optional<Regaining> regaining_;
  std::optional<Restoring> restoring_;
  std::array<std::uint32_t, kRegainedFrom> regained_{};  // partitions, as yet untold

  CellWorker cells_;

  PartitionCopies copies_;
  CopyDesk copy_desk_;
  RankId partner_ = kNobody;
  Epoch partner_since_;                     // the view in which it was looked for
  std::map<std::uint32_t, Copied> copied_;  // by partition: what the partner has of it
  std::optional<CopyRound> copying_;
  std::uint64_t copy_rounds_ = 0;

  bool peers_steal_ = false;
  bool steal_waiting_ = false;
  std::uint32_t steal_misses_ = 0;
  std::uint32_t steal_next_ = 0;
  Nanoseconds steal_after_ = 0;
};

}  // namespace regroup

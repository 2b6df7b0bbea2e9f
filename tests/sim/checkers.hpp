// Holds a simulated run against the invariants of the design, by name, on every step and at the
// end. It looks from outside only: at what a Node's step gave out, at the orders a rank computes,
// at what the coordinator commits. The first violation is kept, with the rank, the virtual time and
// the seed; the world stops there. It never changes what it looks at.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "runtime/protocol/node.hpp"
#include "scheduler/ordered_merge.hpp"
#include "tests/sim/ack_checker.hpp"
#include "tests/sim/pretend_job.hpp"
#include "tests/sim/rank_sink.hpp"
#include "tests/sim/registry_checker.hpp"
#include "tests/sim/world_options.hpp"

namespace regroup::sim {

// The merge of all results of a stage. Associative, as a result must be that is the same whatever
// the blocks; not commutative, so that order shows.
struct Digest {
  std::uint64_t hash = 0;
  std::uint64_t shift = 1;  // what the hash is multiplied by when this is put after something
};
struct JoinDigests {
  void operator()(Digest& into, Digest&& next) const {
    into.hash = into.hash * next.shift + next.hash;
    into.shift *= next.shift;
  }
};

class Checkers {
 public:
  Checkers(const WorldOptions& options, const PretendJob& job);

  // ---- what the world reports ----
  void at_time(Nanoseconds now, RankId rank) { now_ = now, rank_ = rank; }
  void after_step(const Node& node, const Output& output);
  void order_begins(const WorkOrder& order);
  void order_ends(const WorkResult& result);
  void in_flight(std::size_t frames);
  void sent(const FrameHeader& header, RankId to, std::span<const std::byte> body);
  void rank_ended(const Node& node, const Outcome& outcome, std::uint64_t damaged_frames);
  void rank_killed(RankId rank);
  // Virtual time or steps ran out before every rank ended.
  void out_of_bounds(const std::string& which);
  void run_ended();

  // Where the rank's commits go when it coordinates.
  RankSink& sink(RankId rank) { return *sinks_[rank.value]; }

  // Told by the world what user code asks and hears.
  RegistryChecker& registry() { return registry_; }

  // The rank has taken over, and does not know of a checkpoint that was told of in that epoch.
  void forgot_checkpoint(RankId rank, Epoch told_in);
  Epoch epoch_of(RankId rank) const { return epochs_[rank.value]; }

  // For checkers that are not of this class: the rank and time are those of at_time().
  void violated(const char* invariant, const std::string& what);
  RankId rank() const { return rank_; }

  // The first violation, on one line.
  const std::optional<std::string>& violation() const { return violation_; }

  // I13: the run ends within this much virtual time, derived from the work and the delays.
  Nanoseconds time_bound() const { return time_bound_; }
  std::uint64_t step_bound() const;

 private:
  enum class Known : std::uint8_t { kNever, kInTime, kLate };
  struct ShardRecord {
    Fate in_events = Fate::kOpen;      // I7, by the event log
    std::optional<RankId> leased_to;   // I9
    std::optional<RankId> running_on;  // I9
    Epoch running_since;
    std::uint32_t attempts_begun = 0;
  };
  struct SentStamp {
    std::uint64_t lamport;
    MessageKind kind;
    Epoch epoch;
    std::vector<std::uint64_t> vector;
  };

  void check_cell_order(const WorkOrder& order);
  std::string name(StageId stage, ShardId shard) const;
  ShardRecord* record(const char* invariant, std::uint64_t stage, ShardId shard);

  void check_view(const Node& node);
  void check_stamps(const Event& event);
  void check_round(const Event& event);
  void check_kept(const Event& event);
  bool may_end_alone(RankId rank) const;
  bool may_lack_quorum() const;
  void check_election(const Event& event);
  void take_fates_of(RankId rank);
  bool of_the_coordinator(const Event& event) const { return event.rank == coordinator_; }
  void note_upset(const Event& event);
  void check_vector(const Node& node);
  void check_lease(const Event& event);
  void check_end_of_lease(const Event& event);
  void check_settled(const Event& event, Fate fate);
  std::uint64_t settled_in(std::uint64_t stage) const;
  void check_complete();
  void check_result();
  void check_message_counts();
  void derive_time_bound();
  Nanoseconds stage_time(StageId stage) const;
  std::uint64_t shards_that_ask(StageId stage) const;
  std::vector<RankId> workers() const;

  WorldOptions options_;
  const PretendJob* job_;
  Nanoseconds now_ = 0;
  RankId rank_;
  std::optional<std::string> violation_;

  std::map<Epoch, View> views_;                                     // by epoch, as first installed
  std::vector<Epoch> epochs_;                                       // by rank
  std::vector<std::uint64_t> lamport_;                              // by rank, of its last event
  std::vector<std::vector<std::uint64_t>> vectors_;                 // by rank
  std::unordered_map<std::uint64_t, std::deque<SentStamp>> links_;  // sent, not received

  std::vector<std::unique_ptr<RankSink>> sinks_;  // by rank
  AckChecker acks_;
  RegistryChecker registry_;
  RankId coordinator_;  // the latest to be elected
  Epoch coordinator_since_;
  // In this step: its sink holds already what the step's later events tell.
  bool elected_now_ = false;
  std::vector<std::vector<ShardRecord>> shards_;  // by stage
  // By stage, epoch and round in it: the step that cells were set to.
  std::map<std::tuple<StageId, Epoch, Attempt>, std::uint64_t> cells_set_;
  std::uint64_t stage_ = 0;  // of the latest lease

  std::array<std::uint64_t, 256> sent_kinds_{};
  std::uint64_t steals_with_loot_ = 0;
  std::uint64_t recalls_with_shards_ = 0;
  std::vector<std::optional<Outcome>> outcomes_;
  RankSet killed_;
  Known upset_known_ = Known::kNever;  // to the coordinator
  Nanoseconds time_bound_ = 0;
};

}  // namespace regroup::sim

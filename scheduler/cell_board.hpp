// What the coordinator knows of the cells of the iterate stage that runs: where they can be set to,
// who is where, at which step they are written down and by whom, and the totals that are being
// added up. It decides at which step all are written down next: ahead of all cells by a margin,
// which doubles whenever some cell was there already, and halves when none was. Says nothing
// itself. Pure, not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "runtime/protocol/rank_set.hpp"
#include "scheduler/cells.hpp"
#include "scheduler/ordered_merge.hpp"
#include "scheduler/partition_copies.hpp"
#include "scheduler/sink.hpp"

namespace regroup {

// Where all cells can be set to.
struct CellTarget {
  CellStart start = CellStart::kBegin;
  std::uint64_t step = 0;
  std::vector<RankId> holders;  // kMemory: by cell, who has a copy
};

// The copies that ranks say they keep: every step of which there is one of each cell, the latest
// last. Of several holders the cell's owner counts, else the one named first.
std::vector<CellTarget> complete_steps(
    StageId stage, std::uint64_t cells, std::span<const RankId> owners,
    std::span<const std::pair<RankId, const std::vector<CopyOffer>*>> offers);

class CellBoard {
 public:
  static constexpr std::uint64_t kMarginMin = 2;
  static constexpr std::uint64_t kMarginMax = std::uint64_t{1} << 40;

  // They are dealt anew, or for the first time: rounds of before are over.
  void reset(std::uint32_t round);
  // Where to try next, best last.
  std::vector<CellTarget>& targets() { return targets_; }
  // Sets out for that target: a round begins.
  void begin(CellTarget target, std::span<const RankId> owners);
  bool begun() const { return begun_; }
  CellRound round() const { return round_; }
  const CellTarget& target() const { return target_; }

  bool is_owner(RankId rank) const { return owners_.contains(rank); }
  // False if its cells are at another step than others'.
  bool restored(RankId rank, std::uint64_t step);
  bool all_restored() const { return begun_ && away_.empty(); }
  void at_steps(RankId rank, std::uint64_t last, std::uint64_t first);
  // True once all are at the end.
  bool ended(RankId rank, std::uint64_t step);
  bool all_ended() const { return all_restored() && going_.empty(); }
  // The step that all cells have come to; 0: not known.
  std::uint64_t last() const;

  // Where all cells stood when they were restored; kNoStep: they are not yet.
  std::uint64_t begin_step() const { return all_restored() ? begin_step_ : kNoStep; }
  // The latest step at which all owners have all cells written down, or kNoStep.
  std::uint64_t confirmed() const { return confirmed_; }
  // There is nothing later to be written down.
  bool end_is_confirmed() const { return all_ended() && confirmed_ == end_; }
  // Whether no step is named, or cells were set to one that is yet to be confirmed.
  bool may_name() const { return all_restored() && pending_ == kNoStep; }
  std::uint64_t name();
  std::uint64_t pending() const { return pending_; }
  // False if it is not the one that is named.
  bool missed(std::uint64_t step, std::uint64_t first);
  // The same of cells that cannot be written down, however far ahead.
  bool save_failed(std::uint64_t step);
  // True when a step is confirmed by that.
  bool kept(RankId rank, std::uint64_t step, Nanoseconds cost);
  Nanoseconds cost() const { return cost_; }  // of the rank that took longest

  // What a rank's cells add at a step: all of them, in any order. False if that makes no sense.
  bool add_partials(ResultSink& sink, StageId stage, RankId rank, std::uint64_t step,
                    std::span<const RankId> owners, Reader reader);
  // Once those of all cells are there.
  std::optional<Buffer> take_totals();
  std::uint64_t totals_step() const { return totals_step_; }

 private:
  struct Add {
    ResultSink* sink = nullptr;
    StageId stage;
    void operator()(Buffer& into, Buffer&& next) const {
      sink->add_to_totals(stage, into, next.view());
    }
  };

  CellRound round_;
  bool begun_ = false;
  std::vector<CellTarget> targets_;
  CellTarget target_;
  RankSet owners_;  // of one cell at least
  RankSet away_;    // those that are yet to be where they begin
  RankSet going_;   // those that are not at the end
  std::uint64_t begin_step_ = kNoStep;
  std::uint64_t end_ = kNoStep;
  std::uint64_t first_ = 0;  // the furthest that was told of
  std::map<RankId, std::uint64_t> last_;

  std::uint64_t margin_ = kMarginMin;
  bool missed_ = false;  // some cell, since the last one that was confirmed
  std::uint64_t pending_ = kNoStep;
  std::uint64_t confirmed_ = kNoStep;
  std::map<RankId, std::uint64_t> kept_;
  Nanoseconds cost_ = 0;

  std::optional<OrderedMerge<Buffer, Add>> totals_;
  std::uint64_t totals_step_ = kNoStep;
  RankSet heard_;  // whose part is in them
};

}  // namespace regroup

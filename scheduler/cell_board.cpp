#include "scheduler/cell_board.hpp"

#include <algorithm>
#include <utility>

#include "runtime/protocol/planted.hpp"
#include "scheduler/shard_source.hpp"

namespace regroup {

std::vector<CellTarget> complete_steps(
    StageId stage, std::uint64_t cells, std::span<const RankId> owners,
    std::span<const std::pair<RankId, const std::vector<CopyOffer>*>> offers) {
  std::map<std::uint64_t, CellTarget> steps;
  for (const auto& [rank, copies] : offers) {
    for (const CopyOffer& offer : *copies) {
      const auto [of_stage, cell] = offer.partition;
      if (of_stage != stage || cell >= cells || offer.held == kNoStep) continue;
      CellTarget& target = steps[offer.held];
      if (target.holders.empty()) target.holders.assign(cells, kNobody);
      const bool owns = cell < owners.size() && owners[cell] == rank;
      if (owns || target.holders[cell] == kNobody) target.holders[cell] = rank;
    }
  }
  std::vector<CellTarget> complete;
  for (auto& [step, target] : steps) {
    if (std::ranges::find(target.holders, kNobody) != target.holders.end()) continue;
    complete.push_back({CellStart::kMemory, step, std::move(target.holders)});
  }
  return complete;
}

// ---- rounds ----

void CellBoard::reset(std::uint32_t round) {
  if (round != round_.round) round_ = {round, 0};
  begun_ = false;
  targets_.clear();
  confirmed_ = pending_ = kNoStep;
}

void CellBoard::begin(CellTarget target, std::span<const RankId> owners) {
  ++round_.attempt;
  begun_ = true;
  target_ = std::move(target);
  owners_ = RankSet(std::vector<RankId>(owners.begin(), owners.end()));
  away_ = going_ = owners_;
  begin_step_ = end_ = kNoStep;
  first_ = 0;
  last_.clear();
  kept_.clear();
  cost_ = 0;
  totals_.reset();
  totals_step_ = kNoStep;
  confirmed_ = pending_ = kNoStep;
}

// What they were set to is with all owners, and on its way to their partners.
bool CellBoard::restored(RankId rank, std::uint64_t step) {
  if (begin_step_ == kNoStep) begin_step_ = step;
  if (step != begin_step_) return false;
  if (target_.start != CellStart::kBegin && kept_.empty()) pending_ = step;
  away_.erase(rank);
  at_steps(rank, step, step);
  return true;
}

void CellBoard::at_steps(RankId rank, std::uint64_t last, std::uint64_t first) {
  first_ = std::max(first_, first);
  last_[rank] = last;
}

bool CellBoard::ended(RankId rank, std::uint64_t step) {
  end_ = step;
  at_steps(rank, step, step);
  going_.erase(rank);
  return all_ended();
}

std::uint64_t CellBoard::last() const {
  if (!all_restored() || last_.size() < owners_.size()) return 0;
  const auto least =
      std::ranges::min_element(last_, {}, [](const auto& one) { return one.second; });
  return least == last_.end() ? 0 : least->second;
}

// ---- snapshots ----

std::uint64_t CellBoard::name() {
  pending_ = first_ + margin_;
  cost_ = 0;
  return pending_;
}

bool CellBoard::missed(std::uint64_t step, std::uint64_t first) {
  first_ = std::max(first_, first);
  if (!save_failed(step)) return false;
  margin_ = std::min(2 * margin_, kMarginMax);
  missed_ = true;
  return true;
}

bool CellBoard::save_failed(std::uint64_t step) {
  if (step == kNoStep || step != pending_) return false;
  pending_ = kNoStep;
  return true;
}

// Cells that come to their end before the step that is named are written down there.
bool CellBoard::kept(RankId rank, std::uint64_t step, Nanoseconds cost) {
  kept_[rank] = step;
  cost_ = std::max(cost_, cost);
  const bool all = std::ranges::all_of(owners_, [&](RankId owner) {
    const auto found = kept_.find(owner);
    return found != kept_.end() && found->second == step;
  });
  if (!all) return false;
  confirmed_ = step;
  first_ = std::max(first_, step);
  pending_ = kNoStep;
  if (!std::exchange(missed_, false)) margin_ = std::max(margin_ / 2, kMarginMin);
  return true;
}

// ---- totals ----

bool CellBoard::add_partials(ResultSink& sink, StageId stage, RankId rank, std::uint64_t step,
                             std::span<const RankId> owners, Reader reader) {
  std::vector<std::pair<std::uint32_t, std::span<const std::byte>>> entries;
  std::vector<bool> seen(owners.size());
  while (!reader.rest().empty()) {
    const auto cell = reader.get<std::uint32_t>();
    entries.emplace_back(cell, reader.get_bytes());
    if (reader.failed() || cell >= owners.size() || owners[cell] != rank || seen[cell])
      return false;
    seen[cell] = true;
  }
  const auto of_rank = std::ranges::count(owners, rank);
  if (reader.failed() || entries.size() != static_cast<std::size_t>(of_rank)) return false;
  if (!totals_) {
    totals_.emplace(owners.size(), Add{&sink, stage});
    totals_step_ = step;
    heard_ = {};
  }
  if (step != totals_step_ || heard_.contains(rank)) return false;
  heard_.insert(rank);
  std::uint64_t next = totals_->settled();
  for (const auto& [cell, bytes] : entries) {
    Buffer partial(bytes);
    const std::uint64_t at = planted(PlantedBug::kAddAsTheyCome) ? next++ : cell;
    totals_->add(ShardId{at}, std::span(&partial, 1));
  }
  return true;
}

std::optional<Buffer> CellBoard::take_totals() {
  if (!totals_ || heard_.size() != owners_.size()) return std::nullopt;
  std::optional<Buffer> totals = totals_->finish();
  totals_.reset();
  return totals ? std::move(totals) : Buffer();
}

}  // namespace regroup

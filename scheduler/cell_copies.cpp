#include "scheduler/cell_copies.hpp"

#include <utility>

namespace regroup {

void CellCopies::begin(RankId self, std::uint64_t bytes_for_others_max) {
  self_ = self;
  bytes_max_ = bytes_for_others_max;
}

bool CellCopies::keep(const CellAt& at, CellCopy copy) {
  const bool own = copy.of == self_;
  if (const auto there = copies_.find(at); there != copies_.end()) {
    if (own && there->second.of != self_) {
      bytes_for_others_ -= there->second.bytes->size();
      there->second.of = self_;
    }
    if (copy.bytes != there->second.bytes) give_back(std::move(copy.bytes));
    return true;
  }
  const std::size_t bytes = copy.bytes->size();
  if (!own && bytes_for_others_ + bytes > bytes_max_) {
    give_back(std::move(copy.bytes));
    return false;
  }
  if (!own) bytes_for_others_ += bytes;
  memory_ += copy.bytes->capacity();
  copies_.emplace(at, std::move(copy));
  return true;
}

const CellCopy* CellCopies::find(const CellAt& at) const {
  const auto found = copies_.find(at);
  return found == copies_.end() ? nullptr : &found->second;
}

template <class Is>
void CellCopies::drop_if(Is is) {
  for (auto it = copies_.begin(); it != copies_.end();) {
    const auto one = it++;
    if (!is(one->first)) continue;
    if (one->second.of != self_) bytes_for_others_ -= one->second.bytes->size();
    memory_ -= one->second.bytes->capacity();
    give_back(std::move(one->second.bytes));
    copies_.erase(one);
  }
}

void CellCopies::drop(const CellAt& at) {
  drop_if([&](const CellAt& one) { return one == at; });
}

void CellCopies::drop_step(StageId stage, std::uint64_t step) {
  drop_if([&](const CellAt& one) { return one.stage == stage && one.step == step; });
}

void CellCopies::drop_steps_before(StageId stage, std::uint64_t step) {
  drop_if([&](const CellAt& one) { return one.stage == stage && one.step < step; });
}

void CellCopies::drop_before(StageId stage) {
  drop_if([&](const CellAt& one) { return one.stage < stage; });
}

void CellCopies::clear() {
  copies_.clear();
  spares_.clear();
  memory_ = bytes_for_others_ = 0;
}

std::vector<CopyOffer> CellCopies::offers() const {
  std::vector<CopyOffer> offers;
  offers.reserve(copies_.size());
  for (const auto& [at, copy] : copies_) offers.push_back({{at.stage, at.cell}, at.step});
  return offers;
}

void CellCopies::give_back(std::shared_ptr<Buffer> bytes) {
  spares_.give(std::move(bytes), kSparesMax, memory_);
}

}  // namespace regroup

// A set of ranks, kept in ascending order, and how it crosses the wire. A value type, not
// thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

class RankSet {
 public:
  RankSet() = default;
  RankSet(std::initializer_list<RankId> ranks) : RankSet(std::vector<RankId>(ranks)) {}
  explicit RankSet(std::vector<RankId> ranks) : ranks_(std::move(ranks)) {
    std::ranges::sort(ranks_);
    ranks_.erase(std::ranges::unique(ranks_).begin(), ranks_.end());
  }

  bool contains(RankId rank) const { return std::ranges::binary_search(ranks_, rank); }
  bool contains_all(const RankSet& other) const {
    return std::ranges::includes(ranks_, other.ranks_);
  }
  // Each returns whether that changed the set.
  bool insert(RankId rank) {
    const auto at = std::ranges::lower_bound(ranks_, rank);
    if (at != ranks_.end() && *at == rank) return false;
    ranks_.insert(at, rank);
    return true;
  }
  bool erase(RankId rank) {
    const auto at = std::ranges::lower_bound(ranks_, rank);
    if (at == ranks_.end() || *at != rank) return false;
    ranks_.erase(at);
    return true;
  }
  bool insert_all(const RankSet& other) {
    const std::size_t before = ranks_.size();
    for (const RankId rank : other) insert(rank);
    return ranks_.size() != before;
  }
  void erase_all(const RankSet& other) {
    std::erase_if(ranks_, [&](RankId rank) { return other.contains(rank); });
  }
  void clear() { ranks_.clear(); }

  std::size_t size() const { return ranks_.size(); }
  bool empty() const { return ranks_.empty(); }
  RankId front() const { return ranks_.front(); }
  std::vector<RankId>::const_iterator begin() const { return ranks_.begin(); }
  std::vector<RankId>::const_iterator end() const { return ranks_.end(); }
  const std::vector<RankId>& list() const { return ranks_; }

  friend bool operator==(const RankSet&, const RankSet&) = default;

 private:
  std::vector<RankId> ranks_;
};

// Their number as u32, then each as u32.
inline void put_ranks(Writer& writer, const RankSet& set) {
  writer.put(static_cast<std::uint32_t>(set.size()));
  for (const RankId rank : set) writer.put(rank);
}

// Empty if they are not there, not in ascending order, or not all below `ranks`.
inline std::optional<RankSet> get_ranks(Reader& reader, std::uint32_t ranks) {
  std::vector<RankId> list(reader.get_count(sizeof(RankId::rep)));
  for (RankId& rank : list) rank = reader.get<RankId>();
  if (reader.failed()) return {};
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (list[i].value >= ranks || (i != 0 && list[i] <= list[i - 1])) return {};
  }
  return RankSet(std::move(list));
}

}  // namespace regroup

// Links between two ranks that carry nothing, in one direction at least, although both ranks live
// and reach others: as those at their ends have found out, and told the rest. A view that has both
// ends of such a link would come to a stop again and again, so one of them is to be left out. A
// value type, bounded, not thread-safe.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/rank_set.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

class DeadLinks {
 public:
  // More of them are not taken in: those that are left stop the next view, and are told of then.
  static constexpr std::size_t kLinksMax = 64;

  // Returns whether that changed the set. In whichever order the two are named.
  bool insert(RankId a, RankId b) {
    const Link link = std::minmax(a, b);
    const auto at = std::ranges::lower_bound(links_, link);
    if (a == b || (at != links_.end() && *at == link) || links_.size() == kLinksMax) return false;
    links_.insert(at, link);
    return true;
  }
  bool insert_all(const DeadLinks& other) {
    bool news = false;
    for (const auto& [low, high] : other.links_) news |= insert(low, high);
    return news;
  }
  void clear() { links_.clear(); }
  bool empty() const { return links_.empty(); }

  // Of those in `ranks` but `keep`, whoever has the most dead links to others in it; the highest
  // of several. Nobody if there is no dead link among them.
  std::optional<RankId> worst_end(const RankSet& ranks, RankId keep) const {
    std::optional<RankId> worst;
    std::ptrdiff_t most = 0;
    for (const RankId rank : ranks) {
      const std::ptrdiff_t count = rank == keep ? 0 : count_of(rank, ranks);
      if (count == 0 || count < most) continue;
      most = count;
      worst = rank;
    }
    return worst;
  }

  // Their number as u32, then the two ends of each, the lower one first, in ascending order.
  void put(Writer& writer) const {
    writer.put(static_cast<std::uint32_t>(links_.size()));
    for (const auto& [low, high] : links_) {
      writer.put(low);
      writer.put(high);
    }
  }
  // Empty if they are not there, too many, out of order, or not all of ranks below `ranks`.
  static std::optional<DeadLinks> get(Reader& reader, std::uint32_t ranks) {
    DeadLinks links;
    links.links_.resize(reader.get_count(2 * sizeof(RankId::rep)));
    for (auto& [low, high] : links.links_) {
      low = reader.get<RankId>();
      high = reader.get<RankId>();
    }
    const auto malformed = [&](const Link& link) {
      return link.first >= link.second || link.second.value >= ranks;
    };
    const bool ascending =
        std::ranges::adjacent_find(links.links_, std::greater_equal<>()) == links.links_.end();
    if (reader.failed() || links.links_.size() > kLinksMax || !ascending ||
        std::ranges::any_of(links.links_, malformed)) {
      return {};
    }
    return links;
  }

  friend bool operator==(const DeadLinks&, const DeadLinks&) = default;

 private:
  using Link = std::pair<RankId, RankId>;

  std::ptrdiff_t count_of(RankId rank, const RankSet& others) const {
    return std::ranges::count_if(links_, [&](const Link& link) {
      return (link.first == rank && others.contains(link.second)) ||
             (link.second == rank && others.contains(link.first));
    });
  }

  std::vector<Link> links_;  // the lower end first; in ascending order
};

}  // namespace regroup

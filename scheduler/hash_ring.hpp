// Which rank is the home of which key, such that losing one of n ranks moves about 1/n of the keys.
// Consistent hashing with virtual nodes (Karger et al., STOC 1997, section 4), and for whole sets
// of keys the bounded loads of Mirrokni, Thorup and Zadimoghaddam (SODA 2018, section 1): no member
// gets more than ceil((1 + epsilon) * keys / members). A ring is a pure function of its arguments,
// the order of the members excepted, so that every rank computes the same one and no placement ever
// travels. It never changes once built: a new view builds a new ring.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/protocol/ids.hpp"

namespace regroup {

struct HashRingOptions {
  std::uint32_t virtual_nodes = 256;  // points on the ring of a member of weight 1, 1 to 65,536
  double epsilon = 0.1;               // slack over the mean load, 0 to kEpsilonMax, kept to 1e-6
  std::uint64_t seed = 0;             // another seed is another, independent ring
};

// Immutable, so safe to read from several threads. Costs about 24 bytes a point.
class HashRing {
 public:
  static constexpr double kEpsilonMax = 1000;
  static constexpr double kWeightMin = 1.0 / 64;
  static constexpr double kWeightMax = 64;
  static constexpr std::size_t kPointsMax = std::size_t{1} << 28;

  // Members are distinct and at least one; the limits above hold for the rest (all checked).
  // `weights` is empty (every member weighs 1) or gives each member its weight, kept to 1/1024:
  // points and load bound are proportional to it.
  explicit HashRing(std::span<const RankId> members, const HashRingOptions& options = {},
                    std::span<const double> weights = {});

  // The owner of the first point clockwise from the key, whatever its load. O(1).
  RankId home(std::uint64_t key) const;

  // Homes of the keys 0 to key_count-1 (at most 2^32) with bounded load. As many keys as the bound
  // allows stay at home(key), lowest keys first; each of the others goes on clockwise to the first
  // member with room. Thus no key passes a member that is not full in the end (the invariant the
  // paper's bound on moves rests on), and the keys away from home are the fewest possible.
  // O(points + key_count).
  std::vector<RankId> place(std::uint64_t key_count) const;

  // The most keys that place(key_count) gives to one member, which must be of the ring.
  std::uint64_t capacity(RankId member, std::uint64_t key_count) const;

  // In ascending order.
  std::span<const RankId> members() const { return members_; }
  std::size_t memory_bytes() const;

 private:
  struct Point {
    std::uint64_t position;
    std::uint32_t member;  // index in members_
    friend auto operator<=>(const Point&, const Point&) = default;
  };

  void adopt_members(std::span<const RankId> members, std::span<const double> weights);
  void sort_points(std::span<const Point> points);
  std::size_t bucket_of(std::uint64_t position) const { return position >> bucket_shift_; }
  std::uint32_t first_point(std::uint64_t key) const;
  std::uint64_t capacity_at(std::size_t member, std::uint64_t key_count) const;
  std::vector<std::uint64_t> capacities(std::uint64_t key_count) const;
  // Places each of `keys`, a range in ascending order, in the room of the members.

  HashRingOptions options_;
  std::vector<RankId> members_;
  std::vector<std::uint64_t> weights_;  // in 1/1024, index as members_
  std::uint64_t weight_total_ = 0;
  std::vector<Point> points_;  // clockwise
  // Points are spread evenly, so about one falls in each of 2^k buckets of positions: the bucket's
  // first point, then a step or two, finds any position.
  std::vector<std::uint32_t> bucket_first_;  // one more than there are buckets
  int bucket_shift_ = 63;
};

}  // namespace regroup

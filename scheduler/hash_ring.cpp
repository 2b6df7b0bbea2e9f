#include "scheduler/hash_ring.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <utility>

#include <xxhash.h>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

static_assert(std::endian::native == std::endian::little,
              "hashes are taken of little-endian bytes");

constexpr std::uint64_t kWeightUnit = 1024;
constexpr std::uint64_t kEpsilonUnit = 1'000'000;
constexpr std::uint64_t kKeysMax = std::uint64_t{1} << 32;

// Points and keys are hashed apart: otherwise key k would fall on the point made from the same
// number.
constexpr std::uint64_t kPointSalt = 0x706f696e74;  // "point"
constexpr std::uint64_t kKeySalt = 0x6b6579;        // "key"

std::uint64_t hash(std::uint64_t value, std::uint64_t seed) {
  return XXH3_64bits_withSeed(&value, sizeof value, seed);
}

std::uint64_t weight_units(double weight) {
  REGROUP_CHECK(weight >= HashRing::kWeightMin && weight <= HashRing::kWeightMax,
                "the weight of a member of a hash ring is out of range");
  return static_cast<std::uint64_t>(std::llround(weight * kWeightUnit));
}

// Leads from any point to the first one at or after it whose member has room. Full members never
// get room again, so paths are halved as they are walked and a sweep costs near O(1) a step.
class OpenPoints {
 public:
  explicit OpenPoints(std::size_t points) : next_(points) {
    std::iota(next_.begin(), next_.end(), 1U);
    next_.back() = 0;
  }

  template <class IsFull>
  std::uint32_t find(std::uint32_t point, IsFull is_full) {
    while (is_full(point)) {
      const std::uint32_t next = next_[point];
      if (is_full(next)) next_[point] = next_[next];
      point = next;
    }
    return point;
  }

 private:
  std::vector<std::uint32_t> next_;
};

}  // namespace

HashRing::HashRing(std::span<const RankId> members, const HashRingOptions& options,
                   std::span<const double> weights)
    : options_(options) {
  REGROUP_CHECK(!members.empty(), "a hash ring has at least one member");
  REGROUP_CHECK(weights.empty() || weights.size() == members.size(),
                "a hash ring has a weight for each member or none at all");
  REGROUP_CHECK(options.virtual_nodes >= 1 && options.virtual_nodes <= 65'536,
                "the virtual nodes of a hash ring are out of range");
  REGROUP_CHECK(options.epsilon >= 0 && options.epsilon <= kEpsilonMax,
                "the epsilon of a hash ring is out of range");
  adopt_members(members, weights);

  std::vector<Point> points;
  points.reserve(members_.size() * options_.virtual_nodes);
  for (std::uint32_t member = 0; member < members_.size(); ++member) {
    const std::uint64_t share = options_.virtual_nodes * weights_[member];
    const std::uint64_t nodes = std::max<std::uint64_t>(1, (share + kWeightUnit / 2) / kWeightUnit);
    REGROUP_CHECK(points.size() + nodes <= kPointsMax, "a hash ring has too many points");
    const std::uint64_t name = std::uint64_t{members_[member].value} << 32;
    for (std::uint64_t node = 0; node < nodes; ++node) {
      points.push_back({hash(name | node, options_.seed ^ kPointSalt), member});
    }
  }
  sort_points(points);
}

// Sorts members, and their weights along with them, so that the order they came in has no effect.
void HashRing::adopt_members(std::span<const RankId> members, std::span<const double> weights) {
  std::vector<std::pair<RankId, std::uint64_t>> sorted;
  sorted.reserve(members.size());
  for (std::size_t i = 0; i < members.size(); ++i) {
    sorted.emplace_back(members[i], weights.empty() ? kWeightUnit : weight_units(weights[i]));
  }
  std::ranges::sort(sorted);
  for (const auto& [member, weight] : sorted) {
    REGROUP_CHECK(members_.empty() || members_.back() != member,
                  "the members of a hash ring are distinct");
    members_.push_back(member);
    weights_.push_back(weight);
    weight_total_ += weight;
  }
}

// A bucket sort: hashes are spread evenly, and the buckets are needed for look-ups anyway.
void HashRing::sort_points(std::span<const Point> points) {
  const int bucket_bits = std::max(1, static_cast<int>(std::bit_width(points.size() - 1)));
  bucket_shift_ = 64 - bucket_bits;
  bucket_first_.assign((std::size_t{1} << bucket_bits) + 1, 0);
  for (const Point& point : points) ++bucket_first_[bucket_of(point.position) + 1];
  std::partial_sum(bucket_first_.begin(), bucket_first_.end(), bucket_first_.begin());

  points_.resize(points.size());
  std::vector<std::uint32_t> fill(bucket_first_.begin(), bucket_first_.end() - 1);
  for (const Point& point : points) points_[fill[bucket_of(point.position)]++] = point;
  for (std::size_t bucket = 0; bucket + 1 < bucket_first_.size(); ++bucket) {
    std::sort(points_.begin() + bucket_first_[bucket], points_.begin() + bucket_first_[bucket + 1]);
  }
}

std::uint32_t HashRing::first_point(std::uint64_t key) const {
  const std::uint64_t position = hash(key, options_.seed ^ kKeySalt);
  std::uint32_t point = bucket_first_[bucket_of(position)];
  while (point < points_.size() && points_[point].position < position) ++point;
  return point < points_.size() ? point : 0;
}

RankId HashRing::home(std::uint64_t key) const {
  return members_[points_[first_point(key)].member];
}

std::vector<RankId> HashRing::place(std::uint64_t key_count) const {
  struct Displaced {
    std::uint64_t key;
    std::uint32_t point;
  };
  std::vector<RankId> homes(key_count);
  std::vector<std::uint64_t> room = capacities(key_count);
  std::vector<Displaced> displaced;
  for (std::uint64_t key = 0; key < key_count; ++key) {
    const std::uint32_t point = first_point(key);
    const std::uint32_t member = points_[point].member;
    if (room[member] == 0) {
      displaced.push_back({key, point});
      continue;
    }
    --room[member];
    homes[key] = members_[member];
  }
  if (displaced.empty()) return homes;

  OpenPoints open(points_.size());
  for (const Displaced& one : displaced) {
    const std::uint32_t point =
        open.find(one.point, [&](std::uint32_t at) { return room[points_[at].member] == 0; });
    --room[points_[point].member];
    homes[one.key] = members_[points_[point].member];
  }
  return homes;
}

std::vector<std::uint64_t> HashRing::capacities(std::uint64_t key_count) const {
  REGROUP_CHECK(key_count <= kKeysMax, "too many keys to place on a hash ring");
  std::vector<std::uint64_t> room(members_.size());
  std::uint64_t room_total = 0;
  for (std::size_t member = 0; member < room.size(); ++member) {
    room[member] = capacity_at(member, key_count);
    room_total += room[member];
  }
  REGROUP_CHECK(room_total >= key_count, "the members of a hash ring have no room for all keys");
  return room;
}

std::uint64_t HashRing::capacity(RankId member, std::uint64_t key_count) const {
  const auto at = std::ranges::lower_bound(members_, member);
  REGROUP_CHECK(at != members_.end() && *at == member, "no such member in the hash ring");
  return capacity_at(static_cast<std::size_t>(at - members_.begin()), key_count);
}

// In whole numbers, so that every rank rounds alike and the capacities always sum to key_count or
// more.
std::uint64_t HashRing::capacity_at(std::size_t member, std::uint64_t key_count) const {
  using Wide = unsigned __int128;
  const auto slack = static_cast<std::uint64_t>(std::llround(options_.epsilon * kEpsilonUnit));
  const Wide share = Wide{key_count} * (kEpsilonUnit + slack) * weights_[member];
  const Wide whole = Wide{weight_total_} * kEpsilonUnit;
  return std::min(key_count, static_cast<std::uint64_t>((share + whole - 1) / whole));
}

std::size_t HashRing::memory_bytes() const {
  return sizeof *this + members_.capacity() * sizeof(RankId) +
         weights_.capacity() * sizeof(std::uint64_t) + points_.capacity() * sizeof(Point) +
         bucket_first_.capacity() * sizeof(std::uint32_t);
}

}  // namespace regroup

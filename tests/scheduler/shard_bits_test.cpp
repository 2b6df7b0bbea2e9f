// Sets of shards as bits, and the sets of what partitions hold, against sets of numbers.
#include "scheduler/shard_bits.hpp"

#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "scheduler/held_parts.hpp"

namespace regroup {
namespace {

Buffer saved(const ShardBits& bits) {
  Buffer bytes;
  Writer writer(bytes);
  bits.save(writer);
  return bytes;
}

std::set<std::uint64_t> shards_of(const ShardBits& bits) {
  std::set<std::uint64_t> shards;
  for (ShardRange run = bits.next_run(ShardId{0}); run.count != 0; run = bits.next_run(run.end())) {
    for (ShardId shard = run.first; shard < run.end(); ++shard.value) shards.insert(shard.value);
  }
  return shards;
}

TEST(ShardBits, IsASet) {
  std::mt19937 random(7);
  for (const std::uint64_t shards : {0u, 1u, 63u, 64u, 65u, 300u}) {
    ShardBits bits(shards);
    std::set<std::uint64_t> expected;
    for (int i = 0; i < 40 && shards != 0; ++i) {
      const std::uint64_t first = random() % shards;
      const std::uint64_t count = 1 + random() % std::min<std::uint64_t>(shards - first, 9);
      bits.insert(ShardRange{ShardId{first}, count});
      for (std::uint64_t at = first; at < first + count; ++at) expected.insert(at);
      EXPECT_EQ(shards_of(bits), expected);
      EXPECT_EQ(bits.count(), expected.size());
      const Buffer bytes = saved(bits);
      EXPECT_LE(bytes.size(), shards + 11);
      Reader reader(bytes.view());
      EXPECT_EQ(ShardBits::load(reader, shards), bits);
      EXPECT_TRUE(reader.complete());
    }
  }
}

TEST(ShardBits, IntersectionsKeepWhatBothHave) {
  ShardBits some(100), others(100);
  some.insert(ShardRange{ShardId{10}, 60});
  others.insert(ShardRange{ShardId{50}, 50});
  some.intersect(others);
  EXPECT_EQ(some.next_run(ShardId{0}), (ShardRange{ShardId{50}, 20}));
  EXPECT_EQ(some.next_run(ShardId{70}).count, 0u);
}

TEST(ShardBits, WhatIsNoSetIsNotLoaded) {
  const auto loads = [](const std::vector<std::uint64_t>& runs) {
    Buffer bytes;
    Writer writer(bytes);
    for (const std::uint64_t run : runs) writer.put_varint(run);
    Reader reader(bytes.view());
    return ShardBits::load(reader, 10).has_value();
  };
  EXPECT_TRUE(loads({10}));
  EXPECT_TRUE(loads({0, 10}));
  EXPECT_TRUE(loads({3, 4, 3}));
  EXPECT_FALSE(loads({})) << "cut short";
  EXPECT_FALSE(loads({3, 4})) << "cut short";
  EXPECT_FALSE(loads({11})) << "beyond the stage";
  EXPECT_FALSE(loads({3, ~0ull})) << "beyond the stage, and wraps";
  EXPECT_FALSE(loads({3, 0, 7})) << "a run of none";
}

TEST(HeldParts, AllPartitionsHaveWhatEachHas) {
  constexpr StageId kMap{2};
  constexpr std::uint64_t kShards = 80;
  HeldParts held;
  for (const std::uint64_t shard : {3u, 70u, 5u}) held.take(kMap, 1, ShardId{shard}, kShards);
  for (const std::uint64_t shard : {70u, 4u, 3u}) held.take(kMap, 9, ShardId{shard}, kShards);
  EXPECT_TRUE(held.has(kMap, 1, ShardId{5}));
  EXPECT_FALSE(held.has(kMap, 9, ShardId{5}));
  EXPECT_FALSE(held.has(StageId{0}, 1, ShardId{5})) << "of another stage";
  const auto in_all = [&](std::vector<std::uint32_t> partitions) {
    return shards_of(held.in_all(kMap, partitions, kShards));
  };
  EXPECT_EQ(in_all({1, 9}), (std::set<std::uint64_t>{3, 70}));
  EXPECT_EQ(in_all({1, 9, 2}), std::set<std::uint64_t>{}) << "one has none";
  EXPECT_EQ(in_all({}).size(), kShards);
  held.clear();
  EXPECT_EQ(in_all({1}), std::set<std::uint64_t>{});
}

}  // namespace
}  // namespace regroup

#include "jobs/combine_table.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/jobs/error_of.hpp"

namespace regroup {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Count = std::uint64_t;
using Counts = CombineTable<Count, Sum>;
using Model = std::map<std::string, Count>;

struct Range {
  std::int32_t low = 0;
  std::int32_t high = 0;
  friend bool operator==(const Range&, const Range&) = default;
};
struct Widen {
  void operator()(Range& into, const Range& next) const {
    into.low = std::min(into.low, next.low);
    into.high = std::max(into.high, next.high);
  }
};

Model contents(const Counts& table) {
  Model model;
  table.for_each([&](std::string_view key, Count value) {
    EXPECT_TRUE(model.emplace(key, value).second) << "visited twice: " << key;
  });
  return model;
}

// Keys of all lengths around the inline limit, with shared beginnings and zero bytes.
std::string random_key(std::mt19937_64& random) {
  std::string key(random() % 8 == 0 ? random() % 300 : random() % 20, 'x');
  for (char& byte : key)
    if (random() % 4 == 0) byte = static_cast<char>(random() % 3 == 0 ? random() : 0);
  return key;
}

std::vector<std::string> random_keys(std::uint64_t seed, int count) {
  std::mt19937_64 random(seed);
  std::vector<std::string> keys;
  for (int i = 0; i < count; ++i) keys.push_back(random_key(random));
  return keys;
}

std::vector<std::vector<std::byte>> encoded(const Counts& table, std::size_t partitions) {
  std::vector<Buffer> buffers(partitions);
  table.encode(buffers);
  std::vector<std::vector<std::byte>> bytes;
  for (const Buffer& buffer : buffers)
    bytes.emplace_back(buffer.view().begin(), buffer.view().end());
  return bytes;
}

TEST(CombineTable, AgreesWithAnOrderedMap) {
  Counts table;
  Model model;
  Count next = 1;
  for (const std::string& key : random_keys(1, 50'000)) {
    table.add(key, next);
    model[key] += next++;
  }
  EXPECT_EQ(table.size(), model.size());
  EXPECT_EQ(contents(table), model);
  for (const auto& [key, value] : model) {
    ASSERT_NE(table.find(key), nullptr);
    EXPECT_EQ(*table.find(key), value);
  }
}

TEST(CombineTable, KeysThatDifferOnlyInTrailingZerosAreDifferent) {
  Counts table;
  for (std::size_t length = 0; length <= 20; ++length) table.add(std::string(length, '\0'), length);
  EXPECT_EQ(table.size(), 21u);
  for (std::size_t length = 0; length <= 20; ++length)
    EXPECT_EQ(*table.find(std::string(length, '\0')), length);
}

TEST(CombineTable, LongKeysThatDifferInOneByteAreDifferent) {
  for (const std::size_t length : {9u, 15u, 16u, 17u, 31u, 100u}) {
    Counts table;
    const std::string key(length, 'k');
    table.add(key, 1);
    for (std::size_t i = 0; i < length; ++i) {
      std::string other = key;
      other[i] = 'o';
      table.add(other, 1);
    }
    EXPECT_EQ(table.size(), length + 1);
    EXPECT_EQ(*table.find(key), 1u);
  }
}

// A slot keeps half of the hash: among this many keys some pairs share it, and only a comparison of
// the keys themselves tells them apart.
TEST(CombineTable, KeysThatShareTheKeptHalfOfTheHashAreDifferent) {
  constexpr std::uint32_t kKeys = 300'000;
  for (const char* beginning : {"", "a long beginning "}) {
    Counts table;
    std::set<std::uint32_t> kept_halves;
    for (std::uint32_t i = 0; i < kKeys; ++i) {
      const std::string key = beginning + std::to_string(i + kKeys);
      kept_halves.insert(static_cast<std::uint32_t>(key_hash(key)));
      table.add(key, 1);
    }
    ASSERT_LT(kept_halves.size(), kKeys);
    EXPECT_EQ(table.size(), kKeys);
  }
}

TEST(CombineTable, FindsNothingThatWasNotAdded) {
  Counts table;
  table.add("there", 1);
  EXPECT_EQ(table.find("not there"), nullptr);
  EXPECT_EQ(table.find(""), nullptr);
  EXPECT_EQ(Counts().find("there"), nullptr);
}

TEST(CombineTable, CombinesWithTheGivenCallable) {
  CombineTable<Range, Widen> table;
  table.add("x", {1, 2});
  table.add("x", {-4, 0});
  table.add("x", {0, 9});
  EXPECT_EQ(*table.find("x"), (Range{-4, 9}));
}

TEST(CombineTable, ClearForgetsEntriesAndKeepsMemory) {
  Counts table;
  const auto keys = random_keys(2, 20'000);
  for (const auto& key : keys) table.add(key, 1);
  const std::size_t memory_bytes = table.memory_bytes();

  table.clear();
  EXPECT_TRUE(table.empty());
  EXPECT_EQ(table.find(keys[0]), nullptr);
  for (const auto& key : keys) table.add(key, 1);

  EXPECT_EQ(table.memory_bytes(), memory_bytes);
  EXPECT_EQ(*table.find(keys[0]),
            static_cast<Count>(std::count(keys.begin(), keys.end(), keys[0])));
}

TEST(CombineTable, MemoryCountsKeysAndSlots) {
  Counts table;
  const std::size_t before = table.memory_bytes();
  table.add(std::string(1 << 20, 'k'), 1);
  EXPECT_GE(table.memory_bytes(), before + (1 << 20));
}

TEST(CombineTable, EncodedBytesDoNotDependOnInsertionOrderOrHistory) {
  auto keys = random_keys(3, 20'000);
  Counts one;
  for (const auto& key : keys) one.add(key, 1);

  Counts other;
  for (const auto& key : random_keys(4, 60'000)) other.add(key, 1);
  other.clear();
  std::shuffle(keys.begin(), keys.end(), std::mt19937_64(5));
  for (const auto& key : keys) other.add(key, 1);

  for (const std::size_t partitions : {1u, 3u, 16u})
    EXPECT_EQ(encoded(one, partitions), encoded(other, partitions));
}

TEST(CombineTable, EachKeyIsEncodedInItsPartitionInByteOrder) {
  Counts table;
  for (const auto& key : random_keys(6, 20'000)) table.add(key, 1);
  std::vector<Buffer> partitions(5);
  table.encode(partitions);

  Model seen;
  for (std::uint32_t p = 0; p < partitions.size(); ++p) {
    EntryListReader<Count> list(partitions[p].view());
    std::string previous;
    while (list.next()) {
      const std::string key(list.entry().key);
      EXPECT_EQ(partition_of(key, 5), p);
      if (list.taken() > 1) {
        EXPECT_LT(previous, key);
      }
      EXPECT_TRUE(seen.emplace(key, list.entry().value).second);
      previous = key;
    }
    EXPECT_TRUE(list.finish());
  }
  EXPECT_EQ(seen, contents(table));
}

TEST(CombineTable, EncodeAppends) {
  Counts table;
  table.add("key", 1);
  Buffer one;
  table.encode({&one, 1});
  Buffer out;
  Writer(out).put(std::uint32_t{77});
  table.encode({&out, 1});
  EXPECT_EQ(out.size(), sizeof(std::uint32_t) + one.size());
  EXPECT_EQ(Reader(out.view()).get<std::uint32_t>(), 77u);
}

TEST(CombineTable, PartitionsAndSlotsOfOnePartitionAreEven) {
  constexpr std::uint32_t kPartitions = 16;
  std::vector<int> in_partition(kPartitions);
  std::set<std::uint64_t> slots;
  for (int i = 0; i < 16'000; ++i) {
    const std::string key = "word" + std::to_string(i);
    const std::uint32_t partition = partition_of(key, kPartitions);
    ++in_partition[partition];
    if (partition == 3) slots.insert(key_hash(key) % 1024);
  }
  // 1000 each: within six standard deviations (31) of it.
  for (const int keys : in_partition) EXPECT_NEAR(keys, 1000, 186);
  // 1000 balls in 1024 urns leave 1/e of them empty.
  EXPECT_NEAR(static_cast<double>(slots.size()), 1024 * (1 - 0.3766), 60);
}

// A changed hash would scatter the keys of older checkpoints over other partitions. One key for
// each range of lengths that XXH3 treats by itself.
TEST(CombineTable, HashIsFixed) {
  std::vector<std::uint64_t> hashes;
  for (const std::size_t length : {0u, 3u, 8u, 16u, 128u, 240u, 1000u})
    hashes.push_back(key_hash(std::string(length, 'k')));
  EXPECT_THAT(hashes, ElementsAre(0xcaf049d6429ea391u, 0xa72d8252770bef6eu, 0x4d2c0a255998be18u,
                                  0xf2961c64f6f0b34au, 0x15866e23b34d53du, 0x7cf59b82491e8840u,
                                  0x6053b27e74f67ba2u));
}

TEST(CombineTable, AbsorbCombinesWhatOthersEncoded) {
  Counts all;
  std::vector<Counts> parts(3);
  int i = 0;
  for (const auto& key : random_keys(7, 30'000)) {
    all.add(key, 1);
    parts[i++ % 3].add(key, 1);
  }
  Counts merged;
  for (const Counts& part : parts) {
    std::vector<Buffer> lists(4);
    part.encode(lists);
    for (const Buffer& list : lists) ASSERT_TRUE(merged.absorb(list.view()));
  }
  EXPECT_EQ(contents(merged), contents(all));
}

TEST(CombineTable, AbsorbOfDamagedBytesIsAnErrorAndChangesNothing) {
  Counts source;
  for (const auto& key : {"a", "bb", "a long key of many bytes", "z"}) source.add(key, 1);
  Buffer bytes;
  source.encode({&bytes, 1});
  Counts table;
  table.add("a", 5);
  const Model before = contents(table);

  for (std::size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(table.absorb(bytes.view().first(size))) << size;
    EXPECT_EQ(contents(table), before);
  }
  Buffer longer(bytes.view());
  *longer.extend(1) = std::byte{1};
  EXPECT_FALSE(table.absorb(longer.view()));
  EXPECT_EQ(contents(table), before);
}

TEST(CombineTable, AbsorbSurvivesEverySingleFlippedByte) {
  Counts source;
  for (const auto& key : {"a", "bb", "a long key of many bytes", "z"}) source.add(key, 1);
  Buffer bytes;
  source.encode({&bytes, 1});
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    for (const std::byte flip : {std::byte{1}, std::byte{0x80}, std::byte{0xff}}) {
      bytes.data()[i] ^= flip;
      Counts table;
      const bool taken = table.absorb(bytes.view()).has_value();
      EXPECT_EQ(table.size(), taken ? 4u : 0u);
      bytes.data()[i] ^= flip;
    }
  }
}

TEST(CombineTable, AbsorbRefusesKeysOutOfOrderAndKeysTwice) {
  for (const auto& [first, second] : {std::pair{"b", "a"}, std::pair{"a", "a"}}) {
    Buffer bytes;
    EntryListWriter list(bytes, 2);
    list.put(first, Count{1});
    list.put(second, Count{1});
    Counts table;
    EXPECT_THAT(error_of(table.absorb(bytes.view())),
                HasSubstr("not in the order of its keys at entry 1"));
    EXPECT_TRUE(table.empty());
  }
}

TEST(CombineTable, SortsByTheCallersOrder) {
  Counts table;
  table.add("rare", 1);
  table.add("common", 9);
  table.add("also common", 9);
  using E = Entry<Count>;
  EXPECT_THAT(table.sorted(ByValueDescendingThenKey{}),
              ElementsAre(E{"also common", 9}, E{"common", 9}, E{"rare", 1}));
  EXPECT_THAT(table.sorted(ByKey{}),
              ElementsAre(E{"also common", 9}, E{"common", 9}, E{"rare", 1}));
}

TEST(CombineTableDeathTest, NoPartitionsIsABrokenInvariant) {
  EXPECT_DEATH(Counts().encode({}), "broken invariant");
}

}  // namespace
}  // namespace regroup

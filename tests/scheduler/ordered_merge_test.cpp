// The ordered merge: the same bits for any order of arrival, and nothing stored when it is in
// order.
#include "scheduler/ordered_merge.hpp"

#include <bit>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/protocol/damaged_bytes.hpp"

namespace regroup {
namespace {

struct Sum {
  void operator()(double& into, double&& next) const { into += next; }
};
struct Join {
  void operator()(std::string& into, std::string&& next) const { into += next; }
};
// Writes the tree of merges down.
struct Bracket {
  void operator()(std::string& into, std::string&& next) const { into = "(" + into + next + ")"; }
};

// A batch of consecutive shards, or one that is skipped.
struct Arrival {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  bool skipped = false;
};

template <class T, class Merge>
std::optional<T> merge_all(const std::vector<T>& values, const std::vector<Arrival>& arrivals,
                           std::uint64_t block_shards) {
  OrderedMerge<T, Merge> merge(values.size(), {}, block_shards);
  for (const Arrival& arrival : arrivals) {
    if (arrival.skipped) {
      merge.skip(ShardId{arrival.first});
      continue;
    }
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(arrival.first);
    std::vector<T> batch(begin, begin + static_cast<std::ptrdiff_t>(arrival.count));
    merge.add(ShardId{arrival.first}, batch);
  }
  return merge.finish();
}

// The definition, as plain as can be: what every order of arrival must give.
template <class T, class Merge>
std::optional<T> oracle(const std::vector<T>& values, const std::vector<bool>& skipped,
                        std::uint64_t block_shards) {
  const Merge merge;
  auto absorb = [&](std::optional<T>& into, T value) {
    if (into) {
      merge(*into, std::move(value));
    } else {
      into = std::move(value);
    }
  };
  std::optional<T> total;
  for (std::size_t begin = 0; begin < values.size(); begin += block_shards) {
    std::optional<T> block;
    for (std::size_t i = begin; i < std::min<std::size_t>(begin + block_shards, values.size());
         ++i) {
      if (!skipped[i]) absorb(block, values[i]);
    }
    if (block) absorb(total, std::move(*block));
  }
  return total;
}

// Cuts the shards into batches of random sizes, some of which are skipped, shard by shard.
std::vector<Arrival> random_arrivals(std::uint64_t shards, std::uint64_t batch_max,
                                     std::vector<bool>& skipped, std::mt19937_64& random) {
  std::vector<Arrival> arrivals;
  skipped.assign(shards, false);
  for (std::uint64_t at = 0; at < shards;) {
    const std::uint64_t count = std::min(shards - at, 1 + random() % batch_max);
    if (random() % 8 == 0) {
      for (std::uint64_t i = 0; i < count; ++i) {
        skipped[at + i] = true;
        arrivals.push_back({at + i, 1, true});
      }
    } else {
      arrivals.push_back({at, count, false});
    }
    at += count;
  }
  return arrivals;
}

double wild_double(std::mt19937_64& random) {
  const double fraction = std::ldexp(static_cast<double>(random() >> 11), -53);
  const int exponent = static_cast<int>(random() % 200) - 100;
  return std::ldexp(random() % 2 == 0 ? fraction : -fraction, exponent);
}

TEST(OrderedMerge, TheTreeIsBlocksOfLeftFolds) {
  OrderedMerge<std::string, Bracket> merge(7, {}, 4);
  std::vector<std::string> values{"a", "b", "c", "d", "e", "f", "g"};

  merge.add(ShardId{0}, values);

  EXPECT_EQ(merge.finish(), "((((ab)c)d)((ef)g))");
}

TEST(OrderedMerge, SkippedShardsLeaveTheTreeAsItIs) {
  OrderedMerge<std::string, Bracket> merge(12, {}, 4);
  std::vector<std::string> a{"a"}, c{"c"}, d{"d"}, i{"i"}, jkl{"j", "k", "l"};

  merge.add(ShardId{9}, jkl);
  for (const std::uint64_t skipped : {7, 5, 4, 1, 6}) merge.skip(ShardId{skipped});
  merge.add(ShardId{3}, d);
  merge.add(ShardId{8}, i);
  merge.add(ShardId{2}, c);
  merge.add(ShardId{0}, a);

  EXPECT_EQ(merge.finish(), "(((ac)d)(((ij)k)l))");
}

TEST(OrderedMerge, IsEmptyWithoutValues) {
  EXPECT_EQ((OrderedMerge<double, Sum>(0).finish()), std::nullopt);

  OrderedMerge<double, Sum> merge(3, {}, 2);
  for (const std::uint64_t shard : {2, 0, 1}) merge.skip(ShardId{shard});

  EXPECT_EQ(merge.settled(), 3U);
  EXPECT_EQ(merge.finish(), std::nullopt);
}

class OrderedMergeRandom : public testing::TestWithParam<std::uint64_t> {};

TEST_P(OrderedMergeRandom, SumsHaveTheSameBitsInAnyOrder) {
  std::mt19937_64 random(GetParam());
  for (const std::uint64_t block_shards : {1UL, 8UL, 1024UL}) {
    std::vector<double> values(1 + random() % 6000);
    for (double& value : values) value = wild_double(random);
    std::vector<bool> skipped;
    auto arrivals = random_arrivals(values.size(), 1 + random() % 2000, skipped, random);
    const auto expected = oracle<double, Sum>(values, skipped, block_shards);

    for (int shuffle = 0; shuffle < 10; ++shuffle) {
      std::shuffle(arrivals.begin(), arrivals.end(), random);

      const auto total = merge_all<double, Sum>(values, arrivals, block_shards);

      ASSERT_EQ(total.has_value(), expected.has_value());
      if (total) {
        ASSERT_EQ(std::bit_cast<std::uint64_t>(*total), std::bit_cast<std::uint64_t>(*expected));
      }
    }
  }
}

TEST_P(OrderedMergeRandom, StringsJoinInShardOrder) {
  std::mt19937_64 random(GetParam());
  for (const std::uint64_t block_shards : {2UL, 64UL, 1024UL}) {
    std::vector<std::string> values(1 + random() % 4000);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::to_string(i) + ",";
    std::vector<bool> skipped;
    auto arrivals = random_arrivals(values.size(), 1 + random() % 300, skipped, random);
    std::shuffle(arrivals.begin(), arrivals.end(), random);

    const auto total = merge_all<std::string, Join>(values, arrivals, block_shards);

    ASSERT_EQ(total, (oracle<std::string, Join>(values, skipped, block_shards)));
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, OrderedMergeRandom, testing::Range<std::uint64_t>(0, 20));

// Guards the test above: with these values a sum in another order does have other bits.
TEST(OrderedMerge, TheValuesOfTheTestAreWild) {
  std::mt19937_64 random(0);
  std::vector<double> values(1000);
  for (double& value : values) value = wild_double(random);
  const double forward = std::accumulate(values.begin(), values.end(), 0.0);

  EXPECT_NE(forward, std::accumulate(values.rbegin(), values.rend(), 0.0));
}

TEST(OrderedMerge, TakesValuesThatCanOnlyMove) {
  using Text = std::unique_ptr<std::string>;
  auto join = [](Text& into, Text&& next) { *into += *next; };
  OrderedMerge<Text, decltype(join)> merge(3, join, 2);

  for (const std::uint64_t shard : {2, 1, 0}) {
    std::vector<Text> one;
    one.push_back(std::make_unique<std::string>(std::to_string(shard)));
    merge.add(ShardId{shard}, one);
  }

  EXPECT_EQ(**merge.finish(), "012");
}

TEST(OrderedMerge, StoresNothingInOrderAndFreesWhatItStored) {
  constexpr std::uint64_t kShards = 1 << 20;
  OrderedMerge<double, Sum> merge(kShards);
  const std::size_t bytes_empty = merge.memory_bytes();
  std::vector<double> batch(64, 1.0);

  std::size_t bytes_max = 0;
  for (std::uint64_t at = 0; at < kShards / 2; at += 64) {
    merge.add(ShardId{at}, batch);
    bytes_max = std::max(bytes_max, merge.memory_bytes());
  }
  EXPECT_LT(bytes_max, bytes_empty + 256);

  // Backwards: each block is stored until it is complete, then only its result is.
  for (std::uint64_t at = kShards; at > kShards / 2 + 64; at -= 64) {
    merge.add(ShardId{at - 64}, batch);
  }
  constexpr std::size_t kBlocks = kShards / 2 / 1024;
  EXPECT_LT(merge.memory_bytes(), bytes_empty + kBlocks * 128 + 1024 * 32);
  merge.add(ShardId{kShards / 2}, batch);
  EXPECT_LE(merge.memory_bytes(), bytes_empty);
  EXPECT_EQ(merge.finish(), static_cast<double>(kShards));
}

// ---- saving and loading ----

struct DoubleCodec {
  void encode(Writer& writer, double value) const { writer.put(value); }
  std::optional<double> decode(Reader& reader) const { return reader.get<double>(); }
};
struct StringCodec {
  void encode(Writer& writer, const std::string& value) const { writer.put_string(value); }
  std::optional<std::string> decode(Reader& reader) const {
    return std::string(reader.get_string());
  }
};
template <class T>
using CodecOf = std::conditional_t<std::is_same_v<T, double>, DoubleCodec, StringCodec>;

// What the values hold beyond the merge's own frame, as the codecs write it.
struct SavedBytes {
  std::uint64_t operator()(double) const { return sizeof(double); }
  std::uint64_t operator()(const std::string& value) const { return 4 + value.size(); }
};
template <class T, class Merge>
using Weighed = OrderedMerge<T, Merge, SavedBytes>;

template <class T, class Merge>
Buffer saved(const Weighed<T, Merge>& merge) {
  Buffer bytes;
  Writer writer(bytes);
  merge.save(writer, CodecOf<T>{});
  return bytes;
}

// "" if the bytes were loaded, and no more were there.
template <class T, class Merge>
std::string error_of_load(Weighed<T, Merge>& merge, std::span<const std::byte> bytes) {
  Reader reader(bytes);
  const auto loaded = merge.load(reader, CodecOf<T>{});
  if (!loaded) return loaded.error();
  return reader.complete() ? "" : "bytes are left over";
}

template <class T, class Merge>
void arrive(Weighed<T, Merge>& merge, const std::vector<T>& values, const Arrival& arrival) {
  if (arrival.skipped) return merge.skip(ShardId{arrival.first});
  const auto begin = values.begin() + static_cast<std::ptrdiff_t>(arrival.first);
  std::vector<T> batch(begin, begin + static_cast<std::ptrdiff_t>(arrival.count));
  merge.add(ShardId{arrival.first}, batch);
}

// The bits of what came out, "" for nothing.
std::string bits_of(const std::optional<double>& total) {
  return total ? std::to_string(std::bit_cast<std::uint64_t>(*total)) : "";
}
std::string bits_of(const std::optional<std::string>& total) {
  return total.value_or("");
}

// At every point of the arrivals: saves, has a fresh merge load it, and both go on to the end.
template <class T, class Merge>
void expect_takeover_at_every_point(const std::vector<T>& values,
                                    const std::vector<Arrival>& arrivals,
                                    std::uint64_t block_shards) {
  Weighed<T, Merge> first(values.size(), {}, block_shards);
  std::vector<std::unique_ptr<Weighed<T, Merge>>> successors;
  for (std::size_t at = 0; at <= arrivals.size(); ++at) {
    const Buffer bytes = saved(first);
    const std::size_t bitmaps_max = values.size() / 4 + 2 * (values.size() / block_shards + 1);
    ASSERT_GE(first.frame_bytes() + first.weight() + 16, bytes.size());
    ASSERT_LE(first.frame_bytes() + first.weight(), bytes.size() + bitmaps_max);
    auto next = std::make_unique<Weighed<T, Merge>>(values.size(), Merge{}, block_shards);
    ASSERT_EQ(error_of_load(*next, bytes.view()), "");
    ASSERT_EQ(next->settled(), first.settled());
    ASSERT_EQ(next->weight(), first.weight());
    ASSERT_TRUE(std::ranges::equal(saved(*next).view(), bytes.view()));
    if (at == arrivals.size()) {
      successors.push_back(std::move(next));
      break;
    }
    for (auto& successor : successors) arrive(*successor, values, arrivals[at]);
    arrive(first, values, arrivals[at]);
    arrive(*next, values, arrivals[at]);
    successors.push_back(std::move(next));
  }
  const std::string expected = bits_of(first.finish());
  EXPECT_EQ(first.weight(), 0U);
  for (auto& successor : successors) ASSERT_EQ(bits_of(successor->finish()), expected);
}

TEST_P(OrderedMergeRandom, ATakeoverAtAnyPointEndsInTheSameBits) {
  std::mt19937_64 random(GetParam());
  for (const std::uint64_t block_shards : {1UL, 4UL, 64UL, 1024UL}) {
    std::vector<double> values(1 + random() % 300);
    std::vector<std::string> names(values.size());
    for (double& value : values) value = wild_double(random);
    for (std::size_t i = 0; i < names.size(); ++i)
      names[i] = std::to_string(i) + std::string(random() % 9, '_');
    std::vector<bool> skipped;
    auto arrivals = random_arrivals(values.size(), 1 + random() % 20, skipped, random);
    std::shuffle(arrivals.begin(), arrivals.end(), random);

    expect_takeover_at_every_point<double, Sum>(values, arrivals, block_shards);
    expect_takeover_at_every_point<std::string, Join>(names, arrivals, block_shards);
    expect_takeover_at_every_point<std::string, Bracket>(names, arrivals, block_shards);
    if (HasFatalFailure()) return;
  }
}

TEST_P(OrderedMergeRandom, DamagedStateIsRefusedOrHarmless) {
  std::mt19937_64 random(GetParam());
  std::vector<std::string> names(1 + random() % 200, "name");
  std::vector<bool> skipped;
  auto arrivals = random_arrivals(names.size(), 5, skipped, random);
  std::shuffle(arrivals.begin(), arrivals.end(), random);
  Weighed<std::string, Join> merge(names.size(), {}, 16);
  for (std::size_t i = 0; i < arrivals.size() / 2; ++i) arrive(merge, names, arrivals[i]);
  const Buffer good = saved(merge);

  for_each_cut(good.view(), [&](std::span<const std::byte> bytes, std::size_t length) {
    Weighed<std::string, Join> fresh(names.size(), {}, 16);
    EXPECT_NE(error_of_load(fresh, bytes), "") << "cut to " << length << " bytes";
    EXPECT_EQ(fresh.settled(), 0U);
  });
  for_each_damage(good.view(), GetParam(), 400, [&](std::span<const std::byte> bytes) {
    Weighed<std::string, Join> fresh(names.size(), {}, 16);
    Reader reader(bytes);
    if (!fresh.load(reader, StringCodec{})) {
      EXPECT_EQ(fresh.settled(), 0U);
      return;
    }
    EXPECT_LE(fresh.settled(), names.size());
    Weighed<std::string, Join> again(names.size(), {}, 16);
    EXPECT_EQ(error_of_load(again, saved(fresh).view()), "");
    EXPECT_EQ(again.settled(), fresh.settled());
  });
}

TEST(OrderedMergeState, OfEmptyFullAndOnlySkippedComesBack) {
  const std::vector<std::string> names{"a", "b", "c"};
  const Arrival all{0, 3, false};
  Weighed<std::string, Join> none(0), full(3, {}, 2), skipped(3, {}, 2);
  arrive(full, names, all);
  for (const std::uint64_t shard : {2, 0, 1}) skipped.skip(ShardId{shard});

  Weighed<std::string, Join> none_again(0), full_again(3, {}, 2), skipped_again(3, {}, 2);
  EXPECT_EQ(error_of_load(none_again, saved(none).view()), "");
  EXPECT_EQ(error_of_load(full_again, saved(full).view()), "");
  EXPECT_EQ(error_of_load(skipped_again, saved(skipped).view()), "");

  EXPECT_EQ(none_again.finish(), std::nullopt);
  EXPECT_EQ(full_again.finish(), "abc");
  EXPECT_EQ(skipped_again.finish(), std::nullopt);
}

TEST(OrderedMergeState, ReplacesWhatWasThere) {
  const std::vector<std::string> names{"a", "b", "c"};
  Weighed<std::string, Join> first(3), second(3);
  arrive(first, names, {1, 1, false});
  arrive(second, names, {2, 1, false});

  EXPECT_EQ(error_of_load(second, saved(first).view()), "");
  arrive(second, names, {2, 1, false});
  arrive(second, names, {0, 1, false});

  EXPECT_EQ(second.finish(), "abc");
}

TEST(OrderedMergeState, IsRefusedByAnotherTree) {
  const Buffer bytes = saved(Weighed<double, Sum>(100, {}, 16));
  Weighed<double, Sum> longer(101, {}, 16), coarser(100, {}, 32);
  EXPECT_EQ(error_of_load(longer, bytes.view()),
            "the saved merge is of 100 shards in blocks of 16, not of 101 in blocks of 16");
  EXPECT_EQ(error_of_load(coarser, bytes.view()),
            "the saved merge is of 100 shards in blocks of 16, not of 100 in blocks of 32");
}

// Each would break a promise of the merge if it were believed.
TEST(OrderedMergeState, StatesThatCannotBeAreRefused) {
  const auto error_of = [](auto put) {
    Buffer bytes;
    Writer writer(bytes);
    writer.put(std::uint64_t{20});
    writer.put(std::uint64_t{4});
    put(writer);
    Weighed<double, Sum> merge(20, {}, 4);
    return error_of_load(merge, bytes.view());
  };
  const auto front = [](std::uint64_t blocks, bool total) {
    return [=](Writer& writer) {
      writer.put(blocks);
      writer.put(std::uint8_t{total});
      if (total) writer.put(1.0);
      writer.put(std::uint64_t{0});
    };
  };
  struct SavedBlock {
    std::uint64_t index, next;
    bool sum = false;
    std::vector<std::uint8_t> bitmaps;  // arrived, stored; empty for none
  };
  const auto block = [](const SavedBlock& one, std::uint64_t copies = 1) {
    return [=](Writer& writer) {
      writer.put(std::uint64_t{1});  // the first block is in the total, which has no value
      writer.put(std::uint8_t{0});
      writer.put(copies);
      for (std::uint64_t copy = 0; copy < copies; ++copy) {
        writer.put(one.index);
        writer.put(one.next);
        writer.put(std::uint8_t{one.sum});
        if (one.sum) writer.put(2.0);
        writer.put(std::uint8_t{!one.bitmaps.empty()});
        writer.put_raw(std::as_bytes(std::span(one.bitmaps)));
        for (int stored = one.bitmaps.empty() ? 0 : std::popcount(one.bitmaps[1]); stored > 0;
             --stored) {
          writer.put(3.0);
        }
      }
    };
  };
  const std::string damaged = "the saved merge is damaged";

  EXPECT_EQ(error_of(front(5, true)), "");
  EXPECT_EQ(error_of(front(6, true)), damaged) << "there are 5 blocks";
  EXPECT_EQ(error_of(front(0, true)), damaged) << "a total of nothing";
  EXPECT_EQ(error_of(block({1, 3, true, {}})), "");
  EXPECT_EQ(error_of(block({2, 4, true, {}})), "") << "complete, but behind another";
  EXPECT_EQ(error_of(block({1, 4, true, {}})), damaged) << "the front block cannot be complete";
  EXPECT_EQ(error_of(block({2, 5, true, {}})), damaged) << "beyond the block";
  EXPECT_EQ(error_of(block({0, 1, true, {}})), damaged) << "in the total";
  EXPECT_EQ(error_of(block({5, 1, true, {}})), damaged) << "there are 5 blocks";
  EXPECT_EQ(error_of(block({1, 0, true, {}})), damaged) << "a sum of nothing";
  EXPECT_EQ(error_of(block({1, 1, true, {}}, 2)), damaged) << "the same block twice";
  EXPECT_EQ(error_of(block({1, 0, false, {0b1010, 0b1000}})), "");
  EXPECT_EQ(error_of(block({1, 0, false, {0b1011, 0b1000}})), damaged) << "would have been merged";
  EXPECT_EQ(error_of(block({1, 0, false, {0b1010, 0b0100}})), damaged) << "stored, not arrived";
  EXPECT_EQ(error_of(block({1, 1, false, {0b1010, 0b0000}})), damaged) << "beyond the block";
  EXPECT_EQ(error_of(block({2, 4, false, {0b0000, 0b0000}})), damaged) << "nothing can wait";
}

TEST(OrderedMergeDeathTest, EveryShardCountsOnceAfterATakeoverToo) {
  const std::vector<double> values(8, 1.0);
  Weighed<double, Sum> first(8, {}, 4), second(8, {}, 4);
  arrive(first, values, {0, 1, false});
  arrive(first, values, {2, 4, false});
  ASSERT_EQ(error_of_load(second, saved(first).view()), "");

  EXPECT_DEATH(arrive(second, values, {0, 1, false}), "second time");
  EXPECT_DEATH(arrive(second, values, {1, 2, false}), "second time");
  EXPECT_DEATH(arrive(second, values, {3, 1, false}), "second time");
  EXPECT_DEATH(arrive(second, values, {5, 1, false}), "second time");
}

TEST(OrderedMergeDeathTest, EveryShardCountsOnce) {
  std::vector<double> two{1, 2};
  OrderedMerge<double, Sum> merge(8, {}, 4);
  merge.add(ShardId{2}, two);
  merge.add(ShardId{4}, two);
  merge.skip(ShardId{7});

  EXPECT_DEATH(merge.add(ShardId{2}, two), "second time");
  EXPECT_DEATH(merge.add(ShardId{1}, two), "second time");
  EXPECT_DEATH(merge.add(ShardId{4}, two), "second time");
  EXPECT_DEATH(merge.add(ShardId{6}, two), "second time");
  EXPECT_DEATH(merge.skip(ShardId{7}), "second time");
  EXPECT_DEATH(merge.skip(ShardId{3}), "second time");
  EXPECT_DEATH(merge.add(ShardId{7}, two), "beyond the stage");
  EXPECT_DEATH(merge.skip(ShardId{8}), "beyond the stage");
  EXPECT_DEATH(merge.finish(), "shards missing");
  merge.add(ShardId{0}, two);
  EXPECT_DEATH(merge.skip(ShardId{0}), "second time");
  EXPECT_DEATH((OrderedMerge<double, Sum>(8, {}, 3)), "power of two");
}

}  // namespace
}  // namespace regroup

// The registry's store, which must come to the same from the same writes and count each once, and
// the desk, which must keep every answer back until it is safe.
#include "scheduler/registry.hpp"

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/protocol/damaged_bytes.hpp"

namespace regroup {
namespace {

constexpr RankId kOne{1};
constexpr RankId kTwo{2};
constexpr std::uint32_t kRanks = 4;
constexpr LedgerPosition kEverything = ~LedgerPosition{0};

using enum RegistryStatus;
using enum RegistryDesk::Open;

RegistryStore::Outcome put(RegistryStore& store, std::uint64_t number, std::string_view key,
                           std::string_view value, std::uint64_t expected = kAnyVersion,
                           RankId rank = kOne, std::uint64_t answered = 0) {
  return store.put({rank, number, answered, expected, key, value});
}

Buffer saved(const RegistryStore& store) {
  Buffer bytes;
  Writer writer(bytes);
  store.save(writer);
  return bytes;
}

bool loads(RegistryStore& store, std::span<const std::byte> bytes) {
  Reader reader(bytes);
  return store.load(reader, kRanks).has_value() && reader.complete();
}

// ---- the store ----

TEST(RegistryStore, VersionsCountTheWritesOfAKey) {
  RegistryStore store;
  EXPECT_EQ(store.get("a").version, 0u);
  EXPECT_EQ(*store.get("a").value, "");
  EXPECT_EQ(put(store, 1, "a", "x").version, 1u);
  EXPECT_EQ(put(store, 2, "a", "y").version, 2u);
  EXPECT_EQ(put(store, 3, "b", "z").version, 1u);
  EXPECT_EQ(*store.get("a").value, "y");
  EXPECT_EQ(store.keys(), 2u);
}

TEST(RegistryStore, APutThatExpectsAnotherVersionWritesNothing) {
  RegistryStore store;
  EXPECT_EQ(put(store, 1, "a", "x", 1).status, kConflict) << "it was never written";
  EXPECT_EQ(put(store, 2, "a", "x", 0).version, 1u);
  const auto outcome = put(store, 3, "a", "y", 0);
  EXPECT_EQ(outcome.status, kConflict);
  EXPECT_EQ(outcome.version, 1u) << "what it has";
  EXPECT_FALSE(outcome.changed);
  EXPECT_EQ(*store.get("a").value, "x");
  EXPECT_EQ(put(store, 4, "a", "y", 1).version, 2u);
}

TEST(RegistryStore, APutThatComesAgainCountsOnce) {
  RegistryStore store;
  put(store, 1, "a", "x", 0);
  put(store, 2, "a", "y", 1);
  const auto again = put(store, 1, "a", "x", 0);
  EXPECT_EQ(again.status, kDone) << "no false conflict";
  EXPECT_EQ(again.version, 1u) << "what it made then";
  EXPECT_FALSE(again.changed);
  EXPECT_EQ(store.get("a").version, 2u);
  EXPECT_EQ(put(store, 1, "a", "z", kAnyVersion, kTwo).version, 3u) << "another rank's first";
}

TEST(RegistryStore, RemembersNoMoreWritesThanMayComeAgain) {
  RegistryStore store;
  for (std::uint64_t number = 1; number <= 10'000; ++number) {
    const std::uint64_t answered = number > kRegistryCallsMax ? number - kRegistryCallsMax : 0;
    put(store, number, "a", "x", kAnyVersion, kOne, answered);
  }
  EXPECT_LE(saved(store).size(), 100 + 16 * kRegistryCallsMax);
  EXPECT_TRUE(store.find_write(kOne, 10'000));
  EXPECT_TRUE(store.find_write(kOne, 10'000 - kRegistryCallsMax + 1));
  EXPECT_FALSE(store.find_write(kOne, 10'000 - kRegistryCallsMax));
  EXPECT_FALSE(put(store, 5, "a", "x").changed) << "it was answered long ago";
}

TEST(RegistryStore, HoldsNoMoreKeysThanItMay) {
  RegistryStore store;
  for (std::size_t i = 0; i < kRegistryKeysMax; ++i) {
    ASSERT_EQ(put(store, i + 1, std::to_string(i), "", kAnyVersion, kOne, i).status, kDone);
  }
  EXPECT_EQ(put(store, 1, "one more", "", kAnyVersion, kTwo).status, kTooManyKeys);
  EXPECT_EQ(put(store, 1, "0", "x", kAnyVersion, kTwo).status, kDone) << "an old key";
}

TEST(RegistryStore, HoldsNoMoreBytesThanItMay) {
  RegistryStore store;
  const std::string large(kRegistryValueBytesMax, 'x');
  std::uint64_t number = 0;
  RegistryStatus status = kDone;
  while (status == kDone) {
    ++number;
    status =
        put(store, number, std::to_string(number), large, kAnyVersion, kOne, number - 1).status;
  }
  EXPECT_EQ(status, kTooManyBytes);
  EXPECT_LE(saved(store).size(), kRegistryBytesMax + 1000);
  EXPECT_GE(saved(store).size(), kRegistryBytesMax - 2 * kRegistryValueBytesMax);
  EXPECT_EQ(put(store, 1, "1", "", kAnyVersion, kTwo).status, kDone) << "that frees some";
  EXPECT_EQ(put(store, 2, "more", large, kAnyVersion, kTwo).status, kDone);
  EXPECT_EQ(put(store, 3, "and more", large, kAnyVersion, kTwo).status, kTooManyBytes);
}

TEST(RegistryStore, AnHeirGoesOnWhereItWasSaved) {
  RegistryStore store;
  put(store, 1, "a", "x");
  put(store, 2, "a", "y", 1);
  put(store, 1, "b", std::string(1000, 'z'), 0, kTwo);
  RegistryStore heir;
  put(heir, 9, "of an earlier time", "x");
  ASSERT_TRUE(loads(heir, saved(store).view()));
  EXPECT_TRUE(std::ranges::equal(saved(heir).view(), saved(store).view()));
  EXPECT_EQ(heir.saved_bytes(), store.saved_bytes());
  EXPECT_EQ(put(heir, 2, "a", "y", 1).version, 2u) << "known, as before";
  EXPECT_EQ(put(heir, 3, "a", "y", 2).version, 3u);
  EXPECT_GE(store.saved_bytes(), saved(store).size());
}

TEST(RegistryStore, DamagedStatesAreRefusedOrHarmless) {
  RegistryStore store;
  put(store, 1, "a", "x");
  put(store, 2, "b", "yy");
  put(store, 1, "c", "zzz", 0, kTwo);
  const Buffer good = saved(store);
  for_each_cut(good.view(), [&](auto bytes, std::size_t) {
    RegistryStore heir;
    EXPECT_FALSE(loads(heir, bytes));
    EXPECT_TRUE(heir.empty());
  });
  for_each_damage(good.view(), 1, 2000, [&](auto bytes) {
    RegistryStore heir;
    (void)loads(heir, bytes);
    put(heir, 60, "a", "w");
  });
}

// ---- the desk ----

RegistryRequest get_of(std::uint64_t number, std::string_view key) {
  return {.number = number, .operation = RegistryOperation::kGet, .key = key};
}
RegistryRequest put_of(std::uint64_t number, std::string_view key, std::string_view value,
                       std::uint64_t expected = kAnyVersion) {
  return {.number = number,
          .operation = RegistryOperation::kPut,
          .key = key,
          .value = value,
          .version = expected,
          .write = number,
          .answered = number - 1};
}
RegistryRequest watch_of(std::uint64_t number, std::string_view key, std::uint64_t version,
                         Nanoseconds left = kSecond) {
  return {.number = number,
          .operation = RegistryOperation::kWatch,
          .key = key,
          .version = version,
          .left = left};
}

TEST(RegistryDesk, AnswersOnceTheEntryIsSafe) {
  RegistryDesk desk;
  EXPECT_TRUE(desk.take(kOne, put_of(1, "a", "x"), kYes, 5, 0)) << "to be recorded";
  EXPECT_FALSE(desk.take(kTwo, get_of(1, "a"), kYes, 6, 0));
  EXPECT_TRUE(desk.answers(4).empty());
  const auto first = desk.answers(5);
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].to, kOne);
  EXPECT_EQ(first[0].version, 1u);
  const auto second = desk.answers(7);
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(*second[0].value, "x");
  EXPECT_TRUE(desk.idle());
}

TEST(RegistryDesk, AReadSeesTheStoreAsItWasWhenItCame) {
  RegistryDesk desk;
  desk.take(kOne, put_of(1, "a", "x"), kYes, 1, 0);
  desk.take(kTwo, get_of(1, "a"), kYes, 1, 0);
  desk.take(kOne, put_of(2, "a", "y"), kYes, 2, 0);
  const auto answers = desk.answers(1);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[1].version, 1u);
  EXPECT_EQ(*answers[1].value, "x") << "the later write may still be lost";
}

TEST(RegistryDesk, AWatchWaitsForAVersionBeyondItsOwn) {
  RegistryDesk desk;
  desk.take(kTwo, watch_of(1, "a", 1), kYes, 1, 0);
  desk.take(kTwo, watch_of(2, "b", 0), kYes, 1, 0);
  desk.take(kOne, put_of(1, "a", "x"), kYes, 1, 0);
  EXPECT_EQ(desk.answers(kEverything).size(), 1u) << "the put's own";
  desk.take(kOne, put_of(2, "a", "y"), kYes, 2, 0);
  EXPECT_TRUE(desk.answers(1).empty()) << "it is no safer than the put";
  const auto answers = desk.answers(2);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[1].to, kTwo);
  EXPECT_EQ(answers[1].number, 1u);
  EXPECT_EQ(answers[1].version, 2u);
  desk.take(kTwo, watch_of(3, "a", 1), kYes, 3, 0);
  EXPECT_EQ(desk.answers(3).size(), 1u) << "it is beyond already";
}

TEST(RegistryDesk, WatchesEndInTimeAndAreSoMany) {
  RegistryDesk desk;
  for (std::size_t i = 0; i < kRegistryWatchesMax; ++i) {
    desk.take(kTwo, watch_of(i + 1, "a", 0, kSecond + static_cast<Nanoseconds>(i % 2)), kYes, 1, 0);
  }
  desk.take(kTwo, watch_of(9999, "a", 0), kYes, 1, 0);
  const auto refused = desk.answers(0);
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].status, kTooManyWatches);
  desk.expire(kSecond);
  EXPECT_FALSE(desk.idle());
  desk.expire(kSecond + 1);
  EXPECT_TRUE(desk.idle());
}

TEST(RegistryDesk, OfOneRankSoManyCallsWait) {
  RegistryDesk desk;
  for (std::size_t i = 0; i < kRegistryCallsMax; ++i) {
    desk.take(kOne, get_of(i + 1, "a"), i % 2 == 0 ? kYes : kNotYet, 1, 0);
  }
  EXPECT_FALSE(desk.take(kOne, put_of(1, "a", "x"), kYes, 1, 0));
  const auto refused = desk.answers(0);
  ASSERT_EQ(refused.size(), 1u);
  EXPECT_EQ(refused[0].status, kTooManyCalls);
  EXPECT_EQ(desk.store().get("a").version, 0u);
  EXPECT_TRUE(desk.take(kTwo, put_of(1, "a", "x"), kYes, 1, 0)) << "another rank";
}

TEST(RegistryDesk, WhoAsksEarlyWaitsForTheStore) {
  RegistryDesk desk;
  EXPECT_FALSE(desk.take(kOne, put_of(1, "a", "x"), kNotYet, 1, 0));
  desk.take(kTwo, get_of(1, "a"), kNotYet, 1, 0);
  EXPECT_TRUE(desk.answers(kEverything).empty());
  const auto held = desk.release();
  ASSERT_EQ(held.size(), 2u);
  EXPECT_EQ(held[0].from, kOne);
  Reader reader(held[0].request.view());
  EXPECT_EQ(get_registry_request(reader)->value, "x");
  EXPECT_TRUE(desk.idle());
}

TEST(RegistryDesk, AtTheEndOnlyOutcomesAreToBeHad) {
  RegistryDesk desk;
  desk.take(kOne, put_of(1, "a", "x"), kYes, 1, 0);
  desk.forget();  // a view begins, and the put comes again
  EXPECT_FALSE(desk.take(kOne, put_of(1, "a", "x"), kNoMore, 2, 0));
  EXPECT_FALSE(desk.take(kOne, put_of(2, "a", "y"), kNoMore, 2, 0));
  desk.take(kTwo, get_of(1, "a"), kNoMore, 2, 0);
  const auto refused = desk.answers(1);
  ASSERT_EQ(refused.size(), 2u);
  for (const auto& answer : refused) EXPECT_EQ(answer.status, kEnding);
  const auto told = desk.answers(2);
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].status, kDone);
  EXPECT_EQ(told[0].version, 1u);
}

}  // namespace
}  // namespace regroup

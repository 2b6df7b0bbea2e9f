// The bytes of shard states: those of the format's page, within the bound, and back again.
#include "scheduler/shard_states.hpp"

#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/protocol/buffer.hpp"

namespace regroup {
namespace {

constexpr std::uint64_t kHeaderBytes = 10;

// One digit a shard: 0 pending, 1 leased, 2 done, 3 quarantined.
ShardStates states_like(const std::string& digits) {
  ShardStates states(digits.size());
  states.keep_up_to(states.words());
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const auto state = static_cast<std::uint64_t>(digits[i] - '0');
    states.at(i / 64).low |= (state & 1) << i % 64;
    states.at(i / 64).high |= (state >> 1) << i % 64;
  }
  return states;
}

std::string digits_of(const ShardStates& states) {
  std::string digits;
  for (std::size_t i = 0; i < states.shards(); ++i) {
    const std::uint64_t low = states[i / 64].low >> i % 64 & 1;
    const std::uint64_t high = states[i / 64].high >> i % 64 & 1;
    digits += static_cast<char>('0' + (low | high << 1));
  }
  return digits;
}

Buffer bytes_of(const ShardStates& states) {
  Buffer bytes;
  Writer writer(bytes);
  states.put(writer);
  return bytes;
}

Buffer bytes_of(const std::string& digits) {
  return bytes_of(states_like(digits));
}

// "refused" unless the bytes are the states of so many shards, and nothing more.
std::string read_back(std::span<const std::byte> bytes, std::size_t shards) {
  ShardStates states(shards);
  Reader reader(bytes);
  if (!states.get(reader) || !reader.complete()) return "refused";
  return digits_of(states);
}

std::string times(const std::string& text, int count) {
  std::string repeated;
  for (int i = 0; i < count; ++i) repeated += text;
  return repeated;
}

std::vector<int> numbers(const Buffer& bytes) {
  std::vector<int> all;
  for (const std::byte byte : bytes.view()) all.push_back(std::to_integer<int>(byte));
  return all;
}

TEST(ShardStates, AreTheBytesOfTheFormat) {
  EXPECT_EQ(numbers(bytes_of("")), std::vector<int>{});
  EXPECT_EQ(numbers(bytes_of("22200")), (std::vector<int>{3 << 3 | 2, 2 << 3 | 0}));
  EXPECT_EQ(numbers(bytes_of(times("2", 200))), (std::vector<int>{0xc2, 0x0c}));
  EXPECT_EQ(numbers(bytes_of(times("02", 32))),
            (std::vector<int>{1 << 3 | 5, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa}));
  EXPECT_EQ(numbers(bytes_of(times("03", 32))),
            (std::vector<int>{1 << 3 | 4, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
                              0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa}));
}

TEST(ShardStates, RunsGoOnAcrossWordsAndWordsAreCutAtTheEnd) {
  for (const std::string& states :
       {times("2", 64) + "0", times("2", 63) + times("0", 70) + "3",
        times("02", 32) + times("2", 64) + times("01", 40), times("0123", 50), std::string("1")}) {
    EXPECT_EQ(read_back(bytes_of(states).view(), states.size()), states);
  }
}

// Pieces of all kinds next to each other, of lengths that straddle words.
TEST(ShardStates, ComeBackWithinTheBoundWhateverTheirPattern) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 3000; ++round) {
    std::string states;
    for (auto pieces = random() % 12; pieces != 0; --pieces) {
      const auto kind = random() % 5;
      const auto length = kind == 0 ? random() % 400 : random() % 140;
      const char state = static_cast<char>('0' + random() % 4);
      const auto mean_run = std::uint64_t{1} << (random() % 6);
      char current = state;
      for (std::uint64_t i = 0; i < length; ++i) {
        if (kind == 1) current = static_cast<char>('0' + random() % 4);
        if (kind == 2) current = static_cast<char>('0' + 2 * (random() % 2));
        if (kind == 3 && random() % mean_run == 0) current = static_cast<char>('0' + random() % 4);
        states += current;
      }
    }
    const Buffer bytes = bytes_of(states);
    ASSERT_LE(bytes.size(), 16 * state_words(states.size()) + kHeaderBytes) << states;
    ASSERT_EQ(read_back(bytes.view(), states.size()), states);
  }
}

// Words that alternate between the kinds cost the most beyond their own bytes.
TEST(ShardStates, TheWorstPatternsKeepToTheBound) {
  const std::string both = times("0312", 16);
  const std::string high = times("02", 32);
  const std::string few_runs = times("0", 16) + times("1", 16) + times("2", 16) + times("3", 16);
  const std::string many_runs = times(times("0", 8) + times("3", 8), 4);
  const std::vector<std::string> kinds{both, high, few_runs, many_runs, times("1", 64)};
  for (const std::string& a : kinds) {
    for (const std::string& b : kinds) {
      const std::string states = times(a + b, 1000);
      EXPECT_LE(bytes_of(states).size(), 16u * 2000 + kHeaderBytes);
      EXPECT_EQ(read_back(bytes_of(states).view(), states.size()), states);
    }
  }
}

TEST(ShardStates, OnlyWhatIsUnderWayTakesMemory) {
  constexpr std::uint64_t kShards = 1'000'000'000;
  constexpr std::size_t kSteps = 100'000;
  constexpr std::size_t kUnderWay = 100;
  ShardStates states(kShards);
  for (std::size_t word = 0; word < kSteps; ++word) {
    states.keep_up_to(word + kUnderWay);
    states.at(word).high = ~std::uint64_t{0};
    states.drop_done();
  }
  EXPECT_LT(states.memory_bytes(), 100'000u);
  EXPECT_LT(bytes_of(states).size(), 20u);
  EXPECT_GT(states.first(), kSteps / 2);
  EXPECT_EQ(states[kSteps - 1].high, ~std::uint64_t{0});
  EXPECT_EQ(states[kSteps], StateWord{});

  ShardStates read(kShards);
  const Buffer bytes = bytes_of(states);
  Reader reader(bytes.view());
  ASSERT_TRUE(read.get(reader));
  EXPECT_LT(read.memory_bytes(), 100'000u);
  EXPECT_EQ(numbers(bytes_of(read)), numbers(bytes));

  read.reopen();
  EXPECT_EQ(read.first(), 0u);
  EXPECT_EQ(read[0], StateWord{});
  EXPECT_EQ(read[kSteps - 1], StateWord{});
}

TEST(ShardStates, WhatIsNoStateIsRefused) {
  const auto refuses = [](std::vector<std::uint8_t> bytes, std::size_t shards) {
    return read_back(std::as_bytes(std::span(bytes)), shards) == "refused";
  };
  EXPECT_FALSE(refuses({5 << 3}, 5));
  EXPECT_TRUE(refuses({6 << 3}, 5)) << "beyond the end";
  EXPECT_TRUE(refuses({4 << 3}, 5)) << "ends early";
  EXPECT_TRUE(refuses({0, 5 << 3}, 5)) << "an empty piece";
  EXPECT_TRUE(refuses({1 << 3 | 6, 4 << 3}, 5)) << "no such kind";
  EXPECT_FALSE(refuses({1 << 3 | 5, 31, 0, 0, 0, 0, 0, 0, 0}, 5));
  EXPECT_TRUE(refuses({1 << 3 | 5, 63, 0, 0, 0, 0, 0, 0, 0}, 5)) << "a bit beyond the end";
  EXPECT_TRUE(refuses({2 << 3 | 5, 31, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 5));
  EXPECT_TRUE(refuses({1 << 3, 1 << 3 | 5, 31, 0, 0, 0, 0, 0, 0, 0}, 6)) << "words begin at 64";
}

}  // namespace
}  // namespace regroup

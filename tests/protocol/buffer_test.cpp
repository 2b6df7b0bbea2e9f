// Buffer and BufferPool: contents survive growth and moves; the pool keeps a bounded amount.
#include "runtime/protocol/buffer.hpp"

#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

namespace regroup {
namespace {

std::vector<std::byte> bytes_of(std::initializer_list<int> values) {
  std::vector<std::byte> bytes;
  for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
  return bytes;
}

std::vector<std::byte> contents(const Buffer& buffer) {
  return {buffer.view().begin(), buffer.view().end()};
}

TEST(Buffer, StartsEmptyWithoutMemory) {
  const Buffer buffer;
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.size(), 0u);
  EXPECT_EQ(buffer.capacity(), 0u);
}

TEST(Buffer, CopiesTheBytesItIsMadeFrom) {
  auto bytes = bytes_of({1, 2, 3});
  const Buffer buffer{std::span<const std::byte>(bytes)};
  bytes[0] = std::byte{9};
  EXPECT_EQ(contents(buffer), bytes_of({1, 2, 3}));
}

TEST(Buffer, KeepsItsBytesWhenItGrows) {
  Buffer buffer;
  std::vector<std::byte> expected;
  for (int i = 0; i < 10'000; ++i) {
    const auto byte = static_cast<std::byte>(i * 31);
    *buffer.extend(1) = byte;
    expected.push_back(byte);
  }
  EXPECT_EQ(contents(buffer), expected);
  EXPECT_LE(buffer.capacity(), 2 * expected.size()) << "growth at most doubles";
}

TEST(Buffer, ReserveNeverShrinksAndNeverChangesTheSize) {
  Buffer buffer(std::size_t{100});
  EXPECT_EQ(buffer.size(), 0u);
  buffer.append(bytes_of({7}));
  buffer.reserve(10);
  EXPECT_EQ(buffer.capacity(), 100u);
  buffer.reserve(1000);
  EXPECT_EQ(buffer.capacity(), 1000u);
  EXPECT_EQ(contents(buffer), bytes_of({7}));
}

TEST(Buffer, ClearKeepsTheMemory) {
  Buffer buffer{std::span<const std::byte>(bytes_of({1, 2}))};
  const std::byte* data = buffer.data();
  buffer.clear();
  buffer.append(bytes_of({3}));
  EXPECT_EQ(buffer.data(), data);
  EXPECT_EQ(contents(buffer), bytes_of({3}));
}

TEST(Buffer, MovesWithoutCopyingAndLeavesAnEmptyOne) {
  Buffer from{std::span<const std::byte>(bytes_of({1, 2}))};
  const std::byte* data = from.data();

  Buffer to(std::move(from));
  EXPECT_EQ(to.data(), data);
  EXPECT_TRUE(from.empty());  // NOLINT: a moved-from buffer is promised to be empty
  EXPECT_EQ(from.capacity(), 0u);
  from.append(bytes_of({9}));
  EXPECT_EQ(contents(from), bytes_of({9})) << "and usable";

  from = std::move(to);
  EXPECT_EQ(from.data(), data);
  EXPECT_EQ(contents(from), bytes_of({1, 2}));
  EXPECT_EQ(to.capacity(), 0u);
}

TEST(Buffer, AppendingNothingToNothingIsAllowed) {
  Buffer buffer;
  buffer.append({});
  EXPECT_TRUE(buffer.empty());
}

TEST(BufferPool, LendsAGivenBufferAgainEmptied) {
  BufferPool pool;
  Buffer buffer = pool.take();
  buffer.append(bytes_of({1, 2, 3}));
  const std::byte* data = buffer.data();

  pool.give(std::move(buffer));
  const Buffer again = pool.take();

  EXPECT_EQ(again.data(), data);
  EXPECT_TRUE(again.empty());
}

TEST(BufferPool, FreesLargeAndEmptyBuffers) {
  BufferPool pool;
  pool.give(Buffer(BufferPool::kBufferBytesMax + 1));
  pool.give(Buffer());
  EXPECT_LE(pool.take().capacity(), BufferPool::kBufferBytesMax);
  EXPECT_GT(pool.take().capacity(), 0u);
}

TEST(BufferPool, KeepsABoundedNumber) {
  BufferPool pool;
  constexpr std::size_t kMarkBytes = 5000;  // not the size of a fresh one
  for (std::size_t i = 0; i < BufferPool::kBuffersMax + 10; ++i) pool.give(Buffer(kMarkBytes));

  std::size_t kept = 0;
  while (pool.take().capacity() == kMarkBytes) ++kept;

  EXPECT_EQ(kept, BufferPool::kBuffersMax);
}

TEST(BufferPool, LendsLargeBuffersAgain) {
  BufferPool pool;
  Buffer large = pool.take_large(1 << 20);
  EXPECT_EQ(large.size(), std::size_t{1} << 20);
  const std::byte* const memory = large.data();
  pool.give_large(std::move(large));

  Buffer again = pool.take_large((1 << 20) - 5);
  EXPECT_EQ(again.data(), memory);
  EXPECT_EQ(again.size(), (std::size_t{1} << 20) - 5);
}

TEST(BufferPool, LendsTheSmallestLargeBufferThatHasRoomAndNoneThatWouldLieIdle) {
  BufferPool pool;
  Buffer large(std::size_t{4} << 20), small(std::size_t{2} << 20);
  const std::byte* const memory_of_small = small.data();
  const std::byte* const memory_of_large = large.data();
  pool.give_large(std::move(large));
  pool.give_large(std::move(small));

  EXPECT_EQ(pool.take_large(1 << 20).data(), memory_of_small);
  EXPECT_NE(pool.take_large(1000).data(), memory_of_large);
  EXPECT_EQ(pool.take_large(1 << 20).data(), memory_of_large);
}

TEST(BufferPool, KeepsABoundedNumberOfLargeBuffers) {
  constexpr std::size_t kSize = 1 << 17, kMore = 100;
  BufferPool pool;
  pool.give_large(Buffer(kSize + kMore));
  for (std::size_t i = 0; i < BufferPool::kLargeBuffersMax; ++i) {
    pool.give_large(Buffer(std::size_t{1} << 20));
  }
  EXPECT_EQ(pool.take_large(kSize).capacity(), kSize) << "the first was given up";
}

}  // namespace
}  // namespace regroup

// Large arrays begin at a huge page, small ones are as any, and both hold what is put into them.
#include "jobs/huge_pages.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace regroup {
namespace {

bool begins_at_huge_page(const HugePageVector<double>& vector) {
  return reinterpret_cast<std::uintptr_t>(vector.data()) % kHugePageBytes == 0;
}

TEST(HugePages, LargeArraysBeginAtOne) {
  for (const std::size_t extra : {0, 1, 1000}) {
    const HugePageVector<double> vector(kHugePageBytes / sizeof(double) + extra, 1.5);
    EXPECT_TRUE(begins_at_huge_page(vector));
    EXPECT_EQ(std::accumulate(vector.begin(), vector.end(), 0.0),
              1.5 * static_cast<double>(vector.size()));
  }
}

TEST(HugePages, ArraysGrowAndMove) {
  HugePageVector<double> vector;
  while (vector.size() < 2 * kHugePageBytes / sizeof(double)) {
    vector.push_back(static_cast<double>(vector.size()));
  }
  HugePageVector<double> moved;
  moved = std::move(vector);
  for (std::size_t i = 0; i < moved.size(); i += 4099) {
    EXPECT_EQ(moved[i], static_cast<double>(i));
  }
}

// More than a slab holds, given back in another order than they were taken, twice over.
TEST(HugePages, SmallArraysDoNotOverlap) {
  for (int round = 0; round < 2; ++round) {
    std::vector<HugePageVector<std::uint32_t>> arrays;
    for (std::uint32_t i = 0; i < 100; ++i) {
      arrays.emplace_back(kHugePageArrayMin / 4 + 4001 * i, i);
    }
    for (std::size_t i = 0; i < arrays.size(); i += 3) arrays[i] = {};
    for (std::uint32_t i = 0; i < 30; ++i) {
      arrays.emplace_back(kHugePageArrayMin / 4 + 997 * i, 100 + i);
    }
    for (std::uint32_t i = 0; i < arrays.size(); ++i) {
      EXPECT_TRUE(std::ranges::all_of(arrays[i], [&](auto element) { return element == i; })) << i;
    }
  }
}

TEST(HugePages, ThreadsTakeAndGiveBackAtOnce) {
  std::vector<std::jthread> threads;
  for (std::uint32_t thread = 0; thread < 4; ++thread) {
    threads.emplace_back([thread] {
      for (std::size_t i = 0; i < 300; ++i) {
        const HugePageVector<std::uint32_t> array(kHugePageArrayMin + 64 * i, thread);
        EXPECT_EQ(array.front() + array.back(), 2 * thread);
      }
    });
  }
}

TEST(HugePages, MoreThanMemoryCanHoldIsRefused) {
  HugePageAllocator<double> allocator;
  EXPECT_THROW((void)allocator.allocate(std::numeric_limits<std::size_t>::max() / 8),
               std::bad_alloc);
  EXPECT_THROW((void)allocator.allocate(std::numeric_limits<std::size_t>::max() / 2),
               std::bad_array_new_length);
}

}  // namespace
}  // namespace regroup

#include "runtime/host/thread_slice.hpp"

#include <thread>

#include <gtest/gtest.h>

namespace regroup {
namespace {

TEST(ThreadSlice, IsShortForTheThreadThatAsks) {
  const Nanoseconds before = slice_of_this_thread();
  if (before == 0) GTEST_SKIP() << "threads have no slices of their own here";
  Nanoseconds asked = 0;
  std::thread([&] {
    ask_for_short_slices();
    asked = slice_of_this_thread();
  }).join();
  EXPECT_EQ(asked, kShortSlice);
  EXPECT_EQ(slice_of_this_thread(), before) << "others keep theirs";
}

}  // namespace
}  // namespace regroup

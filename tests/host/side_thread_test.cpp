#include "runtime/host/side_thread.hpp"

#include <future>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace regroup {
namespace {

TEST(SideThread, RunsTasksInTheirOrderOnOneOtherThread) {
  std::vector<int> ran;
  std::vector<std::thread::id> threads;
  std::promise<void> done;
  SideThread side([&] { threads.push_back(std::this_thread::get_id()); });
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(side.post([&, i] {
      ran.push_back(i);
      threads.push_back(std::this_thread::get_id());
      if (i == 2) done.set_value();
    }));
  }
  done.get_future().wait();

  EXPECT_EQ(ran, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(threads, std::vector<std::thread::id>(4, threads.front()));
  EXPECT_NE(threads.front(), std::this_thread::get_id());
}

TEST(SideThread, TakesNoMoreThanItsBoundAndDropsThemAtTheEnd) {
  std::promise<void> begun;
  std::promise<void> go_on;
  int ran = 0;
  {
    SideThread side;
    ASSERT_TRUE(side.post([&] {
      begun.set_value();
      go_on.get_future().wait();
    }));
    begun.get_future().wait();
    for (std::size_t i = 0; i < SideThread::kTasksMax; ++i) {
      EXPECT_TRUE(side.post([&ran] { ++ran; }));
    }
    EXPECT_FALSE(side.post([&ran] { ++ran; }));
    go_on.set_value();
  }
  EXPECT_LE(ran, static_cast<int>(SideThread::kTasksMax));
}

}  // namespace
}  // namespace regroup

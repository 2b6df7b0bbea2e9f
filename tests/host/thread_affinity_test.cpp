#include "runtime/host/thread_affinity.hpp"

#include <thread>

#include <gtest/gtest.h>
#include <sched.h>

namespace regroup {
namespace {

cpu_set_t cpus_of_this_thread() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  EXPECT_EQ(sched_getaffinity(0, sizeof cpus, &cpus), 0);
  return cpus;
}

TEST(ThreadAffinity, OfOneThreadIsGivenToOneThatAPinnedThreadStarts) {
  const cpu_set_t before = cpus_of_this_thread();
  if (CPU_COUNT(&before) < 2) GTEST_SKIP() << "one CPU is all there is";
  const ThreadAffinity wide = ThreadAffinity::of_this_thread();

  cpu_set_t inherited;
  cpu_set_t applied;
  std::thread([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; CPU_COUNT(&one) == 0; ++cpu) {
      if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
    }
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    std::thread([&] {
      inherited = cpus_of_this_thread();
      wide.apply();
      applied = cpus_of_this_thread();
    }).join();
  }).join();

  EXPECT_EQ(CPU_COUNT(&inherited), 1);
  EXPECT_TRUE(CPU_EQUAL(&applied, &before));
}

}  // namespace
}  // namespace regroup

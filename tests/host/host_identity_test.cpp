// Hosts and processes have names of their own, and processes keep theirs.
#include "runtime/host/host_identity.hpp"

#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace regroup {
namespace {

TEST(HostIdentity, IsTheSameTwiceAndSaysSomething) {
  EXPECT_EQ(own_host(), own_host());
  EXPECT_FALSE(own_host().boot_id.empty());
  EXPECT_FALSE(own_host().hostname.empty());
  EXPECT_NE(own_host().pid_namespace, 0U);
  EXPECT_NE(own_network_namespace(), 0U);
}

TEST(HostIdentity, NumbersOfOneHostAreFound) {
  const HostIdentity here{.boot_id = "b", .hostname = "node1", .pid_namespace = 1};
  HostIdentity container = here;
  container.pid_namespace = 2;
  HostIdentity other = here;
  other.hostname = "node2";
  const std::vector<HostIdentity> hosts{here, other, here, container, other};
  EXPECT_THAT(on_host_of(hosts, 2), ::testing::ElementsAre(0, 2));
  EXPECT_THAT(on_host_of(hosts, 1), ::testing::ElementsAre(1, 4));
  EXPECT_THAT(on_host_of(hosts, 3), ::testing::ElementsAre(3));
  EXPECT_THAT(first_on_host(hosts), ::testing::ElementsAre(0, 1, 0, 3, 1));
}

TEST(HostIdentity, AProcessStartsOnceWhateverItIsCalled) {
  const std::uint64_t before = process_start(::getpid());
  EXPECT_GT(before, 0U);
  EXPECT_EQ(process_start(::getppid()) <= before, true);
  ::prctl(PR_SET_NAME, "a) b 1 (c");
  EXPECT_EQ(process_start(::getpid()), before);
}

TEST(HostIdentity, NoProcessHasNoStart) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(process_start(child), 0U);
}

}  // namespace
}  // namespace regroup

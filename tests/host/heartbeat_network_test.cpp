// The network for heartbeats: loopback on one machine, a shared one across several, and never one
// that only looks shared.
#include "runtime/host/heartbeat_network.hpp"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace regroup {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::uint32_t kLoopback = 0x7f000001;
constexpr std::uint32_t kMask16 = 0xffff0000;
constexpr std::uint32_t kMask24 = 0xffffff00;

const LocalNetwork kLo{"lo", kLoopback, 0xff000000, true};
const LocalNetwork kDocker{"docker0", 0xac110001, kMask16, false};  // 172.17.0.1 on every node
LocalNetwork ethernet(std::uint32_t last) {
  return {"eth0", 0xc0a80000 + last, kMask24, false};  // 192.168.0.x
}
LocalNetwork fabric(std::uint32_t last) {
  return {"ib0", 0x0a010000 + last, kMask16, false};  // 10.1.0.x
}

RankNetworks rank_on(const std::string& host, std::vector<LocalNetwork> networks) {
  return {.host = {"boot", host, 1}, .network_namespace = 1, .networks = std::move(networks)};
}

TEST(HeartbeatNetwork, OneMachineUsesLoopback) {
  const auto ips = choose_heartbeat_ips(
      {rank_on("a", {kLo, ethernet(1)}), rank_on("a", {kLo, ethernet(1)})}, "");
  EXPECT_THAT(ips.value(), ElementsAre(kLoopback, kLoopback));
}

TEST(HeartbeatNetwork, LoopbackDoesNotLeaveItsNamespace) {
  std::vector<RankNetworks> ranks{rank_on("a", {kLo, ethernet(1)}),
                                  rank_on("a", {kLo, ethernet(2)})};
  ranks[1].network_namespace = 2;
  EXPECT_THAT(choose_heartbeat_ips(ranks, "").value(), ElementsAre(ethernet(1).ip, ethernet(2).ip));
}

TEST(HeartbeatNetwork, SeveralMachinesUseTheFirstNetworkThatAllShare) {
  const auto ips = choose_heartbeat_ips({rank_on("a", {kLo, kDocker, ethernet(1), fabric(1)}),
                                         rank_on("a", {kLo, kDocker, ethernet(1), fabric(1)}),
                                         rank_on("b", {kLo, kDocker, fabric(2)})},
                                        "");
  EXPECT_THAT(ips.value(), ElementsAre(fabric(1).ip, fabric(1).ip, fabric(2).ip));
}

TEST(HeartbeatNetwork, WithoutASharedOneEachUsesItsFirst) {
  const auto ips =
      choose_heartbeat_ips({rank_on("a", {kLo, ethernet(1)}), rank_on("b", {kLo, fabric(2)})}, "");
  EXPECT_THAT(ips.value(), ElementsAre(ethernet(1).ip, fabric(2).ip));
}

TEST(HeartbeatNetwork, AUserNamesAnInterfaceOrASubnet) {
  const std::vector<RankNetworks> ranks{rank_on("a", {kLo, ethernet(1), fabric(1)}),
                                        rank_on("b", {kLo, ethernet(2), fabric(2)})};
  for (const char* wanted : {"ib0", "10.1.0.0/16", "10.0.0.0/8"}) {
    EXPECT_THAT(choose_heartbeat_ips(ranks, wanted).value(),
                ElementsAre(fabric(1).ip, fabric(2).ip))
        << wanted;
  }
  EXPECT_THAT(choose_heartbeat_ips(ranks, "").value(), ElementsAre(ethernet(1).ip, ethernet(2).ip));
}

TEST(HeartbeatNetwork, WhatNobodyHasIsOneLine) {
  const std::vector<RankNetworks> ranks{rank_on("a", {kLo, ethernet(1)}), rank_on("b", {kLo})};
  EXPECT_THAT(choose_heartbeat_ips(ranks, "").error(),
              HasSubstr("rank 1 on b has no network but loopback"));
  for (const char* wanted : {"ib0", "10.1.0.0/16", "10.1.0.0/33", "x/8", "10.1.0.0/", "lo"}) {
    EXPECT_THAT(choose_heartbeat_ips(ranks, wanted).error(),
                HasSubstr(std::string("rank 0 on a has no address on '") + wanted + "'"));
  }
}

TEST(HeartbeatNetwork, ThisMachineHasLoopback) {
  const std::vector<LocalNetwork> networks = own_networks();
  const auto loopback = std::ranges::find(networks, kLoopback, &LocalNetwork::ip);
  ASSERT_NE(loopback, networks.end());
  EXPECT_TRUE(loopback->loopback);
  EXPECT_EQ(loopback->prefix(), 0x7f000000U);
}

}  // namespace
}  // namespace regroup

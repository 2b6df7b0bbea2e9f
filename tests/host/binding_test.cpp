// The planner on machines of every shape: synthetic ones read through hwloc, and hand-made ones
// where hwloc's notation has no words for them (GPUs, lopsided nodes).
#include "runtime/host/binding.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/host/hwloc_wrapper.hpp"

namespace regroup {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

NodeTopology synthetic(const std::string& description) {
  auto machine = Machine::from_synthetic(description);
  EXPECT_TRUE(machine.has_value()) << machine.error();
  return machine->allowed();
}

// One core, one processing unit each; memory node by memory node, all in one package a memory node.
NodeTopology lopsided(const std::vector<std::uint32_t>& cores_of_numa_nodes) {
  NodeTopology node;
  std::uint32_t next = 0;
  for (std::uint32_t numa = 0; numa < cores_of_numa_nodes.size(); ++numa) {
    for (std::uint32_t core = 0; core < cores_of_numa_nodes[numa]; ++core, ++next) {
      node.cores.push_back(
          {.index = next, .pus = {next}, .numa = numa, .l3 = numa, .package = numa});
    }
  }
  node.machine_pus = next;
  return node;
}

std::vector<std::size_t> core_counts(const BindingPlan& plan) {
  std::vector<std::size_t> counts;
  for (const RankBinding& rank : plan.ranks) counts.push_back(rank.cores.size());
  return counts;
}

std::vector<std::size_t> numa_counts(const BindingPlan& plan) {
  std::vector<std::size_t> counts;
  for (const RankBinding& rank : plan.ranks) counts.push_back(rank.numa_nodes.size());
  return counts;
}

std::vector<int> gpus_of(const BindingPlan& plan) {
  std::vector<int> gpus;
  for (const RankBinding& rank : plan.ranks) gpus.push_back(rank.gpu ? int(*rank.gpu) : -1);
  return gpus;
}

void expect_disjoint(const BindingPlan& plan) {
  std::set<std::uint32_t> seen;
  for (const RankBinding& rank : plan.ranks) {
    for (const std::uint32_t core : rank.cores) {
      EXPECT_TRUE(seen.insert(core).second) << "core " << core << " has two ranks";
    }
  }
}

std::size_t packages_of(const NodeTopology& node, const RankBinding& rank) {
  std::set<std::uint32_t> packages;
  for (const std::uint32_t core : rank.cores) packages.insert(node.cores[core].package);
  return packages.size();
}

std::size_t caches_of(const NodeTopology& node, const RankBinding& rank) {
  std::set<std::uint32_t> caches;
  for (const std::uint32_t core : rank.cores) caches.insert(node.cores[core].l3);
  return caches.size();
}

// 2 packages, 4 memory nodes each, 16 cores a memory node (2 caches of 8), 2 units a core.
const char* const kBigNode = "pack:2 numa:4 l3:2 core:8 pu:2";

TEST(Binding, OneCoreOneRank) {
  const NodeTopology node = synthetic("pack:1 core:1 pu:1");

  const BindingPlan plan = plan_binding(node, 1, {});

  EXPECT_EQ(plan.mode, BindMode::kCore);
  EXPECT_FALSE(plan.oversubscribed);
  EXPECT_THAT(plan.ranks[0].pus, ElementsAre(0));
  EXPECT_THAT(plan.ranks[0].thread_pus, ElementsAre(0));
  EXPECT_EQ(plan.ranks[0].threads, 1U);
  EXPECT_TRUE(plan.ranks[0].exclusive);
}

TEST(Binding, VirtualMachineOfFourCoresIsSplitEvenly) {
  const NodeTopology node = synthetic("pack:1 core:4 pu:1");

  EXPECT_THAT(core_counts(plan_binding(node, 1, {})), ElementsAre(4));
  EXPECT_THAT(core_counts(plan_binding(node, 2, {})), ElementsAre(2, 2));
  EXPECT_THAT(core_counts(plan_binding(node, 3, {})), ElementsAre(2, 1, 1));
  EXPECT_THAT(core_counts(plan_binding(node, 4, {})), Each(1));
}

TEST(Binding, BigNodeGivesEveryRankItsOwnCores) {
  const NodeTopology node = synthetic(kBigNode);
  for (std::uint32_t ranks = 1; ranks <= 128; ++ranks) {
    const BindingPlan plan = plan_binding(node, ranks, {});

    ASSERT_EQ(plan.ranks.size(), ranks);
    expect_disjoint(plan);
    EXPECT_FALSE(plan.oversubscribed) << ranks;
    EXPECT_EQ(plan.idle_cores, 0U) << ranks;
    for (const RankBinding& rank : plan.ranks) {
      EXPECT_TRUE(rank.exclusive);
      EXPECT_EQ(rank.threads, rank.cores.size());
      EXPECT_EQ(rank.pus.size(), 2 * rank.cores.size());
    }
  }
}

TEST(Binding, NoRankStraddlesMemoryNodesWhereThatCanBeAvoided) {
  const NodeTopology node = synthetic(kBigNode);
  for (std::uint32_t ranks = 8; ranks <= 128; ++ranks) {
    EXPECT_THAT(numa_counts(plan_binding(node, ranks, {})), Each(1)) << ranks << " ranks";
  }
}

TEST(Binding, FewRanksGetWholeMemoryNodesOfOnePackage) {
  const NodeTopology node = synthetic(kBigNode);
  for (std::uint32_t ranks = 2; ranks < 8; ++ranks) {
    const BindingPlan plan = plan_binding(node, ranks, {});

    for (const RankBinding& rank : plan.ranks) {
      EXPECT_EQ(packages_of(node, rank), 1U) << ranks << " ranks";
      EXPECT_EQ(rank.cores.size(), 16 * rank.numa_nodes.size()) << ranks << " ranks";
    }
  }
  EXPECT_THAT(numa_counts(plan_binding(node, 4, {})), Each(2));
}

TEST(Binding, RemainderCoresAreSpreadOverRanksOfAMemoryNode) {
  const NodeTopology node = synthetic(kBigNode);

  // 12 ranks on 8 memory nodes of 16 cores: 4 nodes with two ranks, two of them in each package.
  const BindingPlan plan = plan_binding(node, 12, {});

  std::size_t crowded_in_package[2] = {0, 0};
  for (const RankBinding& rank : plan.ranks) {
    if (rank.cores.size() == 8) ++crowded_in_package[node.cores[rank.cores[0]].package];
  }
  EXPECT_EQ(crowded_in_package[0], 4U);
  EXPECT_EQ(crowded_in_package[1], 4U);
}

TEST(Binding, RanksKeepToOneCacheWhereItCostsNoCore) {
  const NodeTopology node = synthetic("pack:1 numa:1 l3:4 core:8 pu:1");

  const BindingPlan four = plan_binding(node, 4, {});
  const BindingPlan eight = plan_binding(node, 8, {});
  const BindingPlan three = plan_binding(node, 3, {});

  for (const RankBinding& rank : four.ranks) EXPECT_EQ(caches_of(node, rank), 1U);
  for (const RankBinding& rank : eight.ranks) EXPECT_EQ(caches_of(node, rank), 1U);
  EXPECT_THAT(core_counts(three), ElementsAre(11, 11, 10)) << "cores matter more than caches";

  const NodeTopology odd = synthetic("pack:1 numa:1 l3:2 core:3 pu:1");
  const BindingPlan along = plan_binding(odd, 4, {});
  for (const RankBinding& rank : along.ranks) EXPECT_EQ(caches_of(odd, rank), 1U);
  EXPECT_THAT(core_counts(along), ElementsAre(2, 1, 2, 1)) << "not 2, 2, 1, 1";
}

TEST(Binding, ThreadsGoOneToACoreNeverToASecondHyperthread) {
  const NodeTopology node = synthetic("pack:1 core:4 pu:2");

  const BindingPlan plan = plan_binding(node, 2, {});

  EXPECT_THAT(plan.ranks[0].pus, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(plan.ranks[0].thread_pus, ElementsAre(0, 2));
  EXPECT_THAT(plan.ranks[1].thread_pus, ElementsAre(4, 6));
}

TEST(Binding, FewerThreadsThanCoresArePinnedToTheFirst) {
  const NodeTopology node = synthetic("pack:1 core:4 pu:1");

  const BindingPlan plan = plan_binding(node, 2, {.threads = 1});

  EXPECT_EQ(plan.ranks[1].threads, 1U);
  EXPECT_THAT(plan.ranks[1].thread_pus, ElementsAre(2));
  EXPECT_THAT(plan.ranks[1].pus, ElementsAre(2, 3));
}

TEST(Binding, MoreThreadsThanCoresFloatAndMoreThanUnitsAreReported) {
  const NodeTopology node = synthetic("pack:1 core:4 pu:2");

  const BindingPlan hyperthreads = plan_binding(node, 2, {.threads = 4});
  const BindingPlan too_many = plan_binding(node, 2, {.threads = 5});

  EXPECT_THAT(hyperthreads.ranks[0].thread_pus, IsEmpty());
  EXPECT_FALSE(hyperthreads.oversubscribed);
  EXPECT_TRUE(too_many.oversubscribed);
  EXPECT_THAT(too_many.notes, ElementsAre(HasSubstr("5 threads")));
}

TEST(Binding, MoreRanksThanCoresShareWithoutExclusiveBinding) {
  const NodeTopology node = synthetic("pack:2 numa:1 core:2 pu:1");

  const BindingPlan plan = plan_binding(node, 6, {.mode = BindMode::kCore});

  EXPECT_TRUE(plan.oversubscribed);
  EXPECT_EQ(plan.mode, BindMode::kNuma);
  for (const RankBinding& rank : plan.ranks) {
    EXPECT_FALSE(rank.exclusive);
    EXPECT_EQ(rank.threads, 1U);
    EXPECT_THAT(rank.thread_pus, IsEmpty());
    EXPECT_EQ(rank.cores.size(), 2U);
    EXPECT_EQ(rank.numa_nodes.size(), 1U);
  }
  EXPECT_THAT(plan.notes, ElementsAre(HasSubstr("6 ranks share 4 cores")));
}

TEST(Binding, NumaModeBindsToWholeMemoryNodes) {
  const NodeTopology node = synthetic("pack:1 numa:2 core:4 pu:1");

  const BindingPlan plan = plan_binding(node, 4, {.mode = BindMode::kNuma});

  EXPECT_THAT(plan.ranks[0].pus, ElementsAre(0, 1, 2, 3));
  EXPECT_EQ(plan.ranks[0].pus, plan.ranks[1].pus);
  EXPECT_THAT(plan.ranks[3].pus, ElementsAre(4, 5, 6, 7));
  EXPECT_EQ(plan.ranks[0].threads, 2U) << "its share, not the whole node";
  EXPECT_THAT(plan.ranks[0].thread_pus, IsEmpty());
}

TEST(Binding, NoneBindsNothingAndStillCountsThreads) {
  const BindingPlan plan =
      plan_binding(synthetic("pack:1 core:4 pu:1"), 2, {.mode = BindMode::kNone});

  EXPECT_THAT(plan.ranks[0].pus, IsEmpty());
  EXPECT_THAT(plan.ranks[0].thread_pus, IsEmpty());
  EXPECT_EQ(plan.ranks[0].threads, 2U);
}

TEST(Binding, LopsidedNodeGivesRanksByCores) {
  const BindingPlan three = plan_binding(lopsided({8, 4}), 3, {});
  const BindingPlan two = plan_binding(lopsided({8, 4}), 2, {});

  EXPECT_THAT(core_counts(three), ElementsAre(4, 4, 4));
  EXPECT_THAT(numa_counts(three), Each(1));
  // 4+4 would leave a memory node idle; one rank a node shares nothing and uses all.
  EXPECT_THAT(numa_counts(two), Each(1));
  expect_disjoint(two);
}

TEST(Binding, CoresLeftIdleAreReported) {
  const BindingPlan plan = plan_binding(lopsided({100, 2}), 3, {});

  EXPECT_EQ(plan.idle_cores, 2U);
  EXPECT_THAT(plan.notes, ElementsAre(HasSubstr("2 of 102 cores stay idle")));
  EXPECT_THAT(core_counts(plan), ElementsAre(34, 33, 33));
}

TEST(Binding, RestrictedCpusetIsNeverLeft) {
  const CpuList allowed = {1, 4, 5, 6, 7, 33};
  const NodeTopology node = restrict_topology(synthetic(kBigNode), allowed);

  const BindingPlan plan = plan_binding(node, 2, {});

  expect_disjoint(plan);
  for (const RankBinding& rank : plan.ranks) {
    EXPECT_TRUE(std::includes(allowed.begin(), allowed.end(), rank.pus.begin(), rank.pus.end()));
    EXPECT_EQ(rank.numa_nodes.size(), 1U);
  }
  EXPECT_THAT(plan.ranks[0].thread_pus, ElementsAre(1, 4, 6)) << "cores 0, 2 and 3";
  EXPECT_THAT(plan.ranks[1].thread_pus, ElementsAre(33));
}

TEST(Binding, CpuQuotaBoundsTheThreads) {
  NodeTopology node = synthetic("pack:1 core:16 pu:1");
  node.cpu_quota = 4.5;

  const BindingPlan plan = plan_binding(node, 2, {});

  EXPECT_EQ(plan.ranks[0].threads, 2U);
  EXPECT_EQ(plan_binding(node, 8, {}).ranks[0].threads, 1U);
  EXPECT_EQ(plan_binding(node, 2, {.threads = 8}).ranks[0].threads, 8U);
  EXPECT_THAT(plan.notes, ElementsAre(HasSubstr("4.5 cpus")));
}

TEST(Binding, SamePlanWhateverTheOrderOfCores) {
  NodeTopology node = synthetic("pack:2 numa:2 l3:1 core:4 pu:1");
  const BindingPlan plan = plan_binding(node, 5, {});
  std::reverse(node.cores.begin(), node.cores.end());

  const BindingPlan reversed = plan_binding(node, 5, {});

  for (std::size_t rank = 0; rank < 5; ++rank) {
    EXPECT_EQ(plan.ranks[rank].pus, reversed.ranks[rank].pus);
  }
}

// -- Masks that the ranks inherited ------------------------------------------------------------

TEST(BindingWithinMasks, EqualMasksBoundTheNode) {
  const std::vector<CpuList> masks(2, CpuList{2, 3});
  const NodeTopology node = node_within_masks(synthetic("pack:1 core:4 pu:1"), masks);

  const BindingPlan plan = plan_binding_within_masks(node, masks, {});

  EXPECT_FALSE(plan.by_launcher);
  EXPECT_FALSE(plan.oversubscribed);
  EXPECT_THAT(plan.ranks[0].pus, ElementsAre(2));
  EXPECT_THAT(plan.ranks[1].pus, ElementsAre(3));
}

TEST(BindingWithinMasks, ALauncherThatBoundToCoresIsFollowed) {
  const std::vector<CpuList> masks = {{3}, {1}};
  const NodeTopology node = node_within_masks(synthetic("pack:1 core:4 pu:1"), masks);

  const BindingPlan plan = plan_binding_within_masks(node, masks, {});

  EXPECT_TRUE(plan.by_launcher);
  EXPECT_FALSE(plan.oversubscribed);
  EXPECT_THAT(plan.ranks[0].thread_pus, ElementsAre(3));
  EXPECT_THAT(plan.ranks[1].thread_pus, ElementsAre(1));
}

TEST(BindingWithinMasks, RanksBoundToTheSameSocketDivideIt) {
  const CpuList first = {0, 1, 2, 3};
  const CpuList second = {4, 5, 6, 7};
  const std::vector<CpuList> masks = {first, second, first, second};
  const NodeTopology node = node_within_masks(synthetic("pack:2 core:4 pu:1"), masks);

  const BindingPlan plan = plan_binding_within_masks(node, masks, {});

  expect_disjoint(plan);
  EXPECT_THAT(plan.ranks[0].pus, ElementsAre(0, 1));
  EXPECT_THAT(plan.ranks[1].pus, ElementsAre(4, 5));
  EXPECT_THAT(plan.ranks[2].pus, ElementsAre(2, 3));
  EXPECT_EQ(plan.ranks[3].local_rank, 3U);
}

TEST(BindingWithinMasks, RanksOnHyperthreadsOfOneCoreAreNotPinned) {
  const std::vector<CpuList> masks = {{0}, {1}};
  const NodeTopology node = node_within_masks(synthetic("pack:1 core:2 pu:2"), masks);

  const BindingPlan plan = plan_binding_within_masks(node, masks, {});

  EXPECT_THAT(plan.ranks[0].pus, ElementsAre(0));
  EXPECT_THAT(plan.ranks[1].pus, ElementsAre(1));
  EXPECT_FALSE(plan.ranks[0].exclusive);
}

TEST(BindingWithinMasks, AMaskFromElsewhereCountsAsTheWholeNode) {
  const std::vector<CpuList> masks(2, CpuList{77});
  const NodeTopology node = node_within_masks(synthetic("pack:1 core:4 pu:1"), masks);

  EXPECT_THAT(core_counts(plan_binding_within_masks(node, masks, {})), ElementsAre(2, 2));
}

// -- GPUs --------------------------------------------------------------------------------------

// kBigNode with a GPU at memory nodes 1, 3, 5 and 7, as on nodes with four GPUs and EPYC
// processors.
NodeTopology node_with_gpus() {
  NodeTopology node = synthetic(kBigNode);
  for (std::uint32_t gpu = 0; gpu < 4; ++gpu) {
    Gpu device;
    device.pci_bus_id = normalize_pci_bus_id("0000:0" + std::to_string(gpu + 1) + ":00.0");
    for (const Core& core : node.cores) {
      if (core.numa != 2 * gpu + 1) continue;
      device.nearest_pus.insert(device.nearest_pus.end(), core.pus.begin(), core.pus.end());
    }
    node.gpus.push_back(device);
  }
  return node;
}

TEST(BindingGpus, OneRankAGpuNearby) {
  const BindingPlan plan = plan_binding(node_with_gpus(), 4, {});

  EXPECT_THAT(gpus_of(plan), ElementsAre(0, 1, 2, 3));
  for (const RankBinding& rank : plan.ranks) {
    EXPECT_EQ(rank.gpu_distance, GpuDistance::kSameNuma);
    EXPECT_EQ(rank.gpu_sharers, 1U);
  }
}

TEST(BindingGpus, TwoRanksAGpuStayInTheirPackage) {
  const BindingPlan plan = plan_binding(node_with_gpus(), 8, {});

  EXPECT_THAT(gpus_of(plan), ElementsAre(0, 0, 1, 1, 2, 2, 3, 3));
  for (const RankBinding& rank : plan.ranks) {
    EXPECT_EQ(rank.gpu_sharers, 2U);
    EXPECT_NE(rank.gpu_distance, GpuDistance::kRemote);
  }
}

TEST(BindingGpus, SharersAreEvenlySpread) {
  const BindingPlan plan = plan_binding(node_with_gpus(), 6, {});

  std::vector<int> sharers(4, 0);
  for (const int gpu : gpus_of(plan)) ++sharers.at(gpu);
  std::sort(sharers.begin(), sharers.end());
  EXPECT_THAT(sharers, ElementsAre(1, 1, 2, 2));
}

TEST(BindingGpus, FewRanksTakeTheNearestOnes) {
  const BindingPlan plan = plan_binding(node_with_gpus(), 2, {});

  for (const RankBinding& rank : plan.ranks) {
    EXPECT_EQ(rank.gpu_distance, GpuDistance::kSameNuma);
  }
  EXPECT_NE(plan.ranks[0].gpu, plan.ranks[1].gpu);
}

TEST(BindingGpus, LocalityBeatsTheOrderOfBusIds) {
  NodeTopology node = node_with_gpus();
  std::swap(node.gpus[0].nearest_pus, node.gpus[3].nearest_pus);

  EXPECT_THAT(gpus_of(plan_binding(node, 4, {})), ElementsAre(3, 1, 2, 0));
}

TEST(BindingGpus, AllRanksOnOnePackageStillGetAGpuEach) {
  NodeTopology node = node_with_gpus();
  CpuList first_package;
  for (const Core& core : node.cores) {
    if (core.package == 0) {
      first_package.insert(first_package.end(), core.pus.begin(), core.pus.end());
    }
  }
  node = restrict_topology(node, first_package);

  const BindingPlan plan = plan_binding(node, 4, {});

  EXPECT_THAT(gpus_of(plan), UnorderedElementsAre(0, 1, 2, 3));
  // Nearness never crowds one GPU while another idles.
  std::vector<int> sharers(4, 0);
  for (const int gpu : gpus_of(plan_binding(node, 5, {}))) ++sharers.at(gpu);
  EXPECT_THAT(sharers, UnorderedElementsAre(2, 1, 1, 1));
}

TEST(BindingGpus, AtMostKAreUsedAndSpreadOverPackages) {
  const BindingPlan two =
      plan_binding(node_with_gpus(), 8, {.gpus = GpuMode::kAtMost, .gpus_max = 2});
  const BindingPlan many =
      plan_binding(node_with_gpus(), 4, {.gpus = GpuMode::kAtMost, .gpus_max = 9});
  const BindingPlan zero =
      plan_binding(node_with_gpus(), 4, {.gpus = GpuMode::kAtMost, .gpus_max = 0});

  EXPECT_THAT(gpus_of(two), ElementsAre(0, 0, 0, 0, 2, 2, 2, 2));
  EXPECT_THAT(gpus_of(many), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(gpus_of(zero), Each(-1));
}

TEST(BindingGpus, NoneMeansNone) {
  EXPECT_THAT(gpus_of(plan_binding(node_with_gpus(), 4, {.gpus = GpuMode::kNone})), Each(-1));
}

TEST(BindingGpus, UnknownPlaceIsUsedAllTheSame) {
  NodeTopology node = synthetic("pack:1 core:4 pu:1");
  node.gpus.push_back(
      {.pci_bus_id = "0000:01:00.0", .name = {}, .nearest_pus = {}, .cuda_ordinal = 0});

  const BindingPlan plan = plan_binding(node, 2, {});

  EXPECT_THAT(gpus_of(plan), Each(0));
  EXPECT_EQ(plan.ranks[0].gpu_distance, GpuDistance::kUnknown);
}

}  // namespace
}  // namespace regroup

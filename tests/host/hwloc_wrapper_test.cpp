// Reading machines through hwloc: synthetic descriptions, an XML file, and the machine at hand.
#include "runtime/host/hwloc_wrapper.hpp"

#include <cstdio>
#include <fstream>
#include <string>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#include <sched.h>

#include "tests/scratch_directory.hpp"

namespace regroup {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A node of two packages, a core each, with an NVIDIA GPU near the second, an NVIDIA sound device
// beside that and another vendor's display: only the first of them is a GPU here.
const char* const kXml = R"(<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
 <object type="Machine" os_index="0" cpuset="0x0000000f" complete_cpuset="0x0000003f"
  allowed_cpuset="0x0000000f" nodeset="0x00000003" complete_nodeset="0x00000003"
  allowed_nodeset="0x00000003" gp_index="1">
  <info name="HostName" value="gpu07"/>
  <object type="Package" os_index="0" cpuset="0x00000003" complete_cpuset="0x00000003"
   nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="2">
   <info name="CPUModel" value="Example 9000"/>
   <object type="NUMANode" os_index="0" cpuset="0x00000003" complete_cpuset="0x00000003"
    nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="3" local_memory="1073741824"/>
   <object type="Core" os_index="0" cpuset="0x00000003" complete_cpuset="0x00000003"
    nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="4">
    <object type="PU" os_index="0" cpuset="0x00000001" complete_cpuset="0x00000001"
     nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="5"/>
    <object type="PU" os_index="1" cpuset="0x00000002" complete_cpuset="0x00000002"
     nodeset="0x00000001" complete_nodeset="0x00000001" gp_index="6"/>
   </object>
  </object>
  <object type="Package" os_index="1" cpuset="0x0000000c" complete_cpuset="0x0000000c"
   nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="7">
   <object type="NUMANode" os_index="1" cpuset="0x0000000c" complete_cpuset="0x0000000c"
    nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="8" local_memory="1073741824"/>
   <object type="Core" os_index="1" cpuset="0x0000000c" complete_cpuset="0x0000000c"
    nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="9">
    <object type="PU" os_index="2" cpuset="0x00000004" complete_cpuset="0x00000004"
     nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="10"/>
    <object type="PU" os_index="3" cpuset="0x00000008" complete_cpuset="0x00000008"
     nodeset="0x00000002" complete_nodeset="0x00000002" gp_index="11"/>
   </object>
   <object type="Bridge" gp_index="12" bridge_type="0-1" depth="0"
    bridge_pci="0000:[3b-3c]">
    <object type="PCIDev" gp_index="13" pci_busid="0000:3b:00.0"
     pci_type="0302 [10de:2330] [10de:16c1] a1" pci_link_speed="0.000000">
     <info name="PCIDevice" value="Example GPU"/>
    </object>
    <object type="PCIDev" gp_index="14" pci_busid="0000:3b:00.1"
     pci_type="0403 [10de:2331] [10de:16c1] a1" pci_link_speed="0.000000"/>
    <object type="PCIDev" gp_index="15" pci_busid="0000:3c:00.0"
     pci_type="0300 [1a03:2000] [1a03:2000] 41" pci_link_speed="0.000000"/>
   </object>
  </object>
 </object>
</topology>
)";

class XmlFile {
 public:
  explicit XmlFile(const std::string& text) { std::ofstream(path()) << text; }
  std::string path() const { return (scratch_.path() / "topology.xml").string(); }

 private:
  test::ScratchDirectory scratch_;
};

TEST(HwlocWrapper, SyntheticMachineIsReducedToPlainCores) {
  const auto machine = Machine::from_synthetic("pack:2 numa:2 l3:2 core:2 pu:2");

  ASSERT_TRUE(machine.has_value()) << machine.error();
  const NodeTopology& node = machine->allowed();
  ASSERT_EQ(node.cores.size(), 16U);
  EXPECT_EQ(node.machine_pus, 32U);
  const PlaceCounts places = count_places(node);
  EXPECT_EQ(places.packages, 2U);
  EXPECT_EQ(places.numa_nodes, 4U);
  EXPECT_EQ(places.l3_groups, 8U);
  EXPECT_EQ(node.cores[15], (Core{.index = 15, .pus = {30, 31}, .numa = 3, .l3 = 7, .package = 1}));
}

TEST(HwlocWrapper, AMachineWithoutCoresHasOneForEachUnit) {
  const auto machine = Machine::from_synthetic("pu:3");

  ASSERT_TRUE(machine.has_value()) << machine.error();
  ASSERT_EQ(machine->allowed().cores.size(), 3U);
  EXPECT_THAT(machine->allowed().cores[2].pus, ElementsAre(2));
}

TEST(HwlocWrapper, BadSyntheticDescriptionSaysWhatToWrite) {
  const auto machine = Machine::from_synthetic("two sockets");

  ASSERT_FALSE(machine.has_value());
  EXPECT_THAT(machine.error(), HasSubstr("'two sockets'"));
  EXPECT_THAT(machine.error(), HasSubstr("pack:2"));
}

TEST(HwlocWrapper, XmlGivesHostRestrictionAndGpus) {
  const XmlFile file(kXml);

  const auto machine = Machine::from_xml(file.path());

  ASSERT_TRUE(machine.has_value()) << machine.error();
  const NodeTopology& node = machine->allowed();
  EXPECT_EQ(node.host, "gpu07");
  EXPECT_EQ(node.cpu_model, "Example 9000");
  EXPECT_EQ(node.memory_bytes, 2147483648U);
  EXPECT_EQ(node.machine_pus, 6U);
  EXPECT_EQ(usable_pus(node).size(), 4U);
  ASSERT_EQ(node.gpus.size(), 1U);
  EXPECT_EQ(node.gpus[0].pci_bus_id, "0000:3b:00.0");
  EXPECT_EQ(node.gpus[0].name, "Example GPU");
  EXPECT_THAT(node.gpus[0].nearest_pus, ElementsAre(2, 3));
}

TEST(HwlocWrapper, MissingOrBrokenXmlIsOneLine) {
  const XmlFile broken("<topology><object");

  for (const std::string& path : {std::string("/nowhere/topology.xml"), broken.path()}) {
    const auto machine = Machine::from_xml(path);

    ASSERT_FALSE(machine.has_value());
    EXPECT_THAT(machine.error(), HasSubstr(path));
    EXPECT_EQ(machine.error().find('\n'), std::string::npos);
  }
}

TEST(HwlocWrapper, NothingIsBoundToADescriptionOfAnotherMachine) {
  const auto machine = Machine::from_synthetic("pack:1 core:2 pu:1");

  EXPECT_FALSE(machine->is_this_machine());
  EXPECT_FALSE(machine->bind_thread(CpuList{0}).has_value());
  EXPECT_FALSE(machine->prefer_local_memory(CpuList{0}).has_value());
  EXPECT_FALSE(machine->thread_binding().has_value());
  EXPECT_EQ(*machine->usable(), machine->allowed());
}

TEST(HwlocWrapper, ThisMachineHasNoMoreThanTheSchedulerAllows) {
  const auto machine = Machine::this_machine();

  ASSERT_TRUE(machine.has_value()) << machine.error();
  const auto node = machine->usable();
  ASSERT_TRUE(node.has_value()) << node.error();
  cpu_set_t mask;
  ASSERT_EQ(sched_getaffinity(0, sizeof mask, &mask), 0);
  EXPECT_EQ(usable_pus(*node).size(), static_cast<std::size_t>(CPU_COUNT(&mask)));
  EXPECT_LE(usable_pus(*node).size(), node->machine_pus);
}

TEST(HwlocWrapper, AThreadIsBoundAndItsMaskRestrictsTheNode) {
  const auto machine = Machine::this_machine();
  ASSERT_TRUE(machine.has_value()) << machine.error();
  const std::uint32_t last = usable_pus(*machine->usable()).back();
  std::expected<void, std::string> bound;
  std::expected<NodeTopology, std::string> within;
  cpu_set_t mask;
  CPU_ZERO(&mask);

  std::thread([&] {  // a thread of its own: the test program itself stays as it was
    bound = machine->bind_thread(CpuList{last});
    sched_getaffinity(0, sizeof mask, &mask);
    within = machine->usable();
  })
      .join();

  ASSERT_TRUE(bound.has_value()) << bound.error();
  EXPECT_EQ(CPU_COUNT(&mask), 1);
  EXPECT_TRUE(CPU_ISSET(last, &mask));
  ASSERT_TRUE(within.has_value()) << within.error();
  EXPECT_THAT(usable_pus(*within), ElementsAre(last));
}

#ifdef _OPENMP
TEST(HwlocWrapper, ThreadsOfATeamHaveACpuEach) {
  const auto machine = Machine::this_machine();
  ASSERT_TRUE(machine.has_value()) << machine.error();
  CpuList cpus = usable_pus(*machine->usable());
  cpus.resize(3, cpus.back());  // more threads than cpus are no error
  std::vector<CpuList> seen(cpus.size());
  std::thread([&] {
    ASSERT_TRUE(machine->bind_team(cpus).has_value());
#pragma omp parallel num_threads(3)
    {
      cpu_set_t mask;
      sched_getaffinity(0, sizeof mask, &mask);
      for (std::uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (CPU_ISSET(cpu, &mask))
          seen[static_cast<std::size_t>(omp_get_thread_num())].push_back(cpu);
      }
    }
  }).join();
  EXPECT_EQ(seen[0].size(), usable_pus(*machine->usable()).size())
      << "what it starts inherits this";
  for (std::size_t thread = 1; thread < cpus.size(); ++thread) {
    EXPECT_EQ(seen[thread], CpuList{cpus[thread]}) << "thread " << thread;
  }
}
#endif

TEST(HwlocWrapper, BindingToWhatIsNotThereIsAnError) {
  const auto machine = Machine::this_machine();
  ASSERT_TRUE(machine.has_value()) << machine.error();

  EXPECT_FALSE(machine->bind_thread(CpuList{}).has_value());
  EXPECT_FALSE(machine->bind_thread(CpuList{100'000}).has_value());
}

TEST(HwlocWrapper, MemoryBindingAnswersAndNeverEndsTheProcess) {
  const auto machine = Machine::this_machine();
  ASSERT_TRUE(machine.has_value()) << machine.error();
  std::expected<void, std::string> preferred;

  std::thread([&] {
    preferred = machine->prefer_local_memory(usable_pus(machine->allowed()));
  }).join();

  // Containers may forbid it: then it says so.
  if (!preferred) {
    EXPECT_THAT(preferred.error(), HasSubstr("cannot prefer memory near cpus"));
  }
}

// -- The plain values ---------------------------------------------------------------------------

TEST(NodeTopology, CpuListsAreWrittenAsRanges) {
  EXPECT_EQ(format_cpu_list(CpuList{}), "");
  EXPECT_EQ(format_cpu_list(CpuList{7}), "7");
  EXPECT_EQ(format_cpu_list(CpuList{0, 1, 2, 3, 8, 10, 11}), "0-3,8,10-11");
}

TEST(NodeTopology, PciBusIdsOfAllToolsCompareEqual) {
  EXPECT_EQ(normalize_pci_bus_id("0000:3B:00.0"), "0000:3b:00.0");
  EXPECT_EQ(normalize_pci_bus_id("00000000:3B:00.0"), "0000:3b:00.0");
  EXPECT_EQ(normalize_pci_bus_id("3b:00.0"), "0000:3b:00.0");
  EXPECT_EQ(normalize_pci_bus_id("00010000:3B:00.0"), "10000:3b:00.0");
}

TEST(NodeTopology, RestrictionDropsUnitsCoresAndGpuPlaces) {
  NodeTopology node = Machine::from_synthetic("pack:1 core:3 pu:2")->allowed();
  node.gpus.push_back(
      {.pci_bus_id = "0000:01:00.0", .name = {}, .nearest_pus = {2, 3, 4, 5}, .cuda_ordinal = {}});

  const NodeTopology less = restrict_topology(node, CpuList{5, 0, 99});

  ASSERT_EQ(less.cores.size(), 2U);
  EXPECT_EQ(less.cores[1].index, 2U);
  EXPECT_THAT(less.cores[1].pus, ElementsAre(5));
  EXPECT_THAT(less.gpus[0].nearest_pus, ElementsAre(5));
  EXPECT_EQ(less.machine_pus, 6U);
  EXPECT_THAT(restrict_topology(node, CpuList{99}).cores, IsEmpty());
}

}  // namespace
}  // namespace regroup

// The plan as a person and as a program read it.
#include "runtime/host/binding_report.hpp"

#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "runtime/host/hwloc_wrapper.hpp"

namespace regroup {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

NodeTopology node_with_a_gpu() {
  NodeTopology node = Machine::from_synthetic("pack:2 numa:1 core:4 pu:2")->allowed();
  node.host = "node17";
  node.cpu_model = "Example 9000";
  node.memory_bytes = 64ULL << 30;
  node.gpus.push_back({.pci_bus_id = "0000:3b:00.0",
                       .name = "Example GPU",
                       .nearest_pus = {8, 9, 10, 11, 12, 13, 14, 15},
                       .cuda_ordinal = 0});
  return node;
}

TEST(BindingReport, TableHasARowARank) {
  const NodeTopology node = node_with_a_gpu();

  const std::string text = topology_text(node, plan_binding(node, 2, {}), 100);

  EXPECT_EQ(text,
            "node17: Example 9000; 2 packages, 2 NUMA nodes, 8 cores, 16 cpus, 64.0 GiB, 1 GPU\n"
            "2 ranks on this node, bound by core\n"
            "\n"
            "rank  cores  cpus  NUMA  threads   GPU\n"
            "0     0-3    0-7   0     4 pinned  0000:3b:00.0 (other package, 2 ranks)\n"
            "1     4-7    8-15  1     4 pinned  0000:3b:00.0 (same NUMA, 2 ranks)\n"
            "\n"
            "GPU           near cpus  ranks  name\n"
            "0000:3b:00.0  8-15       0-1    Example GPU\n");
}

TEST(BindingReport, RestrictionAndNotesAreShown) {
  const NodeTopology node = restrict_topology(node_with_a_gpu(), CpuList{0, 2});

  const std::string text = topology_text(node, plan_binding(node, 3, {}), 100);

  EXPECT_THAT(text, HasSubstr("2 cpus of 16 (restricted)"));
  EXPECT_THAT(text, HasSubstr("3 ranks on this node, bound by numa, oversubscribed"));
  EXPECT_THAT(text, HasSubstr("note: 3 ranks share 2 cores"));
}

TEST(BindingReport, UnboundRanksRunAnywhere) {
  const NodeTopology node = node_with_a_gpu();

  const std::string text =
      topology_text(node, plan_binding(node, 1, {.mode = BindMode::kNone}), 100);

  EXPECT_THAT(text, HasSubstr("bound by none"));
  EXPECT_THAT(text, HasSubstr(" any "));
  EXPECT_THAT(text, Not(HasSubstr("pinned")));
}

TEST(BindingReport, LongListsWrapWithinTheWidth) {
  NodeTopology node = node_with_a_gpu();
  node.gpus.clear();
  node.cores.clear();
  for (std::uint32_t core = 0; core < 64; ++core) {  // cpus with gaps: nothing to fold into ranges
    node.cores.push_back({.index = 2 * core, .pus = {3 * core}, .numa = 0, .l3 = 0, .package = 0});
  }

  const std::string text = topology_text(node, plan_binding(node, 1, {}), 80);

  std::istringstream lines(text);
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) EXPECT_LE(line.size(), 80U) << line;
  EXPECT_GT(count, 8U);
  EXPECT_THAT(text, HasSubstr("189"));
}

TEST(BindingReport, JsonHoldsThePlan) {
  const NodeTopology node = node_with_a_gpu();

  const nlohmann::ordered_json json = topology_json(node, plan_binding(node, 2, {}));

  EXPECT_EQ(json["machine"]["host"], "node17");
  EXPECT_EQ(json["machine"]["cores"], 8);
  EXPECT_EQ(json["machine"]["cpus"], 16);
  EXPECT_EQ(json["machine"]["restricted"], false);
  EXPECT_EQ(json["machine"]["cpu_quota"], nullptr);
  EXPECT_EQ(json["cores"].size(), 8U);
  EXPECT_EQ(json["gpus"][0]["cuda_device"], 0);
  EXPECT_EQ(json["plan"]["mode"], "core");
  const auto& rank = json["plan"]["ranks"][1];
  EXPECT_EQ(rank["cores"], (std::vector<int>{4, 5, 6, 7}));
  EXPECT_EQ(rank["thread_cpus"], (std::vector<int>{8, 10, 12, 14}));
  EXPECT_EQ(rank["gpu"]["pci_bus_id"], "0000:3b:00.0");
  EXPECT_EQ(rank["gpu"]["distance"], "same NUMA");
}

TEST(BindingReport, JsonOfARankWithoutGpuSaysNull) {
  NodeTopology node = node_with_a_gpu();
  node.gpus.clear();

  EXPECT_EQ(topology_json(node, plan_binding(node, 1, {}))["plan"]["ranks"][0]["gpu"], nullptr);
}

}  // namespace
}  // namespace regroup

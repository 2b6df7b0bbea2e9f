// Device discovery gives devices or a reason, and devices find their place in the topology.
#include "runtime/host/device.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/host/cpu_quota.hpp"
#include "runtime/host/hwloc_wrapper.hpp"

namespace regroup {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

CudaDevice device_at(int ordinal, const std::string& bus_id) {
  CudaDevice device;
  device.ordinal = ordinal;
  device.name = "Example GPU";
  device.pci_bus_id = bus_id;
  return device;
}

Gpu gpu_at(const std::string& bus_id, CpuList near) {
  return {.pci_bus_id = bus_id, .name = {}, .nearest_pus = std::move(near), .cuda_ordinal = {}};
}

TEST(Device, NoDeviceComesWithAReason) {
  const DeviceList list = discover_devices();

  EXPECT_EQ(list.devices.empty(), !list.reason.empty());
  if (!built_with_cuda()) {
    EXPECT_THAT(list.reason, ::testing::HasSubstr("REGROUP_CUDA=ON"));
  }
}

TEST(Device, TopologyKeepsTheDevicesThatCanBeUsed) {
  NodeTopology node = Machine::from_synthetic("pack:2 core:2 pu:1")->allowed();
  node.gpus = {gpu_at("0000:3b:00.0", {0, 1}), gpu_at("0000:af:00.0", {2, 3})};

  // CUDA_VISIBLE_DEVICES hides one; another is on a bus that hwloc does not see.
  node =
      with_devices(node, std::vector{device_at(0, "0000:af:00.0"), device_at(1, "0000:05:00.0")});

  ASSERT_EQ(node.gpus.size(), 2U);
  EXPECT_EQ(node.gpus[0].pci_bus_id, "0000:05:00.0");
  EXPECT_THAT(node.gpus[0].nearest_pus, IsEmpty());
  EXPECT_EQ(node.gpus[1].cuda_ordinal, 0);
  EXPECT_THAT(node.gpus[1].nearest_pus, ElementsAre(2, 3));
  EXPECT_EQ(node.gpus[1].name, "Example GPU");
}

TEST(Device, NoDevicesMeansNoGpus) {
  NodeTopology node;
  node.gpus = {gpu_at("0000:3b:00.0", {0})};

  EXPECT_THAT(with_devices(node, {}).gpus, IsEmpty());
}

TEST(CpuQuota, ReadsTheKernelsForm) {
  EXPECT_EQ(parse_cpu_max("200000 100000\n"), 2.0);
  EXPECT_EQ(parse_cpu_max("50000 100000\n"), 0.5);
  EXPECT_EQ(parse_cpu_max("max 100000\n"), std::nullopt);
  EXPECT_EQ(parse_cpu_max(""), std::nullopt);
  EXPECT_EQ(parse_cpu_max("nonsense"), std::nullopt);
}

}  // namespace
}  // namespace regroup

// GPUs from a listing laid out as the kernel's.
#include "runtime/host/pci_bus.hpp"

#include <filesystem>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/scratch_directory.hpp"

namespace regroup {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class PciBus : public ::testing::Test {
 protected:
  void add(const std::string& bus_id, const std::string& vendor, const std::string& device_class,
           const std::string& near) {
    std::filesystem::create_directories(folder_ / bus_id);
    std::ofstream(folder_ / bus_id / "vendor") << vendor << '\n';
    std::ofstream(folder_ / bus_id / "class") << device_class << '\n';
    std::ofstream(folder_ / bus_id / "local_cpulist") << near << '\n';
  }

  const test::ScratchDirectory scratch_;
  const std::filesystem::path& folder_ = scratch_.path();
};

TEST_F(PciBus, GpusAreNvidiasDisplayDevicesInOrder) {
  add("10000:01:00.0", "0x10de", "0x030200", "8-9");
  add("0000:af:00.0", "0x10de", "0x030200", "4-5,7");
  add("0000:3b:00.0", "0x10de", "0x030000", "");
  add("0000:3b:00.1", "0x10de", "0x040300", "0-3");  // its sound device
  add("0000:05:00.0", "0x1a03", "0x030000", "0-3");  // the board's own display

  const std::vector<Gpu> gpus = gpus_on_bus(folder_.string());

  ASSERT_EQ(gpus.size(), 3U);
  EXPECT_EQ(gpus[0].pci_bus_id, "0000:3b:00.0");
  EXPECT_THAT(gpus[0].nearest_pus, IsEmpty());
  EXPECT_EQ(gpus[1].pci_bus_id, "0000:af:00.0");
  EXPECT_THAT(gpus[1].nearest_pus, ElementsAre(4, 5, 7));
  EXPECT_EQ(gpus[2].pci_bus_id, "10000:01:00.0");
}

TEST_F(PciBus, UnreadableOrMissingIsNoGpu) {
  std::filesystem::create_directories(folder_ / "0000:3b:00.0");

  EXPECT_THAT(gpus_on_bus(folder_.string()), IsEmpty());
  EXPECT_THAT(gpus_on_bus("/nowhere"), IsEmpty());
}

TEST(CpuListText, ReadsWhatTheKernelWrites) {
  EXPECT_EQ(parse_cpu_list("0-3,8\n"), (CpuList{0, 1, 2, 3, 8}));
  EXPECT_EQ(parse_cpu_list("5"), CpuList{5});
  EXPECT_EQ(parse_cpu_list(""), CpuList{});
  EXPECT_EQ(parse_cpu_list("7,0-1,1"), (CpuList{0, 1, 7})) << "sorted, no doubles";
}

TEST(CpuListText, RefusesWhatIsNoList) {
  for (const char* text : {"x", "3-1", "1-", "-1", "1,,2", "0-4294967295", "1 2"}) {
    EXPECT_EQ(parse_cpu_list(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace regroup

#include "runtime/host/pci_bus.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace regroup {
namespace {

constexpr unsigned kNvidiaVendor = 0x10de;
constexpr unsigned kDisplayClass = 0x03;
constexpr std::uint32_t kCpuNumberMax = 1 << 20;

// "0x10de\n"; 0 where there is no such file.
unsigned read_hex(const std::filesystem::path& path) {
  std::ifstream file(path);
  unsigned value = 0;
  file >> std::hex >> value;
  return file ? value : 0;
}

std::string read_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::optional<std::uint32_t> parse_cpu(std::string_view text) {
  std::uint32_t cpu = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), cpu);
  if (error != std::errc() || end != text.data() + text.size() || cpu > kCpuNumberMax) {
    return std::nullopt;
  }
  return cpu;
}

}  // namespace

bool is_nvidia_gpu(unsigned vendor, unsigned class_and_subclass) {
  return vendor == kNvidiaVendor && class_and_subclass >> 8 == kDisplayClass;
}

std::optional<CpuList> parse_cpu_list(std::string_view text) {
  CpuList cpus;
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  while (!text.empty()) {
    const std::string_view range = text.substr(0, text.find(','));
    text.remove_prefix(std::min(range.size() + 1, text.size()));
    const std::size_t dash = range.find('-');
    const auto first = parse_cpu(range.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : parse_cpu(range.substr(dash + 1));
    if (!first || !last || *first > *last) return std::nullopt;
    for (std::uint32_t cpu = *first; cpu <= *last; ++cpu) cpus.push_back(cpu);
  }
  std::sort(cpus.begin(), cpus.end());
  cpus.erase(std::unique(cpus.begin(), cpus.end()), cpus.end());
  return cpus;
}

std::vector<Gpu> gpus_on_bus(const std::string& devices_folder) {
  std::vector<Gpu> gpus;
  std::error_code error;
  for (std::filesystem::directory_iterator device(devices_folder, error), end;
       !error && device != end; device.increment(error)) {
    const std::filesystem::path& folder = device->path();
    // The class file holds class, subclass and programming interface, a byte each.
    if (!is_nvidia_gpu(read_hex(folder / "vendor"), read_hex(folder / "class") >> 8)) continue;
    gpus.push_back(
        {.pci_bus_id = normalize_pci_bus_id(folder.filename().string()),
         .name = {},
         .nearest_pus = parse_cpu_list(read_line(folder / "local_cpulist")).value_or(CpuList()),
         .cuda_ordinal = std::nullopt});
  }
  std::sort(gpus.begin(), gpus.end(), comes_before_on_bus);
  return gpus;
}

}  // namespace regroup

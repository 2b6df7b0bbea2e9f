#include "runtime/host/binding_report.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace regroup {
namespace {

using Json = nlohmann::ordered_json;
using Row = std::vector<std::string>;

constexpr std::size_t kColumnsMin = 60;
constexpr std::size_t kListWidthMin = 8;
constexpr std::size_t kGap = 2;  // spaces between columns of the table

// -- Words -----------------------------------------------------------------------------------

std::string count_of(std::size_t count, const std::string& noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string memory_text(std::uint64_t bytes) {
  constexpr double kGib = 1024.0 * 1024.0 * 1024.0;
  return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / kGib);
}

CpuList core_indices(const NodeTopology& node, const RankBinding& rank) {
  CpuList indices;
  for (const std::uint32_t core : rank.cores) indices.push_back(node.cores[core].index);
  std::sort(indices.begin(), indices.end());
  return indices;
}

std::string gpu_text(const NodeTopology& node, const RankBinding& rank) {
  if (!rank.gpu) return "-";
  std::string text =
      fmt::format("{} ({}", node.gpus[*rank.gpu].pci_bus_id, to_text(rank.gpu_distance));
  if (rank.gpu_sharers > 1) text += fmt::format(", {} ranks", rank.gpu_sharers);
  return text + ")";
}

std::string threads_text(const RankBinding& rank) {
  if (!rank.thread_pus.empty()) return fmt::format("{} pinned", rank.threads);
  return std::to_string(rank.threads);
}

std::string machine_line(const NodeTopology& node) {
  const PlaceCounts places = count_places(node);
  const std::size_t usable = usable_pus(node).size();
  std::string line = node.host.empty() ? "machine" : node.host;
  line += ": ";
  if (!node.cpu_model.empty()) line += node.cpu_model + "; ";
  line += fmt::format("{}, {}, {}, {}", count_of(places.packages, "package"),
                      count_of(places.numa_nodes, "NUMA node"), count_of(node.cores.size(), "core"),
                      count_of(usable, "cpu"));
  if (usable < node.machine_pus) line += fmt::format(" of {} (restricted)", node.machine_pus);
  if (node.memory_bytes != 0) line += ", " + memory_text(node.memory_bytes);
  line += ", " + count_of(node.gpus.size(), "GPU");
  return line;
}

// -- The table -------------------------------------------------------------------------------

// Breaks "0-3,8,16-31" after commas into lines of at most `width`, and prose after spaces.
std::vector<std::string> wrap(const std::string& text, std::size_t width, char after) {
  std::vector<std::string> lines;
  std::size_t start = 0;
  while (text.size() - start > width) {
    std::size_t cut = text.rfind(after, start + width - 1);
    if (cut == std::string::npos || cut < start) cut = text.find(after, start + width);
    if (cut == std::string::npos) break;
    lines.push_back(text.substr(start, cut + 1 - start));
    start = cut + 1;
  }
  lines.push_back(text.substr(start));
  return lines;
}

std::vector<std::size_t> widths_of(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths(rows.front().size(), 0);
  for (const Row& row : rows) {
    for (std::size_t column = 0; column < row.size(); ++column) {
      widths[column] = std::max(widths[column], row[column].size());
    }
  }
  return widths;
}

// Takes from the widest of the columns that may wrap until the table fits.
void shrink_to(std::size_t total, std::span<const std::size_t> may_wrap,
               std::vector<std::size_t>& widths) {
  std::size_t sum = kGap * (widths.size() - 1);
  for (const std::size_t width : widths) sum += width;
  while (sum > total) {
    const std::size_t widest =
        *std::max_element(may_wrap.begin(), may_wrap.end(),
                          [&](std::size_t a, std::size_t b) { return widths[a] < widths[b]; });
    if (widths[widest] <= kListWidthMin) return;
    --widths[widest];
    --sum;
  }
}

std::string table_text(const std::vector<Row>& rows, std::span<const std::size_t> may_wrap,
                       std::size_t columns) {
  std::vector<std::size_t> widths = widths_of(rows);
  shrink_to(columns, may_wrap, widths);
  std::string text;
  for (const Row& row : rows) {
    std::vector<std::vector<std::string>> cells;
    std::size_t height = 1;
    for (std::size_t column = 0; column < row.size(); ++column) {
      cells.push_back(wrap(row[column], widths[column], ','));
      height = std::max(height, cells.back().size());
    }
    for (std::size_t line = 0; line < height; ++line) {
      std::string out;
      for (std::size_t column = 0; column < cells.size(); ++column) {
        const std::string cell = line < cells[column].size() ? cells[column][line] : "";
        out += fmt::format("{:<{}}", cell, widths[column] + kGap);
      }
      out.erase(out.find_last_not_of(' ') + 1);
      text += out + '\n';
    }
  }
  return text;
}

std::string prose(const std::string& text, std::size_t columns) {
  std::string out;
  for (std::string line : wrap(text, columns, ' ')) {
    line.erase(line.find_last_not_of(' ') + 1);
    out += (out.empty() ? "" : "  ") + line + '\n';
  }
  return out;
}

std::string rank_table(const NodeTopology& node, const BindingPlan& plan, std::size_t columns) {
  constexpr std::array<std::size_t, 3> kLists = {1, 2, 3};
  std::vector<Row> rows = {{"rank", "cores", "cpus", "NUMA", "threads", "GPU"}};
  for (const RankBinding& rank : plan.ranks) {
    rows.push_back({std::to_string(rank.local_rank), format_cpu_list(core_indices(node, rank)),
                    rank.pus.empty() ? "any" : format_cpu_list(rank.pus),
                    format_cpu_list(rank.numa_nodes), threads_text(rank), gpu_text(node, rank)});
  }
  return table_text(rows, kLists, columns);
}

std::string gpu_table(const NodeTopology& node, const BindingPlan& plan, std::size_t columns) {
  constexpr std::array<std::size_t, 2> kLists = {1, 3};
  std::vector<Row> rows = {{"GPU", "near cpus", "ranks", "name"}};
  for (std::uint32_t gpu = 0; gpu < node.gpus.size(); ++gpu) {
    CpuList ranks;
    for (const RankBinding& rank : plan.ranks) {
      if (rank.gpu == gpu) ranks.push_back(rank.local_rank);
    }
    const Gpu& device = node.gpus[gpu];
    rows.push_back({device.pci_bus_id,
                    device.nearest_pus.empty() ? "unknown" : format_cpu_list(device.nearest_pus),
                    ranks.empty() ? "-" : format_cpu_list(ranks), device.name});
  }
  return table_text(rows, kLists, columns);
}

// -- JSON ------------------------------------------------------------------------------------

Json rank_json(const NodeTopology& node, const RankBinding& rank) {
  Json json = {{"local_rank", rank.local_rank},
               {"cores", core_indices(node, rank)},
               {"cpus", rank.pus},
               {"numa_nodes", rank.numa_nodes},
               {"threads", rank.threads},
               {"thread_cpus", rank.thread_pus},
               {"exclusive", rank.exclusive},
               {"gpu", nullptr}};
  if (rank.gpu) {
    json["gpu"] = {{"index", *rank.gpu},
                   {"pci_bus_id", node.gpus[*rank.gpu].pci_bus_id},
                   {"distance", to_text(rank.gpu_distance)},
                   {"ranks", rank.gpu_sharers}};
  }
  return json;
}

Json machine_json(const NodeTopology& node) {
  const PlaceCounts places = count_places(node);
  const std::size_t usable = usable_pus(node).size();
  return {{"host", node.host},
          {"cpu_model", node.cpu_model},
          {"memory_bytes", node.memory_bytes},
          {"packages", places.packages},
          {"numa_nodes", places.numa_nodes},
          {"l3_groups", places.l3_groups},
          {"cores", node.cores.size()},
          {"cpus", usable},
          {"cpus_of_machine", node.machine_pus},
          {"cpu_quota", node.cpu_quota ? Json(*node.cpu_quota) : Json(nullptr)},
          {"restricted", usable < node.machine_pus}};
}

}  // namespace

const char* to_text(BindMode mode) {
  switch (mode) {
    case BindMode::kAutomatic:
      return "auto";
    case BindMode::kCore:
      return "core";
    case BindMode::kNuma:
      return "numa";
    case BindMode::kNone:
      return "none";
  }
  return "none";
}

const char* to_text(GpuDistance distance) {
  switch (distance) {
    case GpuDistance::kSameNuma:
      return "same NUMA";
    case GpuDistance::kSamePackage:
      return "same package";
    case GpuDistance::kRemote:
      return "other package";
    case GpuDistance::kUnknown:
      return "distance unknown";
  }
  return "distance unknown";
}

std::string topology_text(const NodeTopology& node, const BindingPlan& plan, int columns) {
  const std::size_t width = std::max(kColumnsMin, static_cast<std::size_t>(std::max(columns, 0)));
  std::string text = prose(machine_line(node), width - kGap);
  text +=
      fmt::format("{} on this node, bound by {}{}{}\n\n", count_of(plan.ranks.size(), "rank"),
                  to_text(plan.mode), plan.by_launcher ? ", within the launcher's own binding" : "",
                  plan.oversubscribed ? ", oversubscribed" : "");
  text += rank_table(node, plan, width);
  if (!node.gpus.empty()) text += '\n' + gpu_table(node, plan, width);
  if (!plan.notes.empty()) text += '\n';
  for (const std::string& note : plan.notes) text += prose("note: " + note, width - kGap);
  return text;
}

nlohmann::ordered_json topology_json(const NodeTopology& node, const BindingPlan& plan) {
  Json cores = Json::array();
  for (const Core& core : node.cores) {
    cores.push_back({{"core", core.index},
                     {"cpus", core.pus},
                     {"numa_node", core.numa},
                     {"l3_group", core.l3},
                     {"package", core.package}});
  }
  Json gpus = Json::array();
  for (const Gpu& gpu : node.gpus) {
    gpus.push_back({{"pci_bus_id", gpu.pci_bus_id},
                    {"name", gpu.name},
                    {"near_cpus", gpu.nearest_pus},
                    {"cuda_device", gpu.cuda_ordinal ? Json(*gpu.cuda_ordinal) : Json(nullptr)}});
  }
  Json ranks = Json::array();
  for (const RankBinding& rank : plan.ranks) ranks.push_back(rank_json(node, rank));
  return {{"machine", machine_json(node)},
          {"cores", std::move(cores)},
          {"gpus", std::move(gpus)},
          {"plan",
           {{"mode", to_text(plan.mode)},
            {"oversubscribed", plan.oversubscribed},
            {"by_launcher", plan.by_launcher},
            {"idle_cores", plan.idle_cores},
            {"ranks", std::move(ranks)},
            {"notes", plan.notes}}}};
}

}  // namespace regroup

#include "jobs/run_summary.hpp"

#include <algorithm>
#include <filesystem>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "jobs/run_command.hpp"
#include "jobs/terminal.hpp"
#include "jobs/text_fields.hpp"

namespace regroup {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kNumberColumns = 12;

Json to_json(const ResultValue& value) {
  return std::visit([](const auto& plain) { return Json(plain); }, value);
}

std::string to_text(const ResultValue& value) {
  if (const auto* number = std::get_if<double>(&value)) return fmt::format("{:.10g}", *number);
  if (const auto* text = std::get_if<std::string>(&value)) return printable(*text);
  return std::visit([](const auto& plain) { return fmt::format("{}", plain); }, value);
}

std::string picture_path(const RunSummary& summary, const std::string& file) {
  return (std::filesystem::path(summary.dir) / file).string();
}

Json pictures_json(const RunSummary& summary) {
  Json paths = Json::array();
  for (const std::string& file : summary.picture_files) {
    paths.push_back(picture_path(summary, file));
  }
  return paths;
}

Json result_json(const RunSummary& summary) {
  Json result = Json::object();
  for (const NamedValue& value : summary.values) result[value.name] = to_json(value.value);
  if (summary.columns.empty()) return result;
  result["rows"] = summary.rows;
  Json rows = Json::array();
  for (const auto& row : summary.first_rows) {
    Json& object = rows.emplace_back(Json::object());
    for (std::size_t i = 0; i < row.size(); ++i) object[summary.columns[i].name] = to_json(row[i]);
  }
  result["first_rows"] = std::move(rows);
  return result;
}

std::string values_text(const std::vector<NamedValue>& values) {
  std::size_t width = 0;
  for (const NamedValue& value : values) width = std::max(width, value.name.size());
  std::string text;
  for (const NamedValue& value : values) {
    text += fmt::format("{:<{}}  {}\n", value.name, width, to_text(value.value));
  }
  return text;
}

// Numbers stand right-aligned, texts as they are.
std::string cells_text(const std::vector<ResultColumn>& columns,
                       const std::vector<std::string>& cells) {
  std::string line;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (i != 0) line += "  ";
    const bool text = columns[i].type == ColumnType::kText;
    line += text ? cells[i] : fmt::format("{:>{}}", cells[i], kNumberColumns);
  }
  return line + "\n";
}

std::string pictures_text(const RunSummary& summary) {
  std::string text;
  for (const std::string& file : summary.picture_files) {
    text += fmt::format("picture: {}\n", picture_path(summary, file));
  }
  return text;
}

std::string rows_text(const RunSummary& summary) {
  if (summary.first_rows.empty()) return "";
  std::vector<std::string> cells;
  for (const ResultColumn& column : summary.columns) cells.push_back(column.name);
  std::string text = "\n" + cells_text(summary.columns, cells);
  for (const auto& row : summary.first_rows) {
    cells.clear();
    for (const ResultValue& value : row) cells.push_back(to_text(value));
    text += cells_text(summary.columns, cells);
  }
  if (const std::uint64_t more = summary.rows - summary.first_rows.size(); more != 0) {
    text += fmt::format("{:>{}}  and {} more\n", "...", kNumberColumns, more);
  }
  return text;
}

}  // namespace

std::string summary_json(const RunSummary& summary) {
  Json recoveries = Json::array();
  for (const RecoveryStatus& recovery : summary.recoveries) recoveries.push_back(to_json(recovery));
  const Json object = {{"job", summary.job},
                       {"dir", summary.dir},
                       {"shards", summary.shards},
                       {"quarantined", summary.quarantined},
                       {"seconds", summary.seconds},
                       {"run_seconds", summary.run_seconds},
                       {"ranks", summary.ranks},
                       {"epoch", summary.epoch},
                       {"failures_survived", summary.failures_survived},
                       {"relaunches", summary.relaunches},
                       {"recoveries", recoveries},
                       {"restored_from", to_json(summary.restored_from)},
                       {"shards_repeated", summary.shards_repeated},
                       {"exit", summary.exit_status},
                       {"message", summary.message},
                       {"pictures", pictures_json(summary)},
                       {"result", result_json(summary)}};
  return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string summary_text(const RunSummary& summary, const std::string& program) {
  if (summary.exit_status > kExitQuarantined) return "";
  return fmt::format("{}{}\n{} in {:.2f} s on {}; all of it: {} results {}\n{}",
                     values_text(summary.values), rows_text(summary),
                     counted(summary.shards, "shard"), summary.seconds,
                     counted(summary.ranks, "rank"), program, summary.dir, pictures_text(summary));
}

}  // namespace regroup

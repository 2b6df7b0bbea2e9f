#include "jobs/inspection_report.hpp"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "jobs/recovery_report.hpp"
#include "jobs/terminal.hpp"
#include "jobs/text_fields.hpp"
#include "runtime/host/node_topology.hpp"

namespace regroup {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kReasonBytesMax = 500;
constexpr std::size_t kNamesShownMax = 8;  // of columns or scalars

// ---- Text ----

// Lines of one report, in order.
class Lines {
 public:
  explicit Lines(int columns) : columns_(columns) {}
  void add(std::string_view name, std::string_view text) {
    text_ += field_line(name, text, columns_);
  }
  const std::string& text() const { return text_; }

 private:
  int columns_;
  std::string text_;
};

// A status that nobody writes any more may say that the run goes on.
std::string state_text(const RunInspection& inspection) {
  const RunStatus& status = inspection.status;
  std::string text(run_state_name(status.state));
  if (status.exit) text += fmt::format(", exit status {}", *status.exit);
  if (!inspection.in_use) return text + "; whether a live run holds the directory is not known";
  if (*inspection.in_use) return text + "; a live run holds the directory";
  if (!has_ended(status.state)) text += " when it was last heard of; no live run is there";
  return text;
}

std::string shards_text(const RunStatus& status) {
  std::string text = fmt::format("{} of {} done", status.shards_done, status.shards_total);
  if (status.quarantined != 0) text += fmt::format(", {} given up", status.quarantined);
  if (status.step) text += fmt::format("; cells are at step {}", *status.step);
  if (status.step && status.steps != 0) text += fmt::format(" of {}", status.steps);
  return text;
}

void add_status(const RunInspection& inspection, Lines& lines) {
  const RunStatus& status = inspection.status;
  lines.add("job", printable(status.job));
  lines.add("directory", printable(inspection.directory.string(), kReasonBytesMax));
  lines.add("state", state_text(inspection));
  if (!status.message.empty()) lines.add("message", printable(status.message, kReasonBytesMax));
  lines.add("started", fmt::format("{} by regroup {} on {}", printable(status.started_utc),
                                   printable(status.regroup_version), printable(status.host)));
  lines.add("updated",
            fmt::format("{}, after {:.1f} s", printable(status.updated_utc), status.seconds));
  lines.add("shards", shards_text(status));
  if (status.seed) lines.add("seed", std::to_string(*status.seed));
  lines.add("ranks", fmt::format("{} ({}) in epoch {}", status.members.size(),
                                 format_cpu_list(status.members), status.epoch));
}

void add_failures(const RunStatus& status, Lines& lines) {
  lines.add("failures", status.failures_survived == 0
                            ? "none"
                            : fmt::format("{} survived", status.failures_survived));
  if (status.relaunches != 0) {
    lines.add("", fmt::format("ranks were started again {}", counted(status.relaunches, "time")));
  }
  for (const RecoveryStatus& recovery : status.recoveries)
    lines.add("", fmt::format("{} {}", printable(recovery.detected_utc), recovery_text(recovery)));
  const std::string restored = restored_text(status.restored_from);
  if (restored.empty()) return;
  lines.add(
      "", fmt::format("{}; {} done again", restored, counted(status.shards_repeated, "map shard")));
}

// How the interval was chosen, and how the storage does.
void add_checkpointing(const RunStatus& status, Lines& lines) {
  if (!status.checkpointing) return;
  const CheckpointingStatus& how = *status.checkpointing;
  std::string interval = how.interval_seconds == 0
                             ? "only when asked for"
                             : fmt::format("every {:.1f} s", how.interval_seconds);
  if (how.cost_seconds != 0) interval += fmt::format(", one takes {:.3f} s", how.cost_seconds);
  if (how.failure_interval_seconds != 0) {
    interval += fmt::format(", a failure every {:.0f} s", how.failure_interval_seconds);
  }
  lines.add("checkpointing", interval);
  if (how.failed == 0) return;
  lines.add("", fmt::format("{} sealed, {} failed in the last launch; its storage's breaker is {}",
                            how.sealed, how.failed, printable(how.storage)));
  if (!how.error.empty()) lines.add("", printable(how.error, kReasonBytesMax));
}

void add_partner_copies(const RunStatus& status, Lines& lines) {
  if (!status.partner_copies) return;
  const PartnerCopiesStatus& how = *status.partner_copies;
  if (how.rounds == 0) return;
  std::string text = fmt::format("{} in partners' memory, {}", counted(how.partitions, "partition"),
                                 bytes_text(how.bytes));
  if (how.interval_seconds != 0) text += fmt::format(", every {:.1f} s", how.interval_seconds);
  if (how.cost_seconds != 0) text += fmt::format(", a round takes {:.3f} s", how.cost_seconds);
  if (how.sending_seconds > 0) {
    const double rate = static_cast<double>(how.sent_bytes) / how.sending_seconds;
    text += fmt::format(", sent at {}/s", bytes_text(static_cast<std::uint64_t>(rate)));
  }
  lines.add("copies", text);
  if (how.refused == 0) return;
  lines.add("", fmt::format("{} refused, for want of room: see --partner-memory", how.refused));
}

// ---- Checkpoints ----

std::uint64_t linked_files(const CheckpointManifest& manifest) {
  return static_cast<std::uint64_t>(std::ranges::count_if(
      manifest.files,
      [&](const PartFile& part) { return part.written_in != manifest.checkpoint; }));
}

std::string sealed_text(const CheckpointManifest& manifest) {
  const CheckpointFacts& facts = manifest.facts;
  std::string text =
      fmt::format("sealed {} in epoch {} by {}: {} in {}", printable(facts.utc),
                  manifest.epoch.value, counted(facts.ranks, "rank"),
                  bytes_text(bytes_of(manifest)), counted(manifest.files.size(), "part file"));
  if (const auto linked = linked_files(manifest); linked != 0)
    text += fmt::format(", {} of them linked from earlier ones", linked);
  if (const auto fields = fields_of(manifest).size(); fields != 0)
    text += fmt::format(", {}", counted(fields, "field"));
  return text + fmt::format("; took {:.3g} s", facts.cost_seconds);
}

std::string named_text(const NamedTexts& values, std::string_view between) {
  std::vector<std::string> texts;
  for (const auto& [name, value] : values)
    texts.push_back(fmt::format("{}{}{}", printable(name), between, printable(value)));
  return fmt::format("{}", fmt::join(texts, ", "));
}

void add_facts(const CheckpointFacts& facts, Lines& lines) {
  lines.add("", fmt::format("of job {}, seed {}", printable(facts.job), facts.seed));
  if (!facts.parameters.empty()) lines.add("", "parameters " + named_text(facts.parameters, "="));
  if (!facts.software.empty()) lines.add("", "written by " + named_text(facts.software, " "));
}

void add_checkpoints(const RunCheckpoints& checkpoints, Lines& lines) {
  if (!checkpoints.problem.empty()) return lines.add("checkpoints", checkpoints.problem);
  if (checkpoints.entries.empty()) return lines.add("checkpoints", "none");
  bool is_newest_sealed = true;
  for (const CheckpointEntry& entry : checkpoints.entries) {
    const std::string name = fmt::format("checkpoint {}", entry.checkpoint.value);
    if (entry.state == CheckpointState::kSealed) {
      lines.add(name, sealed_text(*entry.manifest));
      if (is_newest_sealed) add_facts(entry.manifest->facts, lines);
      is_newest_sealed = false;
    } else {
      lines.add(name, fmt::format("{}: {}", checkpoint_state_name(entry.state),
                                  printable(entry.reason, kReasonBytesMax)));
    }
  }
}

// ---- The result ----

std::string names_text(std::vector<std::string> names) {
  const std::size_t count = names.size();
  if (count > kNamesShownMax) names.resize(kNamesShownMax);
  for (std::string& name : names) name = printable(name);
  std::string text = fmt::format("{}", fmt::join(names, ", "));
  if (count > kNamesShownMax) text += fmt::format(" and {} more", count - kNamesShownMax);
  return text;
}

std::vector<std::string> column_names(const ResultInspection& result) {
  std::vector<std::string> names;
  for (const ResultColumn& column : result.columns) names.push_back(column.name);
  return names;
}

std::string result_text(const std::optional<ResultInspection>& result) {
  if (!result) return "none";
  if (!result->problem.empty()) return printable(result->problem, kReasonBytesMax);
  std::string text = bytes_text(result->bytes);
  if (!result->scalars.empty())
    text += fmt::format("; {}: {}", counted(result->scalars.size(), "value"),
                        names_text(result->scalars));
  if (!result->columns.empty())
    text +=
        fmt::format("; {} of {}: {}", counted(result->rows, "row"),
                    counted(result->columns.size(), "column"), names_text(column_names(*result)));
  return text;
}

// ---- JSON ----

Json named_json(const NamedTexts& values) {
  Json list = Json::array();
  for (const auto& [name, value] : values) list.push_back({{"name", name}, {"value", value}});
  return list;
}

Json checkpoint_json(const CheckpointEntry& entry) {
  Json object = {{"checkpoint", entry.checkpoint.value},
                 {"state", checkpoint_state_name(entry.state)},
                 {"reason", entry.reason}};
  if (!entry.manifest) return object;
  const CheckpointManifest& manifest = *entry.manifest;
  object["utc"] = manifest.facts.utc;
  object["epoch"] = manifest.epoch.value;
  object["ranks"] = manifest.facts.ranks;
  object["bytes"] = bytes_of(manifest);
  object["part_files"] = manifest.files.size();
  object["linked_part_files"] = linked_files(manifest);
  object["fields"] = Json::array();
  for (const auto& [dataset, field] : fields_of(manifest)) object["fields"].push_back(field->name);
  object["cost_seconds"] = manifest.facts.cost_seconds;
  object["job"] = manifest.facts.job;
  object["seed"] = manifest.facts.seed;
  object["parameters"] = named_json(manifest.facts.parameters);
  object["software"] = named_json(manifest.facts.software);
  return object;
}

Json checkpoints_json(const RunCheckpoints& checkpoints) {
  Json list = Json::array();
  for (const CheckpointEntry& entry : checkpoints.entries) list.push_back(checkpoint_json(entry));
  return list;
}

Json result_json(const std::optional<ResultInspection>& result) {
  if (!result) return nullptr;
  Json object = {{"bytes", result->bytes}, {"problem", result->problem}};
  if (!result->problem.empty()) return object;
  object["rows"] = result->rows;
  object["columns"] = column_names(*result);
  object["values"] = result->scalars;
  return object;
}

}  // namespace

std::string next_command(const RunInspection& inspection, const std::string& program) {
  const std::string directory = shell_word(inspection.directory.string());
  if (inspection.in_use == true) return "";
  if (inspection.status.state == RunState::kDone)
    return inspection.result ? fmt::format("{} results {}", program, directory) : "";
  const bool can_resume = std::ranges::any_of(
      inspection.checkpoints.entries,
      [](const CheckpointEntry& entry) { return entry.state == CheckpointState::kSealed; });
  return can_resume ? fmt::format("{} resume {}", program, directory) : "";
}

std::string inspection_text(const RunInspection& inspection, const std::string& program,
                            int columns) {
  Lines lines(columns);
  add_status(inspection, lines);
  add_failures(inspection.status, lines);
  add_checkpointing(inspection.status, lines);
  add_partner_copies(inspection.status, lines);
  add_checkpoints(inspection.checkpoints, lines);
  lines.add("result", result_text(inspection.result));
  if (const std::string next = next_command(inspection, program); !next.empty())
    lines.add("next", next);
  return lines.text();
}

// The members of status.json as they are there, then what else was found.
std::string inspection_json(const RunInspection& inspection, const std::string& program) {
  const std::string next = next_command(inspection, program);
  Json object = {{"dir", inspection.directory.string()}};
  object.update(Json::parse(to_json(inspection.status)));
  object["in_use"] = inspection.in_use ? Json(*inspection.in_use) : Json(nullptr);
  object["checkpoints"] = checkpoints_json(inspection.checkpoints);
  object["checkpoints_problem"] = inspection.checkpoints.problem;
  object["result"] = result_json(inspection.result);
  object["next"] = next.empty() ? Json(nullptr) : Json(next);
  return object.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace regroup

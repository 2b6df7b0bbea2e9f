#include "jobs/resumption.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/host/checkpoint_store.hpp"
#include "runtime/host/run_directory.hpp"
#include "scheduler/checkpoint_desk.hpp"

namespace regroup {
namespace {

using Kind = NoResumption::Kind;

std::unexpected<NoResumption> none(Kind kind, std::string message, int exit_status = 0) {
  return std::unexpected(NoResumption{kind, std::move(message), exit_status});
}

std::expected<RunStatus, NoResumption> status_in(const std::filesystem::path& directory) {
  const auto status = read_status(directory);
  if (!status) {
    return none(Kind::kNotThere, fmt::format("{} holds no run to go on with: {}",
                                             directory.string(), status.error()));
  }
  if (status->state == RunState::kDone) {
    return none(Kind::kDone,
                fmt::format("the run in {0} is done: 'regroup results {0}' shows its result",
                            directory.string()),
                status->exit.value_or(0));
  }
  return *status;
}

std::expected<Resumption, NoResumption> resumption_of(const Checkpoint& checkpoint) {
  auto description = checkpoint.read_bytes(kDescriptionDataset);
  if (!description) return none(Kind::kDamaged, description.error());
  return Resumption{
      checkpoint.manifest().checkpoint, checkpoint.manifest().facts, std::move(*description), {}};
}

std::expected<Resumption, NoResumption> newest_resumption(const CheckpointStore& store,
                                                          const std::filesystem::path& directory,
                                                          const std::string& job) {
  auto newest = store.open_newest_valid();
  if (!newest) return none(Kind::kDamaged, newest.error());
  std::vector<std::string> passed_over;
  bool any_damaged = false;
  for (const PassedOver& passed : newest->passed_over) {
    if (passed.state == CheckpointState::kUnfinished) continue;
    any_damaged = true;
    passed_over.push_back(
        fmt::format("checkpoint {} is passed over: {}", passed.checkpoint.value, passed.reason));
  }
  if (newest->checkpoint) {
    auto resumption = resumption_of(*newest->checkpoint);
    if (resumption) resumption->passed_over = std::move(passed_over);
    return resumption;
  }
  if (any_damaged) {
    std::string message = fmt::format("{}: no checkpoint is right", directory.string());
    for (const std::string& line : passed_over) message += "; " + line;
    return none(Kind::kDamaged, std::move(message));
  }
  return none(Kind::kNotThere,
              fmt::format("{} holds no checkpoint to go on from; 'regroup run {} --dir {}' begins "
                          "anew, with the job's options",
                          directory.string(), job, directory.string()));
}

}  // namespace

std::expected<Resumption, NoResumption> find_resumption(const std::filesystem::path& directory,
                                                        CheckpointNumber from) {
  const auto status = status_in(directory);
  if (!status) return std::unexpected(status.error());
  if (status->run.empty()) {
    return none(Kind::kNotThere,
                fmt::format("{} holds no checkpoint: its run has no name", directory.string()));
  }
  const CheckpointStore store(directory, status->run);
  if (from.value == 0) return newest_resumption(store, directory, status->job);
  const auto opened = store.open(from);
  if (!opened) return none(Kind::kDamaged, opened.error().reason);
  return resumption_of(*opened);
}

std::expected<std::string, NoResumption> job_in(const std::filesystem::path& directory) {
  const auto status = status_in(directory);
  if (!status) return std::unexpected(status.error());
  return status->job;
}

namespace {

// Of a run that has not ended with its result.
std::vector<CheckpointEntry> checkpoints_in(const std::filesystem::path& directory) {
  const auto status = read_status(directory);
  if (!status || status->run.empty() || status->state == RunState::kDone) return {};
  return CheckpointStore(directory, status->run).list().value_or(std::vector<CheckpointEntry>());
}

}  // namespace

std::optional<CheckpointNumber> newest_sealed(const std::filesystem::path& directory) {
  const auto entries = checkpoints_in(directory);
  const auto found = std::ranges::find(entries, CheckpointState::kSealed, &CheckpointEntry::state);
  if (found == entries.end()) return std::nullopt;
  return found->checkpoint;
}

bool holds_checkpoint(const std::filesystem::path& directory) {
  return std::ranges::any_of(checkpoints_in(directory), [](const CheckpointEntry& entry) {
    return entry.state != CheckpointState::kUnfinished;
  });
}

}  // namespace regroup

#include "jobs/job_executor.hpp"

#include <exception>

namespace regroup {

Buffer describe_job(Program& program, std::uint64_t seed) {
  Buffer description;
  Writer writer(description);
  writer.put_string(program.name());
  writer.put(seed);
  program.options().save(writer);
  program.save(writer);
  return description;
}

std::expected<std::uint64_t, std::string> open_job(Program& program,
                                                   std::span<const std::byte> description) {
  Reader reader(description);
  if (const auto name = reader.get_string(); name != program.name()) {
    return std::unexpected("the coordinator runs job '" + std::string(name) + "', this rank '" +
                           std::string(program.name()) + "'");
  }
  const auto seed = reader.get<std::uint64_t>();
  if (auto loaded = program.options().load(reader); !loaded) {
    return std::unexpected(loaded.error());
  }
  if (auto loaded = program.load(reader); !loaded) return std::unexpected(loaded.error());
  if (!reader.complete()) return std::unexpected("the job's description cannot be read");
  return seed;
}

namespace {

std::uint32_t partition_of(const WorkOrder& order) {
  return static_cast<std::uint32_t>(order.shards.first.value);
}

}  // namespace

// On a rank that goes on in the place of a coordinator that was lost before it had told anybody.
std::expected<void, std::string> JobExecutor::describe(WorkResult& result) {
  if (auto prepared = program_->prepare(); !prepared) return prepared;
  result.description = describe_job(*program_, seed_);
  return {};
}

std::expected<void, std::string> JobExecutor::open(WorkOrder& order, WorkResult& result) {
  const auto seed = open_job(*program_, order.input.view());
  if (!seed) return std::unexpected(seed.error());
  seed_ = *seed;
  stages_ = program_->stages();
  result.stages = stages_;
  result.cells = program_->cells();
  return {};
}

bool JobExecutor::is_cell(const WorkOrder& order) const {
  return order.stage.value < stages_.size() &&
         stages_[order.stage.value].kind == StageKind::kIterate;
}

void JobExecutor::execute(WorkOrder& order, WorkResult& result) {
  std::expected<void, std::string> outcome;
  try {
    switch (order.kind) {
      case WorkKind::kDescribe:
        outcome = describe(result);
        break;
      case WorkKind::kOpen:
        outcome = open(order, result);
        break;
      case WorkKind::kRun:
        program_->run(order, seed_, resources_, result);
        return;
      case WorkKind::kAbsorb:
        outcome = program_->absorb(order);
        break;
      case WorkKind::kSave:
        result.partitions.push_back(std::move(order.input));
        outcome =
            program_->save_partition(order.stage, partition_of(order), result.partitions.back());
        break;
      case WorkKind::kRestore:
        if (is_cell(order)) {
          outcome = program_->compute_cell(order, seed_, resources_, result);
          break;
        }
        outcome = program_->restore_partition(order.stage, partition_of(order), order.saved());
        break;
      case WorkKind::kForget:
        program_->forget_parts();
        break;
      case WorkKind::kBegin:
      case WorkKind::kStep:
        outcome = program_->compute_cell(order, seed_, resources_, result);
        break;
      case WorkKind::kFinalize:
        outcome = finalize_();
        break;
    }
  } catch (const std::exception& error) {
    outcome = std::unexpected(error.what());
  } catch (...) {
    outcome = std::unexpected("threw something that is no std::exception");
  }
  if (!outcome) result.error = outcome.error();
}

}  // namespace regroup

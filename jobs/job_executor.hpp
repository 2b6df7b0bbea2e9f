// Runs a job's code for the host loop: one Program, one rank. Whatever user code throws becomes
// part of the result, never the end of the rank. Called by the computing thread alone.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "jobs/program.hpp"
#include "runtime/protocol/work.hpp"

namespace regroup {

// What every rank needs to know to open the job, as the coordinator sends it.
Buffer describe_job(Program& program, std::uint64_t seed);
// Opens the job of a program of that name as it was described, and returns its seed.
std::expected<std::uint64_t, std::string> open_job(Program& program,
                                                   std::span<const std::byte> description);

class JobExecutor : public Executor {
 public:
  using Finalize = std::function<std::expected<void, std::string>()>;

  // `program` outlives it. `seed` is for describing the job; another comes with its description.
  // `finalize` writes the result; only the coordinator's is called.
  JobExecutor(Program& program, std::uint64_t seed, const RankResources& resources,
              Finalize finalize)
      : program_(&program), resources_(resources), finalize_(std::move(finalize)), seed_(seed) {}

  void execute(WorkOrder& order, WorkResult& result) override;

 private:
  std::expected<void, std::string> describe(WorkResult& result);
  std::expected<void, std::string> open(WorkOrder& order, WorkResult& result);
  bool is_cell(const WorkOrder& order) const;

  Program* program_;
  RankResources resources_;
  Finalize finalize_;
  std::uint64_t seed_;
  std::vector<StagePlan> stages_;
};

}  // namespace regroup

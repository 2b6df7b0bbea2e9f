// A whole run in one process: a HostLoop with scheduler and job for each rank, each in a thread of
// its own, over queues instead of MPI. What a real run does, where the thread sanitizer can see it.
#pragma once

#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "jobs/job_executor.hpp"
#include "jobs/registry.hpp"
#include "runtime/host/host_loop.hpp"
#include "scheduler/scheduler.hpp"
#include "tests/host/memory_transport.hpp"
#include "tests/jobs/error_of.hpp"
#include "tests/jobs/program_run.hpp"

namespace regroup {

struct ThreadedRank {
  ThreadedRank(test::MemoryNetwork& network, RankId self, std::unique_ptr<Program> made,
               const ScheduleOptions& schedule, Buffer description)
      : program(std::move(made)),
        transport(network, self),
        executor(*program, 1, {.rank = self, .registry = &registry},
                 [this] {
                   picture = report_of(*program);
                   return std::expected<void, std::string>();
                 }),
        node({.self = self, .ranks = network.ranks()},
             std::make_unique<Scheduler>(schedule, *program, std::move(description)), pool),
        loop(node, transport, executor) {
    registry = Registry([this](RegistryCall call) { return loop.call(std::move(call)); });
  }

  std::unique_ptr<Program> program;
  ReportPicture picture;
  BufferPool pool;
  Registry registry;
  test::MemoryTransport transport;
  JobExecutor executor;
  Node node;
  HostLoop loop;
};

// Runs the job of that name to its end, which must be a good one, and returns its result.
inline ReportPicture run_threaded(const JobRegistry& jobs, const char* name,
                                  const ProgramRun::Set& options,
                                  const std::vector<std::string>& inputs, std::uint32_t ranks,
                                  Policy policy = Policy::kDynamic) {
  test::MemoryNetwork network(ranks);
  ScheduleOptions schedule;
  schedule.policy = policy;
  auto coordinator = jobs.make(name);
  for (const auto& [option, value] : options) {
    EXPECT_EQ(error_of(coordinator->options().find(option)->set(value)), "");
  }
  for (const std::string& input : inputs) {
    EXPECT_EQ(error_of(coordinator->options().input_list()->set(input)), "");
  }
  EXPECT_EQ(error_of(coordinator->prepare()), "");
  Buffer description = describe_job(*coordinator, 1);
  std::vector<std::unique_ptr<ThreadedRank>> all;
  all.push_back(std::make_unique<ThreadedRank>(network, RankId{0}, std::move(coordinator), schedule,
                                               std::move(description)));
  for (std::uint32_t rank = 1; rank < ranks; ++rank) {
    all.push_back(
        std::make_unique<ThreadedRank>(network, RankId{rank}, jobs.make(name), schedule, Buffer()));
  }
  std::vector<std::future<Outcome>> outcomes;
  for (auto& rank : all) {
    outcomes.push_back(std::async(std::launch::async, [&] { return rank->loop.run(); }));
  }
  for (auto& outcome : outcomes) {
    const Outcome ended = outcome.get();
    EXPECT_EQ(ended.exit_status, 0) << ended.message;
  }
  return all.front()->picture;
}

}  // namespace regroup

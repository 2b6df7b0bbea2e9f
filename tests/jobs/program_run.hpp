// Runs a Program as the runtime would, without the runtime: a coordinator and some ranks, each with
// an instance and a JobExecutor of its own, in one thread. Which rank runs what, how shards are cut
// into leases, and in which order results and parts arrive is drawn from a seed: the result must
// not depend on it (I8).
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "jobs/job_executor.hpp"
#include "jobs/program.hpp"
#include "jobs/report.hpp"
#include "runtime/host/result_file_reader.hpp"
#include "tests/jobs/temporary_folder.hpp"

namespace regroup {

struct ReportedArray {
  ResultArray array;
  std::vector<std::byte> elements;
  friend bool operator==(const ReportedArray&, const ReportedArray&) = default;
};

// What a report left behind.
struct ReportPicture {
  std::vector<NamedValue> values;
  std::vector<std::vector<ResultValue>> rows;  // the first Report::kPreviewRowsMax
  std::uint64_t row_count = 0;
  std::vector<ReportedArray> arrays;
  friend bool operator==(const ReportPicture&, const ReportPicture&) = default;
};

// A named value of it, which must be there and of that type.
template <class T>
T value_of(const ReportPicture& picture, const std::string& name) {
  for (const NamedValue& value : picture.values) {
    if (value.name == name) return std::get<T>(value.value);
  }
  ADD_FAILURE() << "no value " << name;
  return {};
}

inline ReportPicture report_of(Program& program) {
  const TemporaryFolder folder;
  auto file = ResultFileWriter::create(folder.path(""));
  REGROUP_CHECK(file.has_value(), "the test's result file");
  Report report(*file);
  program.report(report);
  const auto reported = report.finish();
  EXPECT_TRUE(reported) << reported.error();
  const auto finished = file->finish();
  EXPECT_TRUE(finished) << finished.error();
  ReportPicture picture{report.values(), report.preview(), report.rows(), {}};
  const auto reader = ResultFileReader::open(folder.path(""));
  REGROUP_CHECK(reader.has_value(), "the test's result file");
  for (std::size_t number = 0; number < reader->arrays().size(); ++number) {
    auto& [array, elements] = picture.arrays.emplace_back(reader->arrays()[number]);
    std::vector<std::byte> row;
    for (std::uint64_t i = 0; i < array.shape[0]; ++i) {
      EXPECT_TRUE(reader->read_array_row(number, i, row));
      elements.insert(elements.end(), row.begin(), row.end());
    }
  }
  return picture;
}

class ProgramRun {
 public:
  using Make = std::function<std::unique_ptr<Program>()>;
  using Set = std::vector<std::pair<std::string, std::string>>;  // options and their values

  struct Choices {
    std::uint32_t ranks = 1;
    std::uint64_t order_seed = 0;
    std::uint64_t seed = 1;  // of the job's random streams
  };

  ProgramRun(const Make& make, const Set& options, const std::vector<std::string>& inputs,
             const Choices& choices)
      : choices_(choices), random_(choices.order_seed) {
    for (std::uint32_t rank = 0; rank < choices.ranks; ++rank) programs_.push_back(make());
    OptionSet& set = coordinator().options();
    for (const auto& [name, value] : options) {
      Option* const option = set.find(name);
      REGROUP_CHECK(option != nullptr && option->set(value).has_value(), "an option of the test");
    }
    for (const std::string& input : inputs) (void)set.input_list()->set(input);
  }

  Program& coordinator() { return *programs_.front(); }
  const std::vector<ShardFailure>& failures() const { return failures_; }

  // All of it, to the report.
  ReportPicture run() {
    const auto prepared = coordinator().prepare();
    EXPECT_TRUE(prepared) << prepared.error();
    open();
    for (std::size_t stage = 0; stage < stages_.size(); ++stage) run_stage(stage);
    return report_of(coordinator());
  }

 private:
  struct Arrival {
    std::uint32_t rank = 0;
    WorkResult result;
  };

  void open() {
    const Buffer description = describe_job(coordinator(), choices_.seed);
    for (std::uint32_t rank = 0; rank < choices_.ranks; ++rank) {
      executors_.push_back(
          std::make_unique<JobExecutor>(*programs_[rank], 1, RankResources{.rank = RankId{rank}},
                                        [] { return std::expected<void, std::string>(); }));
      WorkOrder order{.kind = WorkKind::kOpen, .input = Buffer(description.view())};
      const WorkResult opened = execute(rank, order);
      EXPECT_EQ(opened.error, "");
      if (rank == 0) stages_ = opened.stages;
      EXPECT_EQ(opened.stages, stages_);
    }
  }

  WorkResult execute(std::uint32_t rank, WorkOrder& order) {
    WorkResult result;
    result.restart(order);
    executors_[rank]->execute(order, result);
    return result;
  }

  std::uint64_t draw(std::uint64_t below) { return random_() % below; }

  void run_stage(std::size_t stage) {
    const StageId id{static_cast<std::uint16_t>(stage)};
    std::vector<Arrival> arrivals;
    for (const ShardRange& range : leases(stages_[stage])) {
      // Partition p lives on rank p modulo the rank count, as `send_parts` deals them.
      const bool homed = stages_[stage].kind == StageKind::kReduce;
      const std::uint64_t rank = homed ? range.first.value % choices_.ranks : draw(choices_.ranks);
      WorkOrder order{.kind = WorkKind::kRun, .stage = id, .shards = range, .attempt = Attempt{1}};
      arrivals.push_back(
          {static_cast<std::uint32_t>(rank), execute(static_cast<std::uint32_t>(rank), order)});
    }
    std::ranges::shuffle(arrivals, random_);
    for (const Arrival& arrival : arrivals) settle(id, arrival);
  }

  // The stage in pieces of random length; of a bag only, for the others take one shard at a time.
  std::vector<ShardRange> leases(const StagePlan& plan) {
    std::vector<ShardRange> ranges;
    for (std::uint64_t first = 0; first < plan.shards;) {
      const std::uint64_t most = plan.kind == StageKind::kBag ? 1 + draw(40) : 1;
      const std::uint64_t count = std::min(most, plan.shards - first);
      ranges.push_back({ShardId{first}, count});
      first += count;
    }
    std::ranges::shuffle(ranges, random_);
    return ranges;
  }

  void settle(StageId stage, const Arrival& arrival) {
    const WorkResult& result = arrival.result;
    for (const ResultSegment& segment : result.results.segments) {
      coordinator().commit(stage, segment.shards, segment.value_bytes,
                           result.results.values(segment));
    }
    for (const ShardFailure& failure : result.failures) {
      failures_.push_back(failure);
      coordinator().skip(stage, failure.shard, Attempt{1}, RankId{arrival.rank}, failure.what);
    }
    send_parts(arrival);
  }

  void send_parts(const Arrival& arrival) {
    const std::vector<Buffer>& parts = arrival.result.partitions;
    for (std::uint32_t owner = 0; owner < choices_.ranks && !parts.empty(); ++owner) {
      WorkOrder order{
          .kind = WorkKind::kAbsorb, .shards = arrival.result.shards, .from = RankId{arrival.rank}};
      Writer writer(order.input);
      for (std::uint32_t part = owner; part < parts.size(); part += choices_.ranks) {
        writer.put(part);
        writer.put_bytes(parts[part].view());
      }
      EXPECT_EQ(execute(owner, order).error, "");
    }
  }

  Choices choices_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Program>> programs_;
  std::vector<std::unique_ptr<JobExecutor>> executors_;
  std::vector<StagePlan> stages_;
  std::vector<ShardFailure> failures_;
};

}  // namespace regroup

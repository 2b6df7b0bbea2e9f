// The sink of a real run: passes results on to the job, remembers which shards were given up and
// why, and holds back whatever the job throws while it merges, which must end the result and not
// the rank. Owned by the coordinator's rank; not thread-safe.
#pragma once

#include <cstddef>
#include <expected>
#include <string>
#include <vector>

#include "scheduler/sink.hpp"

namespace regroup {

class LoggingSink : public ResultSink {
 public:
  static constexpr std::size_t kLinesMax = 20;

  // `program` is what results go to; it outlives the sink.
  explicit LoggingSink(ResultSink& program) : program_(&program) {}

  void commit(StageId stage, ShardRange shards, std::uint32_t value_bytes,
              std::span<const std::byte> values) override;
  void skip(StageId stage, ShardId shard, Attempt attempts, RankId rank,
            const std::string& what) override;

  void add_to_totals(StageId stage, Buffer& into, std::span<const std::byte> next) override;

  // Once merging has failed, or if saving does, only that fact travels: there is no result then.
  void save_state(Writer& writer) const override;
  std::expected<void, std::string> load_state(Reader& reader) override;
  std::size_t state_bytes() const override;

  // One line for each of the first kLinesMax shards given up.
  const std::vector<std::string>& log() const { return log_; }
  // The first thing that the job threw while merging: there is no result then.
  const std::expected<void, std::string>& merged() const { return merged_; }

 private:
  ResultSink* program_;
  std::vector<std::string> log_;
  std::size_t log_bytes_ = 0;
  std::expected<void, std::string> merged_;
};

}  // namespace regroup

// Where one simulated rank's commits go if it coordinates: it holds each against the oracle (I8)
// and against what came before (I7), and says so at once if something is wrong. What it was handed
// can be saved and loaded, as that of a real job.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "scheduler/sink.hpp"
#include "tests/sim/pretend_job.hpp"

namespace regroup::sim {

enum class Fate : std::uint8_t { kOpen, kCommitted, kSkipped };

class RankSink : public ResultSink {
 public:
  using Complain = std::function<void(const char* invariant, const std::string& what)>;

  RankSink(const PretendJob& job, std::uint32_t attempts_max, Complain complain)
      : job_(&job), attempts_max_(attempts_max), complain_(std::move(complain)) {}

  void commit(StageId stage, ShardRange shards, std::uint32_t value_bytes,
              std::span<const std::byte> values) override;
  void skip(StageId stage, ShardId shard, Attempt attempts, RankId rank,
            const std::string& what) override;
  void add_to_totals(StageId stage, Buffer& into, std::span<const std::byte> next) override;
  void save_state(Writer& writer) const override;
  std::expected<void, std::string> load_state(Reader& reader) override;
  std::size_t state_bytes() const override { return state_bytes_; }

  // The result is being written: that may use up what was handed over, so that it is late to save.
  void use_up() { used_up_ = true; }

  Fate fate(StageId stage, ShardId shard) const;
  // Empty unless committed.
  const Bytes& value(StageId stage, ShardId shard) const;

 private:
  struct Handed {
    Fate fate = Fate::kOpen;
    Bytes value;
  };
  void clear();
  Handed* settle(StageId stage, ShardId shard, Fate fate);

  const PretendJob* job_;
  std::uint32_t attempts_max_;
  Complain complain_;
  std::vector<std::vector<Handed>> handed_;  // by stage and shard; empty: nothing yet
  std::size_t state_bytes_ = 1;
  bool used_up_ = false;
};

}  // namespace regroup::sim

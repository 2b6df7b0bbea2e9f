// Acknowledged commits survive (I7): what a worker was told is safe is in the sink of whoever takes
// over, unless so many of those that kept the ledger were lost since that no majority of it can be
// left. It watches the messages of results and their acknowledgements, nothing inside the ranks.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/protocol/frame.hpp"
#include "runtime/protocol/view.hpp"
#include "tests/sim/rank_sink.hpp"

namespace regroup::sim {

class AckChecker {
 public:
  AckChecker(std::uint32_t ranks, std::uint32_t standbys, const PretendJob& job)
      : standbys_(standbys), job_(&job), reports_(ranks), epochs_(ranks), there_since_(ranks) {}

  void sent(const FrameHeader& header, RankId to, std::span<const std::byte> body);
  void entered(const View& view);
  // What is wrong with the sink of a rank that takes over in `view`.
  std::optional<std::string> elected(const View& view, const RankSink& sink) const;
  // Of those who kept the ledger in this epoch, in `now`.
  bool majority_may_be_left(Epoch epoch, const View& now) const;

 private:
  struct Shards {
    StageId stage;
    ShardRange range;
  };
  void acknowledged(RankId worker, std::uint64_t reports, Epoch epoch);

  std::uint32_t standbys_;
  const PretendJob* job_;
  std::map<Epoch, View> views_;
  std::map<std::pair<RankId, RankId>, bool> in_parts_;  // by link: the next frame goes on a message
  // By worker and number, those that it has sent in its epoch: what it does not say again in the
  // next one it does not keep, be it that nobody has heard it.
  std::vector<std::map<std::uint64_t, std::vector<Shards>>> reports_;
  std::vector<Epoch> epochs_;                  // by worker
  std::vector<Epoch> there_since_;             // by rank: without a break
  std::map<Epoch, std::vector<Shards>> safe_;  // by the epoch in which they were acknowledged
};

}  // namespace regroup::sim

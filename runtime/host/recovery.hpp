// What a rank remembers of a recovery: why a view ended, and when each step to the next one was
// done here. Kept by the HostLoop; plain data.
#pragma once

#include <optional>

#include "runtime/protocol/evidence.hpp"
#include "runtime/protocol/view.hpp"

namespace regroup {

// All times are CLOCK_MONOTONIC's, which the ranks of one machine share.
struct Recovery {
  Epoch epoch;   // of the view that was entered
  RankSet lost;  // but not those that had said their last word
  RankSet joined;
  // This rank's own evidence against the first rank that it had any against; none: it was told.
  std::optional<EvidenceKind> evidence;
  Nanoseconds detected = 0;  // that evidence, or if there is none: revoked
  Nanoseconds revoked = 0;   // the view before
  Nanoseconds entered = 0;
  std::optional<Nanoseconds> resumed;  // this rank began its next shards, or step of a cell
};

}  // namespace regroup

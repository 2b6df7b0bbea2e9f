// Who takes part in a run at a time, and who coordinates. Views follow one another by epoch; the
// members agree on each (membership.hpp).
#pragma once

#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/rank_set.hpp"

namespace regroup {

// How far a rank's copy of the ledger goes.
using LedgerPosition = std::uint64_t;

struct View {
  Epoch epoch;
  RankSet members;
  // At most one an epoch (I1). That of the view before if it is still there, else the lowest of
  // those that agreed: it catches up with the ledger's holder first.
  RankId coordinator;
  // Members that the view before this one did not have.
  RankSet joined;
  // Whose copy of the ledger is the longest among those who agreed, and how long it is.
  RankId ledger_holder;
  LedgerPosition ledger = 0;

  friend bool operator==(const View&, const View&) = default;
};

void put_view(Writer& writer, const View& view);
// Empty if it is malformed: no members, a coordinator or joined ranks that are none of them, epoch
// 0.
std::optional<View> get_view(Reader& reader, std::uint32_t ranks);

}  // namespace regroup

// What a failure detector says of a peer.
#pragma once

#include <cstdint>

#include "runtime/protocol/ids.hpp"

namespace regroup {

enum class EvidenceKind : std::uint8_t {
  kConfirmed,  // dead for certain: the kernel said so
  kSuspected,  // silent for too long: dead, stopped, cut off or slow
  kTrusted,    // heard again after a suspicion
};

struct PeerEvidence {
  RankId rank;
  EvidenceKind kind;
};

}  // namespace regroup

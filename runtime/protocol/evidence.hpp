// What a rank learns about the life of its peers, from whoever watches them. A confirmed death is
// certain and final; a suspicion is an opinion that may be taken back; a rank that cannot be
// reached may live, and others may reach it. What follows is for the membership protocol to decide.
#pragma once

#include <cstdint>

#include "runtime/protocol/ids.hpp"

namespace regroup {

enum class EvidenceKind : std::uint8_t {
  kConfirmed,    // dead for certain
  kSuspected,    // silent for too long
  kTrusted,      // heard again after a suspicion
  kLeft,         // has said its last word and goes: no failure
  kUnreachable,  // nothing gets there from here any more, nor will
};

struct PeerEvidence {
  RankId rank;
  EvidenceKind kind{};

  friend constexpr bool operator==(const PeerEvidence&, const PeerEvidence&) = default;
};

}  // namespace regroup

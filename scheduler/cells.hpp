// What workers and the coordinator say to each other of the cells of an iterate stage: in which
// round they are, where they begin it, and how far they have come. The numbers are part of the wire
// format (docs/wire-format.md).
#pragma once

#include <compare>
#include <cstdint>
#include <limits>

#include "runtime/protocol/wire.hpp"

namespace regroup {

inline constexpr std::uint64_t kNoStep = std::numeric_limits<std::uint64_t>::max();

// Cells were set to one step, all of them, and go on from there. Nothing that was said in another
// round is of use.
struct CellRound {
  std::uint32_t round = 0;    // as of partitions: the epoch in which they were last dealt anew
  std::uint32_t attempt = 0;  // of several in it, from 1
  friend auto operator<=>(const CellRound&, const CellRound&) = default;
};

inline void put(Writer& writer, CellRound round) {
  writer.put(round.round);
  writer.put(round.attempt);
}
inline CellRound get_cell_round(Reader& reader) {
  const auto round = reader.get<std::uint32_t>();
  return {round, reader.get<std::uint32_t>()};
}

// Where cells are in the beginning of a round.
enum class CellStart : std::uint8_t {
  kBegin,   // at step 0, which needs no copy
  kMemory,  // at a step of which ranks have copies of all cells
  kFile,    // where a checkpoint has them
};

// What an owner tells the coordinator of its cells, all of them together.
enum class CellNews : std::uint8_t {
  kRestored,  // they stand at `step`; `a`: those that came from a partner, `b`: from a file
  kSteps,     // the one that is furthest behind is at `step`, the first one at `a`
  kEnded,     // they are at the end, at `step`
  kKept,      // they are written down at `step`, and with the partner unless it refused; `b`:
              // nanoseconds that it took
  kMissed,    // they cannot be written down at `step`: one is at `a` already, or the text says why
  kFailed,    // cell `a` could not be set to or taken on from `step`, as the text says
};

}  // namespace regroup

// What passes between the protocol, which decides when a checkpoint is taken and whether it counts,
// and the part of a rank that keeps files: requests out, answers back. The host carries requests
// out on a thread of its own, one after the other; the simulator pretends to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/field.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

// Checkpoints are numbered from 1, growing over the whole life of the run directory.
using CheckpointNumber = Id<struct CheckpointTag, std::uint64_t>;

enum class DiskTask : std::uint8_t {
  kLoad,        // coordinator: read the newest checkpoint of which every byte is right
  kLoadPieces,  // read datasets of one checkpoint, as far as they are there and right
  kNumber,      // coordinator: say what number the next checkpoint gets
  kWritePart,   // make what this rank has to add to a checkpoint durable
  kSeal,        // coordinator: make the parts a checkpoint, and remove old ones
};

// Rows of a dataset from first_row on, numbered over the whole run: bytes, or elements of a field.
struct StatePiece {
  std::string dataset;
  std::uint64_t first_row = 0;
  Buffer bytes;
  // Instead of them: what stays with whoever asks, and is only read, from `shared_begin` on.
  std::shared_ptr<const Buffer> shared = {};
  std::size_t shared_begin = 0;
  std::size_t shared_bytes = kToItsEnd;
  ElementType type = ElementType::kUint8;
  // That the rows are a block of a field, in C order; to load: the block that is wanted.
  std::optional<FieldBlock> block = {};

  static constexpr std::size_t kToItsEnd = std::dynamic_extent;
  std::span<const std::byte> view() const {
    return shared ? shared->view().subspan(shared_begin, shared_bytes) : bytes.view();
  }
};

struct DiskRequest {
  DiskTask task{};
  CheckpointNumber checkpoint;     // kLoad: 0, whichever is the newest; kNumber: the newest known
  Epoch epoch;                     // of whoever asks
  std::vector<StatePiece> pieces;  // kWritePart; to load: the datasets wanted, without bytes
  std::vector<std::string> parts;  // kSeal: as the ranks' disks described them
  // kWritePart: the iteration and the time, in units of the job's own, that its fields are of.
  std::optional<std::uint64_t> step = {};
  std::optional<double> time = {};
  std::uint64_t lamport = 0;  // kSeal
  Nanoseconds taken = 0;      // kSeal: how long ago it was begun
};

struct DiskAnswer {
  DiskTask task{};
  CheckpointNumber checkpoint;  // kLoad: 0, there is none
  std::string error;            // one line; empty: it is done
  // To load: as wanted, each dataset whole but for blocks; kLoadPieces: without bytes where it
  // cannot be read.
  std::vector<StatePiece> pieces;
  std::string part;         // kWritePart: describes it to whoever seals
  std::uint64_t bytes = 0;  // kSeal: of all its files
};

}  // namespace regroup

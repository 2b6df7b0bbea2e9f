#include "tests/sim/pretend_disk.hpp"

#include <algorithm>

#include "tests/sim/random.hpp"

namespace regroup::sim {

DiskAnswer PretendDisk::fail(const DiskRequest& request) {
  return {.task = request.task, .checkpoint = request.checkpoint, .error = "the disk failed"};
}

CheckpointNumber PretendDisk::newest() const {
  CheckpointNumber newest;
  for (const auto& [number, stored] : checkpoints_) {
    if (stored.sealed) newest = number;
  }
  return newest;
}

void PretendDisk::told(CheckpointNumber checkpoint) {
  told_ = std::max(told_, checkpoint);
}

DiskAnswer PretendDisk::carry_out(RankId rank, DiskRequest& request, bool superseded) {
  DiskAnswer answer{.task = request.task, .checkpoint = request.checkpoint};
  switch (request.task) {
    case DiskTask::kLoad:
      load(request, answer);
      break;
    case DiskTask::kLoadPieces:
      load_pieces(request, answer);
      break;
    case DiskTask::kNumber:
      answer.checkpoint.value = checkpoints_.empty() ? 1 : checkpoints_.rbegin()->first.value + 1;
      break;
    case DiskTask::kWritePart:
      write(rank, request, answer);
      break;
    case DiskTask::kSeal:
      seal(request, superseded, answer);
      break;
  }
  return answer;
}

// Pieces of a dataset lie one behind the other, whoever wrote them.
void PretendDisk::load(const DiskRequest& request, DiskAnswer& answer) const {
  answer.checkpoint = request.checkpoint.value != 0 ? request.checkpoint : newest();
  if (answer.checkpoint.value == 0) return;
  const Stored& stored = checkpoints_.at(answer.checkpoint);
  for (const StatePiece& wanted : request.pieces) {
    std::map<std::uint64_t, const Piece*> found;
    for (const auto& [rank, pieces] : stored.parts) {
      for (const Piece& piece : pieces) {
        const bool meant =
            piece.dataset == wanted.dataset && (!wanted.block || piece.block == wanted.block);
        if (meant) found[piece.first_row] = &piece;
      }
    }
    StatePiece& whole = answer.pieces.emplace_back(
        StatePiece{.dataset = wanted.dataset, .type = wanted.type, .block = wanted.block});
    for (const auto& [row, piece] : found) whole.bytes.append(piece->bytes);
  }
}

// Some of them cannot be read.
void PretendDisk::load_pieces(const DiskRequest& request, DiskAnswer& answer) const {
  const auto found = checkpoints_.find(request.checkpoint);
  if (found == checkpoints_.end() || !found->second.sealed) {
    answer.error = "there is no such checkpoint";
    return;
  }
  load(request, answer);
  for (StatePiece& piece : answer.pieces) {
    if (scatter({piece.bytes.size(), request.checkpoint.value}) % 16 == 0) piece.bytes.clear();
  }
}

void PretendDisk::write(RankId rank, const DiskRequest& request, DiskAnswer& answer) {
  Stored& stored = checkpoints_[request.checkpoint];
  if (stored.sealed || stored.parts.contains(rank)) {
    answer.error = "that part is there already";
    return;
  }
  std::vector<Piece>& pieces = stored.parts[rank];
  for (const StatePiece& piece : request.pieces) {
    const auto bytes = piece.view();
    pieces.push_back({piece.dataset, piece.first_row, {bytes.begin(), bytes.end()}, piece.block});
  }
  answer.part = std::to_string(rank.value);
}

void PretendDisk::seal(const DiskRequest& request, bool superseded, DiskAnswer& answer) {
  Stored& stored = checkpoints_[request.checkpoint];
  if (superseded) {
    answer.error = "others have gone on";
  } else if (newest() >= request.checkpoint) {
    answer.error = "a later one is sealed";
  } else if (stored.parts.size() != request.parts.size()) {
    answer.error = "there are other parts than those that were told";
  } else {
    stored.sealed = true;
  }
}

}  // namespace regroup::sim

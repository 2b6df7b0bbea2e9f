#include "runtime/host/checkpoint_disk.hpp"

#include <algorithm>
#include <ctime>
#include <exception>
#include <utility>

#include <fmt/format.h>

#include "runtime/host/checkpoint_manifest.hpp"
#include "runtime/host/run_directory.hpp"

namespace regroup {

DiskAnswer CheckpointDisk::carry_out(DiskRequest& request) const {
  DiskAnswer answer{.task = request.task, .checkpoint = request.checkpoint};
  std::expected<void, std::string> outcome;
  try {
    switch (request.task) {
      case DiskTask::kLoad:
        outcome = load(request, answer);
        break;
      case DiskTask::kLoadPieces:
        outcome = load_pieces(request, answer);
        break;
      case DiskTask::kNumber:
        outcome = number(request, answer);
        break;
      case DiskTask::kWritePart:
        outcome = write_part(request, answer);
        break;
      case DiskTask::kSeal:
        outcome = seal(request, answer);
        break;
    }
  } catch (const std::exception& error) {  // memory
    outcome =
        std::unexpected(fmt::format("checkpoint {}: {}", request.checkpoint.value, error.what()));
  }
  if (!outcome) answer.error = outcome.error();
  return answer;
}

std::expected<void, std::string> CheckpointDisk::load(const DiskRequest& request,
                                                      DiskAnswer& answer) const {
  std::optional<Checkpoint> checkpoint;
  if (request.checkpoint.value != 0) {
    auto opened = store_.open(request.checkpoint);
    if (!opened) return std::unexpected(opened.error().reason);
    checkpoint = std::move(*opened);
  } else {
    auto newest = store_.open_newest_valid();
    if (!newest) return std::unexpected(newest.error());
    for (const PassedOver& passed : newest->passed_over) {
      options_.say(
          fmt::format("checkpoint {} is passed over: {}", passed.checkpoint.value, passed.reason));
    }
    checkpoint = std::move(newest->checkpoint);
  }
  if (!checkpoint) return {};
  for (const StatePiece& wanted : request.pieces) {
    auto bytes = checkpoint->read_bytes(wanted.dataset);
    if (!bytes) return std::unexpected(bytes.error());
    answer.pieces.push_back({wanted.dataset, 0, std::move(*bytes)});
  }
  answer.checkpoint = checkpoint->manifest().checkpoint;
  return {};
}

std::expected<void, std::string> CheckpointDisk::load_pieces(const DiskRequest& request,
                                                             DiskAnswer& answer) const {
  const auto checkpoint = store_.open(request.checkpoint);
  if (!checkpoint) return std::unexpected(checkpoint.error().reason);
  for (const StatePiece& wanted : request.pieces) {
    StatePiece& piece = answer.pieces.emplace_back(StatePiece{wanted.dataset, 0, {}});
    if (!checkpoint->has(wanted.dataset)) continue;
    auto bytes = checkpoint->read_bytes(wanted.dataset);
    if (bytes) piece.bytes = std::move(*bytes);
    if (!bytes) options_.say(bytes.error());
  }
  return {};
}

// Where the directory went away with all that is in it, it may come back.
std::expected<void, std::string> CheckpointDisk::number(const DiskRequest& request,
                                                        DiskAnswer& answer) const {
  const auto next = store_.next_number();
  if (!next) return std::unexpected(next.error());
  answer.checkpoint = std::max(*next, CheckpointNumber{request.checkpoint.value + 1});
  return {};
}

std::expected<void, std::string> CheckpointDisk::write_part(const DiskRequest& request,
                                                            DiskAnswer& answer) const {
  PartRequest part{.checkpoint = request.checkpoint,
                   .epoch = request.epoch,
                   .rank = options_.rank,
                   .pieces = {},
                   .links = {},
                   .attributes = {}};
  for (const StatePiece& piece : request.pieces) {
    part.pieces.push_back({.dataset = piece.dataset,
                           .type = hdf5::ElementType::kUint8,
                           .first_row = piece.first_row,
                           .bytes = piece.view()});
  }
  auto written = store_.write_part(part);
  if (!written) return std::unexpected(written.error());
  answer.part = to_text(*written);
  return {};
}

// Old checkpoints that cannot be removed are no reason not to have a new one.
std::expected<void, std::string> CheckpointDisk::seal(const DiskRequest& request,
                                                      DiskAnswer& answer) const {
  SealRequest seal{.checkpoint = request.checkpoint,
                   .epoch = request.epoch,
                   .facts = options_.facts(),
                   .parts = {}};
  for (const std::string& text : request.parts) {
    auto part = parse_part(text);
    if (!part) return std::unexpected("a rank describes its part wrongly: " + part.error());
    seal.parts.push_back(std::move(*part));
  }
  seal.facts.lamport = request.lamport;
  seal.facts.utc = utc_text(std::time(nullptr));
  seal.facts.cost_seconds = static_cast<double>(request.taken) / static_cast<double>(kSecond);
  const auto sealed = store_.seal(seal, options_.may_seal);
  if (!sealed) return std::unexpected(sealed.error());
  answer.bytes = bytes_of(*sealed);
  const auto removal = store_.retain(options_.keep);
  if (!removal) {
    options_.say(removal.error());
  } else {
    for (const std::string& problem : removal->problems) options_.say(problem);
  }
  return {};
}

}  // namespace regroup

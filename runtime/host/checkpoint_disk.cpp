#include "runtime/host/checkpoint_disk.hpp"

#include <algorithm>
#include <ctime>
#include <exception>
#include <map>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "runtime/host/checkpoint_manifest.hpp"
#include "runtime/host/content_hash.hpp"
#include "runtime/host/run_directory.hpp"

namespace regroup {
namespace {

// A piece that is to be written, and one of that place, kind and length in an earlier checkpoint.
struct Candidate {
  PieceToWrite* piece;
  const StoredPiece* stored;
};

std::vector<Candidate> pieces_as_long(PartRequest& part, const PartFile& file) {
  std::map<std::pair<std::string_view, std::uint64_t>, const StoredPiece*> stored;
  for (const StoredPiece& piece : file.pieces) {
    if (!piece.current) continue;
    stored.emplace(std::pair(std::string_view(piece.dataset), piece.first_row), &piece);
  }
  std::vector<Candidate> candidates;
  for (PieceToWrite& piece : part.pieces) {
    const auto found = stored.find({piece.dataset, piece.first_row});
    if (found == stored.end()) continue;
    const StoredPiece& before = *found->second;
    const bool fits = before.type == piece.type && before.block == piece.block &&
                      before.rows == piece.bytes.size() / hdf5::element_bytes(piece.type);
    if (fits) candidates.push_back({&piece, &before});
  }
  return candidates;
}

std::uint64_t bytes_of(const std::vector<Candidate>& candidates) {
  std::uint64_t bytes = 0;
  for (const Candidate& candidate : candidates) bytes += candidate.piece->bytes.size();
  return bytes;
}

StatePiece answered(const StatePiece& wanted, Buffer bytes) {
  return {.dataset = wanted.dataset,
          .first_row = wanted.first_row,
          .bytes = std::move(bytes),
          .type = wanted.type,
          .block = wanted.block};
}

// The whole dataset, or the block that is wanted, whatever blocks it was written in.
std::expected<Buffer, std::string> read_piece(const Checkpoint& checkpoint,
                                              const StatePiece& wanted) {
  if (!wanted.block) return checkpoint.read_bytes(wanted.dataset);
  return checkpoint.read_block(wanted.dataset, wanted.type, *wanted.block);
}

}  // namespace

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
    auto bytes = read_piece(*checkpoint, wanted);
    if (!bytes) return std::unexpected(bytes.error());
    answer.pieces.push_back(answered(wanted, std::move(*bytes)));
  }
  answer.checkpoint = checkpoint->manifest().checkpoint;
  return {};
}

std::expected<void, std::string> CheckpointDisk::load_pieces(const DiskRequest& request,
                                                             DiskAnswer& answer) const {
  const auto checkpoint = store_.open(request.checkpoint);
  if (!checkpoint) return std::unexpected(checkpoint.error().reason);
  for (const StatePiece& wanted : request.pieces) {
    StatePiece& piece = answer.pieces.emplace_back(answered(wanted, {}));
    if (!checkpoint->has(wanted.dataset)) continue;
    auto bytes = read_piece(*checkpoint, wanted);
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
                           .type = piece.type,
                           .first_row = piece.first_row,
                           .bytes = piece.view(),
                           .block = piece.block});
  }
  if (request.step) part.attributes.push_back({"step", *request.step});
  if (request.time) part.attributes.push_back({"time", *request.time});
  link_unchanged(part);
  auto written = store_.write_part(part);
  if (!written) return std::unexpected(written.error());
  answer.part = to_text(*written);
  return {};
}

// Moves pieces to the part's links. A file counts by the bytes of it that seem unchanged by their
// number, and only then by those that are: most files are settled without a hash.
void CheckpointDisk::link_unchanged(PartRequest& part) const {
  const auto before = store_.open_newest_before(part.checkpoint);
  if (!before) return;
  for (const PartFile& file : before->manifest().files) {
    const bool too_old = part.checkpoint.value - file.written_in.value > kLinkedAgeMax;
    const auto enough = [&](std::uint64_t bytes) {
      return bytes != 0 && bytes * 100 >= file.bytes * kLinkedPercentMin;
    };
    auto pieces = pieces_as_long(part, file);
    if (too_old || !enough(bytes_of(pieces))) continue;
    std::erase_if(pieces, [](const Candidate& candidate) {
      return content_hash(candidate.piece->bytes) != candidate.stored->hash;
    });
    if (!enough(bytes_of(pieces))) continue;
    for (const Candidate& candidate : pieces) {
      part.links.push_back(
          {before->manifest().checkpoint, candidate.stored->dataset, candidate.stored->first_row});
      candidate.piece->dataset.clear();
    }
    std::erase_if(part.pieces, [](const PieceToWrite& piece) { return piece.dataset.empty(); });
  }
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

#include "runtime/host/checkpoint_reader.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>

#include "runtime/host/checkpoint_field.hpp"
#include "runtime/host/checkpoint_files.hpp"
#include "runtime/host/checkpoint_manifest.hpp"
#include "runtime/host/checkpoint_rows.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

using namespace checkpoint_fields;
using namespace checkpoint_files;
using Outcome = std::expected<void, std::string>;

std::unexpected<FileProblem> wrong(std::string reason) {
  return std::unexpected(FileProblem{std::move(reason)});
}

std::unexpected<FileProblem> not_read(std::string reason) {
  return std::unexpected(FileProblem{std::move(reason), true});
}

std::unexpected<FileProblem> in_file(const std::filesystem::path& path,
                                     const FileProblem& problem) {
  return std::unexpected(
      FileProblem{fmt::format("{}: {}", path.string(), problem.reason), problem.unreadable});
}

std::string size_problem(std::uint64_t found, std::uint64_t expected) {
  return fmt::format("it has {} bytes, not {}", found, expected);
}

}  // namespace

std::string_view checkpoint_state_name(CheckpointState state) {
  constexpr std::array<std::string_view, 4> names = {"sealed", "unfinished", "damaged",
                                                     "unreadable"};
  return names[static_cast<std::size_t>(state)];
}

bool CheckpointVerification::only_unreadable() const {
  return std::ranges::all_of(problems, &CheckpointProblem::unreadable);
}

Checkpoint::Checkpoint(FileSystem& file_system, std::filesystem::path directory,
                       CheckpointManifest manifest)
    : file_system_(&file_system), directory_(std::move(directory)), manifest_(std::move(manifest)) {
  for (std::size_t file = 0; file < manifest_.files.size(); ++file) {
    const auto& pieces = manifest_.files[file].pieces;
    for (std::size_t piece = 0; piece < pieces.size(); ++piece) {
      if (!pieces[piece].current) continue;
      Held& held = datasets_[pieces[piece].dataset];
      held.type = pieces[piece].type;
      held.rows = std::max(held.rows, pieces[piece].end_row());
      if (pieces[piece].block) held.field = pieces[piece].block->field;
      if (pieces[piece].rows != 0) held.places.push_back({file, piece});
    }
  }
  for (auto& [name, held] : datasets_)
    std::ranges::sort(held.places, {},
                      [&](const Place& place) { return piece_at(place).first_row; });
}

const StoredPiece& Checkpoint::piece_at(const Place& place) const {
  return manifest_.files[place.file].pieces[place.piece];
}

std::expected<Checkpoint, CheckpointRefusal> Checkpoint::open(
    const std::filesystem::path& directory, CheckpointNumber checkpoint, std::string_view run,
    FileSystem& file_system) {
  const auto path = directory / kManifest;
  const auto damaged = [&](const std::string& reason) {
    return std::unexpected(CheckpointRefusal{CheckpointState::kDamaged, reason});
  };
  const auto refused = [&](const FileProblem& problem) {
    return std::unexpected(CheckpointRefusal{
        problem.unreadable ? CheckpointState::kUnreadable : CheckpointState::kDamaged,
        problem.reason});
  };
  struct stat status {};
  if (file_system.lstat(path.c_str(), &status) != 0 && errno == ENOENT)
    return std::unexpected(CheckpointRefusal{CheckpointState::kUnfinished,
                                             fmt::format("{} is not there", path.string())});
  const auto text = read_regular(file_system, path, CheckpointLimits::manifest_bytes_max);
  if (!text) return refused(text.error());
  auto manifest = parse_manifest(*text);
  if (!manifest) return damaged(fmt::format("{}: {}", path.string(), manifest.error()));
  if (manifest->run != run)
    return damaged(fmt::format("{}: it is of run {}, not {}", path.string(), manifest->run, run));
  if (manifest->checkpoint != checkpoint)
    return damaged(fmt::format("{}: it is of checkpoint {}, not {}", path.string(),
                               manifest->checkpoint.value, checkpoint.value));
  Checkpoint opened(file_system, directory, std::move(*manifest));
  if (const auto done = opened.check_files(); !done) return refused(done.error());
  return opened;
}

Checkpoint::Checked Checkpoint::check_files() const {
  for (const auto& part : manifest_.files)
    if (auto done = check_part(part); !done) return done;
  if (auto done = check_view(kView, manifest_.view); !done || !manifest_.xdmf) return done;
  return check_view(kXdmf, *manifest_.xdmf);
}

Checkpoint::Checked Checkpoint::check_identity(const PartFile& part, int fd) const {
  std::string identity(kIdentityBytes, '\0');
  const int error_number =
      read_at(*file_system_, fd, std::as_writable_bytes(std::span(identity)), 0);
  if (error_number != 0) return not_read(errno_text(error_number));
  if (const auto problem = identity_problem(manifest_.run, part, identity)) return wrong(*problem);
  return {};
}

Checkpoint::Checked Checkpoint::check_part(const PartFile& part) const {
  const auto path = directory_ / part.file;
  const auto file = open_regular(*file_system_, path);
  if (!file) return std::unexpected(file.error());
  Checked done;
  // A short file may still tell whose it is, which is the better answer.
  if (file->bytes >= kIdentityBytes) done = check_identity(part, file->descriptor.get());
  if (done && file->bytes != part.bytes) done = wrong(size_problem(file->bytes, part.bytes));
  if (!done) return in_file(path, done.error());
  return {};
}

Checkpoint::Checked Checkpoint::check_view(std::string_view name, const ViewFile& view) const {
  const auto path = directory_ / name;
  const auto file = open_regular(*file_system_, path);
  if (!file) return std::unexpected(file.error());
  if (file->bytes == view.bytes) return {};
  return in_file(path, {size_problem(file->bytes, view.bytes)});
}

std::vector<CheckpointDataset> Checkpoint::datasets() const {
  std::vector<CheckpointDataset> datasets;
  for (const auto& [name, held] : datasets_)
    datasets.push_back({name, held.type, held.rows, held.places.size()});
  return datasets;
}

std::expected<Buffer, std::string> Checkpoint::read_bytes(std::string_view dataset) const {
  const auto held = datasets_.find(dataset);
  if (held == datasets_.end() || held->second.type != hdf5::ElementType::kUint8) {
    return std::unexpected(
        fmt::format("{}: it has no bytes named '{}'", directory_.string(), dataset));
  }
  Buffer bytes;
  bytes.resize(held->second.rows);
  if (auto done = read(dataset, 0, bytes.writable()); !done) return std::unexpected(done.error());
  return bytes;
}

Outcome Checkpoint::read(std::string_view dataset, std::uint64_t first_row,
                         std::span<std::byte> bytes) const {
  const auto refuse = [&](const std::string& problem) {
    return std::unexpected(
        fmt::format("{}: dataset '{}': {}", directory_.string(), dataset, problem));
  };
  const auto found = datasets_.find(dataset);
  if (found == datasets_.end()) return refuse("there is none");
  const std::size_t element_bytes = hdf5::element_bytes(found->second.type);
  REGROUP_CHECK(bytes.size() % element_bytes == 0, "whole elements are read");
  const auto& places = found->second.places;
  auto place = std::ranges::partition_point(
      places, [&](const Place& candidate) { return piece_at(candidate).end_row() <= first_row; });
  while (!bytes.empty()) {
    if (place == places.end() || piece_at(*place).first_row > first_row)
      return refuse(fmt::format("row {} is in no part", first_row));
    const auto& piece = piece_at(*place);
    const std::uint64_t rows =
        std::min<std::uint64_t>(bytes.size() / element_bytes, piece.end_row() - first_row);
    const auto part = bytes.first(rows * element_bytes);
    if (auto done =
            read_piece(manifest_.files[place->file], piece, first_row - piece.first_row, part);
        !done)
      return done;
    first_row += rows;
    bytes = bytes.subspan(part.size());
    ++place;
  }
  return {};
}

// `row` counts from the piece's first one.
Outcome Checkpoint::read_piece(const PartFile& part, const StoredPiece& piece, std::uint64_t row,
                               std::span<std::byte> bytes) const {
  if (bytes.empty()) return {};
  const auto path = directory_ / part.file;
  const auto file = open_regular(*file_system_, path);
  if (!file) return std::unexpected(file.error().reason);
  const std::size_t element_bytes = hdf5::element_bytes(piece.type);
  const bool whole = bytes.size() == piece.rows * element_bytes;
  RowReading reading(*file_system_, file->descriptor.get(), piece,
                     whole ? RowReading::Hash::kWhole : RowReading::Hash::kNone);
  auto done = reading.read(row, bytes);
  if (done) done = reading.finish();
  if (!done) return std::unexpected(fmt::format("{}: {}", path.string(), done.error()));
  return {};
}

const GridField* Checkpoint::field(std::string_view dataset) const {
  const auto found = datasets_.find(dataset);
  if (found == datasets_.end() || !found->second.field) return nullptr;
  return &*found->second.field;
}

Outcome Checkpoint::read_block(std::string_view dataset, std::span<const std::uint64_t> start,
                               std::span<const std::uint64_t> extent,
                               std::span<std::byte> bytes) const {
  const auto refuse = [&](const std::string& problem) {
    return std::unexpected(
        fmt::format("{}: dataset '{}': {}", directory_.string(), dataset, problem));
  };
  const GridField* const grid = field(dataset);
  if (grid == nullptr) return refuse("there is no field of that name");
  if (!lies_inside(*grid, start, extent)) return refuse("its field has no such block");
  const Held& held = datasets_.find(dataset)->second;
  const Box wanted = box_of(start, extent);
  REGROUP_CHECK(bytes.size() == wanted.elements() * hdf5::element_bytes(held.type),
                "a block is read into as many bytes as it has");
  std::uint64_t missing = wanted.elements();
  for (const Place& place : held.places)
    if (const auto shared = shared_box(box_of(*piece_at(place).block), wanted))
      missing -= shared->elements();
  if (missing != 0) return refuse(fmt::format("{} elements of the block are in no part", missing));
  for (const Place& place : held.places)
    if (const auto shared = shared_box(box_of(*piece_at(place).block), wanted))
      if (auto done = read_shared(place, *shared, wanted, bytes); !done) return done;
  return {};
}

std::expected<Buffer, std::string> Checkpoint::read_block(std::string_view dataset,
                                                          ElementType type,
                                                          const FieldBlock& block) const {
  const GridField* const grid = field(dataset);
  const bool fits = grid != nullptr && grid->shape == block.field.shape &&
                    datasets_.find(dataset)->second.type == type &&
                    lies_inside(*grid, block.start, block.extent);
  if (!fits)
    return std::unexpected(fmt::format("{}: it has no field of that shape and type in '{}'",
                                       directory_.string(), dataset));
  Buffer bytes;
  bytes.resize(box_of(block).elements() * hdf5::element_bytes(type));
  if (auto done = read_block(dataset, block.start, block.extent, bytes.writable()); !done)
    return std::unexpected(done.error());
  return bytes;
}

// What a piece and the wanted block share, in runs of elements that lie one behind the other in
// both.
Outcome Checkpoint::read_shared(const Place& place, const Box& shared, const Box& wanted,
                                std::span<std::byte> bytes) const {
  const StoredPiece& piece = piece_at(place);
  const Box held = box_of(*piece.block);
  std::size_t first = 2;  // the slowest dimension of a run
  std::uint64_t run = shared.extent(2);
  while (first > 0 && shared.extent(first) == held.extent(first) &&
         shared.extent(first) == wanted.extent(first))
    run *= shared.extent(--first);
  const auto path = directory_ / manifest_.files[place.file].file;
  const auto file = open_regular(*file_system_, path);
  if (!file) return std::unexpected(file.error().reason);
  RowReading reading(
      *file_system_, file->descriptor.get(), piece,
      shared.elements() == piece.rows ? RowReading::Hash::kWhole : RowReading::Hash::kNone);
  const std::size_t element_bytes = hdf5::element_bytes(piece.type);
  Box runs = shared;  // where they begin
  for (std::size_t i = first; i < kDimensionsMax; ++i) runs.end[i] = runs.start[i] + 1;
  Outcome done;
  auto at = runs.start;
  for (; done && at[0] < runs.end[0]; ++at[0])
    for (at[1] = runs.start[1]; done && at[1] < runs.end[1]; ++at[1])
      done = reading.read(held.row_of(at),
                          bytes.subspan(wanted.row_of(at) * element_bytes, run * element_bytes));
  if (done) done = reading.finish();
  if (!done) return std::unexpected(fmt::format("{}: {}", path.string(), done.error()));
  return {};
}

CheckpointVerification Checkpoint::verify() const {
  CheckpointVerification verification;
  for (const auto& part : manifest_.files) verify_part(part, verification);
  verify_view(kView, manifest_.view, verification);
  if (manifest_.xdmf) verify_view(kXdmf, *manifest_.xdmf, verification);
  return verification;
}

void Checkpoint::verify_part(const PartFile& part, CheckpointVerification& verification) const {
  const auto report = [&](FileProblem problem) {
    verification.problems.push_back({part.file, std::move(problem.reason), problem.unreadable});
  };
  ++verification.files;
  if (const auto checked = check_part(part); !checked) return report(checked.error());
  const auto file = open_regular(*file_system_, directory_ / part.file);
  if (!file) return report(file.error());
  const int fd = file->descriptor.get();
  const auto structure = hash_of(*file_system_, fd, structure_of(part));
  if (!structure)
    report({structure.error(), true});
  else if (*structure != part.structure_hash)
    report({hash_problem("the bytes around its datasets are")});
  for (const auto& piece : part.pieces) {
    ++verification.pieces;
    if (const auto done = verify_piece(*file_system_, fd, piece); !done) report(done.error());
  }
  verification.bytes += part.bytes;
}

void Checkpoint::verify_view(std::string_view name, const ViewFile& view,
                             CheckpointVerification& verification) const {
  const auto report = [&](FileProblem problem) {
    verification.problems.push_back(
        {std::string(name), std::move(problem.reason), problem.unreadable});
  };
  ++verification.files;
  if (const auto checked = check_view(name, view); !checked) return report(checked.error());
  const auto file = open_regular(*file_system_, directory_ / name);
  if (!file) return report(file.error());
  const hdf5::Extent whole{0, file->bytes};
  const auto hash = hash_of(*file_system_, file->descriptor.get(), {&whole, 1});
  if (!hash)
    report({hash.error(), true});
  else if (*hash != view.hash)
    report({hash_problem("it is")});
  verification.bytes += file->bytes;
}

}  // namespace regroup

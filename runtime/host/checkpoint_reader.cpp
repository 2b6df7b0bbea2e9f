#include "runtime/host/checkpoint_reader.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fmt/format.h>
#include <sys/stat.h>

#include "runtime/host/checkpoint_files.hpp"
#include "runtime/host/checkpoint_manifest.hpp"
#include "runtime/host/chunk_codec.hpp"
#include "runtime/host/content_hash.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

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

std::string hash_problem(std::string_view what) {
  return fmt::format("{} not what was written: the hash differs", what);
}

std::string name_of(const StoredPiece& piece) {
  return fmt::format("rows of '{}' from {} on are", piece.dataset, piece.first_row);
}

// Expands the chunks of a piece one by one.
class ChunkReading {
 public:
  ChunkReading(FileSystem& file_system, int fd, const StoredPiece& piece)
      : file_system_(file_system),
        fd_(fd),
        piece_(piece),
        element_bytes_(hdf5::element_bytes(piece.type)),
        chunk_(piece.chunk_rows * element_bytes_) {}

  // The elements of a chunk that are in the piece, valid until the next call.
  std::expected<std::span<const std::byte>, FileProblem> next(std::size_t index) {
    const auto& extent = piece_.storage[index];
    stored_.resize(extent.bytes);
    if (const int error_number = read_at(file_system_, fd_, stored_, extent.offset);
        error_number != 0)
      return not_read(errno_text(error_number));
    stored_hasher_.update(stored_);
    if (stored_.size() == chunk_.size())
      std::ranges::copy(stored_, chunk_.begin());
    else if (!expand_chunk(stored_, element_bytes_, chunk_))
      return wrong(name_of(piece_) + " in a chunk that does not expand");
    const std::uint64_t rows = std::min(piece_.chunk_rows, piece_.rows - index * piece_.chunk_rows);
    return std::span<const std::byte>(chunk_).first(rows * element_bytes_);
  }

  std::string stored_hash() const { return stored_hasher_.hex(); }

 private:
  FileSystem& file_system_;
  int fd_;
  const StoredPiece& piece_;
  std::size_t element_bytes_;
  std::vector<std::byte> chunk_;
  std::vector<std::byte> stored_;
  ContentHasher stored_hasher_;
};

// Why a piece is not what was written.
std::expected<void, FileProblem> verify_piece(FileSystem& file_system, int fd,
                                              const StoredPiece& piece) {
  ContentHasher hasher;
  if (piece.chunk_rows == 0) {
    const auto done =
        for_each_block(file_system, fd, piece.storage, [&](auto block) { hasher.update(block); });
    if (!done) return not_read(done.error());
    if (hasher.hex() != piece.hash) return wrong(hash_problem(name_of(piece)));
    return {};
  }
  ChunkReading chunks(file_system, fd, piece);
  for (std::size_t i = 0; i < piece.storage.size(); ++i) {
    const auto elements = chunks.next(i);
    if (!elements) return std::unexpected(elements.error());
    hasher.update(*elements);
  }
  if (chunks.stored_hash() != piece.stored_hash || hasher.hex() != piece.hash)
    return wrong(hash_problem(name_of(piece)));
  return {};
}

Outcome read_contiguous(FileSystem& file_system, int fd, const StoredPiece& piece,
                        std::uint64_t offset, std::span<std::byte> bytes, ContentHasher* hasher) {
  for (std::size_t at = 0; at < bytes.size(); at += kBlockBytes) {
    const auto block = bytes.subspan(at, std::min(kBlockBytes, bytes.size() - at));
    const int error_number =
        read_at(file_system, fd, block, piece.storage.front().offset + offset + at);
    if (error_number != 0) return std::unexpected(errno_text(error_number));
    if (hasher != nullptr) hasher->update(block);
  }
  return {};
}

Outcome read_chunks(FileSystem& file_system, int fd, const StoredPiece& piece, std::uint64_t row,
                    std::span<std::byte> bytes, ContentHasher* hasher) {
  const std::size_t element_bytes = hdf5::element_bytes(piece.type);
  ChunkReading chunks(file_system, fd, piece);
  while (!bytes.empty()) {
    const auto elements = chunks.next(row / piece.chunk_rows);
    if (!elements) return std::unexpected(elements.error().reason);
    const auto wanted = elements->subspan(row % piece.chunk_rows * element_bytes);
    const auto taken = wanted.first(std::min(wanted.size(), bytes.size()));
    if (hasher != nullptr) hasher->update(taken);
    std::ranges::copy(taken, bytes.begin());
    bytes = bytes.subspan(taken.size());
    row += taken.size() / element_bytes;
  }
  return {};
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
  return check_view();
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

Checkpoint::Checked Checkpoint::check_view() const {
  const auto path = directory_ / kView;
  const auto file = open_regular(*file_system_, path);
  if (!file) return std::unexpected(file.error());
  if (file->bytes == manifest_.view.bytes) return {};
  return in_file(path, {size_problem(file->bytes, manifest_.view.bytes)});
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
  ContentHasher hasher;
  const int fd = file->descriptor.get();
  auto done = piece.chunk_rows == 0
                  ? read_contiguous(*file_system_, fd, piece, row * element_bytes, bytes,
                                    whole ? &hasher : nullptr)
                  : read_chunks(*file_system_, fd, piece, row, bytes, whole ? &hasher : nullptr);
  if (done && whole && hasher.hex() != piece.hash)
    done = std::unexpected(hash_problem(name_of(piece)));
  if (!done) return std::unexpected(fmt::format("{}: {}", path.string(), done.error()));
  return {};
}

CheckpointVerification Checkpoint::verify() const {
  CheckpointVerification verification;
  for (const auto& part : manifest_.files) verify_part(part, verification);
  verify_view(verification);
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

void Checkpoint::verify_view(CheckpointVerification& verification) const {
  const auto report = [&](FileProblem problem) {
    verification.problems.push_back(
        {std::string(kView), std::move(problem.reason), problem.unreadable});
  };
  ++verification.files;
  if (const auto checked = check_view(); !checked) return report(checked.error());
  const auto file = open_regular(*file_system_, directory_ / kView);
  if (!file) return report(file.error());
  const hdf5::Extent whole{0, file->bytes};
  const auto hash = hash_of(*file_system_, file->descriptor.get(), {&whole, 1});
  if (!hash)
    report({hash.error(), true});
  else if (*hash != manifest_.view.hash)
    report({hash_problem("it is")});
  verification.bytes += file->bytes;
}

}  // namespace regroup

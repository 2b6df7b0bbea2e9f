#include "runtime/host/checkpoint_rows.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "runtime/host/chunk_codec.hpp"

namespace regroup {
namespace {

using namespace checkpoint_files;
using Outcome = std::expected<void, std::string>;

std::string name_of(const StoredPiece& piece) {
  return fmt::format("rows of '{}' from {} on are", piece.dataset, piece.first_row);
}

}  // namespace

std::string hash_problem(std::string_view what) {
  return fmt::format("{} not what was written: the hash differs", what);
}

ChunkReading::ChunkReading(FileSystem& file_system, int fd, const StoredPiece& piece)
    : file_system_(file_system),
      fd_(fd),
      piece_(piece),
      element_bytes_(hdf5::element_bytes(piece.type)),
      chunk_(piece.chunk_rows * element_bytes_) {}

std::expected<std::span<const std::byte>, FileProblem> ChunkReading::next(std::size_t index) {
  const auto& extent = piece_.storage[index];
  stored_.resize(extent.bytes);
  if (const int error_number = read_at(file_system_, fd_, stored_, extent.offset);
      error_number != 0)
    return std::unexpected(FileProblem{errno_text(error_number), true});
  stored_hasher_.update(stored_);
  if (stored_.size() == chunk_.size())
    std::ranges::copy(stored_, chunk_.begin());
  else if (!expand_chunk(stored_, element_bytes_, chunk_))
    return std::unexpected(FileProblem{name_of(piece_) + " in a chunk that does not expand"});
  const std::uint64_t rows = std::min(piece_.chunk_rows, piece_.rows - index * piece_.chunk_rows);
  return std::span<const std::byte>(chunk_).first(rows * element_bytes_);
}

Outcome RowReading::read(std::uint64_t row, std::span<std::byte> bytes) {
  return piece_.chunk_rows == 0 ? read_contiguous(row, bytes) : read_chunks(row, bytes);
}

Outcome RowReading::finish() const {
  if (hash_ == Hash::kWhole && hasher_.hex() != piece_.hash)
    return std::unexpected(hash_problem(name_of(piece_)));
  return {};
}

// Hashed while a block is in the cache.
Outcome RowReading::read_contiguous(std::uint64_t row, std::span<std::byte> bytes) {
  const std::uint64_t offset = row * hdf5::element_bytes(piece_.type);
  for (std::size_t at = 0; at < bytes.size(); at += kBlockBytes) {
    const auto block = bytes.subspan(at, std::min(kBlockBytes, bytes.size() - at));
    const int error_number =
        read_at(file_system_, fd_, block, piece_.storage.front().offset + offset + at);
    if (error_number != 0) return std::unexpected(errno_text(error_number));
    if (hash_ == Hash::kWhole) hasher_.update(block);
  }
  return {};
}

Outcome RowReading::read_chunks(std::uint64_t row, std::span<std::byte> bytes) {
  const std::size_t element_bytes = hdf5::element_bytes(piece_.type);
  while (!bytes.empty()) {
    if (auto done = expand(row / piece_.chunk_rows); !done) return done;
    const auto wanted = elements_.subspan(row % piece_.chunk_rows * element_bytes);
    const auto taken = wanted.first(std::min(wanted.size(), bytes.size()));
    if (hash_ == Hash::kWhole) hasher_.update(taken);
    std::ranges::copy(taken, bytes.begin());
    bytes = bytes.subspan(taken.size());
    row += taken.size() / element_bytes;
  }
  return {};
}

Outcome RowReading::expand(std::uint64_t chunk) {
  if (!elements_.empty() && chunk == chunk_) return {};
  const auto elements = chunks_.next(chunk);
  if (!elements) return std::unexpected(elements.error().reason);
  elements_ = *elements;
  chunk_ = chunk;
  return {};
}

std::expected<void, FileProblem> verify_piece(FileSystem& file_system, int fd,
                                              const StoredPiece& piece) {
  const auto wrong = [&] { return std::unexpected(FileProblem{hash_problem(name_of(piece))}); };
  ContentHasher hasher;
  if (piece.chunk_rows == 0) {
    const auto done =
        for_each_block(file_system, fd, piece.storage, [&](auto block) { hasher.update(block); });
    if (!done) return std::unexpected(FileProblem{done.error(), true});
    if (hasher.hex() != piece.hash) return wrong();
    return {};
  }
  ChunkReading chunks(file_system, fd, piece);
  for (std::size_t i = 0; i < piece.storage.size(); ++i) {
    const auto elements = chunks.next(i);
    if (!elements) return std::unexpected(elements.error());
    hasher.update(*elements);
  }
  if (chunks.stored_hash() != piece.stored_hash || hasher.hex() != piece.hash) return wrong();
  return {};
}

}  // namespace regroup

// Reads the rows of one piece in its open part file, without HDF5: from where the manifest says
// that they are, chunks expanded within bounds. What is read is as damaged as the file may be,
// unless all of it was held against the piece's hash. Private to the checkpoint store.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/host/checkpoint.hpp"
#include "runtime/host/checkpoint_files.hpp"
#include "runtime/host/content_hash.hpp"
#include "runtime/host/file_system.hpp"

namespace regroup {

// Says what is not what was written: "rows of 'x' from 7 on are".
std::string hash_problem(std::string_view what);

// Expands the chunks of a piece one by one.
class ChunkReading {
 public:
  ChunkReading(FileSystem& file_system, int fd, const StoredPiece& piece);

  // The elements of a chunk that are in the piece, valid until the next call.
  std::expected<std::span<const std::byte>, checkpoint_files::FileProblem> next(std::size_t index);
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

// Reads rows in ascending order. The file and the piece outlive it.
class RowReading {
 public:
  // kWhole: all rows will be read, and their hash is looked at.
  enum class Hash : std::uint8_t { kNone, kWhole };

  RowReading(FileSystem& file_system, int fd, const StoredPiece& piece, Hash hash)
      : file_system_(file_system),
        fd_(fd),
        piece_(piece),
        hash_(hash),
        chunks_(file_system, fd, piece) {}

  // Fills `bytes` with the rows from `row` of the piece on, which is not before the end of those
  // that were read last.
  std::expected<void, std::string> read(std::uint64_t row, std::span<std::byte> bytes);
  std::expected<void, std::string> finish() const;

 private:
  std::expected<void, std::string> read_contiguous(std::uint64_t row, std::span<std::byte> bytes);
  std::expected<void, std::string> read_chunks(std::uint64_t row, std::span<std::byte> bytes);
  std::expected<void, std::string> expand(std::uint64_t chunk);

  FileSystem& file_system_;
  int fd_;
  const StoredPiece& piece_;
  Hash hash_;
  ContentHasher hasher_;
  ChunkReading chunks_;
  std::span<const std::byte> elements_;  // of the chunk that was expanded last
  std::uint64_t chunk_ = 0;              // its number, if there are elements
};

// Why a piece is not what was written.
std::expected<void, checkpoint_files::FileProblem> verify_piece(FileSystem& file_system, int fd,
                                                                const StoredPiece& piece);

}  // namespace regroup

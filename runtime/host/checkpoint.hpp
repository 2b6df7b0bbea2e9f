// Checkpoints of a run, DIR/checkpoints: what its parts speak of together. A checkpoint is a
// directory of part files, one a rank, in which each dataset's rows are numbered over the whole
// run, and a manifest that says what is in them. checkpoint_store.hpp writes and keeps them,
// checkpoint_reader.hpp reads them; docs/checkpoints.md has the format for other readers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/host/hdf5_wrapper.hpp"
#include "runtime/host/result_file.hpp"
#include "runtime/protocol/disk.hpp"
#include "runtime/protocol/field.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

struct CheckpointLimits {
  static constexpr std::size_t manifest_bytes_max = std::size_t{64} << 20;
  static constexpr std::size_t files_max = 65'536;
  static constexpr std::size_t pieces_max = 4'096;      // of one part file
  static constexpr std::size_t chunks_max = 1'048'576;  // of one piece
  static constexpr std::size_t chunk_bytes_max = std::size_t{16} << 20;
  static constexpr std::size_t named_values_max = 256;
  static constexpr std::size_t text_bytes_max = 60'000;
  static constexpr std::size_t name_bytes_max = 255;  // of a dataset, its groups included
  static constexpr std::size_t run_bytes_max = 128;
  static constexpr std::size_t dimensions_max = 3;         // of a field
  static constexpr std::size_t units_bytes_max = 128;      // of a field
  static constexpr std::size_t field_blocks_max = 65'536;  // that have elements, of one field
  static constexpr std::uint64_t rows_max = kFieldElementsMax;
  static constexpr std::uint64_t file_bytes_max = std::uint64_t{1} << 61;
};

// Rows [first_row, first_row + rows) of a dataset, to be written. Names are 1 to 8 names as those
// of results, with '/' between: "shards/state".
struct PieceToWrite {
  std::string dataset;
  hdf5::ElementType type = hdf5::ElementType::kUint8;
  std::uint64_t first_row = 0;
  std::span<const std::byte> bytes;  // whole elements, little-endian; unchanged until written
  // That the rows are this block of a field, in C order. All pieces of a dataset are of the same
  // field, or of none, and no two blocks share an element.
  std::optional<FieldBlock> block = {};
};

// A piece that is the same as in an earlier, sealed checkpoint, and so is not written again. It
// names that piece by its dataset and first row, whichever rank wrote it.
struct PieceToLink {
  CheckpointNumber checkpoint;
  std::string dataset;
  std::uint64_t first_row = 0;
};

// What one rank adds to a checkpoint.
struct PartRequest {
  CheckpointNumber checkpoint;
  Epoch epoch;
  RankId rank;
  std::vector<PieceToWrite> pieces;
  std::vector<PieceToLink> links;
  std::vector<NamedValue> attributes;
  int deflate_level = 0;  // 0: stored as they are, contiguous; 1 to 9: compressed, in chunks
};

// A piece as it lies in its part file.
struct StoredPiece {
  std::string dataset;
  std::string path;  // of the HDF5 dataset in the file
  hdf5::ElementType type = hdf5::ElementType::kUint8;
  std::uint64_t first_row = 0;
  std::uint64_t rows = 0;
  std::uint64_t chunk_rows = 0;       // 0: contiguous
  std::vector<hdf5::Extent> storage;  // of the elements, or of each chunk; none without rows
  std::string hash;                   // of the elements in order, as ContentHasher has it
  std::string stored_hash;  // of the bytes of a chunked piece as they are stored, in order
  bool current = true;      // false: this checkpoint does not use it
  std::optional<FieldBlock> block = {};

  std::uint64_t end_row() const { return first_row + rows; }
  friend bool operator==(const StoredPiece&, const StoredPiece&) = default;
};

// A part file of a checkpoint, written for it or for an earlier one.
struct PartFile {
  std::string file;  // its name in the checkpoint's directory
  RankId rank;       // that wrote it, in this checkpoint and epoch:
  CheckpointNumber written_in;
  Epoch epoch;
  std::uint64_t bytes = 0;
  std::string structure_hash;  // of all bytes of the file but the pieces' storage, in order
  std::vector<NamedValue> attributes;
  std::vector<StoredPiece> pieces;

  friend bool operator==(const PartFile&, const PartFile&) = default;
};

// What a rank added, for whoever seals: its own part file and those that it linked.
struct CheckpointPart {
  RankId rank;
  std::vector<PartFile> files;

  friend bool operator==(const CheckpointPart&, const CheckpointPart&) = default;
};

using NamedTexts = std::vector<std::pair<std::string, std::string>>;

// A file over all parts, for other people's readers.
struct ViewFile {
  std::uint64_t bytes = 0;
  std::string hash;

  friend bool operator==(const ViewFile&, const ViewFile&) = default;
};

// What is known of a whole checkpoint. Texts may be any bytes.
struct CheckpointFacts {
  std::string job;
  NamedTexts parameters;  // in order
  std::uint64_t seed = 0;
  NamedTexts software;      // what wrote it, name and version
  std::uint64_t ranks = 0;  // of the run when it was written
  std::uint64_t lamport = 0;
  std::string utc;  // as utc_text() gives it
  double cost_seconds = 0;

  friend bool operator==(const CheckpointFacts&, const CheckpointFacts&) = default;
};

struct CheckpointManifest {
  std::string run;
  CheckpointNumber checkpoint;
  Epoch epoch;
  CheckpointFacts facts;
  std::vector<PartFile> files;   // in the order of their names
  ViewFile view;                 // the datasets as one HDF5 file of virtual datasets
  std::optional<ViewFile> xdmf;  // the fields of 2 and 3 dimensions, where there are any

  friend bool operator==(const CheckpointManifest&, const CheckpointManifest&) = default;
};

// Of all its files, but the manifest itself.
inline std::uint64_t bytes_of(const CheckpointManifest& manifest) {
  std::uint64_t bytes = manifest.view.bytes + (manifest.xdmf ? manifest.xdmf->bytes : 0);
  for (const PartFile& file : manifest.files) bytes += file.bytes;
  return bytes;
}

// The fields that it has, by the dataset that holds them.
std::map<std::string, const GridField*> fields_of(const CheckpointManifest& manifest);

}  // namespace regroup

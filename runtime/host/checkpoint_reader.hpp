// Reads a sealed checkpoint: any rows of any dataset, whatever ranks wrote them, and the proof that
// every byte is what was written. It trusts nothing that it finds: what the manifest says is held
// against the files, the files against the manifest's hashes, and no byte of a part is given to
// HDF5. So whatever is in the directory, there is an answer or a one-line error, with memory
// bounded by the manifest's size and a chunk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/host/checkpoint.hpp"
#include "runtime/host/file_system.hpp"
#include "runtime/protocol/buffer.hpp"

namespace regroup {

namespace checkpoint_files {
struct FileProblem;
}
namespace checkpoint_fields {
struct Box;
}

enum class CheckpointState : std::uint8_t {
  kSealed,      // its manifest is whole, and all its files are there
  kUnfinished,  // it has no manifest: being written, or left behind
  kDamaged,     // it has a manifest, and something is wrong with it
  kUnreadable   // the system would not let it be read, so it may be right
};
std::string_view checkpoint_state_name(CheckpointState state);

struct CheckpointRefusal {
  CheckpointState state = CheckpointState::kDamaged;
  std::string reason;  // one line; names the file
};

struct CheckpointProblem {
  std::string file;
  std::string reason;
  bool unreadable = false;  // the system would not let it be read

  friend bool operator==(const CheckpointProblem&, const CheckpointProblem&) = default;
};

struct CheckpointVerification {
  std::uint64_t files = 0;
  std::uint64_t pieces = 0;
  std::uint64_t bytes = 0;  // that were read
  std::vector<CheckpointProblem> problems;

  bool valid() const { return problems.empty(); }
  // Of one that is not valid: whether nothing in it was found to be wrong.
  bool only_unreadable() const;
};

struct CheckpointDataset {
  std::string name;
  hdf5::ElementType type = hdf5::ElementType::kUint8;
  std::uint64_t rows = 0;    // up to the end of the last piece
  std::uint64_t pieces = 0;  // that have rows

  friend bool operator==(const CheckpointDataset&, const CheckpointDataset&) = default;
};

// Holds no file open. Its methods may be called from any thread.
class Checkpoint {
 public:
  // Of `run`, in the directory of that checkpoint. Reads the manifest and the first bytes of each
  // part.
  static std::expected<Checkpoint, CheckpointRefusal> open(
      const std::filesystem::path& directory, CheckpointNumber checkpoint, std::string_view run,
      FileSystem& file_system = FileSystem::real());

  const CheckpointManifest& manifest() const { return manifest_; }
  // In the order of their names.
  std::vector<CheckpointDataset> datasets() const;

  // Rows from `first_row` on, as many whole elements as `bytes` has room for. Each piece of which
  // all rows are read is held against its hash. An error if some row is in no piece, or a file
  // cannot be read or is damaged; `bytes` is unspecified then.
  std::expected<void, std::string> read(std::string_view dataset, std::uint64_t first_row,
                                        std::span<std::byte> bytes) const;

  bool has(std::string_view dataset) const { return datasets_.contains(dataset); }
  // A dataset of bytes, whole; an error too if there is none of that name.
  std::expected<Buffer, std::string> read_bytes(std::string_view dataset) const;

  // What a dataset's rows are elements of; nullptr: of no field. Valid as long as this is.
  const GridField* field(std::string_view dataset) const;
  // Elements [start, start + extent) of a dataset's field, in C order, whatever blocks they were
  // written in, into exactly as many bytes. Otherwise as read(), which counts rows.
  std::expected<void, std::string> read_block(std::string_view dataset,
                                              std::span<const std::uint64_t> start,
                                              std::span<const std::uint64_t> extent,
                                              std::span<std::byte> bytes) const;
  // An error too if the dataset's field is not of that type and shape.
  std::expected<Buffer, std::string> read_block(std::string_view dataset, ElementType type,
                                                const FieldBlock& block) const;

  // Reads every byte of every file.
  CheckpointVerification verify() const;

 private:
  struct Place {  // of a piece
    std::size_t file;
    std::size_t piece;
  };
  struct Held {  // of a dataset
    hdf5::ElementType type;
    std::uint64_t rows = 0;
    std::optional<GridField> field;
    std::vector<Place> places;  // of the pieces that have rows, by their first one
  };

  Checkpoint(FileSystem& file_system, std::filesystem::path directory, CheckpointManifest manifest);
  const StoredPiece& piece_at(const Place& place) const;
  using Checked = std::expected<void, checkpoint_files::FileProblem>;

  Checked check_files() const;
  Checked check_identity(const PartFile& part, int fd) const;
  Checked check_part(const PartFile& part) const;
  Checked check_view(std::string_view name, const ViewFile& view) const;
  void verify_part(const PartFile& part, CheckpointVerification& verification) const;
  void verify_view(std::string_view name, const ViewFile& view,
                   CheckpointVerification& verification) const;
  std::expected<void, std::string> read_piece(const PartFile& part, const StoredPiece& piece,
                                              std::uint64_t first_row,
                                              std::span<std::byte> bytes) const;
  std::expected<void, std::string> read_shared(const Place& place,
                                               const checkpoint_fields::Box& shared,
                                               const checkpoint_fields::Box& wanted,
                                               std::span<std::byte> bytes) const;

  FileSystem* file_system_;
  std::filesystem::path directory_;
  CheckpointManifest manifest_;
  std::map<std::string, Held, std::less<>> datasets_;
};

}  // namespace regroup

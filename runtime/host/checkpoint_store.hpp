// The checkpoints of a run directory. Each rank writes a part of its own; the coordinator then
// seals: its manifest is the last file, and appears whole or not at all, once, and only while
// nobody goes on in a later epoch. Until then, and whatever fails or dies at any point, the older
// checkpoints stay as they were. A number is used once: whoever fails takes the next.
// docs/checkpoints.md says what is guaranteed at which point.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/host/checkpoint.hpp"
#include "runtime/host/checkpoint_reader.hpp"
#include "runtime/host/file_system.hpp"

namespace regroup {

struct SealRequest {
  CheckpointNumber checkpoint;
  Epoch epoch;
  CheckpointFacts facts;
  std::vector<CheckpointPart> parts;  // one a rank
};

// Whether the coordinator of this epoch may still seal: FencingTokens::superseded says when not.
using MaySeal = std::function<bool(Epoch)>;

struct CheckpointEntry {
  CheckpointNumber checkpoint;
  CheckpointState state = CheckpointState::kUnfinished;
  std::string reason;                          // why it is not sealed
  std::optional<CheckpointManifest> manifest;  // of a sealed one
};

// A checkpoint that was not taken, and why.
struct PassedOver {
  CheckpointNumber checkpoint;
  CheckpointState state = CheckpointState::kDamaged;
  std::string reason;  // one line
};

struct NewestValid {
  std::optional<Checkpoint> checkpoint;  // nothing: there is no valid one
  std::vector<PassedOver> passed_over;   // newer ones, the newest first
};

struct Removal {
  std::vector<CheckpointNumber> removed;
  std::vector<std::string> problems;  // of those that could not be removed; one line each
};

// Errors are one line that names the file and the system's text. Holds nothing open; any thread and
// any process of the run may use one of its own.
class CheckpointStore {
 public:
  // `run` tells the runs of one directory apart: checkpoints of another are damaged ones here. 1 to
  // 128 printable characters, no spaces.
  CheckpointStore(const std::filesystem::path& run_directory, std::string run,
                  FileSystem& file_system = FileSystem::real());

  // Greater than every number that was used.
  std::expected<CheckpointNumber, std::string> next_number() const;

  // Writes and syncs one rank's part, and links the parts of earlier checkpoints that it names.
  // Once for each checkpoint and rank.
  std::expected<CheckpointPart, std::string> write_part(const PartRequest& request) const;

  // Makes the parts a checkpoint. `may_seal` is asked last of all, right before the manifest gets
  // its name. Refuses when a checkpoint of this number or a later one is sealed.
  std::expected<CheckpointManifest, std::string> seal(const SealRequest& request,
                                                      const MaySeal& may_seal) const;

  // All checkpoints, the newest first. A sealed one here has all its files, each of its right size
  // and owner; whether their bytes are right, verify() tells.
  std::expected<std::vector<CheckpointEntry>, std::string> list() const;

  std::expected<Checkpoint, CheckpointRefusal> open(CheckpointNumber checkpoint) const;
  // The newest sealed one before `checkpoint`, of which only the manifest and the first bytes of
  // each part were read; nothing if there is none, or the directory cannot be read.
  std::optional<Checkpoint> open_newest_before(CheckpointNumber checkpoint) const;
  // Reads every byte. One that cannot be opened has one problem.
  CheckpointVerification verify(CheckpointNumber checkpoint) const;
  // The newest of which every byte is right.
  std::expected<NewestValid, std::string> open_newest_valid() const;

  // Removes all but the newest `keep` sealed ones (at least 2), unfinished ones older than the
  // newest sealed one, and damaged ones older than all that are kept. What is newer than the newest
  // sealed one may be being written by a live run, and stays; so does what cannot be read just now.
  // A crash on the way leaves an unfinished one, for the next time.
  std::expected<Removal, std::string> retain(std::size_t keep) const;

 private:
  std::filesystem::path directory_of(CheckpointNumber checkpoint) const;
  std::expected<std::vector<CheckpointNumber>, std::string> numbers() const;
  std::expected<void, std::string> make_directory(CheckpointNumber checkpoint) const;
  std::expected<void, std::string> link_parts(const PartRequest& request,
                                              CheckpointPart& part) const;
  std::expected<PartFile*, std::string> link_part(const PartFile& earlier, CheckpointNumber from,
                                                  CheckpointNumber to, CheckpointPart& part) const;
  std::expected<void, std::string> check_not_sealed(CheckpointNumber checkpoint) const;
  std::expected<void, std::string> check_parts(const CheckpointManifest& manifest) const;
  std::expected<void, std::string> publish_manifest(const CheckpointManifest& manifest,
                                                    const MaySeal& may_seal) const;
  std::expected<void, std::string> remove(CheckpointNumber checkpoint) const;

  std::filesystem::path run_directory_;
  std::filesystem::path directory_;
  std::string run_;
  FileSystem* file_system_;
};

}  // namespace regroup

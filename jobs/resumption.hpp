// What a run can go on from, found in its directory: the newest checkpoint of which every byte is
// right, or the one that is asked for. Reads, and writes nothing.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "runtime/host/checkpoint.hpp"
#include "runtime/protocol/buffer.hpp"

namespace regroup {

struct Resumption {
  CheckpointNumber from;
  CheckpointFacts facts;
  Buffer description;  // of the job, see open_job
  std::vector<std::string>
      passed_over;  // newer checkpoints and what is wrong with each, a line each
};

// Why there is none; one line.
struct NoResumption {
  enum class Kind : std::uint8_t {
    kNotThere,  // no run, or no checkpoint of it
    kDamaged,   // there are some, and none is right
    kDone,      // the run has ended with its result
  };
  Kind kind{};
  std::string message;
  int exit_status = 0;  // kDone: the run's own
};

// `from` 0: the newest valid one, whose bytes are all read.
std::expected<Resumption, NoResumption> find_resumption(const std::filesystem::path& directory,
                                                        CheckpointNumber from);

// Of the run in the directory: the job's name.
std::expected<std::string, NoResumption> job_in(const std::filesystem::path& directory);

// The newest checkpoint of the run there that looks whole.
std::optional<CheckpointNumber> newest_sealed(const std::filesystem::path& directory);

// A sealed or damaged checkpoint of a run is there: a new run in that directory would bury it.
bool holds_checkpoint(const std::filesystem::path& directory);

}  // namespace regroup

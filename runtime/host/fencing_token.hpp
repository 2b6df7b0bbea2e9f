// The fencing token of an epoch: a file in the run directory that exactly one rank can create and
// nobody ever changes, so that all who look agree on what is in it, whoever is cut off from whom.
// Needs a file system that all ranks share, with atomic link(2): local ones, NFS, Lustre, GPFS.
// Blocking; safe to call from any thread and process.
#pragma once

#include <filesystem>
#include <string>

#include "runtime/protocol/membership.hpp"

namespace regroup {

class FencingTokens {
 public:
  // `run` tells the runs of one directory apart: tokens of another run are none of ours.
  FencingTokens(std::filesystem::path directory, std::string run);

  // Creates the token with the request's content unless it is there; says what is in it now. Empty
  // content: it could not be created nor read.
  FenceAnswer take(const FenceRequest& request) const;

  // The token of the epoch after this one is taken: whoever coordinates in `epoch` must seal
  // nothing any more, for others go on.
  bool superseded(Epoch epoch) const;

 private:
  std::filesystem::path token_of(std::uint64_t epoch) const;

  std::filesystem::path directory_;
  std::string run_;
};

}  // namespace regroup

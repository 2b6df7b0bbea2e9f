// The fencing token of an epoch: a file in the run directory that exactly one rank can create and
// nobody ever changes, so that all who look agree on what is in it, whoever is cut off from whom.
// Needs a file system that all ranks share, with atomic link(2): local ones, NFS, Lustre, GPFS.
// Blocking; safe to call from any thread and process.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "runtime/protocol/membership.hpp"

namespace regroup {

class FencingTokens {
 public:
  // Where the ranks are that look at the tokens. On other nodes they must find the content even if
  // this one is lost, so that it is synchronised first, which takes milliseconds; those of this
  // node alone would be lost with it.
  enum class Readers : std::uint8_t { kThisNode, kOtherNodes };

  // How a token is written before it has its name: without any, or where the file system has no
  // such files, like NFS, under one of its own.
  enum class Drafts : std::uint8_t { kNameless, kNamed };

  // `run` tells the launches in one directory apart: tokens of another are none of ours.
  FencingTokens(std::filesystem::path directory, std::string run, Readers readers,
                Drafts drafts = Drafts::kNameless);

  // The launch that these tokens are of begins: those before it in this directory are superseded,
  // though ranks of theirs may live where nobody can reach them. False if it cannot be written
  // down.
  bool begin() const;

  // Creates the token with the request's content unless it is there; says what is in it now. Empty
  // content: it could not be created nor read, or another launch has begun.
  FenceAnswer take(const FenceRequest& request) const;

  // The token of the epoch after this one is taken, or another launch has begun: whoever
  // coordinates in `epoch` must seal nothing any more, for others go on.
  bool superseded(Epoch epoch) const;

 private:
  bool other_has_begun() const;
  std::filesystem::path newest() const { return directory_ / "newest"; }
  std::filesystem::path token_of(std::uint64_t epoch) const;
  bool link_draft(const FenceRequest& request, const std::filesystem::path& token) const;

  std::filesystem::path directory_;
  std::string run_;
  Readers readers_;
  Drafts drafts_;
};

}  // namespace regroup

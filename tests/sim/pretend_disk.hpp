// The shared file system under a simulated cluster, as far as checkpoints go: what was sealed stays
// whatever happens to the ranks, and a run that is started again finds it. It holds checkpoints to
// I11 by refusing what the real store refuses. Requests of one rank are carried out one after the
// other, by whoever owns this.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/protocol/disk.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup::sim {

class PretendDisk {
 public:
  // `superseded`: the token of the epoch after the request's is taken.
  DiskAnswer carry_out(RankId rank, DiskRequest& request, bool superseded);
  // The same request, and the disk fails.
  static DiskAnswer fail(const DiskRequest& request);

  // 0: none.
  CheckpointNumber newest() const;
  // Somebody was told that this one is sealed: from now on it must not be lost.
  void told(CheckpointNumber checkpoint);
  CheckpointNumber told() const { return told_; }

 private:
  struct Piece {
    std::string dataset;
    std::uint64_t first_row = 0;
    std::vector<std::byte> bytes;
    std::optional<FieldBlock> block;
  };
  struct Stored {
    std::map<RankId, std::vector<Piece>> parts;
    bool sealed = false;
  };
  void load_pieces(const DiskRequest& request, DiskAnswer& answer) const;
  void load(const DiskRequest& request, DiskAnswer& answer) const;
  void write(RankId rank, const DiskRequest& request, DiskAnswer& answer);
  void seal(const DiskRequest& request, bool superseded, DiskAnswer& answer);

  std::map<CheckpointNumber, Stored> checkpoints_;
  CheckpointNumber told_;
};

}  // namespace regroup::sim

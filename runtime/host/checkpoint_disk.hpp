// The disk of a rank: carries out what its protocol asks of checkpoints. Parts are described to the
// coordinator that seals in the words of the manifest. What has not changed is not written again.
// It answers every request, and never throws. Blocking, one request at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "runtime/host/checkpoint_store.hpp"
#include "runtime/protocol/disk.hpp"

namespace regroup {

struct CheckpointDiskOptions {
  RankId rank;
  std::function<CheckpointFacts()> facts;  // but for what each checkpoint has of its own
  std::size_t keep = 2;                    // sealed checkpoints, at least 2
  MaySeal may_seal;
  std::function<void(const std::string& line)> say;  // to the user
};

class CheckpointDisk {
 public:
  // A piece that the checkpoint before has just so is linked and not written again, as long as
  // this rank still uses so much of the file that it is in, and the file is not older than so many
  // checkpoints: else a few bytes would keep a large file, or damage would spread without end.
  static constexpr std::uint64_t kLinkedPercentMin = 50;
  static constexpr std::uint64_t kLinkedAgeMax = 16;

  CheckpointDisk(CheckpointStore store, CheckpointDiskOptions options)
      : store_(std::move(store)), options_(std::move(options)) {}

  // Moves from the request.
  DiskAnswer carry_out(DiskRequest& request) const;

 private:
  std::expected<void, std::string> load(const DiskRequest& request, DiskAnswer& answer) const;
  std::expected<void, std::string> load_pieces(const DiskRequest& request,
                                               DiskAnswer& answer) const;
  std::expected<void, std::string> number(const DiskRequest& request, DiskAnswer& answer) const;
  std::expected<void, std::string> write_part(const DiskRequest& request, DiskAnswer& answer) const;
  void link_unchanged(PartRequest& part) const;
  std::expected<void, std::string> seal(const DiskRequest& request, DiskAnswer& answer) const;

  CheckpointStore store_;
  CheckpointDiskOptions options_;
};

}  // namespace regroup

// What a rank keeps in memory of cells besides the cells themselves: snapshots of its own, and
// copies for the ranks whose partner it is. Those of several steps lie beside each other, since
// cells go back together: the copies of a step are of use until a later one is complete. What is
// kept for others is bounded. Memory that is given up is used again: as much of it is held as the
// copies that are left have, for that is what the next step takes. Pure, not thread-safe.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/ids.hpp"
#include "scheduler/partition_copies.hpp"
#include "scheduler/spare_buffers.hpp"

namespace regroup {

struct CellAt {
  StageId stage;
  std::uint32_t cell = 0;
  std::uint64_t step = 0;
  friend auto operator<=>(const CellAt&, const CellAt&) = default;
};

// A cell as it was at a step: that step, then what the job says that it is.
struct CellCopy {
  std::shared_ptr<Buffer> bytes;  // not to be written while anybody else has it
  std::uint64_t hash = 0;         // 0: nobody has computed it
  RankId of;                      // who owned the cell and took it
};

class CellCopies {
 public:
  static constexpr std::size_t kSparesMax = 1024;

  void begin(RankId self, std::uint64_t bytes_for_others_max);
  // False if it is another rank's, and there is no room. One that is there already stays.
  bool keep(const CellAt& at, CellCopy copy);
  // Null if there is none; valid until the next change.
  const CellCopy* find(const CellAt& at) const;
  void drop(const CellAt& at);
  void drop_step(StageId stage, std::uint64_t step);
  void drop_steps_before(StageId stage, std::uint64_t step);
  void drop_before(StageId stage);
  void clear();

  // `held` is the step.
  std::vector<CopyOffer> offers() const;
  std::uint64_t bytes_for_others() const { return bytes_for_others_; }
  std::size_t size() const { return copies_.size(); }

  SpareBuffers& spares() { return spares_; }

 private:
  template <class Is>
  void drop_if(Is is);
  void give_back(std::shared_ptr<Buffer> bytes);

  RankId self_;
  std::uint64_t bytes_max_ = 0;
  std::map<CellAt, CellCopy> copies_;
  std::uint64_t bytes_for_others_ = 0;
  std::uint64_t memory_ = 0;  // of all copies
  SpareBuffers spares_;
};

}  // namespace regroup

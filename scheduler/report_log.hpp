// The reports of results that a worker has sent and the coordinator has not made safe: they are
// sent again when the coordinator is another one, or may not have got them. There may be a million
// small ones a second, or large ones that fill memory as fast as it can be written: so small ones
// are kept back to back, and of large ones the buffers, which are lent again. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/ids.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

// A message of results: `values` are its entries, as they lie in the message.
struct ResultReport {
  std::uint64_t number = 0;  // counted by the worker, from 1
  StageId stage;
  std::uint32_t entries = 0;
  std::span<const std::byte> values;
};

class ReportLog {
 public:
  static constexpr std::size_t kChunkBytes = std::size_t{1} << 16;

  // Reports from this size on are kept as the buffers that they come in.
  static constexpr std::size_t kLargeBytes = 1024;
  static constexpr std::size_t kSparesMax = 1024;

  // Numbers ascend. The report's values are all of `values`, which is given back empty, with memory
  // if there is some to reuse.
  void add(std::uint64_t number, StageId stage, std::uint32_t entries, Buffer& values);
  // Forgets those up to this number.
  void drop_through(std::uint64_t number);
  void clear();

  std::size_t bytes() const { return bytes_; }
  bool empty() const { return bytes_ == 0; }

  // In the order in which they were added.
  template <class Visit>
  void for_each(Visit visit) const {
    for (const Chunk& chunk : chunks_) {
      if (chunk.large) {
        visit(chunk.report());
        continue;
      }
      Reader reader(chunk.bytes.view().subspan(chunk.begin));
      while (!reader.rest().empty()) visit(get(reader));
    }
  }

  template <class Keep>
  void keep_if(Keep keep) {
    ReportLog kept;
    for_each([&](const ResultReport& report) {
      if (!keep(report)) return;
      Buffer values(report.values);
      kept.add(report.number, report.stage, report.entries, values);
    });
    *this = std::move(kept);
  }

 private:
  // Small reports with their heads, or the values of a large one.
  struct Chunk {
    Buffer bytes;
    std::size_t begin = 0;  // of what is not forgotten
    bool large = false;
    std::uint64_t number = 0;
    StageId stage;
    std::uint32_t entries = 0;

    ResultReport report() const { return {number, stage, entries, bytes.view()}; }
  };
  static constexpr std::size_t kHeadBytes = 8 + 2 + 4 + 4;
  static ResultReport get(Reader& reader);

  std::deque<Chunk> chunks_;
  Buffer spare_;                // for small ones
  std::vector<Buffer> spares_;  // for large ones
  std::size_t bytes_ = 0;
};

}  // namespace regroup

// The reports of results that a worker has sent and the coordinator has not made safe: they are
// sent again when the coordinator is another one, or may not have got them. Kept back to back in
// large chunks, since there may be a million a second. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>

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

  // Numbers ascend.
  void add(const ResultReport& report);
  // Forgets those up to this number.
  void drop_through(std::uint64_t number);
  void clear();

  std::size_t bytes() const { return bytes_; }
  bool empty() const { return bytes_ == 0; }

  // In the order in which they were added.
  template <class Visit>
  void for_each(Visit visit) const {
    for (const Chunk& chunk : chunks_) {
      Reader reader(chunk.bytes.view().subspan(chunk.begin));
      while (!reader.rest().empty()) visit(get(reader));
    }
  }

  template <class Keep>
  void keep_if(Keep keep) {
    ReportLog kept;
    for_each([&](const ResultReport& report) {
      if (keep(report)) kept.add(report);
    });
    *this = std::move(kept);
  }

 private:
  struct Chunk {
    Buffer bytes;
    std::size_t begin = 0;  // of what is not forgotten
  };
  static constexpr std::size_t kHeadBytes = 8 + 2 + 4 + 4;
  static ResultReport get(Reader& reader);

  std::deque<Chunk> chunks_;
  Buffer spare_;
  std::size_t bytes_ = 0;
};

}  // namespace regroup

// The one way that copies of partitions and cells take between ranks, and how their bytes are told
// from others. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "runtime/protocol/buffer.hpp"
#include "runtime/protocol/node.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {

std::uint64_t hash_of_copy(std::span<const std::byte> bytes);

// The bytes of a copy that came beside the frames, whose hash is known for that; none if they came
// damaged.
struct BulkCopy {
  Buffer bytes;
  std::uint64_t hash = 0;
};

// Whether a copy that has come is what its sender says; who sends it beside the frames need not
// know (0).
bool hash_is(std::uint64_t said, const Buffer& copy, const BulkCopy* bulk);

// Sends what `put_place` says, the hash (0: nobody has computed it), then the bytes: from so many
// on beside the frames; where they cannot go there, since too many wait for that, in frames as
// well.
void send_copy(Context& context, RankId to, MessageKind kind, const std::shared_ptr<Buffer>& bytes,
               std::uint64_t hash, std::size_t bulk_bytes_min,
               const std::function<void(Writer&)>& put_place);

}  // namespace regroup

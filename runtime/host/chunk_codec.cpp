#include "runtime/host/chunk_codec.hpp"

#include <zlib.h>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

// All first bytes of the elements, then all second ones, and so on.
void shuffle(std::span<const std::byte> from, std::size_t element_bytes, std::byte* to) {
  for (std::size_t i = 0; i < element_bytes; ++i)
    for (std::size_t at = i; at < from.size(); at += element_bytes) *to++ = from[at];
}

void unshuffle(const std::byte* from, std::size_t element_bytes, std::span<std::byte> to) {
  for (std::size_t i = 0; i < element_bytes; ++i)
    for (std::size_t at = i; at < to.size(); at += element_bytes) to[at] = *from++;
}

Bytef* zlib_bytes(std::byte* bytes) {
  return reinterpret_cast<Bytef*>(bytes);
}
const Bytef* zlib_bytes(const std::byte* bytes) {
  return reinterpret_cast<const Bytef*>(bytes);
}

}  // namespace

bool compress_chunk(std::span<const std::byte> chunk, std::size_t element_bytes, int level,
                    std::vector<std::byte>& stored) {
  REGROUP_CHECK(chunk.size() % element_bytes == 0, "a chunk is whole elements");
  std::vector<std::byte> shuffled;
  if (element_bytes > 1) {
    shuffled.resize(chunk.size());
    shuffle(chunk, element_bytes, shuffled.data());
    chunk = shuffled;
  }
  stored.resize(chunk.size());
  uLongf stored_bytes = stored.size();
  if (compress2(zlib_bytes(stored.data()), &stored_bytes, zlib_bytes(chunk.data()), chunk.size(),
                level) != Z_OK)
    return false;
  stored.resize(stored_bytes);
  return stored.size() < chunk.size();
}

bool expand_chunk(std::span<const std::byte> stored, std::size_t element_bytes,
                  std::span<std::byte> chunk) {
  REGROUP_CHECK(chunk.size() % element_bytes == 0, "a chunk is whole elements");
  std::vector<std::byte> shuffled(element_bytes > 1 ? chunk.size() : 0);
  std::byte* const inflated = element_bytes > 1 ? shuffled.data() : chunk.data();
  uLongf inflated_bytes = chunk.size();
  uLong stored_bytes = stored.size();
  if (uncompress2(zlib_bytes(inflated), &inflated_bytes, zlib_bytes(stored.data()),
                  &stored_bytes) != Z_OK ||
      inflated_bytes != chunk.size() || stored_bytes != stored.size())
    return false;
  if (element_bytes > 1) unshuffle(inflated, element_bytes, chunk);
  return true;
}

}  // namespace regroup

// One chunk of an HDF5 dataset, to and from the bytes that HDF5's filters shuffle and deflate leave
// in the file. So chunks are compressed without HDF5's lock, and read back without HDF5, with
// memory and time bounded by the chunk's size whatever the bytes are. Any thread may call it.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace regroup {

// Fills `stored`, whose memory is used again. False when that would not be smaller than the chunk:
// then the chunk is stored as it is. Level 1 to 9.
bool compress_chunk(std::span<const std::byte> chunk, std::size_t element_bytes, int level,
                    std::vector<std::byte>& stored);

// Fills the whole chunk. False, and the chunk unspecified, when the bytes are not exactly that.
bool expand_chunk(std::span<const std::byte> stored, std::size_t element_bytes,
                  std::span<std::byte> chunk);

}  // namespace regroup

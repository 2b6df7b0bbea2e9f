// Splits text into words, 64 bytes at a time, and lower-cases it. A word is a maximal run of bytes
// that are not ASCII white space (space, \t, \n, \v, \f, \r, as isspace in the C locale); every
// other byte, NUL and those from 0x80 on included, is part of a word, so UTF-8 passes through
// whole. Bytes are classified into bit masks by vector instructions; the walk over the masks is
// here, so that the callback is inlined. Nothing allocates or fails; all is thread-safe on distinct
// spans.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernels/instruction_set.hpp"

namespace regroup::kernels {

// Bytes that one mask tells about.
inline constexpr std::size_t kMaskBytes = 64;

// Masks that text of so many bytes needs.
constexpr std::size_t mask_count(std::size_t bytes) {
  return bytes / kMaskBytes + (bytes % kMaskBytes != 0);
}

// Sets bit i of masks[k] where byte 64 k + i of the text belongs to a word; bits past the end are
// clear. `masks` holds at least mask_count(text.size()) of them.
void classify_words(std::span<const char> text, std::span<std::uint64_t> masks,
                    InstructionSet set = best_instruction_set());

// Makes A to Z lower-case, in place, and leaves every other byte as it is.
void to_lower_ascii(std::span<char> text);

// Calls f(std::string_view) for each word, in order. The views point into `text`.
template <class F>
void for_each_word(std::span<const char> text, F&& f, InstructionSet set = best_instruction_set()) {
  constexpr std::size_t kChunkMasks = 64;  // 4 KiB of text at a time, which stays in the L1 cache
  std::uint64_t masks[kChunkMasks];
  const auto call = [&](std::size_t start, std::size_t end) {
    f(std::string_view(text.data() + start, end - start));
  };
  std::size_t start = 0;     // of the word that is open, else of the next one in the mask
  std::uint64_t before = 0;  // 1 while a word is open: the byte before the mask belongs to it

  for (std::size_t chunk = 0; chunk < text.size(); chunk += kChunkMasks * kMaskBytes) {
    const auto bytes = text.subspan(chunk, std::min(text.size() - chunk, kChunkMasks * kMaskBytes));
    const std::size_t count = mask_count(bytes.size());
    classify_words(bytes, masks, set);
    for (std::size_t k = 0; k < count; ++k) {
      const std::size_t base = chunk + k * kMaskBytes;
      const std::uint64_t shifted = masks[k] << 1 | before;
      std::uint64_t starts = masks[k] & ~shifted;
      std::uint64_t ends = ~masks[k] & shifted;
      const auto next_start = [&] {
        start = base + static_cast<std::size_t>(std::countr_zero(starts));
        starts &= starts - 1;
      };
      if (before == 0) next_start();
      for (; ends != 0; ends &= ends - 1) {
        call(start, base + static_cast<std::size_t>(std::countr_zero(ends)));
        next_start();
      }
      before = masks[k] >> 63;
    }
  }
  if (before != 0) call(start, text.size());
}

}  // namespace regroup::kernels

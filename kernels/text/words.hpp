// Splits text into words at memory speed, and lower-cases it. A word is a maximal run of bytes that
// are not ASCII white space (space, \t, \n, \v, \f, \r, as isspace in the C locale); every other
// byte, NUL and those from 0x80 on included, is part of a word, so UTF-8 passes through whole.
// Bytes are classified into bit masks by the widest instructions there are; the walk over the masks
// is here, so that the callback is inlined. Nothing allocates or fails; all is thread-safe on
// distinct spans.
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
  const char* word = nullptr;  // where the word that is open starts, else null
  std::uint64_t before = 0;    // 1 when the byte before the mask belongs to a word

  for (std::size_t chunk = 0; chunk < text.size(); chunk += kChunkMasks * kMaskBytes) {
    const auto bytes = text.subspan(chunk, std::min(text.size() - chunk, kChunkMasks * kMaskBytes));
    const std::size_t count = mask_count(bytes.size());
    classify_words(bytes, masks, set);
    for (std::size_t k = 0; k < count; ++k) {
      // Set where a word starts or the byte is the first one after a word.
      std::uint64_t edges = masks[k] ^ (masks[k] << 1 | before);
      before = masks[k] >> 63;
      for (; edges != 0; edges &= edges - 1) {
        const char* const here = bytes.data() + k * kMaskBytes + std::countr_zero(edges);
        if (word == nullptr) {
          word = here;
        } else {
          f(std::string_view(word, static_cast<std::size_t>(here - word)));
          word = nullptr;
        }
      }
    }
  }
  if (word != nullptr) {
    f(std::string_view(word, static_cast<std::size_t>(text.data() + text.size() - word)));
  }
}

}  // namespace regroup::kernels

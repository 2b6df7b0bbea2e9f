// The word classifier for AVX2. Nothing else may be defined here.
#include <immintrin.h>

#include "kernels/text/classify.hpp"

namespace regroup::kernels {
namespace {

// Bit i is set where byte i is white space.
std::uint64_t spaces(const char* text) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(text));
  const __m256i from_tab = _mm256_sub_epi8(bytes, _mm256_set1_epi8('\t'));
  const __m256i controls =
      _mm256_cmpeq_epi8(_mm256_min_epu8(from_tab, _mm256_set1_epi8(4)), from_tab);
  const __m256i blanks = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(' '));
  return static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_or_si256(controls, blanks)));
}

}  // namespace

void classify_words_avx2(const char* text, std::size_t count, std::uint64_t* masks) {
  for (std::size_t k = 0; k < count; ++k, text += 64) {
    masks[k] = ~(spaces(text) | spaces(text + 32) << 32);
  }
}

}  // namespace regroup::kernels

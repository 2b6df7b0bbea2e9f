// The word classifier for AVX-512 (F and BW). Nothing else may be defined here.
#include <immintrin.h>

#include "kernels/text/classify.hpp"

namespace regroup::kernels {

void classify_words_avx512(const char* text, std::size_t count, std::uint64_t* masks) {
  for (std::size_t k = 0; k < count; ++k, text += 64) {
    const __m512i bytes = _mm512_loadu_si512(text);
    const __m512i from_tab = _mm512_sub_epi8(bytes, _mm512_set1_epi8('\t'));
    masks[k] = _mm512_cmpgt_epu8_mask(from_tab, _mm512_set1_epi8(4)) &
               _mm512_cmpneq_epi8_mask(bytes, _mm512_set1_epi8(' '));
  }
}

}  // namespace regroup::kernels

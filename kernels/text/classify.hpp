// The classifiers that words.hpp chooses from. There is none for AVX-512: the walk over the
// masks takes most of the time, and a wider classifier than AVX2's does not make it shorter.
// Private to this folder. Each takes whole masks: `text` has kMaskBytes * count bytes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace regroup::kernels {

using Classify = void(const char* text, std::size_t count, std::uint64_t* masks);

Classify classify_words_baseline;
Classify classify_words_avx2;

}  // namespace regroup::kernels

// The classifiers that words.hpp chooses from, one for each instruction set. Private to this
// folder. Each takes whole masks: `text` has kMaskBytes * count bytes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace regroup::kernels {

using Classify = void(const char* text, std::size_t count, std::uint64_t* masks);

Classify classify_words_baseline;
Classify classify_words_avx2;
Classify classify_words_avx512;

}  // namespace regroup::kernels

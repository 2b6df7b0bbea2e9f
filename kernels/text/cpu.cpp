// Chooses the classifier, feeds it the odd end of a text in a padded block, and holds the
// classifier that every machine can run. White space is ' ' or one of the five bytes from '\t' to
// '\r'.
#include <cstring>

#ifdef __x86_64__
#include <emmintrin.h>
#endif

#include "kernels/text/classify.hpp"
#include "kernels/text/words.hpp"

namespace regroup::kernels {
namespace {

Classify* classifier_for(InstructionSet set) {
#ifdef __x86_64__
  switch (usable_instruction_set(set)) {
    case InstructionSet::kAvx512:
    case InstructionSet::kAvx2:
      return classify_words_avx2;
    case InstructionSet::kBaseline:
      return classify_words_baseline;
  }
#endif
  static_cast<void>(set);
  return classify_words_baseline;
}

#ifdef __x86_64__
// Bit i is set where byte i is white space.
std::uint64_t spaces(const char* text) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(text));
  const __m128i from_tab = _mm_sub_epi8(bytes, _mm_set1_epi8('\t'));
  const __m128i controls = _mm_cmpeq_epi8(_mm_min_epu8(from_tab, _mm_set1_epi8(4)), from_tab);
  const __m128i blanks = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(' '));
  return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_or_si128(controls, blanks)));
}
#endif

}  // namespace

void classify_words_baseline(const char* text, std::size_t count, std::uint64_t* masks) {
  for (std::size_t k = 0; k < count; ++k, text += kMaskBytes) {
#ifdef __x86_64__
    masks[k] = ~(spaces(text) | spaces(text + 16) << 16 | spaces(text + 32) << 32 |
                 spaces(text + 48) << 48);
#else
    masks[k] = 0;
    for (std::size_t i = 0; i < kMaskBytes; ++i) {
      const bool space = text[i] == ' ' || static_cast<unsigned char>(text[i] - '\t') <= 4;
      masks[k] |= std::uint64_t{!space} << i;
    }
#endif
  }
}

void classify_words(std::span<const char> text, std::span<std::uint64_t> masks,
                    InstructionSet set) {
  Classify* const classify = classifier_for(set);
  const std::size_t whole = text.size() / kMaskBytes;
  classify(text.data(), whole, masks.data());
  const auto rest = text.subspan(whole * kMaskBytes);
  if (rest.empty()) return;
  char padded[kMaskBytes];
  std::memset(padded, ' ', sizeof padded);
  std::memcpy(padded, rest.data(), rest.size());
  classify(padded, 1, &masks[whole]);
}

void to_lower_ascii(std::span<char> text) {
  for (char& c : text) {
    const bool upper = static_cast<unsigned char>(c - 'A') < 26;
    c = static_cast<char>(c | (upper ? 0x20 : 0));
  }
}

}  // namespace regroup::kernels

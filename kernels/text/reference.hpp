// The oracles of words.hpp: one byte after the other, as the definitions say.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace regroup::kernels::reference {

constexpr bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\v' || c == '\f' || c == '\r';
}

template <class F>
void for_each_word(std::span<const char> text, F&& f) {
  std::size_t at = 0;
  while (at < text.size()) {
    if (is_space(text[at])) {
      ++at;
      continue;
    }
    const std::size_t start = at;
    while (at < text.size() && !is_space(text[at])) ++at;
    f(std::string_view(text.data() + start, at - start));
  }
}

inline void to_lower_ascii(std::span<char> text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
}

}  // namespace regroup::kernels::reference

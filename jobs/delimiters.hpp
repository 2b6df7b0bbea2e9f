// What separates the records of a text: white space for words, a line feed for lines. White space
// is the six ASCII bytes that isspace knows in the C locale; every other byte is part of a word,
// those of UTF-8 sequences included. Pure functions, thread-safe.
#pragma once

#include <cstddef>
#include <string_view>

namespace regroup {

struct WhiteSpace {
  static constexpr std::string_view kRecord = "word";
  static constexpr bool matches(char byte) {
    return byte == ' ' || (byte >= '\t' && byte <= '\r');  // \t \n \v \f \r
  }
};

struct LineFeed {
  static constexpr std::string_view kRecord = "line";
  static constexpr bool matches(char byte) { return byte == '\n'; }
};

// Calls visit(std::string_view word) for each word of the text, in order.
template <class Visit>
void for_each_word(std::string_view text, Visit visit) {
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    while (at != end && WhiteSpace::matches(*at)) ++at;
    if (at == end) return;
    const char* const first = at;
    while (at != end && !WhiteSpace::matches(*at)) ++at;
    visit(std::string_view(first, static_cast<std::size_t>(at - first)));
  }
}

}  // namespace regroup

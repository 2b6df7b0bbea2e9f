// A result as text, for people and pipes: what `regroup results DIR` prints. The table when there
// is one, row by row in bounded memory, otherwise the scalars. docs/result-file.md states the three
// forms exactly. A reader that goes away early, as head(1) does, is a quiet success.
#pragma once

#include <cstdint>
#include <expected>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/host/result_file_reader.hpp"

namespace regroup {

enum class TextFormat : std::uint8_t { kTsv, kCsv, kJsonl };

// Nothing for a name other than "tsv", "csv" and "jsonl".
std::optional<TextFormat> text_format_named(std::string_view name);

inline constexpr std::uint64_t kAllRows = std::numeric_limits<std::uint64_t>::max();

// Writes at most `rows_max` rows to the open descriptor `fd`, which stays open. SIGPIPE is neither
// raised nor left pending in this thread. Errors are one line. Any thread may call it.
std::expected<void, std::string> write_text(const ResultFileReader& reader, TextFormat format,
                                            int fd, std::uint64_t rows_max = kAllRows);

}  // namespace regroup

#include "runtime/host/result_text.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <ctime>
#include <type_traits>
#include <variant>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "runtime/host/file_system.hpp"

namespace regroup {
namespace {

constexpr std::size_t kBufferBytes = 65'536;
constexpr std::size_t kBlockRows = 16'384;

// Keeps SIGPIPE from this thread, and takes away one that our own writing raised.
class NoSigpipe {
 public:
  NoSigpipe() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~NoSigpipe() {
    constexpr timespec at_once{};
    if (!was_pending_) sigtimedwait(&pipe_, nullptr, &at_once);
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  NoSigpipe(const NoSigpipe&) = delete;
  NoSigpipe& operator=(const NoSigpipe&) = delete;

 private:
  sigset_t pipe_;
  sigset_t before_;
  bool was_pending_ = false;
};

// A buffer before a descriptor. After an error it takes and drops everything.
class Output {
 public:
  explicit Output(int fd) : fd_(fd) { text_.reserve(2 * kBufferBytes); }

  std::string& text() { return text_; }
  // To be called between rows.
  void row_done() {
    if (text_.size() >= kBufferBytes) flush();
  }
  void flush() {
    std::string_view rest = text_;
    while (!rest.empty() && error_number_ == 0) {
      const ssize_t written = ::write(fd_, rest.data(), rest.size());
      if (written >= 0)
        rest.remove_prefix(static_cast<std::size_t>(written));
      else if (errno == EAGAIN)
        wait_until_writable();
      else if (errno != EINTR)
        error_number_ = errno;
    }
    text_.clear();
  }
  bool failed() const { return error_number_ != 0; }
  int error_number() const { return error_number_; }

 private:
  void wait_until_writable() {
    pollfd descriptor{fd_, POLLOUT, 0};
    ::poll(&descriptor, 1, -1);
  }

  int fd_;
  int error_number_ = 0;
  std::string text_;
};

// The shortest digits that read back as the same number.
template <class Number>
void append_number(std::string& out, Number number) {
  char digits[32];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, number);
  static_cast<void>(error);  // 32 characters hold every double and every 64-bit integer
  out.append(digits, end);
}

std::string_view special_name(double number) {
  if (std::isnan(number)) return "nan";
  return number > 0 ? "inf" : "-inf";
}

void append_csv_text(std::string& out, std::string_view text) {
  if (!text.empty() && text.find_first_of(",\"\r\n") == text.npos) {
    out.append(text);
    return;
  }
  out.push_back('"');
  for (const char c : text) {
    if (c == '"') out.push_back('"');
    out.push_back(c);
  }
  out.push_back('"');
}

void append_json_text(std::string& out, std::string_view text) {
  const bool plain = std::ranges::all_of(
      text, [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; });
  if (plain) {
    out.push_back('"');
    out.append(text);
    out.push_back('"');
    return;
  }
  using nlohmann::json;
  out.append(json(text).dump(-1, ' ', false, json::error_handler_t::replace));
}

void append_value(std::string& out, TextFormat format, double number) {
  if (std::isfinite(number)) return append_number(out, number);
  if (format == TextFormat::kJsonl) return append_json_text(out, special_name(number));
  out.append(special_name(number));
}
void append_value(std::string& out, TextFormat, std::int64_t number) {
  append_number(out, number);
}
void append_value(std::string& out, TextFormat, std::uint64_t number) {
  append_number(out, number);
}
void append_value(std::string& out, TextFormat format, std::string_view text) {
  switch (format) {
    case TextFormat::kTsv:
      out.append(text);
      break;
    case TextFormat::kCsv:
      append_csv_text(out, text);
      break;
    case TextFormat::kJsonl:
      append_json_text(out, text);
      break;
  }
}
void append_value(std::string& out, TextFormat format, const ResultValue& value) {
  std::visit(
      [&](const auto& held) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(held)>, std::string>)
          append_value(out, format, std::string_view(held));
        else
          append_value(out, format, held);
      },
      value);
}

// What comes before value i of a row: `{"name":` and so on for JSON, a separator otherwise.
std::vector<std::string> prefixes(const std::vector<ResultColumn>& columns, TextFormat format) {
  std::vector<std::string> all;
  for (const auto& column : columns) {
    const bool first = all.empty();
    if (format == TextFormat::kTsv) all.emplace_back(first ? "" : "\t");
    if (format == TextFormat::kCsv) all.emplace_back(first ? "" : ",");
    if (format == TextFormat::kJsonl)
      all.push_back(fmt::format("{}\"{}\":", first ? "{" : ",", column.name));
  }
  return all;
}

void append_row(std::string& out, TextFormat format, const std::vector<std::string>& before,
                const ResultRows& rows, std::size_t row) {
  for (std::size_t i = 0; i < rows.columns.size(); ++i) {
    out.append(before[i]);
    std::visit([&](const auto& values) { append_value(out, format, values[row]); },
               rows.columns[i]);
  }
  out.append(format == TextFormat::kJsonl ? "}\n" : "\n");
}

void append_header(std::string& out, const std::vector<ResultColumn>& columns) {
  for (const auto& column : columns) {
    if (&column != &columns.front()) out.push_back(',');
    out.append(column.name);
  }
  out.push_back('\n');
}

std::expected<void, std::string> write_table(const ResultFileReader& reader, TextFormat format,
                                             std::uint64_t rows_max, Output& output) {
  if (format == TextFormat::kCsv) append_header(output.text(), reader.columns());
  const auto before = prefixes(reader.columns(), format);
  const std::uint64_t rows_wanted = std::min(rows_max, reader.rows());
  ResultRows block;
  for (std::uint64_t row = 0; row < rows_wanted && !output.failed(); row += block.rows) {
    const auto ask =
        static_cast<std::size_t>(std::min<std::uint64_t>(kBlockRows, rows_wanted - row));
    if (auto done = reader.read(row, ask, block); !done) return done;
    for (std::size_t i = 0; i < block.rows && !output.failed(); ++i) {
      append_row(output.text(), format, before, block, i);
      output.row_done();
    }
  }
  return {};
}

void write_scalars(const std::vector<NamedValue>& scalars, TextFormat format, Output& output) {
  std::string& out = output.text();
  if (format == TextFormat::kCsv) out.append("name,value\n");
  if (format == TextFormat::kJsonl) out.push_back('{');
  for (const auto& [name, value] : scalars) {
    const bool first = &name == &scalars.front().name;
    if (format == TextFormat::kJsonl) {
      out.append(fmt::format("{}\"{}\":", first ? "" : ",", name));
    } else {
      out.append(name).push_back(format == TextFormat::kTsv ? '\t' : ',');
    }
    append_value(out, format, value);
    if (format != TextFormat::kJsonl) out.push_back('\n');
  }
  if (format == TextFormat::kJsonl) out.append("}\n");
}

}  // namespace

std::optional<TextFormat> text_format_named(std::string_view name) {
  if (name == "tsv") return TextFormat::kTsv;
  if (name == "csv") return TextFormat::kCsv;
  if (name == "jsonl") return TextFormat::kJsonl;
  return std::nullopt;
}

std::expected<void, std::string> write_text(const ResultFileReader& reader, TextFormat format,
                                            int fd, std::uint64_t rows_max) {
  const NoSigpipe no_sigpipe;
  Output output(fd);
  std::expected<void, std::string> done;
  if (reader.columns().empty())
    write_scalars(reader.scalars(), format, output);
  else
    done = write_table(reader, format, rows_max, output);
  output.flush();
  if (!done || output.error_number() == EPIPE) return done;
  if (output.failed())
    return std::unexpected(fmt::format("cannot print {}: {}; write to a place that takes it",
                                       reader.path().string(), errno_text(output.error_number())));
  return {};
}

}  // namespace regroup

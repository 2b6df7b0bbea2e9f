// The job `wordcount`: how often each word occurs in files of any number and size. A word is a
// maximal run of bytes that are not ASCII white space. Most frequent first, words of one count in
// byte order: what
//   LC_ALL=C tr -s '[:space:]' '\n' | sort | uniq -c
// finds, in the order of its counts.
#include <filesystem>
#include <fstream>

#include "jobs/byte_ranges.hpp"
#include "jobs/range_reader.hpp"
#include "jobs/registry.hpp"
#include "jobs/sample_jobs.hpp"
#include "kernels/text/words.hpp"

namespace regroup {
namespace {

struct WordCount {
  using Value = std::uint64_t;
  using Before = ByValueDescendingThenKey;
  static constexpr std::string_view kName = "wordcount";
  static constexpr std::string_view kSummary = "how often each word occurs in files";
  static constexpr std::string_view kDescription =
      "A word is a run of bytes without ASCII white space. The result has a row for each word, the "
      "most frequent first and words of one count in byte order. Every node must see the same "
      "files. "
      "A rank that finds a file shorter, or other than the coordinator saw it in up to 8 blocks of "
      "16 "
      "KiB, fails its shards; a change elsewhere in a copy of the same size goes unnoticed.";

  void options(OptionSet& set) {
    set.inputs("FILE", files, "the files to count");
    set.add("files-from", files_from, "a file with more names of files, one a line")
        .value_name("LIST");
    set.add("top", top, "keep only the K most frequent words; 0 keeps all").value_name("K");
    set.add("min-length", min_length, "count only words of at least N bytes");
    set.add("ignore-case", ignore_case, "count A to Z as a to z");
    set.add("shard-bytes", shard_bytes,
            "bytes of input in one shard; 0 chooses by the input's size");
  }

  std::expected<void, std::string> prepare() {
    std::vector<std::string> paths = files;
    if (!files_from.empty()) {
      auto listed = read_list(files_from);
      if (!listed) return std::unexpected(listed.error());
      paths.insert(paths.end(), listed->begin(), listed->end());
    }
    if (paths.empty()) return std::unexpected("no input: name files, or a list with --files-from");
    auto inputs = open_inputs(paths);
    if (!inputs) return std::unexpected(inputs.error());
    auto cut = shard_bytes == 0 ? ByteRanges::cut(std::move(*inputs))
                                : ByteRanges::cut(std::move(*inputs), shard_bytes);
    if (!cut) return std::unexpected(cut.error());
    ranges = std::move(*cut);
    return {};
  }

  void save(Writer& writer) const { ranges->encode(writer); }
  std::expected<void, std::string> load(Reader& reader) {
    auto decoded = ByteRanges::decode(reader);
    if (!decoded) return std::unexpected(decoded.error());
    ranges = std::move(*decoded);
    return {};
  }

  std::uint64_t shards() const { return ranges->shards(); }

  template <class Emit>
  void map(const ShardContext& shard, Emit&& emit) const {
    for (const FilePiece& piece : ranges->pieces(ShardId{shard.shard()})) {
      value_or_throw(pieces.open(ranges->files()[piece.file], piece.begin, piece.end));
      while (true) {
        const std::string_view block = value_or_throw(pieces.next());
        if (block.empty()) break;
        count_words(block, emit);
      }
    }
  }

  static void combine(Value& into, const Value& next) { into += next; }

  template <class Entries>
  void report(const Entries& entries, Report& report) const {
    std::uint64_t words = 0;
    std::uint64_t distinct = 0;
    report.columns({{"count", ColumnType::kUint64}, {"word", ColumnType::kText}});
    entries.for_each([&](const Entry<Value>& entry) {
      words += entry.value;
      if (top == 0 || distinct < top) report.row({entry.value, entry.key});
      ++distinct;
    });
    report.value("words", words);
    report.value("distinct_words", distinct);
    report.value("bytes", ranges->total_bytes());
    report.value("files", std::uint64_t{ranges->files().size()});
  }

  std::vector<std::string> files;
  std::string files_from;
  std::uint64_t top = 0;
  std::uint64_t min_length = 0;
  bool ignore_case = false;
  std::uint64_t shard_bytes = 0;
  std::optional<ByteRanges> ranges;
  mutable WordRangeReader pieces;  // one shard at a time runs on a rank
  mutable std::string lowered;

 private:
  template <class T>
  static T value_or_throw(std::expected<T, std::string> result) {
    if (!result) throw std::runtime_error(result.error());
    if constexpr (!std::is_void_v<T>) return *result;
  }

  template <class Emit>
  void count_words(std::string_view block, Emit& emit) const {
    if (ignore_case) {
      lowered.assign(block);
      kernels::to_lower_ascii(lowered);
      block = lowered;
    }
    kernels::for_each_word(block, [&](std::string_view word) {
      if (word.size() >= min_length) emit(word, Value{1});
    });
  }

  static std::expected<std::vector<std::string>, std::string> read_list(const std::string& path) {
    std::error_code error;
    if (std::filesystem::is_directory(path, error)) {
      return std::unexpected(path + ": is a directory; --files-from takes a file with names");
    }
    std::ifstream list(path);
    if (!list)
      return std::unexpected(path + ": cannot be read; --files-from takes a file with names");
    std::vector<std::string> paths;
    for (std::string line; std::getline(list, line);) {
      if (!line.empty()) paths.push_back(line);
    }
    if (list.bad())
      return std::unexpected(path + ": reading it failed; see whether its disk is well");
    if (paths.empty()) return std::unexpected(path + ": names no file; write one name a line");
    return paths;
  }
};

}  // namespace

void add_wordcount(JobRegistry& registry) {
  registry.add<WordCount>();
}

}  // namespace regroup

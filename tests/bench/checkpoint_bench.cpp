// What a checkpoint costs over writing the same bytes as plainly as can be: ranks that are
// processes write and sync a file each, then, in turns with that, a part each of a checkpoint that
// is sealed. Prints each round on standard error, and the medians as one JSON line.
//   checkpoint_bench DIR [ranks [MiB a rank [rounds [deflate level]]]]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/host/checkpoint_manifest.hpp"
#include "runtime/host/checkpoint_store.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

using Clock = std::chrono::steady_clock;

struct Settings {
  std::filesystem::path directory;
  std::uint32_t ranks = 4;
  std::size_t rank_bytes = std::size_t{256} << 20;
  int rounds = 5;
  int deflate_level = 0;
};

// Bytes that no compression helps, in memory that was touched.
std::vector<std::vector<std::byte>> rank_buffers(const Settings& settings) {
  std::vector<std::vector<std::byte>> buffers(settings.ranks);
  std::mt19937_64 random(1);
  for (auto& buffer : buffers) {
    buffer.resize(settings.rank_bytes);
    for (std::size_t at = 0; at < buffer.size(); at += sizeof(std::uint64_t))
      new (buffer.data() + at) std::uint64_t(random());
  }
  return buffers;
}

std::string read_whole(int fd) {
  std::string text;
  char block[65536];
  for (ssize_t count = 0; (count = ::read(fd, block, sizeof block)) > 0;)
    text.append(block, static_cast<std::size_t>(count));
  return text;
}

void write_all(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(fd, bytes.data(), bytes.size());
    REGROUP_CHECK(count > 0, "the benchmark's disk takes what is written");
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

// Runs `work` in a process for each rank, started together, then `finish` with what they returned;
// the seconds from the start to the end of that.
double timed(const Settings& settings, const std::function<std::string(std::uint32_t)>& work,
             const std::function<void(const std::vector<std::string>&)>& finish) {
  ::sync();  // what came before is not this one's to write
  int start[2];
  REGROUP_CHECK(::pipe(start) == 0, "there are pipes");
  std::vector<int> answers;
  for (std::uint32_t rank = 0; rank < settings.ranks; ++rank) {
    int answer[2];
    REGROUP_CHECK(::pipe(answer) == 0, "there are pipes");
    if (::fork() == 0) {
      ::close(start[1]);
      ::close(answer[0]);
      write_all(answer[1], std::as_bytes(std::span("", 1)));  // that it waits
      read_whole(start[0]);
      const std::string text = work(rank);
      write_all(answer[1], std::as_bytes(std::span(text)));
      ::_exit(0);
    }
    ::close(answer[1]);
    answers.push_back(answer[0]);
  }
  ::close(start[0]);
  for (const int answer : answers) {
    char waits = 0;
    REGROUP_CHECK(::read(answer, &waits, 1) == 1, "a rank gets as far as its start");
  }
  const auto begin = Clock::now();
  ::close(start[1]);
  std::vector<std::string> texts;
  for (const int answer : answers) texts.push_back(read_whole(answer));
  finish(texts);
  const std::chrono::duration<double> taken = Clock::now() - begin;
  for (const int answer : answers) ::close(answer);
  while (::wait(nullptr) > 0) {
  }
  return taken.count();
}

double raw_seconds(const Settings& settings, const std::vector<std::vector<std::byte>>& buffers) {
  const auto path_of = [&](std::uint32_t rank) {
    return (settings.directory / ("raw-" + std::to_string(rank))).string();
  };
  const auto work = [&](std::uint32_t rank) {
    const int fd = ::open(path_of(rank).c_str(), O_WRONLY | O_CREAT | O_EXCL, 0666);
    write_all(fd, buffers[rank]);
    REGROUP_CHECK(::fsync(fd) == 0 && ::close(fd) == 0, "the disk syncs");
    return std::string("done");
  };
  const double seconds = timed(settings, work, [](const auto&) {});
  for (std::uint32_t rank = 0; rank < settings.ranks; ++rank)
    std::filesystem::remove(path_of(rank));
  return seconds;
}

double checkpoint_seconds(const Settings& settings,
                          const std::vector<std::vector<std::byte>>& buffers) {
  const CheckpointStore store(settings.directory, "bench");
  const auto work = [&](std::uint32_t rank) {
    PartRequest request{.checkpoint = CheckpointNumber{1}, .rank = RankId{rank}};
    request.deflate_level = settings.deflate_level;
    request.pieces = {{"shards/state", hdf5::ElementType::kUint64,
                       rank * (settings.rank_bytes / sizeof(std::uint64_t)), buffers[rank]}};
    const auto part = store.write_part(request);
    if (!part) std::fprintf(stderr, "%s\n", part.error().c_str());
    return part ? to_text(*part) : std::string();
  };
  const auto finish = [&](const std::vector<std::string>& texts) {
    SealRequest request{CheckpointNumber{1}, Epoch{0}, {}, {}};
    for (const auto& text : texts) request.parts.push_back(parse_part(text).value());
    REGROUP_CHECK(store.seal(request, [](Epoch) { return true; }).has_value(), "it is sealed");
  };
  const double seconds = timed(settings, work, finish);
  std::filesystem::remove_all(settings.directory / "checkpoints");
  return seconds;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

int run(const Settings& settings) {
  std::filesystem::create_directories(settings.directory);
  const auto buffers = rank_buffers(settings);
  std::vector<double> raw;
  std::vector<double> checkpoint;
  for (int round = 0; round < settings.rounds; ++round) {
    // Each goes first as often as the other: whoever does finds the disk in another state.
    if (round % 2 == 0) raw.push_back(raw_seconds(settings, buffers));
    checkpoint.push_back(checkpoint_seconds(settings, buffers));
    if (round % 2 != 0) raw.push_back(raw_seconds(settings, buffers));
    std::fprintf(stderr, "round %d: raw %.3f s, checkpoint %.3f s\n", round, raw.back(),
                 checkpoint.back());
  }
  const double megabytes = static_cast<double>(settings.ranks * settings.rank_bytes) / 1e6;
  std::printf(
      "{\"benchmark\": \"checkpoint\", \"ranks\": %u, \"rank_mib\": %zu, \"rounds\": %d, "
      "\"deflate_level\": %d, \"raw_seconds\": %.3f, \"checkpoint_seconds\": %.3f, "
      "\"raw_mb_per_second\": %.0f, \"checkpoint_mb_per_second\": %.0f, \"ratio\": %.3f}\n",
      settings.ranks, settings.rank_bytes >> 20, settings.rounds, settings.deflate_level,
      median(raw), median(checkpoint), megabytes / median(raw), megabytes / median(checkpoint),
      median(raw) / median(checkpoint));
  return 0;
}

}  // namespace
}  // namespace regroup

int main(int argc, char** argv) {
  if (argc < 2)
    return std::fputs("usage: checkpoint_bench DIR [ranks [MiB a rank [rounds [deflate]]]]\n",
                      stderr),
           2;
  regroup::Settings settings;
  settings.directory = argv[1];
  if (argc > 2) settings.ranks = static_cast<std::uint32_t>(std::atoi(argv[2]));
  if (argc > 3) settings.rank_bytes = static_cast<std::size_t>(std::atoi(argv[3])) << 20;
  if (argc > 4) settings.rounds = std::atoi(argv[4]);
  if (argc > 5) settings.deflate_level = std::atoi(argv[5]);
  return regroup::run(settings);
}

// What a snapshot of partitions in memory costs over a plain copy of the same bytes: ranks that are
// processes copy their partitions into memory that was touched before, then, in turns with that,
// take a snapshot of each as a worker does, into memory that is used again, with the one before
// kept until the new one is whole. Prints the medians as one JSON line.
//   snapshot_bench [ranks [MiB a rank [rounds]]]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/wire.hpp"
#include "scheduler/partition_copies.hpp"

namespace regroup {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRoundsMax = 100;
constexpr std::uint32_t kPartitions = 32;
constexpr std::uint64_t kMapShards = 10'000;

struct Settings {
  std::uint32_t ranks = 4;
  std::size_t rank_bytes = std::size_t{256} << 20;
  int rounds = 11;
};

// What the processes share: when a round begins, and when the last of them was done.
struct Shared {
  pthread_barrier_t barrier;
  double seconds[2][kRoundsMax];  // plain, snapshot
};

Shared* make_shared_memory(std::uint32_t ranks) {
  void* const memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REGROUP_CHECK(memory != MAP_FAILED, "there is memory to share");
  auto* const shared = new (memory) Shared();
  pthread_barrierattr_t attributes;
  ::pthread_barrierattr_init(&attributes);
  ::pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  ::pthread_barrier_init(&shared->barrier, &attributes, ranks);
  return shared;
}

class Rank {
 public:
  explicit Rank(std::size_t bytes) : held_(kMapShards), plain_(bytes) {
    std::mt19937_64 random(1);
    partitions_.resize(kPartitions);
    for (auto& partition : partitions_) {
      partition.resize(bytes / kPartitions);
      for (std::size_t at = 0; at + 8 <= partition.size(); at += 8)
        new (partition.data() + at) std::uint64_t(random());
    }
    std::memset(plain_.data(), 1, plain_.size());
    held_.insert(ShardRange{ShardId{0}, kMapShards / 2});
    copies_.begin(RankId{0}, 0);
  }

  void copy() {
    std::byte* to = plain_.data();
    for (const auto& partition : partitions_) {
      std::memcpy(to, partition.data(), partition.size());
      to += partition.size();
    }
  }
  // As Worker::begin_saving, a job's save_partition and Worker::saved do it.
  void snapshot() {
    for (std::uint32_t p = 0; p < kPartitions; ++p) {
      std::shared_ptr<Buffer> bytes = copies_.spares().take();
      Writer writer(*bytes);
      held_.save(writer);
      writer.put_raw(partitions_[p]);
      (void)copies_.keep({StageId{0}, p}, {std::move(bytes), held_.count(), 0, RankId{0}}, {});
    }
  }

 private:
  ShardBits held_;
  std::vector<std::vector<std::byte>> partitions_;
  std::vector<std::byte> plain_;
  PartitionCopies copies_;
};

void run_rank(std::uint32_t rank, const Settings& settings, Shared& shared) {
  Rank work(settings.rank_bytes);
  work.snapshot();  // fresh pages; those of the second time come with the first replacement
  work.snapshot();
  for (int round = 0; round < settings.rounds; ++round) {
    for (int i = 0; i < 2; ++i) {
      const int which = (round + i) % 2;  // each goes first as often as the other
      ::pthread_barrier_wait(&shared.barrier);
      const auto begin = Clock::now();
      which == 0 ? work.copy() : work.snapshot();
      ::pthread_barrier_wait(&shared.barrier);
      const std::chrono::duration<double> taken = Clock::now() - begin;
      if (rank == 0) shared.seconds[which][round] = taken.count();
    }
  }
}

double median(double* values, int count) {
  std::sort(values, values + count);
  return values[count / 2];
}

int run(const Settings& settings) {
  Shared& shared = *make_shared_memory(settings.ranks);
  for (std::uint32_t rank = 0; rank < settings.ranks; ++rank) {
    if (::fork() != 0) continue;
    run_rank(rank, settings, shared);
    ::_exit(0);
  }
  while (::wait(nullptr) > 0) {
  }
  const double gigabytes = static_cast<double>(settings.ranks * settings.rank_bytes) / 1e9;
  const double plain = median(shared.seconds[0], settings.rounds);
  const double snapshot = median(shared.seconds[1], settings.rounds);
  std::printf(
      "{\"benchmark\": \"snapshot\", \"ranks\": %u, \"rank_mib\": %zu, \"rounds\": %d, "
      "\"plain_gb_per_second\": %.2f, \"snapshot_gb_per_second\": %.2f, \"ratio\": %.3f}\n",
      settings.ranks, settings.rank_bytes >> 20, settings.rounds, gigabytes / plain,
      gigabytes / snapshot, plain / snapshot);
  return 0;
}

}  // namespace
}  // namespace regroup

int main(int argc, char** argv) {
  regroup::Settings settings;
  if (argc > 1) settings.ranks = static_cast<std::uint32_t>(std::atoi(argv[1]));
  if (argc > 2) settings.rank_bytes = static_cast<std::size_t>(std::atoi(argv[2])) << 20;
  if (argc > 3) settings.rounds = std::clamp(std::atoi(argv[3]), 1, regroup::kRoundsMax);
  return regroup::run(settings);
}

// The yardstick for Regroup's dispatch: a master/worker in plain MPI, as fast as one writes it by
// hand. Rank 0 hands out ranges of `batch` shards and adds up their 8-byte results, with `pipeline`
// messages under way to each worker, receives posted ahead, and no blocking call; nothing is
// checked, ordered, retried or survived. It prints one line of JSON about the part between two
// barriers. Without MPI, `alone` computes all shards in this one process, which is what the core
// has to give, and `calibrate` measures how fast this core does busy_work().
#define OMPI_SKIP_MPICXX 1
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include <mpi.h>

#include "tests/bench/busy_work.hpp"

namespace regroup::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kTag = 1;

struct Options {
  std::uint64_t shards = 1'000'000;
  std::uint64_t batch = 1;
  std::size_t pipeline = 1;
  std::uint64_t iterations = 0;
  bool master_computes = false;
  bool alone = false;
  bool calibrate = false;
};

// A range of shards; its results follow it on the way back. No shards: it is over.
struct Header {
  std::uint64_t first = 0;
  std::uint64_t count = 0;
};
constexpr std::size_t kHeaderWords = 2;

Header read_header(const std::uint64_t* words) {
  return {words[0], words[1]};
}

void write_header(Header header, std::uint64_t* words) {
  words[0] = header.first;
  words[1] = header.count;
}

std::uint64_t compute(std::uint64_t shard, std::uint64_t iterations) {
  return shard + busy_work(iterations, shard) % 2;
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Receives from one rank, posted as a ring: messages of one rank arrive in order, so the head is
// next.
class Ring {
 public:
  Ring(int peer, std::size_t slots, std::size_t words) : words_(words), values_(slots * words) {
    for (std::size_t slot = 0; slot < slots; ++slot) {
      requests_.push_back(MPI_REQUEST_NULL);
      MPI_Recv_init(data(slot), static_cast<int>(words), MPI_UINT64_T, peer, kTag, MPI_COMM_WORLD,
                    &requests_.back());
      MPI_Start(&requests_.back());
    }
  }
  MPI_Request& head() { return requests_[head_]; }
  std::size_t head_slot() const { return head_; }
  const std::uint64_t* head_data() { return data(head_); }
  void repost_head() {
    MPI_Start(&requests_[head_]);
    head_ = (head_ + 1) % requests_.size();
  }
  // With no message under way to it.
  void close() {
    for (MPI_Request& request : requests_) {
      MPI_Cancel(&request);
      MPI_Wait(&request, MPI_STATUS_IGNORE);
      MPI_Request_free(&request);
    }
  }

 private:
  std::uint64_t* data(std::size_t slot) { return values_.data() + slot * words_; }

  std::size_t words_;
  std::vector<std::uint64_t> values_;
  std::vector<MPI_Request> requests_;
  std::size_t head_ = 0;
};

// Buffers of messages to one rank. A slot is free again once the other end has answered it.
class Outbox {
 public:
  Outbox(int peer, std::size_t slots, std::size_t words)
      : peer_(peer), words_(words), values_(slots * words), requests_(slots, MPI_REQUEST_NULL) {}
  std::uint64_t* data(std::size_t slot) {
    MPI_Wait(&requests_[slot], MPI_STATUS_IGNORE);
    return values_.data() + slot * words_;
  }
  void send(std::size_t slot, std::size_t words) {
    MPI_Isend(values_.data() + slot * words_, static_cast<int>(words), MPI_UINT64_T, peer_, kTag,
              MPI_COMM_WORLD, &requests_[slot]);
  }
  void close() {
    MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(), MPI_STATUSES_IGNORE);
  }

 private:
  int peer_;
  std::size_t words_;
  std::vector<std::uint64_t> values_;
  std::vector<MPI_Request> requests_;
};

class Master {
 public:
  Master(const Options& options, int workers) : options_(options) {
    for (int worker = 1; worker <= workers; ++worker) {
      replies_.emplace_back(worker, options.pipeline, kHeaderWords + options.batch);
      outboxes_.emplace_back(worker, options.pipeline, kHeaderWords);
    }
    heads_.resize(replies_.size());
    ready_.resize(replies_.size());
  }

  std::uint64_t run() {
    for (std::size_t slot = 0; slot < options_.pipeline; ++slot) {
      for (std::size_t worker = 0; worker < outboxes_.size(); ++worker) hand_out(worker, slot);
    }
    while (done_ < options_.shards) {
      const bool heard = collect();
      if (!heard && options_.master_computes && next_ < options_.shards) compute_batch();
    }
    return sum_;
  }

  void close() {
    for (Outbox& outbox : outboxes_) {
      write_header({}, outbox.data(0));
      outbox.send(0, kHeaderWords);
      outbox.close();
    }
    for (Ring& ring : replies_) ring.close();
  }

 private:
  Header take() {
    const Header range{next_, std::min(options_.batch, options_.shards - next_)};
    next_ += range.count;
    return range;
  }

  void hand_out(std::size_t worker, std::size_t slot) {
    if (next_ == options_.shards) return;
    write_header(take(), outboxes_[worker].data(slot));
    outboxes_[worker].send(slot, kHeaderWords);
  }

  // One look at the next reply of every worker.
  bool collect() {
    for (std::size_t worker = 0; worker < replies_.size(); ++worker) {
      heads_[worker] = replies_[worker].head();
    }
    int count = 0;
    MPI_Testsome(static_cast<int>(heads_.size()), heads_.data(), &count, ready_.data(),
                 MPI_STATUSES_IGNORE);
    for (int i = 0; i < count; ++i)
      take_in(static_cast<std::size_t>(ready_[static_cast<std::size_t>(i)]));
    return count > 0;
  }

  void take_in(std::size_t worker) {
    Ring& ring = replies_[worker];
    const Header range = read_header(ring.head_data());
    const std::uint64_t* const values = ring.head_data() + kHeaderWords;
    for (std::uint64_t i = 0; i < range.count; ++i) sum_ += values[i];
    done_ += range.count;
    const std::size_t slot = ring.head_slot();
    ring.repost_head();
    hand_out(worker, slot);
  }

  void compute_batch() {
    const Header range = take();
    for (std::uint64_t i = 0; i < range.count; ++i)
      sum_ += compute(range.first + i, options_.iterations);
    done_ += range.count;
  }

  Options options_;
  std::vector<Ring> replies_;
  std::vector<Outbox> outboxes_;
  std::vector<MPI_Request> heads_;
  std::vector<int> ready_;
  std::uint64_t next_ = 0;
  std::uint64_t done_ = 0;
  std::uint64_t sum_ = 0;
};

void work(const Options& options) {
  Ring orders(0, options.pipeline, kHeaderWords);
  Outbox replies(0, options.pipeline, kHeaderWords + options.batch);
  MPI_Barrier(MPI_COMM_WORLD);
  while (true) {
    int arrived = 0;
    MPI_Test(&orders.head(), &arrived, MPI_STATUS_IGNORE);
    if (!arrived) continue;
    const Header range = read_header(orders.head_data());
    if (range.count == 0) break;
    const std::size_t slot = orders.head_slot();
    orders.repost_head();
    std::uint64_t* const reply = replies.data(slot);
    write_header(range, reply);
    for (std::uint64_t i = 0; i < range.count; ++i) {
      reply[kHeaderWords + i] = compute(range.first + i, options.iterations);
    }
    replies.send(slot, kHeaderWords + range.count);
  }
  orders.repost_head();
  replies.close();
  orders.close();
}

void print(const Options& options, double seconds, std::uint64_t sum) {
  std::printf(
      "{\"shards\": %llu, \"run_seconds\": %.9f, \"shards_per_second\": %.1f, \"sum\": %llu}\n",
      static_cast<unsigned long long>(options.shards), seconds,
      static_cast<double>(options.shards) / seconds, static_cast<unsigned long long>(sum));
}

void lead(const Options& options, int ranks) {
  Master master(options, ranks - 1);
  MPI_Barrier(MPI_COMM_WORLD);
  const Clock::time_point start = Clock::now();
  const std::uint64_t sum = master.run();
  const double seconds = seconds_since(start);
  master.close();
  print(options, seconds, sum);
}

void compute_alone(const Options& options) {
  const Clock::time_point start = Clock::now();
  std::uint64_t sum = 0;
  for (std::uint64_t shard = 0; shard < options.shards; ++shard)
    sum += compute(shard, options.iterations);
  print(options, seconds_since(start), sum);
}

// The median of many short runs: most of them have the core to themselves, and its interrupts.
void calibrate() {
  constexpr std::uint64_t kIterations = 2'000'000;
  std::array<double, 201> seconds;
  std::uint64_t value = 1;
  for (double& taken : seconds) {
    const Clock::time_point start = Clock::now();
    value = busy_work(kIterations, value);
    taken = seconds_since(start);
  }
  std::ranges::nth_element(seconds, seconds.begin() + seconds.size() / 2);
  std::printf("{\"iterations_per_ns\": %.6f, \"value\": %llu}\n",
              static_cast<double>(kIterations) / (seconds[seconds.size() / 2] * 1e9),
              static_cast<unsigned long long>(value));
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--calibrate") {
      options.calibrate = true;
      continue;
    }
    if (name == "--alone") {
      options.alone = true;
      continue;
    }
    if (name == "--master-computes") {
      options.master_computes = true;
      continue;
    }
    if (++i == argc) return false;
    const double value = std::strtod(argv[i], nullptr);
    if (name == "--shards") {
      options.shards = static_cast<std::uint64_t>(value);
    } else if (name == "--batch") {
      options.batch = static_cast<std::uint64_t>(std::max(1.0, value));
    } else if (name == "--pipeline") {
      options.pipeline = static_cast<std::size_t>(std::max(1.0, value));
    } else if (name == "--iterations") {
      options.iterations = static_cast<std::uint64_t>(value);
    } else {
      return false;
    }
  }
  return true;
}

int run(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr,
                 "bare_mpi: [--shards N] [--batch K] [--pipeline D] [--iterations I] "
                 "[--master-computes] [--alone] [--calibrate]\n");
    return 2;
  }
  if (options.calibrate) {
    calibrate();
    return 0;
  }
  if (options.alone) {
    compute_alone(options);
    return 0;
  }
  MPI_Init(&argc, &argv);
  int rank = 0;
  int ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  if (ranks < 2) {
    std::fprintf(stderr, "bare_mpi: start it with two ranks or more: mpirun -n 4 bare_mpi ...\n");
  } else if (rank == 0) {
    lead(options, ranks);
  } else {
    work(options);
  }
  MPI_Finalize();
  return ranks < 2 ? 2 : 0;
}

}  // namespace
}  // namespace regroup::bench

int main(int argc, char** argv) {
  return regroup::bench::run(argc, argv);
}

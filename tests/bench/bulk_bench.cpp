// Bulk transfers beside bare MPI: ranks in a ring send each other large messages, each to the next,
// round by round. First with MPI_Isend and MPI_Irecv of whole messages alone, then through Node,
// HostLoop and MpiTransport, and so once more while every rank computes orders of so many
// microseconds; all in memory that is used again. Prints for each the bytes that all ranks together
// received a second in the median round, and the ratio to the first.
//
//     mpirun -n 4 --oversubscribe --bind-to none --mca btl_vader_single_copy_mechanism none
//         bulk_bench [MIB [ROUNDS [MICROSECONDS]]]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <sched.h>
#include <unistd.h>

#include "runtime/host/doorbell.hpp"
#include "runtime/host/host_loop.hpp"
#include "runtime/host/mpi_session.hpp"
#include "runtime/host/mpi_transport.hpp"
#include "runtime/host/mpi_wrapper.hpp"
#include "runtime/host/thread_slice.hpp"
#include "runtime/protocol/node.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::size_t kWarmUpRounds = 2;
constexpr auto kKind = MessageKind{100};

struct Shape {
  std::size_t bytes = 256 * kMiB;
  std::size_t rounds = 10;
  std::uint64_t order_us = 5000;
};

// Of rounds that end when this rank has received, and that begin with the one before.
class Rounds {
 public:
  void mark() { marks_.push_back(Clock::now()); }
  std::size_t marks() const { return marks_.size(); }
  double median_seconds() const {
    std::vector<double> seconds;
    for (std::size_t i = kWarmUpRounds + 1; i < marks_.size(); ++i) {
      seconds.push_back(std::chrono::duration<double>(marks_[i] - marks_[i - 1]).count());
    }
    std::ranges::nth_element(seconds, seconds.begin() + std::ssize(seconds) / 2);
    return seconds[seconds.size() / 2];
  }

 private:
  std::vector<Clock::time_point> marks_;
};

double bare_ring(const MpiSession& session, const Shape& shape, const std::byte* out) {
  const auto ranks = static_cast<int>(session.ranks());
  const auto self = static_cast<int>(session.rank());
  const MPI_Comm all = session.handles().all;
  Buffer in(shape.bytes);
  Rounds rounds;
  rounds.mark();
  for (std::size_t round = 0; round < shape.rounds + kWarmUpRounds; ++round) {
    MPI_Request requests[2];
    mpi::check(MPI_Irecv(in.data(), static_cast<int>(shape.bytes), MPI_BYTE,
                         (self + ranks - 1) % ranks, 1, all, &requests[0]),
               "MPI_Irecv");
    mpi::check(MPI_Isend(out, static_cast<int>(shape.bytes), MPI_BYTE, (self + 1) % ranks, 1, all,
                         &requests[1]),
               "MPI_Isend");
    int done = 0;
    while (mpi::check(MPI_Testall(2, requests, &done, MPI_STATUSES_IGNORE), "MPI_Testall"), !done) {
      sched_yield();  // ranks may share a core
    }
    rounds.mark();
  }
  return rounds.median_seconds();
}

// Sends the same bytes once a round, and begins the next when those of the neighbour are there.
// After the rounds that are for moving alone come as many beside orders.
class RingService : public Service {
 public:
  RingService(const Shape& shape, std::shared_ptr<const Buffer> out, Rounds& alone, Rounds& beside)
      : rounds_(shape.rounds + kWarmUpRounds),
        out_(std::move(out)),
        alone_(&alone),
        beside_(&beside) {}

  void on_start(Context& context) override {
    alone_->mark();
    send(context);
  }
  void on_view(Context& context) override { context.finish({1, "a view ended"}); }
  void on_left(Context&, RankId) override {}
  void on_tick(Context&) override {}
  bool on_message(Context& context, RankId, MessageKind, std::span<const std::byte>) override {
    if (++done_ == context.ranks()) context.finish({});
    return true;
  }
  void on_bulk(Context& context, RankId, MessageKind, std::span<const std::byte>, Buffer bytes,
               const BulkHash&) override {
    context.give_large(std::move(bytes));
    if (alone_->marks() <= rounds_)
      alone_->mark();
    else
      beside_->mark();
    if (alone_->marks() > rounds_ && beside_->marks() == 0) beside_->mark();
    if (beside_->marks() <= rounds_) return send(context);
    for (std::uint32_t rank = 0; rank < context.ranks(); ++rank) {
      context.begin(RankId{rank}, MessageKind::kGoodbye);
      context.send();
    }
  }
  void on_work_wanted(Context& context) override {
    if (alone_->marks() > rounds_) context.order({});
  }
  void on_work_finished(Context&, WorkResult&) override {}
  void on_wish(Context&, Wish, const std::string&) override {}

 private:
  void send(Context& context) {
    context.begin(RankId{(context.self().value + 1) % context.ranks()}, kKind);
    if (!context.send_bulk(out_)) context.finish({1, "there was no room for a transfer"});
  }

  std::size_t rounds_;
  std::shared_ptr<const Buffer> out_;
  Rounds* alone_;
  Rounds* beside_;
  std::uint32_t done_ = 0;
};

class BusyExecutor : public Executor {
 public:
  explicit BusyExecutor(std::uint64_t order_us) : order_us_(order_us) {}
  void execute(WorkOrder&, WorkResult&) override {
    const auto until = Clock::now() + std::chrono::microseconds(order_us_);
    while (Clock::now() < until) continue;
  }

 private:
  std::uint64_t order_us_;
};

struct RingSeconds {
  double alone = 0;
  double beside = 0;  // orders
};

RingSeconds regroup_ring(const MpiSession& session, const Shape& shape, const Doorbell& bell,
                         std::shared_ptr<const Buffer> out) {
  BufferPool pool;
  MpiTransport transport(session, pool);
  Rounds alone, beside;
  Node node({.self = RankId{session.rank()}, .ranks = session.ranks()},
            std::make_unique<RingService>(shape, std::move(out), alone, beside), pool);
  BusyExecutor executor(shape.order_us);
  HostHooks hooks;
  hooks.bell = &bell;
  hooks.on_thread = ask_for_short_slices;
  const Outcome outcome = HostLoop(node, transport, executor, std::move(hooks)).run();
  if (outcome.exit_status != 0) {
    std::fprintf(stderr, "rank %u: %s\n", session.rank(), outcome.message.c_str());
    std::exit(1);
  }
  return {alone.median_seconds(), beside.median_seconds()};
}

std::expected<Doorbell, std::string> open_bell(MpiSession& session) {
  auto run = static_cast<std::uint64_t>(getpid());
  session.broadcast(std::as_writable_bytes(std::span(&run, 1)));
  std::vector<std::uint32_t> near;
  for (std::uint32_t rank = 0; rank < session.ranks(); ++rank) near.push_back(rank);
  return Doorbell::open(run, RankId{session.rank()}, near);
}

int run(const Shape& shape) {
  MpiSession session;
  auto out = std::make_shared<Buffer>();
  out->resize(shape.bytes);
  std::ranges::fill(out->writable(), static_cast<std::byte>(session.rank() + 1));
  const auto rate = [&](double seconds) {
    return static_cast<double>(shape.bytes) * session.ranks() / seconds / 1e9;
  };
  const double bare = rate(bare_ring(session, shape, out->data()));
  const auto bell = open_bell(session);
  if (!bell) {
    std::fprintf(stderr, "no doorbell: %s\n", bell.error().c_str());
    return 1;
  }
  const RingSeconds seconds = regroup_ring(session, shape, *bell, out);
  const double ours = rate(seconds.alone);
  const double beside = rate(seconds.beside);
  if (session.rank() == 0) {
    std::printf(
        "%u ranks, %zu MiB each: bare MPI %.2f GB/s, Regroup %.2f (ratio %.2f), "
        "beside orders of %ju us %.2f (ratio %.2f)\n",
        session.ranks(), shape.bytes / kMiB, bare, ours, ours / bare,
        static_cast<std::uintmax_t>(shape.order_us), beside, beside / bare);
  }
  session.finish(0);
  return 0;
}

}  // namespace
}  // namespace regroup

int main(int argc, char** argv) {
  regroup::Shape shape;
  if (argc > 1) shape.bytes = std::strtoull(argv[1], nullptr, 10) * regroup::kMiB;
  if (argc > 2) shape.rounds = std::strtoull(argv[2], nullptr, 10);
  if (argc > 3) shape.order_us = std::strtoull(argv[3], nullptr, 10);
  if (shape.bytes == 0 || shape.rounds == 0) {
    std::fprintf(stderr, "bulk_bench [MIB [ROUNDS [MICROSECONDS]]]\n");
    return 2;
  }
  return regroup::run(shape);
}

// The MPI transport on real ranks: every rank sends frames of all sizes to every other, and each
// must arrive once, whole and from whom it says. Run by mpirun; exits 0 if all is well, 1 with a
// line if not, and never takes longer than its deadline.
#include <chrono>
#include <cstdio>
#include <random>
#include <set>
#include <vector>

#include <unistd.h>

#include "runtime/host/mpi_session.hpp"
#include "runtime/host/mpi_transport.hpp"
#include "runtime/protocol/frame.hpp"

namespace regroup {
namespace {

constexpr std::uint64_t kFramesToEach = 3000;
constexpr auto kDeadline = std::chrono::seconds(60);
constexpr std::size_t kFramesAtOnce = 64;

// Mostly small, so that frames travel together; sizes about the bounds; some of the largest.
std::size_t draw_frame_bytes(std::mt19937_64& random) {
  const std::size_t near_bound = MpiTransport::kSmallFrameBytes - 2 + random() % 5;
  switch (random() % 20) {
    case 0:
      return kFrameBytesMax;
    case 1:
      return kFrameHeaderBytes + random() % (kFrameBytesMax - kFrameHeaderBytes);
    case 2:
    case 3:
      return near_bound;
    default:
      return kFrameHeaderBytes + random() % 200;
  }
}

class Check {
 public:
  Check() : transport_(session_, pool_), random_(transport_.self().value), seen_(ranks()) {}

  bool run() {
    const auto until = std::chrono::steady_clock::now() + kDeadline;
    std::uint64_t rounds_left = kFramesToEach;
    while (rounds_left != 0 || received_ != expected() || transport_.backlog_bytes() != 0) {
      for (std::size_t i = 0; i < kFramesAtOnce && rounds_left != 0; ++i) send_round(rounds_left--);
      transport_.poll([this](RankId from, std::span<const std::byte> frame) { take(from, frame); },
                      kFramesAtOnce);
      if (wrong_) return false;
      if (std::chrono::steady_clock::now() > until) return complain("not all frames arrived");
    }
    return true;
  }

 private:
  std::uint32_t ranks() const { return transport_.ranks(); }
  std::uint64_t expected() const { return (ranks() - 1) * kFramesToEach; }

  void send_round(std::uint64_t sequence) {
    for (std::uint32_t rank = 0; rank < ranks(); ++rank) {
      if (RankId{rank} == transport_.self()) continue;
      Buffer frame = pool_.take();
      frame.resize(draw_frame_bytes(random_));
      for (std::byte& byte : frame.writable()) byte = static_cast<std::byte>(sequence);
      seal_frame(frame, {.kind = MessageKind::kLease,
                         .from = transport_.self(),
                         .epoch = Epoch{1},
                         .sequence = sequence,
                         .lamport = 1});
      transport_.send(RankId{rank}, std::move(frame));
    }
  }

  void take(RankId from, std::span<const std::byte> bytes) {
    const auto frame = open_frame(bytes);
    if (!frame || frame->header.from != from) {
      wrong_ = !complain("a frame arrived damaged");
    } else if (!seen_[from.value].insert(frame->header.sequence).second) {
      wrong_ = !complain("a frame arrived twice");
    }
    ++received_;
  }

  bool complain(const char* what) {
    std::fprintf(stderr, "rank %u: %s (%ju of %ju)\n", transport_.self().value, what,
                 static_cast<std::uintmax_t>(received_), static_cast<std::uintmax_t>(expected()));
    return false;
  }

  MpiSession session_;
  BufferPool pool_;
  MpiTransport transport_;
  std::mt19937_64 random_;
  std::vector<std::set<std::uint64_t>> seen_;  // sequence numbers, by sender
  std::uint64_t received_ = 0;
  bool wrong_ = false;
};

}  // namespace
}  // namespace regroup

int main() {
  // No wait for the others' MPI_Finalize when something is wrong.
  if (!regroup::Check().run()) _exit(1);
  return 0;
}

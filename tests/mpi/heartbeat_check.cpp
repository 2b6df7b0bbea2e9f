// The heartbeats' start on real ranks: every rank must learn where all are and the same secret, and
// then hear its predecessor, and nobody may be suspected or reported dead from the first heartbeat
// to the end of the last rank. Run by mpirun; exits 0 if all is well, 1 with a line if not, and
// never takes longer than its deadlines.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <thread>

#include <unistd.h>

#include "runtime/host/failure_detector.hpp"
#include "runtime/host/heartbeat_start.hpp"
#include "runtime/host/mpi_session.hpp"

namespace regroup {
namespace {

constexpr auto kDeadline = std::chrono::seconds(30);
constexpr std::uint64_t kHeartbeatsToHear = 5;

class Check {
 public:
  bool run() {
    auto start = start_heartbeats(session_);
    if (!start) return complain(start.error().c_str());
    if (!addresses_are_right(*start)) return false;
    if (!all_know_the_same_secret(start->secret)) return false;

    FailureDetector detector(
        {.self = RankId{session_.rank()},
         .period = 10 * kMillisecond,
         .suspect_after = 5 * kSecond,
         .secret = start->secret},
        std::move(start->socket), start->peers, [this](PeerEvidence evidence) { take(evidence); },
        std::move(start->notices));
    // On an older kernel this is still to work, without notices.
    if (!detector.limitation().empty() && !problem_with_death_notices()) {
      return complain(detector.limitation().c_str());
    }
    if (session_.ranks() > 1 && !hears_others(detector)) return false;
    detector.leave();
    HeartbeatTraffic traffic = detector.statistics().traffic;
    traffic.dropped[static_cast<std::size_t>(HeartbeatError::kReplayed)] = 0;  // merely overtaken
    if (traffic.dropped_total() != 0) return complain("datagrams were dropped");
    const std::lock_guard lock(mutex_);
    return evidence_ == 0 || complain("a living rank was suspected or reported dead");
  }

 private:
  bool addresses_are_right(const HeartbeatStart& start) {
    if (start.peers.size() != session_.ranks()) return complain("ranks are missing");
    if (start.peers[session_.rank()] != own_address(start.socket)) {
      return complain("the others have another address of this rank");
    }
    for (std::size_t rank = 0; rank < start.peers.size(); ++rank) {
      for (std::size_t other = 0; other < rank; ++other) {
        if (start.peers[rank].pid == start.peers[other].pid ||
            start.peers[rank].udp == start.peers[other].udp) {
          return complain("two ranks have one address");
        }
      }
    }
    return true;
  }

  bool all_know_the_same_secret(const RunSecret& secret) {
    if (secret == RunSecret{}) return complain("the secret is none");
    for (const auto& theirs : session_.gather(secret)) {
      if (!std::equal(secret.begin(), secret.end(), theirs.begin(), theirs.end())) {
        return complain("ranks know different secrets");
      }
    }
    return true;
  }

  bool hears_others(const FailureDetector& detector) {
    const auto until = std::chrono::steady_clock::now() + kDeadline;
    while (detector.statistics().traffic.taken < kHeartbeatsToHear) {
      if (std::chrono::steady_clock::now() > until) return complain("nothing is heard");
      std::this_thread::yield();
    }
    return true;
  }

  void take(PeerEvidence evidence) {
    if (evidence.kind == EvidenceKind::kLeft) return;
    const std::lock_guard lock(mutex_);
    ++evidence_;
    std::fprintf(stderr, "rank %u: evidence of kind %u about rank %u\n", session_.rank(),
                 static_cast<unsigned>(evidence.kind), evidence.rank.value);
  }

  bool complain(const char* what) {
    std::fprintf(stderr, "rank %u: %s\n", session_.rank(), what);
    return false;
  }

  MpiSession session_;
  std::mutex mutex_;
  int evidence_ = 0;
};

}  // namespace
}  // namespace regroup

int main() {
  // No wait for the others' MPI_Finalize when something is wrong.
  if (!regroup::Check().run()) _exit(1);
  return 0;
}

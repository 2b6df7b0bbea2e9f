// Watches over the other ranks on a thread of its own: heartbeats over UDP (see
// runtime/protocol/detector.hpp) suspect whoever is silent, and the kernel confirms that a process
// of the same node is gone: by a death notice as soon as it ends (death_notice.hpp), and through a
// pidfd for each rank at the latest once it has. It never touches MPI, and MPI never delays it. One
// a rank, owned by whoever runs the rank. Its methods may be called from any thread, but leave()
// and the destructor not from within the evidence handler.
#pragma once

#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/host/death_notice.hpp"
#include "runtime/host/heartbeat_socket.hpp"
#include "runtime/host/host_identity.hpp"
#include "runtime/protocol/evidence.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

// Where a rank is: what ranks tell each other at the start.
struct PeerAddress {
  HostIdentity host;
  std::int32_t pid = 0;
  std::uint64_t started = 0;  // see process_start
  UdpAddress udp;

  friend bool operator==(const PeerAddress&, const PeerAddress&) = default;
};
PeerAddress own_address(const HeartbeatSocket& socket);

// A pidfd, or -1 and errno: ESRCH if there is no such process.
int open_pidfd(std::int32_t pid);

struct FailureDetectorOptions {
  RankId self;
  Nanoseconds period = 100 * kMillisecond;
  Nanoseconds suspect_after = 0;  // of silence; 0: five periods
  RunSecret secret{};
  std::function<int(std::int32_t pid)> pidfd = open_pidfd;
  std::function<void()> on_thread;  // on each of the detector's threads, first of all; optional
  // Something of this rank's own that the detector's thread looks at about every look_period, never
  // sooner after the last look, until the detector is destroyed; 0: nothing. Must be quick, too.
  Nanoseconds look_period = 0;
  std::function<void()> look;
};
// Why it cannot work with these times, on one line; empty when it can.
std::optional<std::string> problem_with(const FailureDetectorOptions& options);

struct FailureDetectorStatistics {
  HeartbeatTraffic traffic;
  std::uint64_t wakeups = 0;
  Nanoseconds longest_stall = 0;  // the latest that the thread ever came to its clock
};

class FailureDetector {
 public:
  // Called on the detector's thread; must be quick, since nobody is watched meanwhile.
  using EvidenceHandler = std::function<void(PeerEvidence)>;

  // Starts at once, with every rank a member. `peers` by rank, this one included; `socket` is the
  // one that this rank's address told of. `notices`: what the ranks of this host share, numbered
  // in rank order, or why they share nothing; empty: without. The options have no problem, see
  // above. Throws std::system_error if the system has no thread, timer or descriptor to give.
  FailureDetector(const FailureDetectorOptions& options, HeartbeatSocket socket,
                  const std::vector<PeerAddress>& peers, EvidenceHandler on_evidence,
                  std::expected<NoticeBoard, std::string> notices = {});
  // Falls silent without a word, unless leave() was called.
  ~FailureDetector();
  FailureDetector(const FailureDetector&) = delete;
  FailureDetector& operator=(const FailureDetector&) = delete;

  // A new view; the latest one counts.
  void set_members(std::vector<RankId> members);
  // Certain evidence that came by another way. The handler is told of it like of any other, once.
  void confirm(RankId rank);
  // Tells the others that this rank leaves, and waits until those alive have taken it, about a
  // second at most. No evidence comes any more. Until it is destroyed it still answers those that
  // leave later.
  void leave();

  FailureDetectorStatistics statistics() const;
  // Why deaths on this node are noticed late, or by silence only, on one line; empty: the kernel
  // tells at once.
  const std::string& limitation() const;

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace regroup

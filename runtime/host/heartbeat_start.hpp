// How ranks find each other for their heartbeats, once, at the start of a run and over MPI: they
// agree on a network, open their sockets there, tell each other where, and learn the run's secret
// from rank 0. The ranks of a host get the memory for their death notices by the way, if they can.
// Every rank ends with success or every rank with an error.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/host/death_notice.hpp"
#include "runtime/host/failure_detector.hpp"
#include "runtime/host/heartbeat_socket.hpp"
#include "runtime/host/mpi_session.hpp"

namespace regroup {

struct HeartbeatStart {
  HeartbeatSocket socket;            // this rank's, bound
  std::vector<PeerAddress> peers;    // by rank, this one included
  std::vector<std::uint32_t> here;   // the ranks of this rank's host, ascending
  std::vector<std::uint32_t> hosts;  // by rank: the first rank on its host
  RunSecret secret;
  std::expected<NoticeBoard, std::string> notices;  // of this rank's host, or why there are none
};

// Collective over all ranks and blocking, so for the start of a run only. `network`: see
// choose_heartbeat_ips; the same on every rank. Errors are one line.
std::expected<HeartbeatStart, std::string> start_heartbeats(MpiSession& session,
                                                            std::string_view network = {});

}  // namespace regroup

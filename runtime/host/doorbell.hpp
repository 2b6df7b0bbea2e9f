// Wakes a rank of the same node at once. Messages travel over MPI, which wakes nobody: a rank that
// computes or sleeps finds them when it looks at the network next. While ranks agree on a view,
// where each step waits for the slowest of them, they ring after they have sent, so that nobody has
// to look often, which costs cores that are shared more than the steps themselves. A ring carries
// nothing and proves nothing: who is rung looks, and may find nothing. One may be lost, if the node
// has containers that do not see each other or the system is out of memory; ranks look by
// themselves too.
//
// A ring is an empty datagram to an abstract Unix socket (unix(7)), which no file stands for and
// which goes with its process.
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <vector>

#include "runtime/host/file_system.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

class Doorbell {
 public:
  // `run` tells the run apart from others of the same node; `near`: the ranks of this node. Errors
  // are one line.
  static std::expected<Doorbell, std::string> open(std::uint64_t run, RankId self,
                                                   std::span<const std::uint32_t> near);

  // Nothing happens if the rank is of another node, or gone, or has been rung often and not looked.
  // Any thread.
  void ring(RankId to) const;
  // To wait on; readable when it was rung.
  int fd() const { return socket_.get(); }
  // Whether it was rung since. Forgets it. One thread at a time.
  bool answer() const;

 private:
  Doorbell(FileDescriptor socket, std::uint64_t run, RankId self,
           std::span<const std::uint32_t> near);

  FileDescriptor socket_;
  std::uint64_t run_;
  RankId self_;
  std::vector<RankId> near_;  // sorted
};

}  // namespace regroup

// The heartbeats' own way through the network, apart from MPI: small UDP datagrams that carry a
// message authentication code under the run's secret. Whatever is damaged, forged, replayed, of
// another run or meant for another rank is dropped and counted by reason, never believed. Nothing
// here blocks. Layout: docs/wire-format.md. A socket belongs to one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/host/file_system.hpp"
#include "runtime/protocol/detector.hpp"
#include "runtime/protocol/ids.hpp"

namespace regroup {

// Made by rank 0, known to the ranks of the run alone; never printed, never written to a file.
using RunSecret = std::array<std::byte, 32>;
// From the kernel's source of randomness.
RunSecret make_run_secret();
// Tells a run apart from others, and tells nothing of the secret.
std::uint64_t run_id(const RunSecret& secret);

struct UdpAddress {
  std::uint32_t ip = 0;  // version 4, as a number: 127.0.0.1 is 0x7f000001
  std::uint16_t port = 0;
  friend bool operator==(const UdpAddress&, const UdpAddress&) = default;
};

struct Heartbeat {
  RankId from;
  RankId to;
  HeartbeatKind kind{};
  std::uint64_t counter = 0;  // of all that `from` ever sent, from 1
};

inline constexpr std::size_t kHeartbeatBytes = 64;
using HeartbeatBytes = std::array<std::byte, kHeartbeatBytes>;

// Why a datagram was dropped. The first four are told before the code is looked at, so they say
// what a datagram looks like, not what it is.
enum class HeartbeatError : std::uint8_t {
  kLength,
  kForeign,
  kDatagramVersion,
  kOtherRun,
  kForged,  // or damaged
  kKind,
  kStranger,  // from no other rank of the run, or not for this one
  kReplayed,  // or overtaken by a later one
};
inline constexpr std::size_t kHeartbeatErrors = 8;
const char* describe(HeartbeatError error);

HeartbeatBytes seal_heartbeat(const Heartbeat& heartbeat, const RunSecret& secret);
// Any error but kStranger and kReplayed, which are for those who know the ranks to tell.
std::expected<Heartbeat, HeartbeatError> open_heartbeat(std::span<const std::byte> bytes,
                                                        const RunSecret& secret);

struct HeartbeatTraffic {
  std::uint64_t sent = 0;
  std::uint64_t unsent = 0;  // the system would not take them
  std::uint64_t taken = 0;
  std::array<std::uint64_t, kHeartbeatErrors> dropped{};  // by HeartbeatError

  std::uint64_t dropped_total() const;
};

class HeartbeatSocket {
 public:
  // Taken in at a time, so that a flood keeps nobody from its clock: more than the system keeps.
  static constexpr std::size_t kDatagramsMax = 4096;
  static constexpr int kReceiveBytes = 1 << 20;

  using Handler = std::function<void(RankId from, HeartbeatKind kind)>;

  // Bound to that address of this machine, on a port that is free. Errors are one line.
  static std::expected<HeartbeatSocket, std::string> open(std::uint32_t ip);

  UdpAddress address() const { return address_; }
  // To wait on; readable when there is something to receive.
  int fd() const { return fd_.get(); }

  // Once, before anything is sent or received: who is where, by rank.
  void join(RankId self, std::vector<UdpAddress> peers, const RunSecret& secret);
  void send(RankId to, HeartbeatKind kind);
  // Hands on what has arrived, up to kDatagramsMax datagrams. Returns how many there were.
  std::size_t receive(const Handler& handler);

  const HeartbeatTraffic& traffic() const { return traffic_; }

 private:
  explicit HeartbeatSocket(FileDescriptor fd) : fd_(std::move(fd)) {}
  std::expected<Heartbeat, HeartbeatError> judge(std::span<const std::byte> bytes);

  FileDescriptor fd_;
  UdpAddress address_;
  RankId self_;
  std::vector<UdpAddress> peers_;
  std::vector<std::uint64_t> newest_;  // counter that was taken, by sender
  RunSecret secret_{};
  std::uint64_t counter_ = 0;
  HeartbeatTraffic traffic_;
};

}  // namespace regroup

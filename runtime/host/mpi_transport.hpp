// Frames over MPI point-to-point messages, non-blocking calls only: a ring of receives is always
// posted for small frames and another for large ones, so that a frame that arrives has a place to
// go, and sends are tested until they have left. Small frames to one rank leave together, back to
// back in one message of up to kSmallFrameBytes, which stays under the usual eager limit. Without
// ULFM all of them take the communicator of the start. With it (see MpiSession::recovery), deaths
// are asked of MPI, and frames move on to the shrunk communicator once the members of a view have
// one; the one before it is still listened to, until the next view makes what is in it worthless.
// Bulk transfers go over a communicator of their own (mpi_bulk.hpp), with ULFM the one of the
// start.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

#include "runtime/host/transport.hpp"

namespace regroup {

class MpiSession;

class MpiTransport : public Transport {
 public:
  static constexpr std::size_t kSmallFrameBytes = 4000;
  static constexpr std::size_t kSmallReceives = 64;
  static constexpr std::size_t kLargeReceives = 8;

  // Both outlive it.
  MpiTransport(const MpiSession& session, BufferPool& pool,
               BulkReading reading = BulkReading::kWherePossible);
  // Abandons what has not left or not arrived.
  ~MpiTransport() override;

  RankId self() const override;
  std::uint32_t ranks() const override;
  void send(RankId to, Buffer frame) override;
  void flush() override;
  std::size_t poll(const FrameHandler& handler, std::size_t frames_max) override;
  void send_bulk(BulkSend send) override;
  void receive_bulk(const BulkReceive& receive) override;
  bool poll_bulk(const BulkHandler& handler) override;
  void drop_bulk() override;
  bool has_bulk() const override;
  RankSet bulk_peers() const override;
  // Their buffers are kept to the end, since MPI may still read them.
  void abandon(RankId rank) override;
  std::optional<PeerEvidence> take_evidence() override;
  void enter(const View& view) override;
  std::size_t backlog_bytes() const override;

  // How often the communicator has been shrunk, and how long MPI took for the last time.
  struct Shrinks {
    std::uint32_t count = 0;
    std::chrono::nanoseconds last{};
  };
  Shrinks shrinks() const;

 private:
  class Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace regroup

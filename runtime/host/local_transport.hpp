// The transport of a run with one rank: there is nobody to talk to, and MPI is not started.
#pragma once

#include "runtime/host/transport.hpp"
#include "runtime/protocol/check.hpp"

namespace regroup {

class LocalTransport : public Transport {
 public:
  RankId self() const override { return RankId{0}; }
  std::uint32_t ranks() const override { return 1; }
  void send(RankId, Buffer) override { REGROUP_CHECK(false, "a lone rank sends to nobody"); }
  void flush() override {}
  std::size_t poll(const FrameHandler&, std::size_t) override { return 0; }
  void send_bulk(BulkSend) override { REGROUP_CHECK(false, "a lone rank sends to nobody"); }
  void receive_bulk(const BulkReceive&) override {
    REGROUP_CHECK(false, "a lone rank hears from nobody");
  }
  bool poll_bulk(const BulkHandler&) override { return false; }
  void drop_bulk() override {}
  bool has_bulk() const override { return false; }
  RankSet bulk_peers() const override { return {}; }
  std::size_t backlog_bytes() const override { return 0; }
};

}  // namespace regroup

// A transport between threads of one process: what a run over MPI looks like to a HostLoop, without
// MPI. One queue a rank; a frame arrives at once, whole, and in the order of sending. A bulk
// transfer whose receiver waits is copied when its sender begins.
#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/host/transport.hpp"

namespace regroup::test {

// The ranks' mail. Outlives the transports; any thread.
class MemoryNetwork {
 public:
  explicit MemoryNetwork(std::uint32_t ranks) : boxes_(ranks) {}

  std::uint32_t ranks() const { return static_cast<std::uint32_t>(boxes_.size()); }
  void put(RankId from, RankId to, Buffer frame) {
    Box& box = boxes_[to.value];
    const std::lock_guard lock(box.mutex);
    box.frames.emplace_back(from, std::move(frame));
  }
  // Moves the oldest frames out, at most so many.
  std::vector<std::pair<RankId, Buffer>> take(RankId rank, std::size_t frames_max) {
    Box& box = boxes_[rank.value];
    const std::lock_guard lock(box.mutex);
    std::vector<std::pair<RankId, Buffer>> taken;
    while (!box.frames.empty() && taken.size() < frames_max) {
      taken.push_back(std::move(box.frames.front()));
      box.frames.pop_front();
    }
    return taken;
  }

  // A bulk transfer that a rank waits for, by its sender and its tag, with memory for it.
  using Awaited = std::pair<RankId, BulkTag>;
  struct Arrival {
    Awaited which;
    Buffer bytes;
  };
  void await(RankId rank, Awaited which, Buffer memory) {
    Box& box = boxes_[rank.value];
    const std::lock_guard lock(box.mutex);
    box.awaited[which] = std::move(memory);
  }
  void put_bulk(RankId from, RankId to, BulkTag tag, std::span<const std::byte> bytes) {
    Box& box = boxes_[to.value];
    const std::lock_guard lock(box.mutex);
    auto awaited = box.awaited.extract({from, tag});
    if (awaited.empty()) return;
    std::ranges::copy(bytes, awaited.mapped().data());
    box.arrivals.push_back({{from, tag}, std::move(awaited.mapped())});
  }
  std::deque<Arrival> take_bulk(RankId rank) {
    Box& box = boxes_[rank.value];
    const std::lock_guard lock(box.mutex);
    return std::exchange(box.arrivals, {});
  }
  void forget_bulk(RankId rank) {
    Box& box = boxes_[rank.value];
    const std::lock_guard lock(box.mutex);
    box.awaited.clear();
    box.arrivals.clear();
  }

 private:
  struct Box {
    std::mutex mutex;
    std::deque<std::pair<RankId, Buffer>> frames;
    std::map<Awaited, Buffer> awaited;
    std::deque<Arrival> arrivals;
  };
  std::vector<Box> boxes_;
};

class MemoryTransport : public Transport {
 public:
  MemoryTransport(MemoryNetwork& network, RankId self) : network_(&network), self_(self) {}

  RankId self() const override { return self_; }
  std::uint32_t ranks() const override { return network_->ranks(); }
  void send(RankId to, Buffer frame) override { network_->put(self_, to, std::move(frame)); }
  void flush() override {}
  std::size_t poll(const FrameHandler& handler, std::size_t frames_max) override {
    ++polls_;
    if (during_poll) during_poll();
    if (polls_ >= backlog_leaves_at_poll_) backlog_bytes_ = 0;
    const auto frames = network_->take(self_, frames_max);
    for (const auto& [from, frame] : frames) handler(from, frame.view());
    return frames.size();
  }
  void send_bulk(BulkSend send) override {
    network_->put_bulk(self_, send.to, send.tag, send.bytes->view());
    sent_.push_back({send.to, send.tag, hash_of_bulk(send.bytes->view())});
  }
  void receive_bulk(const BulkReceive& receive) override {
    Buffer memory;
    memory.resize(receive.size);
    network_->await(self_, {receive.from, receive.tag}, std::move(memory));
  }
  bool poll_bulk(const BulkHandler& handler) override {
    const auto sent = std::exchange(sent_, {});
    for (const BulkSent& news : sent) handler(news);
    auto arrivals = network_->take_bulk(self_);
    for (auto& [which, bytes] : arrivals) {
      const BulkHash hash = hash_of_bulk(bytes.view());
      handler(BulkArrived{which.first, which.second, hash, &bytes});
    }
    return !sent.empty() || !arrivals.empty();
  }
  void drop_bulk() override {
    ++bulk_drops_;
    sent_.clear();
    network_->forget_bulk(self_);
  }
  std::size_t bulk_drops() const { return bulk_drops_; }
  bool has_bulk() const override { return !sent_.empty(); }
  RankSet bulk_peers() const override {
    RankSet peers;
    for (const BulkSent& sent : sent_) peers.insert(sent.to);
    return peers;
  }
  std::size_t backlog_bytes() const override { return backlog_bytes_; }

  // Pretends that so much waits to be sent, until poll() was called so often in all.
  void pretend_backlog(std::size_t bytes, std::uint64_t polls) {
    backlog_bytes_ = bytes;
    backlog_leaves_at_poll_ = polls;
  }
  std::uint64_t polls() const { return polls_; }

  std::function<void()> during_poll;  // may be empty

  // Finds the rank dead when it is asked next.
  void pretend(const PeerEvidence& evidence) { evidence_ = evidence; }
  std::optional<PeerEvidence> take_evidence() override {
    return std::exchange(evidence_, std::nullopt);
  }
  void enter(const View& view) override {
    entered_ = view;
    drop_bulk();
  }
  const std::optional<View>& entered() const { return entered_; }

 private:
  MemoryNetwork* network_;
  RankId self_;
  std::size_t backlog_bytes_ = 0;
  std::vector<BulkSent> sent_;
  std::size_t bulk_drops_ = 0;
  std::optional<PeerEvidence> evidence_;
  std::optional<View> entered_;
  std::uint64_t polls_ = 0;
  std::uint64_t backlog_leaves_at_poll_ = 0;
};

}  // namespace regroup::test

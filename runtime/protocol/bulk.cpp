#include "runtime/protocol/bulk.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/planted.hpp"
#include "runtime/protocol/wire.hpp"
#include "runtime/protocol/xxhash.hpp"

namespace regroup {

void BulkHasher::add_chunk(std::span<const std::byte> chunk) {
  const XXH128_hash_t of_chunk = XXH3_128bits(chunk.data(), chunk.size());
  const std::uint64_t chain[] = {hash_.low, hash_.high, of_chunk.low64, of_chunk.high64};
  const XXH128_hash_t next = XXH3_128bits(chain, sizeof chain);
  hash_ = {next.low64, next.high64};
}

BulkHash hash_of_bulk(std::span<const std::byte> bytes) {
  BulkHasher hasher;
  while (!bytes.empty()) {
    const auto chunk = bytes.first(std::min(bytes.size(), kBulkChunkBytes));
    hasher.add_chunk(chunk);
    bytes = bytes.subspan(chunk.size());
  }
  return hasher.hash();
}

// ---- the sending end ----

bool BulkDesk::post(RankId to, MessageKind kind, std::span<const std::byte> header,
                    std::shared_ptr<const Buffer> bytes, Output& output) {
  REGROUP_CHECK(bytes && bytes->size() <= kBytesMax, "a bulk transfer beyond its bound");
  REGROUP_CHECK(!is_control(kind) && !is_bulk(kind), "a bulk transfer of a kind that is taken");
  REGROUP_CHECK(header.size() <= kHeaderBytesMax, "a bulk transfer's header beyond its bound");
  if (queued_ == kQueueMax) return false;
  ++queued_;
  Sending& sending = sending_[to];
  sending.queue.push_back({kind, Buffer(header), std::move(bytes)});
  offer_next(to, output);
  return true;
}

void BulkDesk::offer_next(RankId to, Output& output) {
  Sending& sending = sending_[to];
  const std::size_t wanted = sending.under_way ? 2 : 1;
  if (sending.offered == std::min(wanted, sending.queue.size())) return;
  const Posted& posted = sending.queue[sending.offered++];
  Saying offer{to, MessageKind::kBulkOffer, Buffer(64 + posted.header.size())};
  Writer writer(offer.payload);
  writer.put(posted.kind);
  writer.put(std::uint64_t{posted.bytes->size()});
  writer.put_raw(posted.header.view());
  output.sayings.push_back(std::move(offer));
}

bool BulkDesk::hear_ready(RankId from, std::span<const std::byte> payload, Output& output) {
  Reader reader(payload);
  const auto tag = reader.get<BulkTag>();
  const auto found = sending_.find(from);
  if (!reader.complete() || found == sending_.end()) return false;
  Sending& sending = found->second;
  if (sending.queue.empty() || sending.under_way) return false;
  sending.under_way = tag;
  sending.looks = 0;
  output.sends.push_back({from, tag, sending.queue.front().bytes});
  offer_next(from, output);
  return true;
}

void BulkDesk::sent(const BulkSent& news, Output& output) {
  const auto found = sending_.find(news.to);
  if (found == sending_.end() || found->second.under_way != news.tag) return;
  Sending& sending = found->second;
  Saying end{news.to, MessageKind::kBulkEnd, Buffer(std::size_t{64})};
  Writer writer(end.payload);
  writer.put(news.tag);
  writer.put(news.hash.low);
  writer.put(news.hash.high);
  output.sayings.push_back(std::move(end));
  sending.under_way.reset();
  sending.queue.pop_front();
  --sending.offered;
  --queued_;
  offer_next(news.to, output);
}

// ---- the receiving end ----

bool BulkDesk::hear_offer(RankId from, std::span<const std::byte> payload, Output& output) {
  Reader reader(payload);
  Transfer transfer;
  transfer.kind = reader.get<MessageKind>();
  const auto bytes = reader.get<std::uint64_t>();
  const auto header = reader.rest();
  const bool waits =
      std::ranges::any_of(waiting_, [from](const auto& waiting) { return waiting.first == from; });
  if (reader.failed() || bytes > kBytesMax || header.size() > kHeaderBytesMax || waits)
    return false;
  if (is_control(transfer.kind) || is_bulk(transfer.kind)) return false;
  transfer.bytes = bytes;
  transfer.header = Buffer(header);
  waiting_.emplace_back(from, std::move(transfer));
  begin_waiting(output);
  return true;
}

// Those whose peer has nothing else under way, in their order, as long as there is room.
void BulkDesk::begin_waiting(Output& output) {
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    if (receiving_.size() == kReceivesMax) return;
    if (receiving_.contains(next->first)) {
      ++next;
      continue;
    }
    if (receiving_bytes_ + next->second.bytes > kReceiveBytesMax) return;
    begin(next->first, std::move(next->second), output);
    next = waiting_.erase(next);
  }
}

void BulkDesk::begin(RankId from, Transfer transfer, Output& output) {
  const BulkTag tag{++last_tag_.value};
  output.receives.push_back({from, tag, transfer.bytes});
  Saying ready{from, MessageKind::kBulkReady, Buffer(std::size_t{64})};
  Writer(ready.payload).put(tag);
  output.sayings.push_back(std::move(ready));
  receiving_bytes_ += transfer.bytes;
  receiving_.emplace(
      from,
      Receiving{.tag = tag, .transfer = std::move(transfer), .told = {}, .found = {}, .bytes = {}});
}

bool BulkDesk::hear_end(RankId from, std::span<const std::byte> payload, Output& output) {
  Reader reader(payload);
  const auto tag = reader.get<BulkTag>();
  BulkHash hash;
  hash.low = reader.get<std::uint64_t>();
  hash.high = reader.get<std::uint64_t>();
  const auto found = receiving_.find(from);
  if (!reader.complete() || found == receiving_.end()) return false;
  Receiving& receiving = found->second;
  if (receiving.tag != tag || receiving.told) return false;
  receiving.told = hash;
  complete(from, output);
  return true;
}

void BulkDesk::arrived(const BulkArrived& news, Output& output) {
  const auto found = receiving_.find(news.from);
  if (found == receiving_.end()) return;
  Receiving& receiving = found->second;
  if (receiving.tag != news.tag || receiving.found) return;
  receiving.found = news.hash;
  receiving.bytes = std::move(*news.bytes);
  receiving.looks = 0;
  complete(news.from, output);
}

// Once both the bytes and what they are to be have come.
void BulkDesk::complete(RankId from, Output& output) {
  const auto found = receiving_.find(from);
  Receiving& receiving = found->second;
  if (!receiving.told || !receiving.found) return;
  const bool same =
      receiving.told == receiving.found && receiving.bytes.size() == receiving.transfer.bytes;
  receiving_bytes_ -= receiving.transfer.bytes;
  if (same || planted(PlantedBug::kSkipBulkHash)) {
    output.deliveries.push_back({from, receiving.transfer.kind,
                                 std::move(receiving.transfer.header), std::move(receiving.bytes),
                                 *receiving.found});
  } else {
    ++damaged_;
    output.damaged.push_back(
        {from, receiving.transfer.kind, std::move(receiving.transfer.header), {}, {}});
  }
  receiving_.erase(found);
  begin_waiting(output);
}

// ---- both ----

bool BulkDesk::hear(RankId from, MessageKind kind, std::span<const std::byte> payload,
                    Output& output) {
  switch (kind) {
    case MessageKind::kBulkOffer:
      return hear_offer(from, payload, output);
    case MessageKind::kBulkReady:
      return hear_ready(from, payload, output);
    default:
      return hear_end(from, payload, output);
  }
}

void BulkDesk::moved(const BulkMoved& news) {
  if (news.way == BulkMoved::Way::kOut) {
    const auto found = sending_.find(news.peer);
    const bool known = found != sending_.end() && found->second.under_way == news.tag;
    if (known) found->second.looks = 0;
  } else {
    const auto found = receiving_.find(news.peer);
    const bool known = found != receiving_.end() && found->second.tag == news.tag;
    if (known) found->second.looks = 0;
  }
}

// An offer that is not answered waits for its turn at a receiver that looks after it in the same
// way; what is said over a link is found missing by the link.
RankSet BulkDesk::count_stalls(std::uint32_t looks) {
  RankSet stuck;
  for (auto& [to, sending] : sending_) {
    if (sending.under_way && ++sending.looks >= looks) stuck.insert(to);
  }
  for (auto& [from, receiving] : receiving_) {
    if (++receiving.looks >= looks) stuck.insert(from);
  }
  return stuck;
}

void BulkDesk::reset(BufferPool& pool) {
  for (auto& [from, receiving] : receiving_) pool.give_large(std::move(receiving.bytes));
  sending_.clear();
  receiving_.clear();
  waiting_.clear();
  queued_ = 0;
  receiving_bytes_ = 0;
}

}  // namespace regroup

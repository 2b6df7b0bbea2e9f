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
  sending.queue.push_back({.kind = kind, .header = Buffer(header), .bytes = std::move(bytes)});
  offer_next(to, output);
  return true;
}

void BulkDesk::offer_next(RankId to, Output& output) {
  Sending& sending = sending_[to];
  if (sending.offered == std::min(sending.under_way + 1, sending.queue.size())) return;
  const Posted& posted = sending.queue[sending.offered++];
  Saying offer{to, MessageKind::kBulkOffer, Buffer(64 + posted.header.size())};
  Writer writer(offer.payload);
  writer.put(posted.kind);
  writer.put(std::uint64_t{posted.bytes->size()});
  writer.put_raw(posted.header.view());
  output.sayings.push_back(std::move(offer));
}

// Offers are taken up in their order.
bool BulkDesk::hear_ready(RankId from, std::span<const std::byte> payload, Output& output) {
  Reader reader(payload);
  const auto tag = reader.get<BulkTag>();
  const auto found = sending_.find(from);
  if (!reader.complete() || found == sending_.end()) return false;
  Sending& sending = found->second;
  if (sending.under_way == sending.offered) return false;
  if (sending.find(tag) != sending.queue.end()) return false;
  Posted& posted = sending.queue[sending.under_way++];
  posted.tag = tag;
  output.sends.push_back({from, tag, posted.bytes});
  offer_next(from, output);
  return true;
}

std::deque<BulkDesk::Posted>::iterator BulkDesk::Sending::find(BulkTag tag) {
  return std::ranges::find_if(queue, [tag](const Posted& posted) { return posted.tag == tag; });
}

void BulkDesk::sent(const BulkSent& news, Output& output) {
  const auto found = sending_.find(news.to);
  if (found == sending_.end()) return;
  Sending& sending = found->second;
  const auto posted = sending.find(news.tag);
  if (posted == sending.queue.end()) return;
  Saying end{news.to, MessageKind::kBulkEnd, Buffer(std::size_t{64})};
  Writer writer(end.payload);
  writer.put(news.tag);
  writer.put(news.hash.low);
  writer.put(news.hash.high);
  output.sayings.push_back(std::move(end));
  sending.queue.erase(posted);
  --sending.under_way;
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

std::size_t BulkDesk::receives_from(RankId peer) const {
  return static_cast<std::size_t>(std::ranges::count_if(
      receiving_, [peer](const auto& entry) { return entry.second.from == peer; }));
}

// Those whose peer has not enough under way, in their order, as long as there is room.
void BulkDesk::begin_waiting(Output& output) {
  for (auto next = waiting_.begin(); next != waiting_.end();) {
    if (receiving_.size() == kReceivesMax) return;
    if (receives_from(next->first) == kReceivesFromPeerMax) {
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
      tag,
      Receiving{
          .from = from, .transfer = std::move(transfer), .told = {}, .found = {}, .bytes = {}});
}

bool BulkDesk::hear_end(RankId from, std::span<const std::byte> payload, Output& output) {
  Reader reader(payload);
  const auto tag = reader.get<BulkTag>();
  BulkHash hash;
  hash.low = reader.get<std::uint64_t>();
  hash.high = reader.get<std::uint64_t>();
  const auto found = receiving_.find(tag);
  if (!reader.complete() || found == receiving_.end()) return false;
  Receiving& receiving = found->second;
  if (receiving.from != from || receiving.told) return false;
  receiving.told = hash;
  complete(tag, output);
  return true;
}

void BulkDesk::arrived(const BulkArrived& news, Output& output) {
  const auto found = receiving_.find(news.tag);
  if (found == receiving_.end()) return;
  Receiving& receiving = found->second;
  if (receiving.from != news.from || receiving.found) return;
  receiving.found = news.hash;
  receiving.bytes = std::move(*news.bytes);
  receiving.looks = 0;
  complete(news.tag, output);
}

// Once both the bytes and what they are to be have come.
void BulkDesk::complete(BulkTag tag, Output& output) {
  const auto found = receiving_.find(tag);
  Receiving& receiving = found->second;
  if (!receiving.told || !receiving.found) return;
  const bool same =
      receiving.told == receiving.found && receiving.bytes.size() == receiving.transfer.bytes;
  receiving_bytes_ -= receiving.transfer.bytes;
  if (same || planted(PlantedBug::kSkipBulkHash)) {
    output.deliveries.push_back({receiving.from, receiving.transfer.kind,
                                 std::move(receiving.transfer.header), std::move(receiving.bytes),
                                 *receiving.found});
  } else {
    ++damaged_;
    output.damaged.push_back(
        {receiving.from, receiving.transfer.kind, std::move(receiving.transfer.header), {}, {}});
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
    if (found == sending_.end()) return;
    const auto posted = found->second.find(news.tag);
    if (posted != found->second.queue.end()) posted->looks = 0;
  } else {
    const auto found = receiving_.find(news.tag);
    const bool known = found != receiving_.end() && found->second.from == news.peer;
    if (known) found->second.looks = 0;
  }
}

// An offer that is not answered waits for its turn at a receiver that looks after it in the same
// way; what is said over a link is found missing by the link.
RankSet BulkDesk::count_stalls(std::uint32_t looks) {
  RankSet stuck;
  for (auto& [to, sending] : sending_) {
    for (Posted& posted : sending.queue) {
      if (posted.tag && ++posted.looks >= looks) stuck.insert(to);
    }
  }
  for (auto& [tag, receiving] : receiving_) {
    if (++receiving.looks >= looks) stuck.insert(receiving.from);
  }
  return stuck;
}

void BulkDesk::reset(BufferPool& pool) {
  for (auto& [tag, receiving] : receiving_) pool.give_large(std::move(receiving.bytes));
  sending_.clear();
  receiving_.clear();
  waiting_.clear();
  queued_ = 0;
  receiving_bytes_ = 0;
}

}  // namespace regroup

// A worker's part in copies of partitions in memory: it gives its partner a copy of each partition
// that it owns, keeps those of others, and gets back what it lacks of the partitions that it is to
// own, from the nearest place that has it: its own memory, another rank's, the newest checkpoint.
// A copy says which map shards it has taken in, so any that is whole is right, however old it is;
// what is nowhere begins empty, and its map shards run again. Restored is only a partition that
// holds nothing.
#include <algorithm>
#include <utility>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/planted.hpp"
#include "scheduler/checkpoint_desk.hpp"
#include "scheduler/worker.hpp"

namespace regroup {
namespace {

std::uint32_t partition_of(ShardRange shards) {
  return static_cast<std::uint32_t>(shards.first.value);
}

PartitionId get_partition(Reader& reader) {
  const auto stage = reader.get<StageId>();
  return {stage, reader.get<std::uint32_t>()};
}

}  // namespace

// ---- copies for the partner ----

// Once a view. What the one of before has is of no use to the next one.
void Worker::find_partner(Context& context) {
  const View& view = context.view();
  if (partner_since_ == view.epoch) return;
  const bool first = partner_since_ == Epoch{};
  partner_since_ = view.epoch;
  const RankId before = std::exchange(partner_, partner_of(context.self(), view, options_));
  copies_.begin(context.self(), options_.copies.bytes_for_others_max);
  const bool knows = partner_ == before && !view.joined.contains(partner_) &&
                     !view.joined.contains(context.self());
  if (knows) return;
  copied_.clear();
  if (!first) copy_desk_.want();
}

void Worker::put_offers(Writer& writer) const {
  std::vector<CopyOffer> offers = copies_.offers();
  const std::vector<CopyOffer> cells = cells_.offers();
  offers.insert(offers.end(), cells.begin(), cells.end());
  writer.put(static_cast<std::uint32_t>(offers.size()));
  for (const CopyOffer& offer : offers) {
    writer.put(offer.partition.first);
    writer.put(offer.partition.second);
    writer.put(offer.held);
  }
}

// Another map stage has begun.
void Worker::forget_copies_before(StageId stage) {
  drop_copies();
  copied_.clear();
  copies_.drop_before(stage);
}

void Worker::tend_copies(Context& context) {
  if (!copy_desk_.on() || owners_.empty() || finished_ || awaiting_ || !context.stable()) return;
  if (part_ || regaining_ || copying_) return;
  find_partner(context);
  if (partner_ == kNobody) return;
  if (copy_desk_.due(context.now(), context.view().epoch.value - 1)) begin_copies(context);
}

// Of what the partner does not have. A snapshot that holds all that there is serves again.
void Worker::begin_copies(Context& context) {
  std::vector<std::uint32_t> to_save;
  std::deque<std::uint32_t> to_send;
  for (std::uint32_t p = 0; p < owners_.size(); ++p) {
    const ShardBits* const held =
        owners_[p] == context.self() ? held_.of(owners_stage_, p) : nullptr;
    if (held == nullptr) continue;
    const std::uint64_t count = held->count();
    const auto copied = copied_.find(p);
    if (copied != copied_.end() && copied->second.held == count) continue;
    const PartitionCopy* const own = copies_.find({owners_stage_, p});
    const bool serves = own != nullptr && own->of == context.self() && own->held == count;
    serves ? to_send.push_back(p) : to_save.push_back(p);
  }
  if (to_save.empty() && to_send.empty()) return copy_desk_.pass(context.now());
  open_copy_round(to_save.size());
  copying_->to_send = std::move(to_send);
  for (const std::uint32_t p : to_save) {
    absorb_orders_.push_back(
        {.kind = WorkKind::kSave, .stage = owners_stage_, .shards = {ShardId{p}, 1}});
  }
  send_next_copy(context);
}

void Worker::open_copy_round(std::size_t saves) {
  copying_ = CopyRound{.number = ++copy_rounds_, .saves_left = saves};
  copy_desk_.begin();
}

void Worker::drop_copies() {
  copying_.reset();
  copy_desk_.drop();
}

void Worker::keep_snapshot(Context& context, PartitionId partition, const Saving& saving) {
  (void)copies_.keep(partition, {saving.bytes, saving.held, 0, context.self()}, {});
}

void Worker::send_next_copy(Context& context) {
  while (copying_ && !copying_->to_send.empty()) {
    const std::uint32_t p = copying_->to_send.front();
    const PartitionCopy* const copy = copies_.find({owners_stage_, p});
    const bool fits = copy != nullptr && copy->bytes->size() <= kPayloadBytesMax;
    if (fits && !may_send_another(*copy)) return;
    copying_->to_send.pop_front();
    if (!fits || copy->of != context.self()) continue;
    copying_->under_way[p] = copy->bytes->size();
    copying_->bytes_under_way += copy->bytes->size();
    copy_desk_.sent(copy->bytes->size());
    copying_->sending.begins(copy->bytes->size(), context.now());
    send_copy(context, partner_, MessageKind::kCopy, {owners_stage_, p}, copy->held, *copy);
  }
  if (copying_ && copying_->under_way.empty() && copying_->saves_left == 0) end_copies(context);
}

bool Worker::may_send_another(const PartitionCopy& copy) const {
  if (copying_->under_way.empty()) return true;
  return copying_->under_way.size() < kCopiesInFlightMax &&
         copying_->bytes_under_way + copy.bytes->size() <= kCopyBytesInFlightMax;
}

void Worker::send_copy(Context& context, RankId to, MessageKind kind, PartitionId partition,
                       std::uint64_t tag, const PartitionCopy& copy) {
  regroup::send_copy(context, to, kind, copy.bytes, copy.hash, options_.copies.bulk_bytes_min,
                     [&](Writer& writer) {
                       writer.put(partition.first);
                       writer.put(partition.second);
                       writer.put(tag);
                     });
}

void Worker::on_bulk(Context& context, RankId from, MessageKind kind, Reader header, Buffer bytes,
                     const BulkHash& hash) {
  BulkCopy bulk{std::move(bytes), hash.low};
  if (kind == MessageKind::kCopy) {
    (void)on_copy(context, from, header, &bulk);
  } else if (kind == MessageKind::kCopyBack) {
    (void)on_copy_back(context, header, &bulk);
  } else if (kind == MessageKind::kCellCopy && !finished_) {
    cells_.on_bulk(context, from, header, bulk);
  }
  context.give_large(std::move(bulk.bytes));
  // What was replaced is lent for the next one.
  if (const auto spare = copies_.spares().take(); spare->capacity() != 0) {
    context.give_large(std::move(*spare));
  }
}

bool Worker::on_copy_kept(Context& context, RankId from, Reader& reader) {
  const PartitionId partition = get_partition(reader);
  const auto held = reader.get<std::uint64_t>();
  const auto verdict = reader.get<CopyVerdict>();
  if (!reader.complete() || verdict > CopyVerdict::kNotNow) return false;
  const PartitionCopy* const copy = copies_.find(partition);
  const bool meant =
      partition.first == owners_stage_ && from == partner_ && copy != nullptr && copy->held == held;
  if (!copying_ || !meant) return true;
  const auto under_way = copying_->under_way.find(partition.second);
  if (under_way == copying_->under_way.end()) return true;
  copying_->bytes_under_way -= under_way->second;
  copying_->under_way.erase(under_way);
  copying_->sending.ends(context.now());
  if (verdict == CopyVerdict::kKept) {
    copied_[partition.second] = {held, copy->bytes->size()};
  } else {
    ++copying_->refused;
  }
  send_next_copy(context);
  return true;
}

void Worker::end_copies(Context& context) {
  copy_desk_.end(context.now());
  const CopyRound done = *std::exchange(copying_, {});
  CopyProgress made{.partitions = copied_.size(),
                    .refused = done.refused,
                    .cost = copy_desk_.cost(),
                    .interval = copy_desk_.interval(),
                    .sent = done.sending.bytes(),
                    .sending = done.sending.took()};
  for (const auto& [partition, copied] : copied_) made.bytes += copied.bytes;
  Writer writer = context.begin(context.view().coordinator, MessageKind::kCopiesMade);
  put(writer, made);
  context.send();
}

// ---- copies for others ----

bool Worker::on_copy(Context& context, RankId from, Reader& reader, BulkCopy* bulk) {
  const PartitionId partition = get_partition(reader);
  const auto held = reader.get<std::uint64_t>();
  const auto hash = reader.get<std::uint64_t>();
  if (reader.failed()) return false;
  if (finished_) return true;
  auto kept = kept_copy(reader, bulk);
  const bool same = hash_is(hash, *kept, bulk);
  const std::uint64_t known = bulk != nullptr ? bulk->hash : hash;
  const CopyVerdict verdict =
      same ? take_copy(context, from, partition, known, std::move(kept)) : CopyVerdict::kDamaged;
  Writer writer = context.begin(from, MessageKind::kCopyKept);
  writer.put(partition.first);
  writer.put(partition.second);
  writer.put(held);
  writer.put(verdict);
  context.send();
  return true;
}

CopyVerdict Worker::take_copy(Context& context, RankId from, PartitionId partition,
                              std::uint64_t hash, std::shared_ptr<Buffer> bytes) {
  const auto [stage, number] = partition;
  if (stage.value >= stages_.size() || stage < owners_stage_) return CopyVerdict::kNotNow;
  const bool map = stages_[stage.value].kind == StageKind::kMap;
  if (!map || number >= stages_[stage.value + 1u].shards) return CopyVerdict::kDamaged;
  const auto head = read_copy_head(bytes->view(), stages_[stage.value].shards);
  if (!head) return CopyVerdict::kDamaged;
  find_partner(context);
  PartitionCopy copy{std::move(bytes), head->held.count(), hash, from};
  if (planted(PlantedBug::kKeepHalfCopy)) {
    const std::size_t content = copy.bytes->size() - head->content_begin;
    copy.bytes->resize(head->content_begin + content / 2);
    copy.hash = hash_of_copy(copy.bytes->view());
  }
  // Those of a rank that was lost are needed until every owner has got back what there is, and then
  // map shards are leased.
  const auto is_let_go = [&](RankId of) {
    const View& view = context.view();
    return view.members.contains(of) ? partner_of(of, view, options_) != context.self() : in_stage_;
  };
  return copies_.keep(partition, std::move(copy), is_let_go) ? CopyVerdict::kKept
                                                             : CopyVerdict::kNoRoom;
}

std::shared_ptr<Buffer> Worker::kept_copy(const Reader& reader, BulkCopy* bulk) {
  if (bulk != nullptr) return std::make_shared<Buffer>(std::move(bulk->bytes));
  std::shared_ptr<Buffer> kept = copies_.spares().take();
  kept->append(reader.rest());
  return kept;
}

bool Worker::on_copy_wanted(Context& context, RankId from, Reader& reader) {
  const PartitionId partition = get_partition(reader);
  const auto round = reader.get<std::uint32_t>();
  if (!reader.complete()) return false;
  const PartitionCopy* const copy = copies_.find(partition);
  if (copy != nullptr && copy->bytes->size() <= kPayloadBytesMax) {
    send_copy(context, from, MessageKind::kCopyBack, partition, round, *copy);
  } else {
    send_copy(context, from, MessageKind::kCopyBack, partition, round,
              {std::make_shared<Buffer>(), 0, 0, kNobody});
  }
  return true;
}

// ---- what comes back ----

// Partitions that were others' begin with what there is of them.
void Worker::regain_missing(Context& context, CheckpointNumber checkpoint,
                            std::vector<RankId> holders) {
  std::erase_if(absorb_orders_,
                [](const WorkOrder& order) { return order.kind == WorkKind::kRestore; });
  regaining_ = Regaining{.checkpoint = checkpoint, .holders = std::move(holders)};
  for (std::uint32_t p = 0; p < owners_.size(); ++p) {
    const bool missing = owners_[p] == context.self() && held_.of(owners_stage_, p) == nullptr;
    if (missing) regaining_->left.emplace(p, Sought{});
  }
  std::vector<std::uint32_t> missing;
  for (const auto& [p, sought] : regaining_->left) missing.push_back(p);
  find_partner(context);
  for (const std::uint32_t p : missing) look_for(context, p, Place::kPeer);
  go_on_regaining(context);
}

// From this place on; what is nowhere begins empty.
void Worker::look_for(Context& context, std::uint32_t partition, Place place) {
  const RankId holder = regaining_->holders[partition];
  const bool elsewhere = holder != context.self() && context.view().members.contains(holder);
  if (place == Place::kPeer && elsewhere) {
    Writer writer = context.begin(holder, MessageKind::kCopyWanted);
    writer.put(owners_stage_);
    writer.put(partition);
    writer.put(round_);
    context.send();
    return;
  }
  if (place <= Place::kHere && find_here(context, partition)) return;
  if (place <= Place::kDisk && regaining_->checkpoint.value != 0) {
    regaining_->left[partition].place = Place::kDisk;
    regaining_->for_disk.push_back(partition);
    return;
  }
  regaining_->left.erase(partition);
}

bool Worker::find_here(Context& context, std::uint32_t partition) {
  const PartitionCopy* const copy = copies_.find({owners_stage_, partition});
  if (copy == nullptr) return false;
  const bool own = copy->of == context.self();
  if (copy->hash != 0 && hash_of_copy(copy->bytes->view()) != copy->hash) {
    copies_.drop({owners_stage_, partition});
    return false;
  }
  found(partition, Place::kHere, own ? RegainedFrom::kSnapshot : RegainedFrom::kPartner, *copy);
  return true;
}

void Worker::found(std::uint32_t partition, Place place, RegainedFrom from, PartitionCopy copy) {
  WorkOrder order{
      .kind = WorkKind::kRestore, .stage = owners_stage_, .shards = {ShardId{partition}, 1}};
  order.shared = copy.bytes;
  absorb_orders_.push_back(std::move(order));
  regaining_->left[partition] = {place, from, std::move(copy)};
}

bool Worker::on_copy_back(Context& context, Reader& reader, BulkCopy* bulk) {
  const PartitionId partition = get_partition(reader);
  const auto round = reader.get<std::uint64_t>();
  const auto hash = reader.get<std::uint64_t>();
  if (reader.failed()) return false;
  if (!regaining_ || round != round_ || partition.first != owners_stage_) return true;
  const auto sought = regaining_->left.find(partition.second);
  const bool awaited = sought != regaining_->left.end() && sought->second.place == Place::kPeer &&
                       sought->second.copy.bytes == nullptr;
  if (!awaited) return true;
  auto bytes = kept_copy(reader, bulk);
  if (bytes->empty() || !hash_is(hash, *bytes, bulk)) {
    look_for(context, partition.second, Place::kHere);
  } else {
    found(partition.second, Place::kPeer, RegainedFrom::kPartner,
          {std::move(bytes), 0, bulk != nullptr ? bulk->hash : hash, context.self()});
  }
  go_on_regaining(context);
  return true;
}

// One request of the disk at a time. When nothing is left to look for, the coordinator is told.
void Worker::go_on_regaining(Context& context) {
  if (!regaining_) return;
  if (regaining_->left.empty()) {
    regaining_.reset();
    return tell_holdings(context);
  }
  if (regaining_->for_disk.empty() || !regaining_->asked_of_disk.empty()) return;
  regaining_->asked_of_disk = std::exchange(regaining_->for_disk, {});
  DiskRequest request{.task = DiskTask::kLoadPieces,
                      .checkpoint = regaining_->checkpoint,
                      .epoch = context.view().epoch};
  for (const std::uint32_t p : regaining_->asked_of_disk) {
    request.pieces.push_back({partition_dataset(owners_stage_, p), 0, {}});
  }
  context.ask_disk(std::move(request));
}

void Worker::on_loaded(Context& context, DiskAnswer& answer) {
  if (!regaining_) return;
  for (const std::uint32_t p : std::exchange(regaining_->asked_of_disk, {})) {
    const auto piece =
        std::ranges::find(answer.pieces, partition_dataset(owners_stage_, p), &StatePiece::dataset);
    if (piece == answer.pieces.end() || piece->bytes.empty()) {
      look_for(context, p, Place::kNowhere);
    } else {
      found(p, Place::kDisk, RegainedFrom::kFile,
            {std::make_shared<Buffer>(std::move(piece->bytes)), 0, 0, context.self()});
    }
  }
  go_on_regaining(context);
}

// False if the copy is none, or the partition has got something meanwhile.
bool Worker::begin_restoring(Context& context, WorkOrder& order) {
  const std::uint32_t p = partition_of(order.shards);
  REGROUP_CHECK(regaining_ && regaining_->left.contains(p), "partitions that are looked for");
  const Sought& sought = regaining_->left.at(p);
  auto head = read_copy_head(order.shared->view(), stages_[order.stage.value].shards);
  const bool holds_something = held_.of(order.stage, p) != nullptr;
  if (holds_something || !head) {
    look_for(context, p, holds_something ? Place::kNowhere : place_after(sought.place));
    go_on_regaining(context);
    return false;
  }
  restoring_ = Restoring{round_, sought.from, std::move(head->held)};
  order.shared_begin =
      planted(PlantedBug::kLoseRestored) ? order.shared->size() : head->content_begin;
  return true;
}

void Worker::restored(Context& context, const WorkResult& result) {
  auto restoring = std::exchange(restoring_, {});
  if (!restoring) return;  // it is to be forgotten
  const std::uint32_t p = partition_of(result.shards);
  const bool is_back = result.error.empty();
  const std::uint64_t held = restoring->held.count();
  if (is_back) {
    held_.restore(result.stage, p, std::move(restoring->held));
    ++regained_[static_cast<std::size_t>(restoring->from)];
    context.event(EventKind::kRegain, context.self(), result.stage, p,
                  static_cast<std::uint64_t>(restoring->from));
  }
  if (restoring->round != round_ || !regaining_) return;
  const auto sought = regaining_->left.find(p);
  if (sought == regaining_->left.end()) return;
  if (is_back) {
    PartitionCopy copy = std::move(sought->second.copy);
    copy.of = context.self();
    copy.held = held;
    if (keeps_snapshots()) (void)copies_.keep({result.stage, p}, std::move(copy), {});
    regaining_->left.erase(sought);
  } else {
    look_for(context, p, place_after(sought->second.place));
  }
  go_on_regaining(context);
}

}  // namespace regroup

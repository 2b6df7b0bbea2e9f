#include "tests/sim/rank_sink.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace regroup::sim {

void RankSink::clear() {
  handed_.clear();
  state_bytes_ = 1;
  for (const StagePlan& stage : job_->stages()) {
    handed_.emplace_back(stage.shards);
    state_bytes_ += stage.shards * sizeof(Fate);
  }
}

RankSink::Handed* RankSink::settle(StageId stage, ShardId shard, Fate fate) {
  if (used_up_) complain_("I8 result", "a commit after the result was written");
  if (handed_.empty()) clear();
  if (stage.value >= handed_.size() || shard.value >= handed_[stage.value].size()) {
    complain_("I7 once",
              fmt::format("shard {} of stage {} does not exist", shard.value, stage.value));
    return nullptr;
  }
  Handed& handed = handed_[stage.value][shard.value];
  if (handed.fate != Fate::kOpen) {
    complain_("I7 once", fmt::format("shard {} of stage {} is handed to the job a second time",
                                     shard.value, stage.value));
  }
  handed.fate = fate;
  return &handed;
}

void RankSink::commit(StageId stage, ShardRange shards, std::uint32_t value_bytes,
                      std::span<const std::byte> values) {
  if (values.size() != shards.count * value_bytes) {
    return complain_("I8 result", "a commit whose bytes are not its values");
  }
  for (ShardId shard = shards.first; shard < shards.end(); ++shard.value) {
    Handed* const handed = settle(stage, shard, Fate::kCommitted);
    if (handed == nullptr) return;
    const auto value = values.first(value_bytes);
    values = values.subspan(value_bytes);
    if (!std::ranges::equal(value, job_->value(stage, shard))) {
      complain_("I8 result", fmt::format("shard {} of stage {} is committed with wrong bytes",
                                         shard.value, stage.value));
    }
    handed->value.assign(value.begin(), value.end());
    state_bytes_ += sizeof(std::uint32_t) + value.size();
  }
}

void RankSink::skip(StageId stage, ShardId shard, Attempt attempts, RankId,
                    const std::string& what) {
  if (settle(stage, shard, Fate::kSkipped) == nullptr) return;
  if (!job_->given_up(stage, shard)) {
    complain_("I8 result", fmt::format("shard {} of stage {} is given up though it would succeed",
                                       shard.value, stage.value));
  }
  if (attempts.value != attempts_max_ || what.empty()) {
    complain_("I7 once", fmt::format("shard {} of stage {} is given up early or without a reason",
                                     shard.value, stage.value));
  }
}

void RankSink::add_to_totals(StageId, Buffer& into, std::span<const std::byte> next) {
  PretendTotals totals, more;
  std::memcpy(&totals, into.data(), std::min(sizeof totals, into.size()));
  std::memcpy(&more, next.data(), std::min(sizeof more, next.size()));
  totals.join(more);
  into.clear();
  into.append(std::as_bytes(std::span(&totals, 1)));
}

void RankSink::save_state(Writer& writer) const {
  if (used_up_) complain_("I8 result", "the state is saved when the result has used it up");
  writer.put(static_cast<std::uint8_t>(!handed_.empty()));
  for (const auto& stage : handed_) {
    for (const Handed& handed : stage) {
      writer.put(handed.fate);
      if (handed.fate == Fate::kCommitted) writer.put_bytes(handed.value);
    }
  }
}

std::expected<void, std::string> RankSink::load_state(Reader& reader) {
  handed_.clear();
  state_bytes_ = 1;
  used_up_ = false;
  if (reader.get<std::uint8_t>() == 0) return {};
  const std::size_t bytes_before = reader.rest().size();
  clear();
  for (auto& stage : handed_) {
    for (Handed& handed : stage) {
      handed.fate = reader.get<Fate>();
      if (handed.fate > Fate::kSkipped) return std::unexpected("no such fate of a saved shard");
      if (handed.fate != Fate::kCommitted) continue;
      const auto value = reader.get_bytes();
      handed.value.assign(value.begin(), value.end());
    }
  }
  if (reader.failed()) return std::unexpected("the saved shards are cut short");
  state_bytes_ = 1 + bytes_before - reader.rest().size();
  return {};
}

Fate RankSink::fate(StageId stage, ShardId shard) const {
  return handed_.empty() ? Fate::kOpen : handed_[stage.value][shard.value].fate;
}

const Bytes& RankSink::value(StageId stage, ShardId shard) const {
  return handed_[stage.value][shard.value].value;
}

}  // namespace regroup::sim

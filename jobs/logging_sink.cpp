#include "jobs/logging_sink.hpp"

#include <exception>

#include <fmt/format.h>

namespace regroup {
namespace {

// Whether it went well and, if not, why.
void put_outcome(Writer& writer, const std::expected<void, std::string>& outcome) {
  writer.put(static_cast<std::uint8_t>(outcome.has_value()));
  if (!outcome) writer.put_string(outcome.error());
}

// Runs the job's code; what it throws becomes an error that begins with `doing`.
template <class Call>
std::expected<void, std::string> guard(std::string_view doing, Call call) {
  try {
    call();
    return {};
  } catch (const std::exception& error) {
    return std::unexpected(fmt::format("{} failed: {}", doing, error.what()));
  } catch (...) {
    return std::unexpected(
        fmt::format("{} failed: threw something that is no std::exception", doing));
  }
}

}  // namespace

void LoggingSink::commit(StageId stage, ShardRange shards, std::uint32_t value_bytes,
                         std::span<const std::byte> values) {
  if (!merged_) return;
  merged_ = guard("merging results", [&] { program_->commit(stage, shards, value_bytes, values); });
}

void LoggingSink::skip(StageId stage, ShardId shard, Attempt attempts, RankId rank,
                       const std::string& what) {
  if (merged_) {
    merged_ = guard("merging results", [&] { program_->skip(stage, shard, attempts, rank, what); });
  }
  if (log_.size() == kLinesMax) return;
  log_.push_back(
      fmt::format("shard {} of stage {} given up after {} attempts, the last on rank {}: {}",
                  shard.value, stage.value, attempts.value, rank.value, what));
  log_bytes_ += sizeof(std::uint32_t) + log_.back().size();
}

// The cells go on with what there is, to no result.
void LoggingSink::add_to_totals(StageId stage, Buffer& into, std::span<const std::byte> next) {
  const auto added = guard("adding up totals", [&] { program_->add_to_totals(stage, into, next); });
  if (merged_) merged_ = added;
}

void LoggingSink::save_state(Writer& writer) const {
  writer.put(static_cast<std::uint32_t>(log_.size()));
  for (const std::string& line : log_) writer.put_string(line);
  const std::size_t outcome_at = writer.buffer().size();
  put_outcome(writer, merged_);
  if (!merged_) return;
  const auto saved = guard("saving merged results", [&] { program_->save_state(writer); });
  if (saved) return;
  writer.buffer().resize(outcome_at);
  put_outcome(writer, saved);
}

std::expected<void, std::string> LoggingSink::load_state(Reader& reader) {
  log_.clear();
  log_bytes_ = 0;
  merged_ = {};
  const std::size_t lines = reader.get_count(sizeof(std::uint32_t));
  if (lines > kLinesMax) return std::unexpected("the saved log of given-up shards is too long");
  for (std::size_t i = 0; i < lines; ++i) {
    log_.emplace_back(reader.get_string());
    log_bytes_ += sizeof(std::uint32_t) + log_.back().size();
  }
  const auto merging_went_well = reader.get<std::uint8_t>();
  if (reader.failed() || merging_went_well > 1) {
    return std::unexpected("the saved log of given-up shards is damaged");
  }
  if (merging_went_well == 1) return program_->load_state(reader);
  merged_ = std::unexpected(std::string(reader.get_string()));
  if (reader.failed()) return std::unexpected("the saved error of the merge is cut short");
  return {};
}

std::size_t LoggingSink::state_bytes() const {
  const std::size_t log = sizeof(std::uint32_t) + log_bytes_ + 1;
  return merged_ ? log + program_->state_bytes()
                 : log + sizeof(std::uint32_t) + merged_.error().size();
}

}  // namespace regroup

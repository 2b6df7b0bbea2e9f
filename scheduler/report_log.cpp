#include "scheduler/report_log.hpp"

#include <utility>

namespace regroup {

void ReportLog::add(std::uint64_t number, StageId stage, std::uint32_t entries, Buffer& values) {
  if (values.size() >= kLargeBytes) {
    bytes_ += values.size();
    Chunk& chunk = chunks_.emplace_back();
    chunk.bytes = std::move(values);
    chunk.large = true;
    chunk.number = number;
    chunk.stage = stage;
    chunk.entries = entries;
    if (spares_.empty()) {
      values.reserve(chunk.bytes.capacity());
    } else {
      values = std::move(spares_.back());
      spares_.pop_back();
    }
  } else {
    const std::size_t bytes = kHeadBytes + values.size();
    const bool fits = !chunks_.empty() && !chunks_.back().large &&
                      chunks_.back().bytes.size() + bytes <= kChunkBytes;
    if (!fits) {
      Chunk& chunk = chunks_.emplace_back();
      chunk.bytes = std::move(spare_);
      chunk.bytes.clear();
      chunk.bytes.reserve(kChunkBytes);
    }
    Writer writer(chunks_.back().bytes);
    writer.put(number);
    writer.put(stage);
    writer.put(entries);
    writer.put_bytes(values.view());
    bytes_ += bytes;
  }
  values.clear();
}

ResultReport ReportLog::get(Reader& reader) {
  ResultReport report;
  report.number = reader.get<std::uint64_t>();
  report.stage = reader.get<StageId>();
  report.entries = reader.get<std::uint32_t>();
  report.values = reader.get_bytes();
  return report;
}

void ReportLog::drop_through(std::uint64_t number) {
  while (!chunks_.empty()) {
    Chunk& chunk = chunks_.front();
    if (chunk.large) {
      if (chunk.number > number) return;
      bytes_ -= chunk.bytes.size();
      const bool usual = chunk.bytes.capacity() <= BufferPool::kBufferBytesMax;
      if (usual && spares_.size() < kSparesMax) spares_.push_back(std::move(chunk.bytes));
      chunks_.pop_front();
      continue;
    }
    Reader reader(chunk.bytes.view().subspan(chunk.begin));
    while (!reader.rest().empty()) {
      const ResultReport report = get(reader);
      if (report.number > number) return;
      chunk.begin += kHeadBytes + report.values.size();
      bytes_ -= kHeadBytes + report.values.size();
    }
    spare_ = std::move(chunk.bytes);
    chunks_.pop_front();
  }
}

void ReportLog::clear() {
  chunks_.clear();
  bytes_ = 0;
}

}  // namespace regroup

#include "scheduler/report_log.hpp"

#include <algorithm>
#include <utility>

namespace regroup {

void ReportLog::add(const ResultReport& report) {
  const std::size_t bytes = kHeadBytes + report.values.size();
  if (chunks_.empty() || chunks_.back().bytes.size() + bytes > chunks_.back().bytes.capacity()) {
    Buffer fresh = std::move(spare_);
    fresh.clear();
    fresh.reserve(std::max(bytes, kChunkBytes));
    chunks_.push_back({std::move(fresh), 0});
  }
  Writer writer(chunks_.back().bytes);
  writer.put(report.number);
  writer.put(report.stage);
  writer.put(report.entries);
  writer.put_bytes(report.values);
  bytes_ += bytes;
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
    Reader reader(chunk.bytes.view().subspan(chunk.begin));
    while (!reader.rest().empty()) {
      const ResultReport report = get(reader);
      if (report.number > number) return;
      chunk.begin += kHeadBytes + report.values.size();
      bytes_ -= kHeadBytes + report.values.size();
    }
    if (chunk.bytes.capacity() == kChunkBytes) spare_ = std::move(chunk.bytes);
    chunks_.pop_front();
  }
}

void ReportLog::clear() {
  chunks_.clear();
  bytes_ = 0;
}

}  // namespace regroup

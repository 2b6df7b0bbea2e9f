#include "scheduler/copy_transfer.hpp"

#include "runtime/protocol/bulk.hpp"

namespace regroup {

std::uint64_t hash_of_copy(std::span<const std::byte> bytes) {
  return hash_of_bulk(bytes).low;
}

bool hash_is(std::uint64_t said, const Buffer& copy, const BulkCopy* bulk) {
  if (bulk == nullptr) return hash_of_copy(copy.view()) == said;
  return !copy.empty() && (said == 0 || said == bulk->hash);
}

void send_copy(Context& context, RankId to, MessageKind kind, const std::shared_ptr<Buffer>& bytes,
               std::uint64_t hash, std::size_t bulk_bytes_min,
               const std::function<void(Writer&)>& put_place) {
  const auto begin = [&](std::uint64_t known) {
    Writer writer = context.begin(to, kind);
    put_place(writer);
    writer.put(known);
    return writer;
  };
  if (!bytes->empty() && bytes->size() >= bulk_bytes_min && to != context.self()) {
    begin(hash);
    if (context.send_bulk(bytes)) return;
  }
  begin(hash != 0 ? hash : hash_of_copy(bytes->view())).put_raw(bytes->view());
  context.send();
}

}  // namespace regroup

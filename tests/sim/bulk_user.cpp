#include "tests/sim/bulk_user.hpp"

#include <algorithm>
#include <utility>

#include "runtime/protocol/wire.hpp"

namespace regroup::sim {

// What was under way has gone with the view before.
void BulkUser::on_view(Context& context) {
  under_way_.clear();
  Scheduler::on_view(context);
}

void BulkUser::on_tick(Context& context) {
  Scheduler::on_tick(context);
  std::erase_if(under_way_, [](const auto& bytes) { return bytes.use_count() == 1; });
  if (sent_ >= bulk_.transfers || context.now() < next_at_ || !context.stable()) return;
  next_at_ = context.now() + static_cast<Nanoseconds>(random_.log_uniform(kPauseMin, kPauseMax));
  const std::uint64_t burst = random_.pick({1u, 1u, 1u, 2u, 5u});
  for (std::uint64_t i = 0; i < burst && sent_ < bulk_.transfers; ++i) send(context);
}

void BulkUser::on_work_wanted(Context& context) {
  if (bulk_.waits && !under_way_.empty()) return;
  Scheduler::on_work_wanted(context);
}

std::size_t BulkUser::draw_size() {
  if (random_.chance(0.02)) return kBulkChunkBytes + random_.below(3);
  if (random_.chance(0.1)) return random_.below(3);
  return static_cast<std::size_t>(random_.log_uniform(1, 30e3));
}

void BulkUser::send(Context& context) {
  const auto members = context.view().members.list();
  const RankId to = members[random_.below(members.size())];
  ++sent_;
  const std::size_t size = draw_size();
  if (to == context.self()) return;
  const std::uint64_t number = checker_->next();
  auto bytes = std::make_shared<const Buffer>(BulkChecker::bytes_of(number, size));
  context.begin(to, kKind).put(number);
  if (!context.send_bulk(bytes)) return;
  checker_->sent(context.self(), to, context.view().epoch, size);
  under_way_.push_back(std::move(bytes));
}

void BulkUser::on_bulk(Context& context, RankId from, MessageKind kind,
                       std::span<const std::byte> header, Buffer bytes, const BulkHash& hash) {
  if (kind != kKind) return Scheduler::on_bulk(context, from, kind, header, std::move(bytes), hash);
  Reader reader(header);
  const auto number = reader.get<std::uint64_t>();
  checker_->handed_over(from, context.self(), context.view().epoch, number, bytes.view());
  context.give_large(std::move(bytes));
}

}  // namespace regroup::sim

#include "runtime/protocol/view.hpp"

namespace regroup {

void put_view(Writer& writer, const View& view) {
  writer.put(view.epoch);
  put_ranks(writer, view.members);
  writer.put(view.coordinator);
  put_ranks(writer, view.joined);
  writer.put(view.ledger_holder);
  writer.put(view.ledger);
}

std::optional<View> get_view(Reader& reader, std::uint32_t ranks) {
  View view;
  view.epoch = reader.get<Epoch>();
  auto members = get_ranks(reader, ranks);
  view.coordinator = reader.get<RankId>();
  auto joined = get_ranks(reader, ranks);
  view.ledger_holder = reader.get<RankId>();
  view.ledger = reader.get<LedgerPosition>();
  if (reader.failed() || !members || !joined || view.epoch.value == 0) return {};
  view.members = std::move(*members);
  view.joined = std::move(*joined);
  const bool sound = view.members.contains(view.coordinator) &&
                     view.members.contains(view.ledger_holder) &&
                     view.members.contains_all(view.joined);
  if (!sound) return {};
  return view;
}

}  // namespace regroup

#include "runtime/protocol/agreement.hpp"

#include <algorithm>

namespace regroup {

void Answers::add(const Answers& others) {
  for (const auto& [rank, ledger] : others.ledgers) {
    if (!ranks.contains(rank)) ledgers.emplace_back(rank, ledger);
  }
  ranks.insert_all(others.ranks);
  if (!others.value || others.best_ballot <= best_ballot) return;
  best_ballot = others.best_ballot;
  value = others.value;
}

std::vector<Branch> make_branches(const RankSet& ranks, std::uint32_t fanout) {
  std::vector<Branch> branches;
  const std::size_t count = std::min<std::size_t>(fanout, ranks.size());
  auto next = ranks.begin();
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t left = static_cast<std::size_t>(ranks.end() - next);
    const std::size_t size = (left + count - i - 1) / (count - i);
    const auto end = next + static_cast<std::ptrdiff_t>(size);
    branches.push_back({*next, RankSet(std::vector<RankId>(next + 1, end))});
    next = end;
  }
  return branches;
}

RankSet Round::take_orphans(const RankSet& lost) {
  RankSet orphans;
  std::erase_if(branches, [&](const Branch& branch) {
    if (!lost.contains(branch.head)) return false;
    orphans.insert_all(branch.charge);
    return true;
  });
  orphans.erase_all(answers.ranks);
  return orphans;
}

void put_rank_runs(Writer& writer, const RankSet& set) {
  std::vector<std::pair<RankId, std::uint32_t>> runs;
  for (const RankId rank : set) {
    const bool goes_on =
        !runs.empty() && runs.back().first.value + runs.back().second == rank.value;
    if (!goes_on) runs.emplace_back(rank, 0);
    ++runs.back().second;
  }
  writer.put(static_cast<std::uint32_t>(runs.size()));
  for (const auto& [first, count] : runs) {
    writer.put(first);
    writer.put(count);
  }
}

std::optional<RankSet> get_rank_runs(Reader& reader, std::uint32_t ranks) {
  std::vector<RankId> list;
  std::uint32_t end = 0;  // of the run before
  for (std::size_t runs = reader.get_count(2 * sizeof(RankId::rep)); runs != 0; --runs) {
    const auto first = reader.get<std::uint32_t>();
    const auto count = reader.get<std::uint32_t>();
    const bool touches = !list.empty() && first == end;  // would be one run
    if (first < end || touches || first >= ranks || count == 0 || count > ranks - first) return {};
    end = first + count;
    for (std::uint32_t rank = first; rank < end; ++rank) list.emplace_back(rank);
  }
  if (reader.failed()) return {};
  return RankSet(std::move(list));
}

void put_other_ranks(Writer& writer, const RankSet& set) {
  if (!set.empty()) put_rank_runs(writer, set);
}

std::optional<RankSet> get_other_ranks(Reader& reader, std::uint32_t ranks) {
  if (reader.failed()) return {};
  if (reader.rest().empty()) return RankSet();
  auto set = get_rank_runs(reader, ranks);
  if (!set || set->empty()) return {};
  return set;
}

}  // namespace regroup

#include "tests/sim/bulk_checker.hpp"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "tests/sim/random.hpp"

namespace regroup::sim {
namespace {

constexpr std::uint64_t kContentStream = 0x62756c6b;

}  // namespace

Buffer BulkChecker::bytes_of(std::uint64_t number, std::size_t size) {
  Buffer bytes;
  bytes.resize(size);
  Random random(number, kContentStream);
  for (std::size_t at = 0; at < size; at += sizeof(std::uint64_t)) {
    const std::uint64_t word = random.next();
    std::memcpy(bytes.data() + at, &word, std::min(sizeof word, size - at));
  }
  return bytes;
}

void BulkChecker::sent(RankId from, RankId to, Epoch epoch, std::size_t size) {
  sent_.push_back({from, to, epoch, size, now_, false});
}

void BulkChecker::handed_over(RankId from, RankId to, Epoch epoch, std::uint64_t number,
                              std::span<const std::byte> bytes) {
  const auto complain = [&](const char* invariant, const char* what) {
    violated_(invariant, fmt::format("bulk transfer {} from {} to {}: {}", number, from.value,
                                     to.value, what));
  };
  if (number >= sent_.size()) return complain("I7 bulk", "was never sent");
  Sent& sent = sent_[number];
  if (sent.from != from || sent.to != to) return complain("I7 bulk", "was another's");
  if (sent.epoch != epoch) return complain("I6 bulk", "is of another epoch");
  if (sent.came) return complain("I7 bulk", "comes twice");
  sent.came = true;
  ++delivered_;
  const Buffer meant = bytes_of(number, sent.size);
  if (!std::ranges::equal(meant.view(), bytes)) complain("I7 bulk", "is not what was sent");
}

void BulkChecker::ended_in_peace() {
  for (std::size_t number = 0; number < sent_.size(); ++number) {
    const Sent& sent = sent_[number];
    if (sent.came || now_ - sent.at < kTimeMax) continue;
    return violated_("I13 bulk", fmt::format("transfer {} from {} to {} never came", number,
                                             sent.from.value, sent.to.value));
  }
}

}  // namespace regroup::sim

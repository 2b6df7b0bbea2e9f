#include "runtime/protocol/event.hpp"

#include <algorithm>
#include <array>

namespace regroup {
namespace {

constexpr std::array<std::string_view, kEventKinds> kNames = {
    "send",  "receive", "lease", "commit",  "retry", "quarantine", "return",   "revoke", "view",
    "round", "keep",    "elect", "restore", "seal",  "regain",     "evidence", "work"};

}  // namespace

std::string_view name_of(EventKind kind) {
  return kNames.at(static_cast<std::size_t>(kind));
}

std::optional<EventKind> event_kind_named(std::string_view name) {
  const auto found = std::ranges::find(kNames, name);
  if (found == kNames.end()) return std::nullopt;
  return EventKind{static_cast<std::uint8_t>(found - kNames.begin())};
}

}  // namespace regroup

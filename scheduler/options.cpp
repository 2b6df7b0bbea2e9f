#include "scheduler/options.hpp"

#include <array>
#include <utility>

namespace regroup {
namespace {
constexpr std::array<std::pair<Policy, std::string_view>, 4> kPolicyNames{{
    {Policy::kDynamic, "dynamic"},
    {Policy::kAffinity, "affinity"},
    {Policy::kStatic, "static"},
    {Policy::kPeer, "peer"},
}};
}

std::expected<Policy, std::string> parse_policy(std::string_view name) {
  for (const auto& [policy, text] : kPolicyNames) {
    if (text == name) return policy;
  }
  return std::unexpected("unknown schedule '" + std::string(name) +
                         "': choose dynamic, affinity, static or peer");
}

std::string_view name_of(Policy policy) {
  return kPolicyNames[static_cast<std::size_t>(policy)].second;
}

}  // namespace regroup

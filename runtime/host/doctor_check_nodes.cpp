// The doctor on the nodes that are named: whether they are reached, see the directory, have the
// same program and about the same time, and by which network they reach each other.
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <set>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "runtime/host/doctor_checks.hpp"
#include "runtime/host/remote_shell.hpp"

namespace regroup::doctor {
namespace {

constexpr double kClockSkewSecondsMax = 1;
constexpr std::size_t kProblemsShown = 5;

std::vector<NodeFacts> answered(const DoctorFacts& facts) {
  std::vector<NodeFacts> nodes;
  std::ranges::copy_if(facts.nodes, std::back_inserter(nodes),
                       [](const NodeFacts& node) { return node.problem.empty(); });
  return nodes;
}

template <class Predicate>
std::vector<std::string> names_where(const std::vector<NodeFacts>& nodes, Predicate predicate) {
  std::vector<std::string> names;
  for (const NodeFacts& node : nodes) {
    if (predicate(node)) names.push_back(node.name);
  }
  return names;
}

struct Remedy {
  std::string_view said;  // in what a remote shell wrote
  std::string_view advice;
};

constexpr std::array kRemedies = {
    Remedy{"Host key verification failed",
           "accept its key once: ssh-keyscan NODE >> "
           "~/.ssh/known_hosts, or 'ssh NODE true' by hand"},
    Remedy{"host key is known",
           "accept its key once: ssh-keyscan NODE >> ~/.ssh/known_hosts, or "
           "'ssh NODE true' by hand"},
    Remedy{"IDENTIFICATION HAS CHANGED",
           "if the node was set up anew, forget its old key: "
           "ssh-keygen -R NODE"},
    Remedy{"Permission denied", "let it in without a password: ssh-keygen, then ssh-copy-id NODE"},
    Remedy{"Could not resolve", "its name is not known here: see --hosts, DNS and /etc/hosts"},
    Remedy{"not found on PATH", "install it, or give another --remote-shell"},
    Remedy{"not asked", "name fewer nodes at a time, or those that do not answer first"},
};

std::string advice_on(const std::string& problem, const std::string& remote_shell) {
  for (const Remedy& remedy : kRemedies) {
    if (problem.find(remedy.said) != std::string::npos) return std::string(remedy.advice);
  }
  if (std::filesystem::path(remote_shell).filename() == kSlurmShell) {
    return "see 'scontrol show node NODE', or leave it out with --hosts";
  }
  return fmt::format("see that the node is up and that '{} NODE true' works, or leave it out",
                     remote_shell);
}

// The nodes' problems, the first ones with their reasons; the advice once for each kind.
Finding unreached(const std::vector<NodeFacts>& nodes, const DoctorFacts& facts) {
  std::string found;
  std::string advice;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (i < kProblemsShown) found += fmt::format("; {}: {}", nodes[i].name, nodes[i].problem);
    const std::string wanted = advice_on(nodes[i].problem, facts.remote_shell);
    if (advice.find(wanted) == std::string::npos) advice += (advice.empty() ? "" : "; ") + wanted;
  }
  if (nodes.size() > kProblemsShown) {
    found += fmt::format("; and {} more", nodes.size() - kProblemsShown);
  }
  return missing(fmt::format("{} of {} do not answer{}", nodes.size(), facts.nodes.size(), found),
                 advice);
}

// Names of nodes that are one machine with a node named before.
std::vector<std::string> named_again(const std::vector<NodeFacts>& nodes) {
  std::set<std::string> seen;
  return names_where(nodes,
                     [&](const NodeFacts& node) { return !seen.insert(node.hostname).second; });
}

std::string subnet_text(const LocalNetwork& network) {
  const std::uint32_t prefix = network.prefix();
  int bits = 0;
  for (std::uint32_t mask = network.mask; mask != 0; mask <<= 1) ++bits;
  return fmt::format("{}.{}.{}.{}/{}", prefix >> 24, prefix >> 16 & 255, prefix >> 8 & 255,
                     prefix & 255, bits);
}

bool is_same_subnet(const LocalNetwork& left, const LocalNetwork& right) {
  return left.mask == right.mask && left.prefix() == right.prefix();
}

// Subnets on which every node has an address of its own.
std::vector<LocalNetwork> joining_all(const std::vector<NodeFacts>& nodes) {
  std::vector<LocalNetwork> joining;
  for (const LocalNetwork& candidate : nodes.front().networks) {
    if (candidate.loopback) continue;
    std::set<std::uint32_t> ips;
    for (const NodeFacts& node : nodes) {
      const auto on = std::ranges::find_if(node.networks, [&](const LocalNetwork& network) {
        return is_same_subnet(network, candidate);
      });
      if (on != node.networks.end()) ips.insert(on->ip);
    }
    if (ips.size() == nodes.size()) joining.push_back(candidate);
  }
  return joining;
}

// An address that two nodes have, as container bridges do; empty: none.
std::optional<LocalNetwork> private_to_each(const std::vector<NodeFacts>& nodes) {
  std::set<std::uint32_t> seen;
  for (const NodeFacts& node : nodes) {
    for (const LocalNetwork& network : node.networks) {
      if (!network.loopback && !seen.insert(network.ip).second) return network;
    }
  }
  return std::nullopt;
}

Finding check_chosen_network(const DoctorFacts& facts, const std::vector<NodeFacts>& nodes) {
  const auto lacks = [&](const std::vector<LocalNetwork>& networks) {
    return std::ranges::none_of(
        networks, [&](const LocalNetwork& network) { return is_named(network, facts.network); });
  };
  auto names = names_where(
      nodes, [&](const NodeFacts& node) { return !node.networks.empty() && lacks(node.networks); });
  if (lacks(facts.own_networks)) names.insert(names.begin(), "this node");
  if (!names.empty())
    return missing(fmt::format("{} has no address on {}", name_text(names), facts.network),
                   "give --network an interface or a subnet that all nodes have, this one as well");
  return ok(facts.network + ", which all have");
}

}  // namespace

std::optional<Finding> check_reach(const DoctorFacts& facts) {
  if (facts.nodes.empty())
    return ok("none were named: whether they can be used together was not looked at",
              "--hosts or --hostfile names them");
  std::vector<NodeFacts> silent;
  std::ranges::copy_if(facts.nodes, std::back_inserter(silent),
                       [](const NodeFacts& node) { return !node.problem.empty(); });
  if (!silent.empty()) return unreached(silent, facts);
  const auto again = named_again(facts.nodes);
  if (!again.empty())
    return warning(fmt::format("all {} answer to {}, but {} were named before by another name",
                               facts.nodes.size(), facts.remote_shell, name_text(again)),
                   "name each node once: its loss is that of all its ranks");
  return ok(fmt::format("all {} answer to {}", facts.nodes.size(), facts.remote_shell));
}

std::optional<Finding> check_shared_directory(const DoctorFacts& facts) {
  const auto nodes = answered(facts);
  if (nodes.empty() || !facts.directory || !facts.directory->writable) return std::nullopt;
  const std::string& path = facts.directory->path;
  const auto blind = names_where(nodes, [](const NodeFacts& node) { return !node.sees_file; });
  if (!blind.empty())
    return missing(fmt::format("{} do not see {} as this node does", name_text(blind), path),
                   "give --dir on a file system that all nodes have at the same path");
  const auto free = names_where(nodes, [](const NodeFacts& node) { return node.ignores_lock; });
  if (!free.empty())
    return warning(
        fmt::format("{} could lock a file in {} that is locked here", name_text(free), path),
        "a second run in one directory is noticed on its own node only: mount the file "
        "system with locks that reach all nodes (Lustre: -o flock, not localflock; NFS: "
        "without nolock or local_lock)");
  return ok(fmt::format("{} is the same on all that answer", path));
}

std::optional<Finding> check_program(const DoctorFacts& facts) {
  const auto nodes = answered(facts);
  if (nodes.empty()) return std::nullopt;
  const auto without =
      names_where(nodes, [](const NodeFacts& node) { return node.version.empty(); });
  if (!without.empty())
    return missing(fmt::format("{} does not run on {}", facts.program, name_text(without)),
                   "install regroup, and the libraries that it needs, at the same path on all "
                   "nodes, or on a file system that they share");
  const auto other =
      names_where(nodes, [&](const NodeFacts& node) { return node.version != facts.version; });
  if (!other.empty())
    return warning(fmt::format("{} is another version than {} on {}", facts.program, facts.version,
                               name_text(other)),
                   "ranks of one run are of one version: install the same on all nodes");
  return ok(fmt::format("{} {} on all that answer", facts.program, facts.version));
}

// What may come of a slow remote shell is no skew.
std::optional<Finding> check_clocks(const DoctorFacts& facts) {
  const NodeFacts* worst = nullptr;
  std::vector<std::string> skewed;
  for (const NodeFacts& node : facts.nodes) {
    if (!node.problem.empty() || !node.clock) continue;
    const double ahead = std::abs(node.clock->ahead_seconds);
    if (ahead - node.clock->uncertainty_seconds > kClockSkewSecondsMax) skewed.push_back(node.name);
    if (worst == nullptr || ahead > std::abs(worst->clock->ahead_seconds)) worst = &node;
  }
  if (worst == nullptr) return std::nullopt;
  const std::string figure =
      fmt::format("{} {:+.2f} s (give or take {:.2f} s)", worst->name, worst->clock->ahead_seconds,
                  worst->clock->uncertainty_seconds);
  if (skewed.empty()) return ok("furthest from this node's: " + figure);
  return warning(
      fmt::format("{} differ from this node's, most of all {}", name_text(skewed), figure),
      "runs go on, but times in logs and of files cannot be compared: let chrony or "
      "ntpd set the clocks");
}

std::optional<Finding> check_network(const DoctorFacts& facts) {
  auto nodes = answered(facts);
  if (nodes.empty()) return std::nullopt;
  if (!facts.network.empty()) return check_chosen_network(facts, nodes);
  const auto again = named_again(nodes);
  std::erase_if(nodes, [&](const NodeFacts& node) {
    return std::ranges::find(again, node.name) != again.end();
  });
  const auto joining = joining_all(nodes);
  const std::string common = joining.empty()
                                 ? "no subnet that all have"
                                 : fmt::format("all have {} ({})", subnet_text(joining.front()),
                                               joining.front().interface);
  const auto doubled = nodes.size() > 1 ? private_to_each(nodes) : std::nullopt;
  if (!doubled) return ok("not chosen; " + common);
  return warning(fmt::format("not chosen; {}, but {} has one address on several nodes", common,
                             doubled->interface),
                 joining.empty() ? std::string("MPI may try it and wait for ever: give --network")
                                 : "MPI may try it and wait for ever: give --network " +
                                       subnet_text(joining.front()));
}

}  // namespace regroup::doctor

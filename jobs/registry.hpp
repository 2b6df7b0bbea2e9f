// The jobs that a program offers, by name. Filled before main's work begins, read-only afterwards.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "jobs/bag.hpp"
#include "jobs/iterative.hpp"
#include "jobs/map_reduce.hpp"
#include "jobs/program.hpp"

namespace regroup {

class JobRegistry {
 public:
  using Factory = std::function<std::unique_ptr<Program>()>;

  // A job struct, as bag.hpp, map_reduce.hpp or iterative.hpp describe it.
  template <class Job>
  JobRegistry& add() {
    if constexpr (BagJob<Job>) {
      factories_[std::string(Job::kName)] = [] { return std::make_unique<Bag<Job>>(); };
    } else if constexpr (requires { typename Job::Cell; }) {
      factories_[std::string(Job::kName)] = [] { return std::make_unique<Iterative<Job>>(); };
    } else {
      factories_[std::string(Job::kName)] = [] { return std::make_unique<MapReduce<Job>>(); };
    }
    return *this;
  }

  // Null if there is no job of that name.
  std::unique_ptr<Program> make(std::string_view name) const {
    const auto found = factories_.find(std::string(name));
    return found == factories_.end() ? nullptr : found->second();
  }
  const std::map<std::string, Factory>& factories() const { return factories_; }
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& [name, make] : factories_) names.push_back(name);
    return names;
  }

 private:
  std::map<std::string, Factory> factories_;
};

// The whole command line over these jobs: what main() returns.
int regroup_main(int argc, char** argv, const JobRegistry& registry);

}  // namespace regroup

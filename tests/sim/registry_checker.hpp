// Holds what the registry answers against what it promises (I7): puts that were acknowledged are
// neither lost nor made twice, those that were refused are not made, versions of a key follow one
// another, and the history of each key is linearizable. That is simple to check, since versions
// order the writes of a key: whatever begins after a call has ended must meet its version or a
// later one, and a put a later one; and each version is one put's, told by the value it wrote. It
// sees calls and replies alone. Where so many of those that kept the registry were lost that no
// majority of them can be left, it may go back: then the history begins anew.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "runtime/protocol/registry_call.hpp"
#include "runtime/protocol/view.hpp"
#include "tests/sim/ack_checker.hpp"
#include "tests/sim/probes.hpp"

namespace regroup::sim {

class RegistryChecker {
 public:
  using Complain = std::function<void(const char* invariant, const std::string& what)>;

  // `launch`: how many runs of the job came before, whose values may be there.
  RegistryChecker(const AckChecker& acks, std::uint32_t launch, Complain complain)
      : acks_(&acks), launch_(launch), complain_(std::move(complain)), anew_(launch != 0) {}

  // User code of `rank` asks, or has its reply, in this epoch.
  void asked(RankId rank, Epoch epoch, const RegistryCall& call);
  void replied(RankId rank, Epoch epoch, const RegistryReply& reply);
  // A rank has taken over in this view.
  void elected(const View& view);
  void run_ended();

  const Probes& probes() const { return probes_; }

 private:
  struct Call {
    RegistryOperation operation{};
    std::string key;
    std::uint64_t version = 0;  // as asked
    std::uint64_t floor = 0;    // of what had ended when it began
    std::uint64_t tag = 0;      // of a put
    Epoch epoch;
    bool counts = true;  // else the history has begun anew since it began
  };
  struct Put {
    std::string key;
    std::uint64_t expected = 0;
    std::uint64_t floor = 0;
    std::optional<std::uint64_t> version;  // as far as anyone has seen
    bool refused = false;
  };
  struct Key {
    std::uint64_t floor = 0;             // of all calls that have ended
    std::optional<std::uint64_t> first;  // versions from here on are known; empty: not yet
    std::uint64_t last = 0;              // seen
    std::map<std::uint64_t, std::uint64_t> writers;  // by version: tags
  };

  bool may_be_lost(Epoch epoch) const;
  void take_read(const Call& call, const RegistryReply& reply);
  void take_put(const Call& call, const RegistryReply& reply);
  void see(const std::string& key, std::uint64_t version, std::uint64_t tag);
  void check_versions(const std::string& name, const Key& key);
  void wrong(const std::string& what) { complain_("I7 registry", what); }

  const AckChecker* acks_;
  std::uint32_t launch_;
  Complain complain_;
  std::map<std::pair<RankId, std::uint64_t>, Call> calls_;  // that wait
  std::map<std::uint64_t, Put> puts_;                       // by tag
  std::map<std::string, Key> keys_;
  bool anew_;                           // the history has begun anew
  std::optional<View> elected_;         // the latest
  std::optional<Epoch> answered_last_;  // the latest epoch of an answer
  Probes probes_;
};

}  // namespace regroup::sim

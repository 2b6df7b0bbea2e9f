// When the members of a view shrink their communicator with ULFM. MPIX_Comm_shrink returns only
// once every living rank of the communicator has called it, and cannot be called back: so nobody
// calls it before all have promised to. A rank is ready, which it tells the coordinator, when those
// of the communicator that ULFM does not know to be dead are the members of its view, no more and
// no fewer; a living rank that the view has left out for its silence would not take part, so while
// there is one nobody shrinks. The coordinator says go once all are ready. A promise holds across
// views, since nothing withdraws it: whoever hears the go shrinks, and who dies before is what
// ULFM's shrink is made for. Pure, not thread-safe; one a transport.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/protocol/rank_set.hpp"
#include "runtime/protocol/view.hpp"

namespace regroup {

class ShrinkTalk {
 public:
  enum class Word : std::uint32_t { kReady = 1, kGo = 2 };
  // `generation`: how often the communicator that is to be shrunk has been.
  struct Message {
    Word word{};
    std::uint32_t generation = 0;
    friend constexpr bool operator==(const Message&, const Message&) = default;
  };
  struct Outgoing {
    RankId to;
    Message message;
    friend constexpr bool operator==(const Outgoing&, const Outgoing&) = default;
  };

  // `group`: of the communicator of the start.
  ShrinkTalk(RankId self, RankSet group);

  // Inputs. What they ask for is in outgoing() and in may_shrink().
  void enter(const View& view);
  void learn_dead(RankId rank);
  void hear(RankId from, const Message& message);
  // The shrink has come to its end, with a communicator of these.
  void has_shrunk(RankSet group);

  // What is to be sent now, over the communicator of this generation.
  std::vector<Outgoing> take_outgoing();
  // Everybody has promised: MPIX_Comm_shrink is to be called, once. True until has_shrunk().
  bool may_shrink() const { return go_; }
  std::uint32_t generation() const { return generation_; }
  const RankSet& group() const { return group_; }

 private:
  bool living_are_members() const;
  void advance();

  RankId self_;
  RankSet group_;
  RankSet dead_;  // of the run
  std::optional<View> view_;
  std::uint32_t generation_ = 0;
  RankSet ready_;  // who has promised, as far as this rank was told
  bool promised_ = false;
  bool told_ = false;  // this view's coordinator of that
  bool said_go_ = false;
  bool go_ = false;
  std::vector<Outgoing> outgoing_;
};

}  // namespace regroup

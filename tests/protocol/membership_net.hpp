// Several Memberships and the world between them, all by hand: messages wait until the test has
// them delivered, dropped or doubled, tokens live in one map as in a run directory, and time moves
// when the test says so. Whatever happens, it holds that there is one view an epoch (I1, I4), that
// it is what the token holds, and that the epochs of a rank only grow (I3).
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/protocol/membership.hpp"

namespace regroup::testing_membership {

// What a rank that knows nothing of the others has to tell of them.
inline void put_no_knowledge(Writer& writer) {
  for (int i = 0; i < 3; ++i) put_ranks(writer, {});
  DeadLinks{}.put(writer);
}

class Net {
 public:
  struct Sent {
    RankId from;
    RankId to;
    MessageKind kind{};
    std::vector<std::byte> payload;
  };
  using Filter = std::function<bool(const Sent&)>;

  std::deque<Sent> in_flight;
  std::map<Epoch, std::vector<std::byte>> tokens;
  // Messages for which it holds are lost when their turn comes.
  Filter lost = [](const Sent&) { return false; };
  // Whether the file system answers, and whether it fails when it does.
  bool tokens_answer = true;
  bool tokens_fail = false;

  explicit Net(std::uint32_t ranks, Nanoseconds give_up_after = 60 * kSecond, TreeOptions tree = {})
      : alive_(ranks, true) {
    for (std::uint32_t i = 0; i < ranks; ++i) {
      ranks_.emplace_back(MembershipOptions{
          .self = RankId{i}, .ranks = ranks, .give_up_after = give_up_after, .tree = tree});
      ranks_.back().start(0);
    }
    fence_wanted_.resize(ranks);
    epochs_.assign(ranks, Epoch{1});
  }

  // ---- the world ----

  Membership& at(std::uint32_t rank) { return ranks_[rank]; }
  bool alive(std::uint32_t rank) const { return alive_[rank]; }
  std::uint32_t size() const { return static_cast<std::uint32_t>(ranks_.size()); }
  Nanoseconds now() const { return now_; }

  // Gone from one moment to the next; what it has sent is on its way.
  void kill(std::uint32_t rank) {
    alive_[rank] = false;
    fence_wanted_[rank].reset();
  }
  void learn(std::uint32_t rank, std::uint32_t about, EvidenceKind kind) {
    if (!alive_[rank]) return;
    act(rank, [&](auto& out) { ranks_[rank].learn({RankId{about}, kind}, out); });
  }
  void all_learn(std::uint32_t about, EvidenceKind kind) {
    for (std::uint32_t i = 0; i < size(); ++i) learn(i, about, kind);
  }
  void request_new_view(std::uint32_t rank, const RankSet& unreachable = {}) {
    act(rank, [&](auto& out) { ranks_[rank].request_new_view(out, unreachable); });
  }
  // `rank`, which runs, hears `about` in an older epoch.
  void tell(std::uint32_t rank, std::uint32_t about) {
    act(rank, [&](auto& out) { ranks_[rank].tell(RankId{about}, out); });
  }
  bool receive(std::uint32_t rank, const Sent& sent) {
    bool sensible = false;
    act(rank, [&](auto& out) {
      sensible = ranks_[rank].receive(sent.from, sent.kind, sent.payload, out);
    });
    return sensible;
  }

  // ---- messages ----

  std::size_t count(MessageKind kind) const {
    return static_cast<std::size_t>(
        std::ranges::count_if(in_flight, [&](const Sent& sent) { return sent.kind == kind; }));
  }
  // Takes the oldest message that is so off the network; fails the test if there is none.
  Sent take(const Filter& which) {
    const auto found = std::ranges::find_if(in_flight, which);
    if (found == in_flight.end()) {
      ADD_FAILURE() << "no such message is on its way";
      return {};
    }
    Sent sent = std::move(*found);
    in_flight.erase(found);
    return sent;
  }
  void drop(const Filter& which) { std::erase_if(in_flight, which); }
  void drop_all() { in_flight.clear(); }

  // Delivers the oldest message that is so; false if there is none.
  bool deliver_one(const Filter& which) {
    const auto found = std::ranges::find_if(in_flight, which);
    if (found == in_flight.end()) return false;
    const Sent sent = std::move(*found);
    in_flight.erase(found);
    if (!alive_[sent.to.value] || lost(sent)) return true;
    EXPECT_TRUE(receive(sent.to.value, sent)) << "no honest rank says what another refuses";
    return true;
  }
  // Delivers those of one kind that are on their way now.
  void deliver(MessageKind kind) {
    for (std::size_t left = count(kind); left-- > 0;) {
      deliver_one([&](const Sent& sent) { return sent.kind == kind; });
    }
  }
  // Delivers, and answers for tokens, until all is quiet.
  void settle() {
    for (int left = kSettleMax; left-- > 0;) {
      const bool delivered = deliver_one([](const Sent&) { return true; });
      if (answer_tokens() == 0 && !delivered) return;
    }
    ADD_FAILURE() << "they talk without end";
  }
  // How many were answered.
  int answer_tokens() {
    int answered = 0;
    for (std::uint32_t i = 0; tokens_answer && i < size(); ++i) {
      if (!fence_wanted_[i]) continue;
      const auto [epoch, wanted] = *fence_wanted_[i];
      fence_wanted_[i].reset();
      std::optional<Buffer> content;
      if (!tokens_fail) {
        const auto held = tokens.try_emplace(epoch, wanted).first;
        content.emplace(std::span<const std::byte>(held->second));
      }
      answer_token(i, epoch, std::move(content));
      ++answered;
    }
    return answered;
  }
  void answer_token(std::uint32_t rank, Epoch epoch, std::optional<Buffer> content) {
    act(rank, [&](auto& out) { ranks_[rank].fence_answered({epoch, std::move(content)}, out); });
  }
  // What was decided on that epoch.
  View decided(Epoch epoch) const {
    const auto token = tokens.find(epoch);
    if (token == tokens.end()) return {};
    Reader reader(token->second);
    return get_view(reader, static_cast<std::uint32_t>(ranks_.size())).value_or(View{});
  }
  // The epoch whose token the rank asks for.
  std::optional<Epoch> token_wanted(std::uint32_t rank) const {
    if (!fence_wanted_[rank]) return {};
    return fence_wanted_[rank]->first;
  }

  // ---- time ----

  // Lets time pass, all that is sent arriving between one tick and the next.
  void pass(Nanoseconds time, Nanoseconds step = 10 * kMillisecond) {
    for (const Nanoseconds end = now_ + time; now_ < end;) {
      tick_at(std::min(end, now_ + step));
      settle();
    }
  }
  void tick_at(Nanoseconds now) {
    now_ = now;
    for (std::uint32_t i = 0; i < size(); ++i) {
      if (alive_[i]) act(i, [&](auto& out) { ranks_[i].tick(now_, out); });
    }
  }

  // ---- what must hold ----

  // All these ranks, and nobody else, are in this view and go on in it.
  testing::AssertionResult go_on(Epoch epoch, const RankSet& members, RankId coordinator) {
    for (const RankId rank : members) {
      const View& view = ranks_[rank.value].view();
      if (ranks_[rank.value].state() != Membership::State::kStable) {
        return testing::AssertionFailure() << "rank " << rank.value << " does not go on";
      }
      if (view.epoch != epoch || view.members != members || view.coordinator != coordinator) {
        return testing::AssertionFailure()
               << "rank " << rank.value << " is in epoch " << view.epoch.value << " of "
               << view.members.size() << " members under rank " << view.coordinator.value;
      }
    }
    return testing::AssertionSuccess();
  }

 private:
  static constexpr int kSettleMax = 100'000;

  template <class Act>
  void act(std::uint32_t rank, Act what) {
    Membership::Output output;
    what(output);
    for (Membership::Message& message : output.messages) {
      EXPECT_NE(message.to, RankId{rank}) << "a message to itself";
      EXPECT_TRUE(is_control(message.kind));
      const auto bytes = message.payload.view();
      in_flight.push_back({RankId{rank}, message.to, message.kind, {bytes.begin(), bytes.end()}});
    }
    if (output.fence) {
      const auto bytes = output.fence->content.view();
      fence_wanted_[rank] = {output.fence->epoch, {bytes.begin(), bytes.end()}};
    }
    const View& view = ranks_[rank].view();
    EXPECT_EQ(output.installed, view.epoch != epochs_[rank]);
    if (view.epoch == epochs_[rank]) return;
    EXPECT_GT(view.epoch, epochs_[rank]);  // I3
    epochs_[rank] = view.epoch;
    EXPECT_TRUE(view.members.contains(RankId{rank})) << "a view that is not this rank's";
    const View& first = views_.try_emplace(view.epoch, view).first->second;
    EXPECT_EQ(first, view) << "two views of epoch " << view.epoch.value;  // I1, I4
    const auto token = tokens.find(view.epoch);
    ASSERT_NE(token, tokens.end()) << "a view without its token";
    Reader reader(token->second);
    EXPECT_EQ(get_view(reader, size()), view) << "not what the token holds";  // I5
  }

  Nanoseconds now_ = 0;
  std::vector<Membership> ranks_;
  std::vector<bool> alive_;
  std::vector<std::optional<std::pair<Epoch, std::vector<std::byte>>>> fence_wanted_;  // by rank
  std::vector<Epoch> epochs_;                                                          // by rank
  std::map<Epoch, View> views_;
};

}  // namespace regroup::testing_membership

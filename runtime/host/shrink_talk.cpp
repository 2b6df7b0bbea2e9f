#include "runtime/host/shrink_talk.hpp"

#include <utility>

namespace regroup {

ShrinkTalk::ShrinkTalk(RankId self, RankSet group) : self_(self), group_(std::move(group)) {}

void ShrinkTalk::enter(const View& view) {
  view_ = view;
  told_ = false;
  said_go_ = false;
  advance();
}

void ShrinkTalk::learn_dead(RankId rank) {
  if (dead_.insert(rank)) advance();
}

void ShrinkTalk::hear(RankId from, const Message& message) {
  if (message.generation != generation_ || !group_.contains(from)) return;
  if (message.word == Word::kReady) ready_.insert(from);
  if (message.word == Word::kGo && promised_) go_ = true;
  advance();
}

void ShrinkTalk::has_shrunk(RankSet group) {
  group_ = std::move(group);
  ++generation_;
  ready_.clear();
  told_ = promised_ = said_go_ = go_ = false;
  advance();
}

std::vector<ShrinkTalk::Outgoing> ShrinkTalk::take_outgoing() {
  return std::exchange(outgoing_, {});
}

bool ShrinkTalk::living_are_members() const {
  RankSet living = group_;
  living.erase_all(dead_);
  return living.size() != group_.size() && living == view_->members;
}

void ShrinkTalk::advance() {
  if (!view_) return;
  const bool all_take_part = living_are_members();
  promised_ = promised_ || all_take_part;
  if (!promised_) return;
  const bool coordinates = view_->coordinator == self_;
  if (!std::exchange(told_, true)) {
    ready_.insert(self_);
    if (!coordinates) outgoing_.push_back({view_->coordinator, {Word::kReady, generation_}});
  }
  if (!coordinates || said_go_ || !all_take_part || !ready_.contains_all(view_->members)) return;
  said_go_ = go_ = true;
  for (const RankId rank : view_->members) {
    if (rank != self_) outgoing_.push_back({rank, {Word::kGo, generation_}});
  }
}

}  // namespace regroup

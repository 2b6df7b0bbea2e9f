#include "runtime/protocol/node.hpp"

#include <algorithm>
#include <utility>

#include "runtime/protocol/check.hpp"
#include "runtime/protocol/planted.hpp"

namespace regroup {
namespace {

constexpr int kExitResumable = 75;

// A service that answers its own messages with more of them must come to an end.
constexpr std::size_t kSelfRoundsMax = 10'000;

// Room for the header, then the payload, then the trailer.
constexpr std::size_t trailer_bytes_max(std::uint32_t ranks) {
  return ranks * (sizeof(std::uint32_t) + sizeof(std::uint64_t)) + sizeof(std::uint32_t);
}

template <class... Handlers>
struct Overloaded : Handlers... {
  using Handlers::operator()...;
};
template <class... Handlers>
Overloaded(Handlers...) -> Overloaded<Handlers...>;

}  // namespace

Node::Node(const NodeOptions& options, std::unique_ptr<Service> service, BufferPool& pool)
    : options_(options),
      service_(std::move(service)),
      pool_(&pool),
      context_(*this),
      membership_({.self = options.self,
                   .ranks = options.ranks,
                   .give_up_after = options.give_up_after,
                   .tree = options.tree}),
      receivers_(options.ranks),
      senders_(options.ranks),
      told_(options.ranks) {
  REGROUP_CHECK(options.self.value < options.ranks, "a rank outside its own run");
  if (options.vector_clocks) {
    REGROUP_CHECK(trailer_bytes_max(options.ranks) <= kFrameBytesMax / 2,
                  "too many ranks for vector clocks: leave them off");
    vector_.emplace(options.ranks, options.self);
  }
}

void Node::start(Nanoseconds now, Output& output) {
  now_ = now;
  output_ = &output;
  membership_.start(now);
  service_->on_start(context_);
  run_self_messages();
  output_ = nullptr;
}

void Node::step(const Input& input, Output& output) {
  output_ = &output;
  std::visit(
      Overloaded{
          [this](const FrameArrived& arrived) { receive(arrived); },
          [this](const WorkWanted&) { service_->on_work_wanted(context_); },
          [this](const WorkFinished& finished) {
            service_->on_work_finished(context_, *finished.result);
          },
          [this](const Tick& tick_input) { tick(tick_input); },
          [this](const PeerEvidence& evidence) { learn(evidence); },
          [this](const RegistryAsked& asked) { service_->on_registry_call(context_, *asked.call); },
          [this](const FenceAnswer& answer) {
            change_membership([&](auto& out) { membership_.fence_answered(answer, out); });
          },
          [this](const DiskAnswered& answered) { service_->on_disk(context_, *answered.answer); },
          [this](const BulkNews& news) { take_bulk_news(news); },
          [this](const WishArrived& arrived) {
            service_->on_wish(context_, arrived.wish, arrived.reason);
          }},
      input);
  if (!self_messages_.empty()) run_self_messages();
  if (std::exchange(new_view_wanted_, false)) {
    change_membership([&](auto& out) { membership_.request_new_view(out); });
  }
  output_ = nullptr;
}

void Node::learn(const PeerEvidence& evidence) {
  record(EventKind::kEvidence, evidence.rank, static_cast<std::uint64_t>(evidence.kind), 0);
  const bool news = !membership_.confirmed().contains(evidence.rank);
  change_membership([&](auto& out) { membership_.learn(evidence, out); });
  const bool left = evidence.kind == EvidenceKind::kLeft && news;
  if (left && view().members.contains(evidence.rank)) service_->on_left(context_, evidence.rank);
}

void Node::tick(const Tick& tick) {
  REGROUP_CHECK(tick.now >= now_, "time ran backwards");
  now_ = tick.now;
  change_membership([&](auto& out) { membership_.tick(now_, out); });
  if (now_ - stall_looked_at_ >= kStallTimeout / kStallLooks) {
    stall_looked_at_ = now_;
    report_links();
    look_for_stalls();
  }
  service_->on_tick(context_);
}

// No frame is ever sent twice within an epoch, so one that was lost on its way is missing for good.
void Node::look_for_stalls() {
  if (planted(PlantedBug::kIgnoreStalls)) return;
  RankSet unheard;
  RankSet deaf;
  for (std::uint32_t rank = 0; rank < options_.ranks; ++rank) {
    if (receivers_[rank].count_stall() >= kStallLooks) unheard.insert(RankId{rank});
  }
  for (const RankId rank : view().members) {
    if (membership_.confirmed().contains(rank)) continue;
    const bool silent = senders_[rank.value].count_silence() >= kSilentLooks;
    if (silent && !planted(PlantedBug::kIgnoreDeafness)) deaf.insert(rank);
  }
  RankSet unmoved = bulk_.count_stalls(kStallLooks);
  if (planted(PlantedBug::kIgnoreBulkStalls)) unmoved.clear();
  end_epoch_for(unheard, deaf, unmoved);
}

// The next epoch begins with empty links, which mends one that has lost a frame. One on which
// nothing has come through since an epoch was ended for it will not be mended so; then all of
// which that is so are told, or where there are many each would cost an epoch of its own.
void Node::end_epoch_for(const RankSet& unheard, const RankSet& deaf, const RankSet& unmoved) {
  if (!stable() || (unheard.empty() && deaf.empty() && unmoved.empty())) return;
  const auto again = [](const RankSet& now, const RankSet& before) {
    return std::ranges::any_of(now, [&](RankId rank) { return before.contains(rank); });
  };
  RankSet unreachable;
  if (again(unheard, unheard_) || again(deaf, deaf_) || again(unmoved, unmoved_)) {
    for (const RankSet* before : {&unheard_, &deaf_, &unmoved_}) unreachable.insert_all(*before);
  }
  unheard_.insert_all(unheard);
  deaf_.insert_all(deaf);
  unmoved_.insert_all(unmoved);
  change_membership([&](auto& out) { membership_.request_new_view(out, unreachable); });
}

// Without this the loss of the last frame for a while would go unnoticed, and so would that of all
// frames. Said again at times, since it may be lost as well; and whoever has gone on without this
// rank answers with its view.
void Node::report_links() {
  if (!stable()) return;
  const bool again = ++link_reports_ % kStallLooks == 0;
  for (const RankId to : view().members) {
    const LinkStatus status{senders_[to.value].sent(), receivers_[to.value].heard()};
    const bool told = status == told_[to.value];
    if (status == LinkStatus{} || (told && !again)) continue;
    told_[to.value] = status;
    Membership::Message message{to, MessageKind::kLinkStatus, Buffer(std::size_t{64})};
    Writer writer(message.payload);
    writer.put(view().epoch);
    writer.put(status.sent);
    writer.put(status.heard);
    send_control(message);
  }
}

// False if it makes no sense.
bool Node::hear_of_link(RankId from, const LinkStatus& status) {
  LinkSender& sender = senders_[from.value];
  if (status.heard > sender.sent()) return false;
  receivers_[from.value].claim(status.sent);
  if (status.heard != 0) deaf_.erase(from);
  const Nanoseconds missing = sender.acknowledge(status.heard, now_);
  if (missing >= kStallTimeout && !planted(PlantedBug::kIgnoreDeafness)) {
    end_epoch_for({}, {from}, {});
  }
  return true;
}

// Lets `change` change the membership, then does what follows from it.
template <class Change>
void Node::change_membership(Change change) {
  const bool was_stable = stable();
  change(membership_output_);
  for (Membership::Message& message : membership_output_.messages) send_control(message);
  membership_output_.messages.clear();
  if (membership_output_.fence) output_->fence = std::move(membership_output_.fence);
  membership_output_.fence.reset();
  if (was_stable && !stable() && !membership_output_.installed) {
    record(EventKind::kRevoke, view().coordinator, view().epoch.value, view().members.size());
  }
  if (std::exchange(membership_output_.installed, false)) enter_view();
  if (membership_.state() == Membership::State::kGivenUp) {
    output_->outcome = Outcome{
        kExitResumable, "this rank is cut off from the others: no majority was in reach", true};
  }
}

void Node::send_control(Membership::Message& message) {
  Buffer frame = pool_->take();
  frame.resize(kFrameHeaderBytes);
  frame.append(message.payload.view());
  seal_frame(frame, {.kind = message.kind,
                     .flags = 0,
                     .from = options_.self,
                     .epoch = view().epoch,
                     .sequence = 0,
                     .lamport = lamport_.tick()});
  record(EventKind::kSend, message.to, lamport_.now(), static_cast<std::uint64_t>(message.kind));
  const bool urgent = message.kind >= MessageKind::kPrepare && message.kind <= MessageKind::kDecide;
  output_->frames.push_back({message.to, std::move(frame), urgent});
}

// Links begin anew, and so does what the vector clock of each peer is known to hold.
void Node::enter_view() {
  receivers_ = std::vector<LinkReceiver>(options_.ranks);
  std::ranges::fill(senders_, LinkSender{});
  std::ranges::fill(told_, LinkStatus{});
  if (!planted(PlantedBug::kKeepBulk)) bulk_.reset(*pool_);
  if (vector_ && !planted(PlantedBug::kKeepVectorBase)) vector_->resend_all();
  record(EventKind::kView, view().coordinator, view().epoch.value, view().members.size());
  service_->on_view(context_);
  for (auto& [from, bytes] : std::exchange(future_frames_, {})) {
    receive({from, bytes.view()});
    pool_->give(std::move(bytes));
  }
}

std::span<const std::uint64_t> Node::vector_stamp() const {
  if (!vector_) return {};
  return vector_->entries();
}

bool Node::stalled() const {
  return std::ranges::any_of(receivers_, [](const LinkReceiver& link) { return link.stalled(); });
}

void Node::receive(const FrameArrived& arrived) {
  const auto frame = open_frame(arrived.bytes);
  if (!frame) {
    ++drops_.frames[static_cast<std::size_t>(frame.error())];
    return;
  }
  const FrameHeader& header = frame->header;
  if (header.from != arrived.from || header.from.value >= options_.ranks ||
      header.from == options_.self) {
    ++drops_.strangers;
    return;
  }
  // One that stays behind, although it is told, does not hear what is sent to it.
  if (header.epoch >= view().epoch) senders_[header.from.value].hear();
  if (is_control(header.kind)) return receive_control(arrived.from, *frame);
  receive_job_frame(arrived, *frame);
}

void Node::receive_job_frame(const FrameArrived& arrived, const Frame& frame) {
  const FrameHeader& header = frame.header;
  if (header.epoch > view().epoch) return hold_for_later(arrived);
  if (header.epoch < view().epoch && !planted(PlantedBug::kDeliverOldEpoch)) {  // I6
    ++drops_.other_epochs;
    change_membership([&](auto& out) { membership_.tell(header.from, out); });
    return;
  }
  if (!stable() && !planted(PlantedBug::kDeliverRevoked)) {  // I6
    ++drops_.revoked;
    return;
  }
  LinkReceiver& link = receivers_[header.from.value];
  switch (link.accept(header.sequence, arrived.bytes)) {
    case LinkReceiver::Verdict::kEarly:
      return;
    case LinkReceiver::Verdict::kDuplicate:
      ++drops_.duplicates;
      return;
    case LinkReceiver::Verdict::kOverflow:
      ++drops_.overflows;
      return;
    case LinkReceiver::Verdict::kDeliver:
      break;
  }
  if (!unheard_.empty()) unheard_.erase(header.from);
  deliver(link, frame);
  for (Buffer early; stable() && link.take_early(early);) deliver(link, *open_frame(early.view()));
}

// Its sender is in a view that this rank has yet to hear of.
void Node::hold_for_later(const FrameArrived& arrived) {
  if (future_frames_.size() == kFutureFramesMax) {
    ++drops_.overflows;
    return;
  }
  Buffer copy = pool_->take();
  copy.append(arrived.bytes);
  future_frames_.emplace_back(arrived.from, std::move(copy));
}

void Node::receive_control(RankId from, const Frame& frame) {
  if (frame.header.sequence != 0 || frame.header.flags != 0 || frame.header.lamport > kStampMax) {
    ++drops_.payloads;
    return;
  }
  lamport_.observe(frame.header.lamport);  // I10
  record(EventKind::kReceive, from, frame.header.lamport,
         static_cast<std::uint64_t>(frame.header.kind));
  if (frame.header.kind == MessageKind::kLinkStatus) {
    Reader reader(frame.body);
    const auto epoch = reader.get<Epoch>();
    LinkStatus status;
    status.sent = reader.get<std::uint64_t>();
    status.heard = reader.get<std::uint64_t>();
    if (!reader.complete()) {
      ++drops_.payloads;
    } else if (epoch == view().epoch) {
      if (!hear_of_link(from, status)) ++drops_.payloads;
    } else if (epoch < view().epoch) {
      change_membership([&](auto& out) { membership_.tell(from, out); });
    }
    return;
  }
  bool sensible = false;
  change_membership(
      [&](auto& out) { sensible = membership_.receive(from, frame.header.kind, frame.body, out); });
  if (!sensible) ++drops_.payloads;
}

void Node::deliver(LinkReceiver& link, const Frame& frame) {
  const FrameHeader& header = frame.header;
  const bool more_follows = header.flags & kFlagMoreFollows;
  auto payload = frame.body;
  if (!take_stamps(header, payload)) {
    link.spoil();  // without this part the message is none
    payload = {};
  } else {
    record(EventKind::kReceive, header.from, header.lamport,
           static_cast<std::uint64_t>(header.kind));
    if (!more_follows && !link.assembling()) {
      hand_over(header.from, header.kind, payload);
      return;
    }
  }
  switch (link.assemble(header.kind, payload, more_follows)) {
    case LinkReceiver::Assembly::kPartial:
      return;
    case LinkReceiver::Assembly::kSpoiled:
      ++drops_.payloads;
      return;
    case LinkReceiver::Assembly::kWhole:
      break;
  }
  const Buffer message = link.take_message();
  hand_over(header.from, header.kind, message.view());
}

// Moves the clocks past the sender's and cuts the vector stamp off the payload. False, with nothing
// changed, if a stamp is malformed or not there.
bool Node::take_stamps(const FrameHeader& header, std::span<const std::byte>& payload) {
  if (header.lamport > kStampMax) return false;
  if (header.flags & kFlagVectorClock) {
    const auto trailer = VectorClock::trailer(payload);
    if (trailer.empty() || (vector_ && !vector_->merge_changes(trailer))) return false;
    payload = payload.first(payload.size() - trailer.size());
  }
  lamport_.observe(planted(PlantedBug::kIgnoreStamps) ? 0 : header.lamport);  // I10
  return true;
}

void Node::hand_over(RankId from, MessageKind kind, std::span<const std::byte> payload) {
  if (is_bulk(kind)) {
    if (!bulk_.hear(from, kind, payload, bulk_output_)) ++drops_.payloads;
    return carry_out_bulk();
  }
  if (!service_->on_message(context_, from, kind, payload)) ++drops_.payloads;
}

// ---- bulk transfers ----

// Nothing of a revoked epoch is delivered (I6).
void Node::take_bulk_news(const BulkNews& news) {
  if (!stable()) return;
  std::visit(Overloaded{[this](const BulkMoved& moved) {
                          unmoved_.erase(moved.peer);
                          bulk_.moved(moved);
                        },
                        [this](const BulkSent& sent) { bulk_.sent(sent, bulk_output_); },
                        [this](const BulkArrived& arrived) {
                          unmoved_.erase(arrived.from);
                          bulk_.arrived(arrived, bulk_output_);
                        }},
             news);
  carry_out_bulk();
}

void Node::carry_out_bulk() {
  BulkDesk::Output todo = std::exchange(bulk_output_, {});
  for (const BulkDesk::Wanted& wanted : todo.receives) {
    output_->bulk_receives.push_back({wanted.from, wanted.tag, view().epoch, wanted.size});
  }
  for (BulkDesk::Outgoing& send : todo.sends) {
    output_->bulk_sends.push_back({send.to, send.tag, view().epoch, std::move(send.bytes)});
  }
  for (const BulkDesk::Saying& saying : todo.sayings) {
    context_.begin(saying.to, saying.kind).put_raw(saying.payload.view());
    send_begun();
  }
  drops_.bulks = bulk_.damaged();
  for (BulkDesk::Delivery& delivery : todo.deliveries) {
    service_->on_bulk(context_, delivery.from, delivery.kind, delivery.header.view(),
                      std::move(delivery.bytes), delivery.hash);
  }
  for (const BulkDesk::Delivery& damaged : todo.damaged) {
    service_->on_bulk_damaged(context_, damaged.from, damaged.kind, damaged.header.view());
  }
}

bool Node::send_begun_bulk(std::shared_ptr<const Buffer> bytes) {
  REGROUP_CHECK(begun_open_, "send_bulk() without begin()");
  REGROUP_CHECK(begun_to_ != options_.self, "a bulk transfer of a rank to itself");
  begun_open_ = false;
  bool queued = false;
  if (!stable()) {
    ++drops_.revoked;
  } else if (view().members.contains(begun_to_)) {
    const auto header = begun_.view().subspan(kFrameHeaderBytes);
    queued = bulk_.post(begun_to_, begun_kind_, header, std::move(bytes), bulk_output_);
  }
  pool_->give(std::move(begun_));
  carry_out_bulk();
  return queued;
}

void Service::on_bulk(Context& context, RankId, MessageKind, std::span<const std::byte>,
                      Buffer bytes, const BulkHash&) {
  context.give_large(std::move(bytes));
}

void Node::run_self_messages() {
  for (std::size_t round = 0; !self_messages_.empty(); ++round) {
    REGROUP_CHECK(round < kSelfRoundsMax, "a rank talks to itself without end");
    self_messages_now_.swap(self_messages_);
    for (SelfMessage& message : self_messages_now_) {
      lamport_.tick();
      hand_over(options_.self, message.kind, message.payload.view().subspan(kFrameHeaderBytes));
      pool_->give(std::move(message.payload));
    }
    self_messages_now_.clear();
  }
}

void Node::send_begun() {
  REGROUP_CHECK(begun_open_, "send() without begin()");
  begun_open_ = false;
  if (begun_to_ != options_.self && !stable()) {
    ++drops_.revoked;
    pool_->give(std::move(begun_));
    return;
  }
  if (begun_to_ == options_.self) {
    self_messages_.push_back({begun_kind_, std::move(begun_)});
    return;
  }
  REGROUP_CHECK(begun_.size() - kFrameHeaderBytes <= kMessageBytesMax,
                "a message beyond kMessageBytesMax: its receiver would drop it");
  const std::size_t trailer = vector_ ? trailer_bytes_max(options_.ranks) : 0;
  const std::size_t payload_max = kFrameBytesMax - kFrameHeaderBytes - trailer;
  if (begun_.size() - kFrameHeaderBytes <= payload_max) {
    send_frame(std::move(begun_), false);
    return;
  }
  auto left = begun_.view().subspan(kFrameHeaderBytes);
  while (!left.empty()) {
    const auto part = left.first(std::min(left.size(), payload_max));
    left = left.subspan(part.size());
    Buffer frame = pool_->take();
    frame.resize(kFrameHeaderBytes);
    frame.append(part);
    send_frame(std::move(frame), !left.empty());
  }
}

void Node::send_frame(Buffer frame, bool more_follows) {
  FrameHeader header{.kind = begun_kind_,
                     .flags = static_cast<std::uint8_t>(more_follows ? kFlagMoreFollows : 0),
                     .from = options_.self,
                     .epoch = view().epoch,
                     .sequence = senders_[begun_to_.value].next(),
                     .lamport = lamport_.tick()};
  if (vector_) {
    vector_->tick();
    vector_->put_changes(begun_to_, frame);
    header.flags |= kFlagVectorClock;
  }
  seal_frame(frame, header);
  record(EventKind::kSend, begun_to_, header.lamport, static_cast<std::uint64_t>(header.kind));
  output_->frames.push_back({begun_to_, std::move(frame), is_bulk(begun_kind_)});
}

void Node::record(EventKind kind, RankId peer, std::uint64_t a, std::uint64_t b, StageId stage,
                  Nanoseconds took) {
  if (level_of(kind) > options_.events) return;
  Event& event = output_->events.emplace_back(
      Event{kind, options_.self, peer, lamport_.now(), stage, a, b, view().epoch, took});
  if (!vector_ || !options_.event_vectors) return;
  const bool is_message = kind == EventKind::kSend || kind == EventKind::kReceive;
  const bool ticked = is_message && !is_control(MessageKind{static_cast<std::uint8_t>(b)});
  if (!ticked) vector_->tick();
  event.vector.assign(vector_->entries().begin(), vector_->entries().end());
}

Writer Context::begin(RankId to, MessageKind kind) {
  REGROUP_CHECK(!node_->begun_open_, "begin() before the message before was sent");
  REGROUP_CHECK(to.value < node_->options_.ranks, "a message to no rank");
  node_->begun_open_ = true;
  node_->begun_to_ = to;
  node_->begun_kind_ = kind;
  node_->begun_ = node_->pool_->take();
  node_->begun_.resize(kFrameHeaderBytes);
  return Writer(node_->begun_);
}

void Context::send() {
  node_->send_begun();
}

bool Context::send_bulk(std::shared_ptr<const Buffer> bytes) {
  return node_->send_begun_bulk(std::move(bytes));
}

Buffer Context::take_large(std::size_t bytes) {
  return node_->pool_->take_large(bytes);
}

void Context::give_large(Buffer buffer) {
  node_->pool_->give_large(std::move(buffer));
}

void Context::order(WorkOrder order) {
  node_->output_->orders.push_back(std::move(order));
}

void Context::reply(RegistryReply reply) {
  node_->output_->replies.push_back(std::move(reply));
}

void Context::ask_disk(DiskRequest request) {
  node_->output_->disk.push_back(std::move(request));
}

void Context::event(EventKind kind, RankId peer, StageId stage, std::uint64_t a, std::uint64_t b,
                    Nanoseconds took) {
  node_->record(kind, peer, a, b, stage, took);
}

void Context::has_left(RankId rank) {
  if (rank != self()) node_->membership_.has_left(rank);
}

void Context::request_new_view() {
  node_->new_view_wanted_ = true;
}

void Context::set_ledger(LedgerPosition position) {
  node_->membership_.set_ledger(position);
}

void Context::finish(Outcome outcome) {
  node_->output_->outcome = std::move(outcome);
}

}  // namespace regroup

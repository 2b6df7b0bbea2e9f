#include "runtime/host/host_loop.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <iterator>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "runtime/protocol/check.hpp"

namespace regroup {
namespace {

// Sleeps end within this of their time, instead of the kernel's usual 50 microseconds.
constexpr unsigned long kTimerSlackNanoseconds = 1'000;

void sleep_nanoseconds(Nanoseconds duration) {
  std::this_thread::sleep_for(std::chrono::nanoseconds(duration));
}

}  // namespace

HostLoop::HostLoop(Node& node, Transport& transport, Executor& executor, HostHooks hooks)
    : node_(&node),
      transport_(&transport),
      executor_(&executor),
      hooks_(std::move(hooks)),
      companion_timer_(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {
  if (companion_timer_ < 0) {
    throw std::system_error(errno, std::generic_category(), "a rank's timer");
  }
}

HostLoop::~HostLoop() {
  fence_thread_.reset();
  disk_thread_.reset();
  close(companion_timer_);
}

Outcome HostLoop::run() {
  prctl(PR_SET_TIMERSLACK, kTimerSlackNanoseconds, 0, 0, 0);
  if (hooks_.take_fence) fence_thread_.emplace(hooks_.on_thread);
  if (hooks_.use_disk) disk_thread_.emplace(hooks_.on_thread);
  {
    const std::lock_guard lock(mutex_);
    node_->start(now(), output_);
    view_ = node_->view();
    drain();
    flush();
  }
  set_companion_timer(kIdlePeriod, kIdlePeriod);
  std::thread companion_thread([this] {
    if (hooks_.on_thread) hooks_.on_thread();
    companion();
  });

  WorkResult result;
  time_ = idle_since_ = now();
  std::unique_lock lock(mutex_);
  while (!outcome_) {
    const bool heard = make_progress();
    push_bulk(kBulkSlice);
    if (outcome_) break;
    time_ = node_->now();
    const bool worked = work(result, lock);
    has_work_.store(worked, std::memory_order_relaxed);
    if (heard || worked) busy_again();
    if (worked) continue;
    lock.unlock();
    pause();
    lock.lock();
  }
  lock.unlock();
  companion_done_.store(true, std::memory_order_relaxed);
  set_companion_timer(1, 0);
  companion_thread.join();
  leave();
  return *outcome_;
}

// Computes until there is nothing to do or it is time to look at the network. What it has to send
// meanwhile waits for that look, which the companion takes if an order lasts.
bool HostLoop::work(WorkResult& result, std::unique_lock<std::mutex>& lock) {
  const Nanoseconds until = time_ + kWorkTime;
  bool worked = false;
  while (!outcome_ && time_ < until && time_aside() == 0 && take_order()) {
    lock.unlock();
    has_work_.store(true, std::memory_order_relaxed);
    if (!worked) hold_companion_off();
    compute(result);
    stand_aside();
    leader_waits_.store(true, std::memory_order_relaxed);
    lock.lock();
    leader_waits_.store(false, std::memory_order_relaxed);
    node_->step(WorkFinished{&result}, output_);
    drain();
    worked = true;
  }
  if (!worked) flush();
  return worked;
}

bool HostLoop::make_progress() {
  take_wishes();
  if (has_news_.load(std::memory_order_relaxed)) take_evidence();
  const std::size_t frames = poll();
  const bool moved = poll_bulk();
  while (const auto evidence = transport_->take_evidence()) {
    if (evidence->kind == EvidenceKind::kConfirmed && hooks_.on_death) {
      hooks_.on_death(evidence->rank);
    } else {
      learn(*evidence);
    }
  }
  node_->step(Tick{now()}, output_);
  const bool spoke = !output_.frames.empty();
  follow_view();
  drain();
  flush();
  ring();
  return frames != 0 || spoke || moved;
}

// ---- the registry ----

// The caller may be the leader, in the middle of an order: so it looks at the network itself, often
// at first and then less, as an idle leader does.
RegistryReply HostLoop::call(RegistryCall call) {
  Nanoseconds heard_at = now();
  std::unique_lock lock(mutex_);
  const std::uint64_t id = call.id = ++calls_;
  if (!outcome_) {
    node_->step(Tick{now()}, output_);
    node_->step(RegistryAsked{&call}, output_);
  }
  while (true) {
    if (!outcome_ && make_progress()) heard_at = now();
    if (auto reply = take_reply(id)) return std::move(*reply);
    lock.unlock();
    const Nanoseconds idle = now() - heard_at;
    if (idle < kPatienceMax) {
      sched_yield();
    } else {
      sleep_nanoseconds(std::clamp((idle - kPatienceMax) / 4, kPauseMin, kPauseMax));
    }
    lock.lock();
  }
}

// At the end of the run the rest will not be answered.
std::optional<RegistryReply> HostLoop::take_reply(std::uint64_t id) {
  if (auto found = replies_.extract(id)) return std::move(found.mapped());
  if (!outcome_) return {};
  return RegistryReply{id, RegistryStatus::kEnding, 0, {}};
}

// ---- the transport ----

std::size_t HostLoop::poll() {
  WatchedCall call(transport_calls_);
  return transport_->poll(
      [&](RankId from, std::span<const std::byte> bytes) {
        call.outside([&] { node_->step(FrameArrived{from, bytes}, output_); });
      },
      kFramesMax);
}

bool HostLoop::poll_bulk() {
  WatchedCall call(transport_calls_);
  const bool moved = transport_->poll_bulk(
      [&](const BulkNews& news) { call.outside([&] { node_->step(news, output_); }); });
  has_bulk_.store(transport_->has_bulk(), std::memory_order_relaxed);
  return moved;
}

// Without work the leader has nothing better to do than to look, and does.
void HostLoop::push_bulk(Nanoseconds slice) {
  if (!has_work_.load(std::memory_order_relaxed)) return;
  if (!has_bulk_.load(std::memory_order_relaxed)) return;
  const Nanoseconds until = node_->now() + slice;
  Nanoseconds moved_at = node_->now();
  while (!outcome_ && !leader_waits_.load(std::memory_order_relaxed) && node_->now() < until &&
         node_->now() - moved_at < kBulkWait) {
    if (make_progress()) {
      moved_at = node_->now();
    } else {
      sched_yield();
    }
    if (!has_bulk_.load(std::memory_order_relaxed)) return;
  }
}

void HostLoop::drop_bulk() {
  const WatchedCall call(transport_calls_);
  transport_->drop_bulk();
}

// Bytes move as fast as the slower end looks for them: those who compute are to look as well.
void HostLoop::ring_bulk_peers() {
  if (hooks_.bell == nullptr || !has_work_.load(std::memory_order_relaxed)) return;
  if (!has_bulk_.load(std::memory_order_relaxed)) return;
  for (const RankId peer : transport_->bulk_peers()) hooks_.bell->ring(peer);
}

void HostLoop::flush() {
  const WatchedCall call(transport_calls_);
  transport_->flush();
}

// Those for whom something urgent has left.
void HostLoop::ring() {
  for (const RankId rank : to_ring_) hooks_.bell->ring(rank);
  to_ring_.clear();
}

// ---- failures ----

void HostLoop::learn(const PeerEvidence& evidence) {
  {
    const std::lock_guard lock(news_mutex_);
    news_.emplace_back(evidence);
    if (evidence.kind == EvidenceKind::kLeft) {
      left_.insert(evidence.rank);
    } else if (evidence.kind != EvidenceKind::kTrusted) {
      if (!noticed_) noticed_ = {evidence, monotonic()};
    } else if (noticed_ && noticed_->evidence.rank == evidence.rank) {
      noticed_.reset();
    }
  }
  has_news_.store(true, std::memory_order_relaxed);
  const bool failure =
      evidence.kind != EvidenceKind::kTrusted && evidence.kind != EvidenceKind::kLeft;
  if (failure) begin_recovery();
  // The leader may sleep or compute: the companion looks at once, and again soon.
  wake_companion(1, failure ? kRecoveryPeriod : kCompanionPeriod);
}

void HostLoop::take_evidence() {
  std::vector<Input> news;
  std::vector<DiskAnswer> answers;
  {
    const std::lock_guard lock(news_mutex_);
    news.swap(news_);
    answers.swap(disk_answers_);
    has_news_.store(false, std::memory_order_relaxed);
  }
  node_->step(Tick{now()}, output_);
  for (const Input& input : news) {
    if (std::holds_alternative<FenceAnswer>(input)) fence_busy_ = false;
    node_->step(input, output_);
  }
  for (DiskAnswer& answer : answers) node_->step(DiskAnswered{&answer}, output_);
}

void HostLoop::follow_view() {
  const bool stable = node_->stable();
  if (was_stable_ && !stable) {
    revoked_at_ = monotonic();
    drop_bulk();
    if (hooks_.on_revoked) hooks_.on_revoked(view_);
    begin_recovery();
    wake_companion(kRecoveryPeriod, kRecoveryPeriod);
  }
  was_stable_ = stable;
  if (node_->view().epoch != view_.epoch) enter_view();
  const bool settled = stable && !has_news_.load(std::memory_order_relaxed);
  if (settled && recovering_.load(std::memory_order_relaxed)) {
    end_recovery();
    wake_companion(kHoldOff, kCompanionPeriod);
  }
}

// ---- standing aside ----

void HostLoop::begin_recovery() {
  if (recovering_.exchange(true, std::memory_order_relaxed)) return;
  aside_until_.store(monotonic() + kAsideMax, std::memory_order_relaxed);
}

void HostLoop::end_recovery() {
  recovering_.store(false, std::memory_order_relaxed);
  {
    const std::lock_guard lock(aside_mutex_);
    const Nanoseconds until = aside_until_.load(std::memory_order_relaxed);
    aside_until_.store(std::min(until, monotonic() + kAsideAfter), std::memory_order_relaxed);
  }
  aside_changed_.notify_one();
}

Nanoseconds HostLoop::time_aside() {
  Nanoseconds until = aside_until_.load(std::memory_order_relaxed);
  if (until == 0) return 0;
  const Nanoseconds left = until - monotonic();
  if (left > 0) return left;
  aside_until_.compare_exchange_strong(until, 0, std::memory_order_relaxed);
  return 0;
}

// The leader begins no order. It looks as often as its companion does, since the kernel may have
// one of them wait while the other's core is free, but it waits for no lock: it would be kept
// waiting with it where a companion with its short slices is not.
void HostLoop::stand_aside() {
  while (const Nanoseconds left = time_aside()) {
    std::unique_lock aside(aside_mutex_);
    aside_changed_.wait_for(aside, std::chrono::nanoseconds(std::min(left, kRecoveryPeriod)));
    aside.unlock();
    if (!recovering_.load(std::memory_order_relaxed)) continue;
    if (const std::unique_lock lock(mutex_, std::try_to_lock); lock) make_progress();
  }
}

void HostLoop::enter_view() {
  const View before = std::exchange(view_, node_->view());
  {
    const WatchedCall call(transport_calls_);
    for (const RankId rank : node_->membership().confirmed()) transport_->abandon(rank);
    transport_->enter(view_);
  }
  const RankSet lost = remember_entry(before);
  if (hooks_.on_view) hooks_.on_view(view_, lost);
}

// Returns who was lost.
RankSet HostLoop::remember_entry(const View& before) {
  Recovery recovery{.epoch = view_.epoch, .lost = before.members, .joined = view_.joined};
  recovery.lost.erase_all(view_.members);
  recovery.entered = monotonic();
  const Nanoseconds revoked = std::exchange(revoked_at_, 0);
  recovery.detected = recovery.revoked = revoked != 0 ? revoked : recovery.entered;
  {
    const std::lock_guard lock(news_mutex_);
    recovery.lost.erase_all(left_);
    if (noticed_ && before.members.contains(noticed_->evidence.rank)) {
      recovery.evidence = noticed_->evidence.kind;
      recovery.detected = std::min(noticed_->at, recovery.revoked);
    }
    // A member that is dead ends this view as well; one that was silent has spoken.
    const bool of_this_view = noticed_ && view_.members.contains(noticed_->evidence.rank) &&
                              noticed_->evidence.kind == EvidenceKind::kConfirmed;
    if (!of_this_view) noticed_.reset();
  }
  RankSet lost = recovery.lost;
  if (recoveries_.size() < kRecoveriesMax) recoveries_.push_back(std::move(recovery));
  return lost;
}

// An order has been taken.
void HostLoop::remember_work() {
  if (recoveries_.empty() || recoveries_.back().resumed) return;
  const bool goes_on = order_->kind == WorkKind::kRun || order_->kind == WorkKind::kStep;
  if (goes_on && recoveries_.back().epoch == view_.epoch) {
    recoveries_.back().resumed = monotonic();
  }
}

void HostLoop::ask_for_fence(FenceRequest request) {
  if (!fence_thread_ || std::exchange(fence_busy_, true)) return;
  fence_thread_->post([this, request = std::move(request)] {
    FenceAnswer answer = hooks_.take_fence(request);
    {
      const std::lock_guard lock(news_mutex_);
      news_.emplace_back(std::move(answer));
    }
    has_news_.store(true, std::memory_order_relaxed);
    wake_companion(1, kRecoveryPeriod);
  });
}

// ---- the disk ----

void HostLoop::ask_disk(DiskRequest request) {
  const DiskTask task = request.task;
  const CheckpointNumber checkpoint = request.checkpoint;
  if (!disk_thread_) {
    return answer_disk({.task = task, .checkpoint = checkpoint, .error = "there is no disk"});
  }
  const bool taken = disk_thread_->post(
      [this, request = std::move(request)]() mutable { answer_disk(hooks_.use_disk(request)); });
  if (taken) return;
  answer_disk({.task = task, .checkpoint = checkpoint, .error = "the disk has too much to do"});
}

void HostLoop::answer_disk(DiskAnswer answer) {
  {
    const std::lock_guard lock(news_mutex_);
    disk_answers_.push_back(std::move(answer));
  }
  has_news_.store(true, std::memory_order_relaxed);
  wake_companion(1, kCompanionPeriod);
}

// ---- wishes ----

void HostLoop::take_wishes() {
  if (!has_wishes_.load(std::memory_order_relaxed)) return;
  has_wishes_.exchange(false, std::memory_order_acquire);
  for (std::size_t i = 0; i < wish_signals_.size(); ++i) {
    const int signal = wish_signals_[i].exchange(0, std::memory_order_relaxed);
    if (signal == 0) continue;
    const Wish wish{static_cast<std::uint8_t>(i)};
    node_->step(WishArrived{wish, std::string(kStoppedBySignal) + std::to_string(signal)}, output_);
  }
}

// What is of a view that has ended, or does, is not begun any more; nothing is of a later one than
// the transport's.
void HostLoop::drain() {
  if (node_->view().epoch != view_.epoch) follow_view();
  for (const BulkReceive& receive : output_.bulk_receives) {
    const WatchedCall call(transport_calls_);
    if (was_stable_ && receive.epoch == view_.epoch) transport_->receive_bulk(receive);
  }
  for (OutgoingFrame& frame : output_.frames) {
    if (frame.urgent && hooks_.bell != nullptr) to_ring_.insert(frame.to);
    const WatchedCall call(transport_calls_);
    transport_->send(frame.to, std::move(frame.bytes));
  }
  for (BulkSend& send : output_.bulk_sends) {
    const WatchedCall call(transport_calls_);
    if (was_stable_ && send.epoch == view_.epoch) transport_->send_bulk(std::move(send));
  }
  for (WorkOrder& order : output_.orders) {
    REGROUP_CHECK(!order_, "an order before the last one was taken");
    order_ = std::move(order);
  }
  for (RegistryReply& reply : output_.replies) replies_[reply.id] = std::move(reply);
  if (output_.fence) ask_for_fence(std::move(*output_.fence));
  for (DiskRequest& request : output_.disk) ask_disk(std::move(request));
  if (output_.outcome && !outcome_) outcome_ = std::move(output_.outcome);
  if (hooks_.on_events && !output_.events.empty()) hooks_.on_events(output_.events, monotonic());
  output_.clear();
}

bool HostLoop::take_order() {
  if (transport_->backlog_bytes() > kBacklogBytesMax) return false;
  node_->step(WorkWanted{}, output_);
  drain();
  if (order_) remember_work();
  return order_.has_value();
}

// The order's time includes the way to it since the last look at the clock, which is short.
void HostLoop::compute(WorkResult& result) {
  WorkOrder order = std::move(*order_);
  order_.reset();
  result.restart(order);
  executor_->execute(order, result);
  const Nanoseconds begin = std::exchange(time_, now());
  last_order_ = result.elapsed = time_ - begin;
}

void HostLoop::busy_again() {
  const Nanoseconds idle = time_ - std::exchange(idle_since_, time_);
  if (idle > kPatienceMax) {
    patience_ = std::max(patience_ / 2, kPatienceMin);
  } else {
    patience_ = std::min(patience_ * 2, kPatienceMax);
  }
}

void HostLoop::pause() {
  if (time_aside() != 0) return stand_aside();
  const Nanoseconds idle = time_ - idle_since_;
  if (idle < std::min(kSpinTime, patience_)) return;
  const bool has_bulk = has_bulk_.load(std::memory_order_relaxed);
  if (idle < patience_ || (has_bulk && idle < kBulkPatience)) {
    sched_yield();
    return;
  }
  if (recovering_.load(std::memory_order_relaxed)) return sleep_nanoseconds(kPauseMin);
  companion_due_ = 0;
  if (!companion_idles_.exchange(true, std::memory_order_relaxed)) {
    set_companion_timer(kIdlePeriod, kIdlePeriod);
  }
  // Sleep about as long as it has been idle already, within bounds.
  sleep_nanoseconds(std::clamp((idle - patience_) / 2, kPauseMin, kPauseMax));
}

void HostLoop::hold_companion_off() {
  if (has_bulk_.load(std::memory_order_relaxed)) {  // it is to be at that all the time
    if (companion_due_ == 0 || companion_due_ > time_) wake_companion(1, kCompanionPeriod);
    companion_due_ = time_;
    return;
  }
  const Nanoseconds hold = last_order_ < kCompanionPeriod ? kHoldOffShort : kHoldOff;
  if (companion_due_ - time_ >= hold / 2) return;
  if (recovering_.load(std::memory_order_relaxed)) return;
  wake_companion(hold, kCompanionPeriod);
  companion_due_ = time_ + hold;
}

// An idle leader puts the timer back to the idle period.
void HostLoop::wake_companion(Nanoseconds first, Nanoseconds then) {
  companion_idles_.store(false, std::memory_order_relaxed);
  set_companion_timer(first, then);
}

// Goes off after `first` and then every `then`.
void HostLoop::set_companion_timer(Nanoseconds first, Nanoseconds then) {
  const itimerspec times{
      .it_interval = {.tv_sec = then / kSecond, .tv_nsec = then % kSecond},
      .it_value = {.tv_sec = first / kSecond, .tv_nsec = first % kSecond},
  };
  REGROUP_CHECK(timerfd_settime(companion_timer_, 0, &times, nullptr) == 0,
                "a rank's timer cannot be set");
}

// Until its timer goes off or its bell is rung.
void HostLoop::await_companion_turn() {
  pollfd sources[] = {{companion_timer_, POLLIN, 0},
                      {hooks_.bell != nullptr ? hooks_.bell->fd() : -1, POLLIN, 0}};
  REGROUP_CHECK(::poll(sources, std::size(sources), -1) > 0 || errno == EINTR,
                "a companion can wait");
  if (sources[1].revents != 0) hooks_.bell->answer();
  if (sources[0].revents == 0) return;
  std::uint64_t times = 0;
  const ssize_t got = read(companion_timer_, &times, sizeof times);
  REGROUP_CHECK(got == sizeof times || errno == EAGAIN, "a rank's timer cannot be read");
}

void HostLoop::place_companion(HostHooks::Companion& what, Nanoseconds& bulk_at) {
  const Nanoseconds time = now();
  if (has_bulk_.load(std::memory_order_relaxed)) bulk_at = time;
  const bool bulk = bulk_at != 0 && time - bulk_at < kBulkMayFollow;
  const auto now_it = bulk ? HostHooks::Companion::kMovesBulk : HostHooks::Companion::kKeepsInTouch;
  if (std::exchange(what, now_it) != now_it && hooks_.on_companion) hooks_.on_companion(now_it);
}

void HostLoop::companion() {
  Nanoseconds ended_at = 0;
  auto what = HostHooks::Companion::kKeepsInTouch;
  Nanoseconds bulk_at = 0;
  while (true) {
    await_companion_turn();
    if (companion_done_.load(std::memory_order_relaxed)) return;
    place_companion(what, bulk_at);
    std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock) continue;
    make_progress();
    push_bulk(kCompanionBulkSlice);
    ring_bulk_peers();
    if (!outcome_) continue;
    if (ended_at == 0) ended_at = now();
    if (now() - ended_at < kLeaveTimeout) continue;
    lock.unlock();
    if (hooks_.on_cut_off) hooks_.on_cut_off(*outcome_);
    std::fprintf(stderr, "regroup: rank %u ends in the middle of a shard\n",
                 transport_->self().value);
    _exit(outcome_->exit_status);
  }
}

void HostLoop::leave() {
  const std::lock_guard lock(mutex_);
  const Nanoseconds deadline = now() + kLeaveTimeout;
  while (transport_->backlog_bytes() != 0 && now() < deadline) {
    const WatchedCall call(transport_calls_);
    transport_->poll([](RankId, std::span<const std::byte>) {}, kFramesMax);
  }
}

}  // namespace regroup

// Drives one rank's Node in the real world. The calling thread computes and, between orders, makes
// progress (leader); a companion thread makes progress instead while an order keeps the leader
// busy, so that a shard of an hour delays no message, and looks after an idle leader now and then,
// which the kernel may leave waiting. A rank with nothing to do spins briefly, then yields, then
// sleeps, since ranks often share cores; it waits awake only as long as that has been paying off.
// Whoever makes progress holds one lock, under which alone MPI and the Node are touched; user code
// runs without it. While the ranks agree on a view the companions do that alone, woken by each
// other's bells, and no leader begins an order.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "runtime/host/call_watch.hpp"
#include "runtime/host/doorbell.hpp"
#include "runtime/host/recovery.hpp"
#include "runtime/host/side_thread.hpp"
#include "runtime/host/transport.hpp"
#include "runtime/protocol/node.hpp"

namespace regroup {

// How the message of a run that a signal ended begins.
inline constexpr std::string_view kStoppedBySignal = "stopped by signal ";

// What a host loop is told to do besides. All are optional; on_revoked and on_view are called with
// the loop's lock held.
struct HostHooks {
  // These two are called on a thread of their own each. Without the second every request to the
  // disk fails.
  std::function<FenceAnswer(const FenceRequest&)> take_fence;
  std::function<DiskAnswer(DiskRequest&)> use_disk;
  std::function<void(const View&)> on_revoked;  // of the view that ends
  // Entered just now; `lost`: see Recovery.
  std::function<void(const View&, const RankSet& lost)> on_view;
  // Of a step, on the monotonic clock. Must not wait.
  std::function<void(std::span<const Event>, Nanoseconds)> on_events;
  std::function<void()> on_thread;  // on each thread that the loop starts, first of all
  // On the companion, when it begins or ends to move bulk transfers.
  enum class Companion : std::uint8_t { kKeepsInTouch, kMovesBulk };
  std::function<void(Companion)> on_companion;
  // The transport has found a rank dead. Whoever knows which ranks have left says whether that was
  // a failure, and calls learn(); without this hook it is one.
  std::function<void(RankId)> on_death;
  // Of this rank, to ring and to be rung; outlives the loop. Without it ranks look by themselves.
  const Doorbell* bell = nullptr;
  // The run is over, and an order under way keeps the leader: the process is about to end without
  // it, with this outcome. Called on another thread, without the lock.
  std::function<void(const Outcome&)> on_cut_off;
};

class HostLoop {
 public:
  // An idle rank spins this long, then yields until its patience ends, then sleeps up to the pause
  // at most. Patience halves with every idle time that outlasts the most of it, and doubles with
  // every one that does not.
  static constexpr Nanoseconds kSpinTime = 10 * kMicrosecond;
  static constexpr Nanoseconds kPatienceMin = 5 * kMicrosecond;
  static constexpr Nanoseconds kPatienceMax = 200 * kMicrosecond;
  static constexpr Nanoseconds kPauseMin = 20 * kMicrosecond;
  static constexpr Nanoseconds kPauseMax = kMillisecond;
  // With a bulk transfer under way it yields that long, for the next chunk is never far.
  static constexpr Nanoseconds kBulkPatience = 2 * kMillisecond;
  // A rank that computes goes on with bulk transfers for so long at a time, as long as something
  // moves or did so a moment ago: both ends must be at it at the same time. The companion ends
  // sooner when the leader has done with an order.
  static constexpr Nanoseconds kBulkSlice = kMillisecond;
  static constexpr Nanoseconds kCompanionBulkSlice = 10 * kMillisecond;
  static constexpr Nanoseconds kBulkWait = 200 * kMicrosecond;
  // A transfer that ends is often followed by another one.
  static constexpr Nanoseconds kBulkMayFollow = 100 * kMillisecond;
  // How often the companion makes progress while an order holds up the leader, which pushes the
  // companion's timer ahead for as long as it is not held up: further where orders are short, since
  // then it is held up only by another rank on its core, which the companion would disturb.
  static constexpr Nanoseconds kCompanionPeriod = 2 * kMillisecond;
  static constexpr Nanoseconds kHoldOff = 2 * kCompanionPeriod;
  static constexpr Nanoseconds kHoldOffShort = 5 * kCompanionPeriod;
  // How often the companion makes progress while the leader is idle, and does so itself: a leader
  // that is pinned may get no core for seconds beside other programs.
  static constexpr Nanoseconds kIdlePeriod = 20 * kMillisecond;
  // Short orders follow each other for this long before the leader looks at the network again.
  static constexpr Nanoseconds kWorkTime = 50 * kMicrosecond;
  // While the members agree on a view, a rank that nobody rings looks this often. It begins no
  // order, for so long at most, nor in the first moments of the view, when others that share its
  // core have yet to enter it.
  static constexpr Nanoseconds kRecoveryPeriod = 500 * kMicrosecond;
  static constexpr Nanoseconds kAsideMax = 20 * kMillisecond;
  static constexpr Nanoseconds kAsideAfter = kMillisecond;
  // Frames taken in at a time, so that one round stays short.
  static constexpr std::size_t kFramesMax = 256;
  // No new order while more than this waits to be sent.
  static constexpr std::size_t kBacklogBytesMax = std::size_t{64} << 20;
  // After the end: to let the last frames leave, and to let an order under way finish.
  static constexpr Nanoseconds kLeaveTimeout = 2 * kSecond;
  // The first so many recoveries are remembered.
  static constexpr std::size_t kRecoveriesMax = 256;

  // All outlive it. Throws std::system_error if the system has no timer to give.
  HostLoop(Node& node, Transport& transport, Executor& executor, HostHooks hooks = {});
  ~HostLoop();
  HostLoop(const HostLoop&) = delete;
  HostLoop& operator=(const HostLoop&) = delete;

  // Runs the rank to its end. Once, and not from several threads.
  Outcome run();

  // A user wishes something of the run, by this signal. Safe to call from a signal handler.
  void wish(Wish wish, int signal) {
    wish_signals_[static_cast<std::size_t>(wish)].store(signal, std::memory_order_relaxed);
    has_wishes_.store(true, std::memory_order_release);
  }

  // Something was noticed about a peer. Any thread.
  void learn(const PeerEvidence& evidence);

  // Asks the registry, and makes progress until the reply is there. For user code: any thread but
  // one that is inside this loop. Over at the call's timeout, or when the run is.
  RegistryReply call(RegistryCall call);

  // For whoever looks whether the transport is stuck in a call. It then holds the loop's lock, and
  // no other method but learn() and wish() would return.
  CallWatch& transport_calls() { return transport_calls_; }

  // Oldest first. Any thread.
  std::vector<Recovery> recoveries() {
    const std::lock_guard lock(mutex_);
    return recoveries_;
  }

  // Calls `look` while nothing changes the Node; keep it short. Any thread.
  template <class Look>
  void inspect(Look look) {
    const std::lock_guard lock(mutex_);
    look(static_cast<const Node&>(*node_));
  }

 private:
  using Clock = std::chrono::steady_clock;

  Nanoseconds now() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start_).count();
  }
  static Nanoseconds monotonic() {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch())
        .count();
  }
  // These hold the lock.
  bool make_progress();
  std::size_t poll();
  bool poll_bulk();
  void push_bulk(Nanoseconds slice);
  void drop_bulk();
  void ring_bulk_peers();
  void flush();
  void drain();
  void ring();
  bool take_order();
  void take_evidence();
  void follow_view();
  void enter_view();
  RankSet remember_entry(const View& before);
  void remember_work();
  void ask_for_fence(FenceRequest request);
  void ask_disk(DiskRequest request);
  void answer_disk(DiskAnswer answer);
  void take_wishes();

  void begin_recovery();
  void end_recovery();
  Nanoseconds time_aside();
  void stand_aside();

  bool work(WorkResult& result, std::unique_lock<std::mutex>& lock);
  void compute(WorkResult& result);
  std::optional<RegistryReply> take_reply(std::uint64_t id);
  void busy_again();
  void pause();
  void hold_companion_off();
  void set_companion_timer(Nanoseconds first, Nanoseconds then);
  void wake_companion(Nanoseconds first, Nanoseconds then);
  void companion();
  void await_companion_turn();
  void place_companion(HostHooks::Companion& what, Nanoseconds& bulk_at);
  void leave();

  Node* node_;
  Transport* transport_;
  Executor* executor_;
  Clock::time_point start_ = Clock::now();

  std::mutex mutex_;  // of the Node, the transport and what follows
  CallWatch transport_calls_;
  Output output_;
  RankSet to_ring_;  // to whom something urgent is under way
  std::optional<WorkOrder> order_;
  std::optional<Outcome> outcome_;
  std::uint64_t calls_ = 0;
  std::map<std::uint64_t, RegistryReply> replies_;  // to calls, not fetched
  HostHooks hooks_;
  View view_;  // as last seen
  bool was_stable_ = true;
  Nanoseconds revoked_at_ = 0;  // 0: not since the last view was entered
  std::vector<Recovery> recoveries_;
  bool fence_busy_ = false;

  std::mutex news_mutex_;  // of what other threads have to tell
  std::vector<Input> news_;
  std::vector<DiskAnswer> disk_answers_;
  struct Noticed {
    PeerEvidence evidence;
    Nanoseconds at = 0;
  };
  std::optional<Noticed> noticed_;  // first, against a member of the view
  RankSet left_;                    // have said their last word
  std::atomic<bool> has_news_ = false;
  std::atomic<bool> has_bulk_ = false;
  std::atomic<bool> leader_waits_ = false;  // for the companion
  std::atomic<bool> has_work_ = false;      // there was an order when the leader last asked
  std::atomic<bool> recovering_ = false;
  std::atomic<Nanoseconds> aside_until_ = 0;  // by the monotonic clock; 0: not aside
  std::mutex aside_mutex_;                    // of its shortening
  std::condition_variable aside_changed_;

  // The leader's own.
  Nanoseconds time_ = 0;  // of its last look at the clock
  Nanoseconds idle_since_ = 0;
  Nanoseconds patience_ = kPatienceMax;
  Nanoseconds last_order_ = 0;     // how long it took
  Nanoseconds companion_due_ = 0;  // 0: the leader is idle

  std::array<std::atomic<int>, 3> wish_signals_{};  // by Wish; 0: none
  std::atomic<bool> has_wishes_ = false;
  std::atomic<bool> companion_idles_ = true;  // its timer has the idle period
  std::atomic<bool> companion_done_ = false;
  int companion_timer_ = -1;

  // A file system may take its time while peers must be answered, and a new thread its time to
  // start: so one waits for the fences there are to take, and one for what is to be kept. Last:
  // they set the timer.
  std::optional<SideThread> fence_thread_;
  std::optional<SideThread> disk_thread_;
};

}  // namespace regroup

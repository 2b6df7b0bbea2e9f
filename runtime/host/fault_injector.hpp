// Carries out a rank's share of a FaultPlan: the rank kills or stops itself, gets stuck in its
// transport, computes slowly, sends twice or late, or has a disk or a device that fails. It stands
// between the host loop and the rank's executor and transport, between its checkpoints and their
// files, and before its device, has a thread of its own for what happens at a time, and is told of
// the protocol's points by whoever reaches them. A line on standard error says what strikes, before
// it does. Without a plan nothing of this is made.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <sys/types.h>

#include "runtime/host/device_guard.hpp"
#include "runtime/host/fault_plan.hpp"
#include "runtime/host/file_system.hpp"
#include "runtime/host/transport.hpp"
#include "runtime/protocol/node.hpp"
#include "runtime/protocol/work.hpp"

namespace regroup {

// A process that stops this one and has it continue. Make it before any thread is started and
// before MPI is; it holds no file of this process open, and ends with it.
class StopHelper {
 public:
  // Throws std::system_error if there can be no such process.
  StopHelper();
  ~StopHelper();
  StopHelper(const StopHelper&) = delete;
  StopHelper& operator=(const StopHelper&) = delete;

  // Returns when this process was stopped for so long.
  void stop_this_process(Nanoseconds duration);

 private:
  int commands_ = -1;
  int answers_ = -1;
  pid_t pid_ = 0;
};

class FaultInjector {
 public:
  // The newest view. It may take the host loop's lock, so it is never called where that is held.
  using ViewNow = std::function<View()>;
  // Whether this rank is the first to strike with fault number `fault` of the plan. For faults that
  // name no rank: without it, one that kills the coordinator would also kill the next one, when its
  // time comes there.
  using FirstToStrike = std::function<bool(std::size_t fault)>;

  // Make it before threads and MPI are started: a plan with a stop needs a process of its own.
  FaultInjector(FaultPlan plan, RankId self);
  ~FaultInjector();
  FaultInjector(const FaultInjector&) = delete;
  FaultInjector& operator=(const FaultInjector&) = delete;

  // Both before the first order.
  void watch(ViewNow view_now) { view_now_ = std::move(view_now); }
  void ask_first(FirstToStrike first_to_strike) { first_to_strike_ = std::move(first_to_strike); }

  // This rank is at one of kEnd, kElection, kAgreement, kShrink. To be called on every rank that
  // takes part, every time: a fault's chance is the first such call on a rank, whomever it strikes.
  // `view`: the one being formed where there is one, else the newest; coordinator and successor are
  // its first and second member. Any thread, with any lock held; may not return.
  void reached(FaultPoint point, const View& view);

  // No fault at a time strikes any more. Before what `watch` was given becomes invalid.
  void stop_clock();

  // ---- for the executor and the transport below ----
  // The first order has come: faults at the start strike, and the clock of those at a time starts.
  void begin();
  // The last order of a coordinator is done.
  void end();
  // So many more shards are done.
  void computed(std::uint64_t shards);
  // How many more shards this rank computes before a fault's time comes; most of all if none waits.
  std::uint64_t shards_to_next() const;
  // How many times longer an order takes just now.
  double slowness() const;
  // What this rank sends to others: all of it twice; held back by so much.
  bool sends_twice() const;
  Nanoseconds sends_late() const;
  // Returns unless this rank is to be stuck.
  void enter_transport() const;
  // What is to become of a call on this rank's device just now. On the thread of begin().
  DeviceFault device_fault() const;

  // ---- for the checkpoints and their file system below, on the one thread that uses them ----
  // The rank begins to write its share of a checkpoint.
  void begin_checkpoint_write();
  // It is at one of kPart, kManifest, kSeal, kSealed.
  void reached_in_checkpoint(FaultPoint point) { reached(point, view_now_()); }
  // What ails the disk just now: an errno; 0: nothing.
  int disk_error() const;

 private:
  using Clock = std::chrono::steady_clock;

  bool hits_self(const Fault& fault, const View& view) const;
  bool take_chance(std::size_t fault);
  void meet(std::size_t fault, const View& view);
  void strike(const Fault& fault);
  void break_disk(const Fault& fault);
  void keep_time();

  struct DiskFault {
    int error_number;
    Clock::time_point over;
  };

  FaultPlan plan_;
  RankId self_;
  ViewNow view_now_;
  FirstToStrike first_to_strike_;
  std::optional<StopHelper> stop_helper_;
  Clock::time_point begun_at_;  // this and the next: the computing thread's own
  std::uint64_t computed_ = 0;
  std::uint64_t checkpoint_writes_ = 0;  // this and the next: the checkpoints' thread's own
  std::vector<DiskFault> disk_faults_;

  std::mutex mutex_;
  std::vector<bool> over_;  // by fault: its chance on this rank is gone
  std::mutex strike_mutex_;
  std::atomic<bool> stuck_ = false;

  std::mutex timer_mutex_;
  std::condition_variable timer_wake_;
  bool timer_done_ = false;
  std::thread timer_;
};

// Counts the shards of the executor it stands before, and slows it down.
class FaultyExecutor : public Executor {
 public:
  // Both outlive it.
  FaultyExecutor(Executor& inner, FaultInjector& injector) : inner_(&inner), injector_(&injector) {}

  void execute(WorkOrder& order, WorkResult& result) override;

 private:
  void run_shards(WorkOrder& order, WorkResult& result);

  Executor* inner_;
  FaultInjector* injector_;
  bool begun_ = false;
};

// The files of checkpoints: writing fails as a full or broken disk's would, and the steps of a
// checkpoint at which a fault may strike are seen as they come.
class FaultyFileSystem : public FileSystem {
 public:
  // It outlives it.
  explicit FaultyFileSystem(FaultInjector& injector) : injector_(&injector) {}

  int open(const char* path, int flags, mode_t mode) override;
  ssize_t write(int fd, const void* bytes, std::size_t count) override;
  ssize_t pwrite(int fd, const void* bytes, std::size_t count, off_t offset) override;
  int fsync(int fd) override;
  int link(const char* from, const char* to) override;

 private:
  bool writing_fails() const;

  FaultInjector* injector_;
};

// Sends frames twice, holds them back, or never returns from a call, as the plan has it for this
// rank.
class FaultyTransport : public Transport {
 public:
  // Both outlive it.
  FaultyTransport(Transport& inner, const FaultInjector& injector)
      : inner_(&inner),
        injector_(&injector),
        twice_(injector.sends_twice()),
        late_(injector.sends_late()) {}

  RankId self() const override { return inner_->self(); }
  std::uint32_t ranks() const override { return inner_->ranks(); }
  void send(RankId to, Buffer frame) override;
  void flush() override;
  std::size_t poll(const FrameHandler& handler, std::size_t frames_max) override;
  void send_bulk(BulkSend send) override { inner_->send_bulk(std::move(send)); }
  void receive_bulk(const BulkReceive& receive) override { inner_->receive_bulk(receive); }
  bool poll_bulk(const BulkHandler& handler) override { return inner_->poll_bulk(handler); }
  void drop_bulk() override { inner_->drop_bulk(); }
  bool has_bulk() const override { return inner_->has_bulk(); }
  RankSet bulk_peers() const override { return inner_->bulk_peers(); }
  void abandon(RankId rank) override { inner_->abandon(rank); }
  std::optional<PeerEvidence> take_evidence() override { return inner_->take_evidence(); }
  void enter(const View& view) override { inner_->enter(view); }
  std::size_t backlog_bytes() const override { return inner_->backlog_bytes() + held_bytes_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Held {
    Clock::time_point due;
    RankId to;
    Buffer frame;
  };

  void let_go();
  void pass(RankId to, Buffer frame);

  Transport* inner_;
  const FaultInjector* injector_;
  bool twice_;
  Nanoseconds late_;
  std::deque<Held> held_;  // in order of time
  std::size_t held_bytes_ = 0;
};

}  // namespace regroup

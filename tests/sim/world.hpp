// A whole cluster in one thread on virtual time: the real Node and Scheduler of every rank, a
// pretend network between them and pretend computing under them. Events run in the order of (time,
// number), so a run is a pure function of its options (I14). The world delivers, computes and
// ticks; the Checkers judge. It ends at the first violation, or when every rank has ended.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "runtime/protocol/node.hpp"
#include "scheduler/scheduler.hpp"
#include "tests/sim/agreement_checkers.hpp"
#include "tests/sim/bulk_checker.hpp"
#include "tests/sim/checkers.hpp"
#include "tests/sim/pretend_disk.hpp"
#include "tests/sim/pretend_job.hpp"
#include "tests/sim/probes.hpp"
#include "tests/sim/registry_user.hpp"
#include "tests/sim/world_options.hpp"

namespace regroup::sim {

// Control messages of one rank from the first death on, without those on the state of links.
struct ControlTraffic {
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  std::uint64_t revokes = 0;  // of both
  std::uint64_t bytes = 0;    // of both
};

struct Report {
  std::optional<std::string> violation;
  std::uint64_t trace_hash = 0;  // of every event and frame, in order (I14)
  Nanoseconds virtual_time = 0;
  std::uint64_t steps = 0;
  std::uint64_t frames = 0;
  std::size_t frames_in_flight_max = 0;
  Nanoseconds time_bound = 0;
  int exit_status = -1;                 // of rank 0; -1: it was killed
  bool powered_off = false;             // all ranks were lost at once
  std::vector<ControlTraffic> control;  // by rank
  std::optional<Nanoseconds> first_death;
  Nanoseconds last_view = 0;  // when a rank last entered one
  Probes probes;
};

class World {
 public:
  static constexpr std::uint32_t kRanksMax = 1000;

  // `disk` is what an earlier run of the same job left.
  World(const WorldOptions& options, PretendDisk& disk);
  // Once.
  Report run();

 private:
  enum class Kind : std::uint8_t {
    kStart,
    kTick,
    kFrame,
    kComputed,
    kStop,
    kFault,
    kEvidence,
    kFenced,
    kPartition,
    kAsk,
    kWish,
    kDisk,
    kPowerOff,
    kBulkMoves,
    kBulkLeaves,
    kBulkComes
  };
  struct Happening {
    Nanoseconds time = 0;
    std::uint64_t number = 0;
    Kind kind{};
    RankId rank;
    RankId from;             // kFrame
    std::uint32_t slot = 0;  // kFrame: where its bytes are; kBulk…: which transfer
    bool damaged = false;
    bool handled = false;     // kFrame: its receiver has found the time for it
    EvidenceKind evidence{};  // kEvidence, about `from`
    std::uint32_t fault = 0;  // kFault, kPartition: its number
  };
  struct Later {
    bool operator()(const Happening& a, const Happening& b) const {
      return a.time != b.time ? a.time > b.time : a.number > b.number;
    }
  };
  struct Rank {
    Nanoseconds clock_offset = 0;
    double clock_rate = 1;
    Nanoseconds tick_period = 0;
    bool started = false;
    bool ended = false;
    Nanoseconds paused_until = 0;
    Nanoseconds handles_until = 0;  // frames that it sends or that have come
    const Fault* dies_sending = nullptr;
    std::uint32_t frames_to_lose = 0;
    std::uint32_t bulks_to_lose = 0;
    std::map<std::pair<RankId, BulkTag>, Buffer> awaits;  // bulk transfers, by sender
    bool open = false;
    bool computing = false;
    Nanoseconds computing_since = 0;
    bool waits_for_reply = false;
    std::uint64_t damaged_frames = 0;
    bool asks_for_another = false;  // has passed a ballot on, and not yet answered
    StageId asked_in_stage;         // its latest steal request
    std::set<std::pair<StageId, std::uint32_t>> copies_from_others;  // that came back by message
    std::vector<Happening> before_start;
    std::unique_ptr<PretendExecutor> executor;
    std::unique_ptr<RegistryUser> user;
    std::unique_ptr<Node> node;
    WorkResult result;
    std::optional<WorkOrder> order;
    std::optional<FenceRequest> fence;  // under way
    std::deque<DiskRequest> disk;       // the first one is
  };

  void make_rank(RankId self);
  Nanoseconds local_time(const Rank& rank) const;
  void schedule(Happening happening);
  void happen(const Happening& happening);
  void start(RankId id);
  void tick(RankId id);
  bool finds_time(const Happening& happening);
  void frame_arrives(const Happening& happening);
  void computed(RankId id);
  void ask_registry(RankId id);
  void take_replies(RankId id);
  void befall(const Fault& fault);
  void kill(RankId id);
  bool dies_sending(RankId id);
  void part(const Partition& partition);
  bool seems_dead(RankId about, RankId to) const;
  void show_evidence(RankId about, EvidenceKind kind, Nanoseconds after, Nanoseconds spread,
                     double share);
  void ask_fence(RankId id, FenceRequest request);
  void fenced(RankId id);
  void ask_disk(RankId id, DiskRequest request);
  void carry_out_next(RankId id);
  void disk_done(RankId id);
  void observe_checkpoints(RankId id);

  void step(RankId id, const Input& input);
  void drain(RankId id);
  void want_work(RankId id);
  void send(RankId from, OutgoingFrame& frame);
  bool is_lost(RankId from, RankId to, MessageKind kind);
  void put_on_wire(RankId from, RankId to, const Buffer& bytes, bool damaged);
  Nanoseconds delay_of(RankId from, RankId to, bool control);
  Nanoseconds& blocked_until(RankId from, RankId to) {
    return blocked_until_[std::size_t{from.value} * options_.ranks + to.value];
  }
  void damage(Buffer& bytes);
  void end_rank(RankId id);

  void begin_bulk(RankId from, BulkSend& send);
  void schedule_bulk(Kind kind, std::uint32_t slot, RankId rank, Nanoseconds at);
  void bulk_moves(const Happening& happening);
  void bulk_leaves(const Happening& happening);
  void bulk_comes(const Happening& happening);

  void observe_options();
  void observe_sent(RankId to, const Frame& frame);
  void observe_agreement(const Frame& frame);
  void observe_verdict(Reader reader);
  void observe_verdict_of(CopyVerdict verdict);
  void observe_copy_back(RankId to, const Frame& frame);
  void observe_regained(const Event& event);
  void observe_cells(const Frame& frame);
  void count_control(RankId rank, const Frame& frame, std::uint64_t ControlTraffic::*way);
  void observe_events();
  void trace(const Happening& happening);
  void note(std::uint64_t value) { report_.trace_hash = scatter(report_.trace_hash ^ value); }

  WorldOptions options_;
  PretendJob job_;
  std::uint32_t cell_failures_left_;
  Checkers checkers_;
  AgreementCheckers agreement_;
  BulkChecker bulk_checker_;
  BufferPool pool_;
  std::vector<Rank> ranks_;
  std::vector<Happening> queue_;  // a heap
  std::vector<Buffer> slots_;     // bytes of frames in flight
  std::vector<std::uint32_t> free_slots_;
  struct Bulk {
    RankId from;
    RankId to;
    BulkTag tag;
    Epoch epoch;
    std::shared_ptr<const Buffer> bytes;  // until they have left
    Buffer copy;                          // until they have come
  };
  std::vector<Bulk> bulks_;                // all there were
  std::vector<Nanoseconds> link_free_at_;  // by from and to: frames that do not overtake
  Random network_random_;
  std::vector<Nanoseconds> blocked_until_;  // by from and to; empty without partitions
  std::vector<Nanoseconds> silent_until_;   // the same, of heartbeats
  Random failure_random_;
  Random rare_random_;
  Random disk_random_;
  Random bulk_random_;
  // When who is told at the latest that whom is silent.
  std::map<std::pair<RankId, RankId>, Nanoseconds> doubted_at_;
  std::map<Epoch, Buffer> fences_;  // on the shared file system
  PretendDisk* disk_;
  Epoch told_in_{1};  // that its newest checkpoint is sealed
  Nanoseconds now_ = 0;
  std::uint64_t happenings_ = 0;
  std::uint32_t ranks_running_ = 0;
  Output output_;
  Report report_;
};

// Runs a world of these options, and as often as it is stopped or loses all its ranks another one
// that goes on from what is on the disk.
Report simulate(const WorldOptions& options);

}  // namespace regroup::sim

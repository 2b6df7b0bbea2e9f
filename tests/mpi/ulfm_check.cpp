// The transport with ULFM on real ranks: one dies, one stands still while another dies, and those
// left must learn of the deaths from MPI, shrink exactly when all living ranks are members, and
// lose no frame that they send each other meanwhile, nor a message that arrives before a death was
// acknowledged. Run by mpirun --with-ft ulfm on at least four
// ranks; rank 0 prints what was measured and "all is well". Every wait has a deadline.
#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <poll.h>
#include <unistd.h>

#include "runtime/host/failure_detector.hpp"
#include "runtime/host/fault_injector.hpp"
#include "runtime/host/mpi_channel.hpp"
#include "runtime/host/mpi_session.hpp"
#include "runtime/host/mpi_transport.hpp"
#include "runtime/protocol/frame.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kDeadline = std::chrono::seconds(60);  // of one wait
constexpr std::uint64_t kFramesAPhase = 400;          // to each member, at least
constexpr int kKernelMsMax = 10'000;
constexpr auto kLook = std::chrono::microseconds(100);
constexpr std::size_t kBacklogBytesMax = 1 << 20;
constexpr std::size_t kFramesAtOnce = 64;
constexpr Nanoseconds kStandStill = 700 * kMillisecond;
constexpr std::uint32_t kRanksMin = 4;
constexpr MpiChannel::Sizes kAsideSizes{.small_bytes = 64,
                                        .small_receives = 16,
                                        .large_bytes = 64,
                                        .large_receives = 1,
                                        .control_bytes = 64,
                                        .control_receives = 16};

Nanoseconds now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch())
      .count();
}

// What a survivor measures.
struct Measured {
  Nanoseconds kernel = 0;  // from a death to the pidfd
  Nanoseconds ulfm = 0;    // and to Transport::take_evidence
  Nanoseconds agreed = 0;  // from the view to the new communicator
  Nanoseconds shrink = 0;  // MPIX_Comm_shrink alone
};

class Check {
 public:
  Check()
      : transport_(session_, pool_),
        first_victim_(session_.ranks() - 1),
        sleeper_(session_.ranks() - 2),
        second_victim_(session_.ranks() - 3),
        heard_(session_.ranks()) {
    for (std::uint32_t rank = 0; rank < session_.ranks(); ++rank) members_.insert(RankId{rank});
    open_aside();
    const std::int32_t pid = getpid();
    const auto pids = session_.gather(std::as_bytes(std::span(&pid, 1)));
    for (const auto& bytes : pids) {
      Reader reader(bytes);
      pidfds_.push_back(open_pidfd(static_cast<std::int32_t>(reader.get<std::uint32_t>())));
    }
  }

  bool run() {
    if (session_.recovery() != RecoveryBackend::kUlfm) return complain("ULFM is not in force");
    if (!talk(0)) return false;
    if (!lose(first_victim_, measured_)) return false;
    if (!hear_before_acknowledging()) return false;
    if (!talk(1)) return false;
    if (self() == sleeper_) stop_helper_.stop_this_process(kStandStill);
    Measured unused;
    if (!lose_while_one_sleeps(unused)) return false;
    return talk(1) && report();
  }

 private:
  RankId self() const { return transport_.self(); }

  // One dies; the others learn of it, enter the view without it, and wait for its communicator.
  bool lose(RankId victim, Measured& measured) {
    if (self() == victim) die();
    if (!hear_of(victim, measured)) return false;
    return shrink_to_members(measured);
  }

  // Meanwhile the view is without the sleeper, which lives: nobody may shrink before it is back.
  bool lose_while_one_sleeps(Measured& measured) {
    if (self() == second_victim_) die();
    if (!hear_of(second_victim_, measured)) return false;
    if (self() == sleeper_) {
      for (const RankId rank : members_) {
        if (rank != self()) send(rank, MessageKind::kReady, 0);
      }
    } else {
      members_.erase(sleeper_);
      enter();
      if (!until([&] { return sleeper_is_back_; }, "the sleeper is back")) return false;
      if (transport_.shrinks().count != 1) return complain("shrunk although a member slept");
      members_.insert(sleeper_);
    }
    return shrink_to_members(measured);
  }

  void open_aside() {
    MPI_Comm communicator = MPI_COMM_NULL;
    mpi::check(MPI_Comm_dup(session_.handles().all, &communicator), "MPI_Comm_dup");
    mpi::check(MPI_Comm_set_errhandler(communicator, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    aside_ = std::make_unique<MpiChannel>(
        communicator, std::vector<RankId>(members_.begin(), members_.end()), kAsideSizes, pool_);
  }

  // A receive that waits for the acknowledgement of a death and then gets a message must not get
  // stuck with both.
  bool hear_before_acknowledging() {
    constexpr std::array kTags = {MpiChannel::Tag::kControl, MpiChannel::Tag::kSmall};
    RankSet heard;
    std::size_t messages = 0;
    const auto look = [&] {
      while (aside_->take_message([&](RankId from, auto, auto) {
        heard.insert(from);
        ++messages;
      })) {
        continue;
      }
      aside_->release_sent();
    };
    const auto others = members_.size() - 1;
    if (!until([&] { return look(), aside_->take_failure(); },
               "the death keeps receives waiting")) {
      return false;
    }
    if (!talk(1)) return false;  // so has that of everybody
    for (const RankId rank : members_) {
      for (const auto tag : kTags) {
        if (rank != self()) aside_->send(rank, tag, Buffer(std::size_t{8}));
      }
    }
    if (!until([&] { return look(), heard.size() == others; }, "messages at receives that wait")) {
      return false;
    }
    mpi::ulfm::take_failed(aside_->communicator());
    return until([&] { return look(), messages == kTags.size() * others; },
                 "messages after the death was acknowledged");
  }

  [[noreturn]] void die() {
    for (const RankId rank : members_) {
      if (rank != self()) send(rank, MessageKind::kFinish, static_cast<std::uint64_t>(now()));
    }
    until([&] { return transport_.backlog_bytes() == 0; }, "the last words have left");
    std::raise(SIGKILL);
    _exit(1);
  }

  bool hear_of(RankId victim, Measured& measured) {
    Nanoseconds kernel = 0;
    std::jthread watcher([&] {
      pollfd wait{pidfds_[victim.value], POLLIN, 0};
      ::poll(&wait, 1, kKernelMsMax);
      kernel = now();
    });
    if (!until([&] { return dead_.contains(victim); }, "MPI tells of the death")) _exit(1);
    const Nanoseconds told = now();
    watcher.join();
    measured.kernel = kernel - died_at_;
    measured.ulfm = told - died_at_;
    members_.erase(victim);
    return true;
  }

  void enter() {
    transport_.enter({.epoch = Epoch{++epoch_},
                      .members = members_,
                      .coordinator = RankId{0},
                      .joined = {},
                      .ledger_holder = RankId{0},
                      .ledger = 0});
  }

  // Frames are sent all the time, so that some take either communicator.
  bool shrink_to_members(Measured& measured) {
    const std::uint32_t before = transport_.shrinks().count;
    enter();
    const Nanoseconds begin = now();
    const bool shrunk = until(
        [&] {
          const bool may_say = transport_.backlog_bytes() < kBacklogBytesMax;
          for (const RankId rank : members_) {
            if (may_say) say_something(rank);
          }
          return transport_.shrinks().count == before + 1;
        },
        "the members have shrunk");
    measured.agreed = now() - begin;
    measured.shrink = transport_.shrinks().last.count();
    return shrunk;
  }

  // Every member sends to every other and says how much that was; all of it must arrive.
  bool talk(std::uint32_t shrinks) {
    if (transport_.shrinks().count < shrinks) return complain("too few shrinks");
    for (std::uint64_t i = 0; i < kFramesAPhase; ++i) {
      for (const RankId rank : members_) say_something(rank);
      poll();
    }
    ++phase_;
    for (const RankId rank : members_) {
      if (rank != self()) send(rank, MessageKind::kGoodbye, heard_[rank.value].said);
    }
    return until(
        [&] {
          return std::ranges::all_of(members_, [&](RankId rank) {
            const Peer& peer = heard_[rank.value];
            return rank == self() || (peer.phases >= phase_ && peer.has_all());
          });
        },
        "every frame has arrived");
  }

  // Rank 0 prints what all have measured.
  bool report() {
    if (self() != RankId{0}) {
      Buffer frame = pool_.take();
      Writer writer(frame);
      frame.resize(kFrameHeaderBytes);
      for (const Nanoseconds value :
           {measured_.kernel, measured_.ulfm, measured_.agreed, measured_.shrink}) {
        writer.put(static_cast<std::uint64_t>(value));
      }
      seal(RankId{0}, MessageKind::kResults, 0, std::move(frame));
      return until([&] { return is_over_; }, "rank 0 has heard all");
    }
    all_measured_.push_back(measured_);
    if (!until([&] { return all_measured_.size() == members_.size(); }, "all have reported")) {
      return false;
    }
    print("death to pidfd", &Measured::kernel);
    print("death to ULFM's evidence", &Measured::ulfm);
    print("view to new communicator", &Measured::agreed);
    print("MPIX_Comm_shrink", &Measured::shrink);
    for (const RankId rank : members_) {
      if (rank != self()) send(rank, MessageKind::kReturned, 0);
    }
    until([&] { return transport_.backlog_bytes() == 0; }, "the others are told");
    std::printf("ulfm_check: %u ranks: all is well\n", session_.ranks());
    std::fflush(stdout);
    return true;
  }

  void print(const char* what, Nanoseconds Measured::*value) const {
    const auto [least, most] =
        std::ranges::minmax(all_measured_, {}, [&](const Measured& one) { return one.*value; });
    std::printf("ulfm_check: %u ranks: %s: %.2f to %.2f ms\n", session_.ranks(), what,
                static_cast<double>(least.*value) / kMillisecond,
                static_cast<double>(most.*value) / kMillisecond);
  }

  // ---- frames ----

  void say_something(RankId to) {
    if (to != self()) send(to, MessageKind::kLease, heard_[to.value].said++);
  }

  void send(RankId to, MessageKind kind, std::uint64_t number) {
    Buffer frame = pool_.take();
    // Most are small; some take the way of large ones.
    frame.resize(kFrameHeaderBytes + (number % 50 == 49 ? 20'000 : 16));
    seal(to, kind, number, std::move(frame));
  }

  void seal(RankId to, MessageKind kind, std::uint64_t number, Buffer frame) {
    seal_frame(frame,
               {.kind = kind, .from = self(), .epoch = Epoch{1}, .sequence = number, .lamport = 1});
    transport_.send(to, std::move(frame));
  }

  void poll() {
    transport_.poll([this](RankId from, std::span<const std::byte> frame) { take(from, frame); },
                    kFramesAtOnce);
    while (const auto evidence = transport_.take_evidence()) dead_.insert(evidence->rank);
  }

  void take(RankId from, std::span<const std::byte> bytes) {
    const auto frame = open_frame(bytes);
    if (!frame || frame->header.from != from) return wrong("a frame arrived damaged");
    Peer& peer = heard_[from.value];
    const std::uint64_t number = frame->header.sequence;
    switch (frame->header.kind) {
      case MessageKind::kLease:
        if (!peer.numbers.insert(number).second) wrong("a frame arrived twice");
        return;
      case MessageKind::kGoodbye:
        ++peer.phases;
        peer.to_hear = number;
        return;
      case MessageKind::kFinish:
        died_at_ = static_cast<Nanoseconds>(number);
        return;
      case MessageKind::kReady:
        sleeper_is_back_ = true;
        return;
      case MessageKind::kReturned:
        is_over_ = true;
        return;
      default:
        return take_measured(frame->body);
    }
  }

  void take_measured(std::span<const std::byte> payload) {
    Reader reader(payload);
    Measured one;
    for (Nanoseconds* value : {&one.kernel, &one.ulfm, &one.agreed, &one.shrink}) {
      *value = static_cast<Nanoseconds>(reader.get<std::uint64_t>());
    }
    all_measured_.push_back(one);
  }

  template <class Condition>
  bool until(Condition condition, const char* what) {
    const auto deadline = Clock::now() + kDeadline;
    while (!condition()) {
      poll();
      if (wrong_) return false;
      if (Clock::now() > deadline) {
        return complain(lateness(what).c_str());
      }
      std::this_thread::sleep_for(kLook);  // ranks may outnumber cores
    }
    return true;
  }

  std::string lateness(const char* what) const {
    return std::string("not in time: ") + what + ", epoch " + std::to_string(epoch_) + ", " +
           std::to_string(members_.size()) + " members, " + std::to_string(dead_.size()) +
           " dead, " + std::to_string(transport_.shrinks().count) + " shrinks";
  }
  void wrong(const char* what) { wrong_ = !complain(what); }
  bool complain(const char* what) {
    std::fprintf(stderr, "ulfm_check: rank %u: %s\n", self().value, what);
    return false;
  }

  struct Peer {
    std::uint64_t said = 0;  // to it
    std::set<std::uint64_t> numbers;
    std::uint64_t to_hear = 0;
    std::uint32_t phases = 0;

    bool has_all() const {
      if (numbers.size() < to_hear) return false;
      const auto heard = std::distance(numbers.begin(), numbers.lower_bound(to_hear));
      return static_cast<std::uint64_t>(heard) == to_hear;
    }
  };

  StopHelper stop_helper_;  // a process that is made before MPI is
  MpiSession session_{RecoveryChoice::kUlfm};
  BufferPool pool_;
  MpiTransport transport_;
  std::unique_ptr<MpiChannel> aside_;  // over a communicator whose deaths are acknowledged late
  RankId first_victim_;
  RankId sleeper_;
  RankId second_victim_;
  std::vector<int> pidfds_;  // by rank
  RankSet members_;
  RankSet dead_;
  std::uint64_t epoch_ = 1;
  std::uint32_t phase_ = 0;
  std::vector<Peer> heard_;
  Nanoseconds died_at_ = 0;
  bool sleeper_is_back_ = false;
  bool is_over_ = false;
  bool wrong_ = false;
  Measured measured_;
  std::vector<Measured> all_measured_;
};

}  // namespace
}  // namespace regroup

int main() {
  if (regroup::built_with_ulfm()) {
    // With ranks dead or astray there is no common MPI_Finalize.
    _exit(regroup::Check().run() ? 0 : 1);
  }
  std::puts("skipped: this MPI has no ULFM");
  return 0;
}

// Bulk transfers on real ranks. Under mpirun: transfers that a change of view cuts short end at
// both ends, say nothing more and give their memory back, and those after them arrive as they were
// sent: read from the sender's memory, or with the argument `chunks` through MPI, or with `refused`
// the second because the receiver, every other rank, does not do the first. Started alone it starts
// itself as four ranks that send each other transfers without a pause; one kills itself in the
// middle, and the others must go on in the next view. Every transfer must come as it was sent,
// once, in the view that it was sent in. Its argument, if it has one, is the recovery backend that
// is to be launched. Exits 0 if all is well; every wait has a deadline.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <poll.h>
#include <unistd.h>

#include "runtime/host/failure_detector.hpp"
#include "runtime/host/fencing_token.hpp"
#include "runtime/host/host_loop.hpp"
#include "runtime/host/launcher.hpp"
#include "runtime/host/mpi_session.hpp"
#include "runtime/host/mpi_transport.hpp"
#include "runtime/protocol/wire.hpp"

namespace regroup {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kDeadline = std::chrono::seconds(60);
constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr auto kKind = MessageKind{100};
constexpr std::size_t kFramesAtOnce = 64;
constexpr auto kLook = std::chrono::milliseconds(10);

bool complain(std::uint32_t rank, const std::string& what) {
  std::fprintf(stderr, "rank %u: %s\n", rank, what.c_str());
  return false;
}

// What a transfer of this number holds.
std::uint64_t word_of(std::uint64_t number, std::size_t at) {
  return (number + 1) * 0x9e3779b97f4a7c15 + at;
}
void fill(std::span<std::byte> bytes, std::uint64_t number) {
  for (std::size_t at = 0; at + sizeof(std::uint64_t) <= bytes.size();
       at += sizeof(std::uint64_t)) {
    const std::uint64_t word = word_of(number, at);
    std::memcpy(bytes.data() + at, &word, sizeof word);
  }
}
bool holds(std::span<const std::byte> bytes, std::uint64_t number) {
  for (std::size_t at = 0; at + sizeof(std::uint64_t) <= bytes.size();
       at += sizeof(std::uint64_t)) {
    const std::uint64_t word = word_of(number, at);
    if (std::memcmp(bytes.data() + at, &word, sizeof word) != 0) return false;
  }
  return true;
}

// ---- cut short ----

class CutShort {
 public:
  explicit CutShort(std::string_view mode)
      : transport_(session_, pool_, reading(mode, session_.rank())) {
    for (std::uint32_t rank = 0; rank < session_.ranks(); ++rank)
      view_.members.insert(RankId{rank});
    out_ = std::make_shared<Buffer>();
    out_->resize(kBytes);
  }

  bool run() {
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      if (!cut_short(2 * round + 1, round) || !arrive(2 * round + 2)) return false;
    }
    return call_back();
  }

 private:
  // Too large for memory that the allocator keeps for itself.
  static constexpr std::size_t kBytes = 34 * kMiB + 17;
  static constexpr std::uint64_t kRounds = 6;

  static BulkReading reading(std::string_view mode, std::uint32_t rank) {
    const bool never = mode == "chunks" || (mode == "refused" && rank % 2 == 1);
    return never ? BulkReading::kNever : BulkReading::kWherePossible;
  }

  RankId next() const { return RankId{(session_.rank() + 1) % session_.ranks()}; }
  std::uint64_t number_of(RankId from) const { return tag_ * session_.ranks() + from.value; }
  RankId before() const {
    return RankId{(session_.rank() + session_.ranks() - 1) % session_.ranks()};
  }

  // The view ends here after so many chunks, and with the neighbours at times of their own.
  bool cut_short(std::uint64_t tag, std::size_t chunks) {
    begin(tag);
    if (!poll_until([&] { return moved_ >= chunks; }, "chunks move")) return false;
    ++view_.epoch.value;
    transport_.enter(view_);
    sent_.reset();
    arrived_ = moved_ = 0;
    if (!poll_until([&] { return !transport_.has_bulk(); }, "both ends let go")) return false;
    if (sent_ || arrived_ + moved_ != 0) return fail("something was said of a view that had ended");
    if (out_.use_count() != 1) return fail("the memory of a transfer is still held");
    if (tag > 1 && !memory_is_back()) return fail("received memory did not come back");
    return true;
  }

  // Memory that something was received in once is not all zero, as new memory is.
  bool memory_is_back() {
    Buffer again = pool_.take_large(kBytes);
    const bool used = std::ranges::any_of(again.view().last(kBytes / 2),
                                          [](std::byte byte) { return byte != std::byte{0}; });
    pool_.give_large(std::move(again));
    return used;
  }

  bool arrive(std::uint64_t tag) {
    begin(tag);
    return poll_until([&] { return sent_ && arrived_ == 1; }, "a transfer arrives") &&
           (!wrong_ || fail("a transfer came with other bytes"));
  }

  // What a rank that dies never began can be called back.
  bool call_back() {
    session_.gather({});
    transport_.receive_bulk({before(), BulkTag{1000}, view_.epoch, kBytes});
    transport_.abandon(before());
    return (!transport_.has_bulk() && memory_is_back()) || fail("a receive was not called back");
  }

  void begin(std::uint64_t tag) {
    sent_.reset();
    arrived_ = moved_ = 0;
    tag_ = tag;
    fill(out_->writable(), number_of(RankId{session_.rank()}));  // nobody else holds it
    transport_.receive_bulk({before(), BulkTag{tag}, view_.epoch, kBytes});
    session_.gather({});  // all wait now
    transport_.send_bulk({next(), BulkTag{tag}, view_.epoch, out_});
  }

  template <class Done>
  bool poll_until(Done done, const char* what) {
    const auto until = Clock::now() + kDeadline;
    while (!done()) {
      transport_.poll([](RankId, std::span<const std::byte>) {}, kFramesAtOnce);
      if (!transport_.poll_bulk([this](const BulkNews& news) { take(news); })) sched_yield();
      if (Clock::now() > until) return fail(std::string("never: ") + what);
    }
    return true;
  }

  void take(const BulkNews& news) {
    if (std::holds_alternative<BulkMoved>(news)) ++moved_;
    if (const auto* sent = std::get_if<BulkSent>(&news)) sent_ = sent->hash;
    if (const auto* arrived = std::get_if<BulkArrived>(&news)) {
      ++arrived_;
      wrong_ |= arrived->hash != hash_of_bulk(arrived->bytes->view());
      wrong_ |= !holds(arrived->bytes->view(), number_of(before()));
    }
  }

  bool fail(const std::string& what) { return complain(session_.rank(), what); }

  MpiSession session_;
  BufferPool pool_;
  MpiTransport transport_;
  View view_{.epoch = Epoch{1}};
  std::shared_ptr<Buffer> out_;
  std::uint64_t tag_ = 0;
  std::size_t moved_ = 0;
  std::size_t arrived_ = 0;
  std::optional<BulkHash> sent_;
  bool wrong_ = false;
};

// ---- killed in the middle ----

constexpr std::uint32_t kRanks = 4;
constexpr RankId kVictim{2};

// Sends transfers to all others, two at a time, and ends when all members have had enough.
class Exchange : public Service {
 public:
  Exchange(RankId self, std::size_t dies_after) : dies_after_(dies_after), random_(self.value) {}

  void on_start(Context&) override {}
  void on_view(Context& context) override {
    under_way_.clear();
    had_ = 0;
    enough_.clear();
    if (context.view().members.contains(kVictim)) context.finish({1, "nobody was lost"});
  }
  void on_left(Context&, RankId) override {}
  void on_tick(Context& context) override {
    if (!context.stable()) return;
    for (const RankId to : context.view().members) {
      if (to == context.self()) continue;
      auto& sent = under_way_[to];
      std::erase_if(sent, [](const auto& bytes) { return bytes.use_count() == 1; });
      if (sent.size() < kAtOnce) send(context, to);
    }
  }
  bool on_message(Context& context, RankId from, MessageKind, std::span<const std::byte>) override {
    enough_.insert(from);
    if (enough_ == context.view().members) context.finish({0, "enough"});
    return true;
  }
  void on_bulk(Context& context, RankId from, MessageKind kind, std::span<const std::byte> header,
               Buffer bytes, const BulkHash&) override {
    Reader reader(header);
    const auto number = reader.get<std::uint64_t>();
    const auto epoch = reader.get<Epoch>();
    const bool good = kind == kKind && reader.complete() && epoch == context.view().epoch &&
                      came_.insert({from, number}).second && holds(bytes.view(), number);
    context.give_large(std::move(bytes));
    if (!good) context.finish({1, "a transfer came damaged, twice or late"});
    ++had_;
    if (context.self() == kVictim && had_ == dies_after_) std::raise(SIGKILL);
    if (context.view().epoch == Epoch{1} || had_ != kEnough) return;
    for (const RankId to : context.view().members) {
      context.begin(to, MessageKind::kGoodbye);
      context.send();
    }
  }
  void on_work_wanted(Context&) override {}
  void on_work_finished(Context&, WorkResult&) override {}
  void on_wish(Context&, Wish, const std::string&) override {}

 private:
  static constexpr std::size_t kAtOnce = 2;
  static constexpr std::size_t kEnough = 30;

  void send(Context& context, RankId to) {
    auto bytes = std::make_shared<Buffer>();
    bytes->resize(random_() % (12 * kMiB));
    const std::uint64_t number = numbers_++;
    fill(bytes->writable(), number);
    Writer writer = context.begin(to, kKind);
    writer.put(number);
    writer.put(context.view().epoch);
    if (context.send_bulk(bytes)) under_way_[to].push_back(std::move(bytes));
  }

  std::size_t dies_after_;
  std::mt19937_64 random_;
  std::uint64_t numbers_ = 0;
  std::map<RankId, std::vector<std::shared_ptr<const Buffer>>> under_way_;
  std::set<std::pair<RankId, std::uint64_t>> came_;
  std::size_t had_ = 0;  // in this view
  RankSet enough_;
};

class NoExecutor : public Executor {
 public:
  void execute(WorkOrder&, WorkResult&) override {}
};

// Tells the loop of deaths until it is destroyed.
class DeathWatch {
 public:
  DeathWatch(MpiSession& session, HostLoop& loop) : loop_(&loop) {
    const std::int32_t pid = getpid();
    std::uint32_t rank = 0;
    for (const auto& bytes : session.gather(std::as_bytes(std::span(&pid, 1)))) {
      std::int32_t peer = 0;
      std::memcpy(&peer, bytes.data(), sizeof peer);
      pidfds_.push_back({rank++ == session.rank() ? -1 : open_pidfd(peer), POLLIN, 0});
    }
    thread_ = std::jthread([this](const std::stop_token& stop) { watch(stop); });
  }

 private:
  void watch(const std::stop_token& stop) {
    constexpr int kLookMs = 20;
    while (!stop.stop_requested()) {
      if (poll(pidfds_.data(), pidfds_.size(), kLookMs) <= 0) continue;
      for (std::uint32_t rank = 0; rank < pidfds_.size(); ++rank) {
        if (pidfds_[rank].revents == 0) continue;
        pidfds_[rank].fd = -1;
        loop_->learn({RankId{rank}, EvidenceKind::kConfirmed});
      }
    }
  }

  HostLoop* loop_;
  std::vector<pollfd> pidfds_;
  std::jthread thread_;
};

std::uint32_t count_good(const std::filesystem::path& folder) {
  std::uint32_t good = 0;
  for (std::uint32_t rank = 0; rank < kRanks; ++rank) {
    good += std::filesystem::exists(folder / ("good" + std::to_string(rank))) ? 1 : 0;
  }
  return good;
}

// bulk_check FOLDER DIES_AFTER RECOVERY, as one of the ranks.
int be_a_rank(const std::filesystem::path& folder, std::size_t dies_after,
              const std::string& recovery) {
  MpiSession session(parse_recovery_choice(recovery).value_or(RecoveryChoice::kAuto));
  const RankId self{session.rank()};
  BufferPool pool;
  MpiTransport transport(session, pool);
  Node node({.self = self, .ranks = session.ranks()}, std::make_unique<Exchange>(self, dies_after),
            pool);
  NoExecutor executor;
  const FencingTokens tokens(folder, "bulk", FencingTokens::Readers::kThisNode);
  HostHooks hooks;
  hooks.take_fence = [&](const FenceRequest& request) { return tokens.take(request); };
  HostLoop loop(node, transport, executor, std::move(hooks));
  const DeathWatch watch(session, loop);
  const Outcome outcome = loop.run();
  if (outcome.exit_status != 0) complain(self.value, outcome.message);
  if (node.drops().bulks != 0) complain(self.value, "a transfer arrived damaged");
  if (outcome.exit_status == 0 && node.drops().bulks == 0) {
    std::ofstream(folder / ("good" + std::to_string(self.value))) << "here\n";
  }
  // Whoever ends before the others have had enough would be one more death to them.
  const auto until = Clock::now() + kDeadline;
  while (outcome.exit_status == 0 && count_good(folder) < kRanks - 1 && Clock::now() < until) {
    std::this_thread::sleep_for(kLook);
  }
  _exit(0);  // MPI_Finalize would wait for the dead
}

bool survive(const std::filesystem::path& folder, const std::string& dies_after,
             const std::string& recovery) {
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const auto choice = parse_recovery_choice(recovery).value_or(RecoveryChoice::kAuto);
  const auto command = mpirun_command({.ranks = kRanks, .survive = true, .recovery = choice},
                                      {own_program(), folder.string(), dies_after, recovery});
  if (!command) return complain(0, command.error());
  const auto until = Clock::now() + kDeadline;
  const Watch watch{
      .is_over = [&] { return count_good(folder) == kRanks - 1 || Clock::now() > until; },
      .leave = std::chrono::milliseconds(2000),
      .on_terminate = {},
      .on_error_output = {}};
  if (!run_in_foreground(*command, {}, watch)) return complain(0, "mpirun was not started");
  return count_good(folder) == kRanks - 1 ||
         complain(0, "not all others went on, after " + dies_after);
}

}  // namespace
}  // namespace regroup

int main(int argc, char** argv) {
  using namespace regroup;
  // No wait for the others' MPI_Finalize when something is wrong.
  if (launched_rank() && argc <= 2) {
    if (!CutShort(argc == 2 ? argv[1] : "").run()) _exit(1);
    return 0;
  }
  if (launched_rank() && argc == 4)
    return be_a_rank(argv[1], std::strtoul(argv[2], nullptr, 10), argv[3]);
  std::string pattern = (std::filesystem::temp_directory_path() / "regroup-bulk-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) return 1;
  bool good = true;
  for (const char* dies_after : {"1", "4", "9", "20"}) {
    good = good && survive(pattern, dies_after, argc == 2 ? argv[1] : "auto");
  }
  std::filesystem::remove_all(pattern);
  return good ? 0 : 1;
}

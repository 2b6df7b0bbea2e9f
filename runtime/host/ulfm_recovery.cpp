#include "runtime/host/ulfm_recovery.hpp"

#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include "runtime/protocol/wire.hpp"

namespace regroup {
namespace {

RankSet all_ranks(std::uint32_t ranks) {
  std::vector<RankId> all;
  for (std::uint32_t rank = 0; rank < ranks; ++rank) all.emplace_back(rank);
  return RankSet(std::move(all));
}

// The ranks of a communicator by their numbers in `all`, which are those of the run.
std::vector<RankId> ranks_of(MPI_Comm communicator, MPI_Comm all) {
  MPI_Group group = MPI_GROUP_NULL;
  MPI_Group all_group = MPI_GROUP_NULL;
  mpi::check(MPI_Comm_group(communicator, &group), "MPI_Comm_group");
  mpi::check(MPI_Comm_group(all, &all_group), "MPI_Comm_group");
  int count = 0;
  mpi::check(MPI_Group_size(group, &count), "MPI_Group_size");
  std::vector<int> numbers(static_cast<std::size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  std::vector<int> in_all(numbers.size());
  mpi::check(MPI_Group_translate_ranks(group, count, numbers.data(), all_group, in_all.data()),
             "MPI_Group_translate_ranks");
  mpi::check(MPI_Group_free(&group), "MPI_Group_free");
  mpi::check(MPI_Group_free(&all_group), "MPI_Group_free");
  std::vector<RankId> ranks;
  for (const int number : in_all) ranks.emplace_back(static_cast<std::uint32_t>(number));
  return ranks;
}

}  // namespace

// Calls MPIX_Comm_shrink once. What it shares with its thread outlives both.
class UlfmRecovery::Thread {
 public:
  explicit Thread(MPI_Comm communicator) {
    std::thread([shared = shared_, communicator] {
      const auto begin = Clock::now();
      Outcome outcome;
      outcome.code = mpi::ulfm::shrink(communicator, &outcome.shrunk);
      outcome.took = Clock::now() - begin;
      const std::lock_guard lock(shared->mutex);
      shared->outcome = outcome;
      shared->done.notify_one();
    }).detach();
  }

  struct Outcome {
    int code = MPI_SUCCESS;
    MPI_Comm shrunk = MPI_COMM_NULL;
    Clock::duration took{};
  };
  // Waits for it until `deadline` at most.
  std::optional<Outcome> outcome(Clock::time_point deadline) {
    std::unique_lock lock(shared_->mutex);
    shared_->done.wait_until(lock, deadline, [&] { return shared_->outcome.has_value(); });
    return shared_->outcome;
  }

 private:
  struct Shared {
    std::mutex mutex;
    std::condition_variable done;
    std::optional<Outcome> outcome;
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

UlfmRecovery::UlfmRecovery(const MpiSession& session)
    : all_(session.handles().all),
      may_shrink_(session.any_thread_may_call()),
      talk_(RankId{session.rank()}, all_ranks(session.ranks())),
      dead_(session.ranks(), false) {}

UlfmRecovery::~UlfmRecovery() = default;

void UlfmRecovery::look(std::span<const MPI_Comm> communicators) {
  const auto now = Clock::now();
  if (now - looked_at_ < kLook) return;
  looked_at_ = now;
  const std::vector<int> failed = mpi::ulfm::take_failed(all_);
  for (const MPI_Comm communicator : communicators) {
    if (!failed.empty() && communicator != all_) mpi::ulfm::take_failed(communicator);
  }
  for (const int number : failed) {
    const RankId rank{static_cast<std::uint32_t>(number)};
    if (dead_[rank.value]) continue;
    dead_[rank.value] = true;
    deaths_.push_back(rank);
    talk_.learn_dead(rank);
  }
}

std::optional<RankId> UlfmRecovery::take_death() {
  if (deaths_.empty()) return std::nullopt;
  const RankId rank = deaths_.front();
  deaths_.pop_front();
  return rank;
}

void UlfmRecovery::hear(RankId from, std::span<const std::byte> message) {
  Reader reader(message);
  ShrinkTalk::Message heard;
  heard.word = static_cast<ShrinkTalk::Word>(reader.get<std::uint32_t>());
  heard.generation = reader.get<std::uint32_t>();
  if (reader.complete()) talk_.hear(from, heard);
}

std::optional<UlfmRecovery::Shrunk> UlfmRecovery::advance(MpiChannel& channel, BufferPool& pool) {
  if (!may_shrink_) return std::nullopt;
  for (const auto& [to, message] : talk_.take_outgoing()) {
    Buffer bytes = pool.take();
    Writer writer(bytes);
    writer.put(static_cast<std::uint32_t>(message.word));
    writer.put(message.generation);
    channel.send(to, MpiChannel::Tag::kControl, std::move(bytes));
  }
  Clock::time_point wait_until;
  if (talk_.may_shrink() && !thread_) {
    thread_ = std::make_unique<Thread>(channel.communicator());
    wait_until = Clock::now() + kQuiet;
  }
  if (!thread_) return std::nullopt;
  const auto outcome = thread_->outcome(wait_until);
  if (!outcome) return std::nullopt;
  thread_.reset();
  if (outcome->code != MPI_SUCCESS) {
    may_shrink_ = false;
    std::fprintf(stderr,
                 "regroup: MPIX_Comm_shrink failed (%d): going on over the old communicator\n",
                 outcome->code);
    return std::nullopt;
  }
  Shrunk shrunk{.communicator = outcome->shrunk, .ranks = {}, .took = outcome->took};
  mpi::check(MPI_Comm_set_errhandler(shrunk.communicator, MPI_ERRORS_RETURN),
             "MPI_Comm_set_errhandler");
  shrunk.ranks = ranks_of(shrunk.communicator, all_);
  talk_.has_shrunk(RankSet(shrunk.ranks));
  return shrunk;
}

}  // namespace regroup

#include "runtime/host/mpi_channel.hpp"

#include <algorithm>
#include <utility>

namespace regroup {

// Receives that are always posted, of one tag. MPI matches them in the order of posting, but they
// may complete in another: one whose sender died half-way never does. With ULFM each request is a
// new one: of those that are started again Open MPI 5.0.7 does not say that they have failed.
class MpiChannel::Receives {
 public:
  enum class Requests { kStartedAgain, kNewEachTime };

  Receives(MPI_Comm communicator, Tag tag, std::size_t slots, std::size_t slot_bytes,
           Requests requests)
      : communicator_(communicator),
        tag_(tag),
        slot_bytes_(slot_bytes),
        starts_again_(requests == Requests::kStartedAgain) {
    post_more(slots);
  }
  ~Receives() {
    for (MPI_Request& request : requests_) {
      mpi::check(MPI_Cancel(&request), "MPI_Cancel");
      mpi::check(MPI_Wait(&request, MPI_STATUS_IGNORE), "MPI_Wait");
      if (starts_again_) mpi::check(MPI_Request_free(&request), "MPI_Request_free");
    }
  }
  Receives(const Receives&) = delete;
  Receives& operator=(const Receives&) = delete;

  void post_more(std::size_t slots) {
    for (std::size_t i = 0; i < slots; ++i) {
      bytes_.push_back(std::make_unique_for_overwrite<std::byte[]>(slot_bytes_));
      requests_.push_back(MPI_REQUEST_NULL);
      if (starts_again_) {
        mpi::check(
            MPI_Recv_init(bytes_.back().get(), static_cast<int>(slot_bytes_), MPI_BYTE,
                          MPI_ANY_SOURCE, static_cast<int>(tag_), communicator_, &requests_.back()),
            "MPI_Recv_init");
      }
      post_again(requests_.size() - 1);
    }
  }
  Tag tag() const { return tag_; }
  bool starts_again() const { return starts_again_; }
  std::size_t slots() const { return requests_.size(); }
  MPI_Request request(std::size_t slot) const { return requests_[slot]; }
  // The one that was posted first.
  std::size_t head() const { return head_; }
  void advance() { head_ = (head_ + 1) % requests_.size(); }
  // Of a slot that has completed.
  std::span<const std::byte> message(std::size_t slot, const MPI_Status& status) {
    int count = 0;
    mpi::check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
    return {bytes_[slot].get(), static_cast<std::size_t>(count)};
  }
  // A slot that has completed.
  mpi::Trouble post_again(std::size_t slot) {
    MPI_Request& request = requests_[slot];
    if (starts_again_) return mpi::trouble(MPI_Start(&request), "MPI_Start");
    return mpi::trouble(MPI_Irecv(bytes_[slot].get(), static_cast<int>(slot_bytes_), MPI_BYTE,
                                  MPI_ANY_SOURCE, static_cast<int>(tag_), communicator_, &request),
                        "MPI_Irecv");
  }
  // One that has failed: MPI may still write to its memory.
  mpi::Trouble renew(std::size_t slot) {
    bytes_[slot].release();
    bytes_[slot] = std::make_unique_for_overwrite<std::byte[]>(slot_bytes_);
    return post_again(slot);
  }

  // Where a communicator has failed its receives may never end, and cannot be cancelled (5.0.7
  // crashes): they and their memory are MPI's from now on.
  void leave_to_mpi() {
    requests_.clear();
    for (auto& bytes : bytes_) bytes.release();
  }

 private:
  MPI_Comm communicator_;
  Tag tag_;
  std::size_t slot_bytes_;
  bool starts_again_;
  std::size_t head_ = 0;
  std::vector<std::unique_ptr<std::byte[]>> bytes_;
  std::vector<MPI_Request> requests_;
};

MpiChannel::MpiChannel(MPI_Comm communicator, std::vector<RankId> ranks, const Sizes& sizes,
                       BufferPool& pool)
    : communicator_(communicator),
      rank_of_(std::move(ranks)),
      rank_set_(rank_of_),
      pool_(&pool),
      large_receives_(sizes.large_receives) {
  const bool may_fail = sizes.control_receives != 0;
  const auto open = [&](Tag tag, std::size_t slots, std::size_t slot_bytes) {
    return std::make_unique<Receives>(
        communicator, tag, slots, slot_bytes,
        may_fail ? Receives::Requests::kNewEachTime : Receives::Requests::kStartedAgain);
  };
  small_ = open(Tag::kSmall, sizes.small_receives, sizes.small_bytes);
  large_ = open(Tag::kLarge, sizes.large_receives, sizes.large_bytes);
  if (may_fail) control_ = open(Tag::kControl, sizes.control_receives, sizes.control_bytes);
  number_of_.resize(std::ranges::max(rank_of_).value + 1, MPI_PROC_NULL);
  for (std::size_t i = 0; i < rank_of_.size(); ++i) {
    number_of_[rank_of_[i].value] = static_cast<int>(i);
  }
}

MpiChannel::~MpiChannel() {
  if (!has_failed_ && !revoked_) return;
  for (Receives* receives : {small_.get(), large_.get(), control_.get()}) {
    receives->leave_to_mpi();
  }
}

bool MpiChannel::note(mpi::Trouble trouble) {
  if (trouble == mpi::Trouble::kNone) return false;
  has_failed_ = true;
  (trouble == mpi::Trouble::kRevoked ? revoked_ : failure_) = true;
  return true;
}

void MpiChannel::send(RankId to, Tag tag, Buffer message) {
  if (revoked_) return pool_->give(std::move(message));
  MPI_Request request = MPI_REQUEST_NULL;
  const int code = MPI_Isend(message.data(), static_cast<int>(message.size()), MPI_BYTE,
                             number_of_[to.value], static_cast<int>(tag), communicator_, &request);
  if (note(mpi::trouble(code, "MPI_Isend"))) {
    abandoned_.push_back(std::move(message));
    unreachable_.insert(to);
    return;
  }
  backlog_bytes_ += message.size();
  sending_.push_back({to, std::move(message)});
  requests_.push_back(request);
}

// One look for all that may complete, since each look in vain makes MPI progress. Small messages
// arrive whole, so the one posted first completes first.
bool MpiChannel::take_message(const MessageHandler& handler) {
  if (revoked_) return false;
  heads_.clear();
  if (control_) heads_.push_back(control_->request(control_->head()));
  heads_.push_back(small_->request(small_->head()));
  for (std::size_t slot = 0; slot < large_->slots(); ++slot) {
    heads_.push_back(large_->request(slot));
  }
  int index = MPI_UNDEFINED;
  int arrived = 0;
  MPI_Status status;
  const auto trouble = mpi::trouble(
      MPI_Testany(static_cast<int>(heads_.size()), heads_.data(), &index, &arrived, &status),
      "MPI_Testany");
  if (note(trouble) && trouble != mpi::Trouble::kUnacknowledged) {
    renew_failed(index);
    return false;
  }
  if (!arrived || index == MPI_UNDEFINED) return false;
  if (trouble == mpi::Trouble::kUnacknowledged) {
    // It waited for a death to be acknowledged when its message came. That is whole, but 5.0.7
    // would say so again at every look.
    mpi::check(MPI_Request_free(&heads_[static_cast<std::size_t>(index)]), "MPI_Request_free");
  }
  const Head head = head_at(static_cast<std::size_t>(index));
  handler(rank_of_[static_cast<std::size_t>(status.MPI_SOURCE)], head.receives->tag(),
          head.receives->message(head.slot, status));
  note(head.receives->post_again(head.slot));
  if (head.receives != large_.get()) head.receives->advance();
  return true;
}

MpiChannel::Head MpiChannel::head_at(std::size_t index) {
  if (control_ && index-- == 0) return {control_.get(), control_->head()};
  if (index == 0) return {small_.get(), small_->head()};
  return {large_.get(), index - 1};
}

// MPI has freed the requests that failed, but the one that is started again.
void MpiChannel::renew_failed(int index) {
  if (index != MPI_UNDEFINED && small_->starts_again()) {
    const Head head = head_at(static_cast<std::size_t>(index));
    note(head.receives->post_again(head.slot));
    if (head.receives != large_.get()) head.receives->advance();
    return;
  }
  for (std::size_t i = 0; i < heads_.size() && !revoked_; ++i) {
    if (heads_[i] != MPI_REQUEST_NULL) continue;
    const Head head = head_at(i);
    note(head.receives->renew(head.slot));
    if (head.receives != large_.get()) head.receives->advance();
  }
}

void MpiChannel::release_sent() {
  if (requests_.empty() || revoked_) return;
  int count = 0;
  sent_.resize(requests_.size());
  statuses_.resize(requests_.size());
  const int code = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                                sent_.data(), statuses_.data());
  const bool in_status = code == MPI_ERR_IN_STATUS;
  if (!in_status) note(mpi::trouble(code, "MPI_Testsome"));
  if (count == MPI_UNDEFINED || count == 0) return;
  settle_sends(in_status ? count : 0);
}

// Of what has completed, the first so many may have failed: MPI may still read those.
void MpiChannel::settle_sends(int failed_at_most) {
  failed_.assign(requests_.size(), false);
  for (std::size_t i = 0; i < static_cast<std::size_t>(failed_at_most); ++i) {
    const int error = statuses_[i].MPI_ERROR;
    const auto sent = static_cast<std::size_t>(sent_[i]);
    failed_[sent] = error != MPI_ERR_PENDING && note(mpi::trouble(error, "MPI_Testsome"));
    if (failed_[sent]) unreachable_.insert(sending_[sent].to);
  }
  drop_sends([this](std::size_t i) {
    if (requests_[i] != MPI_REQUEST_NULL) return Fate::kUnderWay;
    return failed_[i] ? Fate::kAbandoned : Fate::kSent;
  });
}

template <class FateOf>
void MpiChannel::drop_sends(FateOf fate_of) {
  std::size_t kept = 0;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    const Fate fate = fate_of(i);
    if (fate == Fate::kUnderWay) {
      if (kept != i) {
        requests_[kept] = requests_[i];
        sending_[kept] = std::move(sending_[i]);
      }
      ++kept;
      continue;
    }
    Buffer& message = sending_[i].message;
    backlog_bytes_ -= message.size();
    if (fate == Fate::kSent) {
      pool_->give(std::move(message));
    } else {
      abandoned_.push_back(std::move(message));
    }
  }
  requests_.resize(kept);
  sending_.resize(kept);
}

std::vector<Buffer> MpiChannel::revoke() {
  if (!std::exchange(revoked_, true)) mpi::ulfm::revoke(communicator_);
  std::vector<Buffer> unsent = std::move(abandoned_);
  for (Sending& sending : sending_) unsent.push_back(std::move(sending.message));
  sending_.clear();
  requests_.clear();
  backlog_bytes_ = 0;
  return unsent;
}

void MpiChannel::abandon(RankId rank) {
  large_->post_more(large_receives_);  // the others may wait for what it did not finish to send
  drop_sends([this, rank](std::size_t i) {
    return sending_[i].to == rank ? Fate::kAbandoned : Fate::kUnderWay;
  });
}

}  // namespace regroup

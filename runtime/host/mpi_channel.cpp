#include "runtime/host/mpi_channel.hpp"

#include <algorithm>
#include <utility>

namespace regroup {

// Receives that are always posted, of one tag. MPI matches them in the order of posting, but they
// may complete in another: one whose sender died half-way never does.
class MpiChannel::Receives {
 public:
  Receives(MPI_Comm communicator, Tag tag, std::size_t slots, std::size_t slot_bytes)
      : communicator_(communicator), tag_(tag), slot_bytes_(slot_bytes) {
    post_more(slots);
  }
  ~Receives() {
    for (std::size_t slot = 0; slot < requests_.size(); ++slot) end(slot);
  }
  Receives(const Receives&) = delete;
  Receives& operator=(const Receives&) = delete;

  void post_more(std::size_t slots) {
    for (std::size_t i = 0; i < slots; ++i) {
      bytes_.push_back(std::make_unique_for_overwrite<std::byte[]>(slot_bytes_));
      requests_.push_back(MPI_REQUEST_NULL);
      mpi::check(
          MPI_Recv_init(bytes_.back().get(), static_cast<int>(slot_bytes_), MPI_BYTE,
                        MPI_ANY_SOURCE, static_cast<int>(tag_), communicator_, &requests_.back()),
          "MPI_Recv_init");
      post_again(requests_.size() - 1);
    }
  }
  Tag tag() const { return tag_; }
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
  mpi::Trouble post_again(std::size_t slot) {
    return mpi::trouble(MPI_Start(&requests_[slot]), "MPI_Start");
  }

 private:
  // On a communicator that has failed a receive may not come to its end: its memory is left to MPI.
  void end(std::size_t slot) {
    MPI_Request& request = requests_[slot];
    mpi::trouble(MPI_Cancel(&request), "MPI_Cancel");
    int ended = 0;
    const auto trouble = mpi::trouble(MPI_Test(&request, &ended, MPI_STATUS_IGNORE), "MPI_Test");
    if (ended == 0 && trouble == mpi::Trouble::kNone) {
      mpi::trouble(MPI_Wait(&request, MPI_STATUS_IGNORE), "MPI_Wait");
    } else if (ended == 0) {
      bytes_[slot].release();
      return;
    }
    mpi::trouble(MPI_Request_free(&request), "MPI_Request_free");
  }

  MPI_Comm communicator_;
  Tag tag_;
  std::size_t slot_bytes_;
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
      large_receives_(sizes.large_receives),
      small_(std::make_unique<Receives>(communicator, Tag::kSmall, sizes.small_receives,
                                        sizes.small_bytes)),
      large_(std::make_unique<Receives>(communicator, Tag::kLarge, sizes.large_receives,
                                        sizes.large_bytes)) {
  if (sizes.control_receives != 0) {
    control_ = std::make_unique<Receives>(communicator, Tag::kControl, sizes.control_receives,
                                          sizes.control_bytes);
  }
  number_of_.resize(std::ranges::max(rank_of_).value + 1, MPI_PROC_NULL);
  for (std::size_t i = 0; i < rank_of_.size(); ++i) {
    number_of_[rank_of_[i].value] = static_cast<int>(i);
  }
}

MpiChannel::~MpiChannel() = default;

bool MpiChannel::note(mpi::Trouble trouble) {
  if (trouble == mpi::Trouble::kNone) return false;
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
  const std::size_t ordered = heads_.size();
  for (std::size_t slot = 0; slot < large_->slots(); ++slot) {
    heads_.push_back(large_->request(slot));
  }
  int index = MPI_UNDEFINED;
  int arrived = 0;
  MPI_Status status;
  const bool failed = note(mpi::trouble(
      MPI_Testany(static_cast<int>(heads_.size()), heads_.data(), &index, &arrived, &status),
      "MPI_Testany"));
  if (!arrived || index == MPI_UNDEFINED || revoked_) return false;
  const auto at = static_cast<std::size_t>(index);
  Receives& receives = at >= ordered ? *large_ : at + 1 == ordered ? *small_ : *control_;
  const std::size_t slot = at >= ordered ? at - ordered : receives.head();
  if (!failed) {
    handler(rank_of_[static_cast<std::size_t>(status.MPI_SOURCE)], receives.tag(),
            receives.message(slot, status));
  }
  note(receives.post_again(slot));
  if (at < ordered) receives.advance();
  return true;
}

void MpiChannel::release_sent() {
  if (requests_.empty() || revoked_) return;
  int count = 0;
  sent_.resize(requests_.size());
  statuses_.resize(requests_.size());
  const int code = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                                sent_.data(), control_ ? statuses_.data() : MPI_STATUSES_IGNORE);
  const bool in_status = control_ && code == MPI_ERR_IN_STATUS;
  if (!in_status) note(mpi::trouble(code, "MPI_Testsome"));
  if (count == MPI_UNDEFINED || count == 0) return;
  settle_sends(in_status ? count : 0);
}

// Of what has completed, the first so many may have failed: MPI may still read those.
void MpiChannel::settle_sends(int failed_at_most) {
  failed_.assign(requests_.size(), false);
  for (std::size_t i = 0; i < static_cast<std::size_t>(failed_at_most); ++i) {
    const int error = statuses_[i].MPI_ERROR;
    failed_[static_cast<std::size_t>(sent_[i])] =
        error != MPI_ERR_PENDING && note(mpi::trouble(error, "MPI_Testsome"));
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) {
      backlog_bytes_ -= sending_[i].message.size();
      if (failed_[i]) {
        abandoned_.push_back(std::move(sending_[i].message));
      } else {
        pool_->give(std::move(sending_[i].message));
      }
      continue;
    }
    if (kept != i) {
      requests_[kept] = requests_[i];
      sending_[kept] = std::move(sending_[i]);
    }
    ++kept;
  }
  requests_.resize(kept);
  sending_.resize(kept);
}

std::vector<Buffer> MpiChannel::take_unsent() {
  std::vector<Buffer> unsent = std::move(abandoned_);
  for (Sending& sending : sending_) unsent.push_back(std::move(sending.message));
  sending_.clear();
  requests_.clear();
  backlog_bytes_ = 0;
  return unsent;
}

void MpiChannel::abandon(RankId rank) {
  large_->post_more(large_receives_);  // the others may wait for what it did not finish to send
  std::size_t kept = 0;
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (sending_[i].to == rank) {
      backlog_bytes_ -= sending_[i].message.size();
      abandoned_.push_back(std::move(sending_[i].message));
      continue;
    }
    if (kept != i) {
      requests_[kept] = requests_[i];
      sending_[kept] = std::move(sending_[i]);
    }
    ++kept;
  }
  requests_.resize(kept);
  sending_.resize(kept);
}

}  // namespace regroup

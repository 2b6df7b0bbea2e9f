#include "runtime/host/mpi_bulk.hpp"

#include <algorithm>
#include <utility>

#include <sys/mman.h>
#include <unistd.h>

namespace regroup {
namespace {

// Memory that MPI may touch to the end of the process.
struct Kept {
  std::vector<Buffer> received;
  std::vector<std::shared_ptr<const Buffer>> sent;
};
Kept& kept() {
  static auto& memory = *new Kept;
  return memory;
}

// Gives whole pages back to the system. The range stays mapped: what is written there late lands on
// new pages, and what is read is zero.
void release_pages(std::span<const std::byte> bytes) {
  static const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = (reinterpret_cast<std::uintptr_t>(bytes.data()) + page - 1) / page * page;
  const auto last = reinterpret_cast<std::uintptr_t>(bytes.data() + bytes.size()) / page * page;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

// Those that others have let go of by now.
void release_sent_pages() {
  for (auto& bytes : kept().sent) {
    if (bytes.use_count() == 1) release_pages(bytes->view());
  }
}

}  // namespace

MpiBulk::MpiBulk(MPI_Comm communicator, Deaths deaths, BufferPool& pool)
    : communicator_(communicator), deaths_(deaths), pool_(&pool) {
  int* highest = nullptr;
  int found = 0;
  mpi::check(MPI_Comm_get_attr(communicator, MPI_TAG_UB, &highest, &found), "MPI_Comm_get_attr");
  if (found != 0) tags_ = static_cast<std::uint64_t>(*highest);
}

MpiBulk::~MpiBulk() {
  for (Transfer& transfer : transfers_) leave_to_mpi(transfer);
}

bool MpiBulk::note(mpi::Trouble trouble) {
  if (trouble == mpi::Trouble::kNone) return false;
  return failure_ = true;
}

void MpiBulk::send(BulkSend send) {
  Transfer transfer;
  transfer.way = Way::kOut;
  transfer.peer = send.to;
  transfer.tag = send.tag;
  transfer.size = send.bytes->size();
  transfer.out = std::move(send.bytes);
  transfer.requests.assign(kSendWindow, MPI_REQUEST_NULL);
  transfers_.push_back(std::move(transfer));
}

void MpiBulk::receive(const BulkReceive& receive) {
  Transfer transfer;
  transfer.way = Way::kIn;
  transfer.peer = receive.from;
  transfer.tag = receive.tag;
  transfer.size = receive.size;
  transfer.in = pool_->take_large(receive.size);
  transfer.requests.assign(kReceiveWindow, MPI_REQUEST_NULL);
  begin_chunks(transfer);
  transfers_.push_back(std::move(transfer));
}

// ---- chunks ----

void MpiBulk::begin_chunks(Transfer& transfer) {
  while (!transfer.failed && transfer.begun < transfer.chunks() &&
         transfer.begun - transfer.done < transfer.requests.size()) {
    const int code = begin_chunk(transfer, transfer.begun);
    transfer.failed = note(mpi::trouble(code, "a chunk's MPI_Isend or MPI_Irecv"));
    ++transfer.begun;
  }
}

// Chunks of one transfer share a tag: MPI matches them in the order in which they were begun.
int MpiBulk::begin_chunk(Transfer& transfer, std::size_t chunk) {
  const int peer = static_cast<int>(transfer.peer.value);
  const int tag = static_cast<int>(transfer.tag.value % tags_);
  const std::size_t offset = chunk * kBulkChunkBytes;
  const std::size_t bytes = transfer.chunk_bytes(chunk);
  MPI_Request* const request = &transfer.request(chunk);
  if (transfer.way == Way::kIn) {
    return MPI_Irecv(transfer.in.data() + offset, static_cast<int>(bytes), MPI_BYTE, peer, tag,
                     communicator_, request);
  }
  const std::byte* const from = transfer.out->data() + offset;
  if (!transfer.stale) transfer.hasher.add_chunk({from, bytes});
  return MPI_Isend(from, transfer.stale ? 0 : static_cast<int>(bytes), MPI_BYTE, peer, tag,
                   communicator_, request);
}

// Returns how many bytes that was, or 1 where they do not count.
std::size_t MpiBulk::chunk_done(Transfer& transfer, const MPI_Status& status,
                                const Transport::BulkHandler& handler) {
  const std::size_t chunk = transfer.done++;
  const std::size_t bytes = transfer.chunk_bytes(chunk);
  transfer.request(chunk) = MPI_REQUEST_NULL;
  transfer.moved_at = {};
  if (transfer.way == Way::kIn) {
    int count = 0;
    mpi::check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
    transfer.cut_short |= static_cast<std::size_t>(count) != bytes;
    const bool matters = !transfer.cut_short && !transfer.stale;
    if (matters) transfer.hasher.add_chunk({transfer.in.data() + chunk * kBulkChunkBytes, bytes});
  }
  if (!transfer.stale) handler(BulkMoved{transfer.way, transfer.peer, transfer.tag});
  return transfer.stale ? 1 : bytes;
}

// ---- progress ----

bool MpiBulk::poll(const Transport::BulkHandler& handler) {
  if (transfers_.empty()) return false;
  for (Transfer& transfer : transfers_) begin_chunks(transfer);
  bool moved = false;
  for (std::size_t bytes = 0; bytes < kBytesAtOnce;) {
    const std::size_t more = look(handler);
    if (more == 0) break;
    moved = true;
    bytes += more;
  }
  const auto now = Clock::now();
  std::erase_if(transfers_, [&](Transfer& transfer) { return settle(transfer, now, handler); });
  return moved;
}

// One look for all, since each look in vain makes MPI progress. Returns how many bytes have moved.
std::size_t MpiBulk::look(const Transport::BulkHandler& handler) {
  heads_.clear();
  owners_.clear();
  for (std::size_t i = 0; i < transfers_.size(); ++i) {
    Transfer& transfer = transfers_[i];
    if (transfer.failed || transfer.done == transfer.begun) continue;
    heads_.push_back(transfer.request(transfer.done));
    owners_.push_back(i);
  }
  if (heads_.empty()) return 0;
  completed_.resize(heads_.size());
  statuses_.resize(heads_.size());
  int count = 0;
  const int code = MPI_Testsome(static_cast<int>(heads_.size()), heads_.data(), &count,
                                completed_.data(), statuses_.data());
  const bool in_status = deaths_ == Deaths::kReported && code == MPI_ERR_IN_STATUS;
  if (!in_status) note(mpi::trouble(code, "MPI_Testsome"));
  if (count == MPI_UNDEFINED) return 0;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    Transfer& transfer = transfers_[owners_[static_cast<std::size_t>(completed_[i])]];
    const int error = in_status ? statuses_[i].MPI_ERROR : MPI_SUCCESS;
    if (error != MPI_SUCCESS) {
      if (error != MPI_ERR_PENDING) transfer.failed = note(mpi::trouble(error, "MPI_Testsome"));
      continue;
    }
    bytes += chunk_done(transfer, statuses_[i], handler);
    begin_chunks(transfer);
  }
  return bytes;
}

// Whether nothing is left to do for it.
bool MpiBulk::settle(Transfer& transfer, Clock::time_point now,
                     const Transport::BulkHandler& handler) {
  if (transfer.failed) {
    leave_to_mpi(transfer);
    return true;
  }
  if (transfer.done == transfer.chunks()) {
    report(transfer, handler);
    return true;
  }
  if (!transfer.stale) return false;
  if (transfer.moved_at == Clock::time_point{}) transfer.moved_at = now;
  if (now - transfer.moved_at < kDrainTimeout) return false;
  leave_to_mpi(transfer);
  return true;
}

void MpiBulk::report(Transfer& transfer, const Transport::BulkHandler& handler) {
  const bool whole = !transfer.stale && !transfer.cut_short;
  const BulkHash hash = transfer.hasher.hash();
  if (transfer.way == Way::kOut) {
    transfer.out.reset();
    if (whole) handler(BulkSent{transfer.peer, transfer.tag, hash});
  } else {
    if (whole) handler(BulkArrived{transfer.peer, transfer.tag, hash, &transfer.in});
    pool_->give_large(std::move(transfer.in));
  }
}

RankSet MpiBulk::peers() const {
  RankSet peers;
  for (const Transfer& transfer : transfers_) peers.insert(transfer.peer);
  return peers;
}

// ---- what is not to be ----

void MpiBulk::end_view() {
  for (Transfer& transfer : transfers_) transfer.stale = true;
  release_sent_pages();
}

void MpiBulk::abandon(RankId rank) {
  std::erase_if(transfers_, [&](Transfer& transfer) {
    if (transfer.peer != rank) return false;
    leave_to_mpi(transfer);
    return true;
  });
}

void MpiBulk::leave_to_mpi(Transfer& transfer) {
  if (transfer.way == Way::kOut) {
    kept().sent.push_back(std::move(transfer.out));
    release_sent_pages();
  } else if (cancel(transfer)) {
    pool_->give_large(std::move(transfer.in));
  } else {
    release_pages(transfer.in.view());
    kept().received.push_back(std::move(transfer.in));
  }
}

// Whether MPI touches its memory no more. A receive that its sender has begun to fill cannot be
// called back; with ULFM none is (5.0.7 crashes where a rank has failed).
bool MpiBulk::cancel(Transfer& transfer) {
  bool all = transfer.done == transfer.begun;
  if (deaths_ == Deaths::kReported) return all;
  all = true;
  for (std::size_t chunk = transfer.done; chunk < transfer.begun; ++chunk) {
    MPI_Request& request = transfer.request(chunk);
    int completed = 0;
    mpi::check(MPI_Cancel(&request), "MPI_Cancel");
    mpi::check(MPI_Test(&request, &completed, MPI_STATUS_IGNORE), "MPI_Test");
    all &= completed != 0;
  }
  return all;
}

}  // namespace regroup
